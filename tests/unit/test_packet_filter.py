"""The filter of `hawkwing capture`, run by the kernel on a socket: frames with an SRH pass."""

from __future__ import annotations

import socket

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    IPv6ExtHdrSegmentRouting,
    PadN,
)
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether
from scapy.packet import Packet, Raw

from hawkwing.packet_filter import with_srh
from hawkwing.packet_ring import attach

A, B, SID = "fcbb:cc00:1::a", "fcbb:cc00:2::a", "fcbb:bb00:1::2"
ETHER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
SRH = IPv6ExtHdrSegmentRouting(addresses=[B, SID], segleft=1, lastentry=1)
LONG_OPTIONS = [PadN(optdata=bytes(60))]

WITH = {
    "TCP": IPv6(src=A, dst=SID) / SRH / TCP(),
    "any transport": IPv6(src=A, dst=SID, nh=43) / SRH / Raw(b""),
    "a fragment": IPv6(src=A, dst=SID) / SRH / IPv6ExtHdrFragment(offset=181, m=0) / Raw(b"rest"),
    "behind Hop-by-Hop": IPv6(src=A, dst=SID) / IPv6ExtHdrHopByHop() / SRH / UDP(),
    "behind a long Hop-by-Hop": IPv6(src=A, dst=SID) / IPv6ExtHdrHopByHop(options=LONG_OPTIONS) / SRH / UDP(),
    "behind two headers": IPv6(src=A, dst=SID) / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / SRH / UDP(),
}
WITHOUT = {
    "plain TCP": IPv6(src=A, dst=B) / TCP(),
    "a fragment": IPv6(src=A, dst=B) / IPv6ExtHdrFragment(offset=0, m=1) / UDP() / Raw(bytes(40)),
    "another routing header": IPv6(src=A, dst=B) / IPv6ExtHdrRouting(type=3) / UDP(),
    "Hop-by-Hop only": IPv6(src=A, dst=B) / IPv6ExtHdrHopByHop() / UDP(),
    "IPv4": IP(src="10.0.0.1", dst="10.0.0.2", proto=43) / Raw(bytes(60)),
    "three headers": IPv6(src=A, dst=B)
    / IPv6ExtHdrHopByHop()
    / IPv6ExtHdrDestOpt()
    / IPv6ExtHdrDestOpt()
    / SRH
    / UDP(),
}
LINKS = {
    "no tag": ETHER,
    "a tag": ETHER / Dot1Q(vlan=7),
    "two tags": ETHER / Dot1AD(vlan=7) / Dot1Q(vlan=8),
}


def passes(data: bytes, ethernet: bool = True) -> bool:
    """Does the kernel's filter let it through?"""
    sender, receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with sender, receiver:
        attach(receiver, with_srh(ethernet))
        receiver.setblocking(False)
        try:
            sender.send(data)
            return receiver.recv(65536) == data
        except (BlockingIOError, PermissionError):
            # The kernel tells the sender of it.
            return False


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("name", WITH)
def test_with_an_srh(link: str, name: str) -> None:
    assert passes(bytes(LINKS[link] / WITH[name]))


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("name", WITHOUT)
def test_without_an_srh(link: str, name: str) -> None:
    assert not passes(bytes(LINKS[link] / WITHOUT[name]))


@pytest.mark.parametrize(
    ("packets", "expected"), [(WITH, True), (WITHOUT, False)], ids=["with an SRH", "without"]
)
def test_links_without_ethernet_header(packets: dict[str, Packet], expected: bool) -> None:
    for name, packet in packets.items():
        assert passes(bytes(packet), ethernet=False) is expected, name


def test_frames_that_end_early() -> None:
    whole = bytes(ETHER / WITH["behind two headers"])
    srh_begins = 14 + 40 + 16
    for length in range(1, srh_begins + 3):
        assert not passes(whole[:length]), length
