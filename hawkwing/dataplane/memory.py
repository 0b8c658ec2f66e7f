"""The memory available to the kernel: with a table that doesn't fit, the kernel would kill a process."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from hawkwing.errors import DataplaneError

_PROC, _CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")
#: Limit and use of a control group's memory, in versions 2 and 1.
_FILES = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))


def available(proc: Path = _PROC, cgroups: Path = _CGROUPS) -> int:
    """Available bytes of the machine, or of our control groups if these allow less."""
    match = re.search(r"^MemAvailable:\s+(\d+) kB", (proc / "meminfo").read_text(), re.MULTILINE)
    machine = [int(match[1]) * 1024] if match else []
    return min([*machine, *_left_in_groups(proc, cgroups)], default=2**63)


def _left_in_groups(proc: Path, cgroups: Path) -> Iterator[int]:
    for line in (proc / "self/cgroup").read_text().splitlines():
        _number, controllers, name = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root = cgroups / "memory" if controllers else cgroups
        group = root / name.lstrip("/")
        # A limit applies to all groups below it.
        for folder in (group, *group.parents):
            yield from _left_in(folder)
            if folder == root:
                break


def _left_in(folder: Path) -> Iterator[int]:
    for limit, use in _FILES:
        try:
            yield max(0, int((folder / limit).read_text()) - int((folder / use).read_text()))
        except (OSError, ValueError):
            # Not this version, no memory controller here, or no limit ("max").
            continue


def require_room(flows: int, octets: int, free: int) -> None:
    """DataplaneError if a table of `octets` bytes for this number of flows doesn't fit."""
    if octets > free:
        raise DataplaneError(
            f"a table for {flows:,} flows takes {octets / 1e6:,.0f} MB of the kernel's memory, "
            f"and {free / 1e6:,.0f} MB are available: use a smaller --flows"
        )


def require_room_for_tables(octets: int, free: int) -> None:
    """DataplaneError if the tables for a configuration don't fit."""
    if octets > free:
        raise DataplaneError(
            f"the tables for this configuration take {octets / 1e6:,.0f} MB of the kernel's memory, "
            f"and {free / 1e6:,.0f} MB are available"
        )
