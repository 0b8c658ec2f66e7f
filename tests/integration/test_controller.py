"""Paths from the controller, over real gRPC on its own host."""

import signal
import time
from collections.abc import Iterator

import pytest
from scapy.layers.inet import TCP

from fake_hawkeye.control import Control
from hawkwing.dataplane.claim import runtime_folder
from lab import netns
from lab.controller import restart
from lab.network import Lab
from lab.packets import assert_packet
from lab.process import stop
from lab.wait import patient, wait_until
from lab.wire import Capture, Filter, tcp_port

from .conftest import Agents
from .onwire import R1, R2, R3, R4, R5, R6, UPPER_WAY, UPPER_WAY_BACK, A, B, Hop, along, on_links
from .test_steering import http

WITH_BACKUP = f"""
hawkeye: {{enabled: true, address: "fcbb:cc00:5::f", port: 5001}}
services:
  web:
    domain_name: wb.hawk.net
    applications:
      - port: 80
        sid: [{R1}, {R3}, {R5}, {R6}]
        intents:
          - intent: low-latency
            max_value: 20000
"""
INTENTS = [{"intent": "low-latency", "max_value": 20000}]
TCP_NUMBER = 6
UPPER, LOWER = [R1, R2, R4, R6], [R1, R3, R5, R6]


@pytest.fixture
def hawkeye(lab: Lab) -> Iterator[Control]:
    """A controller that knows no path until told; the lab's own is put back afterwards."""
    restart(lab, None, computing=False)
    with Control(lab.control_socket) as control:
        yield control
    restart(lab, None)


def way(lab: Lab, capture: Capture) -> list[Hop]:
    """Where the first packet of a fresh request went, link by link."""
    capture.forget()
    http(lab, "http://wb.hawk.net/")
    return on_links(capture.packets(Filter(TCP_NUMBER, to=80)))[:7]


def until_way(lab: Lab, capture: Capture, via: str, why: str) -> None:
    """Waits until fresh requests cross the link."""
    wait_until(lambda: via in [hop[0] for hop in way(lab, capture)], 5.0, why)


def test_backup_until_a_result_comes_then_the_controllers_path(
    lab: Lab, agents: Agents, capture: Capture, hawkeye: Control
) -> None:
    agents.server("host-b")
    agents.client(WITH_BACKUP)
    wait_until(hawkeye.requests, 5.0, "the agent asks the controller")
    assert "vpp1-vpp3" in [hop[0] for hop in way(lab, capture)], "an empty answer leaves the backup"

    hawkeye.set_path(B, INTENTS, UPPER)
    until_way(lab, capture, "vpp1-vpp2", "the pushed path is used")
    capture.forget()
    http(lab, "http://wb.hawk.net/")
    packets = capture.packets(tcp_port(80))
    requests = [p for p in packets if p[TCP].dport == 80]
    replies = [p for p in packets if p[TCP].sport == 80]
    assert on_links(requests)[:7] == UPPER_WAY
    assert on_links(replies)[:7] == UPPER_WAY_BACK
    expected = dict(along(UPPER_WAY, A, [B, R6, R4, R2, R1], TCP(dport=80)))
    for packet in requests:
        assert_packet(packet, expected[packet.link])

    hawkeye.set_path(B, INTENTS, [R3, R5])
    until_way(lab, capture, "vpp1-vpp3", "the next pushed path is used")
    hop = way(lab, capture)[0]
    assert hop == ("host-a-site-a", R3, 2)


def test_request_carries_source_destination_and_intents(lab: Lab, agents: Agents, hawkeye: Control) -> None:
    agents.client(WITH_BACKUP)
    asked = wait_until(hawkeye.requests, 5.0, "the agent asks the controller")[0]
    source = asked["source"]
    assert source in (A, "2001:cafe:a::a")
    assert asked["destination"] == B
    assert [(i["intent"], i.get("max_value")) for i in asked["intents"]] == [("low-latency", 20000)]


def test_client_address_of_the_configuration_is_told(lab: Lab, agents: Agents, hawkeye: Control) -> None:
    agents.client(f"client_ipv6_address: {A}\n{WITH_BACKUP}")
    asked = wait_until(hawkeye.requests, 5.0, "the agent asks the controller")[0]
    assert asked["source"] == A


