"""Several paths for one application: which are active, and which of them each bucket of flows has."""

from collections import Counter
from collections.abc import Sequence
from ipaddress import IPv6Address

import pytest

from hawkwing.errors import DataplaneError
from hawkwing.policies import PolicyTable
from hawkwing.selections import (
    Candidate,
    Contents,
    Selection,
    SelectionTable,
    Wanted,
    active,
    quotas,
    spread,
)
from hawkwing.sids import Encapsulated, SidList

A, B, C = ((IPv6Address(f"fcbb:bb00:{number}::2"),) for number in (1, 2, 3))
BUCKETS = 128


def always(_sids: SidList) -> bool:
    return True


class TestActive:
    candidates = (Candidate(A, "a", 200), Candidate(B, "b", 100, 3), Candidate(C, "c", 100))

    def test_the_highest_preference_alone(self) -> None:
        assert active(self.candidates, always) == self.candidates[:1]

    def test_the_next_preference_where_that_is_not_valid(self) -> None:
        assert active(self.candidates, lambda sids: sids != A) == self.candidates[1:]

    def test_several_of_the_same_preference_are_active_together(self) -> None:
        assert active(self.candidates[1:], always) == self.candidates[1:]
        assert active(self.candidates[1:], lambda sids: sids != C) == self.candidates[1:2]

    def test_none_valid_is_as_if_all_were(self) -> None:
        assert active(self.candidates, lambda _sids: False) == self.candidates[:1]

    def test_nothing_of_nothing(self) -> None:
        assert active((), always) == ()


class TestSpread:
    @pytest.mark.parametrize(
        "weights",
        [{A: 1}, {A: 1, B: 1}, {A: 1, B: 2}, {A: 1, B: 2, C: 4}, {A: 7, B: 11, C: 13}, {A: 2**32 - 1, B: 1}],
    )
    def test_quotas_are_the_weights(self, weights: dict[SidList, int]) -> None:
        found = quotas(weights, BUCKETS)
        assert sum(found.values()) == BUCKETS and min(found.values()) >= 1
        for sids, weight in weights.items():
            exact = weight * BUCKETS / sum(weights.values())
            assert abs(found[sids] - exact) < 1, (sids, found)
        assert Counter(spread(weights, BUCKETS)) == found

    def test_eight_of_which_one_has_nearly_all(self) -> None:
        lists = {(IPv6Address(f"fcbb:bb00:{number}::2"),): 1 for number in range(1, 8)}
        found = quotas({A: 10**9, **{sids: 1 for sids in lists if sids != A}}, BUCKETS)
        assert sum(found.values()) == BUCKETS and set(found.values()) == {1, BUCKETS - 6}

    @pytest.mark.parametrize(
        "before, after",
        [
            ({A: 1, B: 1}, {A: 1, B: 3}),
            ({A: 1, B: 1}, {A: 1, B: 1, C: 1}),
            ({A: 1, B: 1, C: 1}, {A: 1, B: 1}),
            ({A: 1, B: 5, C: 2}, {A: 2, B: 2, C: 9}),
        ],
    )
    def test_only_so_many_move_as_have_to(
        self, before: dict[SidList, int], after: dict[SidList, int]
    ) -> None:
        old = spread(before, BUCKETS)
        new = spread(after, BUCKETS, old)
        assert Counter(new) == quotas(after, BUCKETS)
        growth = Counter(quotas(after, BUCKETS)) - Counter(quotas(before, BUCKETS))
        assert sum(one != other for one, other in zip(old, new, strict=True)) == growth.total()

    def test_the_same_weights_move_nothing(self) -> None:
        old = spread({A: 1, B: 2}, BUCKETS)
        assert spread({B: 4, A: 2}, BUCKETS, old) == old


class Plane:
    """What is written, and a clock that is moved by hand."""

    def __init__(self, policies: int = 16, selections: int = 4) -> None:
        self.time = 0.0
        self.written: dict[int, Contents] = {}
        self.lists: dict[int, SidList] = {}
        self.refuses = False
        self.policies = PolicyTable(policies, self._set_policy, lambda: self.time)
        self.table = SelectionTable(selections, BUCKETS, self.policies, self._write, lambda: self.time)

    def _set_policy(self, slot: int, sids: Sequence[IPv6Address]) -> None:
        self.lists[slot] = tuple(sids)

    def _write(self, number: int, contents: Contents) -> None:
        if self.refuses:
            raise OSError(7, "no room")
        self.written[number] = contents

    def shown(self, selection: Selection) -> list[SidList]:
        """The lists of its buckets, as they were written."""
        return [self.lists[slot] for slot in self.written[selection.number].buckets]


def shares(*pairs: tuple[SidList, int], standby: tuple[SidList, ...] = ()) -> Wanted:
    return Wanted(pairs, standby)


