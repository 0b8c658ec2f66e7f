import copy
from collections.abc import Callable
from ipaddress import IPv6Address, IPv6Interface, IPv6Network
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from lab.topology import Topology, TopologyError, load_topology

HAWK = Path(__file__).parents[2] / "lab" / "hawk.yaml"

SMALL: dict[str, Any] = {
    "name": "small",
    "nodes": {
        "left": {"kind": "host", "service_address": "fcbb:cc00:1::a/48"},
        "right": {"kind": "host", "service_address": "fcbb:cc00:2::a/48"},
        "r1": {"kind": "router", "loopback": "fcbb:bb00:1::1/128", "sid": "fcbb:bb00:1::2"},
        "r2": {"kind": "router", "loopback": "fcbb:bb00:2::1/128", "sid": "fcbb:bb00:2::2"},
    },
    "links": [
        {
            "endpoints": ends,
            "prefix": f"2001:db8:{number}::/64",
            "addresses": ["::1", "::2"],
            "igp": 10,
            "latency": 1000,
            "bandwidth": 1000,
        }
        for number, ends in enumerate(
            (["left:eth0", "r1:left"], ["r1:r2", "r2:r1"], ["r2:right", "right:eth0"])
        )
    ],
}


@pytest.fixture(scope="module")
def hawk() -> Topology:
    """The development network."""
    return load_topology(HAWK)


def load(tmp_path: Path, change: Callable[[dict[str, Any]], object]) -> Topology:
    document = copy.deepcopy(SMALL)
    change(document)
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return load_topology(path)


def problems(tmp_path: Path, change: Callable[[dict[str, Any]], object]) -> list[str]:
    with pytest.raises(TopologyError) as caught:
        load(tmp_path, change)
    lines = str(caught.value).splitlines()
    file, numbers, found = zip(*(line.split(":", 2) for line in lines), strict=True)
    assert set(file) == {f"{tmp_path}/small.yaml"}
    assert all(int(number) > 0 for number in numbers) and list(numbers) == sorted(numbers, key=int)
    return [line.removeprefix(" ") for line in found]


