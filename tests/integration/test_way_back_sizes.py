"""Ways back of their own and packets of all sizes: nothing is lost, and what would not fit does not tell."""

import hashlib
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack

import pytest
from scapy.layers.inet import TCP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrSegmentRouting

from lab.network import Lab
from lab.packets import Captured, path
from lab.wait import patient, wait_until
from lab.wire import Capture, Filter, tcp_port, udp_port

from .conftest import Agents, Endpoint, on_vpp, said
from .onwire import R1, R2, R3, R4, R5, R6, UPPER_WAY, B
from .test_several_paths import Connections
from .test_sizes import forget_path_mtu, inner_mtu, streams
from .ways_back import (
    AT_ONCE,
    BACK,
    ICMPV6,
    PORT,
    THERE,
    UDP_NUMBER,
    config,
    counters,
    exchange,
    fetch,
    way_told,
)

pytestmark = pytest.mark.usefixtures("way_back_on_vpp")

LONG = [R6, R5, R3, R5, R6, R4, R2, R4, R6, R5, R3, R1]
SIZES = [1, 1000, 1231, 1232, 1233, 1300, 1307, 1308, 1309, 1379, 1380, 1381]
SIZES += [1412, 1452, 1453, 2900, 9000, 65000]


@pytest.mark.parametrize("back", [BACK, [R5], LONG], ids=len)
def test_datagrams_of_all_sizes(
    lab: Lab, agents: Agents, udp: Callable[..., Endpoint], back: list[str]
) -> None:
    """Nothing is lost: what would not fit with the option does not tell it."""
    agents.server("host-b")
    agents.client(config(back))
    far = udp("host-b", PORT)
    links = [lab.topology.link("host-a", "site-a"), lab.topology.link("site-b", "host-b")]
    lost = []
    with Capture(lab.topology, lab.namespace, links) as capture:
        for size in SIZES:
            forget_path_mtu(lab)
            near = udp("host-a")
            data = hashlib.shake_128(str(size).encode()).digest(size)
            for number in range(AT_ONCE + 1):
                try:
                    near.socket.sendto(data, (B, PORT))
                    there, peer = far.socket.recvfrom(70000)
                    far.socket.sendto(there, peer)
                    assert (there, near.socket.recv(70000)) == (data, data)
                except TimeoutError:
                    lost.append((size, number))
        packets = capture.packets(Filter(UDP_NUMBER))
        assert packets and all(IPv6ExtHdrSegmentRouting in packet for packet in packets)
        assert max(packet.length - 14 for packet in packets) <= 1500
    assert lost == []


def test_status_says_that_no_packet_had_room(
    lab: Lab, agents: Agents, capture: Capture, udp: Callable[..., Endpoint]
) -> None:
    agents.server("host-b")
    agents.client(config())
    forget_path_mtu(lab)
    near, far = udp("host-a"), udp("host-b", PORT)
    for _ in range(11):
        near.socket.sendto(bytes(1372), (B, PORT))
        assert far.socket.recvfrom(2000)[0] == bytes(1372)
    packets = capture.settled(udp_port(PORT))
    assert len(packets) == 11 * len(UPPER_WAY) and not any(map(way_told, packets))
    assert "no packet has told the way back" in said(lab, "status")
    exchange(capture, near, far)
    assert "warning" not in said(lab, "status")


@pytest.mark.parametrize("back", [BACK, [R5], LONG], ids=len)
def test_streams(lab: Lab, agents: Agents, back: list[str]) -> None:
    agents.server("host-b")
    agents.client(config(back))
    forget_path_mtu(lab)
    streams(lab, 5_000_000)
    links = [lab.topology.link("host-a", "site-a"), lab.topology.link("site-b", "host-b")]
    with Capture(lab.topology, lab.namespace, links) as capture:
        fetch(lab, 200_000)
        packets = capture.settled(tcp_port(80))
    assert all(IPv6ExtHdrSegmentRouting in packet for packet in packets)
    assert_nothing_twice([packet for packet in packets if packet.link == "site-b-host-b"])
    while counters(lab, "host-a", "egress")["WAY_BACK_TOLD"] <= 10:
        fetch(lab, 100)
    assert "warning" not in said(lab, "status")


def assert_nothing_twice(packets: Sequence[Captured]) -> None:
    """No data was sent again: each part of it is on the link once."""
    data = [packet for packet in packets if packet[TCP].sport == 80 and len(packet[TCP].payload)]
    numbers = [packet[TCP].seq for packet in data]
    assert numbers and len(numbers) == len(set(numbers))


