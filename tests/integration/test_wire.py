"""The assertions on captures: they hold for what was sent, and fail for anything else."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet

from lab.network import Lab
from lab.packets import assert_packet
from lab.wire import Capture, Filter, udp_port

from .conftest import Endpoint
from .onwire import A

DNS = "fcbb:cc00:4::f"
LINKS = ["host-a-site-a", "dns-site-a"]
PORT = 5353
DATAGRAMS = udp_port(PORT)


@pytest.fixture
def send(udp: Callable[..., Endpoint]) -> Callable[[], None]:
    """Sends a datagram to the host behind the same router."""
    near, far = udp("host-a", 4000), udp("dns", PORT)

    def once() -> None:
        near.socket.sendto(b"hello", (DNS, PORT))
        assert far.socket.recvfrom(10)[0] == b"hello"

    return once


def datagram(data: bytes = b"hello", **fields: int) -> list[tuple[str, Packet]]:
    """The expected datagram on both links."""
    fields = {"sport": 4000, "dport": PORT, **fields}
    return [
        (link, IPv6(src=A, dst=DNS, hlim=64 - hop) / UDP(**fields) / data) for hop, link in enumerate(LINKS)
    ]


def test_what_was_sent_is_captured_byte_for_byte(capture: Capture, send: Callable[[], None]) -> None:
    packets = capture.send_and_expect(send, DATAGRAMS, datagram())
    assert [(packet.link, packet.sender) for packet in packets] == [
        (LINKS[0], "host-a"),
        (LINKS[1], "site-a"),
    ]
    assert packets[0].time < packets[1].time
    assert capture.count(DATAGRAMS) == 2
    assert [packet.link for packet in capture.packets(replace(DATAGRAMS, link=LINKS[1]))] == LINKS[1:]


def test_anything_else_fails(capture: Capture, send: Callable[[], None]) -> None:
    packets = capture.send_and_expect(send, DATAGRAMS, datagram())
    wrong = [datagram(b"hallo"), datagram(sport=4001), datagram(b"hello."), datagram(chksum=7)]
    for expected in wrong:
        with pytest.raises(AssertionError, match="on host-a-site-a, sent by host-a:\n"):
            capture.assert_captured(DATAGRAMS, expected)
    with pytest.raises(AssertionError, match="hlim: 63, expected 64"):
        assert_packet(packets[1], datagram()[0][1])
    for expected in (datagram()[:1], [*datagram(), *datagram()], datagram()[::-1], []):
        with pytest.raises(AssertionError, match=r"expected on .*, captured:\n  host-a-site-a: IPv6"):
            capture.assert_captured(DATAGRAMS, expected)


def test_nothing_is_nothing(capture: Capture, send: Callable[[], None]) -> None:
    send()
    capture.assert_nothing_captured(Filter(to=9))
    with pytest.raises(AssertionError, match=f"expected nothing, captured 2:\n  host-a-site-a: IPv6.{A}, "):
        capture.assert_nothing_captured(DATAGRAMS)
    capture.forget()
    capture.assert_nothing_captured(DATAGRAMS)
    with pytest.raises(AssertionError, match="captured:\n  nothing"):
        capture.assert_captured(DATAGRAMS, datagram())


def test_only_what_a_filter_lets_through_is_read(lab: Lab, capture: Capture) -> None:
    """A megabyte is counted by its bytes."""
    lab.execute("host-a", ["curl", "-sS", "-o", "/dev/null", "http://wb.hawk.net/bytes/1000000"])
    frames = capture.frames(Filter(6, link="site-b-host-b"))
    assert sum(frame.length for frame in frames) > 1_000_000
    assert not any("packet" in vars(frame) for frame in frames)
