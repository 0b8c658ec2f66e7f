"""Paths that the agent chooses by what it measures, without a controller: seen on the wire."""

import json
import selectors
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest
from scapy.layers.inet import TCP
from scapy.layers.inet6 import IPv6ExtHdrSegmentRouting

from fake_hawkeye.control import Control
from lab.capture import find_link
from lab.controller import restart
from lab.impair import heal, impair
from lab.network import Lab
from lab.process import stop
from lab.wait import patient, wait_until
from lab.wire import Capture, tcp_port, udp_port

from .conftest import HAWKWING, Agents, Endpoint, on_vpp, said
from .onwire import R4, B
from .test_controller import hawkeye
from .test_several_paths import (
    LOWER,
    PORT,
    UPPER,
    Connections,
    black_hole,
    path,
)

__all__ = ["hawkeye"]

LINKS = {tuple(UPPER): "vpp2-vpp4", tuple(LOWER): "vpp3-vpp5"}
FILLED = {tuple(UPPER): 5001, tuple(LOWER): 5002}
"""Ports whose datagrams fill the queue of one path."""
PROBED = "probes: {interval: 100}\n"
RATE = 4000
SENDER = """\
import socket, sys, time
here = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
begun, sent = time.monotonic(), 0
while True:
    # Of 1150 bytes on the link, a little faster than it carries them.
    if sent * 1150 * 8 < float(sys.argv[3]) * 1030 * (time.monotonic() - begun):
        here.sendto(bytes(1000), (sys.argv[1], int(sys.argv[2])))
        sent += 1
    else:
        time.sleep(0.001)
"""


def config(*paths: str, intents: str = "", more: str = PROBED) -> str:
    """A service at host-b: one application with these paths, and one on each path to fill it."""
    text = f"services:\n  b:\n    ipv6_addresses: ['{B}']\n    applications:\n"
    text += f"      - port: {PORT}\n        paths: [{', '.join(paths)}]\n"
    if intents:
        text += f"        intents: [{intents}]\n"
    for sids, port in FILLED.items():
        text += f"      - {{port: {port}, sid: {json.dumps(list(sids))}}}\n"
    return text + more


@contextmanager
def impaired(lab: Lab, sids: list[str], bandwidth: int, loss: float | None = None) -> Iterator[None]:
    """The link that only this path uses."""
    link = LINKS[tuple(sids)]
    done = impair(lab, link, bandwidth=bandwidth, loss=loss)
    try:
        if any("no tbf" in one for one in done):
            pytest.skip("this kernel has no tbf (CONFIG_NET_SCH_TBF)")
        yield
    finally:
        heal(lab, link)


@contextmanager
def slow(lab: Lab, sids: list[str]) -> Iterator[None]:
    """The path's queue is kept full: its packets wait for tens of milliseconds, and few are lost."""
    port = FILLED[tuple(sids)]
    with impaired(lab, sids, RATE), Endpoint(lab, "host-b", socket.SOCK_DGRAM, port).socket:
        sending = lab.start("host-a", "sending", [sys.executable, "-c", SENDER, B, str(port), str(RATE)])
        try:
            yield
        finally:
            sending.signal(signal.SIGKILL)
            sending.wait()


class Watched:
    """Which path a datagram takes now."""

    def __init__(self, lab: Lab, udp: Callable[..., Endpoint]) -> None:
        if on_vpp(lab):
            pytest.skip("the queue of a link to VPP is not the kernel's alone")
        self.lab = lab
        udp("host-b", PORT)
        self.sender = udp("host-a").socket

    def paths(self, senders: Sequence[socket.socket]) -> list[list[str]]:
        """The segment lists of a datagram from each: captured for a short time, as queues are full."""
        wanted = udp_port(PORT)
        with Capture(self.lab.topology, self.lab.namespace, [find_link(self.lab, "host-a-site-a")]) as taps:
            for sender in senders:
                sender.sendto(b"hello", (B, PORT))
            wait_until(lambda: taps.count(wanted) == len(senders), 5, "the datagrams")
            packets = taps.packets(wanted)
        return [packet[IPv6ExtHdrSegmentRouting].addresses[:0:-1] for packet in packets]

    def path(self) -> list[str]:
        return self.paths([self.sender])[0]

    def until(self, sids: list[str]) -> None:
        wait_until(lambda: self.path() == sids, 30, f"packets to be sent over {sids}")

    def why(self) -> str:
        return said(self.lab, "explain", B, str(PORT))

    def until_measured(self) -> None:
        wait_until(lambda: "measured latency" in self.why(), 15, "a choice by latency")


