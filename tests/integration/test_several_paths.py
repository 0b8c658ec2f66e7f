"""Several paths for one application, on the wire: flows are divided, and connections leave a dead path."""

import json
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from scapy.layers.inet import TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrSegmentRouting

from lab.network import Lab
from lab.wait import patient, wait_until
from lab.wire import Capture, Filter, tcp_port, udp_port

from .conftest import HAWKWING, Agents, Endpoint, on_vpp, said
from .onwire import R1, R2, R3, R4, R5, R6, A, B, assert_steered

UPPER, LOWER = [R1, R2, R4, R6], [R1, R3, R5, R6]
PORT = 5000
FLOWS = 60
SPREAD = (8, 52)
"""Of 60 flows so many are on either path, but for one run in a thousand million."""


def config(*paths: str, more: str = "") -> str:
    """One service at host-b with these paths."""
    text = f"services:\n  b:\n    ipv6_addresses: ['{B}']\n    applications:\n"
    return text + f"      - port: {PORT}\n        paths: [{', '.join(paths)}]\n{more}"


def path(sids: list[str], **keys: object) -> str:
    listed = ", ".join(f"'{sid}'" for sid in sids)
    return f"{{sid: [{listed}]" + "".join(f", {key}: {value}" for key, value in keys.items()) + "}"


def lists_sent(capture: Capture, kind: type) -> dict[int, list[str]]:
    """By source port, the segment list (as it was put in) that the last packet from host-a left with."""
    wanted = udp_port(PORT, "host-a-site-a") if kind is UDP else tcp_port(PORT, "host-a-site-a")
    packets = [packet for packet in capture.settled(wanted) if packet.sender == "host-a"]
    assert_steered(packets)
    return {packet[kind].sport: packet[IPv6ExtHdrSegmentRouting].addresses[:0:-1] for packet in packets}


@contextmanager
def black_hole(lab: Lab, router: str, sid: str) -> Iterator[None]:
    """The router drops packets to its SID, and says nothing."""
    route = ["blackhole", f"{sid}/128", "metric", "1"]
    lab.execute(router, ["ip", "-6", "route", "add", *route])
    try:
        yield
    finally:
        lab.execute(router, ["ip", "-6", "route", "del", *route])


def send_many(lab: Lab, udp: Callable[..., Endpoint], count: int = FLOWS) -> None:
    """One datagram from each of so many ports."""
    for _ in range(count):
        udp("host-a").socket.sendto(b"hello", (B, PORT))


def test_flows_are_divided_among_paths(
    lab: Lab, agents: Agents, capture: Capture, udp: Callable[..., Endpoint]
) -> None:
    udp("host-b", PORT)
    agents.client(config(path(UPPER), path(LOWER)))
    capture.forget()
    send_many(lab, udp)
    sent = lists_sent(capture, UDP)
    assert len(sent) == FLOWS
    counts = [sum(one == sids for one in sent.values()) for sids in (UPPER, LOWER)]
    assert sum(counts) == FLOWS and SPREAD[0] <= counts[0] <= SPREAD[1], counts
    arrived = {packet[UDP].sport for packet in capture.packets(udp_port(PORT, "site-b-host-b"))}
    assert arrived == sent.keys()


def test_the_preferred_path_alone(
    lab: Lab, agents: Agents, capture: Capture, udp: Callable[..., Endpoint]
) -> None:
    udp("host-b", PORT)
    agents.client(config(path(UPPER), path(LOWER, preference=200)))
    capture.forget()
    send_many(lab, udp, 20)
    assert all(sids == LOWER for sids in lists_sent(capture, UDP).values())


class Connections:
    """TCP connections from host-a to host-b; what is sent on one comes back on it."""

    def __init__(self, lab: Lab, stack: ExitStack, count: int) -> None:
        listening = Endpoint(lab, "host-b", socket.SOCK_STREAM, PORT)
        stack.enter_context(listening.socket)
        listening.socket.listen(count)
        self.pairs: dict[int, tuple[socket.socket, socket.socket]] = {}
        for _ in range(count):
            one = Endpoint(lab, "host-a", socket.SOCK_STREAM)
            stack.enter_context(one.socket).connect((B, PORT))
            other, _address = listening.socket.accept()
            stack.enter_context(other)
            for end in (one.socket, other):
                end.setblocking(False)
            self.pairs[one.port] = one.socket, other

    def echo(self, seconds: float) -> set[int]:
        """Sends one byte on each, and echoes it; the ports of those that have got it back in time."""
        for here, _there in self.pairs.values():
            here.send(b"x")
        done: set[int] = set()
        end = time.monotonic() + seconds
        while len(done) < len(self.pairs) and time.monotonic() < end:
            for port, (here, there) in self.pairs.items():
                if port not in done:
                    if _received(there):
                        there.send(b"y")
                    if _received(here):
                        done.add(port)
            time.sleep(0.005)
        return done


