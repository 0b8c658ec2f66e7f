"""The stand-in controller's rules on a small network, with costs added up by hand.

         r2 ------ r4            r1-r2 and r2-r4: fast and narrow
        /            \\
  a - r1              r6 - b     r1-r3, r3-r5 and r5-r6: slow and wide
        \\            /
         r3 ------ r5
"""

import math
from collections.abc import Callable
from ipaddress import IPv6Address
from typing import Any

import networkx
import pytest

from fake_hawkeye.graph import Metrics, Network
from fake_hawkeye.paths import Refused
from fake_hawkeye.rules import Computed
from fake_hawkeye.rules_101 import Computed101
from fake_hawkeye.search import Limit, cheapest
from fake_hawkeye.validation import refusal
from hawkwing.controller import intent_pb2 as pb
from hawkwing.intents import Intent, IntentType, PathQuery
from lab.topology import Topology

FAST, WIDE = "r2 r4 r6", "r3 r5 r6"
SOURCE, DESTINATION = IPv6Address("2001:db8:a::a"), IPv6Address("fd00:b::1")
LATENCY, JITTER, LOSS = IntentType.LOW_LATENCY, IntentType.LOW_JITTER, IntentType.LOW_PACKET_LOSS
HIGH, LOW, UTILIZATION = IntentType.HIGH_BANDWIDTH, IntentType.LOW_BANDWIDTH, IntentType.LOW_UTILIZATION


def router(
    number: int, algorithms: tuple[int, ...] = (), services: dict[str, str] | None = None
) -> dict[str, Any]:
    return {
        "kind": "router",
        "loopback": f"fd01:{number}::1/128",
        "sid": f"fd01:{number}::2",
        "flex_algo_sids": {algorithm: f"fd01:{number}::{algorithm}" for algorithm in algorithms},
        "service_sids": services or {},
    }


def link(one: str, other: str, number: int, latency: int, bandwidth: int) -> dict[str, Any]:
    ends = [f"{a}:{'eth0' if a in 'ab' else b}" for a, b in ((one, other), (other, one))]
    return {
        "endpoints": ends,
        "prefix": f"2001:db8:{'a' if one == 'a' else 'b' if other == 'b' else number}::/64",
        "addresses": ["::a", "::1"],
        "igp": 10,
        "latency": latency,
        "bandwidth": bandwidth,
    }


TOPOLOGY = Topology.model_validate(
    {
        "name": "rules",
        "nodes": {
            "a": {"kind": "host", "service_address": "fd00:a::1/48"},
            "b": {"kind": "host", "service_address": "fd00:b::1/48"},
            "r1": router(1, (128, 129)),
            "r2": router(2, (128,), {"fw": "fd01:2::f1"}),
            "r3": router(3, (129,), {"ids": "fd01:3::f2"}),
            "r4": router(4, (128,), {"ids": "fd01:4::f2"}),
            "r5": router(5, (129,), {"fw": "fd01:5::f1"}),
            "r6": router(6, (128, 129), {"nat": "fd01:6::f3"}),
        },
        "links": [
            link("a", "r1", 1, 100, 500),
            link("r1", "r2", 12, 20, 100),
            link("r2", "r4", 24, 30, 120),
            link("r4", "r6", 46, 25, 110),
            link("r1", "r3", 13, 60, 1000),
            link("r3", "r5", 35, 90, 1200),
            link("r5", "r6", 56, 75, 1100),
            link("r6", "b", 6, 100, 500),
        ],
    }
)


def intent(kind: IntentType, **values: Any) -> Intent:
    return Intent(kind, **values)


def sfc(*functions: str) -> Intent:
    return Intent(IntentType.SFC, functions=functions)


def flex(number: int) -> Intent:
    return Intent(IntentType.FLEX_ALGO, flex_algo_number=number)


def query(
    *intents: Intent | IntentType, source: IPv6Address = SOURCE, to: IPv6Address = DESTINATION
) -> PathQuery:
    return PathQuery(source, to, tuple(one if isinstance(one, Intent) else Intent(one) for one in intents))


def sids(names: str) -> tuple[IPv6Address, ...]:
    """`r2 fw@r2 r4/128`: the plain SID, a service's, and one of an algorithm."""
    found = []
    for name in names.split():
        function, _, at = name.rpartition("@")
        node, _, algorithm = at.partition("/")
        made = TOPOLOGY.router(node)
        found.append(
            made.service_sids[function]
            if function
            else made.flex_algo_sids[int(algorithm)]
            if algorithm
            else made.sid
        )
    return tuple(found)


@pytest.fixture
def network() -> Network:
    """The network of the picture; no loss, jitter or utilization."""
    return Network(TOPOLOGY)


