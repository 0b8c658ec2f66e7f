"""A controller that fails in every way it can, and agents killed in mid-flow, seen on the wire."""

import json
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby, pairwise
from typing import Any

import pytest
from scapy.layers.inet import TCP, UDP

from fake_hawkeye.control import Control
from hawkwing.dataplane.claim import runtime_folder
from lab import netns
from lab.controller import restart
from lab.network import Lab
from lab.packets import Captured, path, segments
from lab.process import Process
from lab.wait import wait_until
from lab.wire import Capture, Filter, udp_port

from .conftest import HAWKWING, Agents, Endpoint, filters
from .onwire import LOWER_WAY, R1, R2, R3, R5, R6, UPPER_WAY, A, B, C, Hop, assert_not_steered, on_links
from .test_changes import DATAGRAMS, Running, Traffic, assert_nothing_lost_or_plain, ends, traffic
from .test_controller import LOWER, UPPER
from .test_intents import CONTROLLER

BACKUP, SHORT = LOWER, [R3, R5]
SHORT_WAY = [
    ("host-a-site-a", R3, 2),
    ("site-a-vpp1", R3, 2),
    ("vpp1-vpp3", R3, 2),
    ("vpp3-vpp5", R5, 1),
    ("vpp5-vpp6", B, 0),
    ("vpp6-site-b", B, 0),
    ("site-b-host-b", B, 0),
]
UNUSABLE = [["ff02::1"], ["::"], ["::1"], ["::ffff:10.0.0.1"], [R1, "ff0e::1", R6], [R1] * 16]
# With the way that datagrams take in spite of it; None: the way they took before.
GONE_WRONG: list[tuple[dict[str, Any], Sequence[Hop] | None]] = [
    ({"fault": "never"}, None),
    ({"fault": "empty"}, None),
    ({"fault": "stranger", "address": C}, None),
    *(({"fault": "wrong", "sids": sids}, None) for sids in UNUSABLE),
    ({"fault": "wrong", "sids": SHORT}, SHORT_WAY),
    ({"fault": "twice"}, UPPER_WAY),
]
PORTS = range(5000, 5000 + len(GONE_WRONG))
UNANSWERED = (PORTS[0], PORTS[2])
LATE = 1.0
TCP_NUMBER, UDP_NUMBER = 6, 17
# Half a second at first, then 1.6 times as long each time; up to a fifth less.
LEAST_PAUSES = [0.39, 0.63, 1.01]
TAKEN = "path from the controller"


@pytest.fixture(scope="module")
def knowing_nothing(lab: Lab) -> Iterator[None]:
    """One controller for the whole file, with a table only; the lab's own is put back afterwards."""
    restart(lab, None, computing=False)
    yield
    restart(lab, None)


@pytest.fixture
def hawkeye(lab: Lab, knowing_nothing: None) -> Iterator[Control]:
    """It knows the upper way for all that is asked here; afterwards it is honest again."""
    with Control(lab.control_socket) as control:
        wait_until(lambda: control.sessions() == [], 5.0, "the agents before are gone")
        for port in PORTS:
            control.set_path(B, intents(port), UPPER)
        yield control
    with Control(lab.control_socket) as control:
        control.clear_faults()


@pytest.fixture(scope="module")
def servers(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agents]:
    """One server on host-b for the whole file."""
    started = Agents(lab, tmp_path_factory.mktemp("servers"))
    started.server("host-b")
    yield started
    started.stop()


def intents(port: int) -> list[dict[str, Any]]:
    """Each application's own question."""
    return [{"intent": "low-latency", "max_value": port}]


def asking(*ports: int) -> str:
    """A client's configuration: these ports of host-b have a backup, and ask the controller."""
    text = f"{CONTROLLER}client_ipv6_address: {A}\nservices:\n  b:\n"
    text += f"    ipv6_addresses: [{B}]\n    applications:\n"
    for port in ports:
        text += f"      - {{port: {port}, sid: {json.dumps(BACKUP)}, intents: {json.dumps(intents(port))}}}\n"
    return text


