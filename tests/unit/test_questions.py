"""Which query is asked when, and which one is held back: the rules alone, with a clock of their own."""

import random
from ipaddress import IPv6Address
from itertools import pairwise

import pytest

from hawkwing.controller.questions import (
    AGAIN_FACTOR,
    AGAIN_FIRST,
    AGAIN_MOST,
    HOLD_FIRST,
    HOLD_MOST,
    HOLD_UNPROVEN,
    PATIENCE,
    RECENT,
    REFRESH,
    STEP,
    Break,
    Questions,
)
from hawkwing.intents import Intent, IntentType, PathQuery

SOURCE = IPv6Address("fd00::1")
LATENCY = (Intent(IntentType.LOW_LATENCY),)


def query(number: int) -> PathQuery:
    return PathQuery(SOURCE, IPv6Address(f"fd00:1::{number:x}"), LATENCY)


class Asker:
    """Sends what is due and moves the clock to when more is; `log` is when which query was sent."""

    def __init__(self, count: int, new: bool = False) -> None:
        self.now = 1000.0
        self.questions = Questions()
        self.questions.change([query(number) for number in range(count)], [])
        if not new:
            for question in self.questions:
                question.proven = True
        self.questions.begin(self.now)
        self.log: list[tuple[float, int]] = []

    def send(self) -> list[int]:
        """What is due now, which is sent."""
        due, _ = self.questions.due(self.now)
        for question in due:
            self.questions.asked(question, self.now)
            self.log.append((self.now, int(question.query.destination) & 0xFFFF))
        return [number for time, number in self.log[len(self.log) - len(due) :]]

    def run(self, seconds: float) -> None:
        """Sends all that becomes due in this time."""
        end = self.now + seconds
        while True:
            if self.send():
                continue
            _, pause = self.questions.due(self.now)
            if pause is None or self.now + pause > end:
                self.now = end
                return
            assert pause > 0
            self.now += pause + 1e-6

    def answer(self, *numbers: int) -> None:
        for number in numbers:
            assert self.questions.answered(query(number), self.now) is not None

    def again(self, how: Break, reason: str = "") -> int | None:
        """The stream breaks and a new one begins; who is held back for it."""
        held = self.questions.broke(how, self.now, reason)
        self.questions.begin(self.now)
        return None if held is None else int(held.query.destination) & 0xFFFF

    def times(self, number: int) -> list[float]:
        return [time for time, other in self.log if other == number]


