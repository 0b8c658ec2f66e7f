"""Waiting for processes of a lab: for as long as they live, and with their last words when they die."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.process import MARKER, Process, members

LAB = f"words-{os.getpid()}"


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Path]:
    """A run directory; no process of the lab is left in the end."""
    for folder in ("logs", "pids"):
        (tmp_path / folder).mkdir()
    yield tmp_path
    assert members(LAB) == []


def python(run: Path, text: str) -> Process:
    """A process that runs these lines."""
    return Process(LAB, run, "agent", [sys.executable, "-u", "-c", text])


def test_all_lines_before_the_awaited_one_are_heard(run: Path) -> None:
    process = python(run, "print('compiling, once')\nprint('ready')\ninput()")
    heard: list[str] = []
    with pytest.raises(RuntimeError, match="exited with status 1"):
        process.wait_for("never", heard.append)
    assert heard[:2] == ["compiling, once", "ready"]


def test_what_it_said_before_it_died_is_shown(run: Path) -> None:
    process = python(run, "for n in range(100): print('line', n)\nraise SystemExit('no room')")
    with pytest.raises(RuntimeError) as raised:
        process.wait_for("ready: ")
    head, *lines = str(raised.value).splitlines()
    assert head == "agent exited with status 1: the end of its log:"
    assert lines[-2:] == ["  line 99", "  no room"] and len(lines) == 15


def test_one_line_stays_in_the_sentence(run: Path) -> None:
    with pytest.raises(RuntimeError, match=r"^agent exited with status 1: no room$"):
        python(run, "raise SystemExit('no room')").wait_for("ready: ")
    with pytest.raises(RuntimeError, match=r"^agent exited with status 0: it printed nothing$"):
        python(run, "").wait_for("ready: ")


def test_what_never_comes_is_told_with_the_log(run: Path) -> None:
    process = python(run, "import time\nprint('compiling')\ntime.sleep(600)")
    process.wait_for("compiling")
    with pytest.raises(RuntimeError, match=r"^agent did not start within [0-9.]+ s: compiling; log: "):
        process.wait_for("ready: ", limit=0.1)
    assert process.stop() != 0


def test_members_bear_the_mark(run: Path) -> None:
    shown = f"print(os.environ['{MARKER}'], os.environ['HAWKWING_LAB'])"
    process = python(run, f"import os, time\n{shown}\ntime.sleep(600)")
    process.wait_for(f"{LAB} {LAB}")
    assert members(LAB) == [process.pid]
    process.stop()


def test_one_that_does_not_stop_is_killed_and_shows_where_it_was(run: Path) -> None:
    deaf = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('ready: now')\n"
    process = python(run, deaf + "def waiting():\n  time.sleep(600)\nwaiting()")
    process.wait_for("ready: ")
    with pytest.raises(RuntimeError, match=r"^agent did not stop within (.|\n)* in waiting\n"):
        process.stop(0.1)
    assert process.poll() is not None
