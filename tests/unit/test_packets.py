"""Packets compared with patterns, and what is told where they differ."""

import pytest
from scapy.layers.inet import TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6, IPv6ExtHdrSegmentRouting
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet, Raw

from lab.packets import (
    Captured,
    assert_packet,
    assert_same,
    completed,
    difference,
    path,
    segments,
    segments_left,
)
from lab.wire import Filter, Frame, is_noise, tcp_port, udp_port

A, B, R1, R2 = "fcbb:cc00:1::a", "fcbb:cc00:2::a", "fcbb:bb00:1::2", "fcbb:bb00:2::2"
REQUEST = IPv6(src=A, dst=R1) / IPv6ExtHdrSegmentRouting(addresses=[B, R2, R1], segleft=2) / TCP(dport=80)
ETHERNET = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")


def captured(packet: Packet, length: int | None = None, unfinished: bool = False) -> Captured:
    """As it comes from a capture."""
    data = bytes(ETHERNET / packet)
    return Frame(data, 1.5, "vpp1-vpp2", "vpp1", length or len(data), unfinished).packet


def real() -> Packet:
    """What a host would send for the request: all that it is free to choose is chosen."""
    packet = REQUEST.copy()
    packet.fl, packet.hlim = 0xABCDE, 62
    packet[TCP].sport, packet[TCP].seq, packet[TCP].ack, packet[TCP].flags = 40000, 7, 9, "PA"
    packet[TCP].options = [("NOP", None), ("NOP", None), ("Timestamp", (1, 2))]
    return packet / Raw(b"GET /")


def test_a_capture_has_link_sender_and_time() -> None:
    packet = captured(real())
    assert (packet.link, packet.sender, packet.time) == ("vpp1-vpp2", "vpp1", 1.5)
    assert packet[TCP].dport == 80 and packet[Ether].src == "02:00:00:00:00:01"
    assert str(packet) == (f"vpp1-vpp2: IPv6({A}, {R1}) SRH({B}, {R2}, {R1}; SL=2) TCP(40000, 80) Raw")
    assert segments(packet) == [B, R2, R1] and path(packet) == [R1, R2] and segments_left(packet) == 2
    plain = captured(IPv6(src=A, dst=B) / UDP(sport=1, dport=2))
    assert segments(plain) == path(plain) == [] and segments_left(plain) is None


def test_a_pattern_leaves_open_what_the_sender_chooses() -> None:
    packet = captured(real())
    assert_packet(packet, REQUEST)
    assert bytes(completed(REQUEST, packet)) == bytes(real())


def changed(layer: type[Packet], field: str, value: object) -> Packet:
    packet = real()
    setattr(packet[layer], field, value)
    return packet


@pytest.mark.parametrize(
    ("layer", "field", "value", "told"),
    [
        (IPv6, "dst", B, f"dst: {B}, expected {R1}"),
        (IPv6, "plen", 94, "plen: 94, expected 93"),
        (IPv6ExtHdrSegmentRouting, "segleft", 1, "segleft: 1, expected 2"),
        (IPv6ExtHdrSegmentRouting, "lastentry", 1, "lastentry: 1, expected 2"),
        (IPv6ExtHdrSegmentRouting, "tag", 5, "tag: 5, expected 0"),
        (IPv6ExtHdrSegmentRouting, "oam", 1, "oam: 1, expected 0"),
        (IPv6ExtHdrSegmentRouting, "addresses", [B, R1, R1], f"{R1}, {R1} ], expected [ {B}, {R2}, {R1} ]"),
        # The other one may have a name, by /etc/services.
        (TCP, "dport", 4, "dport: 4, expected "),
        (TCP, "chksum", 1, "chksum: 0x1, expected 0x"),
    ],
)
def test_nothing_else_is_open(layer: type[Packet], field: str, value: object, told: str) -> None:
    with pytest.raises(AssertionError) as raised:
        assert_packet(captured(changed(layer, field, value)), REQUEST)
    assert str(raised.value).startswith("on vpp1-vpp2, sent by vpp1:\n")
    assert told in str(raised.value)


def test_what_a_pattern_says_counts() -> None:
    for pattern in (
        IPv6(src=A, dst=R1, hlim=61) / REQUEST.payload,
        IPv6(src=A, dst=R1, fl=1) / REQUEST.payload,
        REQUEST / Raw(b"POST "),
        IPv6(src=A, dst=R1) / REQUEST[IPv6ExtHdrSegmentRouting].copy() / TCP(dport=80, seq=8),
    ):
        with pytest.raises(AssertionError):
            assert_packet(captured(real()), pattern)
    with pytest.raises(AssertionError, match="TCP, expected IPv6 Option Header Segment Routing"):
        assert_packet(captured(IPv6(src=A, dst=B) / TCP(dport=80)), REQUEST)
    with pytest.raises(AssertionError, match="Segment Routing, expected UDP"):
        assert_packet(captured(real()), IPv6(src=A, dst=R1) / UDP(dport=80))


