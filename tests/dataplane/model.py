"""What is to become of a packet, in plain Python from the RFCs and the texts of the reasons.

It shares nothing with the programs but the tables' contents and the limits of bpf/types.h. `Tables` holds
what a role knows and is changed by what packets teach.
"""

import struct
from collections import Counter

from tests.dataplane import plain as p
from tests.dataplane.model_hmac import judge as judge_hmac
from tests.dataplane.model_hmac import signed
from tests.dataplane.model_ipv4 import (
    ETHERTYPE_IPV4,
    IPV4_HEADER,
    MAPPED,
    egress_ipv4,
    ingress_ipv4,
    is_ipv4,
    restore_ipv4,
)
from tests.dataplane.model_tables import (
    ETHERNET,
    MIN_MTU,
    REDIRECT,
    UNSPEC,
    Flow,
    Outcome,
    Selected,
    Sids,
    Tables,
    outer_header,
    room_for,
    room_to_tell,
    size_of,
)
from tests.dataplane.model_way_back import Told, ToldPath, due, note_use, read, tell
from tests.dataplane.model_wire import (
    IPV6_HEADER,
    LIMITS,
    Chain,
    Srh,
    addresses,
    clamp,
    is_syn,
    jumbo_of,
    question,
    read_chain,
    read_srh,
    with_sum,
)

QUOTED = 136
NO_IDENTIFICATION = bytes(4)


def label_of(packet: bytes) -> int:
    """The flow label of an IPv6 packet."""
    return int.from_bytes(packet[:4], "big") & 0xFFFFF


def is_ipv6(frame: bytes) -> bool:
    """By the Ethernet type."""
    return frame[12:14] == b"\x86\xdd"


def with_length(packet: bytes, change: int, *, jumbo: bool = True) -> bytes:
    """Changes the payload length; a jumbogram's is 0, and elsewhere (RFC 2675)."""
    (length,) = struct.unpack_from("!H", packet, 4)
    says = jumbo_of(packet) if jumbo and is_jumbogram(packet) else None
    if says is not None:
        packet = packet[:44] + struct.pack("!I", (says + change) % 2**32) + packet[48:]
    return packet[:4] + struct.pack("!H", (length + change) & 0xFFFF if length else 0) + packet[6:]


def is_jumbogram(packet: bytes) -> bool:
    """Has it its length behind the IPv6 header?"""
    return packet[4:6] == b"\0\0" and packet[6] == p.HOP_BY_HOP


def insert(tables: Tables, packet: bytes, sids: Sids, ahead: int) -> bytes:
    """in: IPv6(A, B) X   out: IPv6(A, S1) SRH(B, Sk .. S1; SL=k) X, the SRH behind Hop-by-Hop options."""
    place, at = (IPV6_HEADER, IPV6_HEADER + ahead) if ahead else (6, IPV6_HEADER)
    count = len(sids)
    header = bytes([packet[place], 2 * (count + 1), 4, count, count, 0, 0, 0])
    if isinstance(sids, ToldPath):
        header = header[:6] + struct.pack("!H", LIMITS["HW_WAY_BACK_TAG"])
    header += packet[24:40] + b"".join(reversed(sids))
    if tables.signer:
        header = signed(header, tables.keys[tables.signer], packet[8:24], tables.signer)
    packet = packet[:place] + bytes([p.ROUTING]) + packet[place + 1 :]
    packet = packet[:24] + sids[0] + packet[40:at] + header + packet[at:]
    return with_length(packet, len(header))


def encapsulate(tables: Tables, packet: bytes, sids: Sids) -> bytes:
    """in: IPv6(A, B) X   out: IPv6(T, S1) SRH(Sk .. S2; SL=k-1) IPv6(A, B) X (RFC 8986, section 5.2)."""
    (length,) = struct.unpack_from("!H", packet, 4)
    inner = length + IPV6_HEADER if length else 0
    return outer_header(tables, sids, p.IPV6, inner, packet[:4], packet[7:8]) + packet


