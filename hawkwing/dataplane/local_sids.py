"""Rules and routes of the kernel's SRv6 (seg6local) by netlink: those that decapsulate for an agent.

All of them have the same protocol number and are in tables of slots (hawkwing/decap.py): by this they are
recognised, also after a kill. Those of other programs are never changed.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import NamedTuple

from hawkwing.dataplane import netlink, tc
from hawkwing.dataplane.netlink import RefusedError, attribute, attributes, nested, number_of
from hawkwing.decap import Entry, Inner, Route, Rule, Slot, slot, slot_of

PROTOCOL = 169
"""Of our rules and routes (FRA_PROTOCOL, RTA_PROTOCOL), as in /etc/iproute2/rt_protos."""
PRIORITY, DROP_PRIORITY = 490, 491
"""Before the tables of VRFs (1000) and main (32766)."""
GROUPS = netlink.GROUPS_LINK | 0x10 | 0x100 | 0x400 | 1 << 18
"""And RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR, RTMGRP_IPV6_ROUTE, RTNLGRP_IPV6_RULE."""
NEWROUTE, DELROUTE, _GETROUTE = 24, 25, 26
_NEWRULE, _DELRULE, _GETRULE = 32, 33, 34
_ROUTE, _RULE = struct.Struct("=8BI"), struct.Struct("=8BI")
_RTA_DST, _RTA_SRC, _RTA_IIF, _RTA_OIF, _RTA_TABLE, _RTA_ENCAP_TYPE, _RTA_ENCAP = 1, 2, 3, 4, 15, 21, 22
_FRA_DST, _FRA_SRC, _FRA_PRIORITY, _FRA_TABLE, _FRA_PROTOCOL = 1, 2, 6, 15, 21
_UNICAST, _LOCAL = 1, 2
_TO_TABLE, _BLACKHOLE = 1, 6
_SEG6_LOCAL = 7
_ACTION, _TABLE, _NEXT_HOP4, _COUNTERS = 1, 3, 4, 10
_DX4, _DT6 = 6, 7
_PACKETS, _BYTES, _ERRORS = 2, 3, 4
_NOTHING = (errno.ENOENT, errno.EAFNOSUPPORT, errno.EOPNOTSUPP)
"""No such table, or a kernel without IPv6."""


class Packets(NamedTuple):
    """What the kernel has counted for a SID."""

    decapsulated: int
    errors: int


class Found(NamedTuple):
    """The rules and routes of agents, with counters by table and SID."""

    entries: list[Entry]
    packets: Mapping[tuple[int, IPv6Address], Packets]

    def of(self, tables: Slot) -> list[Entry]:
        """Those of one slot."""
        return [one for one in self.entries if one.table in tables]

    def slots(self) -> set[int]:
        """The numbers of the slots that have any."""
        numbers = {slot_of(one.table) for one in self.entries}
        return {number for number in numbers if number is not None}


class LocalSids:
    """Requests to the kernel of this network namespace; for one thread at a time."""

    def __init__(self) -> None:
        self._ip = netlink.Netlink(strict=True)

    def close(self) -> None:
        """Closes the socket."""
        self._ip.close()

    def links(self) -> dict[str, int]:
        """Index by name, of the interfaces that are up; the kernel refuses routes over others."""
        return {link.name: link.index for link in tc.links(self._ip) if link.up}

    def found(self) -> Found:
        """The rules and routes of all agents, also of killed ones."""
        entries: list[Entry] = [rule for rule, ours in self._rules() if ours]
        packets: dict[tuple[int, IPv6Address], Packets] = {}
        for body in self._routes(protocol=PROTOCOL):
            read = _read_route(body)
            if read is not None:
                route, counted = read
                entries.append(route)
                packets[route.table, route.address] = counted
        return Found(entries, packets)

    def is_taken(self, number: int) -> bool:
        """Whether other programs use a table of a slot."""
        tables = slot(number)
        if any(rule.table in tables for rule, ours in self._rules() if not ours):
            return True
        bodies = (body for table in tables for body in self._routes(table))
        return any(_ROUTE.unpack_from(body)[5] != PROTOCOL for body in bodies)

    def add(self, one: Entry) -> None:
        """Adds it; a route replaces the one to the same address. RefusedError if the kernel refuses."""
        if isinstance(one, Route):
            self._ip.ask(NEWROUTE, _route(one), netlink.CREATE | netlink.REPLACE)
        else:
            self._ip.ask(_NEWRULE, _rule(one), netlink.CREATE | netlink.EXCLUSIVE)

    def remove(self, one: Entry) -> None:
        """Removes it, if it is there; RefusedError if the kernel refuses."""
        try:
            if isinstance(one, Route):
                self._ip.ask(DELROUTE, _route(one, removed=True))
            else:
                self._ip.ask(_DELRULE, _rule(one))
        except RefusedError as error:
            if error.errno not in (errno.ESRCH, errno.ENOENT):
                raise

    def is_reached(self, sid: IPv6Address, source: IPv6Network, link: int) -> bool:
        """Whether a packet with a source in this prefix, received on a link, comes to a route of an agent."""
        body = _ROUTE.pack(socket.AF_INET6, 128, 128, 0, 0, 0, 0, 0, 0)
        address = source.network_address + int(source.prefixlen < 128)
        body += attribute(_RTA_DST, sid.packed) + attribute(_RTA_SRC, address.packed)
        try:
            answers = self._ip.ask(_GETROUTE, body + attribute(_RTA_IIF, link))
        except RefusedError:
            return False
        return any(_is_ours(answer) for answer in answers)

    def _rules(self) -> Iterator[tuple[Rule, bool]]:
        """All rules with a table, and whether they are of agents; those of others only with their table."""
        for body in self._dump(_GETRULE, _RULE.pack(socket.AF_INET6, 0, 0, 0, 0, 0, 0, 0, 0)):
            _family, to, source_length, _tos, _table, _res, _res, action, _flags = _RULE.unpack_from(body)
            found = attributes(body[_RULE.size :])
            table = number_of(found.get(_FRA_TABLE, b"\0"))
            ours = found.get(_FRA_PROTOCOL) == bytes((PROTOCOL,)) and slot_of(table) is not None
            sid = IPv6Address(found[_FRA_DST]) if to == 128 and _FRA_DST in found else IPv6Address(0)
            source = None
            if action == _TO_TABLE:
                prefix = (int.from_bytes(found.get(_FRA_SRC, bytes(16))), source_length)
                source = IPv6Network(prefix, strict=False)
            yield Rule(sid, source, table), ours

    def _routes(self, table: int = 0, protocol: int = 0) -> list[bytes]:
        body = _ROUTE.pack(socket.AF_INET6, 0, 0, 0, 0, protocol, 0, 0, 0)
        if table:
            body += attribute(_RTA_TABLE, table)
        return self._dump(_GETROUTE, body)

    def _dump(self, kind: int, body: bytes) -> list[bytes]:
        try:
            return self._ip.dump(kind, body)
        except RefusedError as error:
            if error.errno not in _NOTHING:
                raise
            return []


def route_table(body: bytes) -> int:
    """The table of the route in an RTM_NEWROUTE or RTM_DELROUTE."""
    return number_of(attributes(body[_ROUTE.size :]).get(_RTA_TABLE, b"\0"))


def _rule(rule: Rule) -> bytes:
    action = _TO_TABLE if rule.source is not None else _BLACKHOLE
    length = rule.source.prefixlen if rule.source is not None else 0
    body = _RULE.pack(socket.AF_INET6, 128, length, 0, 0, 0, 0, action, 0)
    body += attribute(_FRA_DST, rule.sid.packed) + attribute(_FRA_TABLE, rule.table)
    if rule.source is not None and length:
        body += attribute(_FRA_SRC, rule.source.network_address.packed)
    body += attribute(_FRA_PRIORITY, PRIORITY if rule.source is not None else DROP_PRIORITY)
    return body + attribute(_FRA_PROTOCOL, bytes((PROTOCOL,)))


def _route(route: Route, removed: bool = False) -> bytes:
    kind = _LOCAL if route.inner is None else _UNICAST
    body = _ROUTE.pack(socket.AF_INET6, 128, 0, 0, 0, PROTOCOL, 0, 0 if removed else kind, 0)
    body += attribute(_RTA_DST, route.address.packed) + attribute(_RTA_TABLE, route.table)
    if removed:
        return body
    body += attribute(_RTA_OIF, route.link)
    if route.inner is None:
        return body
    if isinstance(route.inner, IPv4Address):
        encap = attribute(_ACTION, _DX4) + attribute(_NEXT_HOP4, route.inner.packed)
    else:
        encap = attribute(_ACTION, _DT6) + attribute(_TABLE, route.inner)
    encap += nested(_COUNTERS, dict.fromkeys((_PACKETS, _BYTES, _ERRORS), bytes(8)))
    body += attribute(_RTA_ENCAP_TYPE, struct.pack("=H", _SEG6_LOCAL))
    return body + attribute(_RTA_ENCAP | 0x8000, encap)


def _is_ours(body: bytes) -> bool:
    return _ROUTE.unpack_from(body)[5] == PROTOCOL and slot_of(route_table(body)) is not None


def _read_route(body: bytes) -> tuple[Route, Packets] | None:
    """A route of an agent, with its counters; an unknown one looks like one to an own address."""
    if not _is_ours(body):
        return None
    found = attributes(body[_ROUTE.size :])
    inner: Inner = None
    counted = Packets(0, 0)
    if found.get(_RTA_ENCAP_TYPE, b"")[:1] == bytes((_SEG6_LOCAL,)):
        encap = attributes(found[_RTA_ENCAP])
        inner = IPv4Address(encap[_NEXT_HOP4]) if _NEXT_HOP4 in encap else number_of(encap.get(_TABLE, b"\0"))
        counters = attributes(encap.get(_COUNTERS, b""))
        counted = Packets(*(number_of(counters.get(kind, b"\0")) for kind in (_PACKETS, _ERRORS)))
    address = IPv6Address(found.get(_RTA_DST, bytes(16)))
    return Route(route_table(body), address, number_of(found.get(_RTA_OIF, b"\0")), inner), counted
