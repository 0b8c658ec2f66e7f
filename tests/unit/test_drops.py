"""`hawkwing drops`: counts and rates from two samples; an agent that restarts begins anew."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from hawkwing import cli, control, drops, watch
from hawkwing.dataplane.layout import reasons
from hawkwing.watch import Sample
from tests.agents import answering

TEXTS = {reason.name: reason.text for reason in reasons()}


def counts(**packets: int) -> dict[str, dict[str, int]]:
    return {name: {"packets": number, "bytes": number * 100} for name, number in packets.items()}


def agent(egress: dict[str, Any], ingress: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """What an agent tells, as it comes through the socket."""
    told = {"role": "client", "interfaces": ["eth0"], "pid": 4711, "started": time.time() - 300}
    return {**told, "counters": {"egress": egress, "ingress": ingress or {}}, **more}


def serving(handler: Callable[[Any], Any]) -> AbstractContextManager[None]:
    """A client on eth0, as far as `drops` asks it."""
    return answering(control.socket_path("client", "eth0"), "summary", handler)


def shown(now: Sample, before: Sample | None = None) -> list[str]:
    (report,) = drops.reports(now, before)
    return [" ".join(line.split()) for line in drops.lines(report)]


def test_what_was_lost_comes_first() -> None:
    told = agent(counts(STEERED=5, TOO_BIG=2, NO_SERVICE=7), counts(UNTRUSTED=1))
    assert shown(Sample(0.0, [told])) == [
        f"egress drop 2 packets TOO_BIG: {TEXTS['TOO_BIG']}",
        f"egress unchanged 7 packets NO_SERVICE: {TEXTS['NO_SERVICE']}",
        f"ingress unchanged 1 packets UNTRUSTED: {TEXTS['UNTRUSTED']}",
        f"egress ok 5 packets STEERED: {TEXTS['STEERED']}",
    ]


def test_counts_and_rates_since_the_last_lines() -> None:
    told = agent(counts(STEERED=5, NO_SERVICE=7))
    later = agent(counts(STEERED=25, NO_SERVICE=7, TOO_BIG=3), started=told["started"])
    assert shown(Sample(14.0, [later]), Sample(10.0, [told])) == [
        f"egress drop 3 packets 0.8 packets/s TOO_BIG: {TEXTS['TOO_BIG']}",
        f"egress ok 20 packets 5.0 packets/s STEERED: {TEXTS['STEERED']}",
    ]


@pytest.mark.parametrize(
    ("egress", "sentence"),
    [
        ({}, "no packet was dropped or left unchanged"),
        ({"STEERED": 5, "MSS_CLAMPED": 1}, "no packet was dropped or left unchanged"),
        ({"STEERED": 5, "NO_SERVICE": 1}, "no packet was dropped"),
    ],
)
def test_it_says_that_nothing_was_lost(egress: dict[str, int], sentence: str) -> None:
    assert shown(Sample(0.0, [agent(counts(**egress))]))[-1] == sentence


def test_a_restarted_agent_begins_anew() -> None:
    before = Sample(0.0, [agent(counts(STEERED=1000), pid=4710)])
    (report,) = drops.reports(Sample(2.0, [agent(counts(STEERED=3))]), before)
    assert report.seconds is None
    assert [(row.packets, row.rate) for row in report.rows] == [(3, None)]


# --- the command, with a real control socket


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "runtime_folder", lambda: tmp_path)


def test_once_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(lambda _request: agent(counts(NO_PATH=4))):
        assert cli.main(["drops"]) == 0
    head, first, last = capsys.readouterr().out.splitlines()
    assert head == "hawkwing client on eth0, PID 4711, since its start 5 min ago:"
    assert first.split()[:4] == ["egress", "unchanged", "4", "packets"] and "packets/s" not in first
    assert last == "  no packet was dropped"


def test_once_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(lambda _request: agent(counts(NO_PATH=4))):
        assert cli.main(["drops", "client", "-i", "eth0", "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert (told["role"], told["interfaces"], told["pid"], told["seconds"]) == (
        "client",
        ["eth0"],
        4711,
        None,
    )
    assert told["reasons"] == [
        {
            "reason": "NO_PATH",
            "kind": "unchanged",
            "direction": "egress",
            "meaning": TEXTS["NO_PATH"],
            "packets": 4,
            "bytes": 400,
            "packets_per_second": None,
        }
    ]


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_it_goes_on_until_ctrl_c(
    form: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = iter((10, 30, 30))
    started, rounds = time.time() - 300, iter((None, None, KeyboardInterrupt()))

    def pause() -> None:
        if (end := next(rounds)) is not None:
            raise end

    monkeypatch.setattr(watch, "pause", pause)
    with serving(lambda _request: agent(counts(TOO_BIG=next(told)), started=started)):
        assert cli.main(["drops", "--follow", *form]) == 0
    printed = capsys.readouterr().out.splitlines()
    if form:
        found = [[row["packets"] for row in json.loads(line)["reasons"]] for line in printed]
        assert found == [[10], [20], []]
        return
    assert "client-eth0  since its start 5 min ago: egress" in printed[0] and "10 packets" in printed[0]
    assert "20 packets" in printed[1] and "packets/s  TOO_BIG" in printed[1]
    assert printed[2].endswith("client-eth0  no packet was dropped or left unchanged")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "no hawkwing client or server is running in this network namespace"),
        (["server", "-i", "eth7"], "no hawkwing server is running on eth7"),
    ],
)
def test_no_agent_runs(words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(lambda _request: agent({})) if words else nullcontext():
        assert cli.main(["drops", *words]) == 1
    assert capsys.readouterr().err == f"hawkwing: {sentence}\n"
