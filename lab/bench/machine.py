"""Processor time: of processes, and what the host of a virtual machine takes (steal); turns without that."""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

_TRIES = 4
_CLOCK_OF_PROCESS = 2
"""CPUCLOCK_SCHED of all threads, in nanoseconds."""


def stolen_seconds() -> float:
    """Steal time since boot in seconds, see proc(5)."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    return int(fields[8]) / os.sysconf("SC_CLK_TCK") if len(fields) > 8 else 0.0


def processor_seconds(pid: int) -> float:
    """The processor time of a process, by its own clock, see clock_getcpuclockid(3)."""
    return time.clock_gettime(~pid << 3 | _CLOCK_OF_PROCESS)


def cores(pids: Sequence[int], seconds: float) -> float:
    """The number of cores that the processes use together, measured for some seconds."""
    before, begun = sum(map(processor_seconds, pids)), time.monotonic()
    time.sleep(seconds)
    return (sum(map(processor_seconds, pids)) - before) / (time.monotonic() - begun)


def undisturbed(turn: Callable[[], float], stolen: Callable[[], float] = stolen_seconds) -> float:
    """The result of the first turn without steal; nan if all tries had some."""
    for _ in range(_TRIES):
        before = stolen()
        value = turn()
        if stolen() == before:
            return value
    return float("nan")
