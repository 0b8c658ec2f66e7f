"""Segment lists. They are in travel order everywhere in Python; only `wire_order` reverses them."""

import struct
from collections.abc import Sequence
from ipaddress import IPv6Address

SidList = tuple[IPv6Address, ...]

MAX_SIDS = 15
"""Limit of SIDs in a list: the SRH has up to 16 segments, one of which is the packet's destination."""

MAX_PREFIXES = 8
"""Limit of prefixes in an SR domain."""

ROUTING_TYPE_SRH = 4


def wire_order(sids: Sequence[IPv6Address]) -> list[IPv6Address]:
    """The SIDs in the order of an SRH after segment[0]: the last one first (RFC 8754, section 2)."""
    return list(reversed(sids))


def srh_length(sids: Sequence[IPv6Address]) -> int:
    """The length of an SRH with these SIDs and the destination, in bytes."""
    return 8 + 16 * (len(sids) + 1)


def ready_srh(sids: Sequence[IPv6Address], most: int = MAX_SIDS) -> bytes:
    """An SRH in wire order for a packet whose first segment is active.

    Next header and segment[0] (the destination) are zero: they are set per packet. ValueError if there
    are no SIDs or more than `most`.
    """
    if not 1 <= len(sids) <= most:
        raise ValueError(f"a segment list has 1 to {most} SIDs, not {len(sids)}")
    count = len(sids)
    fixed = struct.pack("!BBBBBBH", 0, 2 * (count + 1), ROUTING_TYPE_SRH, count, count, 0, 0)
    return fixed + bytes(16) + b"".join(sid.packed for sid in wire_order(sids))


def sids_in_srh(srh: bytes) -> tuple[IPv6Address, ...]:
    """The SIDs of an SRH in travel order, without segment[0]."""
    count = srh[4]
    listed = [IPv6Address(srh[8 + 16 * i : 24 + 16 * i]) for i in range(1, count + 1)]
    return tuple(wire_order(listed))
