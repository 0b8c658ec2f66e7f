"""Statistics of round trips, like ping(8). No I/O."""

import math
from dataclasses import dataclass
from typing import Any


@dataclass
class Tally:
    """Probes of one kind: number of answers and round trips in seconds."""

    sent: int = 0
    received: int = 0
    duplicates: int = 0
    last: float = 0.0
    low: float = math.inf
    high: float = 0.0
    _sum: float = 0.0
    _squares: float = 0.0

    def came_back(self, seconds: float) -> None:
        """Counts a returned probe."""
        self.sent += 1
        self.received += 1
        self.last = seconds
        self.low, self.high = min(self.low, seconds), max(self.high, seconds)
        self._sum += seconds
        self._squares += seconds * seconds

    def was_lost(self) -> None:
        """Counts a probe that has not returned in time."""
        self.sent += 1

    @property
    def lost(self) -> int:
        """The number of lost probes."""
        return self.sent - self.received

    @property
    def loss(self) -> float:
        """The loss in percent; 0 if none was sent."""
        return 100.0 * self.lost / self.sent if self.sent else 0.0

    @property
    def mean(self) -> float:
        """The mean; 0 if no probe has returned."""
        return self._sum / self.received if self.received else 0.0

    @property
    def deviation(self) -> float:
        """The standard deviation, ping's mdev."""
        if not self.received:
            return 0.0
        # The difference of two large numbers can be a little below 0.
        return math.sqrt(max(0.0, self._squares / self.received - self.mean**2))

    def as_json(self) -> dict[str, Any]:
        """For --json; times in milliseconds, null if no probe has returned."""
        times = {"last": self.last, "min": self.low, "avg": self.mean, "max": self.high}
        times["mdev"] = self.deviation
        return {
            "sent": self.sent,
            "received": self.received,
            "duplicates": self.duplicates,
            "loss_percent": round(self.loss, 3),
            "rtt_ms": {name: milliseconds(value) for name, value in times.items()} if self.received else None,
        }


def milliseconds(seconds: float) -> float:
    """Rounded to nanoseconds."""
    return round(seconds * 1000, 6)


def shown(seconds: float) -> str:
    """In milliseconds, with three significant digits, like ping."""
    value = seconds * 1000
    digits = 3 if value < 10 else 2 if value < 100 else 1 if value < 1000 else 0
    return f"{value:.{digits}f}"
