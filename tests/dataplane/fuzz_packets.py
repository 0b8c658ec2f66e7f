"""Packets for the fuzzer: well made ones of all kinds, and what mutation makes of them."""

import struct
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv6Address
from random import Random

from tests.dataplane import plain as p
from tests.dataplane.scene import DNS, HOST_A, HOST_B, HOST_C, NAME, OWN_IPV4, ROUTER, SIDS

LONGEST = 3300
PEERS = [HOST_A, HOST_B, HOST_C, DNS, ROUTER]
#: As they stand in tables: services, and others.
PEERS_IPV4 = [IPv6Address(f"::ffff:192.0.2.{number}") for number in (10, 11, 12)]
SERVICES_IPV4 = PEERS_IPV4[:2]
PORTS = [53, 80, 81, 82, 443, 5001, 5003, 5015, 40000, 50000]
NAMES = [
    NAME,
    "WB.hawk.NET",
    "ZA.hawk.net",
    "ZA@[.net",
    "za`{.net",
    "wc.hawk.net",
    "other.example",
    "b.hawk.net",
    "",
]
LEARNABLE = [IPv6Address(f"2001:db8:{number:x}::80") for number in range(1, 9)]
OPTIONS = [
    b"\1",
    b"\1\1",
    b"\4\2",
    b"\x08\x0a" + bytes(8),
    b"\xfe\3\0",
    b"\0",
    b"\2\3\1",
    b"\x05\x0a" + bytes(8),
]
EXTENSIONS = [p.HOP_BY_HOP, p.DESTINATION, p.DESTINATION, p.FRAGMENT, p.AUTH]


def whole(frame: bytes) -> bytes:
    """With all of its IPv6 or IPv4 header: the kernel refuses to run programs on less."""
    frame = frame.ljust(14, b"\0")
    header = {b"\x86\xdd": 40, b"\x08\x00": 20}.get(frame[12:14], 0)
    return frame.ljust(14 + header, b"\0")


#: Of routers and others on the link; the last one is a multicast group.
LINK_LAYER = [bytes.fromhex(text) for text in ("02aa00000001", "02aa00000002", "333300000001")]


