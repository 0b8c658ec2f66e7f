"""The content of the page: a snapshot of the lab, conclusions from it, and the actions of users."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lab.names import Names
from lab.view.follow import Followed
from lab.view.journal import Entry
from lab.view.layout import Layout
from lab.view.reading import Snapshot
from lab.view.ways import Application

_WINDOW = 1.0


class Rates:
    """Packets per second, from the snapshots of the last second."""

    def __init__(self) -> None:
        self._kept: deque[Snapshot] = deque()

    def add(self, snapshot: Snapshot) -> None:
        """Adds the newest snapshot, and drops those that are no longer needed."""
        if self._kept and self._kept[-1].topology is not snapshot.topology:
            self._kept.clear()
        self._kept.append(snapshot)
        while len(self._kept) > 2 and self._kept[1].at <= snapshot.at - _WINDOW:
            self._kept.popleft()

    def sent(self, link: str, node: str) -> float | None:
        """The rate of packets that a node sends on a link; None if unknown."""
        if len(self._kept) < 2:
            return None
        before, now = self._kept[0], self._kept[-1]
        old, new = before.port(link, node), now.port(link, node)
        if old is None or new is None or new.sent < old.sent:
            return None
        return (new.sent - old.sent) / (now.at - before.at)


@dataclass(frozen=True)
class Scene:
    """The content of one rendering; without a snapshot, `problem` has the reason."""

    name: str
    problem: str = ""
    snapshot: Snapshot | None = None
    names: Names | None = None
    layouts: Mapping[str, Layout] = field(default_factory=dict)
    applications: Sequence[Application] = ()
    rates: Mapping[tuple[str, str], float | None] = field(default_factory=dict)
    """By link and sending node."""
    log: Sequence[Entry] = ()
    followed: Followed | None = None
    recording: frozenset[str] = frozenset()
    stream: str = ""
    """The key of the application that gets continuous requests."""


def shown_rate(rate: float | None) -> str:
    """Such as 12/s; ? if unknown."""
    if rate is None:
        return "?"
    return f"{rate:.1f}/s" if 0 < rate < 1 else f"{short(rate)}/s"


def short(count: float) -> str:
    """Up to 99,999 in full, then such as 123k or 1.2M."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size and count >= 1e5:
            return f"{count / size:.{0 if count >= 10 * size else 1}f}{unit}"
    return f"{count:,.0f}"
