"""The lab's topology, read from a YAML file and checked completely before anything is built.

A `Topology` object is always valid: `load_topology` raises `TopologyError` with one line per error otherwise.
Nodes have interfaces, links have metrics, and addresses belong to their nodes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2s
from ipaddress import IPv6Address, IPv6Interface, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    StrictInt,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from hawkwing.errors import ConfigError
from hawkwing.yaml_lines import Document, Fault, Place, dotted, problem_lines, read_yaml_file

NAME = re.compile(r"[a-z](?:[a-z0-9-]{0,30}[a-z0-9])?")
INTERFACE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,14}")
RESERVED_INTERFACES = frozenset({"lo", "all", "default"})
DOMAIN_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9_](?:[a-z0-9_-]{0,62})(?:\.[a-z0-9_][a-z0-9_-]{0,62})*")
SERVICE_PREFIX_LENGTH = 48
LINK_PREFIX_LENGTH = 64

Port = Annotated[StrictInt, Field(ge=1, le=65535)]
DomainName = Annotated[str, Field(pattern=DOMAIN_NAME)]


class TopologyError(ValueError):
    """The topology file is invalid; the text has one line per error, each with file, line and key."""


class _FaultsError(ValueError):
    """Errors of a topology as a whole, each with its place."""

    def __init__(self, faults: list[tuple[Place, str]]) -> None:
        super().__init__("\n".join(f"{dotted(place)}: {sentence}" for place, sentence in faults))
        self.faults = faults


class Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True, slots=True)
class Interface:
    """One end of a link, from the view of its node."""

    node: str
    name: str
    address: IPv6Interface
    link: Link
    peer_node: str
    peer_interface: str
    peer_address: IPv6Interface

    @property
    def hardware_address(self) -> str:
        """A locally administered MAC address, the same in every lab of this topology."""
        return _hardware_address(self.node, self.name)

    @property
    def peer_hardware_address(self) -> str:
        return _hardware_address(self.peer_node, self.peer_interface)


def _hardware_address(node: str, interface: str) -> str:
    return ":".join(
        ["02", *(f"{octet:02x}" for octet in blake2s(f"{node}:{interface}".encode()).digest()[:5])]
    )


class Endpoint(Model):
    node: str
    interface: str

    @model_validator(mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            return value
        if not isinstance(value, str) or value.count(":") != 1:
            raise ValueError(f"{value!r} is not of the form 'node:interface'")
        node, interface = value.split(":")
        return {"node": node, "interface": interface}

    @field_validator("interface")
    @classmethod
    def _interface_name(cls, value: str) -> str:
        if not INTERFACE_NAME.fullmatch(value):
            raise ValueError(
                f"interface name {value!r} must be 1 to 15 letters, digits, '-' or '_', "
                "and begin with a letter or digit"
            )
        if value in RESERVED_INTERFACES:
            raise ValueError(f"interface name {value!r} is reserved by the kernel")
        return value

    def __str__(self) -> str:
        return f"{self.node}:{self.interface}"


class Link(Model):
    """A point-to-point link; its metrics are the same in both directions."""

    endpoints: tuple[Endpoint, Endpoint]
    prefix: IPv6Network
    addresses: tuple[IPv6Interface, IPv6Interface]
    igp: Annotated[StrictInt, Field(ge=1, le=0xFFFFFF, description="IGP metric")]
    latency: Annotated[StrictInt, Field(ge=0, description="microseconds")]
    bandwidth: Annotated[StrictInt, Field(ge=1, description="kbit/s")]
    loss: Annotated[StrictInt, Field(ge=0, le=99, description="percent")] = 0

    @field_validator("prefix")
    @classmethod
    def _prefix_length(cls, value: IPv6Network) -> IPv6Network:
        if value.prefixlen != LINK_PREFIX_LENGTH:
            raise ValueError(f"{value} is not a /{LINK_PREFIX_LENGTH}")
        return value

    @field_validator("addresses", mode="before")
    @classmethod
    def _within_prefix(cls, value: Any, info: ValidationInfo) -> Any:
        prefix = info.data.get("prefix")
        if prefix is None or not isinstance(value, list | tuple):
            return value
        return tuple(_address_in(prefix, item) for item in value)

    @model_validator(mode="after")
    def _ends_differ(self) -> Self:
        first, second = self.endpoints
        if first.node == second.node:
            raise ValueError(f"both ends are on {first.node}")
        if self.addresses[0] == self.addresses[1]:
            raise ValueError(f"both ends have address {self.addresses[0].ip}")
        return self

    @property
    def name(self) -> str:
        return f"{self.endpoints[0].node}-{self.endpoints[1].node}"

    @property
    def nodes(self) -> tuple[str, str]:
        return self.endpoints[0].node, self.endpoints[1].node

    def interface(self, node: str) -> Interface:
        """The end of this link on `node`; KeyError if it has none there."""
        if node not in self.nodes:
            raise KeyError(f"{node} is not on link {self.name}")
        here = self.nodes.index(node)
        there = 1 - here
        return Interface(
            node=node,
            name=self.endpoints[here].interface,
            address=self.addresses[here],
            link=self,
            peer_node=self.endpoints[there].node,
            peer_interface=self.endpoints[there].interface,
            peer_address=self.addresses[there],
        )


class Zone(Model):
    """The zone of the lab's DNS server: names of hosts, and aliases."""

    origin: DomainName
    ttl: Annotated[StrictInt, Field(ge=0, le=0x7FFFFFFF)] = 60
    addresses: dict[DomainName, str]
    aliases: dict[DomainName, DomainName] = {}

    @property
    def name_server(self) -> str:
        return f"ns.{self.origin}"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name in (*self.addresses, *self.aliases):
            if not self.contains(name):
                raise ValueError(f"{name} is not in zone {self.origin}")
            if name == self.name_server:
                raise ValueError(f"{name} is the name of the DNS server itself")
        for alias, target in self.aliases.items():
            if alias in self.addresses or alias == self.origin:
                raise ValueError(f"alias {alias} has other records")
            seen = {alias}
            while target in self.aliases:
                if target in seen:
                    raise ValueError(f"alias {alias} is a loop")
                seen.add(target)
                target = self.aliases[target]
            if self.contains(target) and target not in (*self.addresses, self.name_server):
                raise ValueError(f"alias {alias} points to the unknown name {target}")
        return self

    def contains(self, name: str) -> bool:
        return name == self.origin or name.endswith("." + self.origin)