@pytest.fixture
def computed(network: Network) -> Computed:
    """The rules over `network`."""
    return Computed(network)


@pytest.fixture
def check(network: Network, request: pytest.FixtureRequest) -> Callable[..., None]:
    """`check(intents, path, cost)`: what is found and what it costs; BOTH: by 1.0.1's rules, too."""
    as_101 = getattr(request, "param", None) == "1.0.1"

    def run(intents: list[Intent | IntentType], path: str, cost: float | None = None) -> None:
        asked = query(*intents)
        if as_101:
            assert Computed101(network).best(asked).sids == sids(path)
            return
        computed = Computed(network)
        found = computed.best(asked)
        assert found.sids == sids(path)
        if cost is not None:
            assert computed.cost(asked, found) == pytest.approx(cost)

    return run


Check = Callable[..., None]
BOTH = pytest.mark.parametrize("check", ["documented", "1.0.1"], indirect=True)


# --- one intent


@BOTH
def test_low_latency_adds_up(check: Check) -> None:
    check([LATENCY], FAST, 20 + 30 + 25)


def test_high_bandwidth_takes_the_widest_available(check: Check, network: Network) -> None:
    check([HIGH], WIDE, 1 / 1000)
    network.change_link("r3-r5", utilization=1150)
    check([HIGH], FAST, 1 / 100)
    network.change_link("r3-r5", utilization=1200)
    network.change_link("r1-r2", utilization=200)
    check([HIGH], FAST, math.inf)


def test_low_bandwidth_takes_the_least_maximum(check: Check, network: Network) -> None:
    check([LOW], FAST, 120)
    network.change_link("r2-r4", bandwidth=1201)
    check([LOW], WIDE, 1200)


@BOTH
def test_low_jitter_and_low_utilization_add_up(check: Check, network: Network) -> None:
    network.change_link("r2-r4", jitter=7, utilization=30)
    network.change_link("r5-r6", jitter=4, utilization=10)
    network.change_link("r1-r3", jitter=2, utilization=15)
    check([JITTER], WIDE, 4 + 2)
    check([UTILIZATION], WIDE, 10 + 15)


@BOTH
def test_low_packet_loss_multiplies_what_arrives(check: Check, network: Network) -> None:
    network.change_link("r1-r2", loss=19)
    network.change_link("r1-r3", loss=10)
    network.change_link("r3-r5", loss=10)
    # 0.9 * 0.9 and 0.81 are the same share: the names decide
    check([LOSS], FAST, -math.log(0.81))
    network.change_link("r1-r2", loss=20)
    check([LOSS], WIDE, -math.log(0.81))


def test_equal_ways_are_told_apart_by_igp_metric_then_by_names(check: Check, network: Network) -> None:
    check([JITTER], FAST, 0)
    network.change_link("r1-r2", igp=11)
    check([JITTER], WIDE, 0)
    check([sfc("nat")], "r3 r5 r6 nat@r6", 30)


# --- several intents


@BOTH
def test_two_metrics_are_weighted_by_their_order(check: Check, network: Network) -> None:
    # latency 20 25 30 60 75 90: quartiles 25 and 75 and so no outliers, the scale is 20 to 90
    network.change_link("r1-r2", jitter=10)
    network.change_link("r2-r4", jitter=10)
    network.change_link("r4-r6", jitter=10)
    fast_latency = 0.00001 + 10 / 70 + 5 / 70
    wide_latency = 40 / 70 + 1 + 55 / 70
    # jitter 0 0 0 10 10 10: the scale is 0 to 10
    fast_jitter, wide_jitter = 3.0, 3 * 0.00001
    fast, wide = 0.7 * fast_latency + 0.3 * fast_jitter, 0.7 * wide_latency + 0.3 * wide_jitter
    assert fast < wide
    check([LATENCY, JITTER], FAST, fast)
    assert 0.7 * fast_jitter + 0.3 * fast_latency > 0.7 * wide_jitter + 0.3 * wide_latency
    check([JITTER, LATENCY], WIDE, 0.7 * wide_jitter + 0.3 * wide_latency)


@BOTH
def test_three_metrics_are_weighted_by_their_order(check: Check, network: Network) -> None:
    network.change_link("r1-r3", jitter=10, loss=1)
    # jitter and loss 0 0 0 0 0 x: quartiles 0 and 0, only 0 is within the fences, and all count as 1
    fast = 0.7 * (0.00001 + 10 / 70 + 5 / 70) + 0.2 * 3 + 0.1 * 3
    check([LATENCY, JITTER, LOSS], FAST, fast)


