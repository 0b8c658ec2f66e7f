"""`hawkwing status --watch`: packets/s of each path from two samples, from real control sockets."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from hawkwing import cli, control, watch
from hawkwing.errors import HawkwingError
from hawkwing.status import trust_sentence
from hawkwing.watch import Sample, fit, lines, packets_by_path, rates, sample
from lab.wait import PATIENCE, wait_until
from tests.agents import answering

PROJECT = Path(__file__).resolve().parents[2]
LONG, SHORT = ["fcbb::1", "fcbb::2"], ["fcbb::3"]


def agent(role: str, **more: Any) -> dict[str, Any]:
    """The status of an agent, as it comes through the socket."""
    return {
        "role": role,
        "pid": 4711,
        "interfaces": ["eth0"],
        "started": 1000.0,
        "ingress_hook": "tc",
        "trusted": trust_sentence(None),
        "counters": {},
        **more,
    }


def client(**packets: int) -> dict[str, Any]:
    """Two addresses share the long path."""
    paths = (("a", LONG, "long"), ("b", LONG, "long"), ("c", SHORT, "short"), ("d", [], "none"))
    bindings = [
        {
            "service": "web",
            "address": f"fcbb:cc00::{address}",
            "port": 80,
            "origin": "backup" if sids else "none",
            "sids": sids,
            "since": time.time(),
            "path_sent": {"packets": packets.get(name, 0), "bytes": 0},
        }
        for address, sids, name in paths
    ]
    return agent("client", bindings=bindings)


def server(packets: int, **more: Any) -> dict[str, Any]:
    flows = {"count": 1, "capacity": 10}
    return agent("server", flows=flows, paths=[{"sids": SHORT, "packets": packets, "bytes": 0}], **more)


# --- rates


def test_packets_of_a_shared_path_count_once() -> None:
    assert packets_by_path(client(long=5, short=7)) == {"fcbb::1 > fcbb::2": 5, "fcbb::3": 7}
    assert packets_by_path(server(9)) == {"fcbb::3": 9}


def test_paths_that_share_an_application_count_each() -> None:
    told = client(long=5)
    told["bindings"][0]["active"] = [
        {"sids": LONG, "sent": {"packets": 5, "bytes": 0}},
        {"sids": ["fcbb::9"], "sent": {"packets": 2, "bytes": 0}},
    ]
    assert packets_by_path(told) == {"fcbb::1 > fcbb::2": 5, "fcbb::3": 0, "fcbb::9": 2}


def test_rates_are_those_of_the_time_between() -> None:
    before = Sample(10.0, [client(long=100, short=50), server(0)])
    after = Sample(14.0, [server(40), client(long=110, short=50)])
    assert rates(before, after) == [{"fcbb::3": 10.0}, {"fcbb::1 > fcbb::2": 2.5, "fcbb::3": 0.0}]


def test_a_count_that_began_again_is_not_negative() -> None:
    assert rates(Sample(0.0, [server(1000)]), Sample(2.0, [server(6)])) == [{"fcbb::3": 3.0}]


def test_another_agent_has_no_rate_yet() -> None:
    before = Sample(0.0, [server(1000)])
    assert rates(before, Sample(2.0, [server(1006, pid=4712)])) == [None]
    assert rates(before, Sample(2.0, [server(1006, started=1001.0)])) == [None]
    assert rates(before, Sample(2.0, [client(long=1)])) == [None]


def test_there_is_no_rate_without_time_between() -> None:
    assert rates(Sample(5.0, [server(1)]), Sample(5.0, [server(2)])) == [None]
    assert rates(Sample(5.0, [server(1)]), Sample(4.0, [server(2)])) == [None]
    assert rates(Sample(5.0, [server(1)]), Sample(5.5, [server(2)])) == [{"fcbb::3": 2.0}]


def test_how_a_rate_is_shown() -> None:
    before = Sample(0.0, [client(long=0, short=0), server(0)])
    told = "\n".join(lines(Sample(2.0, [client(long=5, short=3000), server(0)]), before))
    assert "backup: fcbb::1 > fcbb::2  (5 packets over this path, 2.5 packets/s, 0 s old)" in told
    assert "backup: fcbb::3  (3000 packets over this path, 1500 packets/s, 0 s old)" in told
    assert "none: no path  (0 packets over this path, 0 s old)" in told
    assert "  learned path fcbb::3: 0 packets, 0 packets/s" in told


def test_one_sample_has_no_rates() -> None:
    told = "\n".join(lines(Sample(2.0, [client(long=5), server(7)])))
    assert "packets/s" not in told
    assert "(5 packets over this path, 0 s old)" in told and "learned path fcbb::3: 7 packets" in told
    assert list(lines(Sample(0.0, []))) == ["no hawkwing agent is running in this network namespace"]


# --- on a terminal


@pytest.mark.parametrize(
    ("columns", "rows", "shown"),
    [
        (80, 3, ["head", "a" * 100]),
        (80, 10, ["head", "a" * 100, "b", "c"]),
        (80, 5, ["head", "a" * 100, "b", "c"]),
        (80, 4, ["head", "a" * 100, "... and 2 more lines"]),
        (200, 3, ["head", "a" * 100, "... and 2 more lines"]),
        (80, 1, ["... and 4 more lines"]),
    ],
)
def test_no_more_lines_than_there_is_room_for(columns: int, rows: int, shown: list[str]) -> None:
    every = ["head", "a" * 100, "b", "c"][: 2 if (columns, rows) == (80, 3) else 4]
    assert fit(every, columns, rows) == shown


def test_on_a_terminal_a_screen_takes_the_place_of_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("LINES", "4")
    pauses = iter((None, KeyboardInterrupt))

    def pause() -> None:
        if (end := next(pauses)) is not None:
            raise end

    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        watch.watch(lambda: Sample(0.0, [server(7)], ["hawkwing: a problem"]), pause)
        monkeypatch.undo()
    screen = b""
    # Until there is nothing more: the other end is closed.
    with os.fdopen(ours, "rb", buffering=0) as shown_there, suppress(OSError):
        while piece := shown_there.read(65536):
            screen += piece
    text = screen.decode().replace("\r\n", "\n")
    first, second = text.removeprefix("\x1b[H").split("\x1b[H")
    assert first.endswith("\x1b[J") and second.endswith("\x1b[J\n"), "the prompt begins on a line of its own"
    head, *shown = first.removesuffix("\x1b[J").split("\n")
    assert re.fullmatch(r"\d\d:\d\d:\d\d, every 2 s, Ctrl-C ends\x1b\[K", head)
    assert shown[0] == "hawkwing: a problem\x1b[K"
    assert shown[-1] == "... and 3 more lines\x1b[K"


def test_in_a_file_there_is_an_empty_line_between_two_samples(capsys: pytest.CaptureFixture[str]) -> None:
    def pause(pauses: Iterator[None] = iter((None,))) -> None:  # noqa: B008
        if next(pauses, "over"):
            raise KeyboardInterrupt

    watch.watch(lambda: Sample(0.0, [], ["hawkwing: a problem"]), pause)
    out = capsys.readouterr().out
    nobody = "hawkwing: a problem\nno hawkwing agent is running in this network namespace\n"
    head = r"\d\d:\d\d:\d\d, every 2 s, Ctrl-C ends\n"
    assert re.fullmatch(f"{head}{nobody}\n{head}{nobody}", out)


def test_each_sample_comes_through_a_pipe_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = os.pipe()
    os.set_blocking(ours, False)
    read: list[str] = []

    def pause() -> None:
        read.append(os.read(ours, 65536).decode())
        if len(read) == 2:
            raise KeyboardInterrupt

    with os.fdopen(ours, "rb"), os.fdopen(theirs, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        watch.watch(lambda: Sample(0.0, [], ["hawkwing: a problem"]), pause)
        monkeypatch.undo()
    assert [text.count("hawkwing: a problem") for text in read] == [1, 1]


def test_it_waits_between_two_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "INTERVAL", 0.1)
    begun = time.monotonic()
    watch.pause()
    assert time.monotonic() - begun >= 0.09


# --- asking real sockets


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(control, "runtime_folder", lambda: tmp_path)
    return tmp_path


def test_a_killed_agent_is_a_problem(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "server-no-such-link.sock"))
    found = sample(cli.ROLES)
    assert found.statuses == []
    assert found.problems == ["hawkwing: server-no-such-link: the agent was killed, its filters are gone"]


def test_it_goes_on_until_ctrl_c(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not on a terminal: one block after the other. An agent that fails at times doesn't end it."""
    counts = iter((10, 30, HawkwingError("busy"), 90))
    now = 100.0

    def answer(_request: Mapping[str, Any]) -> dict[str, Any]:
        count = next(counts)
        if isinstance(count, HawkwingError):
            raise count
        return server(count)

    def pause() -> None:
        nonlocal now
        now += 2
        if now > 106:
            raise KeyboardInterrupt

    def handler(*_: object) -> None: ...

    before = signal.signal(signal.SIGINT, handler)
    try:
        with answering(folder / "server-eth0.sock", "status", answer):
            watch.watch(lambda: sample(cli.ROLES)._replace(at=now), pause)
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)
    blocks = capsys.readouterr().out.split("\n\n")
    told = [block.rstrip("\n").splitlines()[-1].strip() for block in blocks]
    assert told == [
        "learned path fcbb::3: 10 packets",
        "learned path fcbb::3: 30 packets, 10 packets/s",
        "hawkwing: busy",
        "learned path fcbb::3: 90 packets, 15 packets/s",
    ]


