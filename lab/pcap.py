"""Parses tcpdump's output from a pipe: pcap with nanoseconds, in this machine's byte order."""

import struct
from collections.abc import Iterator

from hawkwing.pcapng import Record

_NANOSECOND_PCAP = 0xA1B23C4D
_FILE_HEADER, _RECORD = struct.Struct("=I20x"), struct.Struct("=IIII")
_BILLION = 10**9


class PcapStream:
    """Splits a pcap stream with nanoseconds, which arrives in pieces, as from a pipe."""

    def __init__(self) -> None:
        self._rest = b""
        self.begun = False
        """Whether the file header has arrived; tcpdump writes it once it captures."""

    def feed(self, data: bytes) -> Iterator[Record]:
        """The complete frames so far; ValueError if this is not such a stream."""
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
