"""The main job on the wire: SRH in, hop by hop along the path, SRH out, and back the reversed way."""

from collections.abc import Callable

import pytest

from lab.network import Lab
from lab.wait import patient
from lab.wire import Capture, Packet

from .conftest import Agents, Endpoint, on_links, srh_bytes, sysctl

A, B, C = "fcbb:cc00:1::a", "fcbb:cc00:2::a", "fcbb:cc00:3::a"
R1, R2, R3, R4, R5, R6 = (f"fcbb:bb00:{n}::2" for n in range(1, 7))
TCP, UDP = 6, 17

BY_NAME = f"""
services:
  web:
    domain_name: wb.hawk.net
    applications:
      - port: 80
        sid: [{R1}, {R2}, {R4}, {R6}]
"""
BY_ADDRESS = f"""
services:
  b:
    ipv6_addresses: [{B}]
    applications:
      - port: 5000
        sid: [{R1}, {R3}, {R5}, {R6}]
      - port: 80
        sid: [{R3}]
"""

UPPER_WAY = [
    ("host-a-site-a", R1, 4),
    ("site-a-vpp1", R1, 4),
    ("vpp1-vpp2", R2, 3),
    ("vpp2-vpp4", R4, 2),
    ("vpp4-vpp6", R6, 1),
    ("vpp6-site-b", B, 0),
    ("site-b-host-b", B, 0),
]
UPPER_WAY_BACK = [
    ("site-b-host-b", R6, 4),
    ("vpp6-site-b", R6, 4),
    ("vpp4-vpp6", R4, 3),
    ("vpp2-vpp4", R2, 2),
    ("vpp1-vpp2", R1, 1),
    ("site-a-vpp1", A, 0),
    ("host-a-site-a", A, 0),
]


def http(lab: Lab, url: str, host: str = "host-a") -> str:
    """The body of a page, fetched from a host."""
    result = lab.execute(host, ["curl", "-sS", "-m", f"{patient(5):g}", url])
    return result.stdout


def tcp_port(port: int) -> Callable[[Packet], bool]:
    """Packets of TCP from or to a port."""
    return lambda p: p.protocol == TCP and port in (p.source_port, p.destination_port)


def assert_srh(packet: Packet, segments: list[str], left: int) -> None:
    """Every field of IPv6 and SRH that the path decides, byte by byte."""
    assert packet.srh is not None, packet
    assert packet.next_header == 43
    assert packet.srh.raw == srh_bytes(packet.protocol, left, segments)
    assert str(packet.destination) == segments[left]
    assert packet.payload_length == len(packet.raw) - 40


def test_first_packet_to_a_fresh_name_goes_hop_by_hop(lab: Lab, agents: Agents, capture: Capture) -> None:
    agents.server("host-b")
    agents.client(BY_NAME)
    capture.forget()
    assert http(lab, "http://wb.hawk.net/") == "Hello from host-b\n"

    packets = capture.settled(tcp_port(80))
    requests = [p for p in packets if p.destination_port == 80]
    replies = [p for p in packets if p.source_port == 80]
    # The SYN is the first packet ever to this address; it is steered on each link.
    assert on_links(requests)[: len(UPPER_WAY)] == UPPER_WAY
    assert {p.flow_label for p in requests} == {requests[0].flow_label}
    for packet in requests:
        assert packet.srh is not None
        assert_srh(packet, [B, R6, R4, R2, R1], packet.srh.segments_left)
        assert str(packet.source) == A
    assert on_links(replies)[: len(UPPER_WAY_BACK)] == UPPER_WAY_BACK
    for packet in replies:
        assert packet.srh is not None
        assert_srh(packet, [A, R1, R2, R4, R6], packet.srh.segments_left)
        assert str(packet.source) == B
    # Each packet of the connection is seen once on each of the seven links, none anywhere else.
    assert len(requests) % 7 == 0 and len(replies) % 7 == 0
    assert {p.link for p in packets} == {link for link, _, _ in UPPER_WAY}


