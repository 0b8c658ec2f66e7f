"""The main job on the wire: SRH in, hop by hop along the path, SRH out, and back the reversed way."""

from collections.abc import Callable

import pytest
from scapy.layers.inet import TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrSegmentRouting

from lab.network import Lab
from lab.packets import assert_packet, assert_same, segments_left
from lab.wait import patient
from lab.wire import Capture, Filter, tcp_port, udp_port

from .conftest import Agents, Endpoint, sysctl
from .onwire import (
    LOWER_WAY,
    LOWER_WAY_BACK,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    UPPER_WAY,
    UPPER_WAY_BACK,
    A,
    B,
    C,
    along,
    assert_each,
    assert_not_steered,
    assert_steered,
    on_links,
)

TCP_NUMBER = 6

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


def http(lab: Lab, url: str, host: str = "host-a") -> str:
    """The body of a page, fetched from a host."""
    result = lab.execute(host, ["curl", "-sS", "-m", f"{patient(5):g}", url])
    return result.stdout


def test_first_packet_to_a_fresh_name_goes_hop_by_hop(lab: Lab, agents: Agents, capture: Capture) -> None:
    agents.server("host-b")
    agents.client(BY_NAME)
    capture.forget()
    assert http(lab, "http://wb.hawk.net/") == "Hello from host-b\n"

    packets = capture.settled(tcp_port(80))
    requests = [p for p in packets if p[TCP].dport == 80]
    replies = [p for p in packets if p[TCP].sport == 80]
    # The SYN is the first packet ever to this address; it is steered on each link.
    assert on_links(requests)[: len(UPPER_WAY)] == UPPER_WAY
    assert on_links(replies)[: len(UPPER_WAY_BACK)] == UPPER_WAY_BACK
    expected = dict(along(UPPER_WAY, A, [B, R6, R4, R2, R1], TCP(dport=80)))
    for packet in requests:
        assert_packet(packet, expected[packet.link])
    expected = dict(along(UPPER_WAY_BACK, B, [A, R1, R2, R4, R6], TCP(sport=80)))
    for packet in replies:
        assert_packet(packet, expected[packet.link])
    assert {p[IPv6].fl for p in requests} == {requests[0][IPv6].fl}
    # Each packet of the connection is seen once on each of the seven links, none anywhere else.
    assert len(requests) % 7 == 0 and len(replies) % 7 == 0
    assert {p.link for p in packets} == {link for link, _, _ in UPPER_WAY}


def test_udp_both_ways(lab: Lab, agents: Agents, capture: Capture, udp: Callable[..., Endpoint]) -> None:
    agents.server("host-b")
    agents.client(BY_ADDRESS)
    near, far = udp("host-a"), udp("host-b", 5000)
    ping = UDP(sport=near.port, dport=5000) / b"ping"
    pong = UDP(sport=5000, dport=near.port) / b"pong"

    def there() -> None:
        near.socket.sendto(b"ping", (B, 5000))
        assert far.socket.recvfrom(100) == (b"ping", (A, near.port, 0, 0))

    def back() -> None:
        far.socket.sendto(b"pong", (A, near.port))
        assert near.socket.recvfrom(100)[0] == b"pong"

    capture.send_and_expect(there, udp_port(5000), along(LOWER_WAY, A, [B, R6, R5, R3, R1], ping))
    capture.send_and_expect(back, udp_port(5000), along(LOWER_WAY_BACK, B, [A, R1, R3, R5, R6], pong))


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
    to_the_port, to_the_host = capture.settled(udp_port(5001)), capture.settled(Filter(destination=C))
    assert_each(to_the_port, IPv6(src=A, dst=B) / UDP(sport=near.port, dport=5001) / b"x")
    assert_each(to_the_host, IPv6(src=A, dst=C) / UDP(sport=near.port, dport=5000) / b"x")
    assert on_links(capture.settled(Filter(to=5000, steered=True))) == LOWER_WAY
    assert capture.count(udp_port(near.port)) == len(to_the_port) + len(to_the_host) + 7 == 21


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
    packets = capture.settled(udp_port(5001))
    assert len(packets) == 7
    assert_each(packets, IPv6(src=B, dst=A) / UDP(sport=5001, dport=near.port) / b"y")


def test_without_agents_nothing_has_an_srh(lab: Lab, capture: Capture) -> None:
    assert http(lab, "http://wb.hawk.net/") == "Hello from host-b\n"
    packets = capture.settled(tcp_port(80))
    assert_not_steered(packets)
    assert all(p[IPv6].nh == TCP_NUMBER for p in packets)


def test_with_the_agents_stopped_again_nothing_has_an_srh(lab: Lab, agents: Agents, capture: Capture) -> None:
    agents.server("host-b")
    agents.client(BY_NAME)
    http(lab, "http://wb.hawk.net/")
    assert_steered(capture.settled(tcp_port(80)))
    agents.stop()
    capture.forget()
    http(lab, "http://wb.hawk.net/")
    assert_not_steered(capture.settled(tcp_port(80)))


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
    arrived = capture.settled(tcp_port(80, "site-b-host-b"))
    assert any(segments_left(p) == 0 for p in arrived)
    assert (result.stdout == "Hello from host-b\n") is accepts
    replies = Filter(TCP_NUMBER, destination=A)
    if accepts:
        assert_not_steered(capture.settled(replies))
    else:
        capture.assert_nothing_captured(replies)


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
    (kernels,) = capture.settled(udp_port(5000, "host-a-site-a"))
    lab.execute("host-a", ["ip", "-6", "route", "del", f"{B}/128"])

    agents.client(BY_ADDRESS)
    capture.forget()
    near.socket.sendto(b"same datagram", (B, 5000))
    far.socket.recvfrom(100)
    (ours,) = capture.settled(udp_port(5000, "host-a-site-a"))
    sysctl(lab, "host-a", "net/ipv6/auto_flowlabels", 1)
    assert_same(ours.original, kernels.original)
    # Nothing is left open: without flow labels, scapy knows every byte.
    pattern = IPv6(src=A, dst=R1, fl=0, hlim=64)
    pattern /= IPv6ExtHdrSegmentRouting(addresses=[B, R6, R5, R3, R1], segleft=4)
    assert_packet(ours, pattern / UDP(sport=4000, dport=5000) / b"same datagram")


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
