"""What `hawkwing status` prints."""

from __future__ import annotations

import time
from typing import Any

import pytest

from hawkwing.dataplane.layout import reasons
from hawkwing.status import lines, of_tasks, trust_sentence
from hawkwing.tasks import Supervisor

CLIENT: dict[str, Any] = {
    "role": "client",
    "pid": 4711,
    "interfaces": ["eth0"],
    "ingress_hook": "tc",
    "sr_domain": [],
    "trusted": trust_sentence(None),
    "counters": {"egress": {}, "ingress": {}},
}


def told(**more: Any) -> list[str]:
    return list(lines(CLIENT | {"started": time.time() - 5} | more))


def test_who_it_is() -> None:
    assert told() == [
        "hawkwing client on eth0, PID 4711, up 5 s",
        "  hooks: egress tc, ingress tc; accepts SRHs whose SIDs are in fc00::/7 or 5f00::/16, from "
        "any source; "
        "set sr_domain to restrict them",
    ]


def test_one_that_is_starting_says_so() -> None:
    assert told(ready=False)[0] == "hawkwing client on eth0, PID 4711, up 5 s, starting"
    assert told(ready=True) == told()


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        ({"state": "connected", "retry_at": None, "error": ""}, "connected"),
        ({"state": "connecting", "retry_at": None, "error": ""}, "connecting"),
        (
            {"state": "connecting", "retry_at": 12.4, "error": "connection refused"},
            "connecting (retry in 12 s), last error: connection refused",
        ),
    ],
)
def test_the_controller(state: dict[str, Any], shown: str) -> None:
    if state["retry_at"] is not None:
        state = state | {"retry_at": time.time() + state["retry_at"]}
    assert (
        told(controller={"target": "[fcbb::5]:5001", **state})[2] == f"  controller [fcbb::5]:5001: {shown}"
    )


QUERIES = {"count": 18, "answered": 18, "without_path": 0, "unanswered": 0, "held_back": 0}


@pytest.mark.parametrize(
    ("queries", "shown"),
    [
        ({}, "connected; 18 of 18 queries answered"),
        ({"without_path": 2}, "connected; 18 of 18 queries answered (2 without a path)"),
        ({"answered": 13, "unanswered": 5}, "connected; 13 of 18 queries answered, 5 unanswered"),
        (
            {"answered": 16, "unanswered": 2, "held_back": 1},
            "connected; 16 of 18 queries answered, 2 unanswered (1 held back)",
        ),
    ],
)
def test_how_many_queries_are_answered(queries: dict[str, int], shown: str) -> None:
    controller = {"target": "[fcbb::5]:5001", "state": "connected", "retry_at": None, "error": ""}
    found = told(controller={**controller, "queries": QUERIES | queries, "unanswered": []})
    assert found[2] == f"  controller [fcbb::5]:5001: {shown}"


def test_what_is_held_back_and_why() -> None:
    held = {
        "applications": [{"service": "web", "port": 80}, {"service": "web", "port": 81}],
        "address": "fcbb:cc00:2::a",
        "intents": ["sfc(fw)", "low-latency(max 20)"],
        "next_request": time.time() + 34.5,
        "held_back": True,
        "reason": "the controller ended the stream: No path found (UNKNOWN)",
    }
    waiting = held | {"held_back": False, "reason": ""}
    controller = {"target": "[fcbb::5]:5001", "state": "connected", "retry_at": None, "error": ""}
    queries = QUERIES | {"answered": 10, "unanswered": 8, "held_back": 7}
    found = told(controller={**controller, "queries": queries, "unanswered": [waiting] + [held] * 7})[3:]
    assert found == [
        "    held back: web port 80, web port 81 at fcbb:cc00:2::a (sfc(fw), low-latency(max 20)): "
        "the controller ended the stream: No path found (UNKNOWN); next request in 34 s"
    ] * 5 + ["    held back: 2 more, see --json"]


def test_counters_have_a_legend() -> None:
    count = {"packets": 3, "bytes": 300}
    found = told(counters={"egress": {"STEERED": count, "NO_SERVICE": count}, "ingress": {}})[2:]
    assert found == [
        "  counters (ok: steered, or SRH removed; info: in addition; unchanged: passed as it was)",
        "  egress  ok                 3 packets  STEERED: SRH inserted",
        "  egress  unchanged          3 packets  NO_SERVICE: destination matches no service",
    ]


def test_every_kind_is_in_the_legend() -> None:
    assert {reason.kind for reason in reasons()} == {"ok", "info", "unchanged", "drop"}


def test_background_work_that_failed() -> None:
    tasks = Supervisor()
    tasks.note("look-ups of a.example", OSError("no"))
    trouble = tasks.note("look-ups of a.example", OSError("no"))
    trouble.restarts_at = time.time() + 3.6
    tasks.note("reload", ValueError("wrong"))
    found = of_tasks(tasks)
    assert [(one["work"], one["error"], one["times"]) for one in found] == [
        ("look-ups of a.example", "OSError: no", 2),
        ("reload", "ValueError: wrong", 1),
    ]
    assert told(troubles=found)[2:] == [
        "  failed: look-ups of a.example: OSError: no (2 times, last 0 s ago, starts again in 4 s)",
        "  failed: reload: ValueError: wrong (once, last 0 s ago)",
    ]