def test_udp_both_ways(lab: Lab, agents: Agents, capture: Capture, udp: Callable[..., Endpoint]) -> None:
    agents.server("host-b")
    agents.client(BY_ADDRESS)
    near, far = udp("host-a"), udp("host-b", 5000)
    capture.forget()
    near.socket.sendto(b"ping", (B, 5000))
    data, peer = far.socket.recvfrom(100)
    assert data == b"ping" and peer[0] == A
    far.socket.sendto(b"pong", peer)
    assert near.socket.recvfrom(100)[0] == b"pong"

    packets = capture.packets(lambda p: p.protocol == UDP and 5000 in (p.source_port, p.destination_port))
    there = [("host-a-site-a", R1, 4), ("site-a-vpp1", R1, 4), ("vpp1-vpp3", R3, 3), ("vpp3-vpp5", R5, 2)]
    there += [("vpp5-vpp6", R6, 1), ("vpp6-site-b", B, 0), ("site-b-host-b", B, 0)]
    back = [("site-b-host-b", R6, 4), ("vpp6-site-b", R6, 4), ("vpp5-vpp6", R5, 3), ("vpp3-vpp5", R3, 2)]
    back += [("vpp1-vpp3", R1, 1), ("site-a-vpp1", A, 0), ("host-a-site-a", A, 0)]
    assert on_links(packets) == there + back
    for packet in packets[:7]:
        assert packet.srh is not None
        assert_srh(packet, [B, R6, R5, R3, R1], packet.srh.segments_left)
    for packet in packets[7:]:
        assert packet.srh is not None
        assert_srh(packet, [A, R1, R3, R5, R6], packet.srh.segments_left)


def test_other_ports_and_other_hosts_stay_plain(
    lab: Lab, agents: Agents, capture: Capture, udp: Callable[..., Endpoint]
) -> None:
    agents.server("host-b")
    agents.client(BY_ADDRESS)
    near, other_port, other_host = udp("host-a"), udp("host-b", 5001), udp("host-c", 5000)
    steered = udp("host-b", 5000)
    capture.forget()
    for port, host, receiver in ((5001, B, other_port), (5000, C, other_host), (5000, B, steered)):
        near.socket.sendto(b"x", (host, port))
        assert receiver.socket.recvfrom(10)[0] == b"x"
    packets = capture.packets(lambda p: p.protocol == UDP)
    assert {p.srh is None for p in packets if p.destination_port == 5001} == {True}
    assert {p.srh is None for p in packets if str(p.destination) == C} == {True}
    assert {p.srh is not None for p in packets if p.destination_port == 5000 and p.payload[8:] == b"x"} == {
        True,
        False,
    }


def test_reply_from_another_port_of_the_server_stays_plain(
    lab: Lab, agents: Agents, capture: Capture, udp: Callable[..., Endpoint]
) -> None:
    agents.server("host-b")
    agents.client(BY_ADDRESS)
    near, far, foreign = udp("host-a"), udp("host-b", 5000), udp("host-b", 5001)
    near.socket.sendto(b"x", (B, 5000))
    far.socket.recvfrom(10)
    capture.forget()
    foreign.socket.sendto(b"y", (A, near.port))
    assert near.socket.recvfrom(10)[0] == b"y"
    assert [p.srh for p in capture.packets(lambda p: p.protocol == UDP)] == [None] * 7


def test_without_agents_nothing_has_an_srh(lab: Lab, capture: Capture) -> None:
    assert http(lab, "http://wb.hawk.net/") == "Hello from host-b\n"
    packets = capture.packets(tcp_port(80))
    assert packets
    assert all(p.srh is None and p.next_header == TCP for p in packets)


def test_with_the_agents_stopped_again_nothing_has_an_srh(lab: Lab, agents: Agents, capture: Capture) -> None:
    agents.server("host-b")
    agents.client(BY_NAME)
    http(lab, "http://wb.hawk.net/")
    assert any(p.srh for p in capture.packets(tcp_port(80)))
    agents.stop()
    capture.forget()
    http(lab, "http://wb.hawk.net/")
    packets = capture.packets(tcp_port(80))
    assert packets and all(p.srh is None for p in packets)