class TestDevelopmentNetwork:
    def test_nodes(self, hawk: Topology) -> None:
        assert [host.name for host in hawk.hosts] == ["host-a", "host-b", "host-c", "dns", "hawkeye"]
        assert [router.name for router in hawk.routers] == [
            *("site-a", "site-b", "site-c"),
            *(f"vpp{number}" for number in range(1, 7)),
        ]

    def test_addresses_of_hosts(self, hawk: Topology) -> None:
        assert {host.name: str(host.address) for host in hawk.hosts} == {
            "host-a": "fcbb:cc00:1::a",
            "host-b": "fcbb:cc00:2::a",
            "host-c": "fcbb:cc00:3::a",
            "dns": "fcbb:cc00:4::f",
            "hawkeye": "fcbb:cc00:5::f",
        }
        assert hawk.host("host-a").service_prefix == IPv6Network("fcbb:cc00:1::/48")

    def test_addresses_of_routers(self, hawk: Topology) -> None:
        for number in range(1, 7):
            assert hawk.router(f"vpp{number}").sid == IPv6Address(f"fcbb:bb00:{number}::2")
            assert hawk.router(f"vpp{number}").loopback == IPv6Interface(f"fcbb:bb00:{number}::1/128")
        for number, site in enumerate("abc", start=1):
            assert hawk.router(f"site-{site}").sid == IPv6Address(f"fcbb:aa00:{number}::2")
            assert hawk.router(f"site-{site}").loopback == IPv6Interface(f"fcbb:aa00:{number}::1/128")

    @pytest.mark.parametrize(
        ("one", "other", "address", "peer"),
        [
            ("host-a", "site-a", "2001:cafe:a::a/64", "2001:cafe:a::1/64"),
            ("dns", "site-a", "2001:cafe:f::f/64", "2001:cafe:f::1/64"),
            ("site-b", "host-b", "2001:cafe:b::1/64", "2001:cafe:b::b/64"),
            ("site-c", "host-c", "2001:cafe:c::1/64", "2001:cafe:c::c/64"),
            ("site-a", "vpp1", "2001:db8:a1::a/64", "2001:db8:a1::1/64"),
            ("vpp6", "site-b", "2001:db8:b6::6/64", "2001:db8:b6::b/64"),
            ("vpp6", "site-c", "2001:db8:c6::6/64", "2001:db8:c6::c/64"),
            ("vpp4", "hawkeye", "2001:db8:f4::4/64", "2001:db8:f4::f/64"),
            ("vpp1", "vpp2", "2001:db8:12::1/64", "2001:db8:12::2/64"),
            ("vpp1", "vpp3", "2001:db8:13::1/64", "2001:db8:13::3/64"),
            ("vpp2", "vpp4", "2001:db8:24::2/64", "2001:db8:24::4/64"),
            ("vpp3", "vpp5", "2001:db8:35::3/64", "2001:db8:35::5/64"),
            ("vpp4", "vpp6", "2001:db8:46::4/64", "2001:db8:46::6/64"),
            ("vpp5", "vpp6", "2001:db8:56::5/64", "2001:db8:56::6/64"),
        ],
    )
    def test_links(self, hawk: Topology, one: str, other: str, address: str, peer: str) -> None:
        assert hawk.link(one, other) is hawk.link(other, one)
        interface = hawk.nodes[one].interface_to(other)
        assert interface.address == IPv6Interface(address)
        assert interface.peer_address == IPv6Interface(peer)
        assert (interface.node, interface.peer_node) == (one, other)
        assert interface.link.name == f"{interface.link.nodes[0]}-{interface.link.nodes[1]}"

    def test_number_of_links(self, hawk: Topology) -> None:
        assert len(hawk.links) == 14

    def test_interfaces_are_named_after_the_neighbour_and_eth0_on_hosts(self, hawk: Topology) -> None:
        for host in hawk.hosts:
            assert [interface.name for interface in host.interfaces] == ["eth0"]
        for router in hawk.routers:
            assert [interface.name for interface in router.interfaces] == list(hawk.neighbours(router.name))

    def test_the_ring_is_equal_to_the_igp_and_unequal_otherwise(self, hawk: Topology) -> None:
        def branch(*names: str) -> list[Any]:
            return [hawk.link(one, other) for one, other in pairwise(names)]

        upper, lower = branch("vpp1", "vpp2", "vpp4", "vpp6"), branch("vpp1", "vpp3", "vpp5", "vpp6")
        assert {link.igp for link in hawk.links} == {10}
        assert sum(link.latency for link in upper) < sum(link.latency for link in lower)
        assert max(link.bandwidth for link in upper) < min(link.bandwidth for link in lower)
        for link in hawk.links:
            if link not in upper + lower:
                assert max(ring.bandwidth for ring in upper) < link.bandwidth
                assert link.bandwidth < min(ring.bandwidth for ring in lower)

    def test_services(self, hawk: Topology) -> None:
        assert {host.name: host.web.port for host in hawk.hosts if host.web} == {"host-b": 80, "host-c": 8080}
        assert {host.name: host.hawkeye.port for host in hawk.hosts if host.hawkeye} == {"hawkeye": 5001}
        assert [host.name for host in hawk.hosts if host.dns] == ["dns"]
        assert hawk.host("host-a").resolver == "dns"
        assert hawk.host("host-a").router == "site-a"

    def test_look_ups_of_what_is_not_there(self, hawk: Topology) -> None:
        with pytest.raises(KeyError, match="no link between vpp1 and vpp6"):
            hawk.link("vpp1", "vpp6")
        with pytest.raises(KeyError, match="vpp1 is not a host"):
            hawk.host("vpp1")
        with pytest.raises(KeyError, match="dns is not a router"):
            hawk.router("dns")
        with pytest.raises(KeyError, match="vpp6 is not on link vpp1-vpp2"):
            hawk.link("vpp1", "vpp2").interface("vpp6")

    def test_frozen(self, hawk: Topology) -> None:
        with pytest.raises(ValidationError):
            hawk.links[0].igp = 20  # type: ignore[misc]


