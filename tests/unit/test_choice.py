"""Which path fits best, by figures of the tests; on the wire: tests/integration/test_measured_paths.py."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv6Address

import pytest

from hawkwing.choice import CALM, GOOD_LOOKS, LOOKS, Chooser, Figures, is_measurable
from hawkwing.intents import Intent, IntentType
from hawkwing.selections import Candidate
from hawkwing.sids import SidList

UPPER, LOWER, SPARE = ((IPv6Address(f"fcbb:bb00:{n}::"),) for n in (1, 2, 3))
CANDIDATES = (Candidate(UPPER, "upper"), Candidate(LOWER, "lower"), Candidate(SPARE, "spare", preference=50))


class Scene:
    """A chooser, a look a second."""

    def __init__(self, *intents: Intent, candidates: tuple[Candidate, ...] = CANDIDATES) -> None:
        self.chooser = Chooser(intents)
        self.candidates = candidates
        self.now = 100.0
        self.reason = ""

    def look(self, figures: Mapping[SidList, Figures], times: int = 1) -> set[SidList]:
        for _ in range(times):
            self.now += 1
            for sids, known in figures.items():
                self.chooser.watch(sids, known)
            choice = self.chooser.choose(self.candidates, figures, self.now)
        self.reason = choice.reason
        return {one.sids for one in choice.active}


def latency(upper: float | None, lower: float | None, spare: float | None = 1.0) -> dict[SidList, Figures]:
    """Milliseconds, one way."""
    return {
        sids: Figures(latency=None if value is None else value * 1000)
        for sids, value in ((UPPER, upper), (LOWER, lower), (SPARE, spare))
    }


LOW_LATENCY = Intent(IntentType.LOW_LATENCY)


def test_the_lowest_latency_of_the_highest_preference_is_taken() -> None:
    scene = Scene(LOW_LATENCY)
    assert scene.look(latency(30, 10, spare=1)) == {LOWER}
    assert scene.reason == "measured latency of 10 ms (upper: 30 ms)"


def test_before_anything_is_measured_flows_are_divided() -> None:
    scene = Scene(LOW_LATENCY)
    assert scene.look(latency(None, None)) == {UPPER, LOWER}
    assert scene.reason == "their latency is not known yet"


def test_a_path_of_which_nothing_is_known_is_not_taken() -> None:
    assert Scene(LOW_LATENCY).look(latency(30, None)) == {UPPER}


def test_all_other_paths_are_in_the_reason() -> None:
    candidates = (*CANDIDATES[:2], Candidate(SPARE))
    scene = Scene(LOW_LATENCY, candidates=candidates)
    scene.look(latency(30, 10, spare=None))
    assert scene.reason == "measured latency of 10 ms (upper: 30 ms; fcbb:bb00:3::: not known)"


def test_a_better_path_is_taken_after_several_looks_only() -> None:
    scene = Scene(LOW_LATENCY)
    scene.look(latency(10, 30), int(CALM) + 1)
    assert scene.look(latency(40, 30), LOOKS - 1) == {UPPER}
    assert scene.look(latency(10, 30)) == {UPPER}
    assert scene.look(latency(40, 30), LOOKS - 1) == {UPPER}
    assert scene.look(latency(40, 30)) == {LOWER}


def test_a_little_better_is_not_better() -> None:
    scene = Scene(LOW_LATENCY)
    scene.look(latency(10, 30), 10)
    assert scene.look(latency(10, 8.6), 10) == {UPPER}
    assert scene.look(latency(10, 8.4), 10) == {LOWER}
    # Of short paths a tenth of a millisecond is nothing.
    scene = Scene(LOW_LATENCY)
    scene.look(latency(0.2, 0.3), 10)
    assert scene.look(latency(0.2, 0.05), 10) == {UPPER}


def test_after_a_change_there_is_none_for_a_while() -> None:
    scene = Scene(LOW_LATENCY)
    scene.look(latency(10, 30))
    changes = scene.now
    while scene.look(latency(40, 10)) != {LOWER}:
        pass
    assert scene.now - changes == CALM


def test_a_dead_path_is_left_at_once() -> None:
    scene = Scene(LOW_LATENCY)
    scene.look(latency(10, 30))
    assert scene.look(latency(10, 30) | {UPPER: Figures(alive=False, latency=10_000)}) == {LOWER}
    all_dead = {sids: Figures(alive=False, latency=5000) for sids in (UPPER, LOWER, SPARE)}
    assert scene.look(all_dead) == {LOWER}


def test_the_only_path_for_a_while_is_left_as_soon_as_another_is_better() -> None:
    scene = Scene(LOW_LATENCY)
    dead = Figures(alive=False)
    assert scene.look(latency(30, None) | {LOWER: dead}, 10) == {UPPER}
    assert scene.look(latency(30, 10), LOOKS) == {LOWER}


def test_without_a_path_there_is_no_choice() -> None:
    assert Scene(LOW_LATENCY, candidates=()).look({}) == set()


LIMITED = Intent(IntentType.LOW_LATENCY, max_value=20_000)


def test_a_path_that_breaks_its_limit_is_left_also_for_a_lower_preference() -> None:
    scene = Scene(LIMITED)
    assert scene.look(latency(30, 25, spare=15), LOOKS - 1) == {LOWER}
    assert scene.look(latency(30, 25, spare=15)) == {SPARE}
    assert scene.reason == (
        "upper is not used: its latency of 30 ms exceeds 20 ms; "
        "lower is not used: its latency of 25 ms exceeds 20 ms"
    )
    assert scene.chooser.why_left(UPPER) == "its latency of 30 ms exceeds 20 ms"
    assert scene.chooser.why_left(SPARE) == ""


def test_only_looks_in_a_row_count_against_a_path() -> None:
    scene = Scene(LIMITED)
    for _ in range(3):
        assert scene.look(latency(25, 30, spare=15), LOOKS - 1) == {UPPER}
        assert scene.look(latency(15, 30, spare=15)) == {UPPER}
    assert scene.chooser.why_left(UPPER) == ""


def test_where_all_break_it_the_best_is_used() -> None:
    assert Scene(LIMITED).look(latency(30, 25, spare=21), 10) == {LOWER}


def test_it_is_used_again_when_it_has_been_well_below_for_a_while() -> None:
    scene = Scene(LIMITED)
    scene.look(latency(30, 25, spare=15), LOOKS)
    # 18 ms are nine tenths of the limit.
    assert scene.look(latency(18.5, 25, spare=15), 20) == {SPARE}
    assert scene.look(latency(17.5, 25, spare=15), GOOD_LOOKS - 1) == {SPARE}
    assert scene.look(latency(19, 25, spare=15)) == {SPARE}
    assert scene.look(latency(17.5, 25, spare=15), GOOD_LOOKS - 1) == {SPARE}
    assert scene.look(latency(17.5, 25, spare=15)) == {UPPER}


def test_it_counts_from_its_last_broken_limit_on() -> None:
    """Three looks until it is left, and five until it is used again."""
    scene = Scene(LIMITED)
    assert scene.look(latency(25, 30, spare=15), 2) == {UPPER}
    assert scene.look(latency(25, 30, spare=15)) == {SPARE}
    assert scene.look(latency(17.5, 30, spare=15), 4) == {SPARE}
    assert scene.look(latency(25, 30, spare=15)) == {SPARE}
    assert scene.look(latency(17.5, 30, spare=15), 4) == {SPARE}
    assert scene.look(latency(17.5, 30, spare=15)) == {UPPER}


def test_a_figure_at_its_limit_keeps_it() -> None:
    scene = Scene(LIMITED)
    assert scene.look(latency(20, 30), 10) == {UPPER}
    assert scene.chooser.why_left(UPPER) == ""


def test_every_limit_counts_and_the_first_intent_compares() -> None:
    scene = Scene(LOW_LATENCY, Intent(IntentType.LOW_PACKET_LOSS, max_value=2))
    figures = {UPPER: Figures(latency=10_000, loss=3.0), LOWER: Figures(latency=30_000, loss=1.0)}
    assert scene.look(figures, LOOKS - 1) == {UPPER}
    assert scene.look(figures) == {LOWER}
    assert scene.chooser.why_left(UPPER) == "its loss of 3 % exceeds 2 %"


@pytest.mark.parametrize(
    ("kind", "upper", "lower", "reason"),
    [
        (IntentType.LOW_JITTER, Figures(jitter=2000), Figures(jitter=300), "jitter of 0.3 ms (upper: 2 ms)"),
        (IntentType.LOW_PACKET_LOSS, Figures(loss=7), Figures(loss=0), "loss of 0 % (upper: 7 %)"),
        (
            IntentType.HIGH_BANDWIDTH,
            Figures(rate=2000),
            Figures(rate=90_000),
            "delivery rate of 90 Mbit/s (upper: 2 Mbit/s)",
        ),
    ],
)
def test_other_intents_compare_other_figures(
    kind: IntentType, upper: Figures, lower: Figures, reason: str
) -> None:
    scene = Scene(Intent(kind))
    assert scene.look({UPPER: upper, LOWER: lower}) == {LOWER}
    assert scene.reason == f"measured {reason}"
    assert Scene(Intent(kind)).look({UPPER: lower, LOWER: upper}) == {UPPER}


@pytest.mark.parametrize(
    ("kind", "figure", "here", "little", "clearly"),
    [
        (IntentType.LOW_LATENCY, "latency", 10_000, 8_600, 8_400),
        (IntentType.LOW_LATENCY, "latency", 600, 400, 390),
        (IntentType.LOW_JITTER, "jitter", 2_000, 1_510, 1_490),
        (IntentType.LOW_JITTER, "jitter", 200, 101, 99),
        (IntentType.LOW_PACKET_LOSS, "loss", 8, 6.1, 5.9),
        (IntentType.LOW_PACKET_LOSS, "loss", 2, 1.1, 0.9),
        (IntentType.HIGH_BANDWIDTH, "rate", 10_000, 12_400, 12_600),
        (IntentType.HIGH_BANDWIDTH, "rate", 200, 299, 301),
    ],
)
def test_how_much_better_a_path_has_to_be(
    kind: IntentType, figure: str, here: float, little: float, clearly: float
) -> None:
    for there, used in ((little, UPPER), (clearly, LOWER)):
        scene = Scene(Intent(kind))
        for value in (here, there):
            found = scene.look({UPPER: Figures(**{figure: here}), LOWER: Figures(**{figure: value})}, 20)
        assert found == {used}


def test_rates_are_compared_once_all_are_known() -> None:
    scene = Scene(Intent(IntentType.HIGH_BANDWIDTH))
    assert scene.look({UPPER: Figures(rate=2000)}) == {UPPER, LOWER}
    assert scene.look({UPPER: Figures(rate=2000), LOWER: Figures(rate=9000)}) == {LOWER}
    assert scene.reason == "measured delivery rate of 9 Mbit/s (upper: 2 Mbit/s)"


def test_a_low_rate_breaks_no_limit() -> None:
    scene = Scene(Intent(IntentType.HIGH_BANDWIDTH, min_value=50_000))
    scene.look({UPPER: Figures(rate=2000), LOWER: Figures(rate=1000)}, 10)
    assert scene.chooser.why_left(UPPER) == ""


def test_other_intents_only_leave_the_choice_as_configured() -> None:
    functions = Intent(IntentType.SFC, functions=("firewall",))
    assert Scene(functions).look(latency(30, 10)) == {UPPER, LOWER}
    assert not is_measurable([functions, Intent(IntentType.FLEX_ALGO, flex_algo_number=128)])
    assert is_measurable([functions, LOW_LATENCY])