class Dns(Model):
    port: Port = 53
    zone: Zone


class Web(Model):
    port: Port = 80
    text: str


class HawkEye(Model):
    port: Port = 5001


class NodeBase(Model):
    _name: str = PrivateAttr(default="")
    _interfaces: tuple[Interface, ...] = PrivateAttr(default=())

    @property
    def name(self) -> str:
        return self._name

    @property
    def interfaces(self) -> tuple[Interface, ...]:
        """In the order of the links in the file."""
        return self._interfaces

    def interface_to(self, neighbour: str) -> Interface:
        for interface in self._interfaces:
            if interface.peer_node == neighbour:
                return interface
        raise KeyError(f"no link between {self._name} and {neighbour}")

    def _attach(self, name: str, interfaces: tuple[Interface, ...]) -> None:
        self._name = name
        self._interfaces = interfaces


class Host(NodeBase):
    kind: Literal["host"]
    service_address: IPv6Interface
    resolver: str | None = None
    dns: Dns | None = None
    web: Web | None = None
    hawkeye: HawkEye | None = None

    @field_validator("service_address")
    @classmethod
    def _prefix_length(cls, value: IPv6Interface) -> IPv6Interface:
        if value.network.prefixlen != SERVICE_PREFIX_LENGTH:
            raise ValueError(f"{value} is not on a /{SERVICE_PREFIX_LENGTH}")
        return value

    @property
    def address(self) -> IPv6Address:
        return self.service_address.ip

    @property
    def service_prefix(self) -> IPv6Network:
        return self.service_address.network

    @property
    def interface(self) -> Interface:
        """A host's only interface."""
        return self._interfaces[0]

    @property
    def router(self) -> str:
        """The name of the router this host is connected to."""
        return self.interface.peer_node


class Router(NodeBase):
    kind: Literal["router"]
    router: Literal["linux", "vpp"] = "linux"
    loopback: IPv6Interface
    sid: IPv6Address
    flex_algo_sids: dict[Annotated[int, Field(ge=128, le=255)], IPv6Address] = {}
    service_sids: dict[str, IPv6Address] = {}
    #: The block and this router's C-SID of 16 bits (RFC 9800): behaviour End with NEXT-C-SID.
    csid: IPv6Network | None = None

    @field_validator("csid")
    @classmethod
    def _block_and_csid(cls, value: IPv6Network | None) -> IPv6Network | None:
        if value is not None and value.prefixlen not in (32, 48, 64):
            raise ValueError(f"{value} has {value.prefixlen} bits, a block and a C-SID have 32, 48 or 64")
        return value

    @field_validator("loopback")
    @classmethod
    def _prefix_length(cls, value: IPv6Interface) -> IPv6Interface:
        if value.network.prefixlen != 128:
            raise ValueError(f"{value} is not a /128")
        return value

    @property
    def sids(self) -> tuple[IPv6Address, ...]:
        """All SIDs of this router, its End SID first."""
        return self.sid, *self.flex_algo_sids.values(), *self.service_sids.values()


