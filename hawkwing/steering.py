"""Updates the data plane's maps to the desired paths: the controller's, else the configured ones, else none.

Each destination address has a group, whose routes (port, protocol) point to policies. Each domain name has
a group too, with the configured paths: addresses that the data plane learns from a DNS answer use it, so that
their first packet is steered before the agent knows them.

`apply` takes a whole configuration, compares it with the current state, and changes only the differences.
"""

import itertools
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv6Address

from hawkwing.config_models import Application, Config
from hawkwing.csid import pack
from hawkwing.dataplane.encoding import name_key
from hawkwing.dataplane.plane import UNKNOWN, DataPlane, Health
from hawkwing.desired import Choosing, Desired, choosing
from hawkwing.errors import DataplaneError
from hawkwing.intents import PathQuery
from hawkwing.labels import path_text
from hawkwing.measured import Measured
from hawkwing.queries import Binding, Queries
from hawkwing.room import Room
from hawkwing.route_table import Group, RouteTable
from hawkwing.selections import Candidate, Wanted, active
from hawkwing.sids import MAX_WAY_BACK, Encapsulated, SidList, back_of, most_sids
from hawkwing.srh_hmac import MAX_SIGNED

log = logging.getLogger(__name__)
MOST_ADDRESSES = 64
"""The maximum number of addresses of a name."""
LONGEST_TTL = 300.0
"""The maximum validity of an answer in seconds; then names are resolved again (resolver.py)."""
GRACE = 30.0
"""Seconds that an address is kept after the TTL of the last answer with it."""

_NO_ADDRESS = IPv6Address(0)
SourceOf = Callable[[IPv6Address], IPv6Address | None]
"""The source address in requests for a destination; None: there is none at present."""


@dataclass(slots=True)
class _Name:
    """A domain name: its group in the data plane, and until when each of its addresses is kept."""

    group: Group
    known: bool = False  # by the data plane
    expiry: dict[IPv6Address, float] = field(default_factory=dict)


@dataclass(slots=True)
class _Destination:
    """An address: its group, its applications by port, and the names that it was learned from."""

    group: Group
    known: bool = False  # by the data plane
    bindings: dict[int, Binding] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    source: IPv6Address | None = None