def egress(tables: Tables, frame: bytes) -> Outcome:
    """What leaves."""
    out = Outcome(frame)
    if tables.role == "client":
        note_question(tables, frame)
    if tables.role == "client" and is_ipv4(frame):
        return egress_ipv4(tables, frame)
    if not is_ipv6(frame):
        return out.count("NOT_IPV6")
    packet = frame[ETHERNET:]
    if len(packet) < IPV6_HEADER:
        return out.count("TRUNCATED")
    if tables.role == "client" and packet[24:40] not in tables.services:
        return out.count("NO_SERVICE")
    if tables.role == "client" and packet[8:24] not in tables.local:
        return out.count("NOT_FROM_HOST")
    chain = read_chain(packet, IPV6_HEADER, packet[6])
    if chain.problem:
        return out.count(chain.problem)
    if is_jumbogram(packet) and jumbo_of(packet) is None:
        return out.count("EXTENSION_CHAIN")
    found = path_of(tables, packet, chain)
    if isinstance(found, str):
        return out.count(found)
    if not found:
        return out.count("NO_PATH")
    size = size_of(tables, found)
    syn = chain.protocol == p.TCP and not chain.later and is_syn(packet, chain.transport)
    if syn:
        room = size
        if tables.role == "client":
            key = tables.services[packet[24:40]], chain.destination_port, chain.protocol
            room = room_for(tables, tables.routes[key])
        clamped = clamp(packet, chain.transport, tables.mtu - 60 - room)
        if clamped:
            packet = clamped
            out.count("MSS_CLAMPED")
    address, asked = tables.next_hops.get(found, (frame[:6], False))
    ether = frame[:ETHERNET] if asked else address + frame[6:ETHERNET]
    mtu = min(tables.mtu, tables.path_mtus.get(found, tables.mtu))
    if len(packet) + size > max(mtu, MIN_MTU):
        ether, before = address + frame[6:ETHERNET], frame[:ETHERNET]
        return too_big(tables, mtu, ether, before, packet, found, chain, out)
    if found in tables.encapsulated:
        out.packet = ether + encapsulate(tables, packet, found)
    else:
        telling = due(tables, packet, found, chain, mtu, syn)
        if telling:
            packet = with_length(tell(packet, telling), len(telling))
            out.count("WAY_BACK_TOLD")
        out.packet = ether + insert(tables, packet, found, chain.ahead)
    if address != frame[:6]:
        out.count("NEXT_HOP")
        out.verdict = REDIRECT if asked else UNSPEC
    return out.count("STEERED")


def path_of(tables: Tables, packet: bytes, chain: Chain) -> Sids | str:
    """The path of a packet that leaves, or the reason why there is none."""
    source, target = packet[8:24], packet[24:40]
    key = (source, target, chain.identification)
    if chain.later:
        return tables.fragments.get(key, "LOST_FRAGMENT")
    ports = chain.source_port, chain.destination_port
    found: Sids | None
    if tables.role == "client":
        found = one_of(
            tables.routes.get((tables.services[target], ports[1], chain.protocol)),
            *(packet, target, ports, chain.protocol),
        )
        reason = "NO_APPLICATION"
    else:
        found = tables.flows.get(Flow(target, source, chain.protocol, ports[1], ports[0]))
        reason = "NO_FLOW"
    if found is None:
        return reason
    if chain.fragment:
        tables.fragments[key] = found
    return found


def one_of(
    route: Sids | Selected | None, packet: bytes, target: bytes, ports: tuple[int, int], protocol: int
) -> Sids | None:
    """The path that a packet to this target has, where there are several."""
    if isinstance(route, Selected):
        return route.of(label_of(packet), packet[8:24], target, ports, protocol)
    return route


