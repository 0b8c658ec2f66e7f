"""Brings the data plane's maps to the desired paths: the controller's, else the configured `sid`, else none.

Each destination address has a group, whose routes (port, protocol) point to policies. Each domain name has
a group too, with the configured paths: addresses that the data plane learns from a DNS answer use it, so that
their first packet is steered before the agent knows them.

`apply` takes a whole configuration, compares it with the current state, and changes only the differences.
"""

import itertools
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv6Address

from hawkwing.config import Application, Config
from hawkwing.dataplane.plane import DataPlane, name_key
from hawkwing.intents import PathQuery
from hawkwing.policies import EMPTY_SLOT, PolicyTable, SidList

log = logging.getLogger(__name__)
_PROTOCOLS = (6, 17)
MOST_ADDRESSES = 64
"""The maximum number of addresses of a name."""
LONGEST_TTL = 300.0
"""The maximum validity of an answer in seconds; then names are resolved again (resolver.py)."""
FORMER_ANSWERS = 300.0
"""Seconds that a path of the controller is kept after the last application that needs it has gone."""
GRACE = 30.0
"""Seconds that an address is kept after the TTL of the last answer with it."""


@dataclass
class Binding:
    """One application at one address of its service, and its path."""

    service: str
    application: Application
    address: IPv6Address
    query: PathQuery | None = None
    controller_path: SidList = ()
    since: float = field(default_factory=time.time)

    @property
    def path(self) -> SidList:
        """The SIDs in use, in travel order; empty where there are none."""
        return self.controller_path or self.application.sid

    @property
    def origin(self) -> str:
        """Where the path comes from: controller, backup or none."""
        if self.controller_path:
            return "controller"
        return "backup" if self.application.sid else "none"