def _received(end: socket.socket) -> bool:
    try:
        return bool(end.recv(1))
    except BlockingIOError:
        return False


def test_connections_leave_a_dead_path_by_themselves(lab: Lab, agents: Agents, capture: Capture) -> None:
    if on_vpp(lab):
        pytest.skip("VPP's routers have no black holes here")
    agents.server("host-b")
    # Each time-out finds the good path with a chance of seven in eight.
    agents.client(config(path(UPPER), path(LOWER, weight=7)))
    with ExitStack() as stack:
        connections = Connections(lab, stack, 60)
        assert connections.echo(patient(5)) == connections.pairs.keys()
        before = lists_sent(capture, TCP)
        on_upper = {port for port, sids in before.items() if sids == UPPER}
        assert on_upper and before.keys() - on_upper, "all connections have the same path"
        with black_hole(lab, "vpp4", R4):
            capture.forget()
            begun = time.monotonic()
            assert connections.echo(patient(20)) == connections.pairs.keys()
            print(f"all {len(on_upper)} connections had moved after {time.monotonic() - begun:.2f} s")
            after = lists_sent(capture, TCP)
        assert all(after[port] == LOWER for port in on_upper)
        moved = [port for port in before.keys() - on_upper if after[port] != LOWER]
        assert not moved, "connections on the good path have left it"


def test_with_one_path_they_stay_where_they_are(lab: Lab, agents: Agents, capture: Capture) -> None:
    """The control: nothing else in this network heals the path."""
    if on_vpp(lab):
        pytest.skip("VPP's routers have no black holes here")
    agents.server("host-b")
    agents.client(config(path(UPPER)))
    with ExitStack() as stack:
        connections = Connections(lab, stack, 4)
        assert connections.echo(patient(5)) == connections.pairs.keys()
        with black_hole(lab, "vpp4", R4):
            assert not connections.echo(3)
            assert all(sids == UPPER for sids in lists_sent(capture, TCP).values())
        assert connections.echo(patient(20)) == connections.pairs.keys()


def test_a_path_without_a_route_is_not_used(
    lab: Lab, agents: Agents, capture: Capture, udp: Callable[..., Endpoint]
) -> None:
    """The highest preference counts among those that can be reached, and again once it can be."""
    udp("host-b", PORT)
    nowhere = "fcbb:bb00:77::2"
    unreachable = ["unreachable", "fcbb:bb00:77::/48", "metric", "1"]
    lab.execute("host-a", ["ip", "-6", "route", "add", *unreachable])
    try:
        client = agents.client(config(path([nowhere, R6], preference=200), path(LOWER)))
        capture.forget()
        send_many(lab, udp, 5)
        assert all(sids == LOWER for sids in lists_sent(capture, UDP).values())
    finally:
        lab.execute("host-a", ["ip", "-6", "route", "del", *unreachable])
    client.wait_for(f"routes have changed; paths in use now: {nowhere} > {R6}")
    capture.forget()
    send_many(lab, udp, 5)
    assert all(sids == [nowhere, R6] for sids in lists_sent(capture, UDP).values())


PROBED = "probes: {interval: 20}\n"


def until_sent(capture: Capture, sender: socket.socket) -> Callable[[list[str]], None]:
    """Waits until a datagram of this sender has a segment list."""

    def until(sids: list[str]) -> None:
        def moved() -> bool:
            capture.forget()
            sender.sendto(b"hello", (B, PORT))
            return list(lists_sent(capture, UDP).values()) == [sids]

        wait_until(moved, 10, f"packets to be sent over {sids}")

    return until


