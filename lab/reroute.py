"""Routes of a lab some of whose links failed: computed over those left, changed by difference."""

from __future__ import annotations

from collections.abc import Callable, Collection
from ipaddress import IPv6Network
from typing import Any

import networkx
from pyroute2 import IPRoute

from lab import netns
from lab.build import in_parallel
from lab.linux.router import add_function
from lab.routing import Route, routes
from lab.topology import Host, Node, Router, Topology

_MAIN_TABLE, _AF_INET6, _STATIC = 254, 10, 4
_SEG6LOCAL = 7
#: Where packets go: (gateway or nothing, interface) of each next hop, and whether it is a SID.
_Target = tuple[frozenset[tuple[str | None, int]], bool]


def reroute(topology: Topology, namespace: Callable[[str], str], failed: Collection[str]) -> list[str]:
    """Gives every node the routes it should have with these links failed; the nodes that had others."""
    wanted = remaining_routes(topology, failed)
    ours = routes(topology)
    changed: set[str] = set()

    def settle(name: str) -> None:
        node = topology.nodes[name]
        prefixes = {route.prefix for route in ours[name]} | set(_sids(node))
        if netns.run_inside(namespace(name), lambda: _settle(node, wanted[name], prefixes, failed)):
            changed.add(name)

    in_parallel(settle, topology.nodes)
    return sorted(changed)


def remaining_routes(topology: Topology, failed: Collection[str]) -> dict[str, list[Route]]:
    """Each node's routes over the links that haven't failed; none to what can't be reached any more."""
    graph = networkx.Graph()
    graph.add_nodes_from(topology.nodes)
    graph.add_edges_from(link.nodes for link in topology.links if link.name not in failed)
    table: dict[str, list[Route]] = {name: [] for name in topology.nodes}
    for part in networkx.connected_components(graph):
        if len(part) > 1:
            table.update(routes(_part(topology, part, failed)))
    return table


def _part(topology: Topology, names: Collection[str], failed: Collection[str]) -> Topology:
    """A network of its own; what its hosts serve to others is left out."""
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


def _sids(node: Node) -> list[IPv6Network]:
    return [IPv6Network(sid) for sid in node.sids] if isinstance(node, Router) else []


def _settle(
    node: Node, wanted_routes: list[Route], ours: Collection[IPv6Network], failed: Collection[str]
) -> bool:
    with IPRoute() as ip:
        indexes = {link.get_attr("IFLA_IFNAME"): link["index"] for link in ip.get_links()}
        wanted: dict[IPv6Network, _Target] = {
            route.prefix: (
                frozenset((str(hop.address), indexes[hop.interface]) for hop in route.next_hops),
                False,
            )
            for route in wanted_routes
        }
        # A SID is bound to a device and goes down with it, whichever it is.
        alive = [one.name for one in node.interfaces if one.link.name not in failed]
        for sid in _sids(node) if alive else ():
            wanted[sid] = frozenset({(None, indexes[alive[0]])}), True
        present = _present(ip)
        stale = [prefix for prefix in ours if prefix in present and prefix not in wanted]
        different = {prefix: to for prefix, to in wanted.items() if present.get(prefix) != to}
        for prefix, target in different.items():
            if (
                isinstance(node, Router)
                and prefix.network_address in node.service_sids.values()
                and target[1]
            ):
                add_function(prefix.network_address, alive[0])
                continue
            ip.route("replace", dst=str(prefix), **_arguments(target))
        for prefix in stale:
            ip.route("del", dst=str(prefix))
        return bool(different or stale)


def _present(ip: IPRoute) -> dict[IPv6Network, _Target]:
    """The routes that were set by hand; the kernel's own come and go with addresses."""
    found: dict[IPv6Network, _Target] = {}
    for route in ip.get_routes(family=_AF_INET6, table=_MAIN_TABLE):
        if route["proto"] != _STATIC:
            continue
        prefix = IPv6Network((route.get_attr("RTA_DST") or "::", route["dst_len"]))
        several = route.get_attr("RTA_MULTIPATH")
        hops = (
            [(hop.get_attr("RTA_GATEWAY"), hop["oif"]) for hop in several]
            if several
            else [(route.get_attr("RTA_GATEWAY"), route.get_attr("RTA_OIF"))]
        )
        found[prefix] = frozenset(hops), route.get_attr("RTA_ENCAP_TYPE") == _SEG6LOCAL
    return found


def _arguments(target: _Target) -> dict[str, Any]:
    hops, is_sid = sorted(target[0], key=str), target[1]
    if is_sid:
        return {"oif": hops[0][1], "encap": {"type": "seg6local", "action": "End"}}
    several = [{"gateway": gateway, "oif": index} for gateway, index in hops]
    return several[0] if len(several) == 1 else {"multipath": several}
