"""When to send which query, and which query has ended a stream: rules without I/O.

Times are seconds of a monotonic clock. On a new stream all queries that were answered before are sent at
once. New ones follow one at a time, each after the answer to the previous one: if HawkEye 1.0.1 refuses a
query while it processes another one of the same stream, it never answers any client again. A query without an
answer is repeated soon, then at growing intervals. An answered query is repeated occasionally, because a push
can get lost.

A refused query ends HawkEye's whole stream, and some queries crash HawkEye. So the queries without an answer
at that time are suspects: on the next stream they are sent after all others, and one at a time. A query that
ends a stream alone is held back, longer each time, until it is answered.
"""

import heapq
import itertools
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

from hawkwing.controller import intent_pb2 as pb
from hawkwing.controller.backoff import jittered
from hawkwing.controller.messages import to_request
from hawkwing.intents import PathQuery

AGAIN_FIRST, AGAIN_FACTOR, AGAIN_MOST = 2.0, 1.5, 60.0
"""Seconds until a query without an answer is asked again: the first time, growth, and at most."""
REFRESH = 300.0
"""Seconds until a query with an answer is asked again."""
STEP = 0.5
"""Seconds to wait for the answer to a new query before the next one."""
PATIENCE = 2.0
"""The same for a suspect."""
HOLD_FIRST, HOLD_MOST = 5.0, 600.0
"""Seconds a query is held back: the first time, and at most; doubled each time."""
HOLD_UNPROVEN = 60.0
"""Maximum if no query of the stream was answered: the controller may be at fault, not the query."""
RECENT = 10.0
"""Only a query sent within this number of seconds can be the reason why a stream broke."""


class Break(Enum):
    """How a stream ended; values: how many in a row make a query a suspect, and hold it back."""

    REFUSED = (1, 1)
    BROKEN = (1, 2)
    CANCELLED = (2, 3)  # usually another client of HawkEye 1.0.1 has left; but see Questions.broke


@dataclass(eq=False, slots=True)
class Question:
    """A wanted query: when it was last sent on this stream, how often in vain, and if it was answered."""

    query: PathQuery
    request: pb.PathRequest
    asked: float | None = None
    times: int = 0
    answered: bool = False
    #: Whether it was ever answered.
    proven: bool = False
    #: Whether the last answer had no path.
    empty: bool = False
    #: When to send it again, or until when it is held back.
    due: float = 0.0
    #: The time of its entry in the schedule; entries with another time are out of date.
    entry: float | None = None
    dropped: bool = False
    #: Number of consecutive streams that ended while it had no answer.
    breaks: int = 0
    suspect: bool = False
    hold: float = 0.0
    held_until: float = 0.0
    #: Why it is held back.
    reason: str = ""