@pytest.mark.parametrize("accepts", [True, False])
def test_host_without_an_agent(lab: Lab, agents: Agents, capture: Capture, accepts: bool) -> None:
    """With the kernel's own seg6 a host takes our packets; without it, it refuses every SRH."""
    for scope in ("all", "eth0"):
        sysctl(lab, "host-b", f"net/ipv6/conf/{scope}/seg6_enabled", int(accepts))
    agents.client(BY_NAME)
    capture.forget()
    result = lab.execute("host-a", ["curl", "-s", "-m", "1", "http://wb.hawk.net/"], check=False)
    for scope in ("all", "eth0"):
        sysctl(lab, "host-b", f"net/ipv6/conf/{scope}/seg6_enabled", 0)
    arrived = [p for p in capture.packets(tcp_port(80)) if p.link == "site-b-host-b"]
    assert any(p.srh and p.srh.segments_left == 0 for p in arrived)
    assert (result.stdout == "Hello from host-b\n") is accepts
    replies = [p for p in arrived if p.source_port == 80]
    assert all(p.srh is None for p in replies) and bool(replies) is accepts


def test_same_bytes_as_the_kernels_own_insertion(
    lab: Lab, agents: Agents, capture: Capture, udp: Callable[..., Endpoint]
) -> None:
    """The oracle: for the same datagram our packet and that of `encap seg6 mode inline` are equal."""
    sysctl(lab, "host-a", "net/ipv6/auto_flowlabels", 0)
    near, far = udp("host-a", 4000), udp("host-b", 5000)
    route = ["ip", "-6", "route", "add", f"{B}/128", "encap", "seg6", "mode", "inline"]
    route += ["segs", f"{R1},{R3},{R5},{R6}", "via", "2001:cafe:a::1", "dev", "eth0"]
    lab.execute("host-a", route)
    agents.server("host-b")
    capture.forget()
    near.socket.sendto(b"same datagram", (B, 5000))
    far.socket.recvfrom(100)
    kernels = capture.packets(lambda p: p.link == "host-a-site-a" and p.protocol == UDP)
    lab.execute("host-a", ["ip", "-6", "route", "del", f"{B}/128"])

    agents.client(BY_ADDRESS)
    capture.forget()
    near.socket.sendto(b"same datagram", (B, 5000))
    far.socket.recvfrom(100)
    ours = capture.packets(lambda p: p.link == "host-a-site-a" and p.protocol == UDP)
    sysctl(lab, "host-a", "net/ipv6/auto_flowlabels", 1)
    assert len(kernels) == len(ours) == 1
    assert ours[0].raw == kernels[0].raw


def test_scapy_reads_the_same(lab: Lab, agents: Agents, capture: Capture) -> None:
    """A second opinion on our own reading of the wire."""
    from scapy.layers.inet import TCP as ScapyTcp
    from scapy.layers.inet6 import IPv6, IPv6ExtHdrSegmentRouting

    agents.client(BY_NAME)
    agents.server("host-b")
    capture.forget()
    http(lab, "http://wb.hawk.net/")
    packets = [p for p in capture.packets(tcp_port(80)) if p.link == "vpp2-vpp4"]
    assert packets
    for packet in packets:
        seen = IPv6(packet.raw)
        header = seen[IPv6ExtHdrSegmentRouting]
        assert packet.srh is not None
        assert (header.segleft, header.lastentry, header.type) == (packet.srh.segments_left, 4, 4)
        assert tuple(header.addresses) == tuple(map(str, packet.srh.segments))
        assert seen.dst == str(packet.destination)
        assert seen[ScapyTcp].dport == packet.destination_port


def test_tcp_moves_a_megabyte_each_way(lab: Lab, agents: Agents) -> None:
    agents.client(BY_NAME)
    agents.server("host-b")
    script = "head -c 1000000 /dev/urandom > /tmp/up.$$; sha256sum < /tmp/up.$$ | cut -c1-64; "
    script += f"curl -sS -m {patient(10):g} -T /tmp/up.$$ http://wb.hawk.net/; rm /tmp/up.$$; "
    script += f"curl -sS -m {patient(10):g} http://wb.hawk.net/bytes/1000000 | wc -c"
    result = lab.execute("host-a", ["sh", "-c", script])
    mine, theirs, size = result.stdout.splitlines()
    assert theirs == f"{mine} 1000000"
    assert size.strip() == "1000000"
