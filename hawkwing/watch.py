"""`hawkwing status`, once or repeatedly, then with packets/s of each path from two samples."""

from __future__ import annotations

import shutil
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import Any, NamedTuple

from hawkwing import control, status
from hawkwing.dataplane import attach
from hawkwing.errors import HawkwingError
from hawkwing.labels import key_of_path

Status = Mapping[str, Any]
INTERVAL = 2.0
_NOBODY = "no hawkwing agent is running in this network namespace"
_HOME, _TO_THE_END_OF_LINE, _TO_THE_END = "\x1b[H", "\x1b[K", "\x1b[J"


class Sample(NamedTuple):
    """The answers of all agents of this network namespace at a time of a monotonic clock."""

    at: float
    statuses: Sequence[Status]
    #: Sentences about agents without an answer.
    problems: Sequence[str] = ()


def sample(roles: tuple[str, ...], interfaces: Sequence[str] = (), ask: str = "status") -> Sample:
    """Queries all agents of these roles and (first) interfaces; HawkwingError if one can't be reached."""
    statuses, problems = [], []
    for path, answer in control.answers({"ask": ask}, roles, interfaces):
        if answer is not None:
            statuses.append(answer)
            continue
        # The next start there cleans up.
        there = "still attached" if attach.left_behind(*path.stem.split("-", 1)) else "gone"
        problems.append(f"hawkwing: {path.stem}: the agent was killed, its filters are {there}")
    return Sample(time.monotonic(), statuses, problems)


def packets_by_path(told: Status) -> Counter[str]:
    """The packets sent over each path of an agent; bindings can share a path."""
    counts: Counter[str] = Counter()
    for binding in told.get("bindings", ()):
        if binding["sids"]:
            counts[key_of_path(binding)] = binding["path_sent"]["packets"]
        for one in binding.get("active", ()):
            counts[key_of_path(one)] = one["sent"]["packets"]
    for path in told.get("paths", ()):
        counts[key_of_path(path)] += path["packets"]
    return counts


def rates(before: Sample, after: Sample) -> list[Mapping[str, float] | None]:
    """Packets/s by path, for each agent of `after`; None: a new agent."""
    known = {identity(told): told for told in before.statuses}
    seconds = after.at - before.at
    return [_rates(known.get(identity(told)), told, seconds) for told in after.statuses]


def identity(told: Status) -> tuple[Any, ...]:
    """The same for two samples of one agent, and for no other agent."""
    return told["role"], told["pid"], told["started"]


def _rates(before: Status | None, after: Status, seconds: float) -> Mapping[str, float] | None:
    if before is None or seconds <= 0:
        return None
    old, new = packets_by_path(before), packets_by_path(after)
    # A lower count has started again: the path was removed in between.
    return {path: (new[path] - (old[path] if old[path] <= new[path] else 0)) / seconds for path in new}


def lines(now: Sample, before: Sample | None = None) -> Iterator[str]:
    """All agents as text; with the previous sample also the rates since then."""
    found = rates(before, now) if before is not None else [None] * len(now.statuses)
    for told, of_paths in zip(now.statuses, found, strict=True):
        yield from status.lines(told, of_paths)
    if not now.statuses:
        yield _NOBODY


def pause() -> None:
    """Waits for the time of the next sample."""
    threading.Event().wait(INTERVAL)


@contextmanager
def until_interrupted() -> Iterator[None]:
    """Ctrl-C ends the block, which is not an error."""
    restore = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        if sys.stdout.isatty():
            print()
    finally:
        signal.signal(signal.SIGINT, restore)


def watch(take: Callable[[], Sample], pause: Callable[[], object] = pause) -> None:
    """Shows it until Ctrl-C, which is not an error; HawkwingError if an agent can't be reached at first."""
    with until_interrupted():
        now = take()
        _show([*now.problems, *lines(now)], first=True)
        while True:
            pause()
            try:
                before, now = now, take()
            except HawkwingError as error:
                # An agent is just starting or stopping.
                _show([f"hawkwing: {error}"], first=False)
            else:
                _show([*now.problems, *lines(now, before)], first=False)


def _show(shown: Sequence[str], first: bool) -> None:
    """Replaces the previous output on a terminal, otherwise appends."""
    head = f"{time.strftime('%H:%M:%S')}, every {INTERVAL:g} s, Ctrl-C ends"
    if sys.stdout.isatty():
        size = shutil.get_terminal_size()
        fitting = fit([head, *shown], size.columns, size.lines)
        text = _HOME + "\n".join(line + _TO_THE_END_OF_LINE for line in fitting) + _TO_THE_END
    else:
        text = "\n".join([*([] if first else [""]), head, *shown]) + "\n"
    sys.stdout.write(text)
    sys.stdout.flush()


def fit(shown: Sequence[str], columns: int, rows: int) -> list[str]:
    """The lines that fit a terminal, and the number of further ones."""
    heights = [max(1, -(-len(line) // columns)) for line in shown]
    if sum(heights) <= rows:
        return list(shown)
    fitting = sum(used < rows for used in accumulate(heights))
    return [*shown[:fitting], f"... and {len(shown) - fitting} more lines"]