@pytest.fixture
def watched(lab: Lab, udp: Callable[..., Endpoint]) -> Watched:
    return Watched(lab, udp)


LOW_LATENCY = "{intent: low-latency}"


def test_packets_take_the_path_of_the_lowest_latency(lab: Lab, agents: Agents, watched: Watched) -> None:
    agents.client(config(path(UPPER, name="upper"), path(LOWER, name="lower"), intents=LOW_LATENCY))
    watched.until_measured()
    here = watched.path()
    there = LOWER if here == UPPER else UPPER
    with slow(lab, here):
        wait_until(lambda: _chosen(watched) == there, 30, "the other path to be chosen")
        watched.until(there)
        (name,) = {"upper", "lower"} - {"upper" if there == UPPER else "lower"}
        why = watched.why()
        assert f"use {' > '.join(there)} (100 %) by flow" in why, why
        assert "configured paths for low-latency: measured latency of " in why and f"({name}: " in why, why
        (binding,) = [one for one in bindings(lab) if one["port"] == PORT]
        assert [one["sids"] for one in binding["active"]] == [there]
        (other,) = binding["standby"]
        assert other["sids"] == here and other["state"] == "another path fits the intents better"
        assert other["health"]["rtt_ms"] > 2 * binding["active"][0]["health"]["rtt_ms"]
    # It is no better than this one now, so nothing moves once more.
    assert watched.path() == there


def _chosen(watched: Watched) -> list[str]:
    """The path that `explain` gives figures of."""
    used, _, why = watched.why().partition(" (100 %) by flow")
    return used.split(" use ")[1].split(" > ") if "measured latency" in why else []


def bindings(lab: Lab) -> list[dict[str, Any]]:
    return list(json.loads(said(lab, "status", "--json"))[0]["bindings"])


def test_without_an_intent_flows_stay_divided(
    lab: Lab, agents: Agents, watched: Watched, udp: Callable[..., Endpoint]
) -> None:
    """The control: probes alone choose nothing while they come back."""
    agents.client(config(path(UPPER), path(LOWER)))
    with slow(lab, UPPER):
        wait_until(lambda: _round_trip(lab, UPPER) > 5, 30, "the upper path to be slow")
        found = watched.paths([udp("host-a").socket for _ in range(40)])
        assert UPPER in found and LOWER in found
    assert "measured" not in watched.why()


def _round_trip(lab: Lab, sids: list[str]) -> float:
    (binding,) = [one for one in bindings(lab) if one["port"] == PORT]
    listed = [*binding["active"], *binding["standby"]]
    return max((one["health"]["rtt_ms"] or 0.0) for one in listed if one["sids"] == sids)


LIMITED = "{intent: low-latency, max_value: 4000}"


def test_a_path_that_breaks_its_limit_is_left_and_taken_again(
    lab: Lab, agents: Agents, watched: Watched
) -> None:
    client = agents.client(
        config(path(UPPER, name="upper", preference=200), path(LOWER, name="lower"), intents=LIMITED)
    )
    watched.until(UPPER)
    with slow(lab, UPPER):
        wait_until(lambda: "exceeds 4 ms" in watched.why(), 30, "the limit to be broken")
        watched.until(LOWER)
        assert "not in use: its latency of " in said(lab, "paths", B, str(PORT))
        client.wait_for("exceeds 4 ms; paths in use now: " + " > ".join(LOWER))
    watched.until(UPPER)


