"""Several paths for one application: which are active, and the share of the flows of each. No I/O.

The terms are those of RFC 9256: the valid candidate paths with the highest preference are active, and share
the flows by weight. The data plane selects a path by the flow's bucket (bpf/select.h).
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from hawkwing.errors import DataplaneError
from hawkwing.policies import PolicyTable
from hawkwing.sids import SidList, overhead

PREFERENCE, WEIGHT = 100, 1
"""The defaults of RFC 9256, sections 2.7 and 2.11."""
MAX_CANDIDATES = 8
_GRACE = 1.0
"""Seconds before a number is reused: a packet on another CPU may still read the old paths."""

Shares = tuple[tuple[SidList, int], ...]
"""Segment lists with their weights; no list is empty, and none occurs twice."""


class Candidate(NamedTuple):
    """A candidate path of an application."""

    sids: SidList
    name: str = ""
    preference: int = PREFERENCE
    weight: int = WEIGHT


def active(candidates: Iterable[Candidate], valid: Callable[[SidList], bool]) -> tuple[Candidate, ...]:
    """The valid candidates with the highest preference; if none is valid, all count as valid.

    The host's view of the network may be wrong: a packet on a path that seems dead may still arrive, and
    a packet without an SRH would take a path that is not configured.
    """
    listed = list(candidates)
    usable = [one for one in listed if valid(one.sids)] or listed
    best = max((one.preference for one in usable), default=0)
    return tuple(one for one in usable if one.preference == best)


def quotas(weights: Mapping[SidList, int], buckets: int) -> dict[SidList, int]:
    """The number of buckets per list, by largest remainder; at least one each."""
    total = sum(weights.values())
    exact = {sids: weight * buckets / total for sids, weight in weights.items()}
    found = {sids: max(1, int(share)) for sids, share in exact.items()}
    by_remainder = sorted(found, key=lambda sids: found[sids] - exact[sids])
    at = 0
    while (missing := buckets - sum(found.values())) > 0:
        found[by_remainder[at % len(by_remainder)]] += 1
        at += 1
    while missing < 0:
        # Lists with tiny weights were rounded up to one bucket.
        found[max(found, key=lambda sids: found[sids])] -= 1
        missing += 1
    return found


def spread(
    weights: Mapping[SidList, int], buckets: int, before: Sequence[SidList] = ()
) -> tuple[SidList, ...]:
    """The list of each bucket. As many buckets as possible keep their list from `before`."""
    left = Counter(quotas(weights, buckets))
    result: list[SidList] = [()] * buckets
    for bucket, sids in enumerate(before):
        if left[sids] > 0:
            left[sids] -= 1
            result[bucket] = sids
    for bucket, sids in enumerate(result):
        if not sids:
            # The list that lacks the most buckets: so lists alternate, instead of filling adjacent buckets.
            lacking = max(left, key=lambda one: left[one])
            left[lacking] -= 1
            result[bucket] = lacking
    return tuple(result)


class Wanted(NamedTuple):
    """The lists that share the flows, and the standby lists that replace dead ones."""

    shares: Shares = ()
    standby: tuple[SidList, ...] = ()

    @property
    def lists(self) -> tuple[SidList, ...]:
        """All lists, the preferred ones first."""
        return (*(sids for sids, _weight in self.shares), *self.standby)


class Selection:
    """Several lists in use at once, and the list of each bucket."""

    __slots__ = ("buckets", "number", "users", "wanted")

    def __init__(self, number: int, wanted: Wanted, buckets: tuple[SidList, ...]) -> None:
        self.number = number
        self.wanted = wanted
        self.buckets = buckets
        self.users = 0


class Contents(NamedTuple):
    """A selection as in the data plane: slots of buckets and candidates, most bytes a packet grows by."""

    buckets: Sequence[int]
    candidates: Sequence[int]
    active: int
    longest: int


Write = Callable[[int, Contents], None]


class SelectionTable:
    """The selections in use; applications with the same lists and weights share one."""

    def __init__(
        self,
        capacity: int,
        buckets: int,
        policies: PolicyTable,
        write: Write,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._capacity = capacity
        self._buckets = buckets
        self._policies = policies
        self._write = write
        self._now = now
        self._known: dict[tuple[Wanted, tuple[SidList, ...]], Selection] = {}
        #: Increases when a selection is added or removed.
        self.changes = 0
        self._fresh = iter(range(capacity))
        self._released: deque[tuple[float, int]] = deque()
        self._signed = False

    def signing(self, signed: bool) -> Iterator[None]:
        """Whether the packets are signed, and so grow by more: writes the selections again, in steps."""
        if signed == self._signed:
            return
        self._signed = signed
        for selection in list(self._known.values()):
            # Between two steps it can lose its users.
            if selection.users:
                slots = {
                    sids: slot for sids in selection.wanted.lists if (slot := self._policies.slot_of(sids))
                }
                self._write(selection.number, self._contents(selection.wanted, selection.buckets, slots))
            yield

    def acquire(self, wanted: Wanted, before: Selection | None = None) -> Selection:
        """The selection of these lists, written if it is new; most flows of `before` keep their path."""
        found = self._alike(wanted) if before is None or self._full() else None
        if found is None:
            former = before.buckets if before is not None else ()
            buckets = spread(dict(wanted.shares), self._buckets, former)
            found = self._known.get((wanted, buckets)) or self._new(wanted, buckets)
        found.users += 1
        return found

    def lists(self) -> dict[SidList, int]:
        """All lists in a selection, with their slots."""
        found = {sids for one in self._known.values() for sids in one.wanted.lists}
        slots = {sids: self._policies.slot_of(sids) for sids in found}
        return {sids: slot for sids, slot in slots.items() if slot is not None}

    def _alike(self, wanted: Wanted) -> Selection | None:
        return next((one for one in self._known.values() if one.wanted == wanted), None)

    def _full(self) -> bool:
        return len(self._known) + len(self._released) >= self._capacity

    def _new(self, wanted: Wanted, buckets: tuple[SidList, ...]) -> Selection:
        slots: dict[SidList, int] = {}
        number = self._free_number()
        try:
            for sids in wanted.lists:
                slots[sids] = self._policies.acquire(sids)
            self._write(number, self._contents(wanted, buckets, slots))
        except (OSError, DataplaneError):
            for sids in slots:
                self._policies.release(sids)
            self._released.appendleft((float("-inf"), number))
            raise
        made = self._known[wanted, buckets] = Selection(number, wanted, buckets)
        self.changes += 1
        return made

    def _contents(self, wanted: Wanted, buckets: Sequence[SidList], slots: Mapping[SidList, int]) -> Contents:
        return Contents(
            [slots[sids] for sids in buckets],
            [slots[sids] for sids in wanted.lists[:MAX_CANDIDATES]],
            len(wanted.shares),
            max(overhead(sids, self._signed) for sids in slots),
        )

    def release(self, selection: Selection) -> None:
        """Removes one user. Without users, the lists are released, and the number after a grace period."""
        selection.users -= 1
        if not selection.users:
            del self._known[selection.wanted, selection.buckets]
            self.changes += 1
            for sids in selection.wanted.lists:
                self._policies.release(sids)
            self._released.append((self._now(), selection.number))

    def _free_number(self) -> int:
        if self._released and self._now() - self._released[0][0] >= _GRACE:
            return self._released.popleft()[1]
        number = next(self._fresh, None)
        if number is None and self._released:
            return self._released.popleft()[1]
        if number is None:
            raise DataplaneError(f"more than {self._capacity} different sets of paths are in use")
        return number
