"""What disturbs measurements of throughput: processor time that a host of virtual machines takes away, and
what TCP makes of earlier turns.
"""

import os
from collections.abc import Callable
from pathlib import Path

from lab.linux.kernel import set_sysctl

_TRIES = 4


def stolen_ticks() -> int:
    """So long processors here had something to run, and their host ran something else: steal, proc(5)."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    return int(fields[8]) if len(fields) > 8 else 0


def stolen_seconds() -> float:
    """The same in seconds, of all processors since the machine's start."""
    return stolen_ticks() / os.sysconf("SC_CLK_TCK")


def undisturbed(turn: Callable[[], float], stolen: Callable[[], int] = stolen_ticks) -> float:
    """What the first turn gave during which nothing was stolen; nan where some tries all had that."""
    for _ in range(_TRIES):
        before = stolen()
        value = turn()
        if stolen() == before:
            return value
    return float("nan")


def plain_tcp() -> None:
    """TCP of this thread's namespace sends what the path takes, and knows nothing of connections before.

    BBR, a default of some machines, would send what it believes of the path, not what the path takes.
    Reno is in every kernel, and allowed in every namespace.
    """
    set_sysctl("net/ipv4/tcp_congestion_control", "reno")
    set_sysctl("net/ipv4/tcp_no_metrics_save", 1)
