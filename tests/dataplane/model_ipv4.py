"""What is to become of IPv4 on a client: the part of model.py for services with IPv4 addresses.

In the tables an address is IPv4-mapped (::ffff:a.b.c.d), and only paths that encapsulate carry it.
"""

import struct

from tests.dataplane import plain as p
from tests.dataplane.model_tables import (
    ETHERNET,
    MIN_MTU,
    REDIRECT,
    Outcome,
    Selected,
    Sids,
    Tables,
    outer_header,
    room_for,
    size_of,
)
from tests.dataplane.model_wire import clamp, is_syn

IPV4_HEADER, QUOTED, RESTORED = 20, 68, 28
ETHERTYPE_IPV4, ETHERTYPE_IPV6 = b"\x08\x00", b"\x86\xdd"
MAPPED = bytes(10) + b"\xff\xff"
_HOP_LIMIT = 64


def is_ipv4(frame: bytes) -> bool:
    """By the Ethernet type."""
    return frame[12:14] == ETHERTYPE_IPV4


def egress_ipv4(tables: Tables, frame: bytes) -> Outcome:
    """in: IPv4(a, b) X   out: IPv6(T, S1) SRH(Sk .. S2; SL=k-1) IPv4(a, b) X   what leaves."""
    out, packet = Outcome(frame), frame[ETHERNET:]
    if not tables.ipv4:
        return out.count("NOT_IPV6")
    at = 4 * (packet[0] & 15) if packet else 0
    if len(packet) < IPV4_HEADER or at < IPV4_HEADER:
        return out.count("TRUNCATED")
    source, target = MAPPED + packet[12:16], MAPPED + packet[16:20]
    if target not in tables.services:
        return out.count("NOT_IPV6")
    if source not in tables.local:
        return out.count("NOT_FROM_HOST")
    key = tables.services[target], *_port_and_protocol(packet, at)
    later = struct.unpack_from("!H", packet, 6)[0] & 0x1FFF
    if not later and packet[9] in (p.TCP, p.UDP, p.SCTP) and len(packet) < at + 4:
        return out.count("TRUNCATED")
    found = _path_of(tables, packet, at, key)
    if isinstance(found, str):
        return out.count(found)
    if found not in tables.encapsulated:
        return out.count("NO_PATH")
    mtu = min(tables.mtu, tables.path_mtus.get(found, tables.mtu))
    if packet[9] == p.TCP and not later and is_syn(packet, at):
        clamped = clamp(packet, at, mtu - IPV4_HEADER - 20 - room_for(tables, tables.routes[key]))
        if clamped:
            packet = clamped
            out.count("MSS_CLAMPED")
    if len(packet) + size_of(tables, found) > mtu:
        out.verdict = REDIRECT
        out.packet = frame[6:12] * 2 + ETHERTYPE_IPV4
        out.packet += icmp(packet[:QUOTED], 3, 4, mtu - size_of(tables, found))
        return out.count("TOO_BIG")
    out.packet = frame[:12] + ETHERTYPE_IPV6 + _encapsulated(tables, packet, found)
    # The frame has the next hop of the IPv4 route, which is only by chance the first segment's, too.
    if tables.next_hops.get(found, (frame[:6], True))[0] != frame[:6]:
        out.count("NEXT_HOP")
        out.verdict = REDIRECT
    return out.count("STEERED")


def _port_and_protocol(packet: bytes, at: int) -> tuple[int, int]:
    known = packet[9] in (p.TCP, p.UDP, p.SCTP) and len(packet) >= at + 4
    return (struct.unpack_from("!H", packet, at + 2)[0] if known else 0), packet[9]


def _path_of(tables: Tables, packet: bytes, at: int, route: tuple[int, int, int]) -> Sids | str:
    """The path of a packet, or the reason why there is none; of fragments, the first one's."""
    source, target = MAPPED + packet[12:16], MAPPED + packet[16:20]
    (word,) = struct.unpack_from("!H", packet, 6)
    key = source, target, packet[4:6] + bytes([packet[9], 0])
    if word & 0x1FFF:
        return tables.fragments.get(key, "LOST_FRAGMENT")
    found = tables.routes.get(route)
    if found is None:
        return "NO_APPLICATION"
    if isinstance(found, Selected):
        sport = struct.unpack_from("!H", packet, at)[0]
        found = found.of(0, source, target, (sport, route[1]), packet[9])
    if word & 0x2000:
        tables.fragments[key] = found
    return found


def _encapsulated(tables: Tables, packet: bytes, sids: Sids) -> bytes:
    (length,) = struct.unpack_from("!H", packet, 2)
    return outer_header(tables, sids, p.IPV4, length, bytes([6 << 4, 0, 0, 0]), bytes([_HOP_LIMIT])) + packet


def icmp(quoted: bytes, kind: int, code: int, mtu: int) -> bytes:
    """An ICMP error (RFC 792, RFC 1191) about this packet, as if from where it goes to."""
    body = struct.pack("!BBHHH", kind, code, 0, 0, mtu) + quoted
    body = body[:2] + struct.pack("!H", 0xFFFF - p.ones_complement(body)) + body[4:]
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, 64, 1, 0) + quoted[16:20] + quoted[12:16]
    return header[:10] + struct.pack("!H", 0xFFFF - p.ones_complement(header)) + header[12:] + body


def ingress_ipv4(tables: Tables, frame: bytes, out: Outcome) -> Outcome:
    """The SYN of a service over IPv4: what is sent to it has to leave room for the outer headers."""
    packet = frame[ETHERNET:]
    out.count("NOT_IPV6")
    if not tables.ipv4 or len(packet) < IPV4_HEADER or packet[9] != p.TCP:
        return out
    at, group = 4 * (packet[0] & 15), tables.services.get(MAPPED + packet[12:16])
    if struct.unpack_from("!H", packet, 6)[0] & 0x1FFF or group is None or not is_syn(packet, at):
        return out
    (port,) = struct.unpack_from("!H", packet, at)
    room = room_for(tables, tables.routes.get((group, port, p.TCP)))
    clamped = clamp(packet, at, tables.mtu - IPV4_HEADER - 20 - room) if room else None
    if clamped:
        out.packet = frame[:ETHERNET] + clamped
        out.count("MSS_CLAMPED")
    return out


def restore_ipv4(tables: Tables, error: bytes, inner: bytes, size: int) -> bytes | None:
    """The ICMPv6 error (kind, code, sum, MTU) as one of IPv4's about `inner`, which had outer headers.

    They have `size` bytes. None: not about ours.
    """
    if len(inner) < RESTORED or inner[0] != 0x45 or struct.unpack_from("!H", inner, 6)[0] & 0x1FFF:
        return None
    group = tables.services.get(MAPPED + inner[16:20])
    if group is None or MAPPED + inner[12:16] not in tables.local:
        return None
    route = tables.routes.get((group, struct.unpack_from("!H", inner, IPV4_HEADER + 2)[0], inner[9]))
    if route is None:
        return None
    kind, code, mtu = (11, 0, 0) if error[0] == 3 else (3, 1, 0)
    if error[0] == p.ICMP6_TOO_BIG:
        (mtu,) = struct.unpack_from("!I", error, 4)
        if not isinstance(route, Selected) and size_of(tables, route) == size and mtu < MIN_MTU + size:
            tables.path_mtus[route] = mtu
        kind, code, mtu = 3, 4, min(mtu - size, 0xFFFF)
    return icmp(inner[:RESTORED], kind, code, mtu)