def until_counted(lab: Lab, counts: Mapping[str, int], paths: int) -> None:
    """Waits until the client has counted so many results of these kinds, and at least so many paths."""

    def counted() -> bool:
        status = json.loads(lab.execute("host-a", [*HAWKWING, "status", "--json"]).stdout)
        counters: dict[str, int] = status[0]["controller"]["counters"]
        return counters["paths"] >= paths and counts.items() <= counters.items()

    wait_until(counted, 5.0, f"{counts} and {paths} paths")


def until_told(client: Process, paths: int = 1) -> None:
    """Waits until the client has taken over so many paths from its controller."""
    wait_until(lambda: client.output().count(TAKEN) == paths, 5.0, f"{paths} paths from the controller")


def ask_again(hawkeye: Control) -> None:
    """Makes the client connect and ask anew; it waits half a second before."""
    assert hawkeye.end_streams("UNAVAILABLE", "come again") == 1


class Sender:
    """Single datagrams from host-a, each followed to the other end."""

    def __init__(self, udp: Callable[..., Endpoint], capture: Capture) -> None:
        self._socket = udp("host-a").socket
        self._capture = capture

    def way(self, port: int = 5000) -> list[Hop]:
        """Link by link, where a fresh datagram to host-b goes."""
        return on_links(self.packets(port, B, "site-b-host-b"))

    def packets(self, port: int, destination: str, last_link: str) -> list[Captured]:
        """A fresh datagram on every link it crosses."""
        self._capture.forget()
        self._socket.sendto(b"followed", (destination, port))

        def arrived() -> list[Captured]:
            seen = self._capture.packets(Filter(UDP_NUMBER, to=port))
            return seen if last_link in {p.link for p in seen} else []

        return wait_until(arrived, 5.0, f"a datagram to [{destination}]:{port} arrives")


@pytest.fixture
def sender(udp: Callable[..., Endpoint], capture: Capture) -> Sender:
    """Captures on all links from before the test's first packet."""
    return Sender(udp, capture)


def paths(capture: Capture, port: int = 5000) -> list[list[str]]:
    """The paths that the client's datagrams to a port had, one after the other; [] is none at all."""
    sent = capture.frames(Filter(UDP_NUMBER, to=port, link="host-a-site-a"))
    # Those with the same header are alike; scapy reads the first of them.
    alike = groupby(sent, key=lambda frame: frame.ipv6[40 : -len(frame.transport[1])])
    return [path(next(frames).packet) for _, frames in alike]


def more(running: Traffic, capture: Capture) -> None:
    """Waits until fifty more datagrams have been sent, and makes room for others to be captured."""
    now = running.sent
    wait_until(lambda: capture.count() and running.sent > now + 50, 10.0, "traffic goes on")


# --- answers gone wrong


def test_late_answer_finds_the_backup_in_use(
    lab: Lab, agents: Agents, servers: Agents, hawkeye: Control, udp: Callable[..., Endpoint]
) -> None:
    hawkeye.fault("late", seconds=LATE)
    agents.client(asking(5000))
    with ends(lab) as capture, traffic(udp) as running:
        wait_until(lambda: paths(capture)[-1:] == [UPPER], 5.0, "the late path is used")
        more(running, capture)
        running.stop()
        assert_nothing_lost_or_plain(running, capture)
        assert paths(capture) == [BACKUP, UPPER]
        switched = next(f.time for f in capture.frames(DATAGRAMS) if UPPER[1] in path(f.packet))
        assert switched >= hawkeye.requests()[-1]["time"] + LATE


def test_answer_gone_wrong_changes_nothing_unless_it_can_be_used(
    lab: Lab, agents: Agents, hawkeye: Control, sender: Sender
) -> None:
    """Neither the backup, while there is no path, nor the last good one; each application has a fault."""

    def spoil() -> None:
        for fault, _ in GONE_WRONG:
            hawkeye.fault(**fault)

    def ways() -> list[list[Hop]]:
        return [sender.way(port) for port in PORTS]

    spoil()
    # Two questions have no answer: they are asked again, and then have these paths.
    for port in UNANSWERED:
        hawkeye.set_path(B, intents(port), BACKUP)
    client = agents.client(asking(*PORTS))
    met = {"empty": 1, "unasked": 1, "malformed": len(UNUSABLE)}
    until_counted(lab, met, 3)
    assert ways() == [way or LOWER_WAY for _, way in GONE_WRONG]
    # A stranger is not steered.
    assert_not_steered(sender.packets(PORTS[2], C, "site-c-host-c"))

    for port in UNANSWERED:
        hawkeye.set_path(B, intents(port), UPPER)
    ask_again(hawkeye)
    wait_until(lambda: ways() == [UPPER_WAY] * len(PORTS), 10.0, "all have the right path")

    spoil()
    ask_again(hawkeye)
    until_counted(lab, {counter: 2 * number for counter, number in met.items()}, 8 + len(PORTS))
    assert ways() == [way or UPPER_WAY for _, way in GONE_WRONG]
    assert client.output().count(f"b port {PORTS[-1]} at {B}: {TAKEN}") == 1, "second copies are no news"