def test_the_controllers_path_is_left_while_the_controller_is_silent(
    lab: Lab, agents: Agents, watched: Watched, hawkeye: Control
) -> None:
    enabled = 'hawkeye: {enabled: true, address: "fcbb:cc00:5::f", port: 5001}\n'
    several = path(LOWER, name="lower"), path([*LOWER, *LOWER[-2:-3:-1], LOWER[-1]], preference=50)
    agents.client(config(*several, intents=LIMITED, more=PROBED + enabled))
    wait_until(hawkeye.requests, 5, "the agent asks the controller")
    hawkeye.set_path(B, [{"intent": "low-latency", "max_value": 4000}], UPPER)
    watched.until(UPPER)
    with slow(lab, UPPER):
        wait_until(lambda: _round_trip(lab, UPPER) > 8, 30, "the upper path to be slow")
        assert watched.path() == UPPER, "the controller knows best while it is there"
        stop([lab.processes()["hawkeye"]])
        wait_until(
            lambda: "the controller's path is not used: its latency of " in watched.why(),
            30,
            "the reason",
        )
        watched.until(LOWER)
        restart(lab, None, computing=False)
        with Control(lab.control_socket) as control:
            wait_until(control.requests, 20, "the agent asks again")
            watched.until(UPPER)


def test_connections_show_figures_of_their_paths(lab: Lab, agents: Agents) -> None:
    if on_vpp(lab):
        pytest.skip("VPP's routers have no black holes here")
    agents.server("host-b")
    agents.client(config(path(UPPER), path(LOWER, weight=3), more=""))

    def figures() -> dict[tuple[str, ...], dict[str, Any]]:
        (binding,) = [one for one in bindings(lab) if one["port"] == PORT]
        return {tuple(one["sids"]): one["tcp"] for one in (*binding["active"], *binding["standby"])}

    with ExitStack() as stack:
        connections = Connections(lab, stack, 40)
        rounds = 1

        def both_are_known() -> bool:
            """The data plane looks at few packets, taken at random: a path may need many."""
            nonlocal rounds
            rounds += 1
            assert connections.echo(patient(5)) == connections.pairs.keys()
            return all(one["rtt_ms"] for one in figures().values())

        wait_until(both_are_known, 60, "a round trip on both paths")
        with black_hole(lab, "vpp4", R4):
            assert connections.echo(patient(60)) == connections.pairs.keys()
        for here, there in connections.pairs.values():
            here.shutdown(socket.SHUT_WR)
            assert there.fileno() >= 0
        # At most the byte that was sent last is not counted.
        wait_until(
            lambda: sum(one["acknowledged_bytes"] for one in figures().values()) >= (rounds - 1) * 40,
            30,
            "the bytes of all connections to be counted",
        )
    upper, lower = figures()[tuple(UPPER)], figures()[tuple(LOWER)]
    assert upper["rtt_ms"] > 0 and lower["rtt_ms"] > 0
    assert upper["retransmitted_segments"] >= 1
    assert lower["retransmitted_segments"] == 0
    told_text = lab.execute("host-a", [*HAWKWING, "paths", B, str(PORT)]).stdout
    assert "segments retransmitted" in told_text


def chosen(lab: Lab) -> list[str]:
    """The only path in use; empty while there are several."""
    (binding,) = [one for one in bindings(lab) if one["port"] == PORT]
    return binding["active"][0]["sids"] if len(binding["active"]) == 1 else []


def figures_of(lab: Lab, sids: list[str], kind: str) -> dict[str, Any]:
    (binding,) = [one for one in bindings(lab) if one["port"] == PORT]
    listed = [*binding["active"], *binding["standby"]]
    return next(dict(one[kind]) for one in listed if one["sids"] == sids)


class Load:
    """Sends on all connections as fast as they take it, until the block ends."""

    def __init__(self, connections: Connections) -> None:
        self._ends = selectors.DefaultSelector()
        for here, there in connections.pairs.values():
            self._ends.register(here, selectors.EVENT_WRITE)
            self._ends.register(there, selectors.EVENT_READ)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.received = 0

    def _run(self) -> None:
        data = bytes(1 << 16)
        while not self._done.is_set():
            for key, _events in self._ends.select(0.1):
                end = key.fileobj
                assert isinstance(end, socket.socket)
                with suppress(BlockingIOError):
                    if key.events & selectors.EVENT_WRITE:
                        end.send(data)
                    else:
                        self.received += len(end.recv(1 << 20))

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_unused: object) -> None:
        self._done.set()
        self._thread.join()
        self._ends.close()


