"""Packets that do not fit the MTU with their SRH: on a veth of 1500 bytes, whose other end listens."""

import struct
from collections.abc import Iterator
from contextlib import suppress

import pytest
from pyroute2 import IPRoute

from tests.dataplane import packets as p
from tests.dataplane.bench import MTU, REDIRECT, SHOT, UNSPEC
from tests.dataplane.packets import steered
from tests.dataplane.scene import COUNTED, SIDS, Host

QUOTED = 136


def overhead(count: int) -> int:
    """Bytes of an SRH with so many SIDs and the destination."""
    return 8 + 16 * (count + 1)


def of_length(host: Host, protocol: int, length: int, count: int = 2) -> bytes:
    """A packet of `length` bytes from the IPv6 header on; its data can be told apart everywhere."""
    data = struct.pack("!400I", *range(1000, 1400))
    if protocol == p.UDP:
        return host.out(protocol, host.udp(COUNTED + count, data[: length - 48]))
    return host.out(protocol, host.tcp(COUNTED + count, data[: length - 60]))


def told(host: Host, packet: bytes, mtu: int, quiet: bool = False) -> bytes:
    """in: IPv6(A, B) X   out: IPv6(B, A) ICMPv6(2, mtu; IPv6(A, B) X ..); quiet: quotes an echo request."""
    quoted = packet[14:]
    if quiet:
        quoted = quoted[:6] + bytes([p.ICMPV6]) + quoted[7:40] + bytes([128]) + bytes(7) + quoted[48:]
    body = p.icmp6(host.there, host.here, 2, 0, mtu, quoted[:QUOTED])
    return p.ipv6(host.there, host.here, p.ICMPV6, body, label=0, hop_limit=255)


@pytest.mark.parametrize("count", [1, 2, 15])
@pytest.mark.parametrize("protocol", [p.TCP, p.UDP])
def test_just_fits(host: Host, protocol: int, count: int) -> None:
    packet = of_length(host, protocol, MTU - overhead(count), count)
    out = steered(packet, SIDS[:count])
    assert len(out) == 14 + MTU
    host.bench.expect("egress", packet, "STEERED", out=out, on_port=True)


@pytest.mark.parametrize("length", [1280 - 56, 1280 - 55, 1280])
def test_small_ones_are_not_asked_about(host: Host, length: int) -> None:
    packet = of_length(host, p.UDP, length)
    host.bench.expect("egress", packet, "STEERED", out=steered(packet, SIDS[:2]), on_port=True)


@pytest.mark.parametrize("count", [1, 2, 9, 15])
@pytest.mark.parametrize("beyond", [1, 7, None])
def test_tcp_is_told(host: Host, count: int, beyond: int | None) -> None:
    fits = MTU - overhead(count)
    packet = of_length(host, p.TCP, MTU if beyond is None else fits + beyond, count)
    if len(packet) - 14 <= 1280:
        host.bench.expect("egress", packet, "TOO_BIG_PLAIN", on_port=True)
        return
    out = told(host, packet, max(fits, 1280))
    assert p.checksum_holds(host.there, host.here, p.ICMPV6, out[54:])
    host.bench.expect("egress", packet, "TOO_BIG", out=out, verdict=REDIRECT, on_port=True)
    assert host.bench.namespace.sent(0) == []


@pytest.fixture
def narrow(host: Host) -> Iterator[int]:
    """The port has an MTU that takes 1280 bytes, and not an SRH besides."""
    namespace = host.bench.namespace

    def narrowed(mtu: int) -> None:
        with IPRoute() as ip:
            ip.link("set", index=namespace.port, mtu=mtu)

    namespace.do(lambda: narrowed(1300))
    yield 1300
    namespace.do(lambda: narrowed(MTU))


@pytest.mark.parametrize("length", [1245, 1280])
def test_nobody_can_be_told_less_than_1280(host: Host, narrow: int, length: int) -> None:
    """A TCP connection older than the agent would hang: its segments go on without an SRH."""
    packet = of_length(host, p.TCP, length)
    host.bench.expect("egress", packet, "TOO_BIG_PLAIN", on_port=True)
    fits = of_length(host, p.TCP, 1244)
    host.bench.expect("egress", fits, "STEERED", out=steered(fits, SIDS[:2]), on_port=True)
    more = of_length(host, p.TCP, 1281)
    host.bench.expect("egress", more, "TOO_BIG", out=told(host, more, 1280), verdict=REDIRECT, on_port=True)


def fragments(host: Host, packet: bytes, count: int, identification: int) -> list[bytes]:
    """in: IPv6(A, B) X   out: the two fragments of X, each with its SRH, in the order they are sent."""
    moved = overhead(count) + 8
    body = packet[54:]
    first = p.fragment(packet[20], body[:moved], more=True, identification=identification)
    last = p.fragment(packet[20], body[moved:], offset=moved, identification=identification)
    head = {"label": 0x12345}
    return [steered(host.out(p.FRAGMENT, part, **head), SIDS[:count]) for part in (first, last)]


