"""The parts of a probe: its segment list, there and back, and its payload. No I/O.

    IPv6(A, S1) SRH(A, S1, ..., Sk, ..., S1; SL=2k-1) UDP(p, p) token number time

A is an address of this host and p the probe's own port, so the probe needs no responder. Where a path has a
way back of its own, a probe takes it instead of the reverse list. Lists have single SIDs; those of a block of
compressed SIDs are packed into containers, as in the path's packets.
"""

import struct
from collections.abc import Sequence
from ipaddress import IPv6Address

from hawkwing.csid import Block, block_of, pack, unpack
from hawkwing.errors import HawkwingError
from hawkwing.sids import MAX_SIDS, Returning, SidList, back_of, ready_srh

TOKEN_LENGTH = 8
_PAYLOAD = struct.Struct(f"!{TOKEN_LENGTH}sIQ")
LEAST_SIZE = _PAYLOAD.size
MOST_SIZE = 65000
_IPV6, _HOP_BY_HOP, _ROUTING, _UDP, _UDP_HEADER = 40, 0, 43, 17, 8


def there_and_back(sids: Sequence[IPv6Address]) -> SidList:
    """S1 .. Sk .. S1: the last SID, from which the probe returns, is there once. Or with its own way back."""
    return (*sids, *(back_of(sids) or reversed(sids[:-1])))


def growing(sids: Sequence[IPv6Address]) -> list[SidList]:
    """The list up to each of its segments."""
    return [tuple(sids[:count]) for count in range(1, len(sids) + 1)]


def single(sids: Sequence[IPv6Address], blocks: Sequence[Block]) -> SidList:
    """The single SIDs; HawkwingError if one of them can't be used for the return path. A way back is kept."""
    found = unpack(sids, blocks)
    if back := back_of(sids):
        return Returning(found, unpack(back, blocks))
    for sid in found:
        block = block_of(sid, blocks)
        if block is not None and block.csids(sid)[0] >= block.local:
            raise HawkwingError(f"{sid} names a link in one direction: no probe can return over it")
    return found


def before_decap(sids: Sequence[IPv6Address], blocks: Sequence[Block]) -> SidList:
    """A list for encapsulation without its last SID, which takes no packets with segments left."""
    found = unpack(sids, blocks)[:-1]
    if not found:
        raise HawkwingError("the only SID removes the outer header: there is no path for probes before it")
    return found


def travelled(sids: Sequence[IPv6Address], blocks: Sequence[Block] = ()) -> SidList:
    """The segments of a probe along these SIDs and back, in travel order."""
    return pack(there_and_back(sids), blocks)


def probe_srh(sids: Sequence[IPv6Address], blocks: Sequence[Block] = ()) -> bytes:
    """The SRH of a probe along these SIDs and back, for the socket option."""
    most = 2 * MAX_SIDS - 1
    found = travelled(sids, blocks)
    if not 1 <= len(found) <= most:
        raise HawkwingError(f"a probe has at most {most} segments there and back, not {len(found)}")
    return ready_srh(found, most)


def payload(token: bytes, number: int, sent: int, size: int) -> bytes:
    """`size` bytes with the number of the probe and the time when it was sent, in nanoseconds."""
    return _PAYLOAD.pack(token, number, sent).ljust(size, b"\0")


def read_payload(token: bytes, data: bytes) -> tuple[int, int] | None:
    """Number and time; None if it is not a probe with this token, or is truncated."""
    if len(data) < LEAST_SIZE:
        return None
    found, number, sent = _PAYLOAD.unpack_from(data)
    return (number, sent) if found == token else None


def read_packet(packet: bytes) -> tuple[bytes, bytes] | None:
    """Hop-by-Hop header and UDP payload of a returned IPv6 packet; None: another packet.

    IPv6 Hop-by-Hop [SRH] UDP
    """
    if len(packet) < _IPV6 + 8 or packet[0] >> 4 != 6 or packet[6] != _HOP_BY_HOP:
        return None
    at, kind, options = _IPV6, _HOP_BY_HOP, b""
    while kind in (_HOP_BY_HOP, _ROUTING):
        if len(packet) < at + 8:
            return None
        length = (packet[at + 1] + 1) * 8
        if kind == _HOP_BY_HOP:
            options = packet[at : at + length]
        kind, at = packet[at], at + length
    return (options, packet[at + _UDP_HEADER :]) if kind == _UDP else None
