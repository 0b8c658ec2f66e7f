"""What `hawkwing status` prints."""

from __future__ import annotations

import time
from ipaddress import IPv6Address, IPv6Network
from typing import Any, cast

import pytest

from hawkwing.dataplane.layout import reasons
from hawkwing.dataplane.plane import DataPlane, Health, Traffic
from hawkwing.labels import Labels
from hawkwing.status import (
    connections_of,
    health_behind,
    health_of,
    lines,
    of_steering,
    of_tasks,
    rate_text,
    state_and_health,
    tcp_behind,
    trust_sentence,
)
from hawkwing.tasks import Supervisor
from tests.unit.test_probe_commands import R1, R2, R3, Probed, with_paths

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


def test_all_interfaces_are_named() -> None:
    assert told(interfaces=["eth0", "eth1"])[0] == "hawkwing client on eth0, eth1, PID 4711, up 5 s"


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
        (
            {"state": "connecting", "retry_at": -3.0, "error": "connection refused"},
            "connecting (retry in 0 s), last error: connection refused",
        ),
    ],
)
def test_the_controller(state: dict[str, Any], shown: str) -> None:
    if state["retry_at"] is not None:
        state = state | {"retry_at": time.time() + state["retry_at"]}
    assert (
        told(controller={"target": "[fcbb::5]:5001", **state})[2] == f"  controller [fcbb::5]:5001: {shown}"
    )


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "119 min"), (7200, "2 h"), (86400, "24 h")],
)
def test_how_long_it_runs(seconds: int, shown: str) -> None:
    (first, *_more) = lines(CLIENT | {"started": time.time() - seconds - 0.1})
    assert first.endswith(f", up {shown}")


@pytest.mark.parametrize(
    ("prefixes", "sentence"),
    [
        (["fcbb::/16"], "accepts SRHs whose source and segments are in fcbb::/16"),
        (["fcbb::/16", "fd00::/8"], "accepts SRHs whose source and segments are in fcbb::/16 or fd00::/8"),
        (["::/0"], "accepts SRHs from any source with any SIDs"),
        (["fcbb::/16", "::/0"], "accepts SRHs from any source with any SIDs"),
        (["::/1"], "accepts SRHs whose source and segments are in ::/1"),
    ],
)
def test_which_srhs_are_accepted(prefixes: list[str], sentence: str) -> None:
    assert trust_sentence([IPv6Network(prefix) for prefix in prefixes]) == sentence


def test_without_an_sr_domain_local_sids_are_accepted() -> None:
    assert trust_sentence(None) == (
        "accepts SRHs whose SIDs are in fc00::/7 or 5f00::/16, from any source; "
        "set sr_domain to restrict them"
    )


def test_what_a_server_has_learned() -> None:
    path = {"sids": ["fcbb::1", "fcbb::2"], "packets": 7}
    assert told(flows={"count": 3, "capacity": 49152}, paths=[path])[2:] == [
        "  learned flows: 3 of 49152",
        "  learned path fcbb::1 > fcbb::2: 7 packets",
    ]


def test_what_a_reflector_has_answered() -> None:
    stamp = {"port": 862, "answered": 12, "refused": 3}
    assert told(stamp=stamp)[2:] == ["  STAMP on UDP port 862: 12 answered, 3 refused"]


def test_names_that_are_not_resolved() -> None:
    waiting = [
        {"service": "web", "name": "wb.hawk.net", "error": None},
        {"service": "mail", "name": "mb.hawk.net", "error": "no AAAA record"},
    ]
    assert told(unresolved=waiting)[2:] == [
        "  web wb.hawk.net: not resolved yet",
        "  mail mb.hawk.net: not resolved yet (no AAAA record)",
    ]


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
    due = held | {"applications": held["applications"][:1], "next_request": time.time() - 3}
    unplanned = due | {"next_request": None}
    back = unplanned | {"way_back": True, "source": "fcbb:cc00:2::a", "address": "fcbb:cc00:1::a"}
    listed = [due, *[unplanned] * 3, back]
    found = told(controller={**controller, "queries": queries, "unanswered": listed})[3:]
    asking = "    held back: web port 80 at fcbb:cc00:2::a (sfc(fw), low-latency(max 20)): "
    why = f"{asking}the controller ended the stream: No path found (UNKNOWN)"
    of_way_back = why.replace("web port 80 at", "way back of web port 80 from")
    assert found == [f"{why}; next request in 0 s", why, why, why, of_way_back]