def test_wide_links_cost_little_where_bandwidth_is_one_of_several(check: Check) -> None:
    # bandwidth 100 110 120 1000 1100 1200, scale 100 to 1200, turned round
    wide = (200 / 1100) + 0.00001 + (100 / 1100)
    latency = 40 / 70 + 1 + 55 / 70
    check([HIGH, LATENCY], WIDE, 0.7 * wide + 0.3 * latency)
    check([LATENCY, HIGH], FAST)


# --- min and max values


@BOTH
def test_a_link_below_the_least_bandwidth_is_none(check: Check, computed: Computed) -> None:
    check([LATENCY, intent(HIGH, min_value=100)], FAST)
    check([LATENCY, intent(HIGH, min_value=101)], WIDE)
    with pytest.raises(Refused, match=r"^No path found from node r1 to node r6$"):
        computed.best(query(intent(HIGH, min_value=1001)))


def test_a_path_beyond_a_max_value_is_none(check: Check, computed: Computed, network: Network) -> None:
    check([intent(LATENCY, max_value=75)], FAST)
    with pytest.raises(Refused, match=r"^No path found from node r1 to node r6$"):
        computed.best(query(intent(LATENCY, max_value=74)))
    for name in ("r1-r2", "r2-r4"):
        network.change_link(name, jitter=5, loss=10)
    check([LATENCY, intent(JITTER, max_value=10)], FAST)
    check([LATENCY, intent(JITTER, max_value=9)], WIDE)
    # two links that lose 10 percent lose 19 together
    check([LATENCY, intent(LOSS, max_value=19)], FAST)
    check([LATENCY, intent(LOSS, max_value=18)], WIDE)


def test_a_dearer_way_to_a_router_is_taken_where_the_cheaper_uses_up_the_limit() -> None:
    graph = networkx.Graph()
    for one, other, latency, jitter in (
        ("s", "m", 1, 5),
        ("s", "x", 1, 0),
        ("x", "m", 1, 0),
        ("m", "t", 1, 3),
    ):
        graph.add_edge(one, other, metrics=Metrics(igp=1, latency=latency, bandwidth=1, jitter=jitter))

    def way(most_jitter: int) -> str:
        limit = Limit(lambda link: link.jitter, most_jitter)
        found = cheapest(graph, "s", "t", (), lambda link: link.latency, [limit])
        return "".join(node for node, _ in found or ())

    assert [way(most) for most in (8, 7, 3, 2)] == ["smt", "sxmt", "sxmt", ""]


# --- flexible algorithms and services


@BOTH
def test_an_algorithm_has_its_own_routers_and_sids(check: Check, computed: Computed) -> None:
    check([flex(128)], "r2/128 r4/128 r6/128", 30)
    check([flex(129), intent(LATENCY)], "r3/129 r5/129 r6/129", 60 + 90 + 75)
    with pytest.raises(Refused, match=r"^No path found from node r1 to node r6$"):
        computed.best(query(flex(130)))


def test_a_services_sid_comes_right_after_its_routers(check: Check) -> None:
    check([sfc("fw")], "r2 fw@r2 r4 r6", 30)
    check([sfc("fw"), HIGH], "r3 r5 fw@r5 r6", 1 / 1000)
    check([sfc("fw"), flex(129)], "r3/129 r5/129 fw@r5 r6/129", 30)


def test_the_order_of_functions_is_kept(check: Check) -> None:
    check([sfc("fw", "ids")], "r2 fw@r2 r4 ids@r4 r6", 30)
    check([sfc("ids", "fw")], "r3 ids@r3 r5 fw@r5 r6", 30)
    # on to ids at r4 and back to fw at r2, which is faster than by r3 and r5
    check([sfc("ids", "fw"), LATENCY], "r2 r4 ids@r4 r2 fw@r2 r4 r6", 20 + 30 + 30 + 30 + 25)


def test_two_functions_at_one_router_share_its_sid() -> None:
    nodes = {name: node.model_copy() for name, node in TOPOLOGY.nodes.items()}
    services = {"fw": IPv6Address("fd01:2::f1"), "ids": IPv6Address("fd01:2::f2")}
    nodes["r2"] = TOPOLOGY.router("r2").model_copy(update={"service_sids": services})
    topology = Topology(name="two", nodes=nodes, links=TOPOLOGY.links)
    found = Computed(Network(topology)).best(query(sfc("ids", "fw"), LATENCY))
    assert found.sids == (*sids("r2"), services["ids"], services["fw"], *sids("r4 r6"))


