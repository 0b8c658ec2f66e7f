"""Metrics for Prometheus: read back by the official library's own parser, over a real socket."""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from hawkwing import metrics
from hawkwing.errors import HawkwingError
from hawkwing.metric_families import METRICS, MOST_PATHS, families
from lab.packages import metrics_page

BOTH: dict[str, Any] = {
    "version": "1.2.3",
    "interfaces": ["eth0", "eth1"],
    "started": 1000.5,
    "ingress_hook": "tc",
    "attachments": [
        {"interface": "eth0", "name": "eth0", "attached": True, "warnings": [], "restored": 2},
        {"interface": "eth1", "name": "up1", "attached": False, "warnings": ["a", "b"], "restored": 0},
    ],
    "counters": {"egress": {"STEERED": {"packets": 5, "bytes": 500}}, "ingress": {}},
    "reloads": {"good": 3, "refused": 1},
    "restarts": {"look-ups": 4, "next hops": 0},
}
CLIENT: dict[str, Any] = {
    **BOTH,
    "role": "client",
    "bindings": [
        {
            "service": "web",
            "address": f"fcbb::{number}",
            "port": 80,
            "origin": "file",
            "sids": ["fcbb::1", "fcbb::2"],
            "path_sent": {"packets": 7, "bytes": 700},
        }
        for number in (1, 2)
    ],
    "unresolved": [{"service": "web", "name": "wb.hawk.net", "error": None}],
    "controller": {
        "target": "[::1]:5001",
        "state": "connected",
        "since": 1001.0,
        "counters": {"results": 3},
        "queries": {"count": 10, "answered": 6, "without_path": 1, "unanswered": 4, "held_back": 1},
    },
}
_ALIVE = {"state": "alive", "rtt_ms": 12.5, "jitter_ms": 0.5, "loss_percent": 2.0}
_DEAD = {"state": "dead", "rtt_ms": None, "jitter_ms": None, "loss_percent": None}
_TCP = {"rtt_ms": 25.0, "retransmitted_segments": 3, "acknowledged_bytes": 4000}
_NO_TCP = {"rtt_ms": None, "retransmitted_segments": 0, "acknowledged_bytes": 0}
_SENT = {"packets": 1, "bytes": 2}
SEVERAL: dict[str, Any] = CLIENT | {
    "bindings": [
        CLIENT["bindings"][0]
        | {
            "active": [{"sids": ["fcbb::1"], "sent": _SENT, "health": _ALIVE, "tcp": _TCP}],
            "standby": [{"sids": ["fcbb::2"], "sent": _SENT, "health": _DEAD, "tcp": _NO_TCP}],
        }
    ]
}
SERVER: dict[str, Any] = {
    **BOTH,
    "role": "server",
    "flows": {"count": 4, "capacity": 100},
    "learned_paths": {"count": 1, "capacity": 4095},
    "paths": [{"sids": ["fcbb::1"], "packets": 1, "bytes": 2}],
    "stamp": {"port": 862, "answered": 5, "refused": 2},
    "decap": {"sids": [{"sid": "fcbb::d6", "installed": False, "packets": 8, "errors": 1}]},
}