def lists_of_connections(lab: Lab, ports: Iterable[int]) -> dict[int, list[str]]:
    """The segment list of each connection's packets, by its port, until all were seen."""
    found: dict[int, list[str]] = {}
    wanted = tcp_port(PORT, "host-a-site-a")

    def all_seen() -> bool:
        with Capture(lab.topology, lab.namespace, [find_link(lab, "host-a-site-a")]) as taps:
            wait_until(lambda: taps.count(wanted) > 100, 10, "packets of connections")
            for packet in taps.packets(wanted):
                if packet.sender == "host-a":
                    found[packet[TCP].sport] = packet[IPv6ExtHdrSegmentRouting].addresses[:0:-1]
        return found.keys() >= set(ports)

    wait_until(all_seen, 20, "packets of all connections")
    return found


@pytest.mark.parametrize("lossy", [UPPER, LOWER])
def test_connections_under_load_leave_a_lossy_path(lab: Lab, agents: Agents, lossy: list[str]) -> None:
    if on_vpp(lab):
        pytest.skip("the queue of a link to VPP is not the kernel's alone")
    here, there = lossy, (LOWER if lossy == UPPER else UPPER)
    agents.server("host-b")
    agents.client(config(path(UPPER), path(LOWER), intents="{intent: low-packet-loss}"))
    with ExitStack() as stack:
        connections = Connections(lab, stack, 8)
        stack.enter_context(impaired(lab, UPPER, bandwidth=20_000, loss=5 if here == UPPER else 0))
        stack.enter_context(impaired(lab, LOWER, bandwidth=20_000, loss=5 if here == LOWER else 0))
        load = stack.enter_context(Load(connections))
        wait_until(
            lambda: chosen(lab) == there and (figures_of(lab, here, "health")["loss_percent"] or 0) > 3,
            60,
            "the path without loss to be chosen",
        )
        sent = lists_of_connections(lab, connections.pairs)
        assert all(sids == there for sids in sent.values()), sent
        before = load.received
        wait_until(lambda: load.received > before + 1_000_000, 20, "the connections to go on")
        assert "measured loss of" in said(lab, "explain", B, str(PORT))
        # Each probe crosses the link twice.
        assert figures_of(lab, here, "health")["loss_percent"] < 25
        assert figures_of(lab, there, "health")["loss_percent"] < 2


def test_connections_under_load_take_the_path_with_more_bandwidth(lab: Lab, agents: Agents) -> None:
    """Nobody tells the agent the links' rates: it sees what connections get delivered on either path."""
    if on_vpp(lab):
        pytest.skip("the queue of a link to VPP is not the kernel's alone")
    agents.server("host-b")
    agents.client(config(path(UPPER, name="upper"), path(LOWER), intents="{intent: high-bandwidth}", more=""))
    with ExitStack() as stack:
        connections = Connections(lab, stack, 12)
        stack.enter_context(impaired(lab, UPPER, bandwidth=4_000))
        stack.enter_context(impaired(lab, LOWER, bandwidth=40_000))
        wait_until(
            lambda: "their delivery rate is not known yet" in said(lab, "explain", B, str(PORT)),
            10,
            "a look at both paths",
        )
        load = stack.enter_context(Load(connections))
        wait_until(lambda: chosen(lab) == LOWER, 60, "the faster path to be chosen")
        assert set(map(tuple, lists_of_connections(lab, connections.pairs).values())) == {tuple(LOWER)}
        why = said(lab, "explain", B, str(PORT))
        assert "for high-bandwidth: measured delivery rate of " in why and "(upper: " in why, why
        received = load.received
        wait_until(lambda: load.received > received + 1_000_000, 20, "the connections to go on")

        def rates() -> tuple[float, float] | None:
            """Of both paths, once they fit: each is a mean of the last samples, some of them short."""
            upper, lower = (figures_of(lab, sids, "tcp")["rate_kbps"] for sids in (UPPER, LOWER))
            return (upper, lower) if upper < lower < 45_000 else None

        # Looked at while the links are slow: without their queues the last acknowledgements come at any rate.
        # By how much they differ depends on how busy this machine is now.
        found = wait_until(rates, 20, "delivery rates that the links can carry")
    assert found is not None and 0 < found[0] < 4_500, found