class Steering:
    """Keeps services, routes and policies of a client up to date; calls may be repeated."""

    def __init__(self, plane: DataPlane, now: Callable[[], float] = time.monotonic) -> None:
        self._plane = plane
        self._now = now
        self._desired = Desired()
        self._source_of: SourceOf | None = None
        self._routes = RouteTable(plane)
        #: Whether there is a route to the path's first SID.
        self.reachable: Callable[[SidList], bool] = lambda _sids: True
        #: Why a list, as in packets, is not probed although it should be; empty if it is.
        self.why_not_probed: Callable[[SidList], str] = lambda _sids: ""
        #: Selects paths by measurements.
        self.measured = Measured(plane, self.slot_of_path)
        self._numbers = itertools.count(1)
        self._names: dict[str, _Name] = {}
        self._names_by_number: dict[int, str] = {}
        self._destinations: dict[IPv6Address, _Destination] = {}
        self._asked = Queries(now, self._sent)
        #: By name: how often the tables had no room for an address.
        self.left_out: dict[str, int] = {}
        #: How often the tables had no room for a path from the controller.
        self.paths_left_out = 0

    @property
    def names(self) -> list[str]:
        """The domain names to resolve."""
        return list(self._desired.by_name)

    @property
    def key_id(self) -> int | None:
        """The number of the key that signs; None: SRHs have no HMAC."""
        return self._desired.key_id

    def named_services(self) -> Iterator[tuple[str, str]]:
        """(service, domain name) of all services that have a name."""
        for name, services in self._desired.by_name.items():
            for service in services:
                yield service, name

    # --- configuration

    def apply(self, config: Config, source: SourceOf | IPv6Address | None) -> None:
        """Applies this configuration. `source` is the source address in requests to the controller, or a
        function that returns it for a destination.
        """
        source_of = source if source is None or callable(source) else lambda _destination: source
        self.finish(self.applying(Desired.of(config), source_of if config.hawkeye.enabled else None))

    def finish(self, steps: Iterator[None], seconds: float = math.inf) -> bool:
        """Runs the steps for this time at most; True if all of them are done."""
        end = time.monotonic() + seconds
        self._plane.hold()
        try:
            for _ in steps:
                if time.monotonic() > end:
                    return False
        finally:
            self._plane.release()
        return True

    def applying(self, desired: Desired, source_of: SourceOf | None) -> Iterator[None]:
        """Like `apply`, in steps of microseconds; other calls may run between the steps.

        Removals come first, to make room for additions.
        """
        before, self._desired, self._source_of = self._desired, desired, source_of
        yield from self._routes.signing(desired.key_id is not None)
        for name in list(self._names):
            yield
            if name not in desired.by_name:
                yield from self._forgetting_name(name)
        for address in list(self._destinations):
            yield
            if address not in desired.by_address:
                yield from self._syncing_address(address)
        for name in desired.by_name:
            yield from self._syncing_name(name)
        for address in desired.by_address:
            yield from self._syncing_address(address)
        if (before.key_id, before.blocks) != (desired.key_id, desired.blocks):
            # Paths of the controller that were too long may fit now.
            for query, sids in self._asked.answers():
                self.set_controller_path(query, sids)
                yield

    def following_sources(self) -> Iterator[None]:
        """Requests paths again where the source address has changed, in steps like `applying`."""
        for address in list(self._destinations):
            place = self._destinations.get(address)
            if place is not None and any(one.application.intents for one in place.bindings.values()):
                yield from self._syncing_address(address)
            yield

    def look_at_paths(self, sent: Mapping[int, int], controller_is_silent: bool) -> bool:
        """Compares the measurements with the intents.

        `sent` has the number of probes sent along each path, by slot. True if another selection results: the
        caller then runs `following_reachability`.
        """
        controllers: set[tuple[Choosing, SidList]] = set()
        if controller_is_silent:
            for query, _sids in self._asked.answers():
                for binding in self._asked.bindings(query):
                    key, path = choosing(binding.application), self._asked.path_for(binding)
                    if key is not None and path:
                        controllers.add((key, path))
        return self.measured.look(self._desired, controllers, sent, self.reachable)

    def reason(self, binding: Binding) -> str:
        """Why the binding uses these of its paths, with figures; empty if nothing is compared."""
        if not binding.controller_path:
            return self.measured.reason(binding.application)
        if binding.origin == "controller":
            return ""
        left = self.measured.why_left(binding.application, binding.controller_path)
        return f"the controller's path is not used: {left}" if left else ""

    def following_reachability(self) -> Iterator[None]:
        """Sets the paths that are usable by routes and limits at present, in steps like `applying`."""
        for name in list(self._names):
            if name in self._desired.by_name:
                yield from self._syncing_name(name)
        for address in list(self._destinations):
            place = self._destinations.get(address)
            for port, binding in list(place.bindings.items()) if place is not None else ():
                if len(binding.application.candidates) > 1:
                    self._sync_port(address, port)
                    yield

    def needs_of_names(self, desired: Desired) -> Room:
        """The room for addresses that were learned from names that remain configured."""
        addresses = applications = 0
        for name, services in desired.by_name.items():
            record = self._names.get(name)
            if record is not None and record.expiry:
                addresses += len(record.expiry)
                applications += len(record.expiry) * sum(len(desired.ports[one]) for one in services)
        return Room(addresses=addresses, applications=applications)

    @property
    def encapsulates(self) -> bool:
        """Whether a path in use encapsulates."""
        return any(isinstance(sids, Encapsulated) for sids in self._routes.lists())

    def following_outer_sources(self) -> Iterator[None]:
        """Gives paths that encapsulate the host's present address, in steps like `applying`."""
        for sids in self._routes.lists():
            slot = self._routes.slot_of(sids)
            if isinstance(sids, Encapsulated) and slot:
                self._plane.renew_source(slot, sids)
                yield

    def lists_in_use(self) -> list[SidList]:
        """All segment lists that have a slot."""
        return self._routes.lists()

    # --- names

    def learn(self, name: str, addresses: Iterable[IPv6Address], ttl: float) -> bool:
        """Stores the addresses of a domain name for `ttl` seconds; True if one is new."""
        if name not in self._desired.by_name:
            return False
        record = self._names.get(name)
        if record is None:
            # `applying` has not reached this name yet.
            record = self._new_name(name)
        news = False
        for address in addresses:
            if address not in record.expiry:
                if not self._add(name, address, record.expiry):
                    continue
                news = True
            end = self._now() + min(ttl, LONGEST_TTL) + GRACE
            record.expiry[address] = max(record.expiry[address], end)
        return news

    def _add(self, name: str, address: IPv6Address, expiry: dict[IPv6Address, float]) -> bool:
        """Adds an address of a name. Without room for it: removes it from the data plane, returns False."""
        problem = f"the name already has {MOST_ADDRESSES} addresses" if len(expiry) >= MOST_ADDRESSES else ""
        if not problem:
            expiry[address] = 0.0
            place = self._destination(address)
            place.names = tuple(sorted({*place.names, name}))
            try:
                self._sync_address(address)
            except (OSError, DataplaneError) as error:
                del expiry[address]
                self._not_at(name, address)
                self._sync_address(address)
                reason = error.strerror if isinstance(error, OSError) else error
                problem = f"the data plane's tables have no room ({reason})"
        if not problem:
            log.info("%s resolves to %s", name, address)
            return True
        if address not in self._destinations:
            self._plane.remove_service(address)
        self.left_out[name] = self.left_out.get(name, 0) + 1
        if self.left_out[name] == 1:
            log.warning("packets to %s (%s) are not steered: %s", address, name, problem)
        return False

    def expire(self, alive: Callable[[str], bool]) -> bool:
        """Withdraws addresses that are no longer in answers, if the name resolves; True if there were any."""
        self._asked.forget_former()
        gone = [
            (name, address)
            for name, record in self._names.items()
            for address, end in record.expiry.items()
            if end < self._now() and alive(name)
        ]
        for name, address in gone:
            log.info("%s no longer resolves to %s", name, address)
            del self._names[name].expiry[address]
            self._not_at(name, address)
            self._sync_address(address)
        return bool(gone)

    def name_of_group(self, number: int) -> str | None:
        """The domain name of a group number in the data plane."""
        return self._names_by_number.get(number)

    def learned(self) -> dict[str, list[IPv6Address]]:
        """The known addresses of each name."""
        return {name: list(record.expiry) for name, record in self._names.items() if record.expiry}

    # --- the controller

    def refusal(self, query: PathQuery, sids: SidList) -> str:
        """Why no application can use this path for this query; empty if one can."""
        listed = self._asked.bindings(query)
        problems = [
            self._too_long_back(sids)
            if one.back_query == query
            else self._too_long(one.application.as_sent(sids))
            for one in listed
        ]
        return problems[0] if problems and all(problems) else ""

    def _sent(self, application: Application, sids: SidList, back: SidList = ()) -> SidList:
        """The controller's path as packets of the application get it; empty if it is too long."""
        sent = application.as_sent(sids, () if self._too_long_back(back) else back)
        return () if self._too_long(sent) else sent

    def _too_long_back(self, sids: SidList) -> str:
        packed = self.packed(sids)
        if len(packed) <= MAX_WAY_BACK:
            return ""
        return f"the way back has {len(packed)} SIDs, at most {MAX_WAY_BACK} are possible"

    def _too_long(self, sids: SidList) -> str:
        """A sentence if packets can't have so many SIDs; empty if they can."""
        if len(sids) <= MAX_SIGNED:
            return ""
        packed, signed = self.packed(sids), self.key_id is not None
        most = most_sids(packed, signed)
        if len(packed) <= most:
            return ""
        how = " with hmac" if signed else " with mode: encap" if isinstance(sids, Encapsulated) else ""
        return f"the path has {len(packed)} SIDs, at most {most} are possible{how}"

    def set_controller_path(self, query: PathQuery, sids: SidList) -> None:
        """Sets the controller's path for this query; applications with the same query share it.

        Applications for which it is too long keep the path that they have.
        """
        for binding in self._asked.answer(query, sids):
            before, binding.controller_path = binding.controller_path, self._asked.path_for(binding)
            binding.left = False
            try:
                self._set_paths(self._destinations[binding.address].group, binding)
            except (OSError, DataplaneError) as error:
                binding.controller_path = before
                self.paths_left_out += 1
                if self.paths_left_out == 1:
                    log.warning("a path from the controller is not used, restart to make room: %s", error)
                continue
            binding.since = time.time()
            what = "way back" if query == binding.back_query else "path"
            _log(binding, f"{what} from the controller: {', '.join(map(str, sids))}")

    def queries(self) -> list[PathQuery]:
        """The queries for the controller."""
        return list(self._asked)

    def asks(self, query: PathQuery) -> bool:
        """Whether the controller is asked for this query."""
        return query in self._asked

    def query_changes(self, most: int | None = None) -> tuple[list[PathQuery], list[PathQuery]]:
        """Queries that were added since the last call, and queries that were removed; `most` at once."""
        return self._asked.changes(most)

    def answers(self) -> Iterator[tuple[PathQuery, SidList]]:
        """The last valid paths for the current queries; changes while it runs are not included."""
        return self._asked.answers()

    def applications_of(self, query: PathQuery) -> list[Binding]:
        """The applications that need the path for this query."""
        return self._asked.bindings(query)

    def is_way_back(self, query: PathQuery) -> bool:
        """Whether the query is for a way back."""
        return self._asked.is_way_back(query)

    def name_of_query(self, query: PathQuery) -> str:
        """The query in an operator's terms: service, port, address, intents with their values."""
        return self._asked.name(query)

    # --- what is steered

    def bindings(self) -> Iterator[Binding]:
        """All applications at all their addresses; changes while it runs are not included."""
        for place in list(self._destinations.values()):
            yield from list(place.bindings.values())

    def binding(self, address: IPv6Address, port: int) -> Binding | None:
        """The application on a port of an address."""
        place = self._destinations.get(address)
        return place.bindings.get(port) if place is not None else None

    def bindings_at(self, address: IPv6Address) -> list[Binding]:
        """The applications on all ports of an address."""
        place = self._destinations.get(address)
        return list(place.bindings.values()) if place is not None else []

    def knows(self, address: IPv6Address) -> bool:
        """Whether this is an address of a configured service."""
        return address in self._destinations

    def slot_of(self, binding: Binding) -> int | None:
        """The slot of the binding's first path in the policy table; 0 without a path."""
        return self.slot_of_path(binding.path)

    def slot_of_path(self, sids: SidList) -> int | None:
        """The slot of a path in the policy table; 0 for an empty path, None if the path is not in use."""
        return self._routes.slot_of(self.packed(sids))

    @property
    def selection_changes(self) -> int:
        """Increases when the lists to be probed may have changed."""
        return self._routes.selection_changes

    def probed_lists(self) -> dict[SidList, int]:
        """The segment lists of applications with several paths, as in packets, with their slots."""
        return self._routes.lists_of_selections()

    def list_destinations(self) -> dict[SidList, IPv6Address]:
        """For each list of applications with several paths, as in packets, a destination that it leads to."""
        found: dict[SidList, IPv6Address] = {}
        for binding in self.bindings():
            wanted = self._wanted(binding).lists
            if len(wanted) > 1:
                for sids in wanted:
                    found.setdefault(sids, binding.address)
        return found

    def health_of(self, sids: SidList) -> Health:
        """Health of a path, measured by probes."""
        slot = self.slot_of_path(sids)
        return self._plane.health(slot, time.monotonic_ns()) if slot else UNKNOWN

    def buckets_of(self, binding: Binding) -> Sequence[SidList]:
        """The segment list of each bucket, as in packets; empty if the binding has one path or none."""
        place = self._destinations.get(binding.address)
        return self._routes.buckets(place.group, binding.application.port) if place is not None else ()

    # --- the steps. The desired state may change between two of them, so each step reads it again.

    def _new_name(self, name: str) -> _Name:
        record = self._names[name] = _Name(Group(next(self._numbers)))
        self._names_by_number[record.group.number] = name
        return record

    def _forgetting_name(self, name: str) -> Iterator[None]:
        record = self._names.pop(name)
        del self._names_by_number[record.group.number]
        self._plane.maps["names"].delete(name_key(name))
        for address in record.expiry:
            self._not_at(name, address)
        for port in list(record.group.paths):
            self._routes.clear(record.group, port)
            yield

    def _syncing_name(self, name: str) -> Iterator[None]:
        record = self._names.get(name) or self._new_name(name)
        ports = {port for service in self._desired.by_name[name] for port in self._desired.ports[service]}
        for port in {*record.group.paths, *ports}:
            found = self._desired.application(self._desired.by_name.get(name, ()), port)
            if self._names.get(name) is not record:
                return
            if found is None:
                self._routes.clear(record.group, port)
            else:
                standin = Binding(found[0], found[1], _NO_ADDRESS, configured=self._active(found[1]))
                self._set_paths(record.group, standin)
            yield
        if not record.known and self._names.get(name) is record:
            self._plane.maps["names"].set(name_key(name), record.group.number.to_bytes(4, "little"))
            record.known = True

    def _destination(self, address: IPv6Address) -> _Destination:
        place = self._destinations.get(address)
        if place is None:
            place = self._destinations[address] = _Destination(Group(next(self._numbers)))
        return place

    def _not_at(self, name: str, address: IPv6Address) -> None:
        place = self._destinations[address]
        place.names = tuple(other for other in place.names if other != name)

    def _sync_address(self, address: IPv6Address) -> None:
        for _ in self._syncing_address(address):
            pass

    def _syncing_address(self, address: IPv6Address) -> Iterator[None]:
        """Updates bindings, routes and the service entry of one address."""
        place = self._destination(address)
        place.source = None
        wanted = self._ports_at(address, place)
        # The controller knows IPv6 only.
        if self._source_of is not None and any(wanted.values()) and address.ipv4_mapped is None:
            place.source = self._source_of(address)
        for port in [port for port in place.bindings if port not in wanted]:
            self._sync_port(address, port)
            yield
        for port in wanted:
            self._sync_port(address, port)
            yield
        self._sync_service(address)

    def _ports_at(self, address: IPv6Address, place: _Destination) -> dict[int, bool]:
        """The ports with an application, and whether that has intents."""
        wanted: dict[int, bool] = {}
        for service in self._desired.services_at(address, place.names):
            for port, application in self._desired.ports[service].items():
                wanted.setdefault(port, bool(application.intents))
        return wanted

    def _sync_port(self, address: IPv6Address, port: int) -> None:
        place = self._destinations.get(address)
        if place is None:
            return
        found = self._desired.application(self._desired.services_at(address, place.names), port)
        old = place.bindings.get(port)
        if found is None:
            if old is not None:
                self._asked.remove(place.bindings.pop(port))
            self._routes.clear(place.group, port)
            return
        service, application = found
        query = None
        if place.source is not None and application.intents:
            query = PathQuery(place.source, address, application.intents)
        back_query = None
        if query is not None and application.return_intents:
            back_query = PathQuery(address, query.source, application.return_intents)
        configured = self._active(application)
        if (
            old is None
            or (old.service, old.query, old.back_query) != (service, query, back_query)
            or (old.application is not application and old.application != application)
        ):
            binding = Binding(service, application, address, query, back_query, configured=configured)
            place.bindings[port] = self._new_binding(binding, old)
        else:
            self._take(old, configured)
        self._set_paths(place.group, place.bindings[port])

    def _take(self, binding: Binding, configured: tuple[Candidate, ...]) -> None:
        """Sets the active configured paths, and whether the controller's path fits and keeps the limits."""
        before = binding.shares
        path = binding.controller_path
        if too_long := self._too_long(path) or self._too_long_back(back_of(path)):
            binding.controller_path = self._asked.path_for(binding)
        binding.configured = configured
        binding.left = bool(
            binding.controller_path and self.measured.is_left(binding.application, binding.controller_path)
        )
        if binding.shares == before:
            return
        binding.since = time.time()
        paths = "; ".join(path_text([str(sid) for sid in sids]) for sids, _weight in binding.shares)
        why = f"the controller's path is not used: {too_long}" if too_long else self.reason(binding)
        _log(binding, f"{why or 'routes have changed'}; paths in use now: {paths or 'none'}")

    def _new_binding(self, binding: Binding, old: Binding | None) -> Binding:
        self._asked.add(binding)
        if old is not None:
            if old.shares == binding.shares:
                binding.since = old.since
            self._asked.remove(old)
        return binding

    def _sync_service(self, address: IPv6Address) -> None:
        place = self._destinations.get(address)
        if place is None:
            return
        if place.bindings and not place.known:
            self._plane.add_service(address, place.group.number)
            place.known = True
        elif not place.bindings:
            if place.known:
                self._plane.remove_service(address)
                place.known = False
            if not place.names:
                del self._destinations[address]

    def _active(self, application: Application) -> tuple[Candidate, ...]:
        """The configured paths that are active at present."""
        candidates = application.candidates
        if len(candidates) < 2:
            return candidates
        chosen = tuple(one for one in self.measured.chosen(application) if self.reachable(one.sids))
        return chosen or active(candidates, self.reachable)

    def packed(self, sids: SidList) -> SidList:
        """The list as in packets: SIDs of a block are packed into containers."""
        return pack(sids, self._desired.blocks)

    def _set_paths(self, group: Group, binding: Binding) -> None:
        self._routes.set(group, binding.application.port, self._wanted(binding))

    def _wanted(self, binding: Binding) -> Wanted:
        """The binding's segment lists as in packets; with standby lists only if paths are measured."""
        shares = binding.shares
        alone = len(shares) == 1
        measured = self._desired.probes is not None or choosing(binding.application) is not None
        standby = binding.standby if shares and measured else ()
        return Wanted(
            tuple((self.packed(sids), 1 if alone else weight) for sids, weight in shares),
            tuple(self.packed(sids) for sids in standby),
        )


def _log(binding: Binding, text: str) -> None:
    log.info("%s port %d at %s: %s", binding.service, binding.application.port, binding.address, text)
