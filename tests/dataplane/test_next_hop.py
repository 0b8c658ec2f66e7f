"""Where a packet goes with its SRH, if the first segment's next hop is another one than the destination's."""

import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv6Address

import pytest

from hawkwing.dataplane.next_hop import ASK, NextHop
from tests.dataplane import packets as p
from tests.dataplane.bench import REDIRECT
from tests.dataplane.packets import steered
from tests.dataplane.scene import COUNTED, HOST_C, LOCAL_PORT, SIDS, Host

ROUTER, OTHER = bytes.fromhex("02000000aa01"), bytes.fromhex("02000000aa02")


def to(link_layer: bytes, packet: bytes) -> bytes:
    """The frame with another destination."""
    return link_layer + packet[6:]


def next_hop(host: Host, link_layer: bytes, link: int = 0) -> None:
    """Of the path with three SIDs."""
    port = host.bench.namespace.port
    host.bench.set_next_hop(host.slot(3), NextHop(link_layer, link or port))


@pytest.fixture(params=[p.TCP, p.UDP])
def packet(request: pytest.FixtureRequest, host: Host) -> Iterator[bytes]:
    """To the port whose path has three SIDs."""
    body = host.udp(COUNTED + 3) if request.param == p.UDP else host.tcp(COUNTED + 3, b"GET /")
    yield host.out(request.param, body)


def test_the_frame_of_the_same_next_hop_is_sent_as_it_is(host: Host, packet: bytes) -> None:
    next_hop(host, ROUTER)
    sent = to(ROUTER, packet)
    for _ in range(2):
        host.bench.expect("egress", sent, "STEERED", out=steered(sent, SIDS[:3]), on_port=True)


def test_another_next_hop_is_the_kernels_to_find(host: Host, packet: bytes) -> None:
    next_hop(host, ROUTER)
    sent = to(OTHER, packet)
    for _ in range(2):
        host.bench.expect(
            "egress",
            *(sent, "STEERED", "NEXT_HOP"),
            out=steered(sent, SIDS[:3]),
            verdict=REDIRECT,
            on_port=True,
        )


def test_one_that_is_not_known_is_asked_for(host: Host, packet: bytes) -> None:
    next_hop(host, ASK)
    host.bench.expect(
        "egress", packet, "STEERED", "NEXT_HOP", out=steered(packet, SIDS[:3]), verdict=REDIRECT, on_port=True
    )


def test_another_interface(host: Host, packet: bytes) -> None:
    """The same link-layer address there doesn't help."""
    next_hop(host, ROUTER, link=1)
    sent = to(ROUTER, packet)
    host.bench.expect(
        "egress", sent, "STEERED", "NEXT_HOP", out=steered(sent, SIDS[:3]), verdict=REDIRECT, on_port=True
    )


def test_without_routes_all_stays_as_it_is(host: Host, packet: bytes) -> None:
    host.bench.set_next_hop(host.slot(3), None)
    host.bench.expect("egress", packet, "STEERED", out=steered(packet, SIDS[:3]), on_port=True)


def test_other_paths_do_not_care(host: Host, packet: bytes) -> None:
    next_hop(host, ROUTER)
    other = host.out(p.UDP, host.udp(COUNTED + 2))
    host.bench.expect("egress", other, "STEERED", out=steered(other, SIDS[:2]), on_port=True)


def test_what_was_redirected_comes_by_once_more_and_is_not_counted_again(host: Host, packet: bytes) -> None:
    next_hop(host, ROUTER)
    sent = to(OTHER, packet)
    again = host.bench.run("egress", sent, on_port=True).packet
    before = host.bench.tallies()
    host.bench.namespace.do(lambda: host.bench.run_here("egress", again, host.bench.namespace.port))
    assert host.bench.counted(before, "egress") == {}
    host.bench.expect("egress", again, "HAS_ROUTING_HEADER" if host.bench.role == "server" else "NO_SERVICE")
    # Where the kernel found no route and nothing comes by, the next packet is steered as ever.
    host.bench.run("egress", sent, on_port=True)
    other = host.out(p.UDP, host.udp(COUNTED + 2))
    host.bench.expect("egress", other, "STEERED", out=steered(other, SIDS[:2]), on_port=True)


