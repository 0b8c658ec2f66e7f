"""A run: traces the tests, hands the changes to the workers, collects what became of each."""

from __future__ import annotations

import hashlib
import json
import os
import queue
import random
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.mutants.copies import PROJECT, Copy
from tests.mutants.edits import Edit
from tests.mutants.equivalent import reason
from tests.mutants.operators import Mutant, mutants
from tests.mutants.selection import Reach

_TRACE_SECONDS, _EDIT_SECONDS = 1200.0, 400.0
_CONTROL_SECONDS = 2.0
_LEAST_SECONDS, _TIMES = 30.0, 6.0
"""A change has so long at least, or so many times what its tests took: longer counts as noticed."""
_MEMORY = 6 << 30
_OF_MAPS = ("tests/dataplane/test_status.py", "tests/dataplane/test_steering.py")
_PASSED, _FAILED, _NOT_FOUND, _NO_TESTS = 0, 1, 4, 5

Job = tuple[dict[str, Any], Callable[[dict[str, Any]], None]]


@dataclass(frozen=True)
class Outcome:
    """What became of a change: killed, timeout, survived, unreached, equivalent, skipped, or failed."""

    change: Mutant | Edit
    status: str
    by: str = ""
    seconds: float = 0.0

    @property
    def noticed(self) -> bool:
        """A test has failed, or did not end."""
        return self.status in ("killed", "timeout")


@contextmanager
def copies(folder: Path, count: int) -> Iterator[list[Copy]]:
    """Copies of the tree with their workers."""
    with ExitStack() as stack:
        made = []
        for number in range(count):
            one = Copy(folder / str(number))
            stack.callback(one.close)
            made.append(one)
        yield made