def test_counters_have_a_legend() -> None:
    count = {"packets": 3, "bytes": 300}
    found = told(counters={"egress": {"STEERED": count, "NO_SERVICE": count}, "ingress": {}})[2:]
    assert found == [
        "  counters (ok: steered, or SRH removed; info: counted in addition; unchanged: not modified)",
        "  egress  ok                 3 packets  STEERED: SRH inserted, or packet encapsulated",
        "  egress  unchanged          3 packets  NO_SERVICE: destination matches no service",
    ]


def test_a_direction_without_packets_has_no_lines() -> None:
    count = {"packets": 3, "bytes": 300}
    assert told(counters={"egress": {}, "ingress": {"STRIPPED": count}})[3:] == [
        "  ingress ok                 3 packets  STRIPPED: SRH removed",
    ]


def test_without_a_connection_no_queries_are_counted() -> None:
    controller = {"target": "[fcbb::5]:5001", "state": "connecting", "retry_at": None, "error": ""}
    assert told(controller={**controller, "queries": QUERIES})[2] == "  controller [fcbb::5]:5001: connecting"


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
    found[0]["restarts_at"] = time.time() - 5
    assert told(troubles=found)[2].endswith("starts again in 0 s)"), "its time has come"


ATTACHED: dict[str, Any] = {
    "interface": "eth0",
    "name": "eth0",
    "renamed": False,
    "attached": True,
    "problem": "",
    "warnings": [],
    "restored": 0,
}


@pytest.mark.parametrize(
    ("attachment", "shown"),
    [
        ({}, []),
        (
            {"attached": False, "problem": "eth0 is not there", "warnings": ["w"], "restored": 1},
            ["  not attached: eth0 is not there"],
        ),
        ({"problem": "eth0 has no ingress hook"}, ["  warning: eth0 has no ingress hook"]),
        ({"name": "up0", "renamed": True}, ["  eth0 has been renamed to up0"]),
        ({"warnings": ["one", "two"]}, ["  warning: one", "  warning: two"]),
        (
            {"restored": 1},
            ["  eth0: filters were removed by another program once, and attached again"],
        ),
        (
            {"name": "up0", "restored": 2},
            ["  up0: filters were removed by another program 2 times, and attached again"],
        ),
    ],
)
def test_what_is_wrong_with_an_interface(attachment: dict[str, Any], shown: list[str]) -> None:
    assert told(attachments=[ATTACHED | attachment])[2:] == shown


def test_interfaces_are_told_each() -> None:
    broken = ATTACHED | {"attached": False, "problem": "eth1 is not there"}
    assert told(attachments=[broken, ATTACHED | {"restored": 1}])[2:] == [
        "  not attached: eth1 is not there",
        "  eth0: filters were removed by another program once, and attached again",
    ]


def test_where_packets_of_an_application_go() -> None:
    binding = {
        "service": "web",
        "address": "fcbb:cc00:2::a",
        "port": 80,
        "origin": "controller",
        "sids": ["fcbb::1", "fcbb::2"],
        "since": time.time() - 300,
        "path_sent": {"packets": 7, "bytes": 700},
    }
    where = "  web [fcbb:cc00:2::a]:80  "
    without = {**binding, "origin": "none", "sids": []}
    agent = CLIENT | {"started": time.time(), "bindings": [binding, without]}
    assert list(lines(agent))[2:] == [
        f"{where}controller: fcbb::1 > fcbb::2  (7 packets over this path, 5 min old)",
        f"{where}none: no path  (7 packets over this path, 5 min old)",
    ]
    assert list(lines(agent, {"fcbb::1 > fcbb::2": 2.0}))[2:] == [
        f"{where}controller: fcbb::1 > fcbb::2  (7 packets over this path, 2.0 packets/s, 5 min old)",
        f"{where}none: no path  (7 packets over this path, 5 min old)",
    ]


