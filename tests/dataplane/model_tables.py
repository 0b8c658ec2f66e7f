"""What one role knows, and what becomes of a packet: the model's tables and outcomes (model.py)."""

import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.dataplane import plain as p
from tests.dataplane.model_hmac import TLV, signed
from tests.dataplane.model_wire import IPV6_HEADER

UNSPEC, SHOT, REDIRECT = -1, 2, 7
ETHERNET, MIN_MTU = 14, 1280
Sids = tuple[bytes, ...]


class Flow(NamedTuple):
    """A flow as the server sees it."""

    remote: bytes
    local: bytes
    protocol: int
    remote_port: int
    local_port: int

    def marked(self, keys: Sequence[int]) -> tuple[int, int]:
        """The flow's mark in the server's table, and what stands in its word above slot and epoch.

        Multilinear-HM (Lemire and Kaser 2014): 64-bit keys, 32-bit words as the processor reads them.
        """
        ports = struct.pack("!HH", self.remote_port, self.local_port)
        words = struct.unpack("=10I", self.remote + self.local + ports + struct.pack("=I", self.protocol))

        def upper(shift: int, count: int = 10) -> int:
            ahead = list(zip(words[:count], keys[shift:], strict=False))
            return sum((a + k) * (b + m) for (a, k), (b, m) in zip(ahead[::2], ahead[1::2], strict=True))

        first, second = upper(0) % 2**64, upper(2) % 2**64
        source = upper(0, 2) % 2**64 >> 48
        mark = first >> 32 << 32 | second >> 32
        mark = (mark ^ mark >> 32) * 0x9E3779B97F4A7C15 % 2**64
        return mark ^ mark >> 32, (first ^ second) % 2**20 << 16 | source


@dataclass(frozen=True)
class Selected:
    """Several paths: one of them for each of 128 buckets of flows."""

    buckets: tuple[Sids, ...]

    def of(self, label: int, source: bytes, target: bytes, ports: tuple[int, int], protocol: int) -> Sids:
        """The path of a flow: by flow label, addresses, ports and protocol."""
        words = struct.unpack("=4Q", source + target)
        wire = struct.unpack("=2H", struct.pack("!2H", *ports))
        mixed = wire[1] << 48 | wire[0] << 32 | label
        for word in (*words, protocol << 20):
            mixed ^= word
        for _ in range(2):
            mixed = (mixed ^ (mixed >> 32 if _ else 0)) * 0x9E3779B97F4A7C15 % 2**64
        return self.buckets[mixed >> 57]


@dataclass
class Telling:
    """What a flow's packets have told: how many of those at once, SYNs since a reply, if one came."""

    count: int = 0
    in_vain: int = 0
    used: bool = False
    given_up: bool = False


