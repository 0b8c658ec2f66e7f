"""Packets of the tests, built with scapy; as bytes, because programs are run on bytes.

Segment lists are given in the order of travel. What scapy can't build, because it is broken on purpose, goes
on top of its bytes. The same packet is built once: scapy needs half a millisecond for it.
`tests.dataplane.plain` has the same functions in plain Python, for the fuzzer and its model.
"""

import hmac
from collections.abc import Callable, Sequence
from functools import lru_cache, wraps
from ipaddress import IPv4Address, IPv6Address
from typing import ParamSpec

from scapy.layers.dns import DNS, DNSQR, DNSRR, dns_encode
from scapy.layers.inet import IP
from scapy.layers.inet import TCP as TcpHeader
from scapy.layers.inet import UDP as UdpHeader
from scapy.layers.inet6 import (
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    ICMPv6ParamProblem,
    ICMPv6Unknown,
    IPv6,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrSegmentRouting,
    Jumbo,
    Pad1,
    PadN,
    PseudoIPv6,
)
from scapy.layers.ipsec import AH
from scapy.layers.l2 import Ether
from scapy.layers.sctp import SCTP as SctpHeader
from scapy.layers.sctp import SCTPChunkShutdownComplete
from scapy.packet import Packet, Raw
from scapy.utils import checksum as scapy_checksum

HOP_BY_HOP, TCP, UDP, ROUTING, FRAGMENT, ESP, AUTH = 0, 6, 17, 43, 44, 50, 51
ICMPV6, NO_NEXT, DESTINATION, SCTP, IPV6, IPV4 = 58, 59, 60, 132, 41, 4
SYN, SYN_ACK, ACK = 0x02, 0x12, 0x10
ICMP6_TOO_BIG = 2
ETHERTYPE_IPV4, ETHERTYPE_IPV6 = 0x0800, 0x86DD
MAC_HERE = bytes.fromhex("02bb00000002")
_IPV6_HEADER, _ETHERNET = 40, 14
P = ParamSpec("P")


def _once(build: Callable[P, bytes]) -> Callable[P, bytes]:
    """Keeps what was built."""
    kept = lru_cache(maxsize=1 << 14)(build)

    def fixed(value: object) -> object:
        if isinstance(value, bytearray):
            return bytes(value)
        return tuple(value) if isinstance(value, list) else value

    @wraps(build)
    def built(*args: P.args, **fields: P.kwargs) -> bytes:
        return kept(*map(fixed, args), **{name: fixed(value) for name, value in fields.items()})  # type: ignore

    return built


def ones_complement(data: bytes) -> int:
    """The 16-bit one's complement sum of RFC 1071."""
    return int(~scapy_checksum(data) & 0xFFFF)


def pseudo(source: IPv6Address, destination: IPv6Address, protocol: int, length: int) -> bytes:
    """The pseudo-header of RFC 8200, section 8.1; `destination` is the final one."""
    return bytes(PseudoIPv6(src=str(source), dst=str(destination), uplen=length, nh=protocol))


def checksum(source: IPv6Address, destination: IPv6Address, protocol: int, body: bytes) -> int:
    """What belongs into the checksum field of `body`, where there is now a zero."""
    value: int = scapy_checksum(pseudo(source, destination, protocol, len(body)) + body)
    return value or (0xFFFF if protocol == UDP else 0)


def checksum_holds(source: IPv6Address, destination: IPv6Address, protocol: int, body: bytes) -> bool:
    """True where the checksum inside `body` is right."""
    return bool(scapy_checksum(pseudo(source, destination, protocol, len(body)) + body) == 0)


def _behind_ipv6(source: IPv6Address, destination: IPv6Address, packet: Packet) -> bytes:
    """A transport header and what follows, its checksum included."""
    return bytes(IPv6(src=str(source), dst=str(destination)) / packet)[_IPV6_HEADER:]


@_once
def _ethernet_header(ethertype: int, to: bytes, by: bytes) -> bytes:
    return bytes(Ether(dst=to.hex(":"), src=by.hex(":"), type=ethertype))


def ethernet(ethertype: int, payload: bytes, to: bytes = MAC_HERE, by: bytes = MAC_HERE) -> bytes:
    """An Ethernet frame; the next hop is the same both ways."""
    return _ethernet_header(ethertype, to, by) + payload


@_once
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
    size = len(payload) if length is None else length
    header = IPv6(src=str(source), dst=str(destination), nh=next_header, plen=size)
    header.fl, header.tc, header.hlim = label, traffic_class, hop_limit
    return ethernet(ETHERTYPE_IPV6, bytes(header) + payload)


@_once
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
    header = IP(src=str(source), dst=str(destination), proto=protocol, ihl=ihl, id=7)
    header.flags, header.frag, header.len = offset >> 13, offset & 0x1FFF, ihl * 4 + len(payload)
    return ethernet(ETHERTYPE_IPV4, bytes(header) + bytes(max(ihl - 5, 0) * 4) + payload)


