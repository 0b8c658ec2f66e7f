"""Slots of segment lists: shared, freed, and at rest before they are used again."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv6Address

import pytest

from hawkwing.errors import DataplaneError
from hawkwing.policies import EMPTY_SLOT, PolicyTable
from hawkwing.sids import SidList

A, B, C = ((IPv6Address(f"fcbb:bb00:{number}::2"),) for number in (1, 2, 3))
REST = 1.0
"""Seconds; a packet on another CPU has read its path long before."""


class Table(PolicyTable):
    """With a clock that stands still, and what was written."""

    def __init__(self, capacity: int) -> None:
        self.time = 100.0
        self.written: list[tuple[int, SidList]] = []

        def write(slot: int, sids: Sequence[IPv6Address]) -> None:
            self.written.append((slot, tuple(sids)))

        super().__init__(capacity, write, lambda: self.time)


def test_the_empty_list_has_a_slot_of_its_own_that_is_never_written() -> None:
    table = Table(2)
    assert table.acquire(()) == EMPTY_SLOT == table.slot_of(()) == 0
    table.release(())
    assert table.written == [] and table.lists() == []
    assert table.acquire(A) == 1, "the only slot is still free"


def test_a_list_has_one_slot_however_many_use_it() -> None:
    table = Table(8)
    assert [table.acquire(A), table.acquire(A), table.acquire(B)] == [1, 1, 2]
    assert table.written == [(1, A), (2, B)]
    assert table.lists() == [A, B]
    table.release(A)
    assert (table.slot_of(A), table.slot_of(B), table.slot_of(C)) == (1, 2, None)
    table.release(A)
    assert table.slot_of(A) is None and table.lists() == [B]


def test_a_slot_rests_before_it_is_used_again() -> None:
    table = Table(8)
    table.acquire(A)
    table.release(A)
    table.time += REST - 0.01
    assert table.acquire(B) == 2, "a packet may still read the old path"
    table.time += 0.01
    assert table.acquire(C) == 1
    assert table.written[-1] == (1, C)


def test_those_that_rest_longest_are_used_first() -> None:
    table = Table(8)
    for sids in (A, B):
        table.acquire(sids)
    table.release(B)
    table.time += REST / 2
    table.release(A)
    table.time += REST / 2
    assert table.acquire(C) == 2
    assert table.acquire(A) == 3, "slot 1 still rests"


def test_where_there_is_no_other_a_slot_does_not_rest() -> None:
    table = Table(3)
    for sids in (A, B):
        table.acquire(sids)
    with pytest.raises(DataplaneError, match=r"^more than 2 different segment lists are in use$"):
        table.acquire(C)
    assert table.lists() == [A, B] and table.slot_of(C) is None
    table.release(A)
    assert table.acquire(C) == 1
    table.release(C)
    table.release(B)
    assert sorted([table.acquire(A), table.acquire(B)]) == [1, 2]


def test_slots_of_old_lists_are_freed() -> None:
    table = Table(4)
    for number in range(100):
        sids = (IPv6Address(number + 1),)
        assert 1 <= table.acquire(sids) <= 3
        table.release(sids)
        table.time += REST
    assert table._users == {}, "of a list that is gone nothing is kept"