def split(host: Host, packet: bytes) -> list[bytes]:
    """The two frames that leave: one that is sent by itself, and what the packet has become."""
    outcome = host.bench.run("egress", packet, on_port=True)
    assert (outcome.verdict, outcome.counted) == (UNSPEC, {"SPLIT": 1})
    return [*host.bench.namespace.sent(1), outcome.packet]


def identification_in(frame: bytes, count: int) -> int:
    """The one in the Fragment header behind the SRH."""
    return int(struct.unpack_from("!I", frame, 54 + overhead(count) + 4)[0])


@pytest.mark.parametrize("count", [1, 2, 9, 15])
@pytest.mark.parametrize("beyond", [1, 2, 3, 8, 11, None])
def test_udp_leaves_in_two_fragments(host: Host, count: int, beyond: int | None) -> None:
    fits = MTU - overhead(count)
    length = MTU if beyond is None else fits + beyond
    packet = of_length(host, p.UDP, length, count)
    sent = split(host, packet)
    expected = fragments(host, packet, count, identification_in(sent[0], count))
    assert [frame.hex() for frame in sent] == [frame.hex() for frame in expected]
    assert max(map(len, sent)) <= 14 + MTU


def test_two_datagrams_differ_in_identification(host: Host) -> None:
    packet = of_length(host, p.UDP, MTU)
    found = set()
    for _ in range(2):
        found |= {identification_in(frame, 2) for frame in split(host, packet)}
    assert len(found) == 2


@pytest.mark.parametrize("value", [b"\0\0", b"\x12\x34"])
def test_a_checksum_that_is_not_ours_stays(host: Host, value: bytes) -> None:
    """Zero is what a tunnel sends (RFC 6935); a wrong one is the sender's."""
    packet = of_length(host, p.UDP, MTU)
    packet = packet[:60] + value + packet[62:]
    first, last = split(host, packet)
    datagram = first[54 + 56 + 8 :] + last[54 + 56 + 8 :]
    assert datagram[6:8] == value
    assert datagram == packet[54:]


def test_a_checksum_left_to_the_device_is_filled_in(host: Host) -> None:
    """The stack leaves the pseudo-header's sum there and the rest to the device."""
    packet = of_length(host, p.UDP, MTU)
    pseudo = p.ones_complement(p.pseudo(host.here, host.there, p.UDP, MTU - 40))
    partial = packet[:60] + struct.pack("!H", pseudo) + packet[62:]
    first, last = split(host, partial)
    assert first[54 + 56 + 8 :] + last[54 + 56 + 8 :] == packet[54:]


def test_a_checksum_that_comes_to_zero_is_filled_in_as_ones(host: Host) -> None:
    """Zero would say that there is none (RFC 768)."""
    packet = of_length(host, p.UDP, MTU)
    body = packet[54:-2] + packet[60:62]
    old = struct.unpack_from("!H", packet, len(packet) - 2)[0]
    body = body[:-2] + struct.pack("!H", p.ones_complement(body[-2:] + struct.pack("!H", old)))
    pseudo = p.ones_complement(p.pseudo(host.here, host.there, p.UDP, MTU - 40))
    first, last = split(host, packet[:54] + body[:6] + struct.pack("!H", pseudo) + body[8:])
    assert first[54 + 56 + 8 :] + last[54 + 56 + 8 :] == body[:6] + b"\xff\xff" + body[8:]


@pytest.mark.parametrize("length", [MTU, MTU - 4])
def test_a_first_fragment_is_cut_in_two(host: Host, length: int) -> None:
    length -= (length - 48) % 8
    datagram = host.udp(data=bytes(range(256)) * 12)
    body = p.fragment(p.UDP, datagram[: length - 48], more=True, identification=55)
    packet = host.out(p.FRAGMENT, body)
    out = told(host, packet, MTU - 56, quiet=True)
    host.bench.expect("egress", packet, "SPLIT", out=out, verdict=REDIRECT, on_port=True)
    data = datagram[: length - 48]
    last = p.fragment(p.UDP, data[56:], offset=56, more=True, identification=55)
    first = p.fragment(p.UDP, data[:56], more=True, identification=55)
    expected = [steered(host.out(p.FRAGMENT, part), SIDS[:2]).hex() for part in (first, last)]
    assert [frame.hex() for frame in host.bench.namespace.sent(2)] == expected


@pytest.mark.parametrize("more", [True, False])
def test_a_later_fragment_is_cut_in_two(host: Host, more: bool) -> None:
    datagram = host.udp(data=bytes(range(256)) * 12)
    opening = host.out(p.FRAGMENT, p.fragment(p.UDP, datagram[:800], more=True, identification=56))
    host.bench.expect("egress", opening, "STEERED", out=steered(opening, SIDS[:2]), on_port=True)
    host.bench.namespace.sent(0)
    data = datagram[800 : 800 + 1448]
    packet = host.out(p.FRAGMENT, p.fragment(p.UDP, data, offset=800, more=more, identification=56))
    last = p.fragment(p.UDP, data[56:], offset=856, more=more, identification=56)
    first = p.fragment(p.UDP, data[:56], offset=800, more=True, identification=56)
    expected = [steered(host.out(p.FRAGMENT, part), SIDS[:2]).hex() for part in (first, last)]
    assert [frame.hex() for frame in split(host, packet)] == expected