Node = Annotated[Host | Router, Field(discriminator="kind")]


class Topology(Model):
    name: str
    nodes: dict[str, Node]
    links: tuple[Link, ...]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        faults = list(_faults(self))
        if faults:
            raise _FaultsError(faults)
        for name, node in self.nodes.items():
            node._attach(name, tuple(link.interface(name) for link in self.links if name in link.nodes))
        return self

    @property
    def hosts(self) -> tuple[Host, ...]:
        return tuple(node for node in self.nodes.values() if isinstance(node, Host))

    @property
    def routers(self) -> tuple[Router, ...]:
        return tuple(node for node in self.nodes.values() if isinstance(node, Router))

    def host(self, name: str) -> Host:
        node = self.nodes[name]
        if not isinstance(node, Host):
            raise KeyError(f"{name} is not a host")
        return node

    def router(self, name: str) -> Router:
        node = self.nodes[name]
        if not isinstance(node, Router):
            raise KeyError(f"{name} is not a router")
        return node

    def link(self, one: str, other: str) -> Link:
        """The link between two nodes, in either order; KeyError if there is none."""
        return self.nodes[one].interface_to(other).link

    def with_routers(self, kind: Literal["linux", "vpp"]) -> Topology:
        """The same network with all routers of one kind."""
        nodes = {
            name: node.model_copy(update={"router": kind}) if isinstance(node, Router) else node
            for name, node in self.nodes.items()
        }
        return Topology(name=self.name, nodes=nodes, links=self.links)

    def neighbours(self, node: str) -> tuple[str, ...]:
        return tuple(interface.peer_node for interface in self.nodes[node].interfaces)


def load_topology(path: str | Path) -> Topology:
    """Reads the topology from `path`; TopologyError if it is wrong."""
    try:
        document = read_yaml_file(Path(path))
    except ConfigError as error:
        raise TopologyError("\n".join(error.problems)) from error
    if not isinstance(document.data, dict):
        line = document.line_of(())
        raise TopologyError(f"{path}:{line}: must be a mapping with the keys name, nodes and links")
    faults = list(document.faults)
    try:
        topology = Topology.model_validate(document.data)
    except ValidationError as error:
        found = [fault for problem in error.errors() for fault in _faults_of(problem, document)]
        faults += [fault for fault in found if fault.place not in document.unread]
    if faults:
        raise TopologyError("\n".join(problem_lines(Path(path), document, faults, {})))
    return topology


def _address_in(prefix: IPv6Network, text: object) -> IPv6Interface:
    if not isinstance(text, str):
        raise ValueError(f"{text!r} is not an IPv6 address")
    address = IPv6Address(text)
    if int(address) <= int(prefix.hostmask):
        address = prefix[int(address)]
    if address not in prefix:
        raise ValueError(f"{address} is outside {prefix}")
    if address == prefix.network_address:
        raise ValueError(f"{address} is the subnet-router anycast address of {prefix}, use another one")
    return IPv6Interface((address, prefix.prefixlen))


def _faults(topology: Topology) -> Iterator[tuple[Place, str]]:
    yield from _name_faults(topology)
    yield from _endpoint_faults(topology)
    yield from _host_faults(topology)
    yield from _prefix_faults(topology)
    yield from _connection_faults(topology)


def _name_faults(topology: Topology) -> Iterator[tuple[Place, str]]:
    rule = "must be 1 to 32 lower-case letters, digits or '-', and begin with a letter"
    if not NAME.fullmatch(topology.name):
        yield ("name",), f"{topology.name!r} {rule}"
    for name in topology.nodes:
        if not NAME.fullmatch(name):
            yield ("nodes", name), f"name {name!r} {rule}"


def _endpoint_faults(topology: Topology) -> Iterator[tuple[Place, str]]:
    used: dict[str, str] = {}
    pairs: dict[frozenset[str], str] = {}
    for index, link in enumerate(topology.links):
        place: Place = ("links", index)
        key = dotted(place)
        for endpoint in link.endpoints:
            if endpoint.node not in topology.nodes:
                yield (*place, "endpoints"), f"unknown node {endpoint.node!r}"
            elif str(endpoint) in used:
                yield (
                    (*place, "endpoints"),
                    f"interface {endpoint} is already an end of {used[str(endpoint)]}",
                )
            used.setdefault(str(endpoint), key)
        pair = frozenset(link.nodes)
        if pair in pairs:
            yield (*place, "endpoints"), f"the nodes of {link.name} are already connected by {pairs[pair]}"
        pairs.setdefault(pair, key)


