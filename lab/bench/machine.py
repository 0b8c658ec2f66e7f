"""Processor time that the host of a virtual machine takes away, and turns that must not suffer from it."""

import os
from collections.abc import Callable
from pathlib import Path

_TRIES = 4


def stolen_seconds() -> float:
    """Time since boot during which the hypervisor ran something else than this machine: steal, proc(5)."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    return int(fields[8]) / os.sysconf("SC_CLK_TCK") if len(fields) > 8 else 0.0


def undisturbed(turn: Callable[[], float], stolen: Callable[[], float] = stolen_seconds) -> float:
    """What the first turn gave during which nothing was stolen; nan where some tries all had that."""
    for _ in range(_TRIES):
        before = stolen()
        value = turn()
        if stolen() == before:
            return value
    return float("nan")