# --- streams that end, connections that are refused


def test_controller_that_hangs_up_instead_of_answering_is_asked_again(
    lab: Lab, agents: Agents, servers: Agents, hawkeye: Control, udp: Callable[..., Endpoint]
) -> None:
    """Time and again, whatever the status; the operator is told once."""
    for code in ("OK", "RESOURCE_EXHAUSTED"):
        hawkeye.fault("end", code=code, message="enough")
    asked = len(hawkeye.requests())
    client = agents.client(asking(5000))
    with ends(lab) as capture, traffic(udp) as running:
        wait_until(lambda: paths(capture)[-1:] == [UPPER], 10.0, "the third question is answered")
        more(running, capture)
        running.stop()
        assert_nothing_lost_or_plain(running, capture)
        assert paths(capture) == [BACKUP, UPPER]
    assert len(hawkeye.requests()) == asked + 3
    assert about_the_controller(client) == [
        "connected to the controller",
        "warning: lost the controller",
        "connected to the controller",
    ]


def test_refused_question_keeps_its_path_and_is_held_back(
    lab: Lab, agents: Agents, hawkeye: Control, sender: Sender
) -> None:
    """The controller ends the whole stream for one question; the other's paths go on coming."""
    client = agents.client(asking(5000, 5001))
    until_told(client, 2)
    hawkeye.set_path(B, intents(5000), error="No path found")
    wait_until(lambda: asked_on_open_streams(hawkeye) == [5001], 10.0, "only the other question is asked")
    assert hawkeye.set_path(B, intents(5001), SHORT) == 1
    wait_until(lambda: sender.way(5001) == SHORT_WAY, 5.0, "the other's new path is used")
    assert sender.way(5000) == UPPER_WAY
    assert [line for line in client.output().splitlines() if "no path for" in line] == [
        f"hawkwing: warning: no path for b port 5000 at {B} (low-latency(max 5000)): "
        "the controller ended the stream: No path found (UNKNOWN); next request in 5 s"
    ]


def asked_on_open_streams(hawkeye: Control) -> list[int]:
    """The applications whose questions the controller has before it."""
    return [a["intents"][0]["max_value"] for session in hawkeye.sessions() for a in session["asked"]]


def test_refused_connections_are_tried_ever_more_rarely(
    lab: Lab, agents: Agents, hawkeye: Control, sender: Sender, capture: Capture
) -> None:
    hawkeye.refuse()
    client = agents.client(asking(5000))

    def attempts() -> list[float]:
        sent = capture.packets(Filter(TCP_NUMBER, to=5001, link="host-a-site-a"))
        return [packet.time for packet in sent if packet[TCP].flags == "S"]

    tries = wait_until(lambda: attempts()[:4] if len(attempts()) > 3 else [], 10.0, "four tries")
    pauses = [after - before for before, after in pairwise(tries)]
    assert all(pause > least for pause, least in zip(pauses, LEAST_PAUSES, strict=True)), pauses
    assert sender.way() == LOWER_WAY
    assert client.output().count("controller") == 1
    assert (
        "warning: cannot reach the controller at [fcbb:cc00:5::f]:5001: connection refused" in client.output()
    )
    hawkeye.clear_faults()
    wait_until(lambda: sender.way() == UPPER_WAY, 10.0, "the path, once connections are taken")
    assert about_the_controller(client) == [
        "warning: cannot reach the controller",
        "connected to the controller",
    ]


def about_the_controller(client: Process) -> list[str]:
    """What it has said of finding and losing the controller."""
    said = [line.removeprefix("hawkwing: ") for line in client.output().splitlines()]
    return [line.split(" at [")[0] for line in said if " the controller at " in line]


