"""Reads a BPF ring buffer through its memory mapping; BCC's reader would need LLVM in the agent."""

import mmap
import struct
from collections.abc import Iterator

from hawkwing.dataplane.bpf import Map

_BUSY, _DISCARDED = 1 << 31, 1 << 30
_HEADER = 8


class RingBuffer:
    """A consumer of a BPF_MAP_TYPE_RINGBUF; its map's descriptor becomes readable when it has records."""

    def __init__(self, table: Map) -> None:
        page = mmap.PAGESIZE
        self.fd = table.fd
        self._size = table.info.max_entries
        self._consumer = mmap.mmap(table.fd, page, prot=mmap.PROT_READ | mmap.PROT_WRITE, offset=0)
        # The data pages are mapped twice in a row, so no record is split.
        self._producer = mmap.mmap(table.fd, page + 2 * self._size, prot=mmap.PROT_READ, offset=page)

    def records(self) -> Iterator[bytes]:
        """The records since the last call."""
        (position,) = struct.unpack_from("=Q", self._consumer, 0)
        while True:
            (end,) = struct.unpack_from("=Q", self._producer, 0)
            if position >= end:
                return
            at = mmap.PAGESIZE + (position & (self._size - 1))
            (length,) = struct.unpack_from("=I", self._producer, at)
            if length & _BUSY:
                return
            size = length & ~_DISCARDED
            record = self._producer[at + _HEADER : at + _HEADER + size]
            position += (size + _HEADER + 7) // 8 * 8
            struct.pack_into("=Q", self._consumer, 0, position)
            if not length & _DISCARDED:
                yield record

    def close(self) -> None:
        """Unmaps it."""
        self._consumer.close()
        self._producer.close()
