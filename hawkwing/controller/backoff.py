"""Growing, jittered waits."""

import random


def jittered(seconds: float, jitter: float = 0.2) -> float:
    """About `seconds`, with jitter: many waits do not end at the same time."""
    return seconds * random.uniform(1 - jitter, 1 + jitter)


class Backoff:
    """Growing, jittered waits, in seconds."""

    def __init__(
        self, first: float = 0.5, factor: float = 1.6, jitter: float = 0.2, cap: float = 30.0
    ) -> None:
        self._first, self._factor, self._jitter, self._cap = first, factor, jitter, cap
        self._delay = first

    def next(self) -> float:
        """The next wait: at most `cap`, jitter included."""
        delay = self._delay
        self._delay = min(delay * self._factor, self._cap)
        return min(jittered(delay, self._jitter), self._cap)

    def reset(self) -> None:
        """Starts again from the first wait."""
        self._delay = self._first