def test_a_checksum_left_to_the_device_covers_the_final_destination() -> None:
    pattern = IPv6(src=A, dst=R1) / IPv6ExtHdrSegmentRouting(addresses=[B, R2, R1], segleft=2)
    pattern = pattern / UDP(sport=1, dport=2) / Raw(b"hello")
    packet = pattern.copy()
    # RFC 8200, section 8.1: source, final destination, length and protocol, added up.
    total = sum([0xFCBB, 0xCC00, 0x1, 0xA, 0xFCBB, 0xCC00, 0x2, 0xA, 8 + 5, 17])
    packet[UDP].chksum = (total & 0xFFFF) + (total >> 16)
    assert_packet(captured(packet, unfinished=True), pattern)
    with pytest.raises(AssertionError, match="chksum"):
        assert_packet(captured(packet), pattern)
    with pytest.raises(AssertionError, match="chksum"):
        assert_packet(captured(pattern, unfinished=True), pattern)


def test_a_packet_captured_in_part_is_no_match() -> None:
    packet = captured(real(), length=9000)
    with pytest.raises(AssertionError, match="9000 bytes were sent, the capture has fewer"):
        assert_packet(packet, REQUEST)


def test_difference_layer_by_layer() -> None:
    expected, got = (
        bytes(ETHERNET / REQUEST),
        bytes(ETHERNET / changed(IPv6ExtHdrSegmentRouting, "segleft", 1)),
    )
    assert difference(expected, expected) == ""
    assert_same(expected, expected)
    other = ETHERNET / IPv6(src=A, dst=R1) / IPv6ExtHdrSegmentRouting(addresses=[B, R2, R1], segleft=1)
    other = bytes(other / TCP(dport=80))
    assert difference(other, expected).splitlines() == [
        f"got      IPv6({A}, {R1}) SRH({B}, {R2}, {R1}; SL=1) TCP(20, 80)",
        f"expected IPv6({A}, {R1}) SRH({B}, {R2}, {R1}; SL=2) TCP(20, 80)",
        "  Ethernet: the same",
        "  IPv6: the same",
        "  IPv6 Option Header Segment Routing:",
        "    segleft: 1, expected 2",
        "  TCP: the same",
        f"{len(other)} bytes, expected {len(expected)}; from byte 57 on:",
        f"  got      {other[57:73].hex(' ')}",
        f"  expected {expected[57:73].hex(' ')}",
    ]
    longer = difference(expected + b"x", expected)
    assert f"{len(expected) + 1} bytes, expected {len(expected)}; from byte {len(expected)} on:" in longer
    assert "nothing" in difference(got[:54], expected)


# --- filters read bytes; scapy has to agree with them

PACKETS = {
    "plain TCP": IPv6(src=A, dst=B) / TCP(sport=40000, dport=80),
    "steered TCP": real(),
    "steered UDP": IPv6(src=A, dst=R1)
    / IPv6ExtHdrSegmentRouting(addresses=[B, R1], segleft=1)
    / UDP(sport=80, dport=5000),
    "echo request": IPv6(src=A, dst=B) / ICMPv6EchoRequest(),
}


def frame(packet: Packet, link: str = "vpp1-vpp2") -> Frame:
    data = bytes(ETHERNET / packet)
    return Frame(data, 0.0, link, "vpp1", len(data))


def chosen(wanted: Filter) -> list[str]:
    return [name for name, packet in PACKETS.items() if wanted(frame(packet))]


def test_filters() -> None:
    assert chosen(Filter()) == list(PACKETS)
    assert chosen(tcp_port(80)) == ["plain TCP", "steered TCP"]
    assert chosen(tcp_port(40000)) == ["plain TCP", "steered TCP"]
    assert chosen(udp_port(80)) == chosen(udp_port(5000)) == ["steered UDP"]
    assert chosen(Filter(port=80)) == ["plain TCP", "steered TCP", "steered UDP"]
    assert chosen(Filter(to=80)) == ["plain TCP", "steered TCP"]
    assert chosen(Filter(to=40000)) == []
    assert chosen(Filter(58)) == ["echo request"]
    assert chosen(Filter(steered=True)) == ["steered TCP", "steered UDP"]
    assert chosen(Filter(steered=False)) == ["plain TCP", "echo request"]
    assert chosen(Filter(destination=R1)) == ["steered TCP", "steered UDP"]
    assert chosen(tcp_port(80, "vpp1-vpp2")) == ["plain TCP", "steered TCP"]
    assert chosen(tcp_port(80, "vpp2-vpp4")) == []


def test_filters_read_behind_a_vlan_tag_and_in_first_fragments_only() -> None:
    from scapy.layers.inet6 import IPv6ExtHdrFragment

    datagram = bytes(PACKETS["steered UDP"][UDP])
    assert udp_port(5000)(frame(Dot1Q(vlan=100) / PACKETS["steered UDP"]))
    for offset, wanted in ((0, True), (2, False)):
        piece = IPv6(src=A, dst=B) / IPv6ExtHdrFragment(nh=17, offset=offset, m=1) / Raw(datagram)
        assert udp_port(5000)(frame(piece)) is wanted
        assert Filter(17)(frame(piece))


def test_neighbour_discovery_is_noise() -> None:
    from scapy.layers.inet6 import ICMPv6MLReport2, ICMPv6ND_NA, ICMPv6ND_NS, IPv6ExtHdrHopByHop

    ends = IPv6(src=A, dst=B)
    assert all(is_noise(frame(ends / one)) for one in (ICMPv6ND_NS(tgt=B), ICMPv6ND_NA(tgt=B)))
    assert is_noise(frame(ends / IPv6ExtHdrHopByHop() / ICMPv6MLReport2()))
    assert not any(is_noise(frame(packet)) for packet in PACKETS.values())
