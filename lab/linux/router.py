"""A router of the kernel's own: forwarding, loopback, and behaviour End (RFC 8986, 4.1) for its SID."""

import re
import subprocess
from ipaddress import IPv6Address
from pathlib import Path

from pyroute2 import IPRoute

from lab.routing import Route
from lab.topology import Router


def set_sysctl(name: str, value: int | str) -> None:
    """Writes a sysctl of the calling thread's network namespace."""
    Path("/proc/sys", *name.split("/")).write_text(str(value))


class LinuxRouter:
    """What `lab.build` asks of every kind of router; all calls run inside the router's namespace."""

    def __init__(self, node: Router) -> None:
        self._node = node

    def prepare(self) -> None:
        """Before there are interfaces: what they are to inherit."""
        for scope in ("all", "default"):
            set_sysctl(f"net/ipv6/conf/{scope}/forwarding", 1)
            set_sysctl(f"net/ipv6/conf/{scope}/seg6_enabled", 1)

    def configure(self, ip: IPRoute, indexes: dict[str, int], routes: list[Route]) -> None:
        """After its links are up: addresses, SIDs and routes."""
        loopback = self._node.loopback
        ip.addr("add", index=1, address=str(loopback.ip), prefixlen=loopback.network.prefixlen)
        any_link = indexes[self._node.interfaces[0].name]
        for sid in self._node.sids:
            if sid in self._node.service_sids.values():
                add_function(sid, self._node.interfaces[0].name)
            else:
                ip.route("add", dst=f"{sid}/128", oif=any_link, encap={"type": "seg6local", "action": "End"})
        add_routes(ip, indexes, routes)


def add_function(sid: IPv6Address, interface: str) -> None:
    """A service function: behaviour End that counts the packets it has seen (pyroute2 can't ask for that)."""
    action = ["encap", "seg6local", "action", "End", "count", "dev", interface]
    subprocess.run(["ip", "-6", "route", "replace", f"{sid}/128", "proto", "static", *action], check=True)


def packets_seen(sid: IPv6Address) -> int:
    """What a service function has counted; called inside its router's namespace."""
    argv = ["ip", "-6", "-s", "route", "show", f"{sid}/128"]
    text = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    match = re.search(r"\bpackets (\d+)", text)
    if match is None:
        raise RuntimeError(f"the function {sid} counts nothing: {text.strip() or 'it is not there'}")
    return int(match[1])


def add_routes(ip: IPRoute, indexes: dict[str, int], routes: list[Route]) -> None:
    """Static routes, with all their next hops where there are several."""
    for route in routes:
        hops = [{"gateway": str(hop.address), "oif": indexes[hop.interface]} for hop in route.next_hops]
        if len(hops) == 1:
            ip.route("add", dst=str(route.prefix), **hops[0])
        else:
            ip.route("add", dst=str(route.prefix), multipath=hops)
