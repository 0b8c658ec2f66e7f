"""Decapsulation on a server: the rules and routes that its SIDs need, and what has to change. No I/O.

    in: IPv6(T, D) SRH IPv6(A, B) X   to the host: IPv6(A, B) X     D is the SID of `decap.ipv6` (End.DT6)
    in: IPv6(T, D) SRH IPv4(a, b) X   to the host: IPv4(a, b) X     D is the SID of `decap.ipv4` (End.DX4)

The SIDs are in a table of their own, which only packets with a source in the SR domain reach: rules send them
there, and one rule per SID drops all others. End.DT6 looks up inner destinations in a second table that has
only the host's own global addresses. In the kernel's table `local` it would also find ::1, link-local and
multicast addresses; in the table of the SIDs, a packet could have any number of outer headers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import TYPE_CHECKING, Literal, NamedTuple

from hawkwing.addresses import HostAddress

if TYPE_CHECKING:
    from hawkwing.config_models import Config

Version = Literal["ipv6", "ipv4"]
BEHAVIORS: Mapping[Version, str] = {"ipv6": "End.DT6", "ipv4": "End.DX4"}
NAMES: Mapping[Version, str] = {"ipv6": "IPv6", "ipv4": "IPv4"}
MOST_SLOTS = 16
_FIRST_TABLE = 169_000


@dataclass(frozen=True)
class Asked:
    """A configuration's SIDs by the version of inner packets, and the prefixes of outer sources."""

    sids: Mapping[Version, IPv6Address]
    domain: tuple[IPv6Network, ...]


def asked_of(config: Config) -> Asked | None:
    """The SIDs of a configuration, with its SR domain."""
    if config.decap is None:
        return None
    read: dict[Version, IPv6Address | None] = {"ipv6": config.decap.ipv6, "ipv4": config.decap.ipv4}
    return Asked({version: sid for version, sid in read.items() if sid is not None}, config.sr_domain)


class Slot(NamedTuple):
    """The tables of one agent."""

    sids: int
    own: int


def slot(number: int) -> Slot:
    """The tables of a slot, from 0 to MOST_SLOTS - 1."""
    return Slot(_FIRST_TABLE + 2 * number, _FIRST_TABLE + 2 * number + 1)


def slot_of(table: int) -> int | None:
    """The number of the slot with this table, if there is one."""
    number = (table - _FIRST_TABLE) // 2
    return number if 0 <= number < MOST_SLOTS else None


class Rule(NamedTuple):
    """Packets to a SID from a source use the table; those from any source (None) are dropped, later."""

    sid: IPv6Address
    source: IPv6Network | None
    table: int


Inner = int | IPv4Address | None
"""A table for inner packets (End.DT6), their next hop (End.DX4), or None: the address is this host's."""


class Route(NamedTuple):
    """An address in one of the tables, with its interface."""

    table: int
    address: IPv6Address
    link: int
    inner: Inner


Entry = Rule | Route


@dataclass(frozen=True)
class Host:
    """What the host has: its addresses, indexes of interfaces that are up, and the agent's interfaces."""

    addresses: Sequence[HostAddress]
    ipv4: Collection[IPv4Address]
    indexes: Mapping[str, int]
    interfaces: Sequence[str]

    def link(self) -> int | None:
        """An interface for the routes of SIDs, which must have IPv6; those of the agent first."""
        able = {one.interface for one in self.addresses if not one.address.is_loopback} & self.indexes.keys()
        named = [name for name in self.interfaces if name in able] or sorted(able - {"lo"})
        return self.indexes[named[0]] if named else None

    def own(self) -> dict[IPv6Address, int]:
        """Usable global addresses, with their interfaces."""
        return {
            one.address: self.indexes[one.interface]
            for one in self.addresses
            if one.is_global and one.is_usable and one.interface in self.indexes
        }


@dataclass(frozen=True)
class Wanted:
    """What the kernel has to have, and why some of it is not possible, by SID."""

    entries: frozenset[Entry] = frozenset()
    problems: Mapping[IPv6Address, str] = field(default_factory=dict)


def wanted(asked: Asked, host: Host, tables: Slot) -> Wanted:
    """Rules and routes for these SIDs on this host."""
    entries: set[Entry] = set()
    problems: dict[IPv6Address, str] = {}
    link = host.link()
    for version, sid in asked.sids.items():
        entries.update(Rule(sid, prefix, tables.sids) for prefix in asked.domain)
        entries.add(Rule(sid, None, tables.sids))
        if any(one.address == sid for one in host.addresses):
            problems[sid] = "it is an address of this host"
        if link is None:
            problems[sid] = "no interface that is up has an IPv6 address"
        elif version == "ipv6":
            entries.add(Route(tables.sids, sid, link, tables.own))
            entries.update(Route(tables.own, own, index, None) for own, index in host.own().items())
        elif next_hop := min((one for one in host.ipv4 if not one.is_loopback), default=None):
            entries.add(Route(tables.sids, sid, link, next_hop))
        else:
            problems[sid] = "this host has no IPv4 address"
    return Wanted(frozenset(entries), problems)


class Changes(NamedTuple):
    """Steps from one state to another, in this order. A route replaces the one to the same address."""

    add: list[Entry]
    remove: list[Entry]


def changes(wanted: Wanted, there: Iterable[Entry]) -> Changes:
    """What to add and what to remove, if these entries are there; what stays the same is not touched."""
    before = set(there)
    replaced = {(one.table, one.address) for one in wanted.entries if isinstance(one, Route)}
    leaving = (
        one
        for one in before - wanted.entries
        if isinstance(one, Rule) or (one.table, one.address) not in replaced
    )
    return Changes(sorted(wanted.entries - before, key=_order), sorted(leaving, key=_order, reverse=True))


def _order(one: Entry) -> tuple[int, IPv6Address, str]:
    """Own addresses, SIDs, rules: a packet that finds its rule is to find its route, too."""
    if isinstance(one, Route):
        return -one.table, one.address, ""
    return 0, one.sid, str(one.source or "")


def concerns(sid: IPv6Address, version: Version, one: Entry, tables: Slot) -> bool:
    """Whether packets to a SID need this rule or route."""
    if isinstance(one, Rule):
        return one.sid == sid
    return one.address == sid if one.table == tables.sids else version == "ipv6"


def sentence(asked: Asked, version: Version) -> str:
    """What is decapsulated, for the log and `status`."""
    prefixes = " or ".join(str(prefix) for prefix in asked.domain)
    sid = asked.sids[version]
    return f"decapsulates {NAMES[version]} packets to {sid} ({BEHAVIORS[version]}) from sources in {prefixes}"
