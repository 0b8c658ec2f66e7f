"""The blocks of a pcapng file (draft-ietf-opsawg-pcapng), and the packets in what tcpdump writes.

Each block begins and ends with its length, and options are padded to 32 bits, in this machine's byte order:

    | type | length | body | options | length |
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_SECTION, _INTERFACE, _PACKET = 0x0A0D0D0A, 1, 6
_BYTE_ORDER, _MAJOR, _MINOR, _UNKNOWN_LENGTH = 0x1A2B3C4D, 1, 0, -1
_ETHERNET, _ANY_LENGTH = 1, 0
_END, _NAME, _DESCRIPTION, _RESOLUTION, _FLAGS = 0, 2, 3, 9, 2
_NANOSECONDS = 9
_INBOUND, _OUTBOUND = 1, 2
_NANOSECOND_PCAP = 0xA1B23C4D
_FILE_HEADER, _RECORD = struct.Struct("=I20x"), struct.Struct("=IIII")
_BILLION = 10**9

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


def interface(name: str, description: str) -> bytes:
    """An Interface Description Block; the interfaces of a section are numbered from 0 on."""
    options = [(_NAME, name.encode()), (_DESCRIPTION, description.encode())]
    options.append((_RESOLUTION, bytes([_NANOSECONDS])))
    return _block(_INTERFACE, struct.pack("=HHI", _ETHERNET, 0, _ANY_LENGTH), options)


@dataclass(frozen=True, order=True)
class Record:
    """A frame with its time in nanoseconds; `length` is what was sent, `data` may be less."""

    time: int
    data: bytes
    length: int


def packet(number: int, record: Record, outbound: bool) -> bytes:
    """An Enhanced Packet Block of an interface."""
    high, low = record.time >> 32, record.time & 0xFFFFFFFF
    head = struct.pack("=IIIII", number, high, low, len(record.data), record.length)
    flags = struct.pack("=I", _OUTBOUND if outbound else _INBOUND)
    return _block(_PACKET, head + _padded(record.data), [(_FLAGS, flags)])


class PcapStream:
    """Takes apart a pcap stream with nanoseconds that comes in pieces, such as a pipe gives them."""

    def __init__(self) -> None:
        self._rest = b""
        self.begun = False
        """Has the header of the file come? tcpdump writes it once it captures."""

    def feed(self, data: bytes) -> Iterator[Record]:
        """The frames that are complete now; ValueError if this is no such stream."""
        self._rest += data
        if not self.begun:
            if len(self._rest) < _FILE_HEADER.size:
                return
            (magic,) = _FILE_HEADER.unpack_from(self._rest)
            if magic != _NANOSECOND_PCAP:
                raise ValueError(f"not a pcap stream with nanoseconds: {self._rest[:4].hex()}")
            self._rest, self.begun = self._rest[_FILE_HEADER.size :], True
        at = 0
        while len(self._rest) >= at + _RECORD.size:
            seconds, nanoseconds, kept, length = _RECORD.unpack_from(self._rest, at)
            after = at + _RECORD.size + kept
            if after > len(self._rest):
                break
            yield Record(seconds * _BILLION + nanoseconds, self._rest[at + _RECORD.size : after], length)
            at = after
        self._rest = self._rest[at:]
