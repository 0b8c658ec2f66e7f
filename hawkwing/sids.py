"""Segment lists. They are in travel order everywhere in Python; only `wire_order` reverses them."""

import struct
from collections.abc import Iterable, Sequence
from ipaddress import IPv6Address

from hawkwing.srh_hmac import LENGTH as HMAC_LENGTH
from hawkwing.srh_hmac import MAX_SIGNED

SidList = tuple[IPv6Address, ...]


class Encapsulated(tuple[IPv6Address, ...]):
    """A segment list for encapsulation: at its last SID the outer header is removed (End.DT6, End.DT4 ...).

    It is equal only to others of its kind: the same SIDs for insertion are another path.
    """

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Encapsulated) and tuple.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((Encapsulated, tuple(self)))


class Returning(tuple[IPv6Address, ...]):
    """A segment list whose packets tell the server another way back than the reverse list.

    It is equal only to others with the same SIDs there and back.
    """

    back: SidList

    def __new__(cls, sids: Iterable[IPv6Address], back: Iterable[IPv6Address]) -> "Returning":
        """`back` is in travel order, from the server to this host."""
        made = super().__new__(cls, sids)
        made.back = tuple(back)
        return made

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Returning) and self.back == other.back and tuple.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((Returning, tuple(self), self.back))


def back_of(sids: Sequence[IPv6Address]) -> SidList:
    """The way back that packets with this list tell; empty if they tell none."""
    return sids.back if isinstance(sids, Returning) else ()


MAX_SIDS = 15
"""Limit of SIDs in a list: the SRH has up to 16 segments, one of which is the packet's destination."""

MAX_WAY_BACK = 12
"""Limit of SIDs in a way back that packets tell."""

MAX_ENCAPSULATED = 14
"""Limit of SIDs in a list for encapsulation, with the one that removes the outer header."""

MAX_PREFIXES = 8
"""Limit of prefixes in an SR domain."""

ROUTING_TYPE_SRH = 4
ROUTING_HEADER, INNER_IPV6 = 43, 41
"""Next headers (RFC 8200)."""
IPV6_HEADER = struct.Struct("!IHBB16s16s")
"""Version, traffic class and flow label in one word; payload length, next header, hop limit, addresses."""
IPV6_VERSION = 6 << 28
_BLANK = IPv6Address(0)
_HOP_LIMIT = 64
"""Around IPv4, which has none for the network between the ends; Linux' own default."""


def wire_order(sids: Sequence[IPv6Address]) -> list[IPv6Address]:
    """The SIDs in the order of an SRH after segment[0]: the last one first (RFC 8754, section 2)."""
    return list(reversed(sids))


def most_sids(sids: SidList, signed: bool = False) -> int:
    """Limit of SIDs in packets for a list of this kind; `signed`: its SRH has an HMAC."""
    if signed:
        return MAX_SIGNED
    return MAX_ENCAPSULATED if isinstance(sids, Encapsulated) else MAX_SIDS


def srh_length(sids: Sequence[IPv6Address], signed: bool = False) -> int:
    """The length of an SRH with these SIDs and the destination, in bytes; `signed`: with an HMAC."""
    return 8 + 16 * (len(sids) + 1) + (HMAC_LENGTH if signed else 0)


def alike(sids: SidList, changed: Iterable[IPv6Address]) -> SidList:
    """`changed` as a list of the same kind as `sids`."""
    if isinstance(sids, Returning):
        return Returning(changed, sids.back)
    return Encapsulated(changed) if isinstance(sids, Encapsulated) else tuple(changed)


def overhead(sids: SidList, signed: bool = False) -> int:
    """The bytes that packets with this list grow by; `signed`: their SRH has an HMAC.

    With a way back, those of packets that tell it.
    """
    if not isinstance(sids, Encapsulated):
        told = back_of(sids)
        return srh_length(sids, signed) + (8 + 16 * len(told) if told else 0)
    if len(sids) > 1:
        # A reduced SRH: the first SID is the destination only.
        return IPV6_HEADER.size + srh_length(sids[2:], signed)
    # An HMAC needs an SRH, with this one SID.
    return IPV6_HEADER.size + (srh_length((), signed) if signed else 0)


def ready_outer(sids: Sequence[IPv6Address], source: IPv6Address, with_srh: bool = False) -> bytes:
    """The outer IPv6 header and the reduced SRH (RFC 8986, section 5.2) around IPv6; one SID needs no SRH.

    `with_srh`: there is one all the same, with this SID; a TLV needs it.

    Traffic class, flow label and payload length are zero: they are set per packet. ValueError if there are no
    SIDs or too many.
    """
    if not 1 <= len(sids) <= MAX_ENCAPSULATED:
        raise ValueError(
            f"a segment list for encapsulation has 1 to {MAX_ENCAPSULATED} SIDs, not {len(sids)}"
        )
    count = len(sids) - 1
    next_header = ROUTING_HEADER if count or with_srh else INNER_IPV6
    header = IPV6_HEADER.pack(IPV6_VERSION, 0, next_header, _HOP_LIMIT, source.packed, sids[0].packed)
    if not count and not with_srh:
        return header
    return header + _srh(INNER_IPV6, count, wire_order(sids[1:] or sids))


def _srh(next_header: int, left: int, segments: Sequence[IPv6Address]) -> bytes:
    """An SRH (RFC 8754, section 2) with these segments in wire order."""
    count = len(segments)
    fixed = struct.pack("!BBBBBBH", next_header, 2 * count, ROUTING_TYPE_SRH, left, count - 1, 0, 0)
    return fixed + b"".join(segment.packed for segment in segments)


def ready_srh(sids: Sequence[IPv6Address], most: int = MAX_SIDS) -> bytes:
    """An SRH in wire order for a packet whose first segment is active.

    Next header and segment[0] (the destination) are zero: they are set per packet. ValueError if there
    are no SIDs or more than `most`.
    """
    if not 1 <= len(sids) <= most:
        raise ValueError(f"a segment list has 1 to {most} SIDs, not {len(sids)}")
    return _srh(0, len(sids), [_BLANK, *wire_order(sids)])


def first_segment(srh: bytes) -> bytes:
    """The first segment of an SRH of which all segments are left: the last one in wire order."""
    at = 8 + 16 * srh[4]
    return srh[at : at + 16]


def sids_in_srh(srh: bytes) -> tuple[IPv6Address, ...]:
    """The SIDs of an SRH in travel order, without segment[0]."""
    count = srh[4]
    listed = [IPv6Address(srh[8 + 16 * i : 24 + 16 * i]) for i in range(1, count + 1)]
    return tuple(wire_order(listed))
