from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.routing import NextHop, Route, routes
from lab.topology import Topology, load_topology

HAWK = Path(__file__).parents[2] / "lab" / "hawk.yaml"


@pytest.fixture(scope="module")
def hawk() -> Topology:
    """The development network."""
    return load_topology(HAWK)


@pytest.fixture(scope="module")
def table(hawk: Topology) -> dict[str, list[Route]]:
    """The development network's routes."""
    return routes(hawk)


def via(table: dict[str, list[Route]], node: str, prefix: str) -> list[str] | None:
    """The interfaces `node` uses towards `prefix`; None without a route."""
    found = [route for route in table[node] if route.prefix == IPv6Network(prefix)]
    assert len(found) <= 1
    return [hop.interface for hop in found[0].next_hops] if found else None


def walks(topology: Topology, table: dict[str, list[Route]], start: str, target: IPv6Address) -> set[str]:
    """Where packets for `target` end up, taking every next hop; fails on a loop or a missing route."""
    ends, pending = set(), [(start, 0)]
    while pending:
        here, steps = pending.pop()
        assert steps <= len(topology.nodes), f"loop towards {target}"
        node = topology.nodes[here]
        local = [interface for interface in node.interfaces if target in interface.address.network]
        if local or owns(topology, here, target):
            ends.add(here)
            continue
        matches = [route for route in table[here] if target in route.prefix]
        assert matches, f"{here} has no route to {target}"
        best = max(matches, key=lambda route: route.prefix.prefixlen)
        for hop in best.next_hops:
            interface = next(found for found in node.interfaces if found.name == hop.interface)
            assert interface.peer_address.ip == hop.address
            pending.append((interface.peer_node, steps + 1))
    return ends


def owns(topology: Topology, name: str, address: IPv6Address) -> bool:
    if name in (host.name for host in topology.hosts):
        return address in topology.host(name).service_prefix
    router = topology.router(name)
    return address in (router.loopback.ip, *router.sids)


def test_two_equal_paths_across_the_ring(table: dict[str, list[Route]]) -> None:
    for prefix in ("fcbb:cc00:2::/48", "fcbb:bb00:6::2/128", "fcbb:aa00:3::1/128", "2001:db8:b6::/64"):
        assert via(table, "vpp1", prefix) == ["vpp2", "vpp3"]
    for prefix in ("fcbb:cc00:1::/48", "fcbb:bb00:1::2/128"):
        assert via(table, "vpp6", prefix) == ["vpp4", "vpp5"]


def test_one_path_along_a_branch(table: dict[str, list[Route]]) -> None:
    assert via(table, "vpp1", "fcbb:bb00:2::2/128") == ["vpp2"]
    assert via(table, "vpp1", "fcbb:bb00:4::2/128") == ["vpp2"]
    assert via(table, "vpp2", "fcbb:cc00:2::/48") == ["vpp4"]
    assert via(table, "vpp2", "fcbb:bb00:5::2/128") == ["vpp1", "vpp4"]
    assert via(table, "vpp1", "fcbb:cc00:5::/48") == ["vpp2"]


def test_a_links_far_end_is_not_preferred(table: dict[str, list[Route]]) -> None:
    assert via(table, "vpp1", "2001:db8:46::/64") == ["vpp2"]
    assert via(table, "vpp1", "2001:db8:56::/64") == ["vpp3"]


def test_a_hosts_service_prefix_is_attached_at_its_router(table: dict[str, list[Route]]) -> None:
    expected = Route(IPv6Network("fcbb:cc00:1::/48"), (NextHop(IPv6Address("2001:cafe:a::a"), "host-a"),))
    assert expected in table["site-a"]


def test_hosts_have_a_default_route_only(table: dict[str, list[Route]]) -> None:
    assert table["host-b"] == [Route(IPv6Network("::/0"), (NextHop(IPv6Address("2001:cafe:b::1"), "eth0"),))]
    assert table["hawkeye"] == [Route(IPv6Network("::/0"), (NextHop(IPv6Address("2001:db8:f4::4"), "eth0"),))]


def test_own_and_connected_prefixes_have_no_route(hawk: Topology, table: dict[str, list[Route]]) -> None:
    for router in hawk.routers:
        prefixes = {route.prefix for route in table[router.name]}
        assert router.loopback.network not in prefixes
        assert IPv6Network(router.sid) not in prefixes
        assert not prefixes & {interface.link.prefix for interface in router.interfaces}


def test_every_router_has_a_route_to_everything_else(hawk: Topology, table: dict[str, list[Route]]) -> None:
    sids = sum(len(router.sids) for router in hawk.routers)
    csids = sum(router.csid is not None for router in hawk.routers)
    everything = len(hawk.routers) + sids + csids + len(hawk.hosts) + len(hawk.links)
    for router in hawk.routers:
        own = 1 + len(router.sids) + (router.csid is not None) + len(router.interfaces)
        assert len(table[router.name]) == everything - own


def test_every_address_is_reached_from_everywhere(hawk: Topology, table: dict[str, list[Route]]) -> None:
    targets = {host.name: [host.address] for host in hawk.hosts}
    targets |= {router.name: [router.loopback.ip, router.sid] for router in hawk.routers}
    for start in hawk.nodes:
        for owner, addresses in targets.items():
            for address in addresses:
                assert walks(hawk, table, start, address) == {owner}
        for link in hawk.links:
            for end in link.addresses:
                assert walks(hawk, table, start, end.ip) <= set(link.nodes)


def test_same_order_every_time_and_sorted(hawk: Topology, table: dict[str, list[Route]]) -> None:
    assert routes(hawk) == table
    assert list(table) == list(hawk.nodes)
    for found in table.values():
        assert found == sorted(found, key=lambda route: route.prefix)


def changed(tmp_path: Path, **links: dict[str, int]) -> Topology:
    """The development network with other metrics on some links."""
    document: dict[str, Any] = yaml.safe_load(HAWK.read_text())
    topology = load_topology(HAWK)
    for name, metrics in links.items():
        index = next(i for i, link in enumerate(topology.links) if link.name == name.replace("_", "-"))
        document["links"][index] |= metrics
    path = tmp_path / "changed.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return load_topology(path)


def test_a_higher_metric_moves_the_path(tmp_path: Path) -> None:
    table = routes(changed(tmp_path, vpp1_vpp2={"igp": 11}))
    assert via(table, "vpp1", "fcbb:cc00:2::/48") == ["vpp3"]
    assert via(table, "vpp2", "fcbb:cc00:1::/48") == ["vpp1"]


def test_latency_and_bandwidth_do_not_move_the_path(tmp_path: Path) -> None:
    table = routes(changed(tmp_path, vpp1_vpp2={"latency": 900000, "bandwidth": 1}))
    assert via(table, "vpp1", "fcbb:cc00:2::/48") == ["vpp2", "vpp3"]


def test_the_long_way_round_an_expensive_link(tmp_path: Path) -> None:
    table = routes(changed(tmp_path, vpp2_vpp4={"igp": 100}))
    assert via(table, "vpp2", "fcbb:bb00:4::2/128") == ["vpp1"]
    assert via(table, "vpp2", "2001:db8:24::/64") is None