def too_big(
    tables: Tables,
    mtu: int,
    ether: bytes,
    before: bytes,
    packet: bytes,
    sids: Sids,
    chain: Chain,
    out: Outcome,
) -> Outcome:
    """Does not fit the MTU with its SRH: two fragments where that can be, else an ICMPv6 error."""
    if chain.fragment:
        divided = chain.fragment == IPV6_HEADER and chain.protocol != p.TCP
    else:
        # Only of UDP is it known what a checksum still to be filled in looks like.
        divided = chain.transport == IPV6_HEADER and chain.protocol == p.UDP
    # The last fragment is as long as the packet.
    divided = divided and not chain.ahead and len(packet) <= mtu and sids not in tables.encapsulated
    if not divided and len(packet) <= MIN_MTU:
        out.packet = before + packet
        return out.count("TOO_BIG_PLAIN")
    if divided:
        first, last = split(tables, packet, sids, chain)
        out.sent, out.packet = [ether + first], ether + last
        out.count("SPLIT")
        if not chain.fragment or chain.later:
            return out
        out.sent.append(out.packet)
    else:
        out.count("TOO_BIG")
    out.verdict = REDIRECT
    out.packet = ether[6:12] + ether[6:] + told(packet, max(mtu - size_of(tables, sids), MIN_MTU), divided)
    return out


def told(packet: bytes, mtu: int, quietly: bool) -> bytes:
    """Packet Too Big (RFC 4443, section 3.2) for the local sender; quietly it is about an echo request."""
    quoted = packet[:QUOTED]
    if quietly:
        quoted = quoted[:6] + bytes([p.ICMPV6]) + quoted[7:40] + bytes([128]) + bytes(7) + quoted[48:]
    sender, target = packet[8:24], packet[24:40]
    target = sender if target[0] == 0xFF else target
    body = bytes([2, 0, 0, 0]) + struct.pack("!I", mtu) + quoted
    covered = target + sender + struct.pack("!II", len(body), p.ICMPV6) + body
    body = body[:2] + struct.pack("!H", 0xFFFF - p.ones_complement(covered)) + body[4:]
    head = struct.pack("!IHBB", 6 << 28, len(body), p.ICMPV6, 255)
    return head + target + sender + body


def split(tables: Tables, packet: bytes, sids: Sids, chain: Chain) -> tuple[bytes, bytes]:
    """First and last fragment of a packet (RFC 8200, section 4.5), each with its SRH."""
    size = size_of(tables, sids)
    if chain.fragment:
        header, body, moved = packet[40:48], packet[48:], size
    else:
        body, moved = packet[40:], size + 8
        if packet[6] == p.UDP:
            body = filled_in(packet, body)
        header = bytes([packet[6], 0, 0, 0]) + NO_IDENTIFICATION
    (word,) = struct.unpack_from("!H", header, 2)
    offset, more = word & 0xFFF8, word & 1
    parts = []
    for data, value in ((body[:moved], offset | 1), (body[moved:], (offset + moved) & 0xFFFF | more)):
        part = header[:2] + struct.pack("!H", value) + header[4:] + data
        whole = packet[:4] + struct.pack("!H", len(part)) + bytes([p.FRAGMENT]) + packet[7:40] + part
        parts.append(insert(tables, whole, sids, 0))
    return parts[0], parts[1]


def filled_in(packet: bytes, body: bytes) -> bytes:
    """A UDP checksum that was left to the device, which is then the pseudo-header's sum, is filled in."""
    pseudo = packet[8:40] + struct.pack("!II", len(body), p.UDP)
    if struct.unpack_from("!H", body, 6)[0] != p.ones_complement(pseudo):
        return body
    value = 0xFFFF - p.ones_complement(pseudo + body[:6] + b"\0\0" + body[8:])
    return body[:6] + struct.pack("!H", value or 0xFFFF) + body[8:]


