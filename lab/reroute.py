"""Routes of a lab with failed links: computed without these links, and changed where they differ."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import networkx

from lab import netns
from lab.build import in_parallel
from lab.kinds import NodeKind
from lab.routing import Route, routes
from lab.topology import Host, Topology


def reroute(
    topology: Topology,
    namespace: Callable[[str], str],
    kinds: Mapping[str, NodeKind],
    failed: Collection[str],
) -> list[str]:
    """Updates the routes of all nodes for these failed links; returns the nodes with changes."""
    wanted = remaining_routes(topology, failed)
    ours = routes(topology)
    changed: set[str] = set()

    def settle(name: str) -> None:
        prefixes = {route.prefix for route in ours[name]}
        if netns.run_inside(namespace(name), lambda: kinds[name].settle(wanted[name], prefixes, failed)):
            changed.add(name)

    in_parallel(settle, topology.nodes)
    return sorted(changed)


def remaining_routes(topology: Topology, failed: Collection[str]) -> dict[str, list[Route]]:
    """Each node's routes without the failed links; unreachable prefixes have none."""
    graph = networkx.Graph()
    graph.add_nodes_from(topology.nodes)
    graph.add_edges_from(link.nodes for link in topology.links if link.name not in failed)
    table: dict[str, list[Route]] = {name: [] for name in topology.nodes}
    for part in networkx.connected_components(graph):
        if len(part) > 1:
            table.update(routes(_part(topology, part, failed)))
    return table


def _part(topology: Topology, names: Collection[str], failed: Collection[str]) -> Topology:
    """One connected part of the topology, without DNS."""
    links = [
        link
        for link in topology.links
        if link.name not in failed and all(node in names for node in link.nodes)
    ]
    nodes = {
        name: node.model_copy(update={"resolver": None, "dns": None} if isinstance(node, Host) else {})
        for name, node in topology.nodes.items()
        if name in names
    }
    return Topology(name=topology.name, nodes=nodes, links=tuple(links))
