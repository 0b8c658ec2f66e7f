"""Common parts of hosts and Linux routers: addresses and routes in a network namespace."""

from __future__ import annotations

import subprocess
from collections.abc import Collection, Sequence
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute

from lab.routing import Route
from lab.topology import Interface, Node

_IFA_F_NODAD, _IFA_F_NOPREFIXROUTE = 0x02, 0x200
_SERVICE_PREFIX_LENGTH = 48
_MAIN_TABLE, _AF_INET6, _STATIC = 254, 10, 4
_SOLICITED_EVERY, _SOLICITED = 20, 3  # milliseconds, times
_SOLICITED_WITH_LOSS = 10
#: The next hops as (gateway, interface).
_Hops = frozenset[tuple[str | None, int]]


def set_sysctl(name: str, value: int | str) -> None:
    """Writes a sysctl of the calling thread's network namespace."""
    Path("/proc/sys", *name.split("/")).write_text(str(value))


def set_solicitations(interface: str, latency: int = 0, loss: float = 0) -> None:
    """Neighbour solicitations on a link with this latency (microseconds, one way) and loss (percent).

    Solicitations are repeated soon, not after a second, because the other end may not be up yet. But after
    some repetitions the kernel gives up the neighbour and drops packets, so it must not repeat before an
    answer can arrive.
    """
    times = _SOLICITED_WITH_LOSS if loss else _SOLICITED
    folder = f"net/ipv6/neigh/{interface}"
    set_sysctl(f"{folder}/retrans_time_ms", _SOLICITED_EVERY + 2 * latency // 1000)
    for how in ("ucast", "mcast"):
        set_sysctl(f"{folder}/{how}_solicit", times)


def add_address(ip: IPRoute, index: int, address: object, length: int) -> None:
    """Adds an address that can be used at once (no duplicate address detection)."""
    flags = _IFA_F_NODAD | (_IFA_F_NOPREFIXROUTE if length == _SERVICE_PREFIX_LENGTH else 0)
    ip.addr("add", index=index, address=str(address), prefixlen=length, flags=flags)


def set_offload(interface: str, *settings: str) -> None:
    """Sets offload features of a device: pairs of ethtool's name and on or off."""
    argv = ["ethtool", "-K", interface, *settings]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(argv)} failed: {done.stderr.strip()}")


def links(ip: IPRoute) -> dict[str, int]:
    """Indexes of the namespace's interfaces by name."""
    return {link.get_attr("IFLA_IFNAME"): link["index"] for link in ip.get_links()}


class KernelNode:
    """A node whose packets are processed by the kernel."""

    largest_packet: int | None = None

    def __init__(self, node: Node) -> None:
        self.node = node

    def prepare(self) -> None:
        """Uses the kernel's defaults."""

    def own_addresses(self, interface: Interface) -> list[Any]:
        """The node's addresses on an interface."""
        return [interface.address]

    def settle_own(self, ip: IPRoute, indexes: dict[str, int], alive: Sequence[str]) -> bool:
        """Sets the node's own routes over interfaces with links that are up; False if nothing changed."""
        return False

    def configure(self, ip: IPRoute, indexes: dict[str, int], routes: Sequence[Route]) -> None:
        """Sets addresses, the node's own routes and the other routes, in this order."""
        for interface in self.node.interfaces:
            set_solicitations(interface.name)
            for address in self.own_addresses(interface):
                add_address(ip, indexes[interface.name], address.ip, address.network.prefixlen)
        self.settle_own(ip, indexes, [interface.name for interface in self.node.interfaces])
        for route in routes:
            ip.route("add", dst=str(route.prefix), **_arguments(_hops(route, indexes)))

    def settle(self, routes: Sequence[Route], ours: Collection[IPv6Network], failed: Collection[str]) -> bool:
        """Changes only the routes that differ."""
        with IPRoute() as ip:
            indexes = links(ip)
            alive = [one.name for one in self.node.interfaces if one.link.name not in failed]
            changed = self.settle_own(ip, indexes, alive)
            wanted = {route.prefix: _hops(route, indexes) for route in routes}
            present = _present(ip)
            for prefix, hops in wanted.items():
                if present.get(prefix) != hops:
                    ip.route("replace", dst=str(prefix), **_arguments(hops))
                    changed = True
            for prefix in present.keys() & set(ours) - wanted.keys():
                ip.route("del", dst=str(prefix))
                changed = True
            return changed

    def set_link(self, interface: Interface, up: bool) -> None:
        """Sets a link up or down; the kernel would remove the addresses of a link that goes down."""
        with IPRoute() as ip:
            index = links(ip)[interface.name]
            if not up:
                set_sysctl(f"net/ipv6/conf/{interface.name}/keep_addr_on_down", 1)
                ip.link("set", index=index, state="down")
                return
            ip.link("set", index=index, state="up")
            entries = ip.get_addr(family=_AF_INET6, index=index)
            present = {IPv6Address(entry.get_attr("IFA_ADDRESS")) for entry in entries}
            for address in self.own_addresses(interface):
                if address.ip not in present:
                    add_address(ip, index, address.ip, address.network.prefixlen)

    def console(self) -> list[str] | None:
        """None: a shell in the namespace is used."""
        return None

    def execute(self, command: str) -> tuple[int, str] | None:
        """None: commands run in the namespace."""
        return None

    def set_mtu(self, interface: Interface, octets: int) -> None:
        """Sets the interface's MTU."""
        with IPRoute() as ip:
            ip.link("set", index=links(ip)[interface.name], mtu=octets)


def _hops(route: Route, indexes: dict[str, int]) -> _Hops:
    return frozenset((str(hop.address), indexes[hop.interface]) for hop in route.next_hops)


def _arguments(hops: _Hops) -> dict[str, Any]:
    several = [{"gateway": gateway, "oif": index} for gateway, index in sorted(hops, key=str)]
    return several[0] if len(several) == 1 else {"multipath": several}


def _present(ip: IPRoute) -> dict[IPv6Network, _Hops]:
    """The static routes, without the kernel's own."""
    found: dict[IPv6Network, _Hops] = {}
    for route in ip.get_routes(family=_AF_INET6, table=_MAIN_TABLE):
        if route["proto"] != _STATIC:
            continue
        prefix = IPv6Network((route.get_attr("RTA_DST") or "::", route["dst_len"]))
        several = route.get_attr("RTA_MULTIPATH")
        hops = (
            [(hop.get_attr("RTA_GATEWAY"), hop["oif"]) for hop in several]
            if several
            else [(route.get_attr("RTA_GATEWAY"), route.get_attr("RTA_OIF"))]
        )
        found[prefix] = frozenset(hops)
    return found