def ingress(tables: Tables, frame: bytes) -> Outcome:
    """What arrives."""
    out = Outcome(frame)
    if not frame[0] & 1 and frame[:6] != p.MAC_HERE:
        return out.count("OTHER_HOST")
    tables.came_from = frame[6:12]
    if not is_ipv6(frame):
        if tables.role == "client":
            learn_names(tables, frame, out)
        if tables.role == "client" and is_ipv4(frame):
            return ingress_ipv4(tables, frame, out)
        return out.count("NOT_IPV6")
    ether, packet = frame[:ETHERNET], frame[ETHERNET:]
    if len(packet) < IPV6_HEADER:
        return out.count("TRUNCATED")
    place, ahead = 6, 0
    if packet[6] in (p.HOP_BY_HOP, p.DESTINATION):
        if len(packet) < IPV6_HEADER + 8:
            return out.count("TRUNCATED")
        size = 8 * (packet[41] + 1)
        if packet[40] == p.ROUTING:
            if packet[6] == p.DESTINATION or size > LIMITS["HW_MAX_HOP_BY_HOP"]:
                return out.count("EXTENSION_CHAIN")
            place, ahead = IPV6_HEADER, size
    removed = 0
    if packet[place] == p.ROUTING:
        reason, srh = judge(tables, packet, ahead)
        if srh is None:
            return out.count(reason)
        removed, at, kind = srh.size, IPV6_HEADER + ahead, srh.next_header
        if tables.role == "server":
            told_to_us = way_back_told(tables, packet, at, srh)
            learn(tables, packet, at, srh, believed(tables, told_to_us, out), out)
            if told_to_us:
                removed, kind = removed + told_to_us.size, told_to_us.next_header
        tag = packet[at + 6 : at + 8]
        packet = with_length(packet, -removed)
        packet = packet[:place] + bytes([kind]) + packet[place + 1 : at] + packet[at + removed :]
        if tables.role == "client" and tag == struct.pack("!H", LIMITS["HW_WAY_BACK_TAG"]):
            note_use(tables, packet)
            out.count("WAY_BACK_USED")
        out.count("STRIPPED")
    else:
        out.count("NO_ROUTING_HEADER")
        if not tables.xdp and end_flow(tables, packet):
            out.count("FLOW_ENDED")
    out.packet = ether + behind(tables, packet, removed, out)
    if out.ipv4:
        out.packet = ether[:12] + ETHERTYPE_IPV4 + out.packet[ETHERNET:]
    return out


def judge(tables: Tables, packet: bytes, ahead: int) -> tuple[str, Srh | None]:
    """The SRH to be removed, or the reason why not (RFC 8754, sections 4.3 and 5)."""
    at = IPV6_HEADER + ahead
    srh = read_srh(packet, at)
    if srh is None:
        return "TRUNCATED", None
    if srh.kind != 4:
        return "ROUTING_TYPE", None
    if srh.left:
        return "SEGMENTS_LEFT", None
    (length,) = struct.unpack_from("!H", packet, 4)
    fits = srh.fits and at + srh.size <= len(packet) and (not length or ahead + srh.size <= length)
    if not fits or srh.segments[0] != packet[24:40]:
        return "SRH_MALFORMED", None
    if is_jumbogram(packet):
        jumbo = jumbo_of(packet)
        if jumbo is None:
            return "EXTENSION_CHAIN", None
        if jumbo < ahead + srh.size:
            return "SRH_MALFORMED", None
    if packet[24:40] not in tables.local:
        return "NOT_LOCAL", None
    if srh.next_header in (4, 41, 143):
        return "ENCAPSULATED", None
    if tables.hmac and not tables.signer:
        return "HMAC_REQUIRED", None
    everything = tables.domain[0] == (0, 0)
    if len(srh.segments) > LIMITS["HW_MAX_LIST"] and not everything:
        return "UNTRUSTED", None
    checked = srh.segments[1:] if tables.sids_only else (packet[8:24], *srh.segments)
    if not all(tables.trusts(address) for address in checked):
        return "UNTRUSTED", None
    if tables.signer:
        reason = judge_hmac(tables.keys, packet[8:24], packet[at : at + srh.size], len(srh.segments))
        if reason:
            return reason, None
    return "", srh


