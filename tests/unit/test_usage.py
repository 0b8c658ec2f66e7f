"""Which of several paths flows have, and what is said of the others."""

from collections import Counter
from ipaddress import IPv6Address
from typing import cast

import pytest

from hawkwing.config_models import Application, CandidatePath
from hawkwing.dataplane.plane import UNKNOWN, Health
from hawkwing.queries import Binding
from hawkwing.selections import Candidate, spread
from hawkwing.sids import SidList
from hawkwing.steering import Steering
from hawkwing.usage import Use, chosen, is_plain, most_used, of_binding

A, B, C = ((IPv6Address(f"fcbb:bb00:{number}::2"),) for number in (1, 2, 3))
NAMES = {A: "a", B: "b", C: "c"}
SLOTS = {A: 1, B: 2, C: 3}
ALIVE, DEAD = Health("alive", 7, 0.001), Health("dead", 3, 0.002)


class Paths:
    """What steering knows of paths: buckets as they were written, and what probes tell."""

    def __init__(self, weights: dict[SidList, int]) -> None:
        self.buckets = spread(weights, 128)
        self.dead: set[SidList] = set()
        self.unreachable: set[SidList] = set()
        self.left: dict[SidList, str] = {}
        self.left_out: dict[SidList, str] = {}
        self.measured = self

    def why_left(self, _application: Application, sids: SidList) -> str:
        return self.left.get(sids, "")

    def why_not_probed(self, sids: SidList) -> str:
        return self.left_out.get(sids, "")

    def packed(self, sids: SidList) -> SidList:
        return sids

    def buckets_of(self, _binding: Binding) -> tuple[SidList, ...]:
        return self.buckets

    def slot_of_path(self, sids: SidList) -> int | None:
        return SLOTS.get(sids)

    def health_of(self, sids: SidList) -> Health:
        return DEAD if sids in self.dead else ALIVE

    def reachable(self, sids: SidList) -> bool:
        return sids not in self.unreachable


def binding(*paths: tuple[SidList, int, int]) -> Binding:
    """Of paths with preference and weight; those of the highest preference are active."""
    models = tuple(
        CandidatePath(name=NAMES[sids], sid=sids, preference=preference, weight=weight)
        for sids, preference, weight in paths
    )
    application = Application(port=80, paths=models)
    best = max(preference for _sids, preference, _weight in paths)
    configured = tuple(one for one in application.candidates if one.preference == best)
    return Binding("web", application, IPv6Address("fd00::1"), configured=configured)


def told(paths: Paths, made: Binding) -> dict[str, tuple[float, str]]:
    uses = of_binding(cast(Steering, paths), made)
    return {NAMES[use.candidate.sids]: (use.share, use.state) for use in uses}


def test_shares_are_those_of_the_buckets() -> None:
    made = binding((C, 50, 1), (A, 100, 3), (B, 100, 1))
    assert told(Paths({A: 3, B: 1}), made) == {
        "a": (0.75, "in use"),
        "b": (0.25, "in use"),
        "c": (0.0, "lower preference"),
    }
    uses = of_binding(cast(Steering, Paths({A: 3, B: 1})), made)
    assert [(use.slot, use.health, use.origin) for use in uses] == [
        (SLOTS[use.candidate.sids], ALIVE, "backup") for use in uses
    ]


def test_flows_of_a_dead_path_are_on_its_equal_then_on_the_next() -> None:
    paths, made = Paths({A: 1, B: 1}), binding((A, 100, 1), (B, 100, 1), (C, 50, 1))
    paths.dead = {A}
    assert told(paths, made) == {
        "a": (0.0, "no probe returns"),
        "b": (1.0, "in use"),
        "c": (0.0, "lower preference"),
    }
    paths.dead = {A, B}
    assert told(paths, made)["c"] == (1.0, "in use")
    paths.dead = {A, B, C}
    poor = "in use, but no probe returns: no other path is better"
    assert told(paths, made) == {"a": (0.5, poor), "b": (0.5, poor), "c": (0.0, "no probe returns")}