# How a controller is lost; sooner or later it is there again.


def end_the_stream(lab: Lab, hawkeye: Control) -> None:
    assert hawkeye.end_streams("RESOURCE_EXHAUSTED", "enough") == 1


def go_away(lab: Lab, hawkeye: Control) -> None:
    hawkeye.go_away()


def refuse_for_a_while(lab: Lab, hawkeye: Control) -> None:
    hawkeye.refuse(seconds=0.7)


def die_and_return(lab: Lab, hawkeye: Control) -> None:
    hawkeye.die()
    wait_until(lambda: "hawkeye" not in lab.processes(), 5.0, "the controller is gone")
    restart(lab, None, computing=False)


@pytest.mark.parametrize("lose", [end_the_stream, go_away, refuse_for_a_while, die_and_return])
def test_controller_lost_and_found_changes_nothing_on_the_wire(
    lab: Lab,
    agents: Agents,
    servers: Agents,
    hawkeye: Control,
    udp: Callable[..., Endpoint],
    lose: Callable[[Lab, Control], None],
) -> None:
    """The path stays; the client asks again, and follows what it is told next."""
    client = agents.client(asking(5000))
    until_told(client)
    before = [session["peer"] for session in hawkeye.sessions()]
    with ends(lab) as capture, traffic(udp) as running:
        more(running, capture)
        lose(lab, hawkeye)
        with Control(lab.control_socket) as found:

            def asked_anew() -> bool:
                return any(s["asked"] and s["peer"] not in before for s in found.sessions())

            wait_until(asked_anew, 10.0, "the client asks again")
            more(running, capture)
            assert paths(capture) == [UPPER]
            assert found.set_path(B, intents(5000), SHORT) == 1
        wait_until(lambda: paths(capture) == [UPPER, SHORT], 5.0, "the next path is used")
        more(running, capture)
        running.stop()
        assert_nothing_lost_or_plain(running, capture)
        assert paths(capture) == [UPPER, SHORT]
    assert about_the_controller(client) == [
        "connected to the controller",
        "warning: lost the controller",
        "connected to the controller",
    ]


def test_controller_that_goes_away_in_good_time_is_heard_to_the_end(
    lab: Lab, agents: Agents, hawkeye: Control, sender: Sender
) -> None:
    """After GOAWAY the stream lives for a while, and what comes on it counts."""
    client = agents.client(asking(5000))
    until_told(client)
    (old,) = hawkeye.sessions()
    hawkeye.go_away(grace=0.5)
    assert hawkeye.set_path(B, intents(5000), SHORT) == 1
    wait_until(lambda: sender.way() == SHORT_WAY, 5.0, "the path pushed on the old stream is used")
    wait_until(lambda: old not in hawkeye.sessions(), 5.0, "the old stream has ended")
    wait_until(lambda: asked_on_open_streams(hawkeye) == [5000], 5.0, "the client asks again")
    said = client.output()
    assert said.index(", ".join(SHORT)) < said.index("lost the controller")
    assert hawkeye.set_path(B, intents(5000), UPPER) == 1
    wait_until(lambda: sender.way() == UPPER_WAY, 5.0, "the path pushed on the new stream is used")


# --- killed agents


class Feed(Running):
    """Datagrams from host-b to one on host-a who asked for them once, until it is stopped."""

    def __init__(self, near: Endpoint, far: Endpoint) -> None:
        self.sent = self.received = 0
        self._near, self._far = near, far
        self._near.socket.settimeout(0.2)
        self._subscriber = self.ask()
        super().__init__(self._send, self._receive)

    def ask(self) -> tuple[Any, ...]:
        """Asks for them, once more if need be; whom host-b has heard."""
        self._near.socket.sendto(b"tell me", (B, self._far.port))
        heard: tuple[Any, ...] = self._far.socket.recvfrom(100)[1]
        return heard

    def _send(self) -> None:
        while not self._stop.wait(0.005):
            self._far.socket.sendto(b"news", self._subscriber)
            self.sent += 1

    def _receive(self) -> None:
        while True:
            try:
                self._near.socket.recvfrom(100)
                self.received += 1
            except TimeoutError:
                if self._stop.is_set():
                    return