@pytest.mark.parametrize("back", [BACK, [R5], LONG], ids=len)
def test_what_the_server_may_send_leaves_room_for_the_way_back(
    lab: Lab, agents: Agents, capture: Capture, back: list[str]
) -> None:
    """The MSS that its socket has, without large packets: what it sends then fits with its SRH."""
    agents.server("host-b")
    agents.client(config(back))
    forget_path_mtu(lab)
    with ExitStack() as stack:
        connections = Connections(lab, stack, 1)
        ((near, far),) = connections.pairs.values()
        # Timestamps take 12 bytes of each segment.
        sent = far.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) + 12
        assert sent <= 1500 - 60 - (8 + 16 * (len(back) + 1))
        received = near.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) + 12
        telling = 8 + 16 * (len(THERE) + 1) + 8 + 16 * len(back)
        assert received == 1440 - telling
        assert connections.echo(patient(5)) == connections.pairs.keys()
    assert not capture.settled(Filter(ICMPV6))


def test_a_long_upload_keeps_it(lab: Lab, agents: Agents, capture: Capture) -> None:
    """Whose segments are all of full size; the replies are acknowledgements."""
    agents.server("host-b")
    agents.client(config())
    forget_path_mtu(lab)
    with ExitStack() as stack:
        connections = Connections(lab, stack, 1)
        ((near, far),) = connections.pairs.values()
        size = near.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)
        for end in (near, far):
            end.setblocking(True)
            end.settimeout(patient(5))
        begun = time.monotonic()
        ways = set()
        while time.monotonic() - begun < 8:
            capture.clear()
            near.sendall(bytes(20 * size))
            arrived = 0
            while arrived < 20 * size:
                arrived += len(far.recv(1 << 16))
            replies = [one for one in capture.settled(tcp_port(PORT, "site-b-host-b")) if one[IPv6].src == B]
            ways |= {tuple(path(packet)) for packet in replies}
            time.sleep(0.1)
    assert ways == {tuple(BACK)}


def test_a_link_on_the_way_there_that_carries_less(
    lab: Lab, agents: Agents, capture: Capture, udp: Callable[..., Endpoint]
) -> None:
    """What the stack sends from then on fits, also with the header that tells the way back."""
    if on_vpp(lab):
        pytest.skip("VPP's routers send no Packet Too Big for packets with an SRH")
    there, back = BACK[::-1], THERE[::-1]
    with inner_mtu(lab, 1400):
        agents.server("host-b")
        agents.client(config(back, there))
        far = udp("host-b", PORT)
        near = udp("host-a")

        def arrives(data: bytes) -> bool:
            near.socket.sendto(data, (B, PORT))
            far.socket.settimeout(0.3)
            try:
                return far.socket.recv(2000) == data
            except TimeoutError:
                return False

        wait_until(lambda: arrives(bytes(1350)), 5, "a datagram that the host's stack cuts")
        # Of all sizes, and in flows that have not told anything yet.
        for size in range(1200, 1400, 8):
            near = udp("host-a")
            for _ in range(AT_ONCE + 1):
                assert arrives(bytes(size)), f"{size} bytes are lost"
        # Once a second one tells it.
        capture.forget()

        def have_told() -> int:
            assert arrives(bytes(1400 - 40 - 8 - 88 - 72))
            return sum(bool(way_told(one)) for one in capture.settled(udp_port(PORT, "host-a-site-a")))

        for number in range(1, 4):
            wait_until(lambda number=number: have_told() == number, 5, f"datagram {number} that tells it")
        streams(lab, 2_000_000)
        assert "warning" not in said(lab, "status")


def test_a_link_of_the_way_back_that_carries_less(
    lab: Lab, agents: Agents, udp: Callable[..., Endpoint]
) -> None:
    """Its router tells the server, whose stack cuts its datagrams."""
    if on_vpp(lab):
        pytest.skip("VPP's routers send no Packet Too Big for packets with an SRH")
    with inner_mtu(lab, 1400):
        agents.server("host-b")
        agents.client(config())
        near, far = udp("host-a"), udp("host-b", PORT)
        near.socket.sendto(b"hello", (B, PORT))
        _data, peer = far.socket.recvfrom(100)
        far.socket.sendto(bytes(1350), peer)

        def arrived() -> bool:
            far.socket.sendto(bytes(1350), peer)
            near.socket.settimeout(0.3)
            try:
                return len(near.socket.recv(2000)) == 1350
            except TimeoutError:
                return False

        wait_until(arrived, 5, "the reply")
        streams(lab, 1_000_000)