def run_all(workers: Sequence[Copy], jobs: Iterable[Job]) -> None:
    """Each job by the next worker that is free; the first error of a worker is raised once all have ended."""
    waiting: queue.SimpleQueue[Job] = queue.SimpleQueue()
    for job in jobs:
        waiting.put(job)
    errors: list[BaseException] = []

    def work(worker: Copy) -> None:
        while not errors:
            try:
                request, done = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                done(worker.do(request))
            except BaseException as error:
                errors.append(error)

    threads = [threading.Thread(target=work, args=(worker,), daemon=True) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def tests_asked() -> list[str]:
    """The files of unit tests that import the agent, and those of tests whose maps are real."""
    of_units = sorted((PROJECT / "tests" / "unit").glob("test_*.py"))
    found = [*of_units, *(PROJECT / one for one in _OF_MAPS)]
    return [str(path.relative_to(PROJECT)) for path in found if _imports_agent(path.read_text())]


def _imports_agent(text: str) -> bool:
    return "\nfrom hawkwing" in text or "\nimport hawkwing" in text


def trace(workers: Sequence[Copy], cache: Path, say: Callable[[str], None]) -> Reach:
    """What each test reaches; kept in the cache as long as agent and test are the same."""
    reach, jobs = Reach(), []
    cache.mkdir(parents=True, exist_ok=True)
    agent = _digest([*sorted((PROJECT / "hawkwing").rglob("*.py")), Path(__file__).with_name("trace.py")])
    files = tests_asked()

    def keep(kept: Path, file: str) -> Callable[[dict[str, Any]], None]:
        def done(found: dict[str, Any]) -> None:
            if "tests" not in found:
                raise RuntimeError(f"{file} can't be run as it is (status {found['status']})")
            kept.write_text(json.dumps(found))
            reach.add(found)

        return done

    current = {file: cache / f"{_digest([PROJECT / file], agent)}.json" for file in files}
    for old in set(cache.glob("*.json")) - set(current.values()):
        old.unlink(missing_ok=True)
    for file, kept in current.items():
        if kept.exists():
            reach.add(json.loads(kept.read_text()))
        else:
            jobs.append(({"kind": "trace", "tests": file, "limit": _TRACE_SECONDS}, keep(kept, file)))
    if jobs:
        say(f"looking which lines {len(jobs)} files of tests run")
    run_all(workers, jobs)
    return reach


def _digest(files: Iterable[Path], more: str = "") -> str:
    text = "\0".join(path.read_text() for path in files)
    return hashlib.sha256(f"{more}\0{text}".encode()).hexdigest()[:24]


def chosen(files: Iterable[str], sample: int | None, seed: int) -> list[Mutant]:
    """The changes to these files; a sample is the same for the same seed."""
    found = [mutant for file in files for mutant in mutants(file, (PROJECT / file).read_text())]
    if sample is not None and sample < len(found):
        found = sorted(random.Random(seed).sample(found, sample), key=lambda one: (one.file, one.number))
    return found


def try_mutants(
    workers: Sequence[Copy], found: Sequence[Mutant], reach: Reach, told: Callable[[Outcome], None]
) -> None:
    """Tells what became of each change."""
    jobs: list[Job] = []
    for mutant in found:
        tests = reach.tests_of(mutant, PROJECT)
        if reason(mutant):
            told(Outcome(mutant, "equivalent", reason(mutant)))
        elif not tests:
            told(Outcome(mutant, "unreached"))
        else:
            limit = _LEAST_SECONDS + _TIMES * sum(reach.seconds[test] for test in tests)
            request = {"kind": "test", "file": mutant.file, "number": mutant.number, "tests": tests}
            request |= {"limit": limit, "memory": _MEMORY}
            jobs.append((request, _told(mutant, told)))
    run_all(workers, jobs)


def warm(workers: Sequence[Copy]) -> None:
    """Has each copy compiled, once."""
    request = {"kind": "warm", "tests": tests_asked(), "limit": _TRACE_SECONDS}

    def one(worker: Copy) -> None:
        # It is faster with it, and what is wrong will be told by the next job.
        with suppress(Exception):
            worker.do(request)

    threads = [threading.Thread(target=one, args=(worker,), daemon=True) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def controls(workers: Sequence[Copy], files: Sequence[str], reach: Reach) -> list[str]:
    """What fails although nothing was changed, by file: then nothing that is found there counts."""
    wrong: list[str] = []
    jobs: list[Job] = []
    for file in files:
        near: set[str] = set().union(*reach.lines.get(file, {}).values())
        tests = reach.in_order(near, _CONTROL_SECONDS)

        def done(found: dict[str, Any], file: str = file) -> None:
            if found["status"] != _PASSED:
                wrong.append(f"{file}: {found.get('by') or found['status']}")

        if tests:
            request = {"kind": "test", "file": file, "number": None, "tests": tests, "memory": _MEMORY}
            jobs.append(({**request, "limit": 300.0}, done))
    run_all(workers, jobs)
    return wrong


def try_edits(workers: Sequence[Copy], edits: Sequence[Edit], told: Callable[[Outcome], None]) -> None:
    """Tells what became of each change by name; those whose tests need a lab come one after the other."""
    for alone in (False, True):
        jobs: list[Job] = []
        for edit in edits:
            if edit.alone == alone:
                request = {"kind": "test", "file": edit.file, "text": edit.applied(PROJECT)}
                request |= {"tests": edit.tests, "limit": _EDIT_SECONDS, "memory": 0}
                jobs.append((request, _told(edit, told)))
        run_all(workers[:1] if alone else workers, jobs)


def _told(change: Mutant | Edit, told: Callable[[Outcome], None]) -> Callable[[dict[str, Any]], None]:
    def done(found: dict[str, Any]) -> None:
        status, by = found["status"], found.get("by", "")
        if status is None:
            kind = "timeout"
        elif status == _PASSED and not found["passed"]:
            kind, by = "skipped", found["skipped"]
        elif status == _PASSED:
            kind = "survived"
        elif isinstance(change, Edit) and (status in (_NOT_FOUND, _NO_TESTS) or found["in_setup"]):
            # Its tests are not there, or the programs can't be loaded any more: that shows nothing.
            kind = "failed"
        else:
            kind, by = "killed", by or "(the tests can't be loaded)"
        told(Outcome(change, kind, by, found["took"]))

    return done


def default_workers() -> int:
    """One for each processor."""
    return len(os.sched_getaffinity(0))