class TestKindsOfRouters:
    def test_the_kernels_unless_said_otherwise(self, hawk: Topology) -> None:
        assert {router.router for router in hawk.routers} == {"linux"}

    def test_one_of_its_own_kind(self, tmp_path: Path) -> None:
        small = load(tmp_path, lambda document: document["nodes"]["r1"].update(router="vpp"))
        assert (small.router("r1").router, small.router("r2").router) == ("vpp", "linux")

    def test_all_of_one_kind(self, hawk: Topology) -> None:
        changed = hawk.with_routers("vpp")
        assert {router.router for router in changed.routers} == {"vpp"}
        assert [router.name for router in changed.routers] == [router.name for router in hawk.routers]
        assert changed.hosts == hawk.hosts and changed.links == hawk.links
        for router in hawk.routers:
            assert changed.router(router.name).interfaces == router.interfaces
            assert changed.router(router.name).sids == router.sids

    def test_the_original_stays_as_it_was(self, hawk: Topology) -> None:
        before = hawk.model_dump()
        changed = hawk.with_routers("vpp")
        assert hawk.model_dump() == before and changed != hawk
        assert changed.with_routers("linux") == hawk == load_topology(HAWK)


class TestHardwareAddresses:
    def test_of_one_device_and_not_a_manufacturers(self, hawk: Topology) -> None:
        for node in hawk.nodes.values():
            for interface in node.interfaces:
                octets = bytes.fromhex(interface.hardware_address.replace(":", " "))
                assert len(octets) == 6 and interface.hardware_address == octets.hex(":")
                assert octets[0] & 0x01 == 0, "unicast"
                assert octets[0] & 0x02 == 0x02, "locally administered"

    def test_all_different(self, hawk: Topology) -> None:
        interfaces = [interface for node in hawk.nodes.values() for interface in node.interfaces]
        assert len({interface.hardware_address for interface in interfaces}) == len(interfaces) == 28

    def test_both_ends_know_the_same(self, hawk: Topology) -> None:
        for link in hawk.links:
            one, other = (link.interface(node) for node in link.nodes)
            assert one.peer_hardware_address == other.hardware_address
            assert other.peer_hardware_address == one.hardware_address

    def test_the_same_whatever_routers_are_made_of(self, hawk: Topology) -> None:
        interface = hawk.router("vpp1").interface_to("vpp2")
        same = hawk.with_routers("vpp").router("vpp1").interface_to("vpp2")
        assert same.hardware_address == interface.hardware_address


def test_small_loads(tmp_path: Path) -> None:
    small = load(tmp_path, lambda document: None)
    assert small.nodes["r1"].interfaces[1].name == "r2"
    assert small.links[0].loss == 0
    assert small.nodes["left"].interfaces[0].address == IPv6Interface("2001:db8::1/64")