def way_back_told(tables: Tables, packet: bytes, at: int, srh: Srh) -> Told | None:
    """The way back that stands behind the SRH, and inside the packet by its payload length."""
    if srh.next_header != p.DESTINATION:
        return None
    found = read(packet[at + srh.size :])
    (length,) = struct.unpack_from("!H", packet, 4)
    return found if found and length >= at - IPV6_HEADER + srh.size + found.size else None


def believed(tables: Tables, told_to_us: Told | None, out: Outcome) -> Sids | None:
    """The way back if all of it is inside the SR domain."""
    if told_to_us is None:
        return None
    if not all(tables.trusts(sid) for sid in told_to_us.path):
        out.count("WAY_BACK_REFUSED")
        return None
    return ToldPath(told_to_us.path)


def end_flow(tables: Tables, packet: bytes) -> bool:
    """A known flow's packet came without an SRH: its sender has no path, and may take no SRH."""
    if packet[6] not in (p.TCP, p.UDP) or len(packet) < IPV6_HEADER + 4:
        return False
    flow = Flow(packet[8:24], packet[24:40], packet[6], *struct.unpack_from("!HH", packet, IPV6_HEADER))
    tables.checked.discard(flow)
    return tables.flows.pop(flow, None) is not None


def learn(tables: Tables, packet: bytes, at: int, srh: Srh, own: Sids | None, out: Outcome) -> None:
    """The way back of the flow that the packet belongs to: the one that it tells, else the reverse list."""
    chain = read_chain(packet, at + srh.size, srh.next_header)
    if chain.later:
        return
    to_itself = packet[8:24] == packet[24:40]
    if chain.problem or not chain.source_port or len(srh.segments) < 2 or to_itself:
        out.count("NOTHING_TO_LEARN")
        return
    flow = Flow(packet[8:24], packet[24:40], chain.protocol, chain.source_port, chain.destination_port)
    if len(srh.segments) > (LIMITS["HW_MAX_SIGNED"] + 1 if tables.signer else LIMITS["HW_MAX_SEGMENTS"]):
        out.count("LIST_TOO_LONG")
        return
    path, known = own or way_back(tables, srh.segments[1:]), tables.flows.get(flow)
    if own is None and isinstance(known, ToldPath) and flow in tables.told:
        # What was told a short time ago stays.
        path = known
    if own is not None and (own in tables.paths or len(tables.paths) < tables.paths_room):
        tables.told.add(flow)
        out.count("WAY_BACK_TOLD")
    if path is not None and known == path:
        tables.checked.add(flow)
    elif path is None:
        out.count("ONE_WAY_SID")
    elif path not in tables.paths and len(tables.paths) == tables.paths_room:
        out.count("PATHS_FULL")
    else:
        tables.paths.add(path)
        tables.next_hops[path] = (tables.came_from, False)
        tables.flows[flow] = path
        tables.checked.add(flow)
        out.count("LEARNED")


def way_back(tables: Tables, segments: Sids) -> Sids | None:
    """The way back as it is travelled: segments in the SRH's order, the C-SIDs of each reversed."""
    found = []
    for segment in segments:
        words = struct.unpack("!8H", segment)
        for block, local in tables.csid:
            csids = words[len(block) :]
            count = sum(1 for csid in csids if csid)
            if words[: len(block)] == block and all(csids[:count]):
                if any(csid >= local for csid in csids):
                    return None
                words = (*block, *reversed(csids[:count]), *csids[count:])
        found.append(struct.pack("!8H", *words))
    return tuple(found)


