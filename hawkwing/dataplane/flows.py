"""The server's flow table and its learned paths, as seen from outside: counted, read, tidied up."""

import mmap
import struct
from collections.abc import Iterator
from ipaddress import IPv6Address
from typing import NamedTuple

from hawkwing.dataplane.bpf import Map
from hawkwing.dataplane.layout import limits, structures

_U32 = struct.Struct("=I")
_KEY = struct.Struct("=16s16s2s2sB3x")


class Flow(NamedTuple):
    """A learned flow: whose it is and the slot of its way back."""

    remote: IPv6Address
    local: IPv6Address
    remote_port: int
    local_port: int
    protocol: int
    slot: int


class FlowTable:
    """Reads the table through its memory mapping, while the data plane goes on writing it."""

    def __init__(self, table: Map) -> None:
        bucket = structures()["flow_bucket"]
        self.ways = limits()["HW_WAYS"]
        self.buckets = table.info.max_entries
        self._size = table.info.value_size
        self._keys_at = bucket.keys.offset
        self._words = struct.Struct(f"={self.ways}Q")
        self._memory = mmap.mmap(table.fd, self._size * self.buckets, prot=mmap.PROT_READ)

    def slots(self) -> Iterator[int]:
        """The path slot of every flow."""
        for at in range(0, self._size * self.buckets, self._size):
            for word in self._words.unpack_from(self._memory, at):
                if word:
                    yield word & 0xFFFFFFFF

    def __len__(self) -> int:
        return sum(1 for _slot in self.slots())

    def flows(self) -> Iterator[Flow]:
        """Every flow; one that changes meanwhile may be missed."""
        for at in range(0, self._size * self.buckets, self._size):
            for way, word in enumerate(self._words.unpack_from(self._memory, at)):
                if not word:
                    continue
                key_at = at + self._keys_at + way * _KEY.size
                remote, local, remote_port, local_port, protocol = _KEY.unpack_from(self._memory, key_at)
                yield Flow(
                    IPv6Address(remote),
                    IPv6Address(local),
                    int.from_bytes(remote_port, "big"),
                    int.from_bytes(local_port, "big"),
                    protocol,
                    word & 0xFFFFFFFF,
                )

    def close(self) -> None:
        """Unmaps it."""
        self._memory.close()


class Sweeper:
    """Gives the slots of paths that no flow uses any more back to the data plane.

    In two steps, half a minute apart: a path is first made unknown, so that no new flow takes it, and its
    slot is given back only when then still no flow uses it.
    """

    def __init__(self, flows: FlowTable, paths: Map, policies: Map, free_slots: Map) -> None:
        self._flows, self._paths, self._policies, self._free = flows, paths, policies, free_slots
        self._leaving: set[int] = set()

    def sweep(self) -> int:
        """One step; how many slots came back. Does nothing while less than half of the slots are in use."""
        known = {
            key: _U32.unpack(value)[0] for key in self._paths.each_key() if (value := self._paths.get(key))
        }
        if len(known) < self._paths.info.max_entries // 2 and not self._leaving:
            return 0
        used = set(self._flows.slots())
        returned = self._leaving - used
        for slot in returned:
            self._policies.set(_U32.pack(slot), bytes(self._policies.info.value_size))
            self._free.push(_U32.pack(slot))
        self._leaving &= used
        for key, slot in known.items():
            if slot not in used:
                self._paths.delete(key)
                self._leaving.add(slot)
        return len(returned)
