"""Which lines of the agent each test runs: a plugin for pytest."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest


class Tracer:
    """Collects, per test, the lines of each file in a folder; `""` has what importing the tests ran."""

    def __init__(self, folder: Path) -> None:
        self._begin = f"{folder}/"
        self._lines: dict[str, set[int]] = {}
        self.tests: dict[str, dict[str, list[int]]] = {}
        self.seconds: dict[str, float] = {}
        self.failed: set[str] = set()

    def start(self) -> None:
        """From now on, in all threads."""
        threading.settrace(self._call)
        sys.settrace(self._call)

    def _call(self, frame: FrameType, _event: str, _argument: object) -> Any:
        file = frame.f_code.co_filename
        if not file.startswith(self._begin):
            return None
        return self._line(frame, "call", None)

    def _line(self, frame: FrameType, _event: str, _argument: object) -> Any:
        file = frame.f_code.co_filename
        self._lines.setdefault(file[len(self._begin) :], set()).add(frame.f_lineno)
        return self._line

    def _take(self, test: str) -> None:
        found = {file: sorted(lines) for file, lines in self._lines.items()}
        self._lines.clear()
        self.tests[test] = found

    def pytest_collection_finish(self) -> None:
        """The tests are imported."""
        self._take("")

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """One test, with its fixtures. Other plugins may have put their own trace there."""
        self._lines.clear()
        begun = time.monotonic()
        self.start()
        yield
        self.seconds[item.nodeid] = time.monotonic() - begun
        self._take(item.nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Those that don't pass as things are can't notice anything."""
        if not report.passed:
            self.failed.add(report.nodeid)

    def found(self) -> dict[str, Any]:
        """What is kept of it."""
        tests = {test: lines for test, lines in self.tests.items() if test not in self.failed}
        return {"tests": tests, "seconds": self.seconds, "failed": sorted(self.failed)}
