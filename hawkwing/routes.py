"""Routes and neighbours of the kernel, by netlink (rtnetlink(7))."""

import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from ipaddress import IPv6Address
from typing import NamedTuple

from hawkwing.dataplane import netlink
from hawkwing.dataplane.netlink import attribute, attributes
from hawkwing.errors import DataplaneError

_GROUPS = netlink.GROUPS_LINK | 0x4 | 0x400 | 1 << 18
"""And RTMGRP_NEIGH, RTMGRP_IPV6_ROUTE, RTNLGRP_IPV6_RULE."""
_GETROUTE = 26
NEWNEIGH, DELNEIGH, _GETNEIGH = 28, 29, 30
_USE = 0x1
_ROUTE, _NEIGHBOUR, _LEG = struct.Struct("=8BI"), struct.Struct("=BxHiHBB"), struct.Struct("=HBBi")
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_MULTIPATH = 1, 4, 5, 9
_NDA_DST, _NDA_LLADDR = 1, 2
_FIB_MATCH = 0x2000
_UNICAST = 1
_HAS_ADDRESS = 0x02 | 0x04 | 0x08 | 0x10 | 0x80
"""States of a neighbour (NUD_*): reachable, stale, delay, probe, permanent."""
_FAILED = 0x20
_ROUTER = 0x80


class Leg(NamedTuple):
    """A next hop: an interface and a router; None: the destination itself is on the link."""

    link: int
    gateway: IPv6Address | None


class Neighbour(NamedTuple):
    """Identifies a neighbour by interface and address."""

    link: int
    address: IPv6Address


class NeighbourNews(NamedTuple):
    """The kernel's entry of a neighbour; `answers` is None while that is unknown."""

    neighbour: Neighbour
    is_router: bool
    answers: bool | None


def read_neighbour(body: bytes) -> NeighbourNews | None:
    """The neighbour in an RTM_NEWNEIGH or RTM_DELNEIGH; None for IPv4."""
    family, _pad, link, state, flags, _type = _NEIGHBOUR.unpack_from(body)
    address = attributes(body[_NEIGHBOUR.size :]).get(_NDA_DST)
    if family != socket.AF_INET6 or address is None or len(address) != 16:
        return None
    neighbour = Neighbour(link, IPv6Address(address))
    answers = bool(state & _HAS_ADDRESS)
    return NeighbourNews(neighbour, bool(flags & _ROUTER), answers if answers or state & _FAILED else None)


def _leg(route: Mapping[int, bytes], link: int = 0) -> Leg:
    gateway = route.get(_RTA_GATEWAY)
    if _RTA_OIF in route:
        (link,) = struct.unpack("=i", route[_RTA_OIF])
    return Leg(link, IPv6Address(gateway) if gateway and len(gateway) == 16 else None)


def _legs(route: Mapping[int, bytes]) -> Iterator[Leg]:
    several = route.get(_RTA_MULTIPATH)
    if several is None:
        yield _leg(route)
        return
    at = 0
    while at + _LEG.size <= len(several):
        length, _flags, _hops, link = _LEG.unpack_from(several, at)
        if length < _LEG.size:
            return
        yield _leg(attributes(several[at + _LEG.size : at + length]), link)
        at += (length + 3) & ~3


class Routes:
    """Queries the kernel of this network namespace; `fd` receives changes of links, neighbours and routes."""

    def __init__(self) -> None:
        self._asking = netlink.Netlink()
        self._hearing = netlink.Listener(_GROUPS)

    @property
    def fd(self) -> int:
        """Readable when there are changes."""
        return self._hearing.fileno()

    def close(self) -> None:
        """Closes both sockets."""
        self._asking.close()
        self._hearing.close()

    def news(self) -> Iterator[netlink.Change | None]:
        """Type and body of each received message; None if some were lost."""
        return self._hearing.changes()

    def route(self, destination: IPv6Address, link: int = 0) -> Leg | None:
        """The next hop of unicast packets to `destination`; through interface `link`, if it is not 0."""
        found = self._ask_route(destination, link, 0)
        return None if found is None else _leg(found)

    def legs(self, destination: IPv6Address) -> list[Leg]:
        """All next hops of the route to `destination` (ECMP)."""
        found = self._ask_route(destination, 0, _FIB_MATCH)
        return [] if found is None else list(_legs(found))

    def link_layer_address(self, neighbour: Neighbour) -> bytes | None:
        """A neighbour, if the kernel has an entry for it."""
        reply = self._ask(_GETNEIGH, _about(neighbour, 0))
        if reply is None:
            return None
        state = _NEIGHBOUR.unpack_from(reply)[3]
        address = attributes(reply[_NEIGHBOUR.size :]).get(_NDA_LLADDR)
        return address if address and len(address) == 6 and state & _HAS_ADDRESS else None

    def look_for(self, neighbour: Neighbour) -> None:
        """Makes the kernel resolve a neighbour's link-layer address, as for a packet (NTF_USE)."""
        self._ask(NEWNEIGH, _about(neighbour, _USE), netlink.CREATE)

    def _ask_route(self, destination: IPv6Address, link: int, flags: int) -> dict[int, bytes] | None:
        body = _ROUTE.pack(socket.AF_INET6, 128, 0, 0, 0, 0, 0, 0, flags)
        body += attribute(_RTA_DST, destination.packed)
        if link:
            body += attribute(_RTA_OIF, link)
        reply = self._ask(_GETROUTE, body)
        if reply is None or _ROUTE.unpack_from(reply)[7] != _UNICAST:
            return None
        return attributes(reply[_ROUTE.size :])

    def _ask(self, kind: int, body: bytes, flags: int = 0) -> bytes | None:
        """The body of the reply; None if the kernel refuses, or does not answer."""
        with suppress(OSError, DataplaneError):
            for reply in self._asking.ask(kind, body, flags):
                return reply
        return None


def _about(neighbour: Neighbour, flags: int) -> bytes:
    head = _NEIGHBOUR.pack(socket.AF_INET6, 0, neighbour.link, 0, flags, 0)
    return head + attribute(_NDA_DST, neighbour.address.packed)
