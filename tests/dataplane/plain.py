"""Bytes of packets, built by hand from the RFCs; segment lists are given in the order of travel.

For the fuzzer and its model, which stay plain Python: they are independent of scapy, and make hundreds of
packets in the time that scapy needs for one. A unit test compares them with `tests.dataplane.packets`.
"""

import struct
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address

HOP_BY_HOP, TCP, UDP, ROUTING, FRAGMENT, ESP, AUTH = 0, 6, 17, 43, 44, 50, 51
ICMPV6, NO_NEXT, DESTINATION, SCTP, IPV6, IPV4 = 58, 59, 60, 132, 41, 4
SYN, SYN_ACK, ACK = 0x02, 0x12, 0x10
ICMP6_TOO_BIG = 2
ETHERTYPE_IPV4, ETHERTYPE_IPV6 = 0x0800, 0x86DD
MAC_HERE = bytes.fromhex("02bb00000002")


def ones_complement(data: bytes) -> int:
    """The 16-bit one's complement sum of RFC 1071."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def pseudo(source: IPv6Address, destination: IPv6Address, protocol: int, length: int) -> bytes:
    """The pseudo-header of RFC 8200, section 8.1; `destination` is the final one."""
    return source.packed + destination.packed + struct.pack("!IxxxB", length, protocol)


def checksum(source: IPv6Address, destination: IPv6Address, protocol: int, body: bytes) -> int:
    """What belongs into the checksum field of `body`, where there is now a zero."""
    value = 0xFFFF - ones_complement(pseudo(source, destination, protocol, len(body)) + body)
    return value or (0xFFFF if protocol == UDP else 0)


def checksum_holds(source: IPv6Address, destination: IPv6Address, protocol: int, body: bytes) -> bool:
    """True where the checksum inside `body` is right."""
    return ones_complement(pseudo(source, destination, protocol, len(body)) + body) == 0xFFFF


def ethernet(ethertype: int, payload: bytes, to: bytes = MAC_HERE, by: bytes = MAC_HERE) -> bytes:
    """An Ethernet frame; the next hop is the same both ways."""
    return to + by + struct.pack("!H", ethertype) + payload


def ipv6(
    source: IPv6Address,
    destination: IPv6Address,
    next_header: int,
    payload: bytes,
    *,
    label: int = 0x12345,
    traffic_class: int = 0,
    hop_limit: int = 64,
    length: int | None = None,
) -> bytes:
    """A frame with an IPv6 packet; `length` overrides the payload length."""
    first = 6 << 28 | traffic_class << 20 | label
    size = len(payload) if length is None else length
    header = struct.pack("!IHBB", first, size, next_header, hop_limit)
    return ethernet(ETHERTYPE_IPV6, header + source.packed + destination.packed + payload)


def ipv4(
    source: IPv4Address,
    destination: IPv4Address,
    protocol: int,
    payload: bytes,
    *,
    offset: int = 0,
    ihl: int = 5,
) -> bytes:
    """A frame with an IPv4 packet; `offset` is the whole field with the flags."""
    size = ihl * 4 + len(payload)
    header = struct.pack("!BBHHHBBH", 0x40 | ihl, 0, size, 7, offset, 64, protocol, 0)
    header += source.packed + destination.packed + bytes(max(ihl - 5, 0) * 4)
    header = header[:10] + struct.pack("!H", 0xFFFF - ones_complement(header)) + header[12:]
    return ethernet(ETHERTYPE_IPV4, header + payload)


def srh(
    next_header: int,
    path: Sequence[IPv6Address],
    payload: bytes,
    *,
    left: int | None = None,
    tlvs: bytes = b"",
    kind: int = 4,
    extent: int | None = None,
    last: int | None = None,
    flags: int = 0,
    tag: int = 0,
) -> bytes:
    """An SRH over `path`, which ends with the destination; segments left: not travelled yet, or `left`."""
    segments = b"".join(segment.packed for segment in reversed(path))
    entry = len(path) - 1 if last is None else last
    size = (len(segments) + len(tlvs)) // 8 if extent is None else extent
    left = len(path) - 1 if left is None else left
    return (
        struct.pack("!BBBBBBH", next_header, size, kind, left, entry, flags, tag) + segments + tlvs + payload
    )


def fragment(
    next_header: int, payload: bytes, *, offset: int = 0, more: bool = False, identification: int = 1
) -> bytes:
    """A Fragment header; `offset` in bytes."""
    return struct.pack("!BBHI", next_header, 0, offset | more, identification) + payload


def options(
    next_header: int, payload: bytes, *, size: int = 8, extent: int | None = None, jumbo: int | None = None
) -> bytes:
    """A Hop-by-Hop or Destination Options header of `size` bytes, filled with PadN options.

    With `jumbo`, it begins with a Jumbo Payload option (RFC 2675).
    """
    body = b"" if jumbo is None else struct.pack("!BBI", 0xC2, 4, jumbo)
    left = size - 2 - len(body)
    while left:
        pad = min(left, 257)
        body += b"\x01" + bytes([pad - 2]) + bytes(pad - 2) if pad > 1 else b"\0"
        left -= pad
    return bytes([next_header, size // 8 - 1 if extent is None else extent]) + body + payload


def auth(next_header: int, payload: bytes, *, icv: int = 12) -> bytes:
    """An Authentication Header with an integrity value of `icv` bytes."""
    size = 12 + icv
    return struct.pack("!BBHII", next_header, size // 4 - 2, 0, 0x1001, 1) + bytes(range(icv)) + payload


def udp(
    source: IPv6Address, destination: IPv6Address, sport: int, dport: int, data: bytes = b"hello"
) -> bytes:
    """A UDP datagram with the checksum for the final destination."""
    header = struct.pack("!HHH", sport, dport, 8 + len(data))
    value = checksum(source, destination, UDP, header + b"\0\0" + data)
    return header + struct.pack("!H", value) + data


def tcp(
    source: IPv6Address,
    destination: IPv6Address,
    sport: int,
    dport: int,
    data: bytes = b"",
    *,
    flags: int = ACK,
    option_bytes: bytes = b"",
    offset: int | None = None,
) -> bytes:
    """A TCP segment with the checksum for the final destination; options are padded with zeros."""
    option_bytes += bytes(-len(option_bytes) % 4)
    words = 5 + len(option_bytes) // 4 if offset is None else offset
    front = struct.pack("!HHIIBBH", sport, dport, 1000, 2000, words << 4, flags, 64240)
    body = option_bytes + data
    value = checksum(source, destination, TCP, front + bytes(4) + body)
    return front + struct.pack("!HH", value, 0) + body


def mss(value: int) -> bytes:
    """The TCP option."""
    return struct.pack("!BBH", 2, 4, value)


def sctp(sport: int, dport: int) -> bytes:
    """An SCTP common header and one chunk."""
    return struct.pack("!HHII", sport, dport, 77, 0) + b"\x0e\0\0\x04"


def icmp6(
    source: IPv6Address, destination: IPv6Address, kind: int, code: int, info: int, body: bytes
) -> bytes:
    """An ICMPv6 message with its checksum."""
    front = struct.pack("!BB", kind, code)
    rest = struct.pack("!I", info) + body
    value = checksum(source, destination, ICMPV6, front + b"\0\0" + rest)
    return front + struct.pack("!H", value) + rest


def icmp6_error(
    source: IPv6Address, destination: IPv6Address, kind: int, quoted: bytes, info: int = 0, code: int = 0
) -> bytes:
    """A frame with an ICMPv6 error; `quoted` is a frame too, and is cut as RFC 4443 wants it."""
    return ipv6(source, destination, ICMPV6, icmp6(source, destination, kind, code, info, quoted[14:][:1232]))


def name(text: str) -> bytes:
    """A domain name, uncompressed (RFC 1035, section 3.1)."""
    labels = [label.encode() for label in text.split(".") if label]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def record(owner: bytes, kind: int, data: bytes, *, ttl: int = 300, family: int = 1) -> bytes:
    """A resource record."""
    return owner + struct.pack("!HHIH", kind, family, ttl, len(data)) + data


def aaaa(address: IPv6Address, *, owner: bytes = b"\xc0\x0c", ttl: int = 300) -> bytes:
    """An AAAA record; its owner is the question's name by way of a pointer."""
    return record(owner, 28, address.packed, ttl=ttl)


