"""The interface between a lab and its kinds of nodes: hosts, Linux routers and VPP routers."""

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
    """The interface of a lab to its nodes."""

    @property
    def run(self) -> Path:
        """The lab's run directory."""

    def namespace(self, node: str) -> str:
        """The name of a node's network namespace, unique on this machine."""

    def start(self, node: str, name: str, argv: Sequence[str]) -> Process:
        """Starts a process in the background of a node; its log is logs/NAME.log."""


class NodeKind(Protocol):
    """Builds and changes one node; all calls are made in a thread in its network namespace."""

    @property
    def largest_packet(self) -> int | None:
        """Octets of the largest TCP packet (GSO) that it takes from a link; None: the kernel's limit."""

    def prepare(self) -> None:
        """Called before the interfaces are created."""

    def configure(self, ip: IPRoute, indexes: dict[str, int], routes: Sequence[Route]) -> None:
        """Sets addresses, SIDs and routes; called when its links exist and its own ends are up."""

    def settle(self, routes: Sequence[Route], ours: Collection[IPv6Network], failed: Collection[str]) -> bool:
        """Changes its routes to these, with the named links failed; False if nothing changed.

        `ours` are the prefixes with routes from the lab; other routes are not changed.
        """

    def set_link(self, interface: Interface, up: bool) -> None:
        """Sets its end of a link down, or up with its former addresses."""

    def set_mtu(self, interface: Interface, octets: int) -> None:
        """Sets the MTU of its end of a link."""

    def console(self) -> list[str] | None:
        """The command for its own interactive console; None for a shell in its namespace."""

    def execute(self, command: str) -> tuple[int, str] | None:
        """Exit status and output of a command on its own console; None if it has none."""


class RouterKind(NodeKind, Protocol):
    """A kind of router."""

    def sid_packets(self) -> dict[IPv6Address, int]:
        """The number of packets processed by each of its SIDs."""

    def description(self) -> str:
        """Its kind, with a version if it is not the kernel."""