def pauses(times: list[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise(times)]


@pytest.fixture(autouse=True)
def seeded() -> None:
    random.seed(7)


# --- again


def test_all_that_were_answered_before_are_asked_at_once() -> None:
    asker = Asker(3)
    assert asker.send() == [0, 1, 2]
    assert asker.send() == []


def test_new_ones_are_asked_one_after_the_other() -> None:
    asker = Asker(3, new=True)
    assert asker.send() == [0]
    assert asker.send() == []
    asker.answer(0)
    assert asker.send() == [1]
    asker.run(STEP - 0.1)
    assert asker.send() == []
    asker.run(0.2)
    assert [number for _, number in asker.log] == [0, 1, 2]


def test_new_ones_come_after_those_that_were_answered_before() -> None:
    asker = Asker(4, new=True)
    asker.send()
    asker.answer(0)
    asker.questions.begin(asker.now)
    assert asker.send() == [0]
    assert asker.send() == [1]


def test_a_new_one_that_is_refused_is_known_at_once() -> None:
    asker = Asker(4, new=True)
    asker.run(2.5 * STEP)
    assert [number for _, number in asker.log] == [0, 1, 2]
    assert asker.again(Break.REFUSED) == 2
    asker.run(2.5 * STEP)
    assert [number for _, number in asker.log[3:]] == [0, 1, 3]


def test_one_without_an_answer_is_asked_again_soon_and_then_ever_more_rarely() -> None:
    asker = Asker(1)
    asker.run(3600)
    waited = pauses(asker.times(0))
    expected = [min(2.0 * 1.5**number, AGAIN_MOST) for number in range(len(waited))]
    assert all(0.79 * mean <= pause <= 1.21 * mean for mean, pause in zip(expected, waited, strict=True))
    assert len(waited) > 15
    assert len(set(waited[-3:])) == 3, "no jitter"


def test_one_with_an_answer_is_asked_again_now_and_then() -> None:
    asker = Asker(1)
    asker.send()
    asker.answer(0)
    asker.run(0.7 * REFRESH)
    assert len(asker.log) == 1
    asker.run(0.6 * REFRESH)
    assert len(asker.log) > 1
    count = len(asker.log)
    asker.answer(0)
    asker.run(0.7 * REFRESH)
    assert len(asker.log) == count


def test_many_with_an_answer_are_not_asked_again_all_at_once() -> None:
    asker = Asker(200)
    asker.send()
    asker.answer(*range(200))
    asker.log.clear()
    asker.run(1.3 * REFRESH)
    first = [asker.times(number)[0] for number in range(200)]
    assert max(first) - min(first) > 60
    assert all(sum(time <= other < time + 1 for other in first) < 20 for time in first)


def test_nothing_is_asked_again_while_answers_are_coming() -> None:
    asker = Asker(100)
    asker.send()
    for number in range(99):
        asker.run(0.5)
        asker.answer(number)
    assert len(asker.log) == 100
    asker.run(5)
    assert asker.times(99)[1:]


def test_pushes_leave_nothing_behind() -> None:
    asker = Asker(1)
    asker.send()
    for _ in range(1000):
        asker.now += 0.01
        asker.answer(0)
    assert len(asker.questions._schedule) < 5


def test_streams_that_are_over_leave_nothing_behind() -> None:
    asker = Asker(3)
    for _ in range(100):
        asker.send()
        asker.questions.begin(asker.now)
    assert len(asker.questions._schedule) < 5


def test_a_new_stream_asks_all_again_and_what_was_dropped_is_gone() -> None:
    asker = Asker(3)
    asker.send()
    asker.answer(0)
    asker.questions.change([], [query(1)])
    asker.run(10)
    assert asker.times(1) == [1000.0]
    assert asker.again(Break.CANCELLED) is None
    assert asker.send() == [0, 2]
    assert [int(one.query.destination) & 0xFFFF for one in asker.questions.unanswered()] == [0, 2]


# --- who is to blame


def test_the_only_one_without_an_answer_is_held_back_for_a_refusal() -> None:
    asker = Asker(3)
    asker.send()
    asker.answer(0, 2)
    assert asker.again(Break.REFUSED, "no") == 1
    assert asker.send() == [0, 2]
    asker.answer(0, 2)
    asker.run(HOLD_FIRST - 0.1)
    assert asker.times(1) == [1000.0]
    asker.run(0.2)
    assert len(asker.times(1)) == 2


@pytest.mark.parametrize("how", [Break.REFUSED, Break.BROKEN])
def test_suspects_are_asked_after_the_others_and_one_at_a_time(how: Break) -> None:
    asker = Asker(5)
    asker.send()
    asker.answer(0, 1)
    assert asker.again(how) is None
    assert asker.send() == [0, 1]
    assert asker.send() == []
    asker.answer(0, 1)
    assert asker.send() == [2]
    assert asker.send() == []
    asker.answer(2)
    assert asker.send() == [3]
    assert asker.again(how) == 3
    assert asker.send() == [0, 1, 2]
    asker.answer(0, 1, 2)
    assert asker.send() == [4]
    asker.answer(4)
    asker.run(HOLD_FIRST + 1)
    assert asker.log[-1][1] == 3


def test_a_suspect_without_an_answer_does_not_stop_the_others() -> None:
    asker = Asker(3)
    asker.send()
    assert asker.again(Break.BROKEN) is None
    asker.run(2 * PATIENCE + 0.1)
    assert [number for _, number in asker.log[3:]] == [0, 1, 2]


def test_a_new_query_waits_for_the_suspect_that_was_just_asked() -> None:
    asker = Asker(2)
    asker.send()
    asker.again(Break.BROKEN)
    assert asker.send() == [0]
    asker.questions.change([query(9)], [])
    assert asker.send() == []
    asker.answer(0)
    assert asker.send() == [9]


def test_one_that_ends_every_stream_is_held_back_longer_each_time_and_the_other_has_its_path() -> None:
    asker = Asker(2)
    held: list[float] = []
    ends = asker.now + 3 * 3600
    while asker.now < ends:
        _, pause = asker.questions.due(asker.now)
        sent = asker.send()
        if 0 in sent:
            if asker.again(Break.BROKEN) is not None:
                held.append(asker.now)
            asker.now += 1
        elif sent:
            asker.answer(1)
        else:
            assert pause is not None
            asker.now += pause + 1e-6
    waits = pauses(held)
    assert [round(wait) for wait in waits[:8]] == [5, 10, 20, 40, 80, 160, 320, 600]
    assert max(waits) < HOLD_MOST + 10
    assert asker.times(1)[0] < 1010


def test_an_answer_ends_the_suspicion() -> None:
    asker = Asker(2)
    asker.send()
    asker.again(Break.BROKEN)
    asker.send()
    assert asker.again(Break.BROKEN) == 0
    asker.send()
    asker.answer(1)
    asker.run(HOLD_FIRST + 1)
    asker.answer(0)
    assert asker.again(Break.BROKEN) is None
    assert asker.send() == [0, 1]


def test_a_controller_that_never_answered_is_not_waited_for_as_long() -> None:
    asker = Asker(1)
    for _ in range(12):
        asker.run(HOLD_UNPROVEN + 1)
        asker.again(Break.BROKEN)
    times = asker.times(0)
    assert max(pauses(times)) < 2 * HOLD_UNPROVEN + 3


def test_one_that_was_asked_long_ago_is_not_to_blame() -> None:
    asker = Asker(1)
    asker.run(30)
    while asker.now - asker.times(0)[-1] <= RECENT:
        asker.run(5)
    assert asker.again(Break.REFUSED) is None
    assert asker.send() == [0]


def test_a_stream_cancelled_for_another_clients_sake_casts_no_suspicion_once() -> None:
    asker = Asker(3)
    asker.send()
    assert asker.again(Break.CANCELLED) is None
    assert asker.send() == [0, 1, 2]


def test_one_that_gets_every_stream_cancelled_is_found() -> None:
    asker = Asker(3)
    asker.send()
    asker.answer(0)
    asker.again(Break.CANCELLED)
    asker.send()
    asker.answer(0)
    asker.again(Break.CANCELLED)
    assert asker.send() == [0]
    asker.answer(0)
    assert asker.send() == [1]
    assert asker.again(Break.CANCELLED) == 1


def test_an_answer_to_one_that_is_held_back_lets_it_be_asked_at_once() -> None:
    asker = Asker(2)
    asker.send()
    asker.answer(0)
    assert asker.again(Break.REFUSED) == 1
    assert asker.send() == [0]
    asker.answer(1)
    assert asker.send() == [1]
    asker.run(4)
    assert len(asker.times(1)) == 3, "asked again in its turn, not when it would have been let go"


def test_what_is_wanted() -> None:
    asker = Asker(2)
    assert query(1) in asker.questions and query(2) not in asker.questions
    asker.questions.change([query(2)], [query(1)])
    assert query(1) not in asker.questions and query(2) in asker.questions
    assert asker.questions.get(query(1)) is None


def test_the_times_are_those_of_the_document() -> None:
    """docs/hawkeye.md has the reasons; HawkEye 1.0.1 bears no more."""
    assert (AGAIN_FIRST, AGAIN_FACTOR, AGAIN_MOST, REFRESH) == (2.0, 1.5, 60.0, 300.0)
    assert (STEP, PATIENCE, RECENT) == (0.5, 2.0, 10.0)
    assert (HOLD_FIRST, HOLD_MOST, HOLD_UNPROVEN) == (5.0, 600.0, 60.0)


def test_answers_are_counted_anew_on_each_stream() -> None:
    asker = Asker(3)
    asker.send()
    asker.answer(0, 1)
    asker.answer(1)
    assert asker.questions.answers == 3
    asker.again(Break.CANCELLED)
    assert asker.questions.answers == 0


def test_the_second_stream_cancelled_makes_a_suspect() -> None:
    """It is asked after the others then, and alone."""
    asker = Asker(2)
    for sent in ([0, 1], [0, 1]):
        assert asker.send() == sent
        asker.answer(0)
        assert asker.again(Break.CANCELLED) is None
    assert asker.send() == [0]
    assert asker.send() == []
    asker.answer(0)
    assert asker.send() == [1]


@pytest.mark.parametrize("seed", range(10))
def test_a_suspect_waits_for_the_answer_to_the_one_before(seed: int) -> None:
    """So long, and no longer, whenever that one is to be asked again."""
    random.seed(seed)
    asker = Asker(3)
    asker.send()
    asker.again(Break.BROKEN)
    assert asker.send() == [0]
    asker.now += STEP
    due, pause = asker.questions.due(asker.now)
    assert due == [] and pause is not None and pause <= PATIENCE - STEP + 1e-6
    # No suspect, but asked last.
    asker.questions.change([query(7)], [query(0)])
    assert asker.send() == [7]
    asker.now += STEP
    due, pause = asker.questions.due(asker.now)
    assert due == [] and pause is not None and pause <= PATIENCE - STEP + 1e-6


def test_an_answer_to_a_suspect_whose_turn_had_come_again_is_enough() -> None:
    asker = Asker(2)
    asker.send()
    asker.again(Break.BROKEN)
    assert asker.send() == [0]
    asker.now += 3
    asker.questions.due(asker.now)
    asker.answer(0)
    assert asker.send() == [1]
    asker.answer(1)
    asker.run(30)
    assert len(asker.log) == 4


def test_an_answer_in_between_wipes_the_slate() -> None:
    """Streams that were cancelled count in a row only."""
    asker = Asker(2)
    asker.send()
    asker.answer(0)
    assert asker.again(Break.CANCELLED) is None
    assert asker.send() == [0, 1]
    asker.answer(0, 1)
    asker.again(Break.CANCELLED)
    assert asker.send() == [0, 1]
    asker.answer(0)
    assert asker.again(Break.CANCELLED) is None
    assert asker.send() == [0, 1], "no suspect"


def test_after_an_answer_it_is_asked_as_rarely_as_at_first() -> None:
    asker = Asker(1)
    asker.run(120)
    asker.answer(0)
    asker.run(1.3 * REFRESH)
    asker.run(2.5 * AGAIN_FIRST)
    times = [time for time in asker.times(0) if time > 1120]
    assert len(times) >= 2 and times[1] - times[0] <= 1.2 * AGAIN_FIRST + 1e-6


def suspected(asker: Asker, *numbers: int) -> None:
    """Begins a stream on which these are suspects, and the others are not."""
    for number in numbers:
        question = asker.questions.get(query(number))
        assert question is not None
        question.suspect = True
    asker.questions.begin(asker.now)


def test_a_suspect_has_its_turn_although_others_are_due_all_the_time() -> None:
    asker = Asker(300)
    suspected(asker, 0)
    asker.run(6 * PATIENCE)
    assert asker.times(0)


def test_others_have_their_turn_although_there_are_many_suspects() -> None:
    asker = Asker(20)
    suspected(asker, *range(1, 20))
    asker.run(15 * PATIENCE)
    assert len(asker.times(0)) >= 4


@pytest.mark.parametrize("seed", range(20))
def test_it_is_looked_again_when_the_suspect_is_due_or_another_one_before(seed: int) -> None:
    random.seed(seed)
    asker = Asker(1)
    suspected(asker, 0)
    asker.questions.change([query(7)], [])
    assert asker.send() == [7]
    asker.now += STEP
    due, pause = asker.questions.due(asker.now)
    (last,) = asker.questions.open
    assert due == [] and pause == pytest.approx(min(PATIENCE - STEP, last.due - asker.now))
    asker.questions.answered(query(7), asker.now)
    asker.now += PATIENCE - STEP - 0.1
    assert asker.send() == [0], "with the answer there is nothing to wait for"


def test_a_suspect_is_not_asked_before_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hawkwing.controller.questions.jittered", lambda seconds: 1.2 * seconds)
    asker = Asker(2)
    suspected(asker, 0, 1)
    assert asker.send() == [0]
    asker.now += PATIENCE - 0.1
    asker.questions.change([query(7)], [query(0)])
    assert asker.send() == [7]
    asker.now += PATIENCE - 0.1
    assert asker.send() == []
    asker.now += 0.2
    assert asker.send() == [1]


@pytest.mark.parametrize(
    ("how", "waits"),
    [
        (Break.REFUSED, [5, 10, 20, 40, 80, 160, 320, 600, 600]),
        (Break.BROKEN, [0, 5, 10, 20, 40, 60, 60, 60, 60]),
    ],
)
def test_how_long_one_is_held_back_where_nothing_else_was_answered(how: Break, waits: list[float]) -> None:
    """A refusal is the query's fault; a stream that breaks may be the controller's."""
    asker = Asker(1)
    found = []
    for _ in waits:
        assert asker.send() == [0]
        held = asker.questions.broke(how, asker.now, "")
        found.append(held.hold if held is not None else 0)
        asker.now += found[-1] + 1
        asker.questions.begin(asker.now)
    assert found == waits


@pytest.mark.parametrize("seed", range(8))
def test_one_that_was_dropped_does_not_keep_others_from_their_turn(seed: int) -> None:
    random.seed(seed)
    asker = Asker(5)
    asker.send()
    asker.questions.change([], [query(0), query(2)])
    asker.now += 3
    assert sorted(asker.send()) == [1, 3, 4]


def test_an_answer_comes_before_its_question_was_asked_again() -> None:
    asker = Asker(1)
    asker.send()
    asker.now += 3
    assert asker.questions.due(asker.now)[0]
    asker.answer(0)
    assert asker.send() == []


def test_a_new_one_that_was_answered_on_the_stream_before_is_not_waited_for() -> None:
    asker = Asker(2, new=True)
    asker.answer(0)
    assert asker.send() == [0]
    assert asker.send() == [1]