class Group:
    """The routes of one address or name in the data plane."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.paths: dict[int, SidList] = {}


class Steering:
    """Keeps services, routes and policies of a client up to date; every call may be repeated."""

    def __init__(self, plane: DataPlane, now: Callable[[], float] = time.monotonic) -> None:
        self._plane = plane
        self._now = now
        self._config = Config()
        self._source: IPv6Address | None = None
        self._policies = PolicyTable(plane.maps["policies"].info.max_entries, plane.set_policy)
        self._numbers = itertools.count(1)
        self._name_groups: dict[str, Group] = {}
        self._names_by_number: dict[int, str] = {}
        self._address_groups: dict[IPv6Address, Group] = {}
        self._bindings: dict[IPv6Address, dict[int, Binding]] = {}
        self._by_query: dict[PathQuery, list[Binding]] = {}
        self._query_changes: dict[PathQuery, bool] = {}
        self._answers: dict[PathQuery, SidList] = {}
        #: Of queries that are not asked any more, until when; the oldest first.
        self._former: dict[PathQuery, tuple[float, SidList]] = {}
        self._services_by_name: dict[str, list[str]] = {}
        self._services_by_address: dict[IPv6Address, list[str]] = {}
        self._expiry: dict[str, dict[IPv6Address, float]] = {}
        self._names_at: dict[IPv6Address, set[str]] = {}
        #: How often a name's address found no room.
        self.left_out: dict[str, int] = {}

    @property
    def names(self) -> list[str]:
        """The domain names to resolve."""
        return list(self._services_by_name)

    def named_services(self) -> Iterator[tuple[str, str]]:
        """(service, domain name) of all services that have a name."""
        for name, services in self._services_by_name.items():
            for service in services:
                yield service, name

    def apply(self, config: Config, source: IPv6Address | None) -> None:
        """Applies this configuration; `source` is the source address in requests to the controller."""
        self._config = config
        self._source = source if config.hawkeye.enabled else None
        before = set(self._services_by_name)
        self._services_by_name = {}
        self._services_by_address = {}
        for service_name, service in config.services.items():
            if service.domain_name:
                self._services_by_name.setdefault(service.domain_name, []).append(service_name)
            for address in service.ipv6_addresses:
                self._services_by_address.setdefault(address, []).append(service_name)
        for name in before - set(self._services_by_name):
            self._forget_name(name)
        for name in self._services_by_name:
            self._sync_name(name)
        for address in {*self._services_by_address, *self._bindings, *self._names_at}:
            self._sync_address(address)

    def learn(self, name: str, addresses: Iterable[IPv6Address], ttl: float) -> bool:
        """A domain name has these addresses for `ttl` seconds; True where one is new."""
        if name not in self._services_by_name:
            return False
        expiry = self._expiry.setdefault(name, {})
        news = False
        for address in addresses:
            if address not in expiry:
                if not self._add(name, address, expiry):
                    continue
                news = True
            expiry[address] = max(expiry[address], self._now() + min(ttl, LONGEST_TTL) + GRACE)
        return news

    def _add(self, name: str, address: IPv6Address, expiry: dict[IPv6Address, float]) -> bool:
        """Adds an address of a name; False without room for it, then the data plane removes it, too."""
        problem = f"the name already has {MOST_ADDRESSES} addresses" if len(expiry) >= MOST_ADDRESSES else ""
        if not problem:
            expiry[address] = 0.0
            self._names_at.setdefault(address, set()).add(name)
            try:
                self._sync_address(address)
            except OSError as error:
                del expiry[address]
                self._not_at(name, address)
                self._sync_address(address)
                problem = f"the data plane's tables have no room ({error.strerror})"
        if not problem:
            log.info("%s resolves to %s", name, address)
            return True
        if address not in self._address_groups:
            self._plane.remove_service(address)
        self.left_out[name] = self.left_out.get(name, 0) + 1
        if self.left_out[name] == 1:
            log.warning("packets to %s (%s) are not steered: %s", address, name, problem)
        return False

    def expire(self, alive: Callable[[str], bool]) -> bool:
        """Withdraws addresses that are no longer in answers, if the name resolves; True if there were any."""
        self._forget_former()
        gone = [
            (name, address)
            for name, expiry in self._expiry.items()
            for address, end in expiry.items()
            if end < self._now() and alive(name)
        ]
        for name, address in gone:
            log.info("%s no longer resolves to %s", name, address)
            del self._expiry[name][address]
            self._not_at(name, address)
            self._sync_address(address)
        return bool(gone)

    def name_of_group(self, number: int) -> str | None:
        """The domain name of a group number in the data plane."""
        return self._names_by_number.get(number)

    def set_controller_path(self, query: PathQuery, sids: SidList) -> None:
        """Sets the controller's path for this query; applications with the same query share it."""
        if query not in self._by_query:
            return
        self._answers[query] = sids
        changed = [b for b in self._by_query.get(query, ()) if b.controller_path != sids]
        for binding in changed:
            binding.controller_path = sids
            binding.since = time.time()
            self._set_route(self._address_groups[binding.address], binding.application.port, binding.path)
        for binding in changed:
            log.info(
                "%s port %d at %s: path from the controller: %s",
                binding.service,
                binding.application.port,
                binding.address,
                ", ".join(map(str, sids)),
            )

    def queries(self) -> list[PathQuery]:
        """The queries for the controller."""
        return list(self._by_query)

    def query_changes(self) -> tuple[list[PathQuery], list[PathQuery]]:
        """Queries that were added since the last call, and queries that were removed."""
        changes, self._query_changes = self._query_changes, {}
        return [q for q, asked in changes.items() if asked], [q for q, asked in changes.items() if not asked]

    def answers(self) -> Iterator[tuple[PathQuery, SidList]]:
        """The last valid paths for the current queries; changes while it runs are not included."""
        yield from list(self._answers.items())

    def applications_of(self, query: PathQuery) -> list[Binding]:
        """The applications that need the path for this query."""
        return list(self._by_query.get(query, ()))

    def name_of_query(self, query: PathQuery) -> str:
        """The query as an operator knows it: service, port, address, intents with their values."""
        intents = ", ".join(map(str, query.intents))
        asking = self._by_query.get(query)
        if not asking:
            return str(query)
        more = f" and {len(asking) - 1} more" if len(asking) > 1 else ""
        port = asking[0].application.port
        return f"{asking[0].service} port {port} at {query.destination}{more} ({intents})"

    def learned(self) -> dict[str, list[IPv6Address]]:
        """The known addresses of each name."""
        return {name: list(addresses) for name, addresses in self._expiry.items()}

    def bindings(self) -> Iterator[Binding]:
        """All applications at all their addresses."""
        for ports in self._bindings.values():
            yield from ports.values()

    def binding(self, address: IPv6Address, port: int) -> Binding | None:
        """The application on a port of an address."""
        return self._bindings.get(address, {}).get(port)

    def knows(self, address: IPv6Address) -> bool:
        """Is this an address of a configured service?"""
        return address in self._bindings

    def slot_of(self, binding: Binding) -> int | None:
        """The slot of the binding's path in the policy table; 0 where it has none."""
        return self._policies.slot_of(binding.path)

    def _forget_name(self, name: str) -> None:
        group = self._name_groups.pop(name)
        del self._names_by_number[group.number]
        self._plane.maps["names"].delete(name_key(name))
        for address in self._expiry.pop(name, {}):
            self._not_at(name, address)
        self._clear(group, ())

    def _sync_name(self, name: str) -> None:
        group = self._name_groups.get(name)
        fresh = group is None
        if group is None:
            group = self._name_groups[name] = Group(next(self._numbers))
            self._names_by_number[group.number] = name
        ports = set()
        for service in self._services_by_name[name]:
            for application in self._config.services[service].applications:
                self._set_route(group, application.port, application.sid)
                ports.add(application.port)
        self._clear(group, ports)
        if fresh:
            self._plane.maps["names"].set(name_key(name), group.number.to_bytes(4, "little"))

    def _services_at(self, address: IPv6Address) -> Iterator[str]:
        yield from self._services_by_address.get(address, ())
        for name in sorted(self._names_at.get(address, ())):
            yield from self._services_by_name.get(name, ())

    def _not_at(self, name: str, address: IPv6Address) -> None:
        names = self._names_at[address]
        names.discard(name)
        if not names:
            del self._names_at[address]

    def _sync_address(self, address: IPv6Address) -> None:
        """Updates bindings, routes and the service entry of one address."""
        wanted: dict[int, tuple[str, Application]] = {}
        for service in self._services_at(address):
            for application in self._config.services[service].applications:
                wanted.setdefault(application.port, (service, application))
        bindings = self._bindings.setdefault(address, {})
        group = self._address_groups.get(address)
        if not wanted:
            self._remove_address(address, group)
            return
        fresh = group is None
        if group is None:
            group = self._address_groups[address] = Group(next(self._numbers))
        for port in [port for port in bindings if port not in wanted]:
            self._unask(bindings.pop(port))
        for service, application in wanted.values():
            query = self._query(address, application)
            self._sync_binding(bindings, group, Binding(service, application, address, query))
        self._clear(group, wanted)
        if fresh:
            self._plane.add_service(address, group.number)

    def _query(self, address: IPv6Address, application: Application) -> PathQuery | None:
        if self._source is None or not application.intents:
            return None
        return PathQuery(self._source, address, application.intents)

    def _sync_binding(self, bindings: dict[int, Binding], group: Group, binding: Binding) -> None:
        port = binding.application.port
        old = bindings.get(port)
        if old is None or (old.service, old.application, old.query) != (
            binding.service,
            binding.application,
            binding.query,
        ):
            if binding.query is not None:
                if binding.query not in self._by_query:
                    self._by_query[binding.query] = []
                    self._note_query(binding.query, asked=True)
                    self._recall(binding.query)
                # A query that was answered a short time before has its path at once.
                binding.controller_path = self._answers.get(binding.query, ())
                self._by_query[binding.query].append(binding)
            if old is not None:
                if old.path == binding.path:
                    binding.since = old.since
                self._unask(old)
            bindings[port] = binding
        self._set_route(group, port, bindings[port].path)

    def _unask(self, binding: Binding) -> None:
        if binding.query is None:
            return
        asking = [other for other in self._by_query[binding.query] if other is not binding]
        if asking:
            self._by_query[binding.query] = asking
        else:
            del self._by_query[binding.query]
            self._note_query(binding.query, asked=False)
            self._forget_former()
            sids = self._answers.pop(binding.query, None)
            if sids is not None:
                self._former[binding.query] = self._now() + FORMER_ANSWERS, sids

    def _recall(self, query: PathQuery) -> None:
        """Takes the path of a query that has come back, unless it is too old."""
        end, sids = self._former.pop(query, (0.0, ()))
        if end > self._now():
            self._answers[query] = sids

    def _forget_former(self) -> None:
        while self._former:
            query, (end, _) = next(iter(self._former.items()))
            if end > self._now():
                return
            del self._former[query]

    def _note_query(self, query: PathQuery, asked: bool) -> None:
        # A query that was added and removed between two calls, or the reverse, is no change.
        if self._query_changes.pop(query, asked) is asked:
            self._query_changes[query] = asked

    def _remove_address(self, address: IPv6Address, group: Group | None) -> None:
        for binding in self._bindings.pop(address, {}).values():
            self._unask(binding)
        if group is not None:
            self._plane.remove_service(address)
            self._clear(group, ())
            del self._address_groups[address]

    def _clear(self, group: Group, keep: Iterable[int]) -> None:
        """Removes the routes of a group, except those to the ports in `keep`."""
        for port in set(group.paths) - set(keep):
            self._plane.remove_route(group.number, port, _PROTOCOLS)
            self._policies.release(group.paths.pop(port))

    def _set_route(self, group: Group, port: int, sids: SidList) -> None:
        """Sets the new path before the old one is released: no packet is without a path."""
        old = group.paths.get(port)
        if old == sids:
            return
        slot = self._policies.acquire(sids) if sids else EMPTY_SLOT
        self._plane.set_route(group.number, port, _PROTOCOLS, slot)
        group.paths[port] = sids
        if old:
            self._policies.release(old)