def feed(udp: Callable[..., Endpoint]) -> Feed:
    """From port 5001 of host-b."""
    return Feed(udp("host-a"), udp("host-b", 5001))


def assert_fed_along(sids: list[str], news: Feed, capture: Capture) -> None:
    """Nothing was lost, and all came back along the path that it was asked for by."""
    assert news.received == news.sent > 50
    packets = [p for p in capture.packets(udp_port(5001)) if p[UDP].sport == 5001]
    assert {tuple(segments(p)) for p in packets} == {(A, *sids)}


def kill(lab: Lab, host: str, role: str) -> None:
    """As `kill -9` does; what is on the interface stays."""
    (pid,) = [pid for name, pid in lab.processes().items() if name.startswith(f"{role}-{host}")]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: pid not in lab.processes().values(), 5.0, f"the {role} is gone")
    assert f"hawkwing:{role}" in filters(lab, host)


def until_written_down(lab: Lab) -> None:
    """Waits until the client has kept the upper way for a successor."""
    kept = runtime_folder(netns.path(lab.namespace("host-a"))) / "client-eth0.state"
    wait_until(lambda: kept.exists() and R2 in kept.read_text(), 5.0, "the answer is written down")


def test_without_a_client_the_same_capture_shows_plain_packets(
    lab: Lab, servers: Agents, udp: Callable[..., Endpoint]
) -> None:
    with ends(lab) as capture, traffic(udp) as running:
        more(running, capture)
        running.stop()
        with pytest.raises(AssertionError, match="had no SRH"):
            assert_nothing_lost_or_plain(running, capture)
        assert paths(capture) == [[]]


def test_client_killed_under_traffic(
    lab: Lab, agents: Agents, servers: Agents, hawkeye: Control, udp: Callable[..., Endpoint]
) -> None:
    """Its filters go on steering; the next one has the controller's path before it can ask."""
    until_told(agents.client(asking(5000)))
    until_written_down(lab)
    hawkeye.refuse()
    with ends(lab) as capture, traffic(udp) as running:
        more(running, capture)
        kill(lab, "host-a", "client")
        more(running, capture)
        second = agents.client(asking(5000))
        second.wait_for("cannot reach the controller")
        more(running, capture)
        running.stop()
        assert_nothing_lost_or_plain(running, capture)
        assert paths(capture) == [UPPER]


def test_server_killed_under_traffic(
    lab: Lab, agents: Agents, servers: Agents, hawkeye: Control, udp: Callable[..., Endpoint]
) -> None:
    """All that it has learned is known to the next one, also of flows whose client is silent."""
    until_told(agents.client(asking(5000, 5001)), 2)
    with ends(lab) as capture, traffic(udp) as running, feed(udp) as news:
        more(running, capture)
        kill(lab, "host-b", "server")
        more(running, capture)
        servers.server("host-b")
        more(running, capture)
        wait_until(lambda: news.sent > 50, 5.0, "datagrams have come all the while")
        running.stop()
        news.stop()
        assert_nothing_lost_or_plain(running, capture)
        assert_fed_along(UPPER, news, capture)


def test_agent_that_was_refused_takes_nothing_of_those_that_run(
    lab: Lab, agents: Agents, servers: Agents, hawkeye: Control, udp: Callable[..., Endpoint]
) -> None:
    """Neither while they run, nor once they are killed and followed by others."""
    until_told(agents.client(asking(5001)))
    until_written_down(lab)
    hawkeye.refuse()
    file = lab.run / "another.yaml"
    file.write_text(asking(5002))
    with ends(lab) as capture, feed(udp) as news:
        for host, options in (
            ("host-a", ["client", "--config", str(file)]),
            ("host-b", ["server", "--sr-domain", "2001:db8:dead::/48"]),
        ):
            refused = lab.execute(host, [*HAWKWING, *options, "-i", "eth0"], check=False)
            assert refused.returncode == 1 and "already runs on eth0" in refused.stderr
        news.ask()
        kill(lab, "host-a", "client")
        kill(lab, "host-b", "server")
        servers.server("host-b")
        agents.client(asking(5001))
        wait_until(lambda: news.sent > 50, 5.0, "datagrams have come all the while")
        news.ask()
        news.stop()
        assert_fed_along(UPPER, news, capture)
        assert paths(capture, 5001) == [UPPER]