def behind(tables: Tables, packet: bytes, removed: int, out: Outcome) -> bytes:
    """What the transport header right behind IPv6 asks for."""
    kind = packet[6]
    if kind == p.TCP and is_syn(packet, IPV6_HEADER):
        overhead = removed
        if tables.role == "client":
            group = tables.services.get(packet[8:24])
            (port,) = struct.unpack_from("!H", packet, IPV6_HEADER)
            route = tables.routes.get((group, port, p.TCP)) if group is not None else None
            overhead = max(overhead, room_to_tell(tables, route))
        if overhead:
            clamped = clamp(packet, IPV6_HEADER, tables.mtu - 60 - overhead)
            if clamped:
                out.count("MSS_CLAMPED")
                return clamped
    elif kind == p.ICMPV6:
        restored = restore_encapsulated(tables, packet, out) if tables.role == "client" else None
        restored = restored or restore(tables, packet)
        if restored:
            out.count("ERROR_RESTORED")
            return restored
    elif kind == p.UDP and tables.role == "client":
        learn_names(tables, bytes(12) + b"\x86\xdd" + packet, out)
    return packet


def sent_by_us(tables: Tables, quoted: bytes, srh: Srh, at: int) -> tuple[bool, Sids | None]:
    """Has the quoted packet, whose transport header is at `at`, a binding or a known flow? And its path."""
    ports, kind = quoted_ports(tables, quoted, srh.next_header, at)
    path = None
    later = len(quoted) >= at + 8 and struct.unpack_from("!H", quoted, at + 2)[0] & 0xFFF8
    if srh.next_header == p.FRAGMENT and later:
        path = tables.fragments.get((quoted[8:24], srh.segments[0], quoted[at + 4 : at + 8]))
    if tables.role == "client":
        group = tables.services.get(srh.segments[0])
        route = tables.routes.get((group or 0, ports[1], kind))
        if route is None:
            return group is not None, path
        return group is not None, one_of(route, quoted, srh.segments[0], ports, kind)
    if path is not None:
        return True, path
    flow = Flow(srh.segments[0], quoted[8:24], kind, ports[1], ports[0])
    return flow in tables.flows, tables.flows.get(flow)


def quoted_ports(tables: Tables, quoted: bytes, kind: int, at: int) -> tuple[tuple[int, int], int]:
    """Source, destination and protocol; zeros where there are none, or only the first fragment has them."""
    if kind == p.DESTINATION and tables.role == "client":
        # It has told its way back.
        if len(quoted) < at + 2:
            return (0, 0), 0
        kind, at = quoted[at], at + 8 * (quoted[at + 1] + 1)
    if kind == p.FRAGMENT:
        if len(quoted) < at + 8 or struct.unpack_from("!H", quoted, at + 2)[0] & 0xFFF8:
            return (0, 0), 0
        kind, at = quoted[at], at + 8
    if kind not in (p.TCP, p.UDP, p.SCTP) or len(quoted) < at + 4:
        return (0, 0), 0
    source, destination = struct.unpack_from("!HH", quoted, at)
    return (source, destination), kind