def test_each_agent_is_asked(folder: Path) -> None:
    with (
        answering(folder / "client-eth0.sock", "status", lambda _request: client(long=1)),
        answering(folder / "server-eth0.sock", "status", lambda _request: server(2)),
    ):
        found = sample(cli.ROLES)
        assert [told["role"] for told in found.statuses] == ["client", "server"] and found.problems == []
        assert [told["role"] for told in sample(("server",)).statuses] == ["server"]
        assert sample(cli.ROLES, ["eth1"]).statuses == []


def test_the_first_question_has_to_be_answered(folder: Path) -> None:
    def answer(_request: Mapping[str, Any]) -> dict[str, Any]:
        raise HawkwingError("busy")

    with answering(folder / "server-eth0.sock", "status", answer), pytest.raises(HawkwingError, match="busy"):
        watch.watch(lambda: sample(cli.ROLES))


def test_json_is_what_the_agents_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = server(5)
    with answering(folder / "server-eth0.sock", "status", lambda _request: told):
        assert cli.main(["status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [told]


def test_json_and_watch_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["status", "--json", "--watch"])
    assert "--watch: not allowed with argument --json" in capsys.readouterr().err


def test_ctrl_c_on_a_terminal_is_no_failure() -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "hawkwing", "status", "--watch"]
    process = subprocess.Popen(command, cwd=PROJECT, stdout=theirs, stderr=theirs)
    os.close(theirs)
    os.set_blocking(ours, False)
    text = b""

    def shown() -> bool:
        nonlocal text
        # Nothing yet, or its other end is closed.
        with suppress(OSError):
            text += os.read(ours, 65536)
        return b"\x1b[J" in text

    try:
        wait_until(shown, PATIENCE, "the first screen")
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0
        shown()
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert text.startswith(b"\x1b[H") and b"Ctrl-C ends" in text
    assert b"Traceback" not in text and b"interrupted" not in text
