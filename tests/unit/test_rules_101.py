"""What the calculations of HawkEye 1.0.1 do otherwise; the network is that of test_path_rules.

         r2 ------ r4            r1-r2 and r2-r4: fast and narrow
        /            \\
  a - r1              r6 - b     r1-r3, r3-r5 and r5-r6: slow and wide
        \\            /
         r3 ------ r5
"""

from collections.abc import Callable, Sequence
from ipaddress import IPv6Address

import pytest

from fake_hawkeye.crash import CrashError
from fake_hawkeye.graph import Network
from fake_hawkeye.paths import Refused, Table
from fake_hawkeye.rules_101 import Computed101, Sessions101
from hawkwing.intents import Intent, IntentType
from lab.topology import Topology

from .test_path_rules import (
    FAST,
    HIGH,
    JITTER,
    LATENCY,
    LOSS,
    LOW,
    SOURCE,
    TOPOLOGY,
    UTILIZATION,
    WIDE,
    flex,
    intent,
    query,
    sfc,
    sids,
)

NO_PATH = "failed to calculate path result: No path found from node r1 to node r6"


@pytest.fixture
def network() -> Network:
    return Network(TOPOLOGY)


@pytest.fixture
def computed(network: Network) -> Computed101:
    return Computed101(network)


Check = Callable[[Sequence[Intent | IntentType], str], None]


@pytest.fixture
def check(computed: Computed101) -> Check:
    def run(intents: Sequence[Intent | IntentType], path: str) -> None:
        assert computed.path(query(*intents)) == sids(path)

    return run


# --- crashes


@pytest.mark.parametrize(
    "intents",
    [
        [sfc("fw"), flex(128)],
        [flex(200)],
        [flex(128), HIGH],
        [sfc("ids"), flex(128), HIGH],
        [sfc("nat")],  # at the destination's router
        [sfc("fw", "fw2")],  # one after the other at one router
    ],
    ids=str,
)
def test_a_query_crashes_it(intents: list[Intent | IntentType]) -> None:
    nodes = {name: node.model_copy() for name, node in TOPOLOGY.nodes.items()}
    services = {"fw": IPv6Address("fd01:2::f1"), "fw2": IPv6Address("fd01:2::f2")}
    nodes["r2"] = TOPOLOGY.router("r2").model_copy(update={"service_sids": services})
    network = Network(Topology(name="two", nodes=nodes, links=TOPOLOGY.links))
    with pytest.raises(CrashError):
        Computed101(network).path(query(*intents))


def test_source_and_destination_at_one_router_crash_it(computed: Computed101) -> None:
    with pytest.raises(CrashError, match="from r1 to itself"):
        computed.path(query(LATENCY, to=IPv6Address("fd00:a::1")))


def test_a_service_at_the_sources_router_crashes_it(computed: Computed101) -> None:
    back = query(sfc("nat"), source=IPv6Address("fd00:b::1"), to=SOURCE)
    with pytest.raises(CrashError, match="from r6 to itself"):
        computed.path(back)


def test_a_source_outside_the_algorithm_crashes_it() -> None:
    nodes = {name: node.model_copy() for name, node in TOPOLOGY.nodes.items()}
    nodes["r1"] = TOPOLOGY.router("r1").model_copy(update={"flex_algo_sids": {}})
    computed = Computed101(Network(Topology(name="out", nodes=nodes, links=TOPOLOGY.links)))
    with pytest.raises(CrashError, match="r1 is not in the algorithm"):
        computed.path(query(flex(128), LATENCY))


@pytest.mark.parametrize(
    "intents", [[sfc("fw"), flex(128), LATENCY], [flex(128), LOW], [flex(129), JITTER, HIGH]]
)
def test_their_neighbours_do_not(computed: Computed101, intents: list[Intent | IntentType]) -> None:
    assert computed.path(query(*intents))


# --- what is ignored, or taken the wrong way round


def test_the_max_value_of_a_single_metric_is_ignored(check: Check, computed: Computed101) -> None:
    check([intent(LATENCY, max_value=1)], FAST)
    check([flex(128), intent(LATENCY, max_value=1)], "r2/128 r4/128 r6/128")
    with pytest.raises(Refused, match=NO_PATH):
        computed.path(query(intent(LATENCY, max_value=1), JITTER))
    check([intent(LATENCY, max_value=75), JITTER], FAST)


def test_wide_links_are_dear_where_bandwidth_is_one_of_several(check: Check) -> None:
    check([HIGH, LATENCY], FAST)
    check([HIGH, intent(LATENCY, max_value=225), JITTER], FAST)


