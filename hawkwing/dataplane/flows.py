"""The server's flow table and learned paths: counting, reading, removing old entries."""

import mmap
import struct
from collections.abc import Iterable, Iterator

from hawkwing.dataplane.bpf import Map, test_run
from hawkwing.dataplane.layout import limits, structures

_RUNS = 2048
_BUCKETS = 128  # processed in one turn
_U32, _REQUEST = struct.Struct("=I"), struct.Struct("=III")


def clear_tally(tallies: Map, slot: int) -> None:
    """Clears the counters of the path that used this slot before."""
    key = _U32.pack(slot)
    tallies.set(key, bytes(len(tallies.get(key) or b"")))


class FlowTable:
    """Reads the table through its memory mapping, while the data plane writes to it."""

    def __init__(self, table: Map) -> None:
        bucket = structures()["flow_bucket"]
        self._ways = limits()["HW_WAYS"]
        self.buckets = table.info.max_entries
        self._slot_mask = (1 << limits()["HW_SLOT_BITS"]) - 1
        self._bucket = struct.Struct(f"={2 * self._ways}Q")
        assert self._bucket.size == table.info.value_size and bucket.words.offset == 8 * self._ways
        self._memory = mmap.mmap(table.fd, self._bucket.size * table.info.max_entries, prot=mmap.PROT_READ)

    def entries(self, first: int = 0, count: int | None = None) -> Iterator[tuple[int, int]]:
        """Mark and word of each flow in a number of buckets, see `struct flow_bucket`.

        A flow that changes at the same time may be missed.
        """
        ways, size = self._ways, self._bucket.size
        last = self.buckets if count is None else min(first + count, self.buckets)
        for bucket in self._bucket.iter_unpack(self._memory[first * size : last * size]):
            for mark, word in zip(bucket[:ways], bucket[ways:], strict=True):
                if mark:
                    yield mark, word

    def slots(self, first: int, count: int) -> set[int]:
        """The path slots of the flows in a number of buckets."""
        mask = self._slot_mask
        return {word & mask for _mark, word in self.entries(first, count)}

    def __len__(self) -> int:
        """Counts the marks, one way of all buckets at a time: 0.1 s for a million flows."""
        with memoryview(self._memory) as octets, octets.cast("Q") as words:
            stripes = (words[way :: 2 * self._ways].tolist() for way in range(self._ways))
            return sum(len(stripe) - stripe.count(0) for stripe in stripes)

    def close(self) -> None:
        """Unmaps it."""
        self._memory.close()


class Sweeper:
    """Removes idle flows, and frees the slots of paths that no flow uses.

    Slots are freed in two steps, half a minute apart: first the path is made unknown, so no new flow uses it.
    Its slot is freed only if then still no flow uses it, and no flow cache has it.
    """

    def __init__(
        self,
        flows: FlowTable,
        paths: Map,
        program: int,
        tallies: Map,
    ) -> None:
        self._flows, self._paths, self._program, self._tallies = flows, paths, program, tallies
        self._leaving: set[int] = set()
        self._next = 0

    def _removing_flows(self, age: int) -> Iterator[int]:
        """Removes flows last seen `age` epochs ago or earlier; the data plane does the work (bpf/sweep.h).

        In a large table it processes a part each time, so as not to block the agent: a million flows take
        eleven turns, five minutes.
        """
        swept = limits()["HW_SWEPT"]
        for _ in range(min(_RUNS, -(-self._flows.buckets // swept))):
            test_run(self._program, bytes(14) + _REQUEST.pack(0, self._next, age))
            self._next = self._next + swept if self._next + swept < self._flows.buckets else 0
            yield 0

    def forget_all(self) -> None:
        """Removes all flows at once, in some 50 ms for a million."""
        for first in range(0, self._flows.buckets, limits()["HW_SWEPT"]):
            test_run(self._program, bytes(14) + _REQUEST.pack(0, first, 0))

    def give_back(self, slot: int) -> None:
        """Frees the slot of a path without flows; the data plane updates the count of its source."""
        clear_tally(self._tallies, slot)
        test_run(self._program, bytes(14) + _REQUEST.pack(slot, 0, 0))

    def adopt(self, learned: Iterable[int]) -> None:
        """The slots of learned paths that a previous agent was about to free."""
        known = {_U32.unpack(value)[0] for key in self._paths.each_key() if (value := self._paths.get(key))}
        self._leaving = set(learned) - known

    def sweeping(self) -> Iterator[int]:
        """One step of both, in turns of less than a millisecond; yields the number of slots freed in each.

        Paths stay while less than half of the slots are in use.
        """
        known = {}
        for key in self._paths.each_key():
            if value := self._paths.get(key):
                known[key] = _U32.unpack(value)[0]
            yield 0
        scarce = len(known) >= self._paths.info.max_entries // 2
        yield from self._removing_flows(limits()["HW_IDLE_EPOCHS" if scarce else "HW_FORGOTTEN_EPOCHS"])
        if not scarce and not self._leaving:
            return
        used: set[int] = set()
        for first in range(0, self._flows.buckets, _BUCKETS):
            used |= self._flows.slots(first, _BUCKETS)
            yield 0
        for slot in self._leaving - used:
            self._leaving.discard(slot)
            self.give_back(slot)
            yield 1
        # A flow that has started to use one of these keeps it: the slot stays until the flow is gone.
        for key, slot in known.items():
            if slot not in used:
                self._leaving.add(slot)
                self._paths.delete(key)
                yield 0
