"""Sends probes on schedule over one or several lists, and counts the results."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from hawkwing.probing.prober import Event, Failure
from hawkwing.probing.problems import Problem
from hawkwing.probing.rtt import Tally


class Probes(Protocol):
    """Sends probes and returns results; see `Prober`."""

    def send(self, number: int, srh: bytes) -> None:
        """Sends a probe."""

    def events(self, seconds: float) -> Iterator[Event]:
        """The results within a number of seconds."""


@dataclass(frozen=True)
class Pace:
    """`count` probes over each list, one every `interval`, each with `wait` to return; None: until Ctrl-C."""

    count: int | None
    interval: float = 1.0
    wait: float = 1.0


@dataclass
class Lane:
    """A list as an SRH, and the results of its probes."""

    srh: bytes
    tally: Tally = field(default_factory=Tally)
    problem: Problem | None = None
    options: bytes = b""


@dataclass(frozen=True)
class Outcome:
    """The result of a probe: `seconds`, or a problem, or neither (it did not come back in time)."""

    lane: int
    number: int
    seconds: float | None = None
    problem: Problem | None = None
    duplicate: bool = False


class Run:
    """Sends over the lanes in turn; the time between two probes is `interval` divided by their number."""

    def __init__(
        self,
        prober: Probes,
        lanes: Sequence[Lane],
        pace: Pace,
        told: Callable[[Outcome], None] = lambda _outcome: None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._prober = prober
        self._lanes = lanes
        self._pace = pace
        self._told = told
        self._now = now
        self._out: deque[tuple[int, float]] = deque()
        self._open: set[int] = set()
        self._done: set[int] = set()

    def run(self) -> bool:
        """Runs until the last probe is back or lost; False: Ctrl-C, pending probes don't count."""
        try:
            self._run()
        except KeyboardInterrupt:
            return False
        return True

    def _run(self) -> None:
        pace, lanes = self._pace, len(self._lanes)
        total = None if pace.count is None else pace.count * lanes
        number, due = 0, self._now()
        while True:
            now = self._now()
            if (total is None or number < total) and now >= due:
                self._open.add(number)
                self._out.append((number, now + pace.wait))
                self._prober.send(number, self._lanes[number % lanes].srh)
                number, due = number + 1, max(due + pace.interval / lanes, now)
            self._lose(now)
            if total is not None and number >= total and not self._out:
                return
            ends = [self._out[0][1]] if self._out else []
            ends += [due] if total is None or number < total else []
            for event in self._prober.events(max(0.0, min(ends) - self._now())):
                self._take(event)

    def _take(self, event: Event) -> None:
        number = event.number
        lane, place = divmod(number, len(self._lanes))[::-1]
        into = self._lanes[lane]
        if number not in self._open:
            if number in self._done and not isinstance(event, Failure):
                into.tally.duplicates += 1
                self._told(Outcome(lane, place, event.seconds, duplicate=True))
            return
        self._open.discard(number)
        if isinstance(event, Failure):
            into.tally.was_lost()
            into.problem = event.problem
            self._told(Outcome(lane, place, problem=event.problem))
            return
        self._done.add(number)
        into.tally.came_back(event.seconds)
        into.options = event.options
        self._told(Outcome(lane, place, event.seconds))

    def _lose(self, now: float) -> None:
        while self._out and (self._out[0][0] not in self._open or self._out[0][1] <= now):
            number, _end = self._out.popleft()
            if number in self._open:
                self._open.discard(number)
                place, lane = divmod(number, len(self._lanes))
                self._lanes[lane].tally.was_lost()
                self._told(Outcome(lane, place))