async def ask(status: Mapping[str, Any], request: str) -> tuple[str, str]:
    """Head and body of the answer of a real server."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = metrics.MetricsServer((("127.0.0.1",), port), lambda: status)
    await server.start()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request.encode())
        head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
        writer.close()
    finally:
        server.close()
    return head, body


def samples(status: Mapping[str, Any]) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    head, body = asyncio.run(ask(status, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"))
    assert head.startswith("HTTP/1.1 200 OK\r\nContent-Type: text/plain")
    assert f"Content-Length: {len(body.encode())}" in head
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(body)
        for sample in family.samples
    }


def test_a_clients_metrics() -> None:
    found = samples(CLIENT)
    assert found["hawkwing_packets_total", (("direction", "egress"), ("reason", "STEERED"))] == 5
    assert found["hawkwing_bytes_total", (("direction", "egress"), ("reason", "STEERED"))] == 500
    path = "fcbb::1 > fcbb::2"
    labels = (("origin", "file"), ("path", path), ("port", "80"), ("service", "web"))
    assert found["hawkwing_bindings", labels] == 2
    assert found["hawkwing_path_packets_total", (("path", path),)] == 7, "once, however many addresses"
    assert found["hawkwing_unresolved_names", ()] == 1
    assert found["hawkwing_metrics_left_out", ()] == 0
    assert found["hawkwing_controller_state", (("state", "connected"),)] == 1
    assert found["hawkwing_controller_state", (("state", "connecting"),)] == 0
    assert found["hawkwing_controller_state_timestamp_seconds", ()] == 1001
    assert found["hawkwing_controller_events_total", (("event", "results"),)] == 3
    queries = {
        state: found["hawkwing_controller_queries", (("state", state),)]
        for state in ("answered", "without_path", "unanswered", "held_back")
    }
    assert queries == {"answered": 5, "without_path": 1, "unanswered": 3, "held_back": 1}
    assert sum(queries.values()) == CLIENT["controller"]["queries"]["count"], "each is in one state"
    assert found["hawkwing_start_time_seconds", ()] == 1000.5


def test_figures_of_each_of_several_paths() -> None:
    found = samples(SEVERAL)
    one, two = ((("path", path),) for path in ("fcbb::1", "fcbb::2"))
    assert found["hawkwing_path_alive", one] == 1
    assert found["hawkwing_path_alive", two] == 0
    assert found["hawkwing_path_round_trip_seconds", one] == 0.0125
    assert found["hawkwing_path_jitter_seconds", one] == 0.0005
    assert found["hawkwing_path_loss_ratio", one] == 0.02
    assert found["hawkwing_path_tcp_round_trip_seconds", one] == 0.025
    assert found["hawkwing_path_tcp_retransmitted_segments_total", one] == 3
    assert found["hawkwing_path_tcp_acknowledged_bytes_total", one] == 4000
    assert {name for name, labels in found if labels == two} == {"hawkwing_path_alive"}
    assert found["hawkwing_path_packets_total", one] == 1 and found["hawkwing_path_bytes_total", one] == 2


def test_a_path_without_probes_has_no_figures_of_them() -> None:
    unknown = {**_DEAD, "state": "unknown"}
    path = {"sids": ["fcbb::1"], "sent": _SENT, "health": unknown, "tcp": _NO_TCP}
    binding = CLIENT["bindings"][0] | {"active": [path], "standby": []}
    found = samples(CLIENT | {"bindings": [binding]})
    here = {name for name, labels in found if labels == (("path", "fcbb::1"),)}
    assert here == {"hawkwing_path_packets_total", "hawkwing_path_bytes_total"}


def test_a_servers_metrics() -> None:
    found = samples(SERVER)
    assert found["hawkwing_flows", ()] == 4
    assert found["hawkwing_flows_capacity", ()] == 100
    assert found["hawkwing_learned_paths", ()] == 1
    assert found["hawkwing_learned_paths_capacity", ()] == 4095
    results = {
        result: found["hawkwing_stamp_packets_total", (("result", result),)]
        for result in ("answered", "refused")
    }
    assert results == {"answered": 5, "refused": 2}
    assert found["hawkwing_decap_installed", (("sid", "fcbb::d6"),)] == 0
    for result, number in (("decapsulated", 8), ("dropped", 1)):
        labels = (("result", result), ("sid", "fcbb::d6"))
        assert found["hawkwing_decap_packets_total", labels] == number
    assert not any(name.startswith("hawkwing_path") for name, _labels in found), "senders decide about them"


@pytest.mark.parametrize("status", [CLIENT, SERVER], ids=["client", "server"])
def test_what_both_have(status: dict[str, Any]) -> None:
    found = samples(status)
    assert found["hawkwing_attached", (("interface", "eth0"),)] == 1
    assert found["hawkwing_attached", (("interface", "eth1"),)] == 0
    assert found["hawkwing_attachments_restored_total", (("interface", "eth0"),)] == 2
    assert found["hawkwing_attachment_warnings", (("interface", "eth1"),)] == 2
    assert found["hawkwing_reloads_total", (("result", "good"),)] == 3
    assert found["hawkwing_reloads_total", (("result", "refused"),)] == 1
    assert found["hawkwing_task_restarts_total", (("task", "look-ups"),)] == 4
    assert found["hawkwing_task_restarts_total", (("task", "next hops"),)] == 0
    info = [("ingress_hook", "tc"), ("interfaces", "eth0,eth1"), ("role", status["role"])]
    assert found["hawkwing_agent_info", (*info, ("version", "1.2.3"))] == 1


def test_the_number_of_series_is_bounded() -> None:
    binding = CLIENT["bindings"][0]
    many = [{**binding, "service": f"s{number}", "sids": [f"fcbb::{number:x}"]} for number in range(2000)]
    found = samples({**CLIENT, "bindings": many})
    assert sum(name == "hawkwing_bindings" for name, _labels in found) == MOST_PATHS
    assert sum(name == "hawkwing_path_bytes_total" for name, _labels in found) == MOST_PATHS
    assert found["hawkwing_metrics_left_out", ()] == 2 * (2000 - MOST_PATHS)


def test_many_bindings_keep_nobody_waiting() -> None:
    """Their metrics are made beside the agent's event loop."""
    threads = set()

    class Bindings(list[dict[str, Any]]):
        def __iter__(self) -> Iterator[dict[str, Any]]:
            threads.add(threading.current_thread())
            return super().__iter__()

    status = {**CLIENT, "bindings": Bindings(CLIENT["bindings"])}
    _head, body = asyncio.run(ask(status, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"))
    assert "hawkwing_bindings" in body
    assert threads and threading.main_thread() not in threads


def test_names_are_prometheus() -> None:
    """Units in base units at the end, counters end in _total, one prefix."""
    for one in METRICS:
        assert re.fullmatch("hawkwing_[a-z_]+", one.name)
        assert one.name.endswith("_total") == (one.kind == "counter")
        assert not re.search("_(milliseconds|minutes|kilobytes|count|gauge|counter)", one.name)
        assert one.text.endswith(".")


def test_the_described_metrics_are_those_that_are_served() -> None:
    for role, status in (("client", SEVERAL), ("server", SERVER)):
        told = {family.name: family for family in families(status)}
        described = [one for one in METRICS if one.of in ("both", role)]
        assert list(told) == [one.family for one in described]
        for one in described:
            family = told[one.family]
            assert (family.type, family.documentation) == (one.kind, one.text)
            assert all(set(sample.labels) == set(one.labels) for sample in family.samples)


def test_an_agent_without_a_controller() -> None:
    alone = {key: value for key, value in CLIENT.items() if key != "controller"}
    assert not any("controller" in family.name for family in families(alone))


def test_the_page_has_them_all() -> None:
    page = metrics_page.PAGE.read_text()
    assert page == metrics_page.text(), "run python -m lab.packages.texts"
    assert all(f"`{one.name}`" in page for one in METRICS)


PROMTOOL = shutil.which("promtool")


@pytest.mark.skipif(PROMTOOL is None, reason="no promtool")
@pytest.mark.parametrize("status", [SEVERAL, SERVER], ids=["client", "server"])
def test_promtool_has_no_objection(status: dict[str, Any]) -> None:
    _head, body = asyncio.run(ask(status, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"))
    done = subprocess.run(["promtool", "check", "metrics"], input=body, capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        ("GET / HTTP/1.1", "404 Not Found"),
        ("POST /metrics HTTP/1.1", "405 Method Not Allowed"),
        ("HEAD /metrics HTTP/1.0", "200 OK"),
    ],
)
def test_other_requests(request_line: str, status: str) -> None:
    head, body = asyncio.run(ask(CLIENT, f"{request_line}\r\n\r\n"))
    assert head.startswith(f"HTTP/1.1 {status}\r\n")
    assert (body == "") == request_line.startswith("HEAD")


def test_what_is_said_to_other_requests() -> None:
    found = asyncio.run(ask(CLIENT, "PUT /metrics HTTP/1.1\r\n\r\n"))
    lines = [
        "HTTP/1.1 405 Method Not Allowed",
        "Content-Type: text/plain",
        "Content-Length: 8",
        "Connection: close",
    ]
    assert found == ("\r\n".join(lines), "use GET\n")
    found = asyncio.run(ask(CLIENT, "GET /metric HTTP/1.1\r\n\r\n"))
    lines = ["HTTP/1.1 404 Not Found", "Content-Type: text/plain", "Content-Length: 24", "Connection: close"]
    assert found == ("\r\n".join(lines), "metrics are at /metrics\n")


@pytest.mark.parametrize("request_line", ["GET /metrics", "GET /metrics?collect=all HTTP/1.1"])
def test_the_form_is_the_one_that_was_asked_for(request_line: str) -> None:
    accept = "ACCEPT :  application/openmetrics-text; version=1.0.0 "
    head, body = asyncio.run(ask(CLIENT, f"{request_line}\r\nHost: x\r\n{accept}\r\n\r\n"))
    assert head.startswith("HTTP/1.1 200 OK\r\nContent-Type: application/openmetrics-text; version=1.0.0")
    assert body.endswith("# EOF\n")
    head, body = asyncio.run(ask(CLIENT, f"{request_line}\r\n\r\n"))
    assert "Content-Type: text/plain" in head and not body.endswith("# EOF\n")


def test_one_that_asks_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_SECONDS", 0.1)
    assert asyncio.run(ask(CLIENT, "GET /metrics HTTP/1.1\r\n")) == ("", "")


def test_one_of_two_addresses_is_enough() -> None:
    """A host may have no IPv6 loopback, or a port that is taken there."""

    async def work() -> bytes:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            server = metrics.MetricsServer((("127.0.0.1", "127.0.0.2"), port), lambda: CLIENT)
            await server.start()
            reader, writer = await asyncio.open_connection("127.0.0.2", port)
            writer.write(b"HEAD /metrics HTTP/1.1\r\n\r\n")
            head = await reader.read()
            writer.close()
            server.close()
            with socket.create_server(("127.0.0.2", port)):
                return head

    assert asyncio.run(work()).startswith(b"HTTP/1.1 200 OK")


def test_an_ipv6_address_is_shown_in_brackets() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as taken:
        port = taken.getsockname()[1]
        server = metrics.MetricsServer((("::1",), port), lambda: CLIENT)
        with pytest.raises(HawkwingError, match=rf"^can't serve metrics at \[::1\]:{port}: "):
            asyncio.run(server.start())


def test_the_agent_may_take_its_time() -> None:
    async def slowly() -> Mapping[str, Any]:
        await asyncio.sleep(0)
        return CLIENT

    assert metrics._response("200 OK", "text/plain", b"x", with_body=False).endswith(b"\r\n\r\n")
    server = metrics.MetricsServer((("127.0.0.1",), 1), slowly)
    assert b"hawkwing_bindings" in asyncio.run(server._answer("GET /metrics HTTP/1.1\r\n\r\n"))


@pytest.mark.parametrize("request_text", ["GET /metrics", "\r\n\r\n", "GET /" + "x" * 100_000])
def test_no_request_does_harm(request_text: str) -> None:
    async def harm() -> tuple[str, str]:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        server = metrics.MetricsServer((("127.0.0.1",), port), lambda: CLIENT)
        await server.start()
        try:
            _reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request_text.encode())
            writer.close()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
            head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
            writer.close()
        finally:
            server.close()
        return head, body

    assert asyncio.run(harm())[0].startswith("HTTP/1.1 200 OK")


def test_a_port_that_is_taken_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = metrics.MetricsServer((("127.0.0.1",), port), lambda: CLIENT)
        with pytest.raises(HawkwingError, match=f"can't serve metrics at 127.0.0.1:{port}: "):
            asyncio.run(server.start())


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("9470", (("::1", "127.0.0.1"), 9470)),
        ("192.0.2.1:9470", (("192.0.2.1",), 9470)),
        ("[2001:db8::1]:9470", (("2001:db8::1",), 9470)),
        ("[::]:9470", (("::",), 9470)),
        ("[::1]:1", (("::1",), 1)),
        ("[::1]:65535", (("::1",), 65535)),
    ],
)
def test_where_it_listens(text: str, place: metrics.Place) -> None:
    assert metrics.read_place(text) == place


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("x", "x is not [ADDRESS:]PORT, such as 9470 or [::1]:9470"),
        ("65536", "65536 is not [ADDRESS:]PORT, such as 9470 or [::1]:9470"),
        ("[::1:9470", "[::1 is not an address; write [ADDRESS:]PORT, such as [::1]:9470"),
        ("::1]:9470", "::1] is not an address; write [ADDRESS:]PORT, such as [::1]:9470"),
        ("0", "0 is not [ADDRESS:]PORT, such as 9470 or [::1]:9470"),
        ("70000", "70000 is not [ADDRESS:]PORT, such as 9470 or [::1]:9470"),
        ("localhost:9470", "localhost is not an address; write [ADDRESS:]PORT, such as [::1]:9470"),
        ("::1:9470", "::1:9470: an IPv6 address needs brackets, write [::1]:9470"),
    ],
)
def test_what_is_no_place(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(sentence) + "$"):
        metrics.read_place(text)
