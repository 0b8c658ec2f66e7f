"""The seam between a lab and what its nodes are made of: hosts, the kernel's routers, or VPP's."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from typing import Protocol

from pyroute2 import IPRoute

from lab.process import Process
from lab.routing import Route
from lab.topology import Interface


class Place(Protocol):
    """What a node may know about the lab it stands in."""

    @property
    def run(self) -> Path:
        """The lab's run directory."""

    def namespace(self, node: str) -> str:
        """The name of a node's network namespace, of which the machine has one only."""

    def start(self, node: str, name: str, argv: Sequence[str]) -> Process:
        """Starts a process in the background of a node; its log is logs/NAME.log."""


class NodeKind(Protocol):
    """How one node is built and changed; all calls are made in a thread inside its network namespace."""

    @property
    def needs_checksums(self) -> bool:
        """Frames must reach it with their checksums finished, instead of left to a device."""

    def prepare(self) -> None:
        """Before there are interfaces."""

    def configure(self, ip: IPRoute, indexes: dict[str, int], routes: Sequence[Route]) -> None:
        """Once both ends of its links exist and its own are up: addresses, SIDs and routes."""

    def settle(self, routes: Sequence[Route], ours: Collection[IPv6Network], failed: Collection[str]) -> bool:
        """Changes its routes to these, with the named links failed; False where they were so.

        `ours` are the prefixes that the lab gives routes to; a user's other routes stay.
        """

    def set_link(self, interface: Interface, up: bool) -> None:
        """Takes its end of a link down, or up again with the addresses it had."""

    def set_mtu(self, interface: Interface, octets: int) -> None:
        """The largest packet that its end of a link takes."""

    def console(self) -> list[str] | None:
        """The command of its own interactive console; None where a shell in its namespace is one."""

    def execute(self, command: str) -> tuple[int, str] | None:
        """Exit status and output of a command for its own console; None where it has none."""


class RouterKind(NodeKind, Protocol):
    """What routers have beyond that."""

    def sid_packets(self) -> dict[IPv6Address, int]:
        """How many packets each of its SIDs has processed."""

    def description(self) -> str:
        """What it is made of, with its version where that isn't the kernel's."""