def _host_faults(topology: Topology) -> Iterator[tuple[Place, str]]:
    for host_name, node in topology.nodes.items():
        if not isinstance(node, Host):
            continue
        place: Place = ("nodes", host_name)
        links = [link for link in topology.links if host_name in link.nodes]
        if len(links) != 1:
            yield place, f"a host must have one link, this one has {len(links)}"
        for neighbour in {name for link in links for name in link.nodes} - {host_name}:
            if isinstance(topology.nodes.get(neighbour), Host):
                yield place, f"is connected to the host {neighbour} instead of a router"
        if node.resolver is not None:
            resolver = topology.nodes.get(node.resolver)
            if not isinstance(resolver, Host) or resolver.dns is None:
                yield (*place, "resolver"), f"{node.resolver!r} is not a host with a dns service"
        if node.dns is not None:
            for domain, target in node.dns.zone.addresses.items():
                if not isinstance(topology.nodes.get(target), Host):
                    yield (*place, "dns", "zone", "addresses", domain), f"{target!r} is not a host"
        ports = [service.port for service in (node.dns, node.web, node.hawkeye) if service is not None]
        if len(set(ports)) != len(ports):
            yield place, f"two services on port {ports[0]}"


def _prefix_faults(topology: Topology) -> Iterator[tuple[Place, str]]:
    """No two prefixes with routes of their own may overlap."""
    prefixes: list[tuple[IPv6Network, Place]] = []
    for name, node in topology.nodes.items():
        if isinstance(node, Host):
            prefixes.append((node.service_prefix, ("nodes", name, "service_address")))
            continue
        prefixes.append((node.loopback.network, ("nodes", name, "loopback")))
        prefixes.append((IPv6Network(node.sid), ("nodes", name, "sid")))
        for algorithm, sid in node.flex_algo_sids.items():
            prefixes.append((IPv6Network(sid), ("nodes", name, "flex_algo_sids", str(algorithm))))
        for service, sid in node.service_sids.items():
            prefixes.append((IPv6Network(sid), ("nodes", name, "service_sids", service)))
        if node.csid is not None:
            prefixes.append((node.csid, ("nodes", name, "csid")))
    prefixes += [(link.prefix, ("links", index, "prefix")) for index, link in enumerate(topology.links)]
    for position, (prefix, place) in enumerate(prefixes):
        if prefix.is_multicast or prefix.is_loopback or prefix.is_link_local or prefix.is_unspecified:
            yield place, f"{prefix} is not a routable unicast prefix"
        for earlier, earlier_place in prefixes[:position]:
            if prefix == earlier:
                yield place, f"{prefix} is already used by {dotted(earlier_place)}"
            elif prefix.overlaps(earlier) and not (place[-1] == "csid" and place[:2] == earlier_place[:2]):
                yield place, f"{prefix} overlaps {earlier} of {dotted(earlier_place)}"


def _connection_faults(topology: Topology) -> Iterator[tuple[Place, str]]:
    if not topology.nodes:
        yield ("nodes",), "is empty"
        return
    start = next(iter(topology.nodes))
    reached = {start}
    pending = [start]
    while pending:
        here = pending.pop()
        for link in topology.links:
            if here in link.nodes:
                fresh = set(link.nodes) - reached
                reached |= fresh
                pending += fresh
    apart = [name for name in topology.nodes if name not in reached]
    if apart:
        yield ("links",), f"no path from {start} to {', '.join(apart)}"


#: Sentences for errors of the validation library.
_SENTENCES = {"missing": "is missing", "extra_forbidden": "is not a known key"}


def _faults_of(problem: Mapping[str, Any], document: Document) -> Iterator[Fault]:
    whole = problem.get("ctx", {}).get("error")
    if isinstance(whole, _FaultsError):
        yield from (Fault(document.line_of(place), place, sentence) for place, sentence in whole.faults)
        return
    place: Place = tuple(part for part in problem["loc"] if part != "[key]")
    if len(place) > 2 and place[0] == "nodes" and place[2] in ("host", "router"):
        place = (*place[:2], *place[3:])
    sentence = " ".join(problem["msg"].removeprefix("Value error, ").removeprefix("Input ").split())
    yield Fault(document.line_of(place), place, _SENTENCES.get(problem["type"], sentence))