def test_a_service_at_the_sources_own_router_has_that_routers_sid_before_it(computed: Computed) -> None:
    back = computed.best(query(sfc("nat"), source=DESTINATION, to=SOURCE))
    assert back.sids == sids("r6 nat@r6 r4 r2 r1")


@BOTH
def test_an_unhealthy_instance_is_passed_over(check: Check, computed: Computed, network: Network) -> None:
    network.change_service("fw", "r2", False)
    check([sfc("fw")], "r3 r5 fw@r5 r6", 30)
    network.change_service("fw", "r5", False)
    with pytest.raises(Refused, match=r"^No SIDs found for service: fw$"):
        computed.best(query(sfc("ids", "fw")))
    network.change_service("fw", "r5", True)
    check([sfc("fw")], "r3 r5 fw@r5 r6", 30)


# --- who is where


@pytest.mark.parametrize("address", ["2001:db8:a::77", "fd00:a::1", "fd00:a:0:9::1"])
def test_a_host_is_found_by_the_prefix_of_its_address(computed: Computed, address: str) -> None:
    assert computed.path(query(LATENCY, source=IPv6Address(address))) == sids(FAST)


def test_hosts_of_one_router_need_no_sids(computed: Computed) -> None:
    assert computed.path(query(LATENCY, to=IPv6Address("fd00:a::1"))) == ()
    assert computed.path(query(HIGH, to=IPv6Address("fd00:a::1"))) == ()


def test_an_unknown_prefix_is_refused(computed: Computed, network: Network) -> None:
    with pytest.raises(Refused, match=r"^Router ID not found for Source IP: 2001:db8:99::$"):
        computed.path(query(LATENCY, source=IPv6Address("2001:db8:99::1")))
    network.change_link("r6-b", up=False)
    with pytest.raises(Refused, match=r"^Router ID not found for Destination IP: fd00:b::$"):
        computed.path(query(LATENCY))


# --- when a new path is worth a push


def test_a_path_is_left_only_for_one_below_nine_tenths_of_its_cost(
    computed: Computed, network: Network
) -> None:
    asked = query(LATENCY)
    old = computed.best(asked)
    network.change_link("r1-r2", latency=194)
    # 194 + 30 + 25 = 249, nine tenths are 224.1: 225 is not below
    assert computed.better(asked, old) is None
    network.change_link("r1-r2", latency=195)
    # 250, and 225 is its nine tenths to the point
    assert computed.better(asked, old) is None
    network.change_link("r1-r2", latency=196)
    new = computed.better(asked, old)
    assert new is not None
    assert new.sids == sids(WIDE)


def test_a_wider_path_counts_as_cheaper(computed: Computed, network: Network) -> None:
    asked = query(HIGH)
    old = computed.best(asked)
    network.change_link("r1-r3", bandwidth=91)
    assert computed.better(asked, old) is None
    network.change_link("r1-r3", bandwidth=89)
    new = computed.better(asked, old)
    assert new is not None
    assert new.sids == sids(FAST)


def test_a_broken_path_is_left_at_any_cost(computed: Computed, network: Network) -> None:
    asked = query(LATENCY)
    old = computed.best(asked)
    network.change_link("r6-r4", up=False)
    new = computed.better(asked, old)
    assert new is not None
    assert new.sids == sids(WIDE)
    with pytest.raises(ValueError, match="broken"):
        computed.cost(asked, old)
    network.change_link("r5-r6", up=False)
    with pytest.raises(Refused, match=r"^No path found"):
        computed.better(asked, new)


def test_a_path_beyond_its_values_or_with_a_sick_service_is_broken(
    computed: Computed, network: Network
) -> None:
    limited, chained = query(LATENCY, intent(JITTER, max_value=5)), query(sfc("fw"))
    first, second = computed.best(limited), computed.best(chained)
    network.change_link("r1-r2", jitter=6)
    network.change_service("fw", "r2", False)
    for asked, old, path in ((limited, first, WIDE), (chained, second, "r3 r5 fw@r5 r6")):
        new = computed.better(asked, old)
        assert new is not None
        assert new.sids == sids(path)


# --- changes of the network


@pytest.mark.parametrize(
    ("name", "changes", "fault"),
    [
        ("r1-r9", {"latency": 1}, "unknown link 'r1-r9'"),
        ("r1-r2", {"latency": -1}, "greater than or equal to 0"),
        ("r1-r2", {"bandwidth": 0}, "greater than or equal to 1"),
        ("r1-r2", {"loss": 100}, "less than 100"),
        ("r1-r2", {"up": "no"}, "valid boolean"),
        ("r1-r2", {"colour": 1}, "Extra inputs are not permitted"),
    ],
)
def test_a_wrong_change_of_a_link_changes_nothing(
    network: Network, name: str, changes: dict[str, Any], fault: str
) -> None:
    before = dict(network.links)
    with pytest.raises(ValueError, match=fault):
        network.change_link(name, **changes)
    assert network.links == before