class Maker:
    """Makes packets for the host `here`; all that is random comes from `random`."""

    def __init__(self, random: Random, here: IPv6Address, there: IPv6Address) -> None:
        self.random, self.here, self.there = random, here, there
        self.earlier: list[tuple[str, bytes]] = []
        self.heard: list[tuple[IPv6Address, int, int, int]] = []
        self.asked: bytes | None = None
        self.awaited: list[tuple[str, bytes]] = []
        # A server does nothing with IPv4.
        client = here == HOST_A
        self._leaving: list[Callable[[], bytes]] = [
            *[self.leaving] * 4,
            *[self.reply] * 4,
            *[self.leaving_ipv4] * (3 if client else 1),
            self.piece,
            self.anything,
        ]
        self._arriving: list[Callable[[], bytes]] = [
            *[self.with_srh] * 5,
            *[self.error] * 3,
            *[self.answer] * 2,
            self.error_ipv4,
            self.plain,
            *[self.plain_ipv4] * (2 if client else 1),
            self.anything,
        ]

    def chance(self, share: float) -> bool:
        """True in that share of cases."""
        return self.random.random() < share

    def packet(self) -> tuple[str, bytes]:
        """Direction and frame."""
        if self.awaited:
            return self.awaited.pop()
        self.asked = None
        if self.earlier and self.chance(0.25):
            direction, frame = self.random.choice(self.earlier)
            frame = self.turned(frame) if self.chance(0.2) else frame
        else:
            direction = "egress" if self.chance(0.4) else "ingress"
            frame = self.random.choice(self._leaving if direction == "egress" else self._arriving)()
            if len(self.earlier) < 40 or self.chance(0.1):
                self.earlier = [*self.earlier[-39:], (direction, frame)]
        if self.chance(0.4):
            frame = self.mutated(frame)
        if self.chance(0.04):
            direction = "ingress" if direction == "egress" else "egress"
        frame = whole(frame[:LONGEST])
        if self.chance(0.15):
            at = self.random.choice([0, 6])
            frame = frame[:at] + self.random.choice(LINK_LAYER) + frame[at + 6 :]
        if self.asked and self.chance(0.9):
            # The question comes first.
            self.awaited = [(direction, frame)]
            return "egress", self.asked
        return direction, frame

    def turned(self, frame: bytes) -> bytes:
        """One byte of the headers changed, of those that tell flows apart above all."""
        at = self.random.choice([21, 37, 53, 54, 55, 56, 57, 58, 67, self.random.randrange(22, 140)])
        return self.set_byte(frame, at)

    def set_byte(self, frame: bytes, at: int) -> bytes:
        """Another value at a place."""
        value = self.random.choice(
            [0, 1, 2, 4, 6, 17, 43, 44, 58, 60, 127, 128, 255, self.random.randrange(256)]
        )
        return frame[:at] + bytes([value]) + frame[at + 1 :] if at < len(frame) else frame

    def mutated(self, frame: bytes) -> bytes:
        """Some bytes changed, removed, repeated or added."""
        for _ in range(self.random.choice([1, 1, 1, 2, 3, 6])):
            kind = self.random.randrange(8)
            near = self.random.randrange(12, max(13, min(len(frame), 160)))
            if kind <= 2:
                frame = self.set_byte(frame, near)
            elif kind == 3:
                frame = frame[: self.random.randrange(14, max(15, len(frame)))]
            elif kind == 4:
                frame = frame[:near] + frame[near + self.random.choice([1, 2, 8, 16]) :]
            elif kind == 5:
                frame = frame[:near] + frame[near - 8 : near] + frame[near:]
            elif kind == 6:
                frame += self.noise(self.random.choice([1, 2, 8, 40, 300]))
            elif len(frame) > near:
                bit = 1 << self.random.randrange(8)
                frame = frame[:near] + bytes([frame[near] ^ bit]) + frame[near + 1 :]
        return frame

    def noise(self, count: int) -> bytes:
        """Random bytes."""
        return self.random.randbytes(count)

    def data(self) -> bytes:
        """A payload: short ones mostly, and such as come near the MTU."""
        kind = self.random.randrange(12)
        if kind < 7:
            return self.noise(self.random.choice([0, 1, 5, 8, 33, 100]))
        if kind < 11:
            return self.noise(
                self.random.choice([1160, 1232, 1340, 1400, 1452]) + self.random.randrange(-70, 50)
            )
        return self.noise(self.random.randrange(2600))

    def tcp_options(self) -> bytes:
        """Options, most with an MSS among them."""
        parts = [self.random.choice(OPTIONS) for _ in range(self.random.choice([0, 0, 1, 2, 4]))]
        if self.chance(0.8):
            value = self.random.choice([1, 536, 1220, 1380, 1384, 1440, 8960, 65000, 65535])
            parts.insert(self.random.randrange(len(parts) + 1), p.mss(value))
        if self.chance(0.1):
            parts.append(self.noise(self.random.randrange(12)))
        return b"".join(parts)[:40]

    def transport(
        self, source: IPv6Address, target: IPv6Address, flow: tuple[int, int, int] | None = None
    ) -> tuple[int, bytes]:
        """Protocol and bytes of a transport header with payload; `flow` has protocol and ports."""
        sport, dport = self.random.choice(PORTS), self.random.choice(PORTS)
        kind = self.random.randrange(20)
        if flow:
            kind, sport, dport = {p.TCP: 0, p.UDP: 8}.get(flow[0], 16), flow[1], flow[2]
        if kind < 8:
            syn = self.chance(0.5)
            flags = self.random.choice([p.SYN, p.SYN_ACK]) if syn else self.random.randrange(256)
            options = self.tcp_options() if syn or self.chance(0.2) else b""
            offset = self.random.randrange(16) if self.chance(0.08) else None
            data = b"" if syn and self.chance(0.8) else self.data()
            body = p.tcp(source, target, sport, dport, data, flags=flags, option_bytes=options, offset=offset)
            return p.TCP, body
        if kind < 16:
            body = p.udp(source, target, sport, dport, self.data())
            if self.chance(0.3):
                value = struct.pack("!H", p.ones_complement(p.pseudo(source, target, p.UDP, len(body))))
                body = body[:6] + self.random.choice([value, bytes(2), self.noise(2)]) + body[8:]
            return p.UDP, body
        if kind == 16:
            return p.SCTP, p.sctp(sport, dport) + self.data()
        if kind == 17:
            return p.ICMPV6, p.icmp6(source, target, 128, 0, 7, self.data())
        if kind == 18:
            return self.random.choice([p.ESP, p.NO_NEXT, 41, 253]), self.data()
        return p.UDP, p.udp(source, target, 0, dport)

    def extended(self, kind: int, body: bytes, share: float) -> tuple[int, bytes]:
        """With extension headers before it, in that share of cases."""
        if not self.chance(share):
            return kind, body
        for _ in range(self.random.choice([1, 1, 1, 2, 3, 6, 7])):
            chosen = self.random.choice(EXTENSIONS)
            if chosen == p.FRAGMENT:
                if self.chance(0.5):
                    body = body[: len(body) // 8 * 8]
                offset = self.random.choice([0, 0, 8, 1232, 65528])
                number, more = self.random.randrange(1, 5), self.chance(0.5)
                body = p.fragment(kind, body, offset=offset, more=more, identification=number)
            elif chosen == p.AUTH:
                body = p.auth(kind, body, icv=self.random.choice([4, 12, 20, 64]))
            else:
                size = self.random.choice([8, 8, 8, 16, 64, 72, 256, 1024 if self.chance(0.1) else 24])
                body = p.options(kind, body, size=size, jumbo=self.jumbo(len(body) + size))
            kind = chosen
        return kind, body

    def jumbo(self, length: int) -> int | None:
        """What a Jumbo Payload option says, where there is one."""
        return self.random.choice([length, length, 0, 2**32 - 1]) if self.chance(0.3) else None

    def back(self) -> list[IPv6Address]:
        """A way back of its own: few different ones mostly, as there is little room for paths."""
        kind = self.random.randrange(8)
        if kind < 4:
            return [SIDS[2:3], SIDS[3:0:-1], SIDS[9:11], SIDS[:12]][kind]
        if kind == 4:
            return [*SIDS[1:2], self.random.choice([ROUTER, HOST_C, IPv6Address("3fff::1")])]
        chosen = self.random.choices(SIDS, k=self.random.randint(1, 12))
        if kind == 5:
            chosen[-1] = self.container()
        return chosen

    def telling(self, kind: int, body: bytes) -> tuple[int, bytes]:
        """Behind a header that tells a way back, or one that is not quite that."""
        listed = b"".join(sid.packed for sid in reversed(self.back()))
        size, count = len(listed), len(listed) // 16
        fields = [kind, size // 8, 0x1E, 4 + size, *b"HW\1", count]
        if self.chance(0.25):
            fault = self.random.randrange(5)
            if fault == 0:
                # As long as it says, but not whole segments, none, or too many of them.
                size = self.random.choice([0, 8, size + 8, 13 * 16, 14 * 16])
                listed, count = listed.ljust(size, b"\7")[:size], size // 16
                fields[1], fields[3], fields[7] = size // 8, 4 + size, count
            elif fault == 1:
                place = self.random.randrange(1, 8)
                fields[place] ^= 1 << self.random.randrange(8)
            elif fault == 2:
                fields[self.random.randrange(1, 8)] = self.random.randrange(256)
            elif fault == 3:
                fields[1] = self.random.choice([0, 1, 2, fields[1] + 1, fields[1] + 2])
            else:
                return p.DESTINATION, (bytes(fields) + listed)[: self.random.randrange(8 + size)]
        return p.DESTINATION, bytes(fields) + listed + body

    def usual(self) -> tuple[int, int, int]:
        """One of few flows, so that there are many packets of it."""
        protocol = self.random.choice([p.TCP, p.UDP, p.UDP, p.SCTP])
        return protocol, self.random.choice([0, 40000, 40000]), self.random.choice([443, 5003, 5015])

    def leaving(self) -> bytes:
        """A packet of our own, without SRH mostly."""
        source = self.here if self.chance(0.9) else self.random.choice(PEERS)
        target = self.there if self.chance(0.7) else self.random.choice([*PEERS, *LEARNABLE])
        kind, body = self.transport(source, target, self.usual() if self.chance(0.4) else None)
        if self.chance(0.04):
            kind, body = p.ROUTING, p.srh(kind, [SIDS[0], target], body)
        kind, body = self.extended(kind, body, 0.35)
        length = self.random.choice([0, 1, len(body) + 7, 65535]) if self.chance(0.04) else None
        label, shade = self.random.getrandbits(20), self.random.getrandbits(8)
        return p.ipv6(source, target, kind, body, label=label, traffic_class=shade, length=length)

    def over_ipv4(self, source: IPv6Address, target: IPv6Address) -> bytes:
        """A packet between two IPv4 addresses, some of them fragments, some with options."""
        kind, body = self.transport(source, target)
        if self.chance(0.2):
            body = body.ljust(self.random.randrange(1380, 1490), b"\0")
        offset = self.random.choice([0, 0, 0, 0, 0x4000, 0x2000, 0x2000, 0x2010, 0x10, 1])
        ihl = self.random.choice([5] * 12 + [6, 15, 4, 0])
        ends = (IPv4Address(address.packed[12:]) for address in (source, target))
        return p.ipv4(*ends, kind, body, offset=offset, ihl=ihl)

    def leaving_ipv4(self) -> bytes:
        """A packet of our own to a service over IPv4, mostly."""
        source = OWN_IPV4 if self.chance(0.9) else self.random.choice(PEERS_IPV4)
        return self.over_ipv4(source, self.random.choice([*SERVICES_IPV4 * 3, *PEERS_IPV4]))

    def reply(self) -> bytes:
        """A packet of our own that answers one heard before."""
        if not self.heard:
            return self.leaving()
        target, protocol, remote_port, local_port = self.random.choice(self.heard)
        kind, body = self.transport(self.here, target, (protocol, local_port, remote_port))
        return p.ipv6(self.here, target, *self.extended(kind, body, 0.3))

    def piece(self) -> bytes:
        """A long fragment of a datagram to a service or of an answer."""
        flow = (self.there, p.UDP, self.random.choice(PORTS), self.random.choice(PORTS))
        target, protocol, dport, sport = self.random.choice([flow, *self.heard[-3:]])
        offset = self.random.choice([0, 0, 0, 1232])
        data = p.udp(self.here, target, sport, dport, self.noise(8 * self.random.randrange(150, 190)))
        number, more = self.random.randrange(1, 5), self.chance(0.6)
        body = p.fragment(protocol, data, offset=offset, more=more, identification=number)
        return p.ipv6(self.here, target, p.FRAGMENT, body)

    def container(self) -> IPv6Address:
        """Compressed SIDs of one of the fuzzer's blocks, sometimes with a gap, few of which name links."""
        blocks = [("fcbb:bb00", 6), ("fcbb:bb00", 6), ("fcbb:cc00:77", 5), ("5f00", 7)]
        block, room = self.random.choice(blocks)
        count = self.random.choice([0, 1, 2, 3, room - 1, room])
        csids = [self.random.choice([1, 2, 4, 6, 0x7FFF, 0xDFFF]) for _ in range(count)]
        if csids and self.chance(0.2):
            csids[self.random.randrange(count)] = self.random.choice([0, 0, 0x8000, 0xE000, 0xEFFF, 0xFFFF])
        csids += [0] * (room - count)
        if count < room and self.chance(0.05):
            csids[-1] = 2
        return IPv6Address(":".join([block, *(f"{csid:x}" for csid in csids)]))

    def path(self) -> Sequence[IPv6Address]:
        """SIDs on the way here."""
        count = self.random.choice([0, 1, 1, 2, 2, 2, 3, 3, 4, 9, 14, 15, 16, 31, 32, 60])
        first = self.random.randrange(3)
        chosen = [SIDS[(first + number) % 15] for number in range(count)]
        if self.chance(0.4):
            chosen = [self.container() if self.chance(0.6) else sid for sid in chosen]
        if chosen and self.chance(0.08):
            chosen[self.random.randrange(count)] = self.random.choice(PEERS)
        return chosen

    def routed(self, source: IPv6Address, kind: int, body: bytes) -> bytes:
        """Behind an SRH, which may have TLVs and be wrong."""
        target = self.here if self.chance(0.95) else self.random.choice(PEERS)
        path = [*self.path(), target if self.chance(0.97) else HOST_C]
        tlvs = (
            self.random.choice([bytes(8), b"\1\6" + bytes(6), b"\5\x26" + bytes(38)])
            if self.chance(0.15)
            else b""
        )
        wrong = self.random.randrange(256) if self.chance(0.3) else self.random.randrange(6)
        body = p.srh(
            kind,
            path,
            body,
            left=0 if self.chance(0.95) else wrong,
            tlvs=tlvs,
            kind=4 if self.chance(0.97) else wrong,
            extent=wrong if self.chance(0.04) else None,
            last=wrong if self.chance(0.04) else None,
            flags=self.random.choice([0, 0, 8, 255]),
            tag=self.random.choice([0, 7]),
        )
        kind, alone = p.ROUTING, 8 + 16 * len(path) + len(tlvs)
        if self.chance(0.12):
            kind, body = (
                self.random.choice([p.HOP_BY_HOP, p.HOP_BY_HOP, p.DESTINATION]),
                p.options(
                    kind,
                    body,
                    size=self.random.choice([8, 8, 16, 64, 72]),
                    jumbo=self.jumbo(alone + self.random.choice([7, 8, 16, 1000])),
                ),
            )
        length = (
            self.random.choice([0, 8, alone, alone - 1, len(body) - 1, len(body) + 9])
            if self.chance(0.1)
            else None
        )
        return p.ipv6(source, target, kind, body, length=length, hop_limit=self.random.randrange(1, 256))

    def peer(self) -> IPv6Address:
        """Who sends to us."""
        return self.there if self.chance(0.75) else self.random.choice([*PEERS, *LEARNABLE])

    def with_srh(self) -> bytes:
        """An ordinary packet that came over a path, often of a known flow; it may tell a way back."""
        source, flow = self.peer(), None
        if self.heard and self.chance(0.4):
            source, *ends = self.random.choice(self.heard)
            flow = ends[0], ends[1], ends[2]
        kind, body = self.transport(source, self.here, flow)
        if kind in (p.TCP, p.UDP, p.SCTP):
            ports = struct.unpack_from("!HH", body)
            self.heard = [*self.heard[-9:], (source, kind, *ports)]
        kind, body = self.extended(kind, body, 0.15)
        if self.chance(0.35):
            kind, body = self.telling(kind, body)
        return self.routed(source, kind, body)

    def plain(self) -> bytes:
        """One without."""
        source = self.peer()
        kind, body = self.extended(*self.transport(source, self.here), 0.15)
        return p.ipv6(source, self.here, kind, body)

    def plain_ipv4(self) -> bytes:
        """One over IPv4."""
        return self.over_ipv4(self.random.choice([*SERVICES_IPV4 * 3, *PEERS_IPV4]), OWN_IPV4)

    def error(self) -> bytes:
        """An ICMPv6 error about a packet of ours."""
        flow = self.usual() if self.chance(0.3) else None
        kind, body = self.extended(*self.transport(self.here, self.there, flow), 0.1)
        kind, body = self.telling(kind, body) if self.chance(0.1) else (kind, body)
        packet = p.ipv6(self.here, self.there, kind, body)
        count = {5003: 3, 5015: 15}.get(flow[2], 1) if flow else self.random.choice([1, 2, 3, 15])
        if not self.chance(0.08):
            ahead = 8 * (packet[55] + 1) if packet[20] == p.HOP_BY_HOP else 0
            if self.chance(0.3):
                packet = p.encapsulated(packet, SIDS[: min(count, 14)], self.here)
            else:
                packet = p.steered(packet, SIDS[:count], ahead)
        return self.error_about(packet)

    def error_ipv4(self) -> bytes:
        """An ICMPv6 error about an encapsulated packet of IPv4."""
        return self.error_about(
            p.encapsulated(self.leaving_ipv4(), SIDS[: self.random.choice([1, 2, 3, 14])], self.here)
        )

    def error_about(self, packet: bytes) -> bytes:
        """An ICMPv6 error of a router about a packet, which may not be quoted as it was."""
        if self.chance(0.15):
            packet = self.mutated(packet)
        if self.chance(0.2):
            packet = packet[: self.random.randrange(14, max(15, min(len(packet), 140)))]
        info = self.random.choice([0, 1280, 1330, 1400, 1500, 65535, self.random.getrandbits(32)])
        kind = self.random.choice([1, 2, 2, 3, 4]) if self.chance(0.95) else self.random.randrange(256)
        body = p.icmp6(ROUTER, self.here, kind, self.random.randrange(8), info, packet[14:1246])
        return (
            self.routed(ROUTER, p.ICMPV6, body)
            if self.chance(0.2)
            else p.ipv6(ROUTER, self.here, p.ICMPV6, body)
        )

    def record(self, asked: bytes) -> bytes:
        """A resource record, AAAA mostly."""
        owners = [
            b"\xc0\x0c",
            b"\xc0\x0c",
            asked,
            b"\3web\xc0\x0f",
            b"\1a" * self.random.choice([38, 39, 40]) + b"\0",
        ]
        owner = self.random.choice(owners) if self.chance(0.97) else self.noise(6)
        kind = self.random.randrange(10)
        ttl = self.random.getrandbits(32)
        if kind < 6:
            return p.aaaa(self.random.choice(LEARNABLE), owner=owner, ttl=ttl)
        if kind < 8:
            return p.record(owner, self.random.choice([1, 5, 16, 28, 46]), self.data()[:300], ttl=ttl)
        if kind == 8:
            return p.record(
                owner, 28, self.noise(self.random.choice([15, 16, 17])), family=self.random.choice([1, 3])
            )
        return p.aaaa(self.random.choice(LEARNABLE), owner=owner)[: self.random.randrange(12, 28)]

    def answer(self) -> bytes:
        """A DNS answer, over IPv6 or IPv4."""
        text = self.random.choice([NAME, NAME, *NAMES])
        records = [self.record(p.name(text)) for _ in range(self.random.choice([0, 1, 1, 2, 3, 26]))]
        flags = self.random.choice([0x8180] * 12 + [0x8580, 0x8380, 0x8183, self.random.getrandbits(16)])
        questions = 1 if self.chance(0.97) else self.random.randrange(3)
        announced = None if self.chance(0.9) else self.random.choice([0, 1, 65535])
        kind = 28 if self.chance(0.95) else 1
        message = p.dns_answer(text, records, flags=flags, questions=questions, answers=announced, kind=kind)
        port = 53 if self.chance(0.95) else 5353
        query = p.dns_question(message if self.chance(0.95) else p.dns_answer(NAME, []))
        addresses = IPv4Address("192.0.2.53"), IPv4Address("192.0.2.1")
        if self.chance(0.3):
            datagram = struct.pack("!4H", 41000, 53, 8 + len(query), 0) + query
            self.asked = p.ipv4(*reversed(addresses), p.UDP, datagram)
            body = struct.pack("!4H", port, 41000, 8 + len(message), 0) + message
            ihl, offset = (
                self.random.choice([5, 5, 5, 6, 15, 4]),
                self.random.choice([0, 0, 0, 0x4000, 0x2000, 1]),
            )
            return p.ipv4(*addresses, p.UDP, body, ihl=ihl, offset=offset)
        self.asked = p.ipv6(self.here, DNS, p.UDP, p.udp(self.here, DNS, 41000, 53, query))
        body = p.udp(DNS, self.here, port, 41000, message)
        if self.chance(0.06):
            body = body[:4] + struct.pack("!H", self.random.choice([0, 7, 8, 19, 20, 500, 65535])) + body[6:]
        return self.routed(DNS, p.UDP, body) if self.chance(0.2) else p.ipv6(DNS, self.here, p.UDP, body)

    def anything(self) -> bytes:
        """Random bytes, some behind good beginnings."""
        count = self.random.randrange(200)
        kind = self.random.randrange(4)
        if kind == 0:
            return self.noise(14 + count)
        if kind == 1:
            return p.ethernet(p.ETHERTYPE_IPV6, self.noise(count))
        chosen = self.random.choice([0, 6, 17, 43, 43, 44, 51, 58, 60, 132])
        return p.ipv6(self.there, self.here, chosen, self.noise(count))
