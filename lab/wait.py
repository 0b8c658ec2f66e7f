"""Waits for a condition instead of a fixed time."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(predicate: Callable[[], T], timeout: float, why: str, pause: float = 0.01) -> T:
    """The first true value of `predicate`; TimeoutError with `why` and the last value after `timeout` s."""
    end = time.monotonic() + timeout
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > end:
            last = f" (last value: {value!r})" if value not in (False, None) else ""
            raise TimeoutError(f"timed out after {timeout:g} s waiting for: {why}{last}")
        time.sleep(pause)
