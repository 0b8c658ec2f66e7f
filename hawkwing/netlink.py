"""Routes and neighbours as the kernel has them, by netlink (rtnetlink(7)).

A few questions in plain bytes: pyroute2, which attaches the programs in a process of its own, takes as long
to import as all the rest of the agent.
"""

import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from ipaddress import IPv6Address
from types import TracebackType
from typing import NamedTuple, Self

LINK, NEIGHBOUR, IPV6_ROUTE = 0x1, 0x4, 0x400
"""Groups of messages (RTMGRP_*)."""
_NEWROUTE, _GETROUTE = 24, 26
NEWNEIGH, DELNEIGH, _GETNEIGH = 28, 29, 30
_ERROR = 2
_REQUEST, _ACKNOWLEDGE, _CREATE, _USE = 0x1, 0x4, 0x400, 0x1
_HEADER, _ATTRIBUTE = struct.Struct("=IHHII"), struct.Struct("=HH")
_ROUTE, _NEIGHBOUR, _LEG = struct.Struct("=8BI"), struct.Struct("=BxHiHBB"), struct.Struct("=HBBi")
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_MULTIPATH = 1, 4, 5, 9
_NDA_DST, _NDA_LLADDR = 1, 2
_TYPE_MASK = 0x3FFF
_FIB_MATCH = 0x2000
_UNICAST = 1
_HAS_ADDRESS = 0x02 | 0x04 | 0x08 | 0x10 | 0x80
"""States of a neighbour (NUD_*): reachable, stale, delay, probe, permanent."""


class Leg(NamedTuple):
    """Where a route leads: an interface and a router; None: the destination itself is on the link."""

    link: int
    gateway: IPv6Address | None


class Neighbour(NamedTuple):
    """By its interface and address."""

    link: int
    address: IPv6Address


def _attributes(data: bytes, at: int, end: int) -> Iterator[tuple[int, bytes]]:
    while at + _ATTRIBUTE.size <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size:
            return
        yield kind & _TYPE_MASK, data[at + _ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3


def messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and body of the netlink messages in what was received."""
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, _flags, _number, _port = _HEADER.unpack_from(data, at)
        if length < _HEADER.size:
            return
        yield kind, data[at + _HEADER.size : at + length]
        at += (length + 3) & ~3


def read_neighbour(body: bytes) -> Neighbour | None:
    """Whom an RTM_NEWNEIGH or RTM_DELNEIGH is about; None for IPv4."""
    family, _pad, link, _state, _flags, _type = _NEIGHBOUR.unpack_from(body)
    address = dict(_attributes(body, _NEIGHBOUR.size, len(body))).get(_NDA_DST)
    if family != socket.AF_INET6 or address is None or len(address) != 16:
        return None
    return Neighbour(link, IPv6Address(address))


def _leg(attributes: Mapping[int, bytes], link: int = 0) -> Leg:
    gateway = attributes.get(_RTA_GATEWAY)
    if _RTA_OIF in attributes:
        (link,) = struct.unpack("=i", attributes[_RTA_OIF])
    return Leg(link, IPv6Address(gateway) if gateway and len(gateway) == 16 else None)


def _legs(attributes: Mapping[int, bytes]) -> Iterator[Leg]:
    several = attributes.get(_RTA_MULTIPATH)
    if several is None:
        yield _leg(attributes)
        return
    at = 0
    while at + _LEG.size <= len(several):
        length, _flags, _hops, link = _LEG.unpack_from(several, at)
        if length < _LEG.size:
            return
        yield _leg(dict(_attributes(several, at + _LEG.size, at + length)), link)
        at += (length + 3) & ~3


class Netlink:
    """Asks the kernel of this network namespace; `news` of `groups` come on `fd`."""

    def __init__(self, groups: int = 0) -> None:
        self._asking = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC)
        self._asking.bind((0, 0))
        self._asking.settimeout(2)
        self._hearing = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        )
        self._hearing.bind((0, groups))
        self._number = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def fd(self) -> int:
        """Readable when there is news."""
        return self._hearing.fileno()

    def close(self) -> None:
        """Closes both sockets."""
        self._asking.close()
        self._hearing.close()

    def news(self) -> Iterator[tuple[int, bytes] | None]:
        """Type and body of each message that has come; None where some were lost."""
        while True:
            try:
                yield from messages(self._hearing.recv(1 << 16))
            except BlockingIOError:
                return
            except OSError:
                yield None

    def route(self, destination: IPv6Address, link: int = 0) -> Leg | None:
        """Where packets to `destination` go, if by unicast; by interface `link`, if it is not 0."""
        found = self._ask_route(destination, link, 0)
        return None if found is None else _leg(found)

    def legs(self, destination: IPv6Address) -> list[Leg]:
        """All that the route to `destination` leads to (ECMP)."""
        found = self._ask_route(destination, 0, _FIB_MATCH)
        return [] if found is None else list(_legs(found))

    def link_layer_address(self, neighbour: Neighbour) -> bytes | None:
        """Of a neighbour, if the kernel knows it."""
        body = _about(neighbour, 0)
        reply = self._ask(_GETNEIGH, body, NEWNEIGH)
        if reply is None:
            return None
        state = _NEIGHBOUR.unpack_from(reply)[3]
        address = dict(_attributes(reply, _NEIGHBOUR.size, len(reply))).get(_NDA_LLADDR)
        return address if address and len(address) == 6 and state & _HAS_ADDRESS else None

    def look_for(self, neighbour: Neighbour) -> None:
        """Has the kernel look for a neighbour's link-layer address, as for a packet (NTF_USE)."""
        self._ask(NEWNEIGH, _about(neighbour, _USE), _ERROR, _CREATE | _ACKNOWLEDGE)

    def _ask_route(self, destination: IPv6Address, link: int, flags: int) -> dict[int, bytes] | None:
        body = _ROUTE.pack(socket.AF_INET6, 128, 0, 0, 0, 0, 0, 0, flags)
        body += _attribute(_RTA_DST, destination.packed)
        if link:
            body += _attribute(_RTA_OIF, struct.pack("=i", link))
        reply = self._ask(_GETROUTE, body, _NEWROUTE)
        if reply is None or _ROUTE.unpack_from(reply)[7] != _UNICAST:
            return None
        return dict(_attributes(reply, _ROUTE.size, len(reply)))

    def _ask(self, kind: int, body: bytes, expected: int, flags: int = 0) -> bytes | None:
        """The body of the reply; None where the kernel says no, or nothing."""
        self._number = (self._number + 1) % (1 << 32)
        request = _HEADER.pack(_HEADER.size + len(body), kind, _REQUEST | flags, self._number, 0) + body
        with suppress(OSError):
            self._asking.send(request)
            while True:
                reply = self._asking.recv(1 << 16)
                length, got, _flags, number, _port = _HEADER.unpack_from(reply)
                if number != self._number:
                    # The answer to a question that we no longer wait for.
                    continue
                return reply[_HEADER.size : length] if got == expected else None
        return None


def _about(neighbour: Neighbour, flags: int) -> bytes:
    head = _NEIGHBOUR.pack(socket.AF_INET6, 0, neighbour.link, 0, flags, 0)
    return head + _attribute(_NDA_DST, neighbour.address.packed)


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value.ljust((len(value) + 3) & ~3, b"\0")
