"""Reads a node's interfaces, queueing disciplines, routes and SIDs from its kernel, by netlink.

The socket is created in the node's namespace and stays there, so reading needs no thread or process.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network

from hawkwing.dataplane import netlink
from hawkwing.dataplane.netlink import Netlink, attributes, number_of, text_of
from lab import netns
from lab.linux import loss

_AF_INET6 = 10
_LINK, _QDISC, _ROUTE, _LEG = (
    struct.Struct("=BxHiII"),
    struct.Struct("=BxxxiIII"),
    struct.Struct("=8BI"),
    struct.Struct("=HBBi"),
)
_IFF_UP, _IFF_RUNNING = 0x1, 0x40
_IFLA_NAME, _IFLA_STATS64 = 3, 23
_STATS = struct.Struct("=8Q")
_TCA_KIND, _TCA_STATS2, _TCA_STATS_QUEUE = 1, 7, 3
_QUEUE = struct.Struct("=5I")
_SHAPERS, _CLSACT = ("netem", "tbf"), "clsact"
_GETROUTE = 26
_RTA_DST, _RTA_OIF, _RTA_MULTIPATH, _RTA_TABLE = 1, 4, 9, 15
_RTA_ENCAP_TYPE, _RTA_ENCAP = 21, 22
_MAIN, _UNICAST, _SEG6LOCAL = 254, 1, 7
_COUNTERS, _PACKETS = 10, 2


@dataclass(frozen=True)
class Port:
    """One end of a link; `dropped` includes packets dropped by queueing disciplines and lab/linux/loss.py."""

    up: bool
    received: int
    sent: int
    dropped: int
    shapers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Routes:
    """The main table: the interfaces of each prefix, longest prefix first, and the packets of each SID."""

    hops: tuple[tuple[IPv6Network, tuple[str, ...]], ...]
    sids: Mapping[IPv6Address, int | None]

    def towards(self, address: IPv6Address) -> tuple[str, ...]:
        """The outgoing interfaces for an address; empty without a route."""
        return next((names for prefix, names in self.hops if address in prefix), ())


class Kernel:
    """Reads one node; OSError if its namespace is gone."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._number = self._present()
        self._netlink: Netlink = netns.run_inside(namespace, Netlink)

    def _present(self) -> int:
        return netns.path(self._namespace).stat().st_ino

    def is_current(self) -> bool:
        """False if the namespace is gone, or another one has its name."""
        try:
            return self._present() == self._number
        except OSError:
            return False

    def close(self) -> None:
        """Closes the socket, and with it the namespace."""
        self._netlink.close()

    def read(self) -> tuple[dict[str, Port], Routes]:
        """Its interfaces by name, and its routes."""
        names: dict[int, str] = {}
        raw: dict[int, tuple[bool, tuple[int, ...]]] = {}
        for content in self._netlink.dump(netlink.GETLINK, _LINK.pack(0, 0, 0, 0, 0)):
            _family, _kind, index, flags, _change = _LINK.unpack_from(content)
            found = attributes(content[_LINK.size :])
            names[index] = text_of(found[_IFLA_NAME])
            raw[index] = (
                bool(flags & _IFF_UP and flags & _IFF_RUNNING),
                _STATS.unpack_from(found[_IFLA_STATS64]),
            )
        queues = self._queues()
        ports = {}
        for index, (up, numbers) in raw.items():
            received, sent, _, _, _, _, missed, dropped = numbers
            shapers, lost = queues.get(index, ((), 0))
            ports[names[index]] = Port(up, received, sent, missed + dropped + lost, shapers)
        return ports, self._routes(names)

    def _queues(self) -> dict[int, tuple[tuple[str, ...], int]]:
        """The shapers of each interface, and the packets dropped by them and its queueing disciplines."""
        found: dict[int, tuple[tuple[str, ...], int]] = {}
        filtered: list[int] = []
        for content in self._netlink.dump(netlink.GETQDISC, _QDISC.pack(0, 0, 0, 0, 0)):
            _family, index, _handle, _parent, _info = _QDISC.unpack_from(content)
            values = attributes(content[_QDISC.size :])
            kind = text_of(values[_TCA_KIND])
            queue = attributes(values.get(_TCA_STATS2, b"")).get(_TCA_STATS_QUEUE, b"")
            drops = _QUEUE.unpack_from(queue)[2] if len(queue) >= _QUEUE.size else 0
            shapers, lost = found.get(index, ((), 0))
            if kind in _SHAPERS:
                # A parent's counter includes the drops of its child.
                found[index] = (*shapers, kind), max(lost, drops)
            elif kind == _CLSACT:
                filtered.append(index)
        for index in filtered:
            by_program = loss.dropped(self._netlink, index)
            if by_program is not None:
                shapers, lost = found.get(index, ((), 0))
                found[index] = (*shapers, loss.NAME), lost + by_program
        return found

    def _routes(self, names: Mapping[int, str]) -> Routes:
        hops: dict[IPv6Network, list[str]] = {}
        sids: dict[IPv6Address, int | None] = {}
        body = _ROUTE.pack(_AF_INET6, 0, 0, 0, 0, 0, 0, 0, 0)
        for content in self._netlink.dump(_GETROUTE, body):
            _family, length, _, _, table, _, _, kind, _flags = _ROUTE.unpack_from(content)
            values = attributes(content[_ROUTE.size :])
            if (
                number_of(values[_RTA_TABLE]) if _RTA_TABLE in values else table
            ) != _MAIN or kind != _UNICAST:
                continue
            address = IPv6Address(values.get(_RTA_DST, bytes(16)))
            if number_of(values.get(_RTA_ENCAP_TYPE, b"")) == _SEG6LOCAL:
                sids[address] = _counted(values[_RTA_ENCAP])
                continue
            out = [names[index] for index in _links(values) if index in names]
            hops.setdefault(IPv6Network((address, length)), []).extend(out)
        ordered = sorted(hops.items(), key=lambda one: -one[0].prefixlen)
        return Routes(tuple((prefix, tuple(out)) for prefix, out in ordered), sids)


def _links(route: Mapping[int, bytes]) -> Iterator[int]:
    """The indexes of a route's interfaces."""
    if _RTA_OIF in route:
        yield number_of(route[_RTA_OIF])
    several, at = route.get(_RTA_MULTIPATH, b""), 0
    while at + _LEG.size <= len(several):
        length, _flags, _hops, index = _LEG.unpack_from(several, at)
        if length < _LEG.size:
            return
        yield index
        at += (length + 3) & ~3


def _counted(encapsulation: bytes) -> int | None:
    """The packets of a SID; None without a counter."""
    counters = attributes(encapsulation).get(_COUNTERS)
    packets = attributes(counters).get(_PACKETS) if counters else None
    return number_of(packets) if packets else None
