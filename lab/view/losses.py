"""Counts packets lost while a path changed, by the agents' counters: sent with an SRH, and SRHs removed.

Received packets are read before sent packets, so the difference includes all lost packets and those in
flight. The smallest difference of several readings is used; if it is the same before and after, nothing was
lost.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from lab.view.reading import Snapshot, packets_of

_READINGS = 6


@dataclass
class _Move:
    missing: int
    sent: int
    after: list[int]


class Losses:
    """Processes each snapshot; reports the lost packets once per path change."""

    def __init__(self) -> None:
        self._who: tuple[object, ...] = ()
        self._recent: deque[int] = deque(maxlen=_READINGS)
        self._sent = 0
        self._move: _Move | None = None

    def add(self, now: Snapshot, moved: bool) -> str | None:
        """A sentence, once the result is known; `moved`: a path has changed since the previous snapshot."""
        once, twice = packets_of(now.agents, "egress", "STEERED"), packets_of(now.agents, "egress", "SPLIT")
        who = tuple((one.node, one.role, one.status["pid"]) for one in now.agents if one.status)
        if once is None or twice is None or now.arrived is None or who != self._who:
            # Counters of a new agent start at zero.
            self._who, self._move = who, None
            self._recent.clear()
            return None
        sent = once + 2 * twice
        missing = sent - now.arrived
        if moved and self._recent and self._move is None:
            self._move = _Move(min(self._recent), self._sent, [])
        self._recent.append(missing)
        self._sent = sent
        return self._told(missing, sent)

    def _told(self, missing: int, sent: int) -> str | None:
        move = self._move
        if move is None:
            return None
        move.after.append(missing)
        lost, count = min(move.after) - move.missing, sent - move.sent
        if count and lost <= 0 and len(move.after) > 1:
            self._move = None
            return f"0 of {count} packets lost while the path moved"
        if len(move.after) < _READINGS:
            return None
        self._move = None
        return f"{lost} of {count} packets lost while the path moved" if count else None
