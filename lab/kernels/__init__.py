"""Tests the data plane and the lab on kernels of Debian and Ubuntu, emulated by QEMU.

The guest has this machine's files and another kernel; its changes are discarded.
"""

from __future__ import annotations

import platform
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from lab.distributions.roots import Roots, install
from lab.distributions.shared import claimed_cache
from lab.kernels import initramfs, report
from lab.kernels.archive import NEWEST, Archive, KernelError
from lab.kernels.report import Attempt
from lab.kernels.steps import applicable, chosen_steps, compilers, perform
from lab.network import LabError

CACHE = Path("/var/cache/hawkwing-kernels")
USUAL = ("5.10", "5.15", "6.1", "6.8", "6.12", NEWEST)
_WIDTH = 120


@dataclass(frozen=True)
class Options:
    """Options of the command line; None if not given."""

    only: str | None = None
    steps: str | None = None
    bytecode: Path | None = None
    cache: Path = CACHE
    output: Path | None = None  # the folder `output` of the cache
    mirrors: Mapping[str, str | None] = field(default_factory=dict)
    fresh: bool = False


def run(options: Options) -> int:
    """Tests each kernel, prints a table and writes logs; the exit status."""
    if platform.machine() != "x86_64":
        raise LabError(f"kernels are tried on x86_64 only; this machine is {platform.machine()}")
    names = USUAL if options.only is None else tuple(name.strip() for name in options.only.split(","))
    steps, codes = chosen_steps(options.steps), compilers(options.bytecode)
    output = options.output or options.cache / "output"
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH)
    # SIGTERM cleans up like Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    attempts = [Attempt(name) for name in dict.fromkeys(names)]
    with claimed_cache(options.cache):
        _prepare(options.cache)
        archive = Archive(options.cache, Roots(options.cache, options.mirrors, False), options.fresh)
        for attempt in attempts:
            try:
                _try(attempt, archive, steps, codes, output, console)
            except KernelError as error:
                attempt.missing = str(error)
    if any(attempt.release for attempt in attempts):
        console.print(report.table(attempts, list(codes), steps))
    for text in report.failures(attempts):
        console.print(text, markup=False, soft_wrap=True)
    console.print(f"logs: {output}", soft_wrap=True)
    return 0 if all(attempt.succeeded for attempt in attempts) else 1


def _try(
    attempt: Attempt,
    archive: Archive,
    steps: Sequence[str],
    codes: Mapping[str, Path],
    output: Path,
    console: Console,
) -> None:
    kernel = archive.kernel(attempt.name)
    attempt.release = kernel.release
    logs = output / kernel.release
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir(parents=True)
    for step in applicable(kernel, steps):
        console.print(f"{kernel.release}: {step}")
        attempt.outcomes[step] = perform(step, kernel, codes, logs)
        for name, outcome in attempt.outcomes[step].items():
            console.print(f"  {name}: {report.cell(outcome, ', ')}", soft_wrap=True)


def _prepare(cache: Path) -> None:
    """Installs missing programs."""
    programs = {
        "qemu-system-x86": "qemu-system-x86_64",
        "kmod": "depmod",
        "zstd": "zstd",
        "busybox-static": str(initramfs.BUSYBOX),
    }
    install(
        {name: shutil.which(program) is not None for name, program in programs.items()}, cache / "apt.log"
    )
