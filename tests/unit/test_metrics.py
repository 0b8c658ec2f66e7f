"""Metrics for Prometheus: read back by the official library's own parser, over a real socket."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Mapping
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from hawkwing import metrics
from hawkwing.errors import HawkwingError

CLIENT: dict[str, Any] = {
    "role": "client",
    "version": "1.2.3",
    "interfaces": ["eth0", "eth1"],
    "started": 1000.5,
    "ingress_hook": "tc",
    "counters": {"egress": {"STEERED": {"packets": 5, "bytes": 500}}, "ingress": {}},
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
    },
}
SERVER: dict[str, Any] = {
    **{key: CLIENT[key] for key in ("version", "interfaces", "started", "ingress_hook", "counters")},
    "role": "server",
    "flows": {"count": 4, "capacity": 100},
    "paths": [{"sids": ["fcbb::1"], "packets": 1, "bytes": 2}],
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
    assert found["hawkwing_controller_state", (("state", "connected"),)] == 1
    assert found["hawkwing_controller_state", (("state", "connecting"),)] == 0
    assert found["hawkwing_controller_events_total", (("event", "results"),)] == 3
    assert found["hawkwing_start_time_seconds", ()] == 1000.5


def test_a_servers_metrics() -> None:
    found = samples(SERVER)
    assert found["hawkwing_flows", ()] == 4
    assert found["hawkwing_flows_capacity", ()] == 100
    assert found["hawkwing_learned_paths", ()] == 1
    assert not any(name.startswith("hawkwing_path") for name, _labels in found), "senders decide about them"


def test_the_number_of_series_is_bounded() -> None:
    binding = CLIENT["bindings"][0]
    many = [{**binding, "service": f"s{number}", "sids": [f"fcbb::{number:x}"]} for number in range(2000)]
    found = samples({**CLIENT, "bindings": many})
    assert sum(name == "hawkwing_bindings" for name, _labels in found) == metrics.MOST_PATHS
    assert sum(name == "hawkwing_path_bytes_total" for name, _labels in found) == metrics.MOST_PATHS
    assert found["hawkwing_metrics_left_out", ()] == 2 * (2000 - metrics.MOST_PATHS)


def test_names_are_prometheus() -> None:
    """Units in base units at the end, counters end in _total, one prefix."""
    for status in (CLIENT, SERVER):
        for family in metrics.families(status):
            assert re.fullmatch("hawkwing_[a-z_]+", family.name)
            assert family.documentation.endswith(".")


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
    ],
)
def test_where_it_listens(text: str, place: metrics.Place) -> None:
    assert metrics.read_place(text) == place


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("x", "x is not [ADDRESS:]PORT, such as 9470 or [::1]:9470"),
        ("0", "0 is not [ADDRESS:]PORT, such as 9470 or [::1]:9470"),
        ("70000", "70000 is not [ADDRESS:]PORT, such as 9470 or [::1]:9470"),
        ("localhost:9470", "localhost is not an address; write [ADDRESS:]PORT, such as [::1]:9470"),
        ("::1:9470", "::1:9470: an IPv6 address needs brackets, write [::1]:9470"),
    ],
)
def test_what_is_no_place(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(sentence) + "$"):
        metrics.read_place(text)
