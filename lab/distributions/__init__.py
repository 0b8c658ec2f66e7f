"""Tests the project in minimal Debian and Ubuntu systems, like a new user: a fresh clone, then the commands.

Each distribution brings its own BCC and LLVM, whose bytecode this machine's kernel verifies.
"""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from lab.distributions import report
from lab.distributions.catalogue import chosen
from lab.distributions.roots import RootError, Roots
from lab.distributions.shared import claimed_cache
from lab.distributions.steps import INSTALL, Attempt, chosen_steps, clone, git_bundle, perform, versions

CACHE = Path("/var/cache/hawkwing-distributions")
_PROJECT = Path(__file__).resolve().parents[2]
_WIDTH = 120


@dataclass(frozen=True)
class Options:
    """Options of the command line; None if not given."""

    only: str | None = None
    steps: str | None = None
    cache: Path = CACHE
    output: Path | None = None  # the folder `output` of the cache
    mirrors: Mapping[str, str | None] = field(default_factory=dict)
    fresh: bool = False
    if_possible: bool = False


def run(options: Options) -> int:
    """Tests each distribution, prints a table and writes logs and bytecode; the exit status."""
    distributions, steps = chosen(options.only), chosen_steps(options.steps)
    output = options.output or options.cache / "output"
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH)
    # SIGTERM cleans up like Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    attempts = []
    with _claimed(options.cache), tempfile.TemporaryDirectory(dir=options.cache, prefix="work-") as work:
        bundle = Path(work) / "project.bundle"
        git_bundle(_PROJECT, bundle)
        roots = Roots(options.cache, options.mirrors, options.fresh)
        for distribution in distributions:
            attempt = Attempt(distribution)
            attempts.append(attempt)
            folder = Path(work) / distribution.name
            try:
                _try(attempt, steps, roots, folder, bundle, output, console)
            except RootError as error:
                attempt.missing = str(error)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    return _tell(attempts, steps, output, options.if_possible, console)


def _try(
    attempt: Attempt,
    steps: Sequence[str],
    roots: Roots,
    folder: Path,
    bundle: Path,
    output: Path,
    console: Console,
) -> None:
    distribution = attempt.distribution
    logs, bytecode = output / distribution.name, output / "bytecode" / distribution.name
    for former in (logs, bytecode):
        shutil.rmtree(former, ignore_errors=True)
    logs.mkdir(parents=True)
    console.print(f"{distribution.name}: root file system")
    chroot = roots.unpack(distribution, folder)
    clone(bundle, chroot)
    for step in steps:
        console.print(f"{distribution.name}: {step}")
        outcome = attempt.outcomes[step] = perform(step, chroot, logs, bytecode)
        if step == INSTALL:
            attempt.bcc, attempt.llvm = versions(chroot, logs)
            if not outcome.ok:
                break


def _tell(
    attempts: Sequence[Attempt], steps: Sequence[str], output: Path, if_possible: bool, console: Console
) -> int:
    tried = [attempt for attempt in attempts if not attempt.missing]
    if tried:
        console.print(report.table(tried, steps))
    for text in report.failures(attempts):
        console.print(text, markup=False, soft_wrap=True)
    if tried:
        console.print(f"logs and bytecode: {output}", soft_wrap=True)
    needed = tried if if_possible else attempts
    return 0 if all(attempt.succeeded(steps) for attempt in needed) else 1


@contextmanager
def _claimed(cache: Path) -> Iterator[None]:
    """A working folder, for one run at a time; removes the leftovers of a killed run."""
    with claimed_cache(cache):
        for left in cache.glob("work-*"):
            shutil.rmtree(left)
        yield
