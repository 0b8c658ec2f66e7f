"""A router of the kernel's own: forwarding, loopback, and behaviour End (RFC 8986, 4.1) for its SID."""

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
            ip.route("add", dst=f"{sid}/128", oif=any_link, encap={"type": "seg6local", "action": "End"})
        add_routes(ip, indexes, routes)


def add_routes(ip: IPRoute, indexes: dict[str, int], routes: list[Route]) -> None:
    """Static routes, with all their next hops where there are several."""
    for route in routes:
        hops = [{"gateway": str(hop.address), "oif": indexes[hop.interface]} for hop in route.next_hops]
        if len(hops) == 1:
            ip.route("add", dst=str(route.prefix), **hops[0])
        else:
            ip.route("add", dst=str(route.prefix), multipath=hops)
