"""Runs tests in a copy of the tree, each time in a process of its own that is a fork of this one.

`python -m tests.mutants.worker` reads a job a line and writes a result a line, both JSON. It has imported
what takes long to import, but nothing of the agent: each fork imports that anew, changed as it is then.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.mutants.operators import changed, unchanged
from tests.mutants.trace import Tracer

_LARGE = ("_pytest.assertion.rewrite", "asyncio", "ctypes", "dns.asyncresolver", "dns.message", "grpc.aio",
          "jsonschema", "prometheus_client", "pydantic", "pyroute2", "rich.console", "scapy.layers.inet6",
          "yaml", "google.protobuf.descriptor_pb2")  # fmt: skip
_LOG, _NOTE, _TEMPORARY = Path(".mutants/log"), Path(".mutants/note"), Path(".mutants/tmp")
_TO_TIDY_UP = 20.0
OPTIONS = ("-q", "-x", "--no-header", "--tb=short", "-p", "no:cacheprovider", f"--basetemp={_TEMPORARY}")


class _Watch:
    """A plugin: the tests in the order that was asked for, and which one failed first."""

    def __init__(self, order: Sequence[str]) -> None:
        self._order = {name: number for number, name in enumerate(order)}
        self.failed = ""
        self.in_setup = False
        self.passed = 0
        self.skipped = ""

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """The quick ones first."""
        items.sort(key=lambda item: self._order.get(item.nodeid, len(self._order)))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """One phase of a test."""
        if report.failed and not self.failed:
            self.failed, self.in_setup = report.nodeid, report.when == "setup"
        elif report.skipped and isinstance(report.longrepr, tuple):
            self.skipped = str(report.longrepr[2])
        elif report.when == "call":
            self.passed += 1


def _trace(file: str) -> dict[str, Any]:
    tracer = Tracer(Path.cwd() / "hawkwing")
    tracer.start()
    status = pytest.main(["-q", "-p", "no:cacheprovider", f"--basetemp={_TEMPORARY}", file], plugins=[tracer])
    sys.settrace(None)
    return {"status": int(status), **tracer.found()}


def _warm(files: Sequence[str]) -> dict[str, Any]:
    """Leaves the bytecode of all modules behind: without it each run would compile them anew."""
    return {"status": int(pytest.main(["-q", "--collect-only", "-p", "no:cacheprovider", *files]))}


def _test(tests: Sequence[str], memory: int) -> dict[str, Any]:
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    if memory:
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    watch = _Watch(tests)
    status = pytest.main([*OPTIONS, *tests], plugins=[watch])
    told = {"by": watch.failed, "in_setup": watch.in_setup, "passed": watch.passed, "skipped": watch.skipped}
    return {"status": int(status), **told}


def _forked(work: Callable[[], dict[str, Any]], limit: float) -> dict[str, Any]:
    """The result of `work`, done in a fork; {"status": None} where it has not ended within the limit."""
    _NOTE.unlink(missing_ok=True)
    child = os.fork()
    if not child:
        status = 70
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os.setsid()
            log = os.open(_LOG, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(log, 1)
            os.dup2(log, 2)
            _NOTE.write_text(json.dumps(work()))
            status = 0
        finally:
            os._exit(status)
    try:
        if not _ended(child, limit):
            return {"status": None}
    finally:
        _end(child)
    try:
        found: dict[str, Any] = json.loads(_NOTE.read_text())
    except (OSError, ValueError):
        # It has ended without a word: the change has ended the whole process.
        return {"status": 70, "by": "(the process ended)"}
    return found


def _ended(child: int, seconds: float) -> bool:
    descriptor = os.pidfd_open(child)
    try:
        return bool(select.select([descriptor], [], [], seconds)[0])
    finally:
        os.close(descriptor)


def _end(child: int) -> None:
    """Ends a fork, if it is still there, and all that it has started. Its tests may tidy up first."""
    with suppress(ProcessLookupError):
        if not _ended(child, 0):
            os.killpg(child, signal.SIGTERM)
            _ended(child, _TO_TIDY_UP)
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)


@contextmanager
def _other_text(file: str, text: str) -> Iterator[None]:
    """The file with this text, and no bytecode of it; afterwards both are as before."""
    path = Path(file)
    before, info = path.read_text(), path.stat()
    compiled = [(old, old.read_bytes()) for old in path.parent.glob(f"__pycache__/{path.stem}.*.pyc")]
    try:
        for old, _code in compiled:
            old.unlink()
        path.write_text(text)
        yield
    finally:
        path.write_text(before)
        os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))
        for old, code in compiled:
            old.write_bytes(code)


def _do(job: dict[str, Any]) -> dict[str, Any]:
    if job["kind"] == "trace":
        return _forked(lambda: _trace(job["tests"]), job["limit"])
    if job["kind"] == "warm":
        return _forked(lambda: _warm(job["tests"]), job["limit"])
    path = Path(job["file"])
    if "text" in job:
        text = job["text"]
    elif job["number"] is None:
        text = unchanged(path.read_text())
    else:
        text = changed(path.read_text(), job["number"])
    with _other_text(job["file"], text):
        return _forked(lambda: _test(job["tests"], job["memory"]), job["limit"])


def main() -> None:
    """Until there are no more jobs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(1))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    _LOG.parent.mkdir(exist_ok=True)
    for name in _LARGE:
        with suppress(ImportError):
            importlib.import_module(name)
    assert not any(name.split(".")[0] == "hawkwing" for name in sys.modules)
    for line in sys.stdin:
        begun = time.monotonic()
        result = _do(json.loads(line))
        result["took"] = round(time.monotonic() - begun, 2)
        answers.write(json.dumps(result) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