def test_low_bandwidth_and_low_utilization_weigh_nothing_in_a_combination(
    check: Check, network: Network
) -> None:
    network.change_link("r2-r4", utilization=100)
    check([UTILIZATION, LATENCY], FAST)
    network.change_link("r2-r4", bandwidth=5000)
    check([LOW, LATENCY], FAST)


def test_low_bandwidth_takes_a_path_with_the_smallest_link(check: Check, network: Network) -> None:
    network.change_link("r2-r4", bandwidth=9000)
    check([LOW], FAST)


def test_a_full_link_is_none(computed: Computed101, network: Network) -> None:
    network.change_link("r3-r5", utilization=1200)
    network.change_link("r1-r2", utilization=200)
    with pytest.raises(Refused, match=NO_PATH):
        computed.path(query(HIGH))


def test_a_services_sid_comes_at_each_pass_of_its_router(check: Check) -> None:
    check([sfc("ids", "fw"), LATENCY], "r2 fw@r2 r4 ids@r4 r2 fw@r2 r4 ids@r4 r6")


# --- who is where


@pytest.mark.parametrize(("address", "found"), [("fd00:a::77", True), ("fd00:a:0:9::1", False)])
def test_an_address_is_found_by_the_text_of_its_64(computed: Computed101, address: str, found: bool) -> None:
    asked = query(LATENCY, source=IPv6Address(address))
    if found:
        assert computed.path(asked) == sids(FAST)
        return
    problem = "failed to calculate path result: Router ID not found for Source IP: fd00:a:0:9::"
    with pytest.raises(Refused, match=problem):
        computed.path(asked)


def test_a_service_that_no_router_has_is_refused(computed: Computed101) -> None:
    with pytest.raises(Refused) as caught:
        computed.path(query(sfc("spam")))
    assert str(caught.value) == (
        "failed to calculate path result: error setting up service function chain: "
        "Error getting service SIDs: No SIDs found for service: spam"
    )


# --- when a new path is pushed


def test_a_wider_path_is_not_pushed_but_a_broken_one_is_replaced(
    computed: Computed101, network: Network
) -> None:
    old = computed.best(query(HIGH))
    network.change_link("r3-r5", utilization=1150)
    assert computed.best(query(HIGH)).sids == sids(FAST)
    assert computed.better(query(HIGH), old) is None
    network.change_link("r3-r5", up=False)
    new = computed.better(query(HIGH), old)
    assert new is not None and new.sids == sids(FAST)


def test_a_path_that_breaks_its_own_values_is_kept(computed: Computed101, network: Network) -> None:
    asked = query(intent(LATENCY, max_value=100), JITTER)
    old = computed.best(asked)
    assert old.sids == sids(FAST)
    network.change_link("r2-r4", latency=56)
    with pytest.raises(Refused, match=r"^No path found"):
        computed.better(asked, old)
    for name in ("r1-r3", "r3-r5", "r5-r6"):
        network.change_link(name, latency=30, jitter=100)
    assert computed.best(asked).sids == sids(WIDE)
    assert computed.better(asked, old) is None


def test_low_packet_loss_moves_on_a_tie(computed: Computed101, network: Network) -> None:
    for name in ("r1-r2", "r1-r3"):
        network.change_link(name, loss=2)
    asked = query(LOSS)
    old = computed.best(asked)
    network.change_link("r1-r2" if old.sids == sids(FAST) else "r1-r3", loss=2.01)
    assert computed.better(asked, old) is not None


def test_a_path_is_left_for_one_below_nine_tenths_of_its_cost(
    computed: Computed101, network: Network
) -> None:
    old = computed.best(query(LATENCY))
    network.change_link("r1-r2", latency=195)
    assert computed.better(query(LATENCY), old) is None
    network.change_link("r1-r2", latency=196)
    new = computed.better(query(LATENCY), old)
    assert new is not None and new.sids == sids(WIDE)


def test_a_lost_path_stays_stored_and_fails_each_time(computed: Computed101, network: Network) -> None:
    sessions = Sessions101(Table(), computed)
    asked = query(LATENCY)
    assert sessions.path(asked) == sids(FAST)
    network.change_link("r6-b", up=False)
    for _ in range(2):
        (outcome,) = sessions.recalculate().values()
        assert str(outcome) == "Router ID not found for Destination IP: fd00:b::"
    assert sessions.path(asked) == sids(FAST)