def test_a_path_in_use_that_is_not_probed() -> None:
    paths, made = Paths({A: 1, B: 1}), binding((A, 100, 1), (B, 100, 1), (C, 50, 1))
    paths.left_out = {A: "no reflector answers", C: "no reflector answers"}
    assert told(paths, made) == {
        "a": (0.5, "in use, but not probed: no reflector answers"),
        "b": (0.5, "in use"),
        "c": (0.0, "lower preference"),
    }


def test_a_path_without_a_route() -> None:
    paths, made = Paths({A: 1, B: 1}), binding((A, 100, 1), (B, 100, 1), (C, 50, 1))
    paths.unreachable = {C}
    assert told(paths, made)["c"] == (0.0, "no route to its first SID")


def test_a_path_of_the_controller_comes_first() -> None:
    paths, made = Paths({A: 1}), binding((B, 100, 1), (C, 100, 1))
    made.controller_path = A
    assert told(paths, made) == {"a": (1.0, "in use"), "b": (0.0, "backup"), "c": (0.0, "backup")}
    assert [use.origin for use in of_binding(cast(Steering, paths), made)] == ["controller", *["backup"] * 2]
    paths.dead = {A}
    assert told(paths, made)["b"] == (1.0, "in use")


def test_a_path_of_the_controller_never_has_a_lower_preference() -> None:
    paths, made = Paths({B: 1}), binding((B, 100, 1), (C, 50, 1))
    made.controller_path, made.left = A, True
    assert told(paths, made)["a"] == (0.0, "another path fits the intents better")


def test_without_several_paths_nothing_is_known_of_probes() -> None:
    paths, made = Paths({A: 1}), binding((A, 100, 1))
    paths.buckets = ()
    (use,) = of_binding(cast(Steering, paths), made)
    assert (use.share, use.health, use.state) == (1.0, UNKNOWN, "in use")
    made.configured = ()
    (use,) = of_binding(cast(Steering, paths), made)
    assert use.share == 0.0


def test_a_dead_paths_flows_are_divided_by_bucket() -> None:
    buckets = dict.fromkeys(range(8), A)
    assert chosen(buckets, [A, B, C], 3, {A}) == Counter({B: 6, C: 2})
    assert chosen(buckets, [A, B, C], 1, {A}) == Counter({B: 8})


def test_the_path_of_most_flows() -> None:
    uses = [Use(Candidate(sids), "backup", share, "", 1, ALIVE) for sids, share in ((A, 0.2), (B, 0.8))]
    assert most_used(uses).candidate.sids == B


@pytest.mark.parametrize(
    ("uses", "plain"),
    [
        ([Use(Candidate(A), "backup", 1.0, "", 1, UNKNOWN)], True),
        ([Use(Candidate(A), "backup", 1.0, "", 1, ALIVE)], False),
        ([Use(Candidate(A, preference=99), "backup", 1.0, "", 1, UNKNOWN)], False),
        ([Use(Candidate(sids), "backup", 0.5, "", 1, UNKNOWN) for sids in (A, B)], False),
        ([Use(Candidate(A, preference=1 << 32), "controller", 1.0, "", 1, UNKNOWN)], True),
        (
            [
                Use(Candidate(A), "controller", 1.0, "", 1, ALIVE),
                Use(Candidate(B), "backup", 0.0, "", None, UNKNOWN),
            ],
            False,
        ),
    ],
)
def test_whether_there_is_more_to_say(uses: list[Use], plain: bool) -> None:
    assert is_plain(uses) is plain


def test_a_path_that_breaks_a_limit_or_fits_less_well() -> None:
    made = binding((A, 100, 1), (B, 100, 1), (C, 50, 1))
    made.configured = made.configured[:1]
    paths = Paths({A: 1})
    paths.left[C] = "its latency of 30 ms exceeds 20 ms"
    assert told(paths, made) == {
        "a": (1.0, "in use"),
        "b": (0.0, "another path fits the intents better"),
        "c": (0.0, "its latency of 30 ms exceeds 20 ms"),
    }