def restore(tables: Tables, packet: bytes) -> bytes | None:
    """The ICMPv6 error without the SRH in its quote (RFC 8754, section 5.4); None: not about ours."""
    message, quoted = packet[40:], packet[48:]
    if len(quoted) < IPV6_HEADER or not 1 <= message[0] <= 4 or quoted[8:24] != packet[24:40]:
        return None
    place, ahead = 6, 0
    if quoted[6] == p.HOP_BY_HOP:
        if len(quoted) < 48:
            return None
        place, ahead = IPV6_HEADER, 8 * (quoted[41] + 1)
        if ahead > LIMITS["HW_MAX_HOP_BY_HOP"]:
            return None
    if quoted[place] != p.ROUTING:
        return None
    at = IPV6_HEADER + ahead
    srh = read_srh(quoted, at)
    if srh is None or srh.kind != 4 or not srh.fits or srh.size > LIMITS["HW_SRH_MAX"]:
        return None
    size = srh.size
    (length,), (inner,) = struct.unpack_from("!H", packet, 4), struct.unpack_from("!H", quoted, 4)
    if len(quoted) < at + size or length < 8 + at + size + 8 or 0 < inner < ahead + size:
        return None
    if message[0] == p.ICMP6_TOO_BIG and struct.unpack_from("!I", message, 4)[0] < MIN_MTU:
        return None
    ours, path = sent_by_us(tables, quoted, srh, at + size)
    if not ours:
        return None
    head = quoted[:24] + srh.segments[0] + quoted[40:at]
    head = head[:place] + bytes([srh.next_header]) + head[place + 1 :]
    new = with_length(head + quoted[at + size :], -size, jumbo=False)
    return about(tables, packet, new, size, path, telling=True)


def about(
    tables: Tables, packet: bytes, new: bytes, size: int, path: Sids | None, telling: bool = False
) -> bytes:
    """The ICMPv6 error with `new` for what it quotes, which is `size` bytes shorter, and had this path."""
    message, info = packet[40:], packet[44:48]
    if message[0] == p.ICMP6_TOO_BIG:
        (mtu,) = struct.unpack("!I", info)
        # Its packets may tell their way back, too.
        told = tables.ways_back.get(path) if path and telling and path not in tables.encapsulated else None
        room = size + (8 + 16 * len(told) if told else 0)
        info = struct.pack("!I", max(mtu - room, MIN_MTU))
        if path and size_of(tables, path) == size and mtu < MIN_MTU + room:
            tables.path_mtus[path] = mtu
    after = with_length(packet[:40], -size) + message[:4] + info + new
    return with_sum(after, 42, even(message[4:]) + packet[4:6], even(after[44:]) + after[4:6])


def restore_encapsulated(tables: Tables, packet: bytes, out: Outcome) -> bytes | None:
    """The error about the inner packet of what it quotes, which may be IPv4's; None: not about ours."""
    message, quoted = packet[40:], packet[48:]
    if len(quoted) < IPV6_HEADER or not 1 <= message[0] <= 4 or quoted[8:24] != packet[24:40]:
        return None
    kind, size = quoted[6], IPV6_HEADER
    if kind == p.ROUTING:
        srh = read_srh(quoted, IPV6_HEADER)
        if srh is None or srh.kind != 4:
            return None
        kind, size = srh.next_header, size + srh.size
    (length,) = struct.unpack_from("!H", packet, 4)
    if kind not in (p.IPV6, p.IPV4) or size > LIMITS["HW_SRH_MAX"] or length < 8 + IPV6_HEADER + size + 8:
        return None
    (mtu,) = struct.unpack_from("!I", message, 4)
    if message[0] == p.ICMP6_TOO_BIG and mtu < MIN_MTU:
        return None
    inner = quoted[size:]
    if kind == p.IPV4:
        restored = restore_ipv4(tables, message, inner, size)
        out.ipv4 = restored is not None
        return restored
    if len(inner) < IPV6_HEADER:
        return None
    behind = Srh(inner[6], 0, 4, 0, (inner[24:40],), True)
    ours, path = sent_by_us(tables, inner, behind, IPV6_HEADER)
    return about(tables, packet, inner, size, path) if ours else None


def even(data: bytes) -> bytes:
    """Padded to whole words."""
    return data + bytes(len(data) % 2)