def test_both_fragments_go_to_the_next_hop(host: Host) -> None:
    next_hop(host, ROUTER)
    large = to(OTHER, host.out(p.UDP, host.udp(COUNTED + 3, bytes(1400))))
    outcome = host.bench.run("egress", large, on_port=True)
    assert outcome.counted == {"SPLIT": 1}
    frames = [*host.bench.namespace.sent(1), outcome.packet]
    assert [frame[:6] for frame in frames] == [ROUTER, ROUTER]


@pytest.mark.parametrize("way", ["unknown", "interface"])
def test_what_can_not_be_split_there_is_told_the_size(host: Host, way: str) -> None:
    """The frame's destination can't be written: the stack makes the next ones fit."""
    other = host.bench.namespace.do(lambda: socket.if_nametoindex("wire"))
    next_hop(host, ASK if way == "unknown" else ROUTER, link=other if way == "interface" else 0)
    large = to(OTHER, host.out(p.UDP, host.udp(COUNTED + 3, bytes(1400))))
    outcome = host.bench.run("egress", large, on_port=True)
    assert outcome.counted == {"TOO_BIG": 1} and outcome.verdict == REDIRECT
    assert outcome.packet[54] == 2, "an ICMPv6 Packet Too Big"


def test_what_can_not_be_split_there_and_is_too_small_to_be_told_goes_plain(host: Host) -> None:
    """A router on the path carries no more than 1280 bytes, and the frame's destination can't be written."""
    next_hop(host, ROUTER)
    packet = to(ROUTER, host.out(p.UDP, host.udp(COUNTED + 3, bytes(1232))))
    told = p.icmp6_error(HOST_C, host.here, p.ICMP6_TOO_BIG, steered(packet, SIDS[:3]), 1280)
    assert "ERROR_RESTORED" in host.bench.run("ingress", told, on_port=True).counted
    next_hop(host, ASK)
    host.bench.expect("egress", packet, "TOO_BIG_PLAIN", on_port=True)


def learn_from(server: Host, link_layer: bytes, sids: list[IPv6Address], port: int) -> None:
    """A packet of a new flow arrives from there."""
    inner = p.udp(server.there, server.here, port, LOCAL_PORT)
    path = [*reversed(sids), server.here]
    arrived = p.ipv6(server.there, server.here, p.ROUTING, p.srh(p.UDP, path, inner, left=0))
    arrived = arrived[:6] + link_layer + arrived[12:]
    outcome = server.bench.run("ingress", arrived, on_port=True)
    assert outcome.counted == {"STRIPPED": 1, "LEARNED": 1}


def test_a_server_answers_to_where_the_packet_came_from(server: Host) -> None:
    """No route is needed for that: the address is written into the frame."""
    learn_from(server, ROUTER, SIDS[:3], 3003)
    answer = server.out(p.UDP, p.udp(server.here, server.there, LOCAL_PORT, 3003))
    expected = steered(to(ROUTER, answer), SIDS[:3])
    server.bench.expect("egress", to(ROUTER, answer), "STEERED", out=expected, on_port=True)
    server.bench.expect("egress", to(OTHER, answer), "STEERED", "NEXT_HOP", out=expected, on_port=True)
    # By another interface than it came: what came there says nothing of this one.
    elsewhere = to(OTHER, answer)
    server.bench.expect("egress", elsewhere, "STEERED", out=steered(elsewhere, SIDS[:3]))
    # A new flow from another router.
    learn_from(server, OTHER, SIDS[:3], 3004)
    server.bench.expect("egress", elsewhere, "STEERED", out=steered(elsewhere, SIDS[:3]), on_port=True)
    learn_from(server, ROUTER, SIDS[:3], 3005)
    # The agent has found the route.
    slot = server.slot(3)
    server.bench.set_next_hop(slot, NextHop(OTHER, server.bench.namespace.port))
    server.bench.expect("egress", elsewhere, "STEERED", out=steered(elsewhere, SIDS[:3]), on_port=True)


def test_the_value(host: Host) -> None:
    """As `struct policy` has it: the address as on the wire, above it the interface."""
    next_hop(host, ROUTER)
    raw = host.bench.plane.maps["policies"].get(struct.pack("=I", host.slot(3)))
    assert raw is not None
    assert raw[24:32] == ROUTER + struct.pack("=H", host.bench.namespace.port)
