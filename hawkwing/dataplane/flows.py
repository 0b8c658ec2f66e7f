"""The server's flow table and its learned paths, as seen from outside: counted, read, tidied up."""

import mmap
import struct
from collections.abc import Iterable, Iterator

from hawkwing.dataplane.bpf import Map, test_run
from hawkwing.dataplane.layout import limits, structures

_RUNS = 2048
_BUCKETS = 128  # looked at in one turn
_U32, _REQUEST = struct.Struct("=I"), struct.Struct("=III")


def clear_tally(tallies: Map, slot: int) -> None:
    """Forgets what was sent over the path that had this slot before."""
    key = _U32.pack(slot)
    tallies.set(key, bytes(len(tallies.get(key) or b"")))


class FlowTable:
    """Reads the table through its memory mapping, while the data plane goes on writing it."""

    def __init__(self, table: Map) -> None:
        bucket = structures()["flow_bucket"]
        self._ways = limits()["HW_WAYS"]
        self.buckets = table.info.max_entries
        self._slot_mask = (1 << limits()["HW_SLOT_BITS"]) - 1
        self._bucket = struct.Struct(f"={2 * self._ways}Q")
        assert self._bucket.size == table.info.value_size and bucket.words.offset == 8 * self._ways
        self._memory = mmap.mmap(table.fd, self._bucket.size * table.info.max_entries, prot=mmap.PROT_READ)

    def entries(self, first: int = 0, count: int | None = None) -> Iterator[tuple[int, int]]:
        """Mark and word of every flow in so many buckets, see `struct flow_bucket`.

        One that changes meanwhile may be missed.
        """
        ways, size = self._ways, self._bucket.size
        last = self.buckets if count is None else min(first + count, self.buckets)
        for bucket in self._bucket.iter_unpack(self._memory[first * size : last * size]):
            for mark, word in zip(bucket[:ways], bucket[ways:], strict=True):
                if mark:
                    yield mark, word

    def slots(self, first: int, count: int) -> set[int]:
        """The path slots of the flows in so many buckets."""
        mask = self._slot_mask
        return {word & mask for _mark, word in self.entries(first, count)}

    def __len__(self) -> int:
        """Counted from the marks, a way of all buckets at a time: 0.1 s for a million flows."""
        with memoryview(self._memory) as octets, octets.cast("Q") as words:
            stripes = (words[way :: 2 * self._ways].tolist() for way in range(self._ways))
            return sum(len(stripe) - stripe.count(0) for stripe in stripes)

    def close(self) -> None:
        """Unmaps it."""
        self._memory.close()


class Sweeper:
    """Removes flows that were not seen for long, and gives the slots of paths that no flow uses back.

    The latter in two steps, half a minute apart: a path is first made unknown, so that no new flow takes it,
    and its slot is given back only when then still no flow uses it, and none is in a flow cache with it.
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
        """Those that were last seen `age` epochs ago, or longer; the data plane does it (bpf/sweep.h).

        Of a large table a part each time, so that the agent is not kept from its work: a million flows take
        eleven turns, which are five minutes.
        """
        swept = limits()["HW_SWEPT"]
        for _ in range(min(_RUNS, -(-self._flows.buckets // swept))):
            test_run(self._program, bytes(14) + _REQUEST.pack(0, self._next, age))
            self._next = self._next + swept if self._next + swept < self._flows.buckets else 0
            yield 0

    def give_back(self, slot: int) -> None:
        """Frees the slot of a path that no flow has; the data plane counts whose it was."""
        clear_tally(self._tallies, slot)
        test_run(self._program, bytes(14) + _REQUEST.pack(slot, 0, 0))

    def adopt(self, learned: Iterable[int]) -> None:
        """Of the slots of learned paths, those that an agent before was about to give back."""
        known = {_U32.unpack(value)[0] for key in self._paths.each_key() if (value := self._paths.get(key))}
        self._leaving = set(learned) - known

    def sweeping(self) -> Iterator[int]:
        """One step of both, in turns that take less than a millisecond: how many slots come back in each.

        While less than half of the slots are in use, paths stay.
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
        # A flow that has taken one of these meanwhile keeps it: its slot waits until the flow is gone.
        for key, slot in known.items():
            if slot not in used:
                self._leaving.add(slot)
                self._paths.delete(key)
                yield 0
