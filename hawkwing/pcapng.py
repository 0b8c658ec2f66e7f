"""The blocks of a pcapng file (draft-ietf-opsawg-pcapng), and packets in the order of their times.

Each block begins and ends with its length, and options are padded to 32 bits, in this machine's byte order:

    | type | length | body | options | length |
"""

import heapq
import struct
from collections.abc import Sequence
from dataclasses import dataclass

ETHERNET, RAW_IP = 1, 101
"""Link types: frames with an Ethernet header, packets that begin with their IP header."""
HELD_NS = 50_000_000
"""Nanoseconds that packets wait for earlier ones of other interfaces."""
_SECTION, _INTERFACE, _PACKET = 0x0A0D0D0A, 1, 6
_BYTE_ORDER, _MAJOR, _MINOR, _UNKNOWN_LENGTH = 0x1A2B3C4D, 1, 0, -1
_ANY_LENGTH = 0
_END, _NAME, _DESCRIPTION, _RESOLUTION, _FLAGS = 0, 2, 3, 9, 2
_NANOSECONDS = 9
_INBOUND, _OUTBOUND = 1, 2

Options = Sequence[tuple[int, bytes]]


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _block(kind: int, body: bytes, options: Options = ()) -> bytes:
    for code, value in options:
        body += struct.pack("=HH", code, len(value)) + _padded(value)
    if options:
        body += struct.pack("=HH", _END, 0)
    length = 12 + len(body)
    return struct.pack("=II", kind, length) + body + struct.pack("=I", length)


def section() -> bytes:
    """The Section Header Block, the first one."""
    return _block(_SECTION, struct.pack("=IHHq", _BYTE_ORDER, _MAJOR, _MINOR, _UNKNOWN_LENGTH))


def interface(name: str, description: str, link_type: int = ETHERNET) -> bytes:
    """An Interface Description Block; the interfaces of a section are numbered from 0 on."""
    options = [(_NAME, name.encode()), (_DESCRIPTION, description.encode())]
    options.append((_RESOLUTION, bytes([_NANOSECONDS])))
    return _block(_INTERFACE, struct.pack("=HHI", link_type, 0, _ANY_LENGTH), options)


@dataclass(frozen=True, order=True)
class Record:
    """A frame with its time in nanoseconds; `length` is the original length, `data` may be shorter."""

    time: int
    data: bytes
    length: int


def packet(number: int, record: Record, outbound: bool) -> bytes:
    """An Enhanced Packet Block of an interface."""
    high, low = record.time >> 32, record.time & 0xFFFFFFFF
    head = struct.pack("=IIIII", number, high, low, len(record.data), record.length)
    flags = struct.pack("=I", _OUTBOUND if outbound else _INBOUND)
    return _block(_PACKET, head + _padded(record.data), [(_FLAGS, flags)])


class InOrder:
    """Sorts packet blocks of several interfaces by time."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int, bytes]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, time: int, block: bytes) -> None:
        """A block, with the time of its packet in nanoseconds."""
        heapq.heappush(self._waiting, (time, block))

    def release(self, now: int | None, most: int | None = None) -> list[bytes]:
        """The blocks that have waited long enough (now None: all), at most `most`."""
        blocks: list[bytes] = []
        while self._waiting and (now is None or self._waiting[0][0] <= now - HELD_NS):
            if most is not None and len(blocks) == most:
                break
            blocks.append(heapq.heappop(self._waiting)[1])
        return blocks