@dataclass
class Tables:
    """What one role knows. Paths are in the order of travel; an empty one is no path at present.

    `next_hops` has the first segment's link-layer address, and True where the kernel has to be asked.
    `checked` are the flows found trustworthy since the SR domain or the local addresses changed.
    """

    role: str
    mtu: int = 65536
    local: set[bytes] = field(default_factory=set)
    domain: list[tuple[int, int]] = field(default_factory=list)
    sids_only: bool = False
    xdp: bool = False
    #: The interface requires an HMAC.
    hmac: bool = False
    #: Secrets by number, and the number of the key that signs; 0: there are no HMACs.
    keys: dict[int, bytes] = field(default_factory=dict)
    signer: int = 0
    ipv4: bool = False
    services: dict[bytes, int] = field(default_factory=dict)
    routes: dict[tuple[int, int, int], Sids | Selected] = field(default_factory=dict)
    names: dict[bytes, int] = field(default_factory=dict)
    questions: dict[tuple[bytes, bytes, bytes, bytes], int] = field(default_factory=dict)
    flows: dict[Flow, Sids] = field(default_factory=dict)
    checked: set[Flow] = field(default_factory=set)
    paths: set[Sids] = field(default_factory=set)
    paths_room: int = 0
    next_hops: dict[Sids, tuple[bytes, bool]] = field(default_factory=dict)
    came_from: bytes = b""
    path_mtus: dict[Sids, int] = field(default_factory=dict)
    #: Blocks of compressed SIDs, 16 bits each, and the first C-SID that names a link.
    csid: list[tuple[tuple[int, ...], int]] = field(default_factory=list)
    fragments: dict[tuple[bytes, bytes, bytes], Sids] = field(default_factory=dict)
    #: Paths that encapsulate, and the source of their outer header.
    encapsulated: set[Sids] = field(default_factory=set)
    tunnel: bytes = bytes(16)
    #: Ways back that a client's packets with a path tell, and what the packets of a flow have told.
    ways_back: dict[Sids, Sids] = field(default_factory=dict)
    tellings: dict[tuple[bytes, int, int, int], Telling] = field(default_factory=dict)
    #: The last packet was to tell it, but had no room.
    had_no_room: bool = False
    #: A server's flows that have told a way back.
    told: set[Flow] = field(default_factory=set)

    def trusts(self, address: bytes) -> bool:
        """True inside the SR domain."""
        number = int.from_bytes(address, "big")
        return any(number & mask == network for network, mask in self.domain)


@dataclass
class Outcome:
    """Verdict, frame out (of no matter where it is dropped), counted reasons, what else was sent or told."""

    packet: bytes
    verdict: int = UNSPEC
    counted: Counter[str] = field(default_factory=Counter)
    sent: list[bytes] = field(default_factory=list)
    told: list[tuple[bytes, int, int]] = field(default_factory=list)
    #: An error that has become IPv4's.
    ipv4: bool = False

    def count(self, *reasons: str) -> "Outcome":
        """Counts each once more."""
        self.counted.update(reasons)
        return self


def srh_size(sids: Sids) -> int:
    """Bytes of the SRH for a path and the destination."""
    return 8 + 16 * (len(sids) + 1)


def size_of(tables: Tables, sids: Sids) -> int:
    """Bytes that packets with a path grow by."""
    tlv = TLV if tables.signer else 0
    if sids not in tables.encapsulated:
        return srh_size(sids) + tlv
    listed = max(len(sids) - 1, 1) if tables.signer else len(sids) - 1
    return IPV6_HEADER + (8 + 16 * listed + tlv if listed else 0)


def room_for(tables: Tables, route: Sids | Selected | None) -> int:
    """The bytes that the MSS has to leave room for."""
    if isinstance(route, Selected):
        return max(room_to_tell(tables, sids) for sids in route.buckets)
    return size_of(tables, route) if route else 0


def room_to_tell(tables: Tables, route: Sids | Selected | None) -> int:
    """The same of what this host sends, which may tell a way back, too."""
    if not route or isinstance(route, Selected):
        return room_for(tables, route)
    back = tables.ways_back.get(route)
    return size_of(tables, route) + (8 + 16 * len(back) if back else 0)


def outer_header(tables: Tables, sids: Sids, kind: int, inner: int, first: bytes, hops: bytes) -> bytes:
    """IPv6 and, with several SIDs or an HMAC, an SRH, around `inner` bytes; 0: more than 65,535."""
    listed = sids[1:] or (sids if tables.signer else ())
    header = b""
    if listed:
        header = bytes([kind, 2 * len(listed), 4, len(sids) - 1, len(listed) - 1, 0, 0, 0])
        header += b"".join(reversed(listed))
    if tables.signer:
        header = signed(header, tables.keys[tables.signer], tables.tunnel, tables.signer)
    length = (inner + len(header)) & 0xFFFF if inner else 0
    ends = tables.tunnel + sids[0]
    return first + struct.pack("!HB", length, p.ROUTING if header else kind) + hops + ends + header
