"""What the RFCs say about bytes on the wire: headers, lists, options, names. Plain Python, for the model."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from hawkwing.dataplane.layout import limits
from tests.dataplane import plain as p

IPV6_HEADER = 40
LIMITS = limits()


class Srh(NamedTuple):
    """A Segment Routing Header, RFC 8754 section 2; `fits` where its list does not exceed it."""

    next_header: int
    size: int
    kind: int
    left: int
    segments: tuple[bytes, ...]
    fits: bool


def read_srh(data: bytes, at: int) -> Srh | None:
    """The routing header at `at`; None where not even its fixed part is there."""
    if len(data) < at + 8:
        return None
    next_header, extent, kind, left, last = data[at : at + 5]
    size = 8 * (extent + 1)
    fits = 8 + 16 * (last + 1) <= size
    count = last + 1 if fits else 0
    segments = tuple(data[at + 8 + 16 * i : at + 24 + 16 * i] for i in range(count))
    return Srh(next_header, size, kind, left, segments, fits)


@dataclass
class Chain:
    """What follows an IPv6 header (RFC 8200, section 4.1); `problem` is a reason to look no further."""

    problem: str | None = None
    protocol: int = p.NO_NEXT
    transport: int = 0
    ahead: int = 0
    fragment: int = 0
    identification: bytes = b""
    later: bool = False
    source_port: int = 0
    destination_port: int = 0


def read_chain(data: bytes, at: int, kind: int) -> Chain:
    """Follows the headers from `at`, which is one of `kind`."""
    chain = Chain()
    extensions = (p.HOP_BY_HOP, p.DESTINATION, p.FRAGMENT, p.AUTH)
    passed = 0
    while kind in extensions and not chain.later:
        if passed == LIMITS["HW_MAX_EXTENSIONS"]:
            chain.problem = "EXTENSION_CHAIN"
            return chain
        header = data[at : at + 8]
        if len(header) < 8:
            chain.problem = "TRUNCATED"
            return chain
        size = 8 * (header[1] + 1)
        if kind == p.HOP_BY_HOP:
            if passed or size > LIMITS["HW_MAX_HOP_BY_HOP"]:
                chain.problem = "EXTENSION_CHAIN"
                return chain
            chain.ahead = size
        elif kind == p.AUTH:
            size = 4 * (header[1] + 2)
        elif kind == p.FRAGMENT:
            size = 8
            chain.fragment, chain.identification = at, header[4:]
            chain.later = struct.unpack("!H", header[2:4])[0] >> 3 != 0
        at, kind, passed = at + size, header[0], passed + 1
    chain.protocol, chain.transport = kind, at
    if chain.later:
        return chain
    if kind == p.ROUTING:
        chain.problem = "HAS_ROUTING_HEADER"
    elif kind in (p.TCP, p.UDP, p.SCTP):
        if len(data) < at + 4:
            chain.problem = "TRUNCATED"
        else:
            chain.source_port, chain.destination_port = struct.unpack_from("!HH", data, at)
    return chain


def jumbo_of(packet: bytes) -> int | None:
    """What the Jumbo Payload option (RFC 2675) says at the place where Linux has it; `packet` is IPv6's."""
    if packet[42:44] != b"\xc2\x04":
        return None
    return int.from_bytes(packet[44:48], "big")


def is_syn(packet: bytes, at: int) -> bool:
    """True where the TCP header at `at` has the SYN flag; `packet` begins with the IPv6 header."""
    return len(packet) > at + 13 and bool(packet[at + 13] & p.SYN)


def clamp(packet: bytes, tcp: int, limit: int) -> bytes | None:
    """The packet with its MSS option lowered to `limit`; None where there is nothing to lower."""
    if len(packet) < tcp + 13:
        return None
    end = min(tcp + 4 * (packet[tcp + 12] >> 4), len(packet))
    at = tcp + 20
    while at + 4 <= end:
        kind, size = packet[at], packet[at + 1]
        if kind == 0 or (kind != 1 and size < 2):
            return None
        if kind == 2 and size == 4:
            (value,) = struct.unpack_from("!H", packet, at + 2)
            if value <= limit:
                return None
            changed = packet[: at + 2] + struct.pack("!H", limit) + packet[at + 4 :]
            return with_sum(changed, tcp + 16, packet[tcp:], changed[tcp:])
        at += 1 if kind == 1 else size
    return None


def with_sum(packet: bytes, place: int, old: bytes, new: bytes) -> bytes:
    """Carries a one's complement checksum over from `old` to `new`, right or wrong (RFC 1624)."""
    (before,) = struct.unpack_from("!H", packet, place)
    total = 0xFFFF - before + 0xFFFF - p.ones_complement(old) + p.ones_complement(new)
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return packet[:place] + struct.pack("!H", 0xFFFF - total) + packet[place + 2 :]


def question(message: bytes) -> tuple[bytes, int] | None:
    """Name asked for, with its length bytes, in lower case, and where the answers begin (RFC 1035)."""
    if len(message) < 17:
        return None
    if struct.unpack_from("!H", message, 4)[0] != 1:
        return None
    at = 12
    while at < len(message) and message[at]:
        if message[at] > 63:
            return None
        at += 1 + message[at]
    if at + 5 > len(message) or at - 12 > LIMITS["HW_MAX_NAME"]:
        return None
    if struct.unpack_from("!HH", message, at + 1) != (28, 1):
        return None
    return message[12:at].lower(), at + 5


def addresses(message: bytes, at: int) -> Iterator[tuple[bytes, int]]:
    """Address and TTL of each AAAA record among the answers, until one cannot be read."""
    (answers,) = struct.unpack_from("!H", message, 6)
    found = 0
    for _ in range(LIMITS["HW_MAX_DNS_STEPS"]):
        if at >= len(message) or not answers:
            return
        size = message[at]
        if 1 <= size <= 63:
            at += 1 + size
            continue
        if 64 <= size < 0xC0:
            return
        at += 1 if size == 0 else 2
        if at + 10 > len(message):
            return
        kind, family, ttl, size = struct.unpack_from("!HHIH", message, at)
        at += 10 + size
        if at > len(message):
            return
        answers -= 1
        if (kind, family, size) == (28, 1, 16):
            if found == LIMITS["HW_MAX_ANSWERS"]:
                return
            found += 1
            yield message[at - 16 : at], ttl
