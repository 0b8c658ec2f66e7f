"""A probe as a whole frame, for the program that sends many at once (bpf/send_probes.h). No I/O.

    Ethernet IPv6(A, S1) SRH(D, .., S1; SL=k) UDP(p, q) payload

It is what a socket with the SRH as an option sends. Times, the number of a STAMP packet and the UDP checksum
are zero: the program writes them.
"""

from __future__ import annotations

import struct
from ipaddress import IPv6Address
from typing import NamedTuple

from hawkwing.sids import IPV6_HEADER, IPV6_VERSION, ROUTING_HEADER, first_segment

_UDP = struct.Struct("!HHHH")
_PSEUDO = struct.Struct("!16s16sIxxxB")
_UDP_KIND = 17
_HOP_LIMIT = 64
_ETHERTYPE = b"\x86\xdd"
_UNUSED = 2
"""Bytes before the frame, so that the IPv6 header is aligned to 8."""


class ReadyProbe(NamedTuple):
    """`content` is the frame behind two unused bytes; offsets are those of `content`.

    `total` is the sum of the datagram with its pseudo-header, in words of 32 bits of the host's byte order
    (RFC 1071).
    """

    content: bytes
    total: int
    checksum_at: int
    payload_at: int


def _total(data: bytes) -> int:
    count = -(-len(data) // 4)
    total: int = sum(struct.unpack(f"={count}I", data.ljust(4 * count, b"\0")))
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total


def ready_probe(
    link_layer: tuple[bytes, bytes],
    source: tuple[IPv6Address, int],
    destination: tuple[IPv6Address, int],
    srh: bytes,
    payload: bytes,
    hop_limit: int = _HOP_LIMIT,
) -> ReadyProbe:
    """`link_layer` is destination and source, as in the frame; the others are address and port.

    `srh` is in wire order, with next header and segment[0] blank, and all its segments left.
    """
    last = destination[0].packed
    header = bytes([_UDP_KIND]) + srh[1:8] + last + srh[24:]
    length = _UDP.size + len(payload)
    datagram = _UDP.pack(source[1], destination[1], length, 0) + payload
    ends = source[0].packed, first_segment(srh)
    ip6 = IPV6_HEADER.pack(IPV6_VERSION, len(header) + length, ROUTING_HEADER, hop_limit, *ends)
    before = bytes(_UNUSED) + b"".join(link_layer) + _ETHERTYPE + ip6 + header
    pseudo = _PSEUDO.pack(source[0].packed, last, length, _UDP_KIND)
    return ReadyProbe(before + datagram, _total(pseudo + datagram), len(before) + 6, len(before) + _UDP.size)