def test_controller_dies_and_returns_and_the_path_stays(
    lab: Lab, agents: Agents, capture: Capture, hawkeye: Control
) -> None:
    agents.server("host-b")
    client = agents.client(WITH_BACKUP)
    wait_until(hawkeye.requests, 5.0, "the agent asks the controller")
    hawkeye.set_path(B, INTENTS, UPPER)
    until_way(lab, capture, "vpp1-vpp2", "the pushed path is used")

    stop([lab.processes()["hawkeye"]])
    wait_until(lambda: "fcbb:cc00:5::f" in client.output(), 5.0, "the agent says that the controller is gone")
    assert way(lab, capture) == UPPER_WAY, "the last good path stays"
    assert client.poll() is None

    restart(lab, None, computing=False)
    with Control(lab.control_socket) as control:
        wait_until(control.requests, 15.0, "the agent asks again")
        assert way(lab, capture) == UPPER_WAY, "an empty answer leaves the last good path"
        control.set_path(B, INTENTS, LOWER)
        until_way(lab, capture, "vpp1-vpp3", "the path pushed by the new controller is used")


def test_controller_that_is_not_there_yet(lab: Lab, agents: Agents, capture: Capture) -> None:
    stop([lab.processes()["hawkeye"]])
    agents.server("host-b")
    begun = time.monotonic()
    client = agents.client(WITH_BACKUP)
    assert time.monotonic() - begun < patient(10)
    assert way(lab, capture)[0] == ("host-a-site-a", R1, 4)
    assert "vpp1-vpp3" in [hop[0] for hop in way(lab, capture)]
    wait_until(lambda: "fcbb:cc00:5::f" in client.output(), 5.0, "the agent says that there is no controller")
    table = lab.run / "table.yaml"
    table.write_text(
        f"- {{destination: '{B}', intents: [{{intent: low-latency, max_value: 20000}}], "
        f"sids: ['{R1}', '{R2}', '{R4}', '{R6}']}}\n"
    )
    restart(lab, table, computing=False)
    wait_until(lambda: "vpp1-vpp2" in [h[0] for h in way(lab, capture)], 15.0, "the table's path is used")
    restart(lab, None)


def test_foreign_and_wrong_results_change_nothing(
    lab: Lab, agents: Agents, capture: Capture, hawkeye: Control
) -> None:
    client = agents.client(WITH_BACKUP)
    wait_until(hawkeye.requests, 5.0, "the agent asks the controller")
    asked = hawkeye.requests()[0]
    ours = {
        "ipv6SourceAddress": asked["source"],
        "ipv6DestinationAddress": B,
        "intents": [
            {
                "type": "INTENT_TYPE_LOW_LATENCY",
                "values": [{"type": "VALUE_TYPE_MAX_VALUE", "numberValue": 20000, "stringValue": ""}],
            }
        ],
    }
    other_value = {**ours, "intents": [{"type": "INTENT_TYPE_LOW_LATENCY", "values": []}]}
    hawkeye.raw_push({**other_value, "ipv6SidAddresses": UPPER})
    hawkeye.raw_push({**ours, "ipv6DestinationAddress": "fcbb:cc00:3::a", "ipv6SidAddresses": UPPER})
    hawkeye.raw_push({**ours, "ipv6SidAddresses": ["10.0.0.1"]})
    hawkeye.raw_push({**ours, "ipv6SidAddresses": ["::"]})
    hawkeye.raw_push({**ours, "ipv6SidAddresses": []})
    hawkeye.raw_push({**ours, "ipv6SidAddresses": [R1] * 16})
    assert "vpp1-vpp3" in [hop[0] for hop in way_without_server(lab, capture)]
    hawkeye.raw_push({**ours, "ipv6SidAddresses": UPPER})
    wait_until(
        lambda: "vpp1-vpp2" in [h[0] for h in way_without_server(lab, capture)], 5.0, "the right one counts"
    )
    assert client.poll() is None


def way_without_server(lab: Lab, capture: Capture) -> list[Hop]:
    """Where a lone SYN goes: nobody strips the SRH at the other end."""
    capture.forget()
    lab.execute("host-a", ["curl", "-s", "-m", "0.2", "http://wb.hawk.net/"], check=False)
    return on_links(capture.packets(Filter(TCP_NUMBER, to=80)))[:7]


def test_killed_clients_path_is_taken_over_without_a_controller(
    lab: Lab, agents: Agents, capture: Capture, hawkeye: Control
) -> None:
    """The last good answer outlives both the agent and the controller."""
    agents.server("host-b")
    first = agents.client(WITH_BACKUP)
    wait_until(hawkeye.requests, 5.0, "the agent asks the controller")
    hawkeye.set_path(B, INTENTS, UPPER)
    until_way(lab, capture, "vpp1-vpp2", "the pushed path is used")
    kept = runtime_folder(netns.path(lab.namespace("host-a"))) / "client-eth0.state"
    wait_until(lambda: kept.exists() and R2 in kept.read_text(), 5.0, "the answer is written down")
    first.signal(signal.SIGKILL)
    first.wait()
    stop([lab.processes()["hawkeye"]])
    agents.client(WITH_BACKUP)
    assert way(lab, capture) == UPPER_WAY