def test_flows_leave_a_dead_path_within_three_probes(
    lab: Lab, agents: Agents, capture: Capture, udp: Callable[..., Endpoint]
) -> None:
    """UDP, which nothing else would move; and back once the path answers again."""
    if on_vpp(lab):
        pytest.skip("VPP's routers have no black holes here")
    udp("host-b", PORT)
    agents.client(config(path(UPPER, preference=200, name="upper"), path(LOWER, name="lower"), more=PROBED))
    until = until_sent(capture, udp("host-a").socket)
    until(UPPER)
    assert said(lab, "explain", B, str(PORT)).count("(100 %)") == 1
    status = said(lab, "status")
    assert f"100 %  {' > '.join(UPPER)}" in status and "round trip" in status, status
    with black_hole(lab, "vpp4", R4):
        until(LOWER)
        assert f"use {' > '.join(LOWER)} (100 %) by flow" in said(lab, "explain", B, str(PORT))
        paths = said(lab, "paths", B, str(PORT))
        assert "upper" in paths and "not in use: no probe returns" in paths, paths
        (binding,) = json.loads(said(lab, "status", "--json"))[0]["bindings"]
        assert [one["sids"] for one in binding["active"]] == [LOWER] and binding["sids"] == LOWER
        assert binding["active"][0]["health"]["state"] == "alive"
    until(UPPER)


def test_probes_end_at_the_sender(lab: Lab, agents: Agents, capture: Capture, tmp_path: Path) -> None:
    """Each goes along a path and back; without `probes` there are none."""
    file = tmp_path / "probed.yaml"
    file.write_text(config(path(UPPER), path(LOWER)))
    agents.run("host-a", "client", "--config", str(file))
    capture.forget()
    capture.assert_nothing_captured()
    file.write_text(file.read_text() + PROBED)
    lab.execute("host-a", [*HAWKWING, "reload"])
    wait_until(lambda: capture.count(Filter(link="host-a-site-a")) > 20, 10, "probes")
    seen = [packet for packet in capture.packets() if packet.link == "host-a-site-a"]
    assert {packet[IPv6].src for packet in seen} == {A}
    back = [packet for packet in seen if packet[IPv6].dst == A]
    assert {packet[IPv6ExtHdrSegmentRouting].segleft for packet in back} == {0}
    assert {tuple(packet[IPv6ExtHdrSegmentRouting].addresses[:0:-1]) for packet in back} == {
        tuple(sids + sids[-2::-1]) for sids in (UPPER, LOWER)
    }
    assert "ICMPv6" not in str([str(packet) for packet in seen])


def sent_by_sockets(lab: Lab) -> int:
    """UDP datagrams that sockets of host-a have sent."""
    counted = lab.execute("host-a", ["cat", "/proc/net/snmp6"]).stdout
    return int(counted.split("Udp6OutDatagrams")[1].split()[0])


def test_the_data_plane_sends_the_probes_that_sockets_would(
    lab: Lab, agents: Agents, capture: Capture
) -> None:
    """A path's socket sends some of its probes: on the wire nobody can tell which."""
    agents.client(config(path(UPPER), path(LOWER), more=PROBED))
    wait_until(lambda: "round trip" in said(lab, "status"), 10, "the first probe")
    wait_until(lambda: sent_by_sockets(lab) > 0, 10, "the first probe of a socket")
    before = sent_by_sockets(lab)
    capture.forget()
    wait_until(lambda: sent_by_sockets(lab) >= before + 4, 30, "two probes of each socket")
    seen = [one for one in capture.packets() if one.link == "host-a-site-a" and one.sender == "host-a"]
    assert len(seen) > 10 * (sent_by_sockets(lab) - before), "most are none of the sockets"
    kinds = set()
    for packet in seen:
        checksum = packet[UDP].chksum
        del packet[UDP].chksum
        again = IPv6(bytes(packet[IPv6]))
        assert again[UDP].chksum == checksum
        data = bytes(again[UDP].payload)
        again[UDP].chksum = 0
        again[UDP].remove_payload()
        kinds.add((bytes(again), data[:8] + data[16:]))
    assert len(kinds) == 2, "one packet for each path, but for time and checksum"


def test_no_path_counts_as_dead_without_an_agent(
    lab: Lab, agents: Agents, capture: Capture, udp: Callable[..., Endpoint]
) -> None:
    """A killed agent leaves its filters, which go on steering over the path of the highest preference."""
    udp("host-b", PORT)
    client = agents.client(config(path(UPPER, preference=200), path(LOWER), more=PROBED))
    wait_until(lambda: "round trip" in said(lab, "status"), 10, "the first probe")
    client.signal(signal.SIGKILL)
    client.wait()
    time.sleep(0.2)
    capture.forget()
    send_many(lab, udp, 10)
    assert all(sids == UPPER for sids in lists_sent(capture, UDP).values())
    lab.execute("host-a", [*HAWKWING, "detach"])