def test_behind_other_headers_the_sender_is_told(host: Host) -> None:
    datagram = host.udp(data=bytes(1400))
    for kind in (p.HOP_BY_HOP, p.DESTINATION):
        packet = host.out(kind, p.options(p.UDP, datagram))
        out = told(host, packet, MTU - 56)
        host.bench.expect("egress", packet, "TOO_BIG", out=out, verdict=REDIRECT, on_port=True)
        assert host.bench.namespace.sent(0) == []


def test_a_fragment_behind_hop_by_hop_options(host: Host) -> None:
    body = p.fragment(p.UDP, host.udp(data=bytes(1424)), more=True, identification=57)
    packet = host.out(p.HOP_BY_HOP, p.options(p.FRAGMENT, body))
    out = told(host, packet, MTU - 56)
    host.bench.expect("egress", packet, "TOO_BIG", out=out, verdict=REDIRECT, on_port=True)


def test_bundles_of_datagrams_are_told_as_a_whole(host: Host) -> None:
    """UDP GSO: datagrams of 1448 + 8 bytes would not fit; one error says so."""
    packet = host.out(p.UDP, host.udp(data=bytes(3000)))
    out = told(host, packet, MTU - 56)
    host.bench.expect("egress", packet, "TOO_BIG", out=out, verdict=REDIRECT, on_port=True, gso_size=1448)
    assert host.bench.namespace.sent(0) == []


def test_longer_than_the_mtu_as_it_is(host: Host) -> None:
    """A fragment of it would be, too: the sender is told."""
    packet = host.out(p.UDP, host.udp(data=bytes(3000)))
    out = told(host, packet, MTU - 56)
    host.bench.expect("egress", packet, "TOO_BIG", out=out, verdict=REDIRECT, on_port=True)
    assert host.bench.namespace.sent(0) == []


def test_an_interface_that_sends_nothing(host: Host) -> None:
    """Its other end is down."""
    packet = of_length(host, p.UDP, MTU)

    def set_wire(state: str) -> None:
        with IPRoute() as ip:
            ip.link("set", index=ip.link_lookup(ifname="wire")[0], state=state)

    host.bench.namespace.do(lambda: set_wire("down"))
    try:
        result = host.bench.run("egress", packet, on_port=True)
    finally:
        host.bench.namespace.do(lambda: set_wire("up"))
        with suppress(OSError):
            host.bench.namespace.sniffer.recv(1)
    assert result.verdict == SHOT
    assert result.counted == {"TOO_BIG_SILENT": 1}
    host.bench.observed.add((host.bench.role, "egress", "TOO_BIG_SILENT"))
    assert host.bench.namespace.sent(0) == []


def bundle(host: Host, length: int, options: int = 0) -> tuple[bytes, int]:
    """A frame with so many bytes of TCP data, and how many are in front of them."""
    segment = host.tcp(COUNTED + 2, bytes(length))
    if not options:
        return host.out(p.TCP, segment), 14 + 40 + 20
    return host.out(p.HOP_BY_HOP, p.options(p.TCP, segment, size=options)), 14 + 40 + options + 20


@pytest.mark.parametrize("options", [0, 8])
@pytest.mark.parametrize(("size", "left"), [(1440, 1384), (1385, 1329), (1384, 1384), (536, 536)])
def test_a_bundle_of_segments_is_cut_so_that_all_fit(host: Host, options: int, size: int, left: int) -> None:
    """TCP segmentation offload: pieces that would not fit with an SRH become smaller, others stay.

    The kernel lowers the size by the SRH's 56 bytes.
    """
    if options and size == 1384:
        left -= 56
    frame, headers = bundle(host, 4 * 1440, options)
    counted, sent = host.bench.send_bundle(frame, headers, size)
    assert counted == {"STEERED": 1} and sent is not None
    assert sent[0] == left
    assert len(sent[1]) == len(frame) + overhead(2)


@pytest.mark.parametrize("options", [0, 8])
@pytest.mark.parametrize(("size", "reason"), [(1200, "TOO_BIG_PLAIN"), (1400, "TOO_BIG")])
def test_a_bundle_longer_than_65535_bytes_gets_no_srh(
    host: Host, options: int, size: int, reason: str
) -> None:
    """The length of its payload could not be written. Segments of 1280 bytes can't be told to be shorter."""
    longest = 0xFFFF - 20 - options - overhead(2)
    frame, headers = bundle(host, longest, options)
    counted, sent = host.bench.send_bundle(frame, headers, size)
    assert counted == {"STEERED": 1} and sent is not None
    frame, headers = bundle(host, longest + 1, options)
    counted, sent = host.bench.send_bundle(frame, headers, size)
    assert counted == {reason: 1} and (sent is None) == (reason == "TOO_BIG")