@pytest.mark.parametrize("several", [False, True], ids=["one path", "several"])
@pytest.mark.parametrize("problem", ["", "11 packets have told the way back, but no reply has used it"])
@pytest.mark.parametrize("named", [False, True], ids=["SIDs", "labels"])
def test_a_way_back_and_why_it_is_not_used(several: bool, problem: str, named: bool) -> None:
    counted = {"packets": 100, "bytes": 0}
    use = {"return_use": {"problem": problem}}
    path: dict[str, Any] = {"sids": ["fcbb::1"], "return_sids": ["fcbb::2"]} | use
    if named:
        path |= {"nodes": ["left"], "return_nodes": ["right"]}
    binding = {"service": "web", "address": "fcbb:cc00:2::a", "port": 80, "origin": "config", "since": 0.0}
    binding |= path | {"path_sent": counted}
    if several:
        state = {
            "state": "in use",
            "health": {"state": "unknown"},
            "tcp": {"rtt_ms": None, "rate_kbps": None, "acknowledged_bytes": 0, "retransmitted_segments": 0},
        }
        active = path | state | {"share_percent": 100.0, "sent": counted}
        binding |= {"reason": "", "standby": [], "active": [active]}
        del binding["return_use"]
    found = told(bindings=[binding])
    (shown,) = (number for number, line in enumerate(found) if ", back over" in line)
    assert ("left, back over right  (" if named else "fcbb::1, back over fcbb::2  (") in found[shown]
    assert found[shown + 1 :][:1] == ([f"    warning: {problem}"] if problem else [])
    rates = {"fcbb::1, back over fcbb::2": 7.5, "fcbb::1": 3.0}
    rated = lines(CLIENT | {"started": 0.0, "bindings": [binding]}, rates)
    assert any("7.5 packets/s" in line for line in rated)


@pytest.mark.parametrize(
    ("rate", "shown"),
    [
        (0.0, "0 packets/s"),
        (0.04, "0.0 packets/s"),
        (9.94, "9.9 packets/s"),
        (10.0, "10 packets/s"),
        (1234.5, "1234 packets/s"),
    ],
)
def test_a_slow_rate_has_a_decimal(rate: float, shown: str) -> None:
    assert rate_text(rate) == shown


@pytest.mark.parametrize(
    ("state", "rtt", "jitter", "loss", "shown"),
    [
        ("unknown", None, None, None, ""),
        ("dead", None, None, 100.0, ", no probe returns"),
        ("alive", 12.345, None, None, ", round trip 12.3 ms"),
        ("alive", 12.345, 0.25, None, ", round trip 12.3 ms, jitter 0.25 ms"),
        ("alive", 12.345, 0.25, 1.5, ", round trip 12.3 ms, jitter 0.25 ms, loss 1.5 %"),
    ],
)
def test_what_probes_tell_of_a_path(
    state: Any, rtt: float | None, jitter: float | None, loss: float | None, shown: str
) -> None:
    seconds = [None if value is None else value / 1000 for value in (rtt, jitter)]
    health = health_of(Health(state, 7, *seconds), loss)
    assert health == {
        "state": state,
        "probes_received": 7,
        "rtt_ms": rtt,
        "jitter_ms": jitter,
        "loss_percent": loss,
    }
    assert health_behind(health) == shown


def test_what_a_state_says_is_not_said_twice() -> None:
    dead, alive = (health_of(Health(state, 7, 0.001), None) for state in ("dead", "alive"))
    assert state_and_health({"state": "no probe returns", "health": dead}) == "no probe returns"
    assert state_and_health({"state": "in use", "health": alive}) == "in use, round trip 1 ms"