class TestTable:
    def test_what_is_written_is_what_each_bucket_has(self) -> None:
        plane = Plane()
        made = plane.table.acquire(shares((A, 1), ((*B, *C), 3)))
        assert Counter(plane.shown(made)) == {A: 32, (*B, *C): 96}
        assert plane.written[made.number].longest == 8 + 16 * 3

    def test_signed_packets_grow_by_more(self) -> None:
        """From the first selection on, and in those that are there when it changes."""
        plane = Plane()
        gone, before = (plane.table.acquire(shares((A, 1), ((*B, *C), weight))) for weight in (1, 2))
        buckets = plane.shown(before)
        steps = plane.table.signing(True)
        plane.table.release(gone)
        for _ in steps:
            pass
        assert plane.written[before.number].longest == 8 + 16 * 3 + 40
        assert plane.shown(before) == buckets
        assert plane.written[before.number].active == 2
        after = plane.table.acquire(shares((A, 1), (Encapsulated(B), 1)))
        assert plane.written[after.number].longest == 40 + 8 + 16 + 40
        plane.written.clear()
        assert list(plane.table.signing(True)) == [] and not plane.written
        assert len(list(plane.table.signing(False))) == 2
        assert plane.written[before.number].longest == 8 + 16 * 3
        assert plane.written[after.number].longest == 40

    def test_a_selection_that_goes_meanwhile_is_not_written(self) -> None:
        plane = Plane()
        one, other = (plane.table.acquire(shares((A, 1), (B, weight))) for weight in (1, 2))
        steps = plane.table.signing(True)
        plane.written.clear()
        next(steps)
        plane.table.release(other)
        assert list(steps) == [None] and list(plane.written) == [one.number]

    def test_the_same_shares_are_there_once(self) -> None:
        plane = Plane()
        one, other = (plane.table.acquire(shares((A, 1), (B, 1))) for _ in range(2))
        assert one is other and len(plane.written) == 1
        plane.table.release(one)
        assert plane.policies.lists()
        plane.table.release(other)
        assert not plane.policies.lists()

    def test_other_weights_have_another_number_and_move_what_they_must(self) -> None:
        plane = Plane()
        before = plane.table.acquire(shares((A, 1), (B, 1)))
        after = plane.table.acquire(shares((A, 1), (B, 3)), before)
        assert after.number != before.number
        moved = zip(plane.shown(before), plane.shown(after), strict=True)
        assert sum(one != other for one, other in moved) == 32

    def test_a_number_rests_before_it_is_used_again(self) -> None:
        plane = Plane(selections=4)
        first = plane.table.acquire(shares((A, 1), (B, 1)))
        plane.table.release(first)
        plane.time = 0.9
        assert plane.table.acquire(shares((A, 1), (B, 2))).number != first.number
        plane.time = 1.0
        assert plane.table.acquire(shares((A, 1), (B, 3))).number == first.number

    def test_a_full_table_uses_the_number_that_rests_longest(self) -> None:
        plane = Plane(selections=2)
        one, two = (plane.table.acquire(shares((A, 1), (B, weight))) for weight in (1, 2))
        for made in (two, one):
            plane.table.release(made)
            plane.time += 0.1
        assert [plane.table.acquire(shares((A, 1), (B, weight))).number for weight in (3, 4)] == [
            two.number,
            one.number,
        ]

    def test_a_full_table_shares_what_is_alike_and_refuses_the_rest(self) -> None:
        plane = Plane(selections=2)
        first = plane.table.acquire(shares((A, 1), (B, 1)))
        second = plane.table.acquire(shares((A, 1), (B, 3)), first)
        # Had it room, this one would have buckets of its own.
        assert plane.table.acquire(shares((A, 1), (B, 1)), second) is first
        with pytest.raises(DataplaneError, match="more than 2 different sets of paths are in use"):
            plane.table.acquire(shares((A, 1), (C, 1)))

    def test_a_refusal_of_the_kernel_leaves_nothing(self) -> None:
        plane = Plane()
        plane.refuses = True
        with pytest.raises(OSError):
            plane.table.acquire(shares((A, 1), (B, 1)))
        assert not plane.policies.lists()
        plane.refuses = False
        assert plane.table.acquire(shares((A, 1), (B, 1))).number == 0

    def test_no_room_for_a_list_leaves_nothing(self) -> None:
        plane = Plane(policies=2)
        with pytest.raises(DataplaneError, match="segment lists"):
            plane.table.acquire(shares((A, 1), (B, 1)))
        assert not plane.policies.lists()

    def test_those_that_stand_by_come_after_the_active_ones(self) -> None:
        plane = Plane()
        made = plane.table.acquire(shares((A, 1), standby=(C, B)))
        written = plane.written[made.number]
        assert [plane.lists[slot] for slot in written.candidates] == [A, C, B]
        assert written.active == 1 and set(plane.shown(made)) == {A}
        assert plane.table.lists() == {sids: slot for slot, sids in plane.lists.items()}
        assert plane.table.acquire(shares((A, 1), standby=(B, C))).number != made.number

    def test_it_tells_that_lists_have_come_or_gone(self) -> None:
        plane = Plane()
        before = plane.table.changes
        made = plane.table.acquire(shares((A, 1), (B, 1)))
        come = plane.table.changes
        plane.table.acquire(shares((A, 1), (B, 1)))
        assert before < come == plane.table.changes
        plane.table.release(made)
        plane.table.release(made)
        assert plane.table.changes > come and plane.table.lists() == {}