def test_other_sids_of_a_router(tmp_path: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        document["nodes"]["r1"] |= {
            "flex_algo_sids": {128: "fcbb:bb00:1::128"},
            "service_sids": {"fw": "fcbb:bb00:1::f"},
        }

    r1 = load(tmp_path, change).router("r1")
    assert [str(sid) for sid in r1.sids] == ["fcbb:bb00:1::2", "fcbb:bb00:1::128", "fcbb:bb00:1::f"]


def test_an_address_may_be_given_in_full(tmp_path: Path) -> None:
    small = load(tmp_path, lambda d: d["links"][1].update(addresses=["2001:db8:1::7", "::8"]))
    assert [str(address.ip) for address in small.links[1].addresses] == ["2001:db8:1::7", "2001:db8:1::8"]


def dns(zone: dict[str, Any]) -> Callable[[dict[str, Any]], object]:
    return lambda d: d["nodes"]["left"].update(dns={"zone": {"origin": "x.net", "addresses": {}} | zone})


def node(name: str, **values: object) -> Callable[[dict[str, Any]], object]:
    return lambda d: d["nodes"].setdefault(name, {}).update(values)


def link(index: int, **values: object) -> Callable[[dict[str, Any]], object]:
    return lambda d: d["links"][index].update(values)


@pytest.mark.parametrize(
    ("change", "key", "reason"),
    [
        (lambda d: d.update(name="Not Good"), "name", "must be 1 to 32 lower-case letters"),
        (lambda d: d.update(colour="red"), "colour", "is not a known key"),
        (lambda d: d.pop("links"), "links", "is missing"),
        (lambda d: d["nodes"].update({"../up": d["nodes"]["r1"]}), "nodes['../up']", "must be 1 to 32"),
        (node("r1", colour="red"), "nodes.r1.colour", "is not a known key"),
        (node("r1", kind="switch"), "nodes.r1", "'switch'"),
        (node("r1", router="bird"), "nodes.r1.router", "'linux' or 'vpp'"),
        (node("r1", loopback="fcbb:bb00:1::1/64"), "nodes.r1.loopback", "is not a /128"),
        (node("r1", sid="10.0.0.1"), "nodes.r1.sid", "IPv6"),
        (node("r1", sid="fcbb:bb00:2::2"), "nodes.r2.sid", "already used by nodes.r1.sid"),
        (node("r1", sid="fcbb:bb00:2::1"), "nodes.r2.loopback", "already used by nodes.r1.sid"),
        (node("r1", sid="ff02::1"), "nodes.r1.sid", "not a routable unicast"),
        (node("r1", sid="fcbb:cc00:1::2"), "nodes.r1.sid", "overlaps fcbb:cc00:1::/48"),
        (node("r1", flex_algo_sids={1: "fcbb:1::1"}), "nodes.r1.flex_algo_sids.1", "greater than"),
        (node("left", service_address="fcbb:cc00:1::a/64"), "nodes.left.service_address", "is not on a /48"),
        (node("right", service_address="fcbb:cc00:1::b/48"), "nodes.right.service_address", "already used"),
        (node("left", resolver="right"), "nodes.left.resolver", "not a host with a dns service"),
        (node("left", web={"port": 99999, "text": ""}), "nodes.left.web.port", "less than or equal to 65535"),
        (
            node("left", web={"text": "", "port": 1}, hawkeye={"port": 1}),
            "nodes.left",
            "two services on port 1",
        ),
        (dns({"origin": "X NET"}), "nodes.left.dns.zone.origin", "match pattern"),
        (
            dns({"addresses": {"a.x.net": "r1"}}),
            "nodes.left.dns.zone.addresses['a.x.net']",
            "'r1' is not a host",
        ),
        (dns({"addresses": {"a.y.net": "left"}}), "nodes.left.dns.zone", "a.y.net is not in zone x.net"),
        (dns({"addresses": {"ns.x.net": "left"}}), "nodes.left.dns.zone", "name of the DNS server itself"),
        (
            dns({"aliases": {"a.x.net": "b.x.net"}}),
            "nodes.left.dns.zone",
            "points to the unknown name b.x.net",
        ),
        (
            dns({"aliases": {"a.x.net": "b.x.net", "b.x.net": "a.x.net"}}),
            "nodes.left.dns.zone",
            "is a loop",
        ),
        (
            dns({"addresses": {"a.x.net": "left"}, "aliases": {"a.x.net": "ns.x.net"}}),
            "nodes.left.dns.zone",
            "alias a.x.net has other records",
        ),
        (link(0, endpoints=["left:eth0", "r9:left"]), "links[0].endpoints", "unknown node 'r9'"),
        (link(0, endpoints=["left", "r1:left"]), "links[0].endpoints[0]", "'node:interface'"),
        (link(0, endpoints=["left:eth0"]), "links[0].endpoints[1]", "is missing"),
        (link(0, endpoints=["left:eth0", "left:eth1"]), "links[0]", "both ends are on left"),
        (
            link(1, endpoints=["r1:left", "r2:r1"]),
            "links[1].endpoints",
            "r1:left is already an end of links[0]",
        ),
        (link(1, endpoints=["r1:sixteen-letters-", "r2:r1"]), "links[1].endpoints[0].interface", "1 to 15"),
        (link(1, endpoints=["r1:a/b", "r2:r1"]), "links[1].endpoints[0].interface", "'a/b'"),
        (link(1, endpoints=["r1:lo", "r2:r1"]), "links[1].endpoints[0].interface", "reserved"),
        (link(1, prefix="2001:db8:1::/96"), "links[1].prefix", "is not a /64"),
        (link(1, prefix="2001:db8:0::/64"), "links[1].prefix", "already used by links[0].prefix"),
        (link(1, prefix="fcbb:cc00:1::/64"), "links[1].prefix", "overlaps fcbb:cc00:1::/48"),
        (link(1, addresses=["::1", "2001:db8:2::2"]), "links[1].addresses", "2001:db8:2::2 is outside"),
        (link(1, addresses=["::1", "::1"]), "links[1]", "both ends have address 2001:db8:1::1"),
        (link(1, addresses=["::", "::1"]), "links[1].addresses", "anycast"),
        (link(1, addresses=[1, 2]), "links[1].addresses", "1 is not an IPv6 address"),
        (link(1, igp=0), "links[1].igp", "greater than or equal to 1"),
        (link(1, igp="10"), "links[1].igp", "valid integer"),
        (link(1, latency=-1), "links[1].latency", "greater than or equal to 0"),
        (link(1, bandwidth=0), "links[1].bandwidth", "greater than or equal to 1"),
        (link(1, loss=100), "links[1].loss", "less than or equal to 99"),
        (link(1, loss=0.5), "links[1].loss", "valid integer"),
        (lambda d: d["links"].pop(1), "links", "no path from left to right, r2"),
        (lambda d: d["links"].pop(0), "nodes.left", "a host must have one link, this one has 0"),
        (link(2, endpoints=["left:eth1", "right:eth0"]), "nodes.left", "this one has 2"),
        (link(2, endpoints=["left:eth1", "right:eth0"]), "nodes.right", "connected to the host left"),
        (
            lambda d: d["links"].append(
                d["links"][1] | {"endpoints": ["r1:x", "r2:x"], "prefix": "2001:db8:9::/64"}
            ),
            "links[3].endpoints",
            "the nodes of r1-r2 are already connected by links[1]",
        ),
        (lambda d: d.update(nodes={}, links=[]), "nodes", "is empty"),
    ],
)
def test_refused(tmp_path: Path, change: Callable[[dict[str, Any]], object], key: str, reason: str) -> None:
    found = problems(tmp_path, change)
    assert any(line.startswith(f"{key}: ") and reason in line for line in found), found


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        document["links"][0]["igp"] = 0
        document["links"][1]["latency"] = "slow"
        document["nodes"]["r2"]["sid"] = "nonsense"

    assert [line.split(": ")[0] for line in problems(tmp_path, change)] == [
        "nodes.r2.sid",
        "links[0].igp",
        "links[1].latency",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "1: must be a mapping with the keys name, nodes and links"),
        ("- 1\n", "1: must be a mapping with the keys name, nodes and links"),
        ("name: [\n", "1: [ is never closed"),
        ("name: a\nnodes:\n\tx: {}\n", "3: indented with a tab, YAML allows spaces only"),
    ],
)
def test_unusable_files(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(TopologyError) as caught:
        load_topology(path)
    assert str(caught.value) == f"{path}:{said}"


def test_each_problem_has_the_line_of_its_key(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(
        """name: a
name: b
colour: red
nodes:
  left: {kind: host, service_address: "fcbb:cc00:1::a/64"}
  r1:
    kind: router
    loopback: "fcbb:bb00:1::1/128"
    sid: !!python/object:os.system x
links: []
"""
    )
    with pytest.raises(TopologyError) as caught:
        load_topology(path)
    assert [line.removeprefix(f"{path}:") for line in str(caught.value).splitlines()] == [
        "2: name: is given twice, on line 1 and on line 2",
        "3: colour: is not a known key",
        "5: nodes.left.service_address: fcbb:cc00:1::a/64 is not on a /48",
        "9: nodes.r1.sid: has the YAML tag !!python/object:os.system, which is not supported",
    ]


def test_what_is_wrong_between_keys_has_the_line_of_the_second(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(
        """name: a
nodes:
  r1: {kind: router, loopback: "fcbb:bb00:1::1/128", sid: "fcbb:bb00:1::2"}
  r2:
    kind: router
    loopback: "fcbb:bb00:2::1/128"
    sid: "fcbb:bb00:1::2"
links:
  - endpoints: ["r1:r2", "r2:r1"]
    prefix: 2001:db8:1::/64
    addresses: ["::1", "::2"]
    igp: 10
    latency: 10
    bandwidth: 10
"""
    )
    with pytest.raises(TopologyError) as caught:
        load_topology(path)
    assert str(caught.value) == f"{path}:7: nodes.r2.sid: fcbb:bb00:1::2/128 is already used by nodes.r1.sid"


def test_missing_file_and_wrong_encoding(tmp_path: Path) -> None:
    with pytest.raises(TopologyError, match=r"none.yaml: no such file"):
        load_topology(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"name: \xe4\n")
    with pytest.raises(TopologyError, match=r"latin.yaml:1: is not text in UTF-8"):
        load_topology(tmp_path / "latin.yaml")
