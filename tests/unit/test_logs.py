"""The same line is not written again and again; as JSON a line is one object."""

from __future__ import annotations

import io
import json
import logging
import re
import signal
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from hawkwing import cli, ending
from hawkwing.errors import ConfigError
from hawkwing.logs import JsonLines, Prefixed, Repetitions, to_standard_error


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def log_to(clock: Clock, formatter: logging.Formatter | None = None) -> tuple[logging.Logger, io.StringIO]:
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(formatter or Prefixed())
    handler.addFilter(Repetitions(clock))
    logger = logging.Logger("test")
    logger.addHandler(handler)
    return logger, text


def test_three_times_a_minute_and_then_how_often(clock: Clock) -> None:
    logger, text = log_to(clock)
    for _ in range(10):
        clock.now += 5
        logger.warning("can't write %s", "/run/x")
    line = "hawkwing: warning: can't write /run/x"
    assert text.getvalue().splitlines() == [line] * 3
    clock.now += 60
    logger.warning("can't write %s", "/run/x")
    assert text.getvalue().splitlines()[3:] == [f"{line} (7 more like this in between)"]
    clock.now += 60
    logger.warning("can't write %s", "/run/x")
    assert text.getvalue().splitlines()[4:] == [line]
    for _ in range(5):
        logger.warning("can't write %s", "/run/x")
    assert text.getvalue().splitlines()[4:] == [line] * 3
    clock.now += 60
    logger.warning("can't write %s", "/run/x")
    assert text.getvalue().splitlines()[7:] == [f"{line} (3 more like this in between)"]


def test_other_lines_are_not_left_out(clock: Clock) -> None:
    logger, text = log_to(clock)
    for number in range(100):
        logger.info("name %d", number)
        logger.error("name %d", number)
    assert len(text.getvalue().splitlines()) == 200


def test_what_is_remembered_is_limited(clock: Clock) -> None:
    logger, _text = log_to(clock)
    for number in range(3000):
        logger.info("name %d", number)
    (filter_,) = logger.handlers[0].filters
    assert isinstance(filter_, Repetitions)
    assert len(filter_._seen) == 1000


# --- JSON

KEYS = ("time", "level", "message", "role", "interface")
PROJECT = Path(__file__).resolve().parents[2]


def test_a_line_is_one_object(clock: Clock) -> None:
    logger, text = log_to(clock, JsonLines("client", ["eth0", "wlan0"]))
    logger.info("%d flows", 3)
    logger.warning('two\nlines, a "quote" and\u2028more')
    first, second = map(json.loads, text.getvalue().splitlines())
    assert tuple(first) == tuple(second) == KEYS
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first.pop("time"))
    assert first == {"level": "info", "message": "3 flows", "role": "client", "interface": "eth0,wlan0"}
    assert (second["level"], second["message"]) == ("warning", 'two\nlines, a "quote" and\u2028more')


def test_the_time_is_that_of_the_event() -> None:
    record = logging.LogRecord("x", logging.INFO, "", 0, "x", None, None)
    record.created = 1_700_000_000.25
    told = json.loads(JsonLines("server", ["eth0"]).format(record))
    assert told["time"] == "2023-11-14T22:13:20.250Z"
    assert datetime.fromisoformat(told["time"]).timestamp() == 1_700_000_000.25


def test_an_exception_is_in_its_object(clock: Clock) -> None:
    logger, text = log_to(clock, JsonLines("server", ["eth0"]))
    try:
        raise ValueError("wrong")
    except ValueError:
        logger.exception("it failed")
    (line,) = text.getvalue().splitlines()
    told = json.loads(line)
    assert tuple(told) == (*KEYS, "exception")
    assert told["message"] == "it failed" and told["exception"].endswith("ValueError: wrong")


def test_repetitions_are_left_out_of_json_too(clock: Clock) -> None:
    logger, text = log_to(clock, JsonLines("server", ["eth0"]))
    for _ in range(10):
        logger.error("can't write %s", "/run/x")
    clock.now += 61
    logger.error("can't write %s", "/run/x")
    told = [json.loads(line)["message"] for line in text.getvalue().splitlines()]
    assert told == ["can't write /run/x"] * 3 + ["can't write /run/x (7 more like this in between)"]


@pytest.mark.parametrize("role", cli.ROLES)
def test_what_an_agent_fails_with_is_json(role: str) -> None:
    command = [sys.executable, "-m", "hawkwing", role, "-i", "no-such-link", "--log-format", "json"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    told = json.loads(line)
    assert tuple(told) == KEYS
    assert (told["level"], told["role"], told["interface"]) == ("error", role, "no-such-link")
    assert "no-such-link" in told["message"] and not told["message"].startswith("hawkwing")


@pytest.mark.parametrize(
    ("log_format", "expected"),
    [("text", ["f:1: a", "f:2: b", "2 errors"]), ("json", ["f:1: a", "f:2: b", "2 errors"])],
)
def test_errors_in_a_file(
    log_format: str, expected: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_arguments: object) -> int:
        raise ConfigError(["f:1: a", "f:2: b"])

    monkeypatch.setattr(cli, "_run_agent", refuse)
    assert cli.main(["server", "-i", "eth0", "--log-format", log_format]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert (lines if log_format == "text" else [json.loads(line)["message"] for line in lines]) == expected


@pytest.mark.parametrize("verbose", [False, True])
@pytest.mark.parametrize("json_lines", [None, JsonLines("client", ["eth0"])])
def test_how_an_agent_logs(
    verbose: bool,
    json_lines: JsonLines | None,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root, said = logging.getLogger(), []
    before = root.level
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(ending, "say_in", said.append)
    try:
        to_standard_error(verbose, json_lines)
        for _ in range(5):
            logging.getLogger("hawkwing.test").info("twice is enough")
        logging.getLogger("hawkwing.test").debug("in detail")
    finally:
        root.setLevel(before)
    lines = capsys.readouterr().err.splitlines()
    texts = [json.loads(line)["message"] if json_lines else line for line in lines]
    prefix = "" if json_lines else "hawkwing: "
    often = [f"{prefix}twice is enough"] * (5 if verbose else 3)
    detail = [f"{'' if json_lines else 'hawkwing: debug: '}in detail"] * verbose
    assert texts == often + detail
    assert len(said) == (json_lines is not None)
    for line in said:
        told = json.loads(line("hawkwing", "ended by SIGTERM"))
        assert (told["level"], told["message"]) == ("info", "ended by SIGTERM")


def test_a_signal_is_json_too() -> None:
    """It comes before there is an event loop: the handler writes the line itself."""
    program = (
        "import os, signal\nfrom hawkwing import ending, logs\n"
        "logs.to_standard_error(False, logs.JsonLines('client', ['eth0']))\n"
        "ending.tidily('hawkwing')\nos.kill(os.getpid(), signal.SIGTERM)\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 128 + signal.SIGTERM
    (line,) = done.stderr.splitlines()
    told = json.loads(line)
    assert tuple(told) == KEYS and (told["level"], told["message"]) == ("info", "ended by SIGTERM")
