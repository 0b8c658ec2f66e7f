"""Desired paths against the data plane's maps: the controller's, else the configured `sid`, else none.

A destination address has a group of its own, whose routes (port, protocol) point at policies. A domain
name has one too, with the configured paths: addresses that the kernel learns from a DNS answer start
there, so that their first packet is steered before the agent has heard of them.
"""

import itertools
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv6Address

from hawkwing.config import Application, Config
from hawkwing.dataplane.plane import DataPlane, route_key
from hawkwing.intents import PathQuery
from hawkwing.policies import PolicyTable, SidList
from hawkwing.sids import name_hash

log = logging.getLogger(__name__)
_TCP, _UDP = 6, 17


@dataclass
class Binding:
    """One application at one address of its service, and the path it has."""

    service: str
    application: Application
    address: IPv6Address
    controller_path: SidList = ()
    since: float = field(default_factory=time.time)

    @property
    def path(self) -> SidList:
        """The SIDs in use, in order of travel; empty where there are none."""
        return self.controller_path or self.application.sid

    @property
    def origin(self) -> str:
        """Whose path it is: controller, backup or none."""
        if self.controller_path:
            return "controller"
        return "backup" if self.application.sid else "none"


class Group:
    """The routes of one address or name, as they stand in the data plane."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.paths: dict[int, SidList] = {}


class Steering:
    """Keeps services, routes and policies of a client as they should be; every call may be repeated."""

    def __init__(self, plane: DataPlane, config: Config, source: IPv6Address | None) -> None:
        self._plane = plane
        self._config = config
        self._source = source if config.hawkeye.enabled else None
        self._policies = PolicyTable(plane.maps["policies"].info.max_entries, plane.set_policy)
        self._numbers = itertools.count(1)
        self._name_groups: dict[str, Group] = {}
        self._names_by_number: dict[int, str] = {}
        self._address_groups: dict[IPv6Address, Group] = {}
        self._bindings: dict[IPv6Address, dict[int, Binding]] = {}
        self._by_query: dict[PathQuery, list[Binding]] = {}
        self._services_by_name: dict[str, list[str]] = {}
        for service_name, service in config.services.items():
            if service.domain_name:
                self._services_by_name.setdefault(service.domain_name, []).append(service_name)

    @property
    def names(self) -> list[str]:
        """The domain names to resolve."""
        return list(self._services_by_name)

    def start(self) -> None:
        """Writes everything the configuration alone tells."""
        for name, services in self._services_by_name.items():
            group = Group(next(self._numbers))
            self._name_groups[name] = group
            self._names_by_number[group.number] = name
            for service in services:
                for application in self._config.services[service].applications:
                    self._set_route(group, application.port, application.sid)
            self._plane.maps["names"].set(
                name_hash(name, self._plane.hash_seed).to_bytes(8, "little"),
                group.number.to_bytes(4, "little"),
            )
        for service_name, declared in self._config.services.items():
            for address in declared.ipv6_addresses:
                self._add(service_name, address)

    def add_address(self, name: str, address: IPv6Address) -> bool:
        """A domain name has this address; True where that is news."""
        known = address in self._bindings
        for service in self._services_by_name.get(name, ()):
            self._add(service, address)
        if not known and address in self._bindings:
            log.info("%s is at %s", name, address)
        return not known and address in self._bindings

    def name_of_group(self, number: int) -> str | None:
        """The domain name that a group number of the data plane stands for."""
        return self._names_by_number.get(number)

    def set_controller_path(self, query: PathQuery, sids: SidList) -> None:
        """The controller's answer to this very query; applications that ask the same share it."""
        for binding in self._by_query.get(query, ()):
            if binding.controller_path == sids:
                continue
            binding.controller_path = sids
            binding.since = time.time()
            self._set_route(self._address_groups[binding.address], binding.application.port, binding.path)
            log.info(
                "%s port %d at %s: path from the controller: %s",
                binding.service,
                binding.application.port,
                binding.address,
                ", ".join(map(str, sids)),
            )

    def queries(self) -> list[PathQuery]:
        """What the controller is to be asked."""
        return list(self._by_query)

    def bindings(self) -> Iterator[Binding]:
        """All applications at all their addresses."""
        for ports in self._bindings.values():
            yield from ports.values()

    def slot_of(self, binding: Binding) -> int | None:
        """Where the binding's path stands in the policy table; 0 where it has none."""
        return self._policies.slot_of(binding.path)

    def _add(self, service_name: str, address: IPv6Address) -> None:
        ports = self._bindings.setdefault(address, {})
        group = self._address_groups.get(address)
        if group is None:
            group = self._address_groups[address] = Group(next(self._numbers))
        for application in self._config.services[service_name].applications:
            if application.port in ports:
                continue
            binding = Binding(service_name, application, address)
            ports[application.port] = binding
            if self._source is not None and application.intents:
                query = PathQuery(self._source, address, application.intents)
                asked = self._by_query.setdefault(query, [])
                # Whoever asks what was answered before has its answer.
                binding.controller_path = asked[0].controller_path if asked else ()
                asked.append(binding)
            self._set_route(group, application.port, binding.path)
        self._plane.add_service(address, group.number)

    def _set_route(self, group: Group, port: int, sids: SidList) -> None:
        """Points at the new path before the old one is let go: no packet finds nothing."""
        old = group.paths.get(port)
        if old == sids:
            return
        slot = self._policies.acquire(sids)
        for protocol in (_TCP, _UDP):
            self._plane.maps["routes"].set(
                route_key(group.number, port, protocol), slot.to_bytes(4, "little")
            )
        group.paths[port] = sids
        if old:
            self._policies.release(old)