@_once
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
    header = IPv6ExtHdrSegmentRouting(nh=next_header, type=kind, tag=tag, lastentry=last)
    header.addresses = [str(segment) for segment in reversed(path)]
    header.segleft = len(path) - 1 if left is None else left
    header.len = 2 * len(path) + len(tlvs) // 8 if extent is None else extent
    header.unused1, header.protected, header.oam = flags >> 7, flags >> 6 & 1, flags >> 5 & 1
    header.alert, header.hmac, header.unused2 = flags >> 4 & 1, flags >> 3 & 1, flags & 7
    return bytes(header) + tlvs + payload


@_once
def fragment(
    next_header: int, payload: bytes, *, offset: int = 0, more: bool = False, identification: int = 1
) -> bytes:
    """A Fragment header; `offset` in bytes."""
    header = IPv6ExtHdrFragment(nh=next_header, offset=offset // 8, m=more, id=identification)
    return bytes(header) + payload


@_once
def options(
    next_header: int, payload: bytes, *, size: int = 8, extent: int | None = None, jumbo: int | None = None
) -> bytes:
    """A Hop-by-Hop or Destination Options header of `size` bytes, filled with PadN options.

    With `jumbo`, it begins with a Jumbo Payload option (RFC 2675).
    """
    padding = [] if jumbo is None else [Jumbo(jumboplen=jumbo)]
    left = size - 2 - 6 * len(padding)
    while left:
        pad = min(left, 257)
        padding.append(PadN(optdata=bytes(pad - 2)) if pad > 1 else Pad1())
        left -= pad
    length = size // 8 - 1 if extent is None else extent
    return bytes(IPv6ExtHdrHopByHop(nh=next_header, len=length, autopad=0, options=padding)) + payload


@_once
def auth(next_header: int, payload: bytes, *, icv: int = 12) -> bytes:
    """An Authentication Header with an integrity value of `icv` bytes."""
    length = (12 + icv) // 4 - 2
    return bytes(AH(nh=next_header, payloadlen=length, spi=0x1001, seq=1, icv=bytes(range(icv)))) + payload


@_once
def udp(
    source: IPv6Address, destination: IPv6Address, sport: int, dport: int, data: bytes = b"hello"
) -> bytes:
    """A UDP datagram with the checksum for the final destination."""
    return _behind_ipv6(source, destination, UdpHeader(sport=sport, dport=dport) / Raw(data))


@_once
def udp_unsummed(sport: int, dport: int, data: bytes) -> bytes:
    """A UDP datagram without a checksum, as IPv4 allows it."""
    return bytes(UdpHeader(sport=sport, dport=dport, chksum=0) / Raw(data))


@_once
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
    header = TcpHeader(sport=sport, dport=dport, seq=1000, ack=2000, dataofs=words, flags=flags, window=64240)
    return _behind_ipv6(source, destination, header / Raw(option_bytes + data))


@_once
def mss(value: int) -> bytes:
    """The TCP option."""
    return bytes(TcpHeader(options=[("MSS", value)]))[20:]


@_once
def sctp(sport: int, dport: int) -> bytes:
    """An SCTP common header and one chunk."""
    return bytes(SctpHeader(sport=sport, dport=dport, tag=77, chksum=0) / SCTPChunkShutdownComplete())


@_once
def icmp6(
    source: IPv6Address, destination: IPv6Address, kind: int, code: int, info: int, body: bytes
) -> bytes:
    """An ICMPv6 message with its checksum."""
    made = {
        ICMP6_TOO_BIG: ICMPv6PacketTooBig(mtu=info),
        4: ICMPv6ParamProblem(ptr=info),
        128: ICMPv6EchoRequest(id=info >> 16, seq=info & 0xFFFF),
        129: ICMPv6EchoReply(id=info >> 16, seq=info & 0xFFFF),
    }
    message = made.get(kind, ICMPv6Unknown(type=kind, msgbody=info.to_bytes(4, "big")))
    message.code = code
    return _behind_ipv6(source, destination, message / Raw(body))


@_once
def icmp6_error(
    source: IPv6Address, destination: IPv6Address, kind: int, quoted: bytes, info: int = 0, code: int = 0
) -> bytes:
    """A frame with an ICMPv6 error; `quoted` is a frame too, and is cut as RFC 4443 wants it."""
    body = quoted[_ETHERNET:][:1232]
    return ipv6(source, destination, ICMPV6, icmp6(source, destination, kind, code, info, body))


@_once
def name(text: str) -> bytes:
    """A domain name, uncompressed (RFC 1035, section 3.1)."""
    return bytes(dns_encode(text.encode()))


@_once
def record(owner: bytes, kind: int, data: bytes, *, ttl: int = 300, family: int = 1) -> bytes:
    """A resource record; its data need not be what the kind asks for."""
    fields = {"rclass": family & 0x7FFF, "cacheflush": family >> 15, "ttl": ttl}
    opaque = bytes(DNSRR(rrname=".", type="NULL", rdlen=len(data), rdata=data, **fields))
    return owner + kind.to_bytes(2, "big") + opaque[3:]


@_once
def aaaa(address: IPv6Address, *, owner: bytes = b"\xc0\x0c", ttl: int = 300) -> bytes:
    """An AAAA record; its owner is the question's name by way of a pointer, or something that is no name."""
    return owner + bytes(DNSRR(rrname=".", type="AAAA", ttl=ttl, rdata=str(address)))[1:]


def _dns_header(number: int, flags: int, questions: int, answers: int) -> bytes:
    header = DNS(id=number, qdcount=questions, ancount=answers, qd=[], an=[], ns=[], ar=[])
    header.qr, header.opcode, header.rcode = flags >> 15, flags >> 11 & 15, flags & 15
    for bit, flag in enumerate(("cd", "ad", "z", "ra", "rd", "tc", "aa"), 4):
        header.setfieldval(flag, flags >> bit & 1)
    return bytes(header)


def _question(asked: bytes, kind: int, family: int) -> bytes:
    """Not all that is asked here is a name."""
    return asked + bytes(DNSQR(qname=".", qtype=kind, qclass=family))[1:]


@_once
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
    header = _dns_header(0x4242, flags, questions, len(records) if answers is None else answers)
    return header + _question(asked, kind, family) + b"".join(records) + tail


@_once
def dns_question(message: bytes, kind: int = 28) -> bytes:
    """The query that an answer is about: same identifier, same name."""
    end = message.find(b"\0", 12) + 1 or len(message)
    number = int.from_bytes(message[:2], "big")
    return _dns_header(number, 0x0100, 1, 0) + _question(message[12:end], kind, 1)


@_once
def encapsulated(frame: bytes, sids: Sequence[IPv6Address], tunnel: IPv6Address) -> bytes:
    """in: IPv6(A, B) X   out: IPv6(T, S1) SRH(Sk .. S2; SL=k-1) IPv6(A, B) X; one SID needs no SRH.

    IPv4 likewise, whose outer header has no label, and a hop limit of its own.
    """
    body = frame[_ETHERNET:]
    kind, fields = IPV4, {"hlim": 64}
    if Ether(frame).type == ETHERTYPE_IPV6:
        ip = IPv6(body[:_IPV6_HEADER])
        kind, fields = IPV6, {"tc": ip.tc, "fl": ip.fl, "hlim": ip.hlim}
    outer = IPv6(src=str(tunnel), dst=str(sids[0]), nh=kind, **fields)
    if len(sids) > 1:
        srh = IPv6ExtHdrSegmentRouting(nh=kind, segleft=len(sids) - 1, lastentry=len(sids) - 2)
        srh.addresses = [str(sid) for sid in reversed(sids[1:])]
        body, outer.nh = bytes(srh) + body, ROUTING
    outer.plen = len(body)
    return ethernet(ETHERTYPE_IPV6, bytes(outer) + body, frame[:6], frame[6:12])


def steered(frame: bytes, sids: Sequence[IPv6Address], ahead: int = 0) -> bytes:
    """in: IPv6(A, B) X   out: IPv6(A, S1) SRH(B, Sk .. S1; SL=k) X; the SRH goes behind `ahead` bytes."""
    ip, rest = IPv6(frame[_ETHERNET : _ETHERNET + _IPV6_HEADER]), frame[_ETHERNET + _IPV6_HEADER :]
    before, behind = rest[:ahead], rest[ahead:]
    header = IPv6ExtHdrSegmentRouting(nh=before[0] if ahead else ip.nh, segleft=len(sids))
    header.addresses = [ip.dst, *map(str, reversed(sids))]
    ip.dst, ip.plen = str(sids[0]), ip.plen + len(header)
    if ahead:
        before = bytes([ROUTING]) + before[1:]
    else:
        ip.nh = ROUTING
    return frame[:_ETHERNET] + bytes(ip) + before + bytes(header) + behind


def signed(frame: bytes, number: int, secret: bytes, ahead: int = 0) -> bytes:
    """The frame with the HMAC TLV of RFC 8754, section 2.1.2, in the SRH behind `ahead` bytes."""
    ip = IPv6(frame[_ETHERNET : _ETHERNET + _IPV6_HEADER])
    at = _ETHERNET + _IPV6_HEADER + ahead
    header = IPv6ExtHdrSegmentRouting(frame[at : at + (frame[at + 1] + 1) * 8])
    header.len, header.hmac = header.len + 5, 1
    raw = bytes(header)
    number_bytes = number.to_bytes(4, "big")
    covered = bytes(ip)[8:24] + raw[4:6] + number_bytes + raw[8:]
    tlv = bytes([5, 38, 0, 0]) + number_bytes + hmac.digest(secret, covered, "sha256")
    ip.plen += len(tlv)
    rest = frame[at + len(raw) :]
    return frame[:_ETHERNET] + bytes(ip)[:_IPV6_HEADER] + frame[at - ahead : at] + raw + tlv + rest
