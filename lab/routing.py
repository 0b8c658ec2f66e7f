"""Static routes for every node of a topology: shortest paths by IGP metric, with all equal-cost next hops."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network

import networkx

from lab.topology import Host, Topology

DEFAULT = IPv6Network("::/0")


@dataclass(frozen=True, slots=True)
class NextHop:
    address: IPv6Address | None
    interface: str


@dataclass(frozen=True, slots=True)
class Route:
    prefix: IPv6Network
    next_hops: tuple[NextHop, ...]


def routes(topology: Topology) -> dict[str, list[Route]]:
    """Each node's routes to prefixes it is not connected to, sorted by prefix; next hops sorted by address.

    A host only has a default route. A node's own prefixes (loopback, SIDs, links) are not included.
    """
    graph = _graph(topology)
    table: dict[str, list[Route]] = {name: [] for name in topology.nodes}
    for prefix, owners in sorted(_prefixes(topology)):
        cost: dict[str, int] = networkx.multi_source_dijkstra_path_length(graph, set(owners), weight="igp")
        for router in topology.routers:
            if router.name not in owners:
                table[router.name].append(Route(prefix, _next_hops(topology, router.name, cost)))
    for host in topology.hosts:
        uplink = host.interface
        table[host.name] = [Route(DEFAULT, (NextHop(uplink.peer_address.ip, uplink.name),))]
    return table


def _graph(topology: Topology) -> networkx.Graph:
    graph = networkx.Graph()
    graph.add_nodes_from(topology.nodes)
    for link in topology.links:
        graph.add_edge(*link.nodes, igp=link.igp)
    return graph


def _prefixes(topology: Topology) -> Iterator[tuple[IPv6Network, tuple[str, ...]]]:
    """Every prefix with the nodes it is attached to."""
    for name, node in topology.nodes.items():
        if isinstance(node, Host):
            yield node.service_prefix, (name,)
            continue
        yield node.loopback.network, (name,)
        for sid in node.sids:
            yield IPv6Network(sid), (name,)
        if node.csid is not None:
            yield node.csid, (name,)
    for link in topology.links:
        yield link.prefix, link.nodes


def _next_hops(topology: Topology, node: str, cost: dict[str, int]) -> tuple[NextHop, ...]:
    hops = [
        NextHop(interface.peer_address.ip, interface.name)
        for interface in topology.nodes[node].interfaces
        if interface.link.igp + cost[interface.peer_node] == cost[node]
    ]
    return tuple(sorted(hops, key=lambda hop: (hop.address or IPv6Address(0), hop.interface)))
