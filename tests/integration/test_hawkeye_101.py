"""Agents and a controller with the faults of HawkEye 1.0.1, seen on the wire."""

import json
from collections.abc import Callable, Iterator
from threading import Event, Thread
from typing import Any

import pytest
from scapy.layers.inet import UDP

from lab.controller import like_options, restart
from lab.network import Lab
from lab.packets import path
from lab.process import Process, stop
from lab.wait import wait_until
from lab.wire import Capture, Filter
from tests.schemas import assert_known_status

from .conftest import HAWKWING, Agents, Endpoint
from .onwire import R1, R2, R3, R4, R5, R6, B

UDP_NUMBER = 17
SITE_B = "fcbb:aa00:2::2"
BACKUP = [R1, R3, R5, R6]
PATHS = {"host-a": [R1, R2, R4, R6, SITE_B], "host-c": [R6, SITE_B]}
LINKS = {"host-a": "host-a-site-a", "host-c": "site-c-host-c"}
CONTROLLER = 'hawkeye: {enabled: true, address: "fcbb:cc00:5::f", port: 5001}\n'
FIRST = 5000


@pytest.fixture
def like_101(lab: Lab) -> Iterator[None]:
    """A controller with the faults; the lab's own is put back afterwards."""
    restart(lab, None, options=like_options("1.0.1"))
    yield
    restart(lab, None)


def asking(*intents: list[dict[str, Any]]) -> str:
    """A client's configuration: one application at host-b for each, from port 5000 on, with a backup."""
    text = f"{CONTROLLER}services:\n  b:\n    ipv6_addresses: [{B}]\n    applications:\n"
    for port, wanted in enumerate(intents, FIRST):
        text += f"      - {{port: {port}, sid: {json.dumps(BACKUP)}, intents: {json.dumps(wanted)}}}\n"
    return text


def queries(lab: Lab, host: str) -> dict[str, int]:
    """What `hawkwing status` says of the client's queries."""
    (told,) = json.loads(lab.execute(host, [*HAWKWING, "status", "--json"]).stdout)
    assert_known_status([told])
    counted: dict[str, int] = told["controller"]["queries"]
    return counted


def status(lab: Lab, host: str) -> str:
    return lab.execute(host, [*HAWKWING, "status"]).stdout


def sent(capture: Capture, udp: Callable[..., Endpoint], host: str, ports: range) -> list[list[str]]:
    """The segment lists that fresh datagrams from a host to these ports of host-b have, in travel order."""
    capture.forget()
    socket = udp(host).socket
    for port in ports:
        socket.sendto(b"which way?", (B, port))

    def seen() -> dict[int, list[str]]:
        packets = capture.packets(Filter(UDP_NUMBER, link=LINKS[host]))
        lists = {p[UDP].dport: path(p) for p in packets if p[UDP].dport in ports}
        return lists if len(lists) == len(ports) else {}

    found = wait_until(seen, 5.0, f"datagrams to {len(ports)} ports")
    return [found[port] for port in ports]


def test_two_agents_share_a_controller_and_every_application_gets_its_path(
    lab: Lab, agents: Agents, capture: Capture, udp: Callable[..., Endpoint], like_101: None
) -> None:
    """Answers reach the other agent; 1.0.1 ignores the max values, so all have the same path."""
    applications = [[{"intent": "low-latency", "max_value": number}] for number in range(1, 19)]
    for host in PATHS:
        agents.client(asking(*applications), host)
    ports = range(FIRST, FIRST + 18)
    for host in PATHS:
        wait_until(lambda host=host: queries(lab, host)["answered"] == 18, 90.0, f"{host} has all its paths")
        assert queries(lab, host) == {
            "count": 18,
            "answered": 18,
            "without_path": 0,
            "unanswered": 0,
            "held_back": 0,
        }
        assert sent(capture, udp, host, ports) == [PATHS[host]] * 18


class Manager(Thread):
    """Starts the controller again whenever it has ended, as a service manager does."""

    def __init__(self, lab: Lab) -> None:
        super().__init__()
        self._lab = lab
        self._stop_asked = Event()
        self.crashes: list[int] = []

    def run(self) -> None:
        while not self._stop_asked.is_set():
            process = self._lab.start_hawkeye(options=like_options("1.0.1"))
            while (code := process.poll()) is None and not self._stop_asked.wait(0.02):
                pass
            if code is not None:
                process.wait()
                self.crashes.append(code)

    def close(self) -> None:
        self._stop_asked.set()
        self.join()


@pytest.fixture
def manager(lab: Lab, like_101: None) -> Iterator[Manager]:
    stop([lab.processes()["hawkeye"]])
    made = Manager(lab)
    made.start()
    yield made
    made.close()


def test_a_query_that_crashes_the_controller_keeps_no_other_from_its_path(
    lab: Lab, agents: Agents, capture: Capture, udp: Callable[..., Endpoint], manager: Manager
) -> None:
    crashing = [{"intent": "flex-algo", "flex_algo_number": 200}]
    client: Process = agents.client(asking(crashing, [{"intent": "low-latency"}]))
    agents.client(asking([{"intent": "low-latency"}]), "host-c")
    wait_until(lambda: "no path for" in client.output(), 60.0, "the query is held back")
    wait_until(lambda: queries(lab, "host-a")["answered"] == 1, 30.0, "the other one is answered")
    assert sent(capture, udp, "host-a", range(FIRST, FIRST + 2)) == [BACKUP, PATHS["host-a"]]
    wait_until(lambda: queries(lab, "host-c")["answered"] == 1, 30.0, "the other agent's, too")
    assert sent(capture, udp, "host-c", range(FIRST, FIRST + 1)) == [PATHS["host-c"]]
    said = next(line for line in client.output().splitlines() if "no path for" in line)
    who = f"b port {FIRST} at {B} (flex-algo(200))"
    assert said.startswith(
        f"hawkwing: warning: no path for {who}: the stream ended when only this query was open"
    )
    assert said.endswith("; next request in 5 s")
    assert manager.crashes and set(manager.crashes) == {2}
    assert len(manager.crashes) < 6
    # At the end of each hold it crashes once more.
    wait_until(
        lambda: "1 of 2 queries answered, 1 unanswered (1 held back)" in status(lab, "host-a"),
        30.0,
        "status counts the query that is held back",
    )
