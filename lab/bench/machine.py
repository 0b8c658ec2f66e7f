"""Processor time taken by the host of a virtual machine (steal), and turns without it."""

import os
from collections.abc import Callable
from pathlib import Path

_TRIES = 4


def stolen_seconds() -> float:
    """Steal time since boot in seconds, see proc(5)."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    return int(fields[8]) / os.sysconf("SC_CLK_TCK") if len(fields) > 8 else 0.0


def undisturbed(turn: Callable[[], float], stolen: Callable[[], float] = stolen_seconds) -> float:
    """The result of the first turn without steal; nan if all tries had some."""
    for _ in range(_TRIES):
        before = stolen()
        value = turn()
        if stolen() == before:
            return value
    return float("nan")