class Questions:
    """All wanted queries, and the state of one stream."""

    def __init__(self) -> None:
        self._wanted: dict[PathQuery, Question] = {}
        self._new: dict[Question, None] = {}
        self._fresh: dict[Question, None] = {}
        self._again: dict[Question, None] = {}
        self._alone: dict[Question, None] = {}
        self._open: dict[Question, None] = {}  # without an answer, the one that was asked last at the end
        self._schedule: list[tuple[float, int, Question]] = []
        self._numbers = itertools.count()
        self.begin(0.0)

    def __contains__(self, query: PathQuery) -> bool:
        return query in self._wanted

    def __iter__(self) -> Iterator[Question]:
        return iter(self._wanted.values())

    def get(self, query: PathQuery) -> Question | None:
        """The question for a query, if the query is wanted."""
        return self._wanted.get(query)

    @property
    def open(self) -> Collection[Question]:
        """Questions that were sent and have no answer yet."""
        return self._open.keys()

    def unanswered(self) -> list[Question]:
        """Questions without an answer on this stream, including those that were not sent yet."""
        return [question for question in self if not question.answered]

    def change(self, wanted: Iterable[PathQuery], dropped: Iterable[PathQuery]) -> None:
        """Adds and removes queries; ValueError, and no change, if one can't be sent."""
        requests = {query: to_request(query) for query in wanted if query not in self._wanted}
        for query in dropped:
            question = self._wanted.pop(query, None)
            if question is not None:
                question.dropped = True
                self._forget(question)
        for query, request in requests.items():
            question = self._wanted[query] = Question(query, request)
            self._new[question] = None

    def begin(self, now: float) -> None:
        """Starts a new stream, on which nothing was sent yet."""
        for waiting in (self._new, self._fresh, self._again, self._alone, self._open):
            waiting.clear()
        self._schedule.clear()
        self._probe: Question | None = None  # the last one that was sent alone
        self._turn_of_alone = False
        self._progress = 0.0
        self.answers = 0
        """Answers on this stream."""
        for question in self:
            question.asked, question.times, question.answered = None, 0, False
            question.entry = None
            if not question.suspect:
                (self._fresh if question.proven else self._new)[question] = None
            elif question.held_until > now:
                self._ask_later(question, question.held_until)
            else:
                self._alone[question] = None

    def due(self, now: float) -> tuple[list[Question], float | None]:
        """The questions to send now; if there are none, the seconds to wait (None: until a change)."""
        self._ripen(now)
        pauses = [self._schedule[0][0] - now] if self._schedule else []
        if self._probe is not None and (wait := self._patience(self._probe, now)) > 0:
            # Other queries would become suspects, too.
            return [], min([wait, *pauses])
        bulk = list(self._fresh)
        if not (self._alone and self._turn_of_alone):
            bulk += self._again
        if bulk:
            self._turn_of_alone = True
            return bulk, None
        if self._new:
            return [next(iter(self._new))], None
        if self._alone:
            last = next(reversed(self._open), None)
            wait = 0.0 if last is None else (last.asked or 0.0) + PATIENCE - now
            if wait <= 0:
                self._turn_of_alone = False
                return [next(iter(self._alone))], None
            pauses.append(wait)
        return [], max(0.0, min(pauses)) if pauses else None

    def asked(self, question: Question, now: float) -> None:
        """Marks a question as sent."""
        by_itself = question in self._new or question.suspect
        for waiting in (self._new, self._fresh, self._again, self._alone, self._open):
            waiting.pop(question, None)
        self._open[question] = None
        self._probe = question if by_itself else None
        question.asked = now
        question.times += 1
        pause = min(AGAIN_FIRST * AGAIN_FACTOR ** (question.times - 1), AGAIN_MOST)
        self._ask_later(question, now + jittered(pause))

    def answered(self, query: PathQuery, now: float) -> Question | None:
        """Handles an answer or a push; None if the query is not wanted."""
        question = self._wanted.get(query)
        if question is None:
            return None
        self.answers += 1
        if not question.answered:
            self._progress = now
        question.answered = question.proven = True
        question.times = question.breaks = 0
        question.suspect, question.hold, question.held_until, question.reason = False, 0.0, 0.0, ""
        self._open.pop(question, None)
        self._again.pop(question, None)
        self._alone.pop(question, None)
        if question is self._probe:
            self._probe = None
        if question.asked is None:
            self._new.pop(question, None)
            # An answer on an earlier stream: the query must be sent on this one, too.
            self._fresh[question] = None
        else:
            self._ask_later(question, now + jittered(REFRESH))
        return question

    def broke(self, how: Break, now: float, reason: str) -> Question | None:
        """Handles the end of a stream; returns the question that is now held back, if known.

        HawkEye 1.0.1 ends streams because of other clients' errors, and the client's own perhaps with
        CANCELLED. So each stream that ends like this counts, but only several in a row make a suspect.
        """
        recent = [question for question in self._open if now - (question.asked or 0.0) <= RECENT]
        suspected, held = how.value
        culprit = recent[-1] if len(recent) == 1 or (recent and recent[-1] is self._probe) else None
        for question in recent if culprit is None else [culprit]:
            question.breaks += 1
            question.suspect = question.suspect or question.breaks >= suspected
        if culprit is None or culprit.breaks < held:
            return None
        most = HOLD_MOST if self.answers or how is Break.REFUSED else HOLD_UNPROVEN
        culprit.hold = min(culprit.hold * 2 or HOLD_FIRST, most)
        culprit.suspect, culprit.held_until, culprit.reason = True, now + culprit.hold, reason
        return culprit

    @staticmethod
    def _patience(question: Question, now: float) -> float:
        """The remaining time to wait for its answer."""
        return (question.asked or 0.0) + (PATIENCE if question.suspect else STEP) - now

    def _ask_later(self, question: Question, due: float) -> None:
        question.due = due
        # An entry for an earlier time stays, and is postponed when it is due.
        if question.entry is None or due < question.entry:
            question.entry = due
            heapq.heappush(self._schedule, (due, next(self._numbers), question))

    def _ripen(self, now: float) -> None:
        while self._schedule and self._schedule[0][0] <= now:
            time, _, question = heapq.heappop(self._schedule)
            if question.dropped or time != question.entry:
                continue
            question.entry = None
            # While answers still arrive one after the other, this one's may be next.
            busy = self._progress + AGAIN_FIRST if question.times and not question.answered else 0.0
            if max(question.due, busy) > now:
                self._ask_later(question, max(question.due, busy))
            elif question.suspect:
                self._alone[question] = None
            else:
                self._again[question] = None

    def _forget(self, question: Question) -> None:
        for waiting in (self._new, self._fresh, self._again, self._alone, self._open):
            waiting.pop(question, None)
        if question is self._probe:
            self._probe = None
