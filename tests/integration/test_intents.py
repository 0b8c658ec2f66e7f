"""Intents live: the controller computes over the lab's links, the path moves on the wire."""

import json
from collections.abc import Callable, Iterator

import pytest

from fake_hawkeye.control import Control
from lab.controller import restart
from lab.impair import fail, heal, impair
from lab.network import Lab
from lab.wait import wait_until
from lab.wire import Capture, Filter

from .conftest import HAWKWING, Agents, Endpoint
from .onwire import B, assert_steered, on_links
from .test_changes import assert_nothing_lost_or_plain, ends, traffic

CONTROLLER = 'hawkeye: {enabled: true, address: "fcbb:cc00:5::f", port: 5001}\n'
TCP_NUMBER = 6
LOW_LATENCY = f"""{CONTROLLER}
client_ipv6_address: fcbb:cc00:1::a
services:
  web:
    ipv6_addresses: [{B}]
    applications:
      - port: 80
        intents: [{{intent: low-latency}}]
"""
TWO_VALUES = f"""{CONTROLLER}
client_ipv6_address: fcbb:cc00:1::a
services:
  web:
    ipv6_addresses: [{B}]
    applications:
      - port: 80
        intents: [{{intent: high-bandwidth, min_value: 1000}}]
      - port: 81
        intents: [{{intent: low-latency}}]
"""


@pytest.fixture
def controller(lab: Lab) -> Iterator[Control]:
    """The lab's own computing controller, fresh; links are healed afterwards."""
    restart(lab, None)
    with Control(lab.control_socket) as control:
        yield control
    heal(lab)


def bindings(lab: Lab) -> dict[int, dict[str, object]]:
    status = json.loads(lab.execute("host-a", [*HAWKWING, "status", "--json"]).stdout)
    return {binding["port"]: binding for binding in status[0]["bindings"]}


def crossing(lab: Lab, capture: Capture, port: int = 80) -> list[str]:
    """The links that a lone SYN crosses."""
    capture.forget()
    lab.execute("host-a", ["curl", "-s", "-m", "0.2", f"http://[{B}]:{port}/"], check=False)
    packets = capture.packets(Filter(TCP_NUMBER, to=port))
    assert_steered(packets)
    return [hop[0] for hop in on_links(packets)][:7]


def test_path_moves_when_a_link_degrades_and_does_not_flap(
    lab: Lab, agents: Agents, capture: Capture, controller: Control
) -> None:
    agents.client(LOW_LATENCY)
    wait_until(lambda: bindings(lab)[80]["origin"] == "controller", 5.0, "the controller answers")
    assert "vpp1-vpp2" in crossing(lab, capture), "the branch of lower latency"

    # Slower, but still the better branch: nothing is pushed.
    impair(lab, "vpp2-vpp4", latency=5000)
    assert controller.recalculate() == 0
    assert "vpp1-vpp2" in crossing(lab, capture)

    impair(lab, "vpp2-vpp4", latency=50000)
    wait_until(lambda: "vpp1-vpp3" in crossing(lab, capture), 5.0, "the path moves")

    # Nearly as good as before is not enough to move back (0.9 of the present cost).
    impair(lab, "vpp2-vpp4", latency=16500)
    controller.recalculate()
    assert "vpp1-vpp3" in crossing(lab, capture), "it does not flap"

    heal(lab)
    wait_until(lambda: "vpp1-vpp2" in crossing(lab, capture), 5.0, "and back when it is really better")


def test_failed_link_is_gone_around(lab: Lab, agents: Agents, capture: Capture, controller: Control) -> None:
    agents.server("host-b")
    agents.client(LOW_LATENCY)
    wait_until(lambda: bindings(lab)[80]["origin"] == "controller", 5.0, "the controller answers")
    fail(lab, "vpp2-vpp4")

    def fetched() -> bool:
        return lab.execute("host-a", ["curl", "-s", "-m", "1", f"http://[{B}]/"], check=False).stdout != ""

    wait_until(fetched, 10.0, "the service is reached again")
    wait_until(lambda: "vpp1-vpp3" in crossing(lab, capture), 5.0, "by the other branch")
    heal(lab)


def test_two_applications_take_different_paths_at_once(
    lab: Lab, agents: Agents, capture: Capture, controller: Control
) -> None:
    agents.client(TWO_VALUES)
    wait_until(
        lambda: {b["origin"] for b in bindings(lab).values()} == {"controller"}, 5.0, "both are answered"
    )
    assert "vpp1-vpp3" in crossing(lab, capture, 80), "the wide branch"
    assert "vpp1-vpp2" in crossing(lab, capture, 81), "the fast branch"


def test_two_applications_that_differ_in_a_value(lab: Lab, agents: Agents, capture: Capture) -> None:
    """The reference gives both the same path; here each has the answer to its own question."""
    restart(lab, None, computing=False)
    with Control(lab.control_socket) as control:
        upper = ["fcbb:bb00:1::2", "fcbb:bb00:2::2", "fcbb:bb00:4::2", "fcbb:bb00:6::2"]
        lower = ["fcbb:bb00:1::2", "fcbb:bb00:3::2", "fcbb:bb00:5::2", "fcbb:bb00:6::2"]
        control.set_path(B, [{"intent": "low-latency", "max_value": 10}], upper)
        control.set_path(B, [{"intent": "low-latency", "max_value": 20}], lower)
        text = LOW_LATENCY.replace("[{intent: low-latency}]", "[{intent: low-latency, max_value: 10}]")
        text += "      - port: 81\n        intents: [{intent: low-latency, max_value: 20}]\n"
        agents.client(text)
        wait_until(
            lambda: {b["origin"] for b in bindings(lab).values()} == {"controller"}, 5.0, "both are answered"
        )
        assert "vpp1-vpp2" in crossing(lab, capture, 80)
        assert "vpp1-vpp3" in crossing(lab, capture, 81)
    restart(lab, None)


def test_refused_request_does_not_starve_the_others(lab: Lab, agents: Agents, controller: Control) -> None:
    """HawkEye ends the whole stream for one bad request; the agent finds it and says so once."""
    text = LOW_LATENCY + "      - port: 82\n        sid: [fcbb:bb00:3::2]\n"
    text += "        intents: [{intent: flex-algo, flex_algo_number: 1}]\n"
    client = agents.client(text)
    wait_until(lambda: bindings(lab)[80]["origin"] == "controller", 10.0, "the good one has its path")
    assert bindings(lab)[82]["origin"] == "backup"
    assert client.output().count("flex-algo") >= 1


def test_controller_dies_and_returns_under_traffic(
    lab: Lab, agents: Agents, controller: Control, udp: Callable[..., Endpoint]
) -> None:
    """Not a packet is lost or leaves plain, and the path is asked for again."""
    agents.server("host-b")
    agents.client(LOW_LATENCY.replace("port: 80\n", "port: 5000\n"))
    wait_until(lambda: bindings(lab)[5000]["origin"] == "controller", 5.0, "the controller answers")
    with ends(lab) as capture, traffic(udp) as running:
        wait_until(lambda: running.sent > 20, 5.0, "traffic flows")
        controller.die()
        wait_until(lambda: "hawkeye" not in lab.processes(), 5.0, "the controller is gone")
        now = running.sent
        wait_until(lambda: running.sent > now + 50, 5.0, "traffic goes on")
        restart(lab, None)
        with Control(lab.control_socket) as fresh:
            wait_until(fresh.requests, 15.0, "the path is asked for again")
        now = running.sent
        wait_until(lambda: running.sent > now + 50, 5.0, "traffic goes on")
        running.stop()
        assert_nothing_lost_or_plain(running, capture)