def datagram_in(frame: bytes) -> tuple[bytes, bytes, bytes] | None:
    """Source, destination and datagram of UDP right behind IPv6, or in IPv4 without fragments; else None."""
    packet = frame[ETHERNET:]
    if is_ipv6(frame):
        if len(packet) < IPV6_HEADER or packet[6] != p.UDP:
            return None
        return packet[8:24], packet[24:40], packet[IPV6_HEADER:]
    if not is_ipv4(frame) or len(packet) < IPV4_HEADER:
        return None
    size, fragment = 4 * (packet[0] & 15), struct.unpack_from("!H", packet, 6)[0] & 0x3FFF
    if size < 20 or packet[9] != p.UDP or fragment:
        return None
    return MAPPED + packet[12:16], MAPPED + packet[16:20], packet[size:]


def message_in(datagram: bytes, most: int) -> bytes | None:
    """The first bytes of a DNS message that a datagram has whole."""
    if len(datagram) < 6:
        return None
    size = min(struct.unpack_from("!H", datagram, 4)[0] - 8, most)
    message = datagram[8 : 8 + max(size, 0)]
    return message if len(message) == size and size >= 17 else None


def note_question(tables: Tables, frame: bytes) -> None:
    """A question for a configured name, from an address of this host, is remembered."""
    found = datagram_in(frame)
    if found is None or found[2][2:4] != b"\0\x35" or found[0] not in tables.local:
        return
    own, server, datagram = found
    message = message_in(datagram, LIMITS["HW_MAX_QUESTION"])
    if message is None or message[2] & 0xFA:
        return
    asked = question(message)
    group = tables.names.get(asked[0]) if asked else None
    if group is not None:
        tables.questions[server, own, datagram[:2], message[:2]] = group


def learn_names(tables: Tables, frame: bytes, out: Outcome) -> None:
    """The addresses in the answer to a question of ours belong to the service whose name was asked for."""
    found = datagram_in(frame)
    if found is None or found[2][:2] != b"\0\x35":
        return
    server, own, datagram = found
    message = message_in(datagram, LIMITS["HW_MAX_DNS"])
    if message is None or message[2] & 0xFA != 0x80 or message[3] & 0x0F:
        return
    asked = question(message)
    group = tables.names.get(asked[0]) if asked else None
    key = server, own, datagram[2:4], message[:2]
    if asked is None or group is None or tables.questions.get(key) != group:
        return
    del tables.questions[key]
    for address, ttl in addresses(message, asked[1]):
        unfit = not any(address[:8]) or address[0] == 0xFF or (address[0], address[1] & 0xC0) == (0xFE, 0x80)
        if unfit or address in tables.local:
            continue
        tables.services.setdefault(address, group)
        out.told.append((address, group, ttl))
        out.count("NAME_LEARNED")


def ordinary(tables: Tables, frame: bytes) -> bytes | None:
    """What the XDP program makes of a frame; None: it goes up as it is."""
    packet = frame[ETHERNET:]
    if tables.signer:
        return None
    srh = read_srh(packet, IPV6_HEADER) if is_ipv6(frame) and packet[6:7] == bytes([p.ROUTING]) else None
    if srh is None or srh.kind != 4 or srh.left or not srh.fits or srh.size > LIMITS["HW_SRH_MAX"]:
        return None
    inner = packet[IPV6_HEADER + srh.size :]
    if srh.next_header == p.TCP:
        plain = len(inner) >= 14 and not inner[13] & p.SYN
    else:
        plain = srh.next_header == p.UDP and len(inner) >= 8 and inner[:2] != b"\0\x35"
    if not plain or not any(packet[4:6]):
        return None
    if tables.role == "server":
        ports = struct.unpack_from("!HH", inner)
        flow = Flow(packet[8:24], packet[24:40], srh.next_header, ports[0], ports[1])
        if flow not in tables.checked or tuple(tables.flows[flow]) != way_back(tables, srh.segments[1:]):
            return None
    # It isn't told whose frame it is; what the stack drops may as well be changed.
    outcome = ingress(tables, p.MAC_HERE + frame[6:])
    counted = outcome.counted - Counter(["WAY_BACK_USED"])
    return frame[:6] + outcome.packet[6:] if counted == {"STRIPPED": 1} else None
