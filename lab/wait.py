"""Waits for a condition instead of a fixed time."""

import os
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
PATIENCE = 600.0
"""Seconds to wait for a cold start or a slow machine: the limit for what never happens."""


def patient(seconds: float) -> float:
    """A timeout for this machine: longer on a busy one, and by the factor HAWKWING_PATIENCE on a slow one."""
    text = os.environ.get("HAWKWING_PATIENCE", "1")
    try:
        times = float(text)
    except ValueError:
        times = 0.0
    if not times >= 1:
        raise RuntimeError(f"HAWKWING_PATIENCE is {text!r}, use a number of 1 or more")
    return seconds * max(times, 2 * _wanted())


def _wanted() -> float:
    """The load per processor in the last minute."""
    return round(os.getloadavg()[0] / len(os.sched_getaffinity(0)), 1)


def wait_until(predicate: Callable[[], T], timeout: float, why: str, pause: float = 0.01) -> T:
    """The first true value of `predicate`; TimeoutError with `why` and the last value after `timeout` s.

    On a slow or busy machine that time is longer, see `patient`.
    """
    begun = time.monotonic()
    while True:
        value = predicate()
        if value:
            return value
        # The load may have increased meanwhile.
        limit = patient(timeout)
        if time.monotonic() - begun > limit:
            last = f" (last value: {value!r})" if value not in (False, None) else ""
            raise TimeoutError(f"timed out after {limit:g} s waiting for: {why}{last}")
        time.sleep(pause)
