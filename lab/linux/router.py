"""A router of the kernel's own: forwarding, loopback, and behaviour End (RFC 8986, 4.1) for its SIDs."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Sequence
from ipaddress import IPv6Address

from pyroute2 import IPRoute

from lab.linux.kernel import KernelNode, set_sysctl
from lab.routing import Route
from lab.topology import Router

_AF_INET6, _MAIN_TABLE, _SEG6LOCAL = 10, 254, 7


class LinuxRouter(KernelNode):
    """What `lab.build` asks of every kind of router; all calls run inside the router's namespace."""

    def __init__(self, node: Router) -> None:
        super().__init__(node)
        self._router = node

    def prepare(self) -> None:
        """Before there are interfaces: what they are to inherit."""
        for scope in ("all", "default"):
            set_sysctl(f"net/ipv6/conf/{scope}/forwarding", 1)
            set_sysctl(f"net/ipv6/conf/{scope}/seg6_enabled", 1)

    def configure(self, ip: IPRoute, indexes: dict[str, int], routes: Sequence[Route]) -> None:
        """The loopback's address first."""
        loopback = self._router.loopback
        ip.addr("add", index=1, address=str(loopback.ip), prefixlen=loopback.network.prefixlen)
        super().configure(ip, indexes, routes)

    def settle_own(self, ip: IPRoute, indexes: dict[str, int], alive: Sequence[str]) -> bool:
        """A SID is bound to a device and goes down with it, whichever it is."""
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
        return bool(moved)

    def sid_packets(self) -> dict[IPv6Address, int]:
        """What the kernel has counted at each SID since it was set."""
        argv = ["ip", "-6", "-s", "-oneline", "route", "show", "table", "main"]
        text = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
        return {
            IPv6Address(line.split()[0]): int(match[1])
            for line in text.splitlines()
            if " seg6local " in line and (match := re.search(r"\bpackets (\d+)", line))
        }

    def description(self) -> str:
        """The kernel is the machine's, and no more need be said."""
        return "linux"


def _add_sids(sids: Iterable[IPv6Address], interface: str) -> None:
    """Behaviour End that counts its packets, all in one call (pyroute2 can't ask for counters)."""
    text = "".join(
        f"route replace {sid}/128 proto static encap seg6local action End count dev {interface}\n"
        for sid in sids
    )
    argv = ["ip", "-6", "-batch", "-"]
    done = subprocess.run(argv, input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"the kernel took no SIDs on {interface}: {done.stderr.strip()}")