def test_an_unknown_service_is_an_error(network: Network) -> None:
    with pytest.raises(ValueError, match="unknown service 'fw' at 'r1'"):
        network.change_service("fw", "r1", False)


# --- refusals


def value(kind: str, number: int = 0, text: str = "") -> pb.Value:
    return pb.Value(type=f"VALUE_TYPE_{kind}", number_value=number, string_value=text)


def request(
    *intents: tuple[str, list[pb.Value]], source: str = str(SOURCE), to: str = str(DESTINATION)
) -> pb.PathRequest:
    made = [pb.Intent(type=f"INTENT_TYPE_{kind}", values=values) for kind, values in intents]
    return pb.PathRequest(ipv6_source_address=source, ipv6_destination_address=to, intents=made)


FINE = ("LOW_LATENCY", [value("MAX_VALUE", 5)])


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (request(), "At least one intent should be provided"),
        (request(FINE, FINE), "Intent type LowLatency appears more than once"),
        (request(("UNSPECIFIED", [])), "Intent type unspecified"),
        (request(("LOW_LATENCY", [value("UNSPECIFIED", 1)])), "Value type unspecified"),
        (request(FINE, source="10.0.0.1"), "Ipv6SourceAddress' failed on the 'ipv6' tag"),
        (request(FINE, to="::ffff:10.0.0.1"), "Ipv6DestinationAddress' failed on the 'ipv6' tag"),
        (request(FINE, to="fe80::1%eth0"), "Ipv6DestinationAddress' failed on the 'ipv6' tag"),
        (request(FINE, source=""), "Ipv6SourceAddress' failed on the 'required' tag"),
        (request(("LOW_LATENCY", [value("MAX_VALUE", 0)])), "NumberValue' failed on the 'required' tag"),
        (request(("LOW_LATENCY", [value("MAX_VALUE", -1)])), "NumberValue' failed on the 'min' tag"),
        (request(("LOW_LATENCY", [pb.Value(type="VALUE_TYPE_MAX_VALUE")])), "Number value was not provided"),
        (request(("FLEX_ALGO", [])), "exact one VALUE_TYPE_FLEX_ALGO_NR"),
        (request(("FLEX_ALGO", [value("FLEX_ALGO_NR", 128)] * 2)), "exact one VALUE_TYPE_FLEX_ALGO_NR"),
        (request(("FLEX_ALGO", [value("MAX_VALUE", 128)])), "of type VALUE_TYPE_FLEX_ALGO_NR"),
        (request(("FLEX_ALGO", [value("FLEX_ALGO_NR", 127)])), "between 128 and 255"),
        (request(("FLEX_ALGO", [value("FLEX_ALGO_NR", 256)])), "between 128 and 255"),
        (request(("SFC", [])), "at least one VALUE_TYPE_SERVICE_FUNCTION_CHAIN"),
        (request(("SFC", [value("SFC", text="fw")] * 2)), "value fw appears more than once"),
        (request(("HIGH_BANDWIDTH", [value("MAX_VALUE", 5)])), "Max value is only allowed"),
        (request(("LOW_BANDWIDTH", [value("MIN_VALUE", 5)])), "Min value is only allowed"),
        (request(("LOW_UTILIZATION", [value("MAX_VALUE", 5)])), "Max value is only allowed"),
        (request(("LOW_LATENCY", [value("MIN_VALUE", 5)])), "Min value is only allowed"),
    ],
)
def test_hawkeye_refuses(wrong: pb.PathRequest, text: str) -> None:
    assert text in (refusal(wrong) or "")


@pytest.mark.parametrize(
    "fine",
    [
        request(FINE, ("LOW_JITTER", []), ("LOW_PACKET_LOSS", [value("MAX_VALUE", 1)])),
        request(("HIGH_BANDWIDTH", [value("MIN_VALUE", 1)])),
        request(("SFC", [value("SFC", text="fw"), value("SFC", text="ids")])),
        request(("FLEX_ALGO", [value("FLEX_ALGO_NR", 128)])),
        request(("FLEX_ALGO", [value("FLEX_ALGO_NR", 255)]), FINE),
    ],
)
def test_hawkeye_takes(fine: pb.PathRequest) -> None:
    assert refusal(fine) is None


def test_a_wrong_query_is_refused_before_a_path_is_sought(computed: Computed) -> None:
    with pytest.raises(Refused, match="between 128 and 255"):
        computed.path(query(flex(1)))
