"""A Linux router: forwarding, loopback, and behaviour End (RFC 8986, 4.1) for its SIDs."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Sequence
from ipaddress import IPv6Address, IPv6Network

from pyroute2 import IPRoute

from lab.linux.kernel import KernelNode, set_sysctl
from lab.routing import Route
from lab.topology import Router

_AF_INET6, _MAIN_TABLE, _SEG6LOCAL = 10, 254, 7


class LinuxRouter(KernelNode):
    """A Linux router; all calls run in its namespace."""

    def __init__(self, node: Router) -> None:
        super().__init__(node)
        self._router = node

    def prepare(self) -> None:
        """Sets the defaults for interfaces before they are created."""
        for scope in ("all", "default"):
            set_sysctl(f"net/ipv6/conf/{scope}/forwarding", 1)
            set_sysctl(f"net/ipv6/conf/{scope}/seg6_enabled", 1)

    def configure(self, ip: IPRoute, indexes: dict[str, int], routes: Sequence[Route]) -> None:
        """Sets the loopback address first."""
        loopback = self._router.loopback
        ip.addr("add", index=1, address=str(loopback.ip), prefixlen=loopback.network.prefixlen)
        super().configure(ip, indexes, routes)

    def settle_own(self, ip: IPRoute, indexes: dict[str, int], alive: Sequence[str]) -> bool:
        """Moves the SIDs to an interface that is up: a SID goes down with its interface."""
        if not alive:
            return False
        present = {
            route.get_attr("RTA_DST"): route.get_attr("RTA_OIF")
            for route in ip.get_routes(family=_AF_INET6, table=_MAIN_TABLE)
            if route.get_attr("RTA_ENCAP_TYPE") == _SEG6LOCAL
        }
        moved = [sid for sid in self._router.sids if present.get(str(sid)) != indexes[alive[0]]]
        if moved:
            _add_sids(moved, alive[0])
        csid = self._router.csid
        if csid is not None and present.get(str(csid.network_address)) != indexes[alive[0]]:
            _add_csid(csid, alive[0])
        return bool(moved)

    def sid_packets(self) -> dict[IPv6Address, int]:
        """The kernel's packet counter of each SID."""
        argv = ["ip", "-6", "-s", "-oneline", "route", "show", "table", "main"]
        text = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
        return {
            IPv6Address(line.split()[0].partition("/")[0]): int(match[1])
            for line in text.splitlines()
            if " seg6local " in line and (match := re.search(r"\bpackets (\d+)", line))
        }

    def description(self) -> str:
        """Linux routers have no separate version."""
        return "linux"


def _add_csid(prefix: IPv6Network, interface: str) -> None:
    """Adds behaviour End with NEXT-C-SID (RFC 9800), if kernel (6.1) and iproute2 (6.1) support it."""
    behaviour = f"End flavors next-csid lblen {prefix.prefixlen - 16} nflen 16 count"
    argv = ["ip", "-6", "route", "replace", str(prefix), "proto", "static", "encap", "seg6local", "action"]
    subprocess.run([*argv, *behaviour.split(), "dev", interface], capture_output=True, check=False)


def _add_sids(sids: Iterable[IPv6Address], interface: str) -> None:
    """Adds SIDs with behaviour End and packet counters, in one call (pyroute2 can't set counters)."""
    text = "".join(
        f"route replace {sid}/128 proto static encap seg6local action End count dev {interface}\n"
        for sid in sids
    )
    argv = ["ip", "-6", "-batch", "-"]
    done = subprocess.run(argv, input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"the kernel refused SIDs on {interface}: {done.stderr.strip()}")
