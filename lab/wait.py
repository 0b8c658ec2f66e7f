"""Waiting for a condition, never for a time."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
PATIENCE = 600.0
"""Seconds for what takes as long as it takes, a cold start or a slow machine: the end of what never comes."""


def wait_until(predicate: Callable[[], T], timeout: float, why: str, pause: float = 0.01) -> T:
    """The first true value of `predicate`; TimeoutError with `why` and the last value after `timeout` s."""
    end = time.monotonic() + timeout
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > end:
            raise TimeoutError(f"{why}: not within {timeout:g} s (last: {value!r})")
        time.sleep(pause)
