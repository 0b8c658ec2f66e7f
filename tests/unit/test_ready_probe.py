"""Probes as frames: what a socket sends, and the sum that the program completes."""

import struct
from ipaddress import IPv6Address

import pytest
from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrSegmentRouting
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from hawkwing.probing import lists
from hawkwing.ready_probe import ready_probe

A = IPv6Address("fcbb:cc00:1::a")
SIDS = [IPv6Address(f"fcbb:bb00:{number}::2") for number in (1, 2)]
NEXT_HOP, OWN = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")


def folded(total: int) -> int:
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


@pytest.mark.parametrize("size", [24, 25, 72])
def test_it_is_the_packet_that_a_socket_sends(size: int) -> None:
    payload = bytes(range(1, size + 1))
    found = ready_probe((NEXT_HOP, OWN), (A, 4000), (A, 4001), lists.probe_srh(SIDS), payload, 61)
    r1, r2 = map(str, SIDS)
    expected = (
        Ether(dst="02:00:00:00:00:01", src="02:00:00:00:00:02")
        / IPv6(src=str(A), dst=r1, hlim=61)
        / IPv6ExtHdrSegmentRouting(addresses=[str(A), r1, r2, r1], segleft=3, lastentry=3)
        / UDP(sport=4000, dport=4001, chksum=0)
        / Raw(payload)
    )
    assert found.content == bytes(2) + bytes(expected)
    assert found.content[found.payload_at :] == payload
    assert found.payload_at % 8 == 0, "the program writes words there"

    whole = bytearray(found.content)
    checksum = ~folded(found.total) & 0xFFFF
    struct.pack_into("=H", whole, found.checksum_at, checksum)
    del expected[UDP].chksum
    assert bytes(whole[2:]) == bytes(expected)
