"""Segment lists. Everywhere in Python they are in the order of travel; `wire_order` alone reverses them."""

import struct
from collections.abc import Sequence
from ipaddress import IPv6Address

MAX_SIDS = 15
"""SIDs in a list: the SRH holds 16 segments, one of which is the packet's own destination."""

MAX_PREFIXES = 8
"""Prefixes of an SR domain."""

ROUTING_TYPE_SRH = 4


def wire_order(sids: Sequence[IPv6Address]) -> list[IPv6Address]:
    """The SIDs as they stand in an SRH behind segment[0]: the last first (RFC 8754, section 2)."""
    return list(reversed(sids))


def srh_length(sids: Sequence[IPv6Address]) -> int:
    """Bytes that an SRH with these SIDs and the destination takes."""
    return 8 + 16 * (len(sids) + 1)


def ready_srh(sids: Sequence[IPv6Address]) -> bytes:
    """An SRH for a packet about to take the first SID, in wire order.

    Next header and segment[0], the destination, belong to the packet and are zero. ValueError where
    there are no SIDs, or more than fit.
    """
    if not 1 <= len(sids) <= MAX_SIDS:
        raise ValueError(f"a segment list has 1 to {MAX_SIDS} SIDs, not {len(sids)}")
    count = len(sids)
    fixed = struct.pack("!BBBBBBH", 0, 2 * (count + 1), ROUTING_TYPE_SRH, count, count, 0, 0)
    return fixed + bytes(16) + b"".join(sid.packed for sid in wire_order(sids))


def sids_in_srh(srh: bytes) -> tuple[IPv6Address, ...]:
    """The SIDs of an SRH in order of travel, without segment[0]."""
    count = srh[4]
    listed = [IPv6Address(srh[8 + 16 * i : 24 + 16 * i]) for i in range(1, count + 1)]
    return tuple(wire_order(listed))
