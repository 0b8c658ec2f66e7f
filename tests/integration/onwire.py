"""Addresses, ways and packets by name, and what tests assert of captured ones."""

from collections.abc import Iterable, Sequence

from scapy.layers.inet6 import IPv6, IPv6ExtHdrSegmentRouting
from scapy.packet import Packet

from lab.packets import Captured, assert_packet, segments_left

A, B, C = "fcbb:cc00:1::a", "fcbb:cc00:2::a", "fcbb:cc00:3::a"
R1, R2, R3, R4, R5, R6 = (f"fcbb:bb00:{n}::2" for n in range(1, 7))

Hop = tuple[str, str, int | None]
"""A link, the destination in the IPv6 header there, and the segments left."""
Expected = tuple[str, Packet]
"""A link, and the pattern of a packet there."""

UPPER_WAY: list[Hop] = [
    ("host-a-site-a", R1, 4),
    ("site-a-vpp1", R1, 4),
    ("vpp1-vpp2", R2, 3),
    ("vpp2-vpp4", R4, 2),
    ("vpp4-vpp6", R6, 1),
    ("vpp6-site-b", B, 0),
    ("site-b-host-b", B, 0),
]
UPPER_WAY_BACK: list[Hop] = [
    ("site-b-host-b", R6, 4),
    ("vpp6-site-b", R6, 4),
    ("vpp4-vpp6", R4, 3),
    ("vpp2-vpp4", R2, 2),
    ("vpp1-vpp2", R1, 1),
    ("site-a-vpp1", A, 0),
    ("host-a-site-a", A, 0),
]
LOWER_WAY: list[Hop] = [
    ("host-a-site-a", R1, 4),
    ("site-a-vpp1", R1, 4),
    ("vpp1-vpp3", R3, 3),
    ("vpp3-vpp5", R5, 2),
    ("vpp5-vpp6", R6, 1),
    ("vpp6-site-b", B, 0),
    ("site-b-host-b", B, 0),
]
LOWER_WAY_BACK: list[Hop] = [
    ("site-b-host-b", R6, 4),
    ("vpp6-site-b", R6, 4),
    ("vpp5-vpp6", R5, 3),
    ("vpp3-vpp5", R3, 2),
    ("vpp1-vpp3", R1, 1),
    ("site-a-vpp1", A, 0),
    ("host-a-site-a", A, 0),
]
_HOP_LIMIT = 64


def along(way: Sequence[Hop], source: str, segments: list[str], transport: Packet) -> list[Expected]:
    """IPv6(source, segment) SRH(segments; SL=left) transport: one and the same packet, link by link.

    along(UPPER_WAY, A, [B, R6, R4, R2, R1], TCP(dport=80))
    """
    return [
        (
            link,
            IPv6(src=source, dst=destination, hlim=_HOP_LIMIT - routers)
            / IPv6ExtHdrSegmentRouting(addresses=segments, segleft=left)
            / transport,
        )
        for routers, (link, destination, left) in enumerate(way)
    ]


def on_links(packets: Iterable[Packet]) -> list[Hop]:
    """Where packets were captured, in order of time, for showing a way."""
    return [(packet.link, packet[IPv6].dst, segments_left(packet)) for packet in packets]


def is_steered(packet: Packet) -> bool:
    """Has it an SRH?"""
    return IPv6ExtHdrSegmentRouting in packet


def assert_each(packets: Sequence[Captured], pattern: Packet) -> None:
    """There are packets, and the pattern asks for each of them, byte for byte."""
    assert packets, "nothing was captured"
    for packet in packets:
        assert_packet(packet, pattern)


def assert_steered(packets: Sequence[Captured]) -> None:
    """There are packets, and all have an SRH."""
    assert packets, "nothing was captured"
    without = [str(packet) for packet in packets if not is_steered(packet)]
    assert not without, f"{len(without)} of {len(packets)} packets had no SRH: {without[0]}"


def assert_not_steered(packets: Sequence[Captured]) -> None:
    """There are packets, and none has an SRH."""
    assert packets, "nothing was captured"
    having = [str(packet) for packet in packets if is_steered(packet)]
    assert not having, f"{len(having)} of {len(packets)} packets had an SRH: {having[0]}"
