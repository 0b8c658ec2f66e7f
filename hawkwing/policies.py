"""Slots of the policy table: one per segment list, shared by all routes with that list."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from ipaddress import IPv6Address

from hawkwing.errors import DataplaneError
from hawkwing.sids import SidList

EMPTY_SLOT = 0
_GRACE = 1.0
"""Seconds before a slot is reused: a packet on another CPU may still read the old path."""


class PolicyTable:
    """Counts the users of each list; `write(slot, sids)` writes a list to the data plane."""

    def __init__(
        self,
        capacity: int,
        write: Callable[[int, Sequence[IPv6Address]], None],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._write = write
        self._now = now
        self._slots: dict[SidList, int] = {}
        self._users: dict[SidList, int] = {}
        self._fresh = iter(range(1, capacity))
        self._capacity = capacity
        self._released: deque[tuple[float, int]] = deque()

    def acquire(self, sids: SidList) -> int:
        """The slot with this list, written if it is new; the empty list is slot 0."""
        if not sids:
            return EMPTY_SLOT
        if sids not in self._slots:
            slot = self._free_slot()
            self._write(slot, sids)
            self._slots[sids] = slot
        self._users[sids] = self._users.get(sids, 0) + 1
        return self._slots[sids]

    def release(self, sids: SidList) -> None:
        """Removes one user; the slot of a list without users is free after a grace period."""
        if not sids:
            return
        self._users[sids] -= 1
        if not self._users[sids]:
            del self._users[sids]
            self._released.append((self._now(), self._slots.pop(sids)))

    def rewriting(self, write: Callable[[int, SidList], None]) -> Iterator[None]:
        """Writes all lists once more by `write(slot, sids)`, in steps."""
        for sids in list(self._slots):
            # Between two steps it can lose its users.
            slot = self._slots.get(sids)
            if slot is not None:
                write(slot, sids)
            yield

    def lists(self) -> list[SidList]:
        """All lists that have a slot."""
        return list(self._slots)

    def slot_of(self, sids: SidList) -> int | None:
        """The slot of a list, if it has one."""
        return self._slots.get(sids) if sids else EMPTY_SLOT

    def _free_slot(self) -> int:
        if self._released and self._now() - self._released[0][0] >= _GRACE:
            return self._released.popleft()[1]
        slot = next(self._fresh, None)
        if slot is None and self._released:
            return self._released.popleft()[1]
        if slot is None:
            raise DataplaneError(f"more than {self._capacity - 1} different segment lists are in use")
        return slot