def dns_answer(
    question: str | bytes,
    records: Sequence[bytes],
    *,
    flags: int = 0x8180,
    questions: int = 1,
    answers: int | None = None,
    kind: int = 28,
    family: int = 1,
    tail: bytes = b"",
) -> bytes:
    """A DNS message with one question and its answers."""
    asked = name(question) if isinstance(question, str) else question
    count = len(records) if answers is None else answers
    header = struct.pack("!6H", 0x4242, flags, questions, count, 0, 0)
    return header + asked + struct.pack("!HH", kind, family) + b"".join(records) + tail


def dns_question(message: bytes, kind: int = 28) -> bytes:
    """The query that an answer is about: same identifier, same name."""
    end = message.find(b"\0", 12) + 1 or len(message)
    return (
        message[:2] + struct.pack("!5H", 0x0100, 1, 0, 0, 0) + message[12:end] + struct.pack("!HH", kind, 1)
    )


def encapsulated(frame: bytes, sids: Sequence[IPv6Address], tunnel: IPv6Address) -> bytes:
    """in: IPv6(A, B) X   out: IPv6(T, S1) SRH(Sk .. S2; SL=k-1) IPv6(A, B) X; one SID needs no SRH.

    IPv4 likewise, whose outer header has no label, and a hop limit of its own.
    """
    body, kind, count = frame[14:], IPV6, len(sids) - 1
    first, hops = body[:4], body[7:8]
    if frame[12:14] == struct.pack("!H", ETHERTYPE_IPV4):
        kind, first, hops = IPV4, bytes([6 << 4, 0, 0, 0]), bytes([64])
    if count:
        fixed = bytes([kind, 2 * count, 4, count, count - 1, 0, 0, 0])
        body, kind = fixed + b"".join(sid.packed for sid in reversed(sids[1:])) + body, ROUTING
    ip = first + struct.pack("!H", len(body)) + bytes([kind]) + hops + tunnel.packed + sids[0].packed
    return frame[:12] + struct.pack("!H", ETHERTYPE_IPV6) + ip + body


def steered(frame: bytes, sids: Sequence[IPv6Address], ahead: int = 0) -> bytes:
    """in: IPv6(A, B) X   out: IPv6(A, S1) SRH(B, Sk .. S1; SL=k) X; the SRH goes behind `ahead` bytes."""
    ip, rest = frame[14:54], frame[54:]
    target = IPv6Address(ip[24:40])
    at = 0 if ahead else 6
    before = rest[:ahead]
    field = before if ahead else ip
    header = srh(field[at], [*sids, target], b"")
    size = struct.unpack_from("!H", ip, 4)[0] + len(header)
    if ahead:
        before = bytes([ROUTING]) + before[1:]
    marked = ip[6:7] if ahead else bytes([ROUTING])
    ip = ip[:4] + struct.pack("!H", size) + marked + ip[7:24] + sids[0].packed
    return frame[:14] + ip + before + header + rest[ahead:]
