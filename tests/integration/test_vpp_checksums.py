"""The tc program behind VPP's devices: which checksums it mends, and which it leaves; needs no VPP."""

import os
import socket
import struct
from collections.abc import Callable, Iterator

import pytest
from pyroute2 import IPRoute
from scapy.layers.inet import TCP, UDP
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrSegmentRouting,
    PadN,
    in6_pseudoheader,
)
from scapy.layers.l2 import Ether
from scapy.packet import Packet
from scapy.utils import checksum

from hawkwing.packet_ring import Captured, PacketRing
from lab import netns
from lab.old_kernels import faults
from lab.vpp import checksums
from lab.wait import PATIENCE, wait_until

from .onwire import R1, R3, A, B

NEEDS_CHECKSUM, GSO_TCPV6, SEGMENT = 1, 4, 1200
SOL_PACKET, PACKET_VNET_HDR = 263, 15
OFFLOAD = struct.Struct("=BBHHHH")
NUMBERS = {TCP: 6, UDP: 17}
WRONG = 0x1234


def srh(left: int) -> IPv6ExtHdrSegmentRouting:
    """A list of two SIDs, with so many segments left."""
    return IPv6ExtHdrSegmentRouting(addresses=[B, R3, R1], segleft=left, lastentry=2)


@pytest.fixture
def namespace() -> Iterator[str]:
    """A network namespace with the link near - far; the program is on near."""
    name = f"checksums-{os.getpid()}"
    netns.create(name, "hawkwing test")
    try:
        netns.run_inside(name, _link)
        yield name
    finally:
        netns.remove(name)


def _link() -> None:
    with IPRoute() as ip:
        ip.link("add", ifname="near", kind="veth", peer={"ifname": "far"})
        near, far = (ip.link_lookup(ifname=end)[0] for end in ("near", "far"))
        for index in (near, far):
            ip.link("set", index=index, state="up")
    with checksums.loaded() as program:
        checksums.attach(near, program)


def crossed(namespace: str, packet: Packet, unfinished: bool, segment: int = 0) -> Captured:
    """What arrives of an Ethernet frame; `unfinished` leaves its checksum to the device."""
    frame = bytes(packet)
    transport = next(kind for kind in NUMBERS if kind in packet)
    start = len(frame) - len(packet[transport])
    field = 16 if transport is TCP else 6
    offload = OFFLOAD.pack(0, 0, 0, 0, 0, 0)
    if unfinished:
        kind = GSO_TCPV6 if segment else 0
        size = 20 if transport is TCP else 8
        offload = OFFLOAD.pack(NEEDS_CHECKSUM, kind, start + size, segment, start, field)

    def send() -> Captured:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sender:
            sender.bind(("near", 0))
            sender.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
            ring = PacketRing("far", size=65536, frames=16)
            try:
                got: list[Captured] = []

                def arrived() -> bool:
                    got.extend(one for one in ring.read() if one.data[6:12] == frame[6:12])
                    return bool(got)

                sender.send(offload + frame)
                wait_until(arrived, PATIENCE, "the frame")
            finally:
                ring.close()
        return got[0]

    return netns.run_inside(namespace, send)


def pseudo_sum(packet: Packet) -> int:
    """Of the pseudo-header alone."""
    kind = TCP if TCP in packet else UDP
    header = in6_pseudoheader(NUMBERS[kind], packet[kind], len(packet[kind]))
    return ~checksum(bytes(header)) & 0xFFFF


def assert_mended(got: Captured, packet: Packet) -> None:
    """The sum of the pseudo-header is right, and all else is as it was sent."""
    expected = Ether(bytes(packet))
    expected[TCP if TCP in packet else UDP].chksum = pseudo_sum(expected)
    assert got.unfinished
    assert got.data == bytes(expected)


def ethernet(packet: Packet) -> Packet:
    return Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / packet


@pytest.mark.parametrize(
    "transport", [TCP(sport=1, dport=2), UDP(sport=1, dport=2)], ids=lambda layer: layer.name
)
@pytest.mark.parametrize("left", [2, 1, 0])
def test_unfinished_behind_an_srh(namespace: str, transport: Packet, left: int) -> None:
    """The pseudo-header has the last segment, whichever is the destination."""
    transport = transport.copy()
    transport.chksum = WRONG
    packet = ethernet(IPv6(src=A, dst=(B, R3, R1)[left]) / srh(left) / transport / b"payload")
    got = crossed(namespace, packet, unfinished=True)
    assert_mended(got, packet)


def test_large_packet(namespace: str) -> None:
    packet = ethernet(
        IPv6(src=A, dst=R1) / srh(2) / TCP(sport=1, dport=2, flags="A", chksum=WRONG) / bytes(9000)
    )
    got = crossed(namespace, packet, unfinished=True, segment=SEGMENT)
    assert_mended(got, packet)


def test_behind_another_extension_header(namespace: str) -> None:
    packet = ethernet(IPv6(src=A, dst=B) / IPv6ExtHdrDestOpt() / UDP(sport=1, dport=2, chksum=WRONG) / b"x")
    got = crossed(namespace, packet, unfinished=True)
    assert_mended(got, packet)


@pytest.mark.parametrize("left", [2, 0])
@pytest.mark.parametrize(
    "headers",
    [
        lambda left: srh(left) / IPv6ExtHdrDestOpt(options=PadN(optdata=bytes(26))),
        lambda left: IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / srh(left) / IPv6ExtHdrDestOpt(),
    ],
    ids=["a way back behind the SRH", "every kind"],
)
def test_behind_several_extension_headers(
    namespace: str, headers: Callable[[int], Packet], left: int
) -> None:
    packet = ethernet(
        IPv6(src=A, dst=(B, R3, R1)[left]) / headers(left) / UDP(sport=1, dport=2, chksum=WRONG) / b"payload"
    )
    got = crossed(namespace, packet, unfinished=True)
    assert_mended(got, packet)


@pytest.mark.parametrize("wrong", [False, True], ids=["right", "wrong"])
def test_complete_checksums_stay(namespace: str, wrong: bool) -> None:
    """Also a wrong one: it is the sender's, and the receiver is to see it."""
    for value in (0, 0xFFFF, WRONG) if wrong else (None,):
        transport = TCP(sport=1, dport=2, chksum=value)
        packet = ethernet(IPv6(src=A, dst=R1) / srh(2) / transport / b"payload")
        got = crossed(namespace, packet, unfinished=False)
        assert not got.unfinished and got.data == bytes(packet)


def test_without_an_extension_header_it_is_left(namespace: str) -> None:
    packet = ethernet(IPv6(src=A, dst=B) / TCP(sport=1, dport=2, chksum=WRONG) / b"payload")
    got = crossed(namespace, packet, unfinished=True)
    assert got.unfinished and got.data == bytes(packet)


def test_bytecode_is_of_this_source() -> None:
    digest, program = checksums.shipped()
    assert digest == checksums.source_digest(), (
        "lab/vpp/checksums.c has changed: `python -m lab.vpp.checksums`"
    )
    assert faults(program) == []
