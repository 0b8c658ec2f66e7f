"""The content of a configuration: counted against the capacity, and indexed by name and address. No I/O.

All of this is checked before any change; `check`, a start and a reload count in the same way.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from typing import NamedTuple

from hawkwing.choice import is_measurable
from hawkwing.config_models import Application, Config
from hawkwing.csid import Block, pack
from hawkwing.intents import Intent
from hawkwing.room import MOST, Room
from hawkwing.selections import Candidate
from hawkwing.sids import SidList
from hawkwing.srh_hmac import MAX_SIGNED
from hawkwing.yaml_lines import Place

_KINDS = {
    "addresses": "IPv6 addresses",
    "names": "domain names",
    "applications": "applications at addresses and names",
    "lists": "different segment lists",
    "selections": "different sets of several paths",
}


Choosing = tuple[tuple[Candidate, ...], tuple[Intent, ...]]
"""Candidates, and the intents by which one of them is selected."""


def choosing(application: Application) -> Choosing | None:
    """Candidates and intents of an application with several paths and a measurable intent; else None."""
    candidates, intents = application.candidates, application.intents
    return (candidates, intents) if len(candidates) > 1 and is_measurable(intents) else None


class Part(NamedTuple):
    """The needs of one value in a file, with its place."""

    kind: str
    number: int
    place: Place


def _parts(config: Config) -> Iterator[Part]:
    addresses: set[IPv6Address] = set()
    names: set[str] = set()
    lists: set[SidList] = set()
    selections: set[tuple[Candidate, ...]] = set()
    for name, service in config.services.items():
        place: Place = ("services", name)
        before = len(addresses)
        addresses.update(service.addresses)
        yield Part("addresses", len(addresses) - before, (*place, "ipv6_addresses"))
        targets = len(service.addresses)
        if service.domain_name is not None:
            targets += 1
            yield Part("names", int(service.domain_name not in names), (*place, "domain_name"))
            names.add(service.domain_name)
        yield Part("applications", targets * len(service.applications), (*place, "applications"))
        for index, application in enumerate(service.applications):
            several = bool(application.paths)
            for number, candidate in enumerate(application.candidates):
                if candidate.sids not in lists:
                    lists.add(candidate.sids)
                    key: Place = ("paths", number, "sid") if several else ("sid",)
                    yield Part("lists", 1, (*place, "applications", index, *key))
            if several and application.candidates not in selections:
                selections.add(application.candidates)
                yield Part("selections", 1, (*place, "applications", index, "paths"))
            asked = {"intents": application.intents, "return_intents": application.return_intents}
            for name_of_key, intents in asked.items():
                if intents and config.hawkeye.enabled:
                    yield Part("queries", targets, (*place, "applications", index, name_of_key))


def needs_of(config: Config) -> Room:
    """The needs of a configuration, without the addresses that its names will resolve to."""
    total = dict.fromkeys(Room._fields, 0)
    for part in _parts(config):
        total[part.kind] += part.number
    return Room(**total)


def excess(
    config: Config, room: Room = MOST, advice: str = "at most {most:,} are possible"
) -> list[tuple[Place, str]]:
    """A sentence for each exceeded limit, with the place where it is exceeded."""
    needs = needs_of(config)
    found = []
    for kind, what in _KINDS.items():
        most, total = getattr(room, kind), getattr(needs, kind)
        if total <= most:
            continue
        so_far = 0
        for part in _parts(config):
            if part.kind == kind:
                so_far += part.number
                if so_far > most:
                    found.append((part.place, f"the file has {total:,} {what}, {advice.format(most=most)}"))
                    break
    return found


def too_long_to_sign(config: Config) -> list[tuple[Place, str]]:
    """With `hmac`: a sentence for each list, as in packets, that has too many SIDs, with its place."""
    if not config.hmac:
        return []
    blocks = [block.read for block in config.csid]
    found: list[tuple[Place, str]] = []
    for name, service in config.services.items():
        for index, application in enumerate(service.applications):
            for number, candidate in enumerate(application.candidates):
                count = len(pack(candidate.sids, blocks))
                if count <= MAX_SIGNED:
                    continue
                written = len(application.paths[number].sid if application.paths else application.sid)
                told = f"{written} SIDs{' and decap_sid' if len(candidate.sids) > written else ''}"
                if count < len(candidate.sids):
                    told += f", packed {count} SIDs"
                key: Place = ("paths", number, "sid") if application.paths else ("sid",)
                place: Place = ("services", name, "applications", index, *key)
                found.append((place, f"has {told}, at most {MAX_SIGNED} SIDs fit with hmac"))
    return found


@dataclass(frozen=True)
class Desired:
    """A configuration's services by name and by address, their applications by port."""

    ports: dict[str, dict[int, Application]] = field(default_factory=dict)
    by_name: dict[str, list[str]] = field(default_factory=dict)
    by_address: dict[IPv6Address, list[str]] = field(default_factory=dict)
    #: Blocks of compressed SIDs.
    blocks: tuple[Block, ...] = ()
    #: The number of the key that signs; None: SRHs have no HMAC.
    key_id: int | None = None
    #: Milliseconds between two probes of a path; None: no probes.
    probes: int | None = None
    #: The port of the STAMP reflectors that get them; None: they return by themselves.
    stamp_port: int | None = None
    #: Candidates and intents of all applications with several paths and a measurable intent.
    choices: frozenset[Choosing] = frozenset()

    @classmethod
    def of(cls, config: Config) -> Desired:
        """Builds the index; takes long for a large configuration."""
        made = cls(
            blocks=tuple(block.read for block in config.csid),
            key_id=config.hmac[0].key_id if config.hmac else None,
            probes=config.probes.interval if config.probes is not None else None,
            stamp_port=config.probes.stamp_port if config.probes is not None else None,
            choices=frozenset(
                found
                for service in config.services.values()
                for application in service.applications
                if (found := choosing(application)) is not None
            ),
        )
        for name, service in config.services.items():
            made.ports[name] = {application.port: application for application in service.applications}
            if service.domain_name:
                made.by_name.setdefault(service.domain_name, []).append(name)
            for address in service.addresses:
                made.by_address.setdefault(address, []).append(name)
        return made

    @property
    def has_ipv4(self) -> bool:
        """Whether a service has an IPv4 address."""
        return any(address.ipv4_mapped is not None for address in self.by_address)

    def lists(self) -> set[SidList]:
        """All configured segment lists, as in packets."""
        return {
            pack(candidate.sids, self.blocks)
            for ports in self.ports.values()
            for one in ports.values()
            for candidate in one.candidates
        }

    def services_at(self, address: IPv6Address, names: Collection[str]) -> Iterator[str]:
        """The services of an address with these domain names; services configured with the address first."""
        yield from self.by_address.get(address, ())
        for name in sorted(names):
            yield from self.by_name.get(name, ())

    def application(self, services: Iterable[str], port: int) -> tuple[str, Application] | None:
        """The first of these services with an application on the port, and this application."""
        for service in services:
            found = self.ports[service].get(port)
            if found is not None:
                return service, found
        return None