def test_what_connections_tell_of_a_path() -> None:
    class Plane:
        def traffic(self, slot: int) -> Traffic:
            assert slot == 3
            return Traffic(0.0125, 250_000.0, 5000, 7)

    plane = cast(DataPlane, Plane())
    told = connections_of(plane, 3)
    assert told == {
        "rtt_ms": 12.5,
        "rate_kbps": 2000.0,
        "acknowledged_bytes": 5000,
        "retransmitted_segments": 7,
    }
    assert tcp_behind(told) == ("; TCP: round trip 12.5 ms, 2 Mbit/s, 5000 bytes, 7 segments retransmitted")
    nothing = connections_of(plane, None)
    assert nothing["rtt_ms"] is None and tcp_behind(nothing) == ""
    assert tcp_behind(told | {"rate_kbps": None}) == (
        "; TCP: round trip 12.5 ms, 5000 bytes, 7 segments retransmitted"
    )


def test_paths_that_share_the_flows_of_an_application_have_a_line_each() -> None:
    first: dict[str, Any] = {
        "sids": ["fcbb::1", "fcbb::2"],
        "share_percent": 75.0,
        "sent": {"packets": 3, "bytes": 300},
        "health": health_of(Health("alive", 5, 0.0015), None),
        "tcp": connections_of(cast(DataPlane, None), None),
        "state": "in use",
    }
    unknown = health_of(Health("unknown", 0, None), None)
    second = {**first, "sids": ["fcbb::3"], "share_percent": 5.0, "nodes": ["vpp3"], "health": unknown}
    binding = {
        "service": "web",
        "address": "fcbb:cc00:2::a",
        "port": 80,
        "origin": "backup",
        "sids": first["sids"],
        "since": time.time() - 300,
        "path_sent": {"packets": 3, "bytes": 300},
        "standby": [],
        "reason": "",
    }
    agent = CLIENT | {"started": time.time(), "bindings": [{**binding, "active": [first, second]}]}
    assert list(lines(agent, {"fcbb::1 > fcbb::2": 2.0}))[2:] == [
        "  web [fcbb:cc00:2::a]:80  backup: 2 paths in use  (5 min old)",
        "     75 %  fcbb::1 > fcbb::2  (3 packets over this path, 2.0 packets/s, round trip 1.5 ms)",
        "      5 %  vpp3  (3 packets over this path)",
    ]
    agent = CLIENT | {"started": time.time(), "bindings": [{**binding, "active": [first]}]}
    assert list(lines(agent))[2] == "  web [fcbb:cc00:2::a]:80  backup: 1 path in use  (5 min old)"
    spare = {**first, "share_percent": 0.0, "state": "lower preference"}
    told = {**binding, "active": [second], "standby": [spare], "reason": "measured latency of 1 ms"}
    agent = CLIENT | {"started": time.time(), "bindings": [told]}
    assert list(lines(agent))[2:] == [
        "  web [fcbb:cc00:2::a]:80  backup: 1 path in use  (5 min old; measured latency of 1 ms)",
        "      5 %  vpp3  (3 packets over this path)",
        "      0 %  fcbb::1 > fcbb::2  (lower preference, round trip 1.5 ms)",
    ]


def test_each_of_several_paths_is_told_with_share_name_and_nodes() -> None:
    plane: Any = Probed()
    steering = with_paths()
    (told,) = of_steering(plane, steering, Labels({IPv6Address("fcbb:bb00:1::2"): "vpp1"}))
    one, two = (steering.slot_of_path(use) or 0 for use in ((R1, R2), (R3,)))
    assert told["path_sent"] == {"packets": one, "bytes": 100 * one}
    first, second = told["active"]
    assert (first["name"], first["nodes"], first["state"]) == ("upper", ["vpp1", str(R2)], "in use")
    assert "name" not in second and second["nodes"] == [str(R3)]
    assert [path["share_percent"] for path in told["active"]] == [66.4, 33.6]
    assert [path["sent"]["packets"] for path in told["active"]] == [one, two]
    (unused,) = told["standby"]
    assert (unused["sids"], unused["sent"]) == ([str(R1)], {"packets": 0, "bytes": 0})
    assert unused["state"] == "lower preference"
