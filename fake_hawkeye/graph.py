"""The controller's view of the network: link metrics, services and their health, prefixes of hosts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network
from typing import Annotated

import networkx
from pydantic import BaseModel, ConfigDict, Field

from lab.topology import Topology

Whole = Annotated[int, Field(strict=True, ge=0, lt=2**31)]


class Metrics(BaseModel):
    """A link, the same in both directions; `utilization` is the bandwidth in use."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    igp: Annotated[int, Field(strict=True, ge=1, le=0xFFFFFF)]
    latency: Annotated[Whole, Field(description="microseconds")]
    bandwidth: Annotated[int, Field(strict=True, ge=1, lt=2**31, description="kbit/s")]
    loss: Annotated[float, Field(strict=True, ge=0, lt=100, description="percent")] = 0
    jitter: Annotated[Whole, Field(description="microseconds")] = 0
    utilization: Annotated[Whole, Field(description="kbit/s")] = 0
    up: Annotated[bool, Field(strict=True)] = True

    @property
    def available(self) -> int:
        return max(0, self.bandwidth - self.utilization)


@dataclass(frozen=True)
class Service:
    """One instance of a service function."""

    function: str
    router: str
    sid: IPv6Address


class Network:
    """A topology whose links and services change while the controller runs."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self.links = {
            link.name: Metrics(igp=link.igp, latency=link.latency, bandwidth=link.bandwidth, loss=link.loss)
            for link in topology.links
        }
        self.services = {
            Service(function, router.name, sid): True
            for router in topology.routers
            for function, sid in router.service_sids.items()
        }

    def change_link(self, name: str, **changes: object) -> None:
        """Sets metrics of the link `one-other`, also named `other-one`; ValueError if they are invalid."""
        known = self._link_name(name)
        self.links[known] = Metrics.model_validate({**self.links[known].model_dump(), **changes})

    def change_service(self, function: str, router: str, healthy: bool) -> None:
        """Sets the health of an instance; ValueError for an unknown one."""
        for service in self.services:
            if (service.function, service.router) == (function, router):
                self.services[service] = healthy
                return
        raise ValueError(f"unknown service {function!r} at {router!r}")

    def instances(self, function: str) -> dict[str, IPv6Address]:
        """The healthy instances: router and SID."""
        return {
            service.router: service.sid
            for service, healthy in self.services.items()
            if healthy and service.function == function
        }

    def graph(self, algorithm: int | None = None) -> networkx.Graph:
        """Routers and the links between them that are up; with an algorithm, those that support it."""
        graph = networkx.Graph()
        graph.add_nodes_from(
            router.name
            for router in self.topology.routers
            if algorithm is None or algorithm in router.flex_algo_sids
        )
        for link in self.topology.links:
            one, other = link.nodes
            if one in graph and other in graph and self.links[link.name].up:
                graph.add_edge(one, other, metrics=self.links[link.name])
        return graph

    def sid(self, router: str, algorithm: int | None = None) -> IPv6Address:
        """The router's SID, for an algorithm if given."""
        node = self.topology.router(router)
        return node.sid if algorithm is None else node.flex_algo_sids[algorithm]

    def router_of(self, address: IPv6Address) -> str | None:
        """The router that announces the /64 of this address, for a host behind it."""
        network = IPv6Network((int(address) >> 64 << 64, 64))
        return next((router for prefix, router in self.prefixes() if network.subnet_of(prefix)), None)

    def prefixes(self) -> Iterator[tuple[IPv6Network, str]]:
        """The prefixes of hosts and the routers that announce them."""
        for host in self.topology.hosts:
            if self.links[host.interface.link.name].up:
                yield host.service_prefix, host.router
                yield host.interface.link.prefix, host.router

    def _link_name(self, name: str) -> str:
        for link in self.topology.links:
            if name in (link.name, "-".join(reversed(link.nodes))):
                return link.name
        raise ValueError(f"unknown link {name!r}")
