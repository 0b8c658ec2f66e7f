"""A way back of its own, in plain Python from its description: a client's packets tell it, a server reads it.

In a Destination Options header directly behind the SRH, with a single option:
next header, length, 0x1e, length, "HW", 1, count, segments in the order they have on the wire.
"""

import struct
from typing import NamedTuple

from tests.dataplane import plain as p
from tests.dataplane.model_tables import MIN_MTU, Sids, Tables, Telling, size_of
from tests.dataplane.model_wire import IPV6_HEADER, Chain

AT_ONCE, IN_VAIN, MOST = 3, 2, 12
_FIXED, _OPTION, _MAGIC = 8, 0x1E, b"HW\1"


class Told(NamedTuple):
    """What a packet tells: the way back as it is travelled, bytes of the header, and what follows it."""

    path: Sids
    size: int
    next_header: int


class ToldPath(tuple[bytes, ...]):
    """A path that was told: its packets have a tag, so it is another one than that of a reversed list."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ToldPath) and tuple.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((ToldPath, tuple(self)))


def header(next_header: int, back: Sids) -> bytes:
    """The header that tells a way back, which is in the order of travel."""
    listed = b"".join(reversed(back))
    extent, option = len(listed) // 8, 4 + len(listed)
    return bytes([next_header, extent, _OPTION, option]) + _MAGIC + bytes([len(back)]) + listed


def read(data: bytes) -> Told | None:
    """What the Destination Options header at the beginning of `data` tells; None: none of ours."""
    if len(data) < _FIXED:
        return None
    next_header, extent, option, size = data[:4]
    listed, count = 8 * extent, data[7]
    if option != _OPTION or data[4:7] != _MAGIC or size != 4 + listed or listed != 16 * count:
        return None
    if not 1 <= count <= MOST or len(data) < _FIXED + listed:
        return None
    segments = struct.iter_unpack("16s", data[_FIXED : _FIXED + listed])
    return Told(tuple(one for (one,) in segments)[::-1], _FIXED + listed, next_header)


def due(tables: Tables, packet: bytes, sids: Sids, chain: Chain, mtu: int, syn: bool) -> bytes:
    """The header that a packet that leaves gets in front of its transport header; empty: it tells nothing.

    Each SYN tells it, and the first packets of a flow; no round of the fuzzer is long enough for more.
    After two SYNs in vain nothing of the connection does.
    """
    if sids not in tables.ways_back or chain.transport != IPV6_HEADER or not chain.source_port:
        return b""
    flow = packet[8:40], chain.protocol, chain.source_port, chain.destination_port
    telling = tables.tellings.get(flow, Telling())
    if syn and telling.in_vain >= IN_VAIN:
        telling.given_up = True
        return b""
    if not syn and (telling.given_up or telling.count >= AT_ONCE):
        return b""
    made = header(packet[6], tables.ways_back[sids])
    if len(packet) + len(made) + size_of(tables, sids) > max(mtu, MIN_MTU):
        tables.had_no_room = True
        return b""
    tables.tellings[flow] = Telling(1 if syn else telling.count + 1, telling.in_vain + syn)
    return made


def note_use(tables: Tables, packet: bytes) -> None:
    """A reply that has come over the way back which was told; its SRH has been removed."""
    if len(packet) < IPV6_HEADER + 4:
        return
    source, destination = struct.unpack_from("!HH", packet, IPV6_HEADER)
    telling = tables.tellings.get((packet[24:40] + packet[8:24], packet[6], destination, source))
    if telling and not telling.used:
        telling.used, telling.in_vain = True, 0


def tell(packet: bytes, made: bytes) -> bytes:
    """in: IPv6(A, B) X   out: IPv6(A, B) DestinationOptions(way back) X, but for the payload length."""
    return packet[:6] + bytes([p.DESTINATION]) + packet[7:IPV6_HEADER] + made + packet[IPV6_HEADER:]
