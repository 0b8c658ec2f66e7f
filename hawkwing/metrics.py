"""`--metrics [ADDRESS:]PORT`: serves the agent's status as metrics, with Prometheus' client library."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from inspect import isawaitable
from ipaddress import ip_address
from typing import Any

from prometheus_client import exposition
from prometheus_client.metrics_core import Metric

from hawkwing.errors import HawkwingError
from hawkwing.metric_families import families
from hawkwing.tasks import in_thread

log = logging.getLogger(__name__)
LOOPBACK = ("::1", "127.0.0.1")
_MOST_REQUEST = 8192
_SECONDS = 10.0

Ask = Callable[[], "Awaitable[Mapping[str, Any]] | Mapping[str, Any]"]
Place = tuple[tuple[str, ...], int]


def read_place(text: str) -> Place:
    """Parses [ADDRESS:]PORT; without an address, the loopback addresses."""
    address, _, port = text.rpartition(":")
    if not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise ValueError(f"{text} is not [ADDRESS:]PORT, such as 9470 or [::1]:9470")
    if not address:
        return LOOPBACK, int(port)
    bare = address[1:-1] if address.startswith("[") and address.endswith("]") else address
    try:
        found = ip_address(bare)
    except ValueError:
        raise ValueError(f"{address} is not an address; write [ADDRESS:]PORT, such as [::1]:9470") from None
    if found.version == 6 and bare == address:
        raise ValueError(f"{text}: an IPv6 address needs brackets, write [{bare}]:{port}")
    return (str(found),), int(port)


class _Collected:
    """Metrics in the form that the library's encoders need."""

    def __init__(self, status: Mapping[str, Any]) -> None:
        self._families = families(status)

    def collect(self) -> list[Metric]:
        """All metrics."""
        return self._families


# --- HTTP


class MetricsServer:
    """Answers GET /metrics with the current status of the agent, in its event loop."""

    def __init__(self, place: Place, ask: Ask) -> None:
        self._addresses, self._port = place
        self._ask = ask
        self._servers: list[asyncio.Server] = []

    async def start(self) -> None:
        """Listens; HawkwingError if it can't listen on any of the addresses."""
        problem = ""
        for address in self._addresses:
            try:
                self._servers.append(
                    await asyncio.start_server(self._serve, address, self._port, limit=_MOST_REQUEST)
                )
            except OSError as error:
                shown = f"[{address}]" if ":" in address else address
                problem = f"can't serve metrics at {shown}:{self._port}: {error.strerror or error}"
        if not self._servers:
            raise HawkwingError(problem)

    def close(self) -> None:
        """Stops listening."""
        for server in self._servers:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(
            OSError, ValueError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError
        ):
            async with asyncio.timeout(_SECONDS):
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                writer.write(await self._answer(head))
                await writer.drain()
        writer.close()

    async def _answer(self, head: str) -> bytes:
        request, *lines = head.split("\r\n")
        method, _, rest = request.partition(" ")
        path = rest.partition(" ")[0].partition("?")[0]
        fields = {name.strip().lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
        if method not in ("GET", "HEAD"):
            return _response("405 Method Not Allowed", "text/plain", b"use GET\n")
        if path != "/metrics":
            return _response("404 Not Found", "text/plain", b"metrics are at /metrics\n")
        asked = self._ask()
        status = await asked if isawaitable(asked) else asked
        encoder, kind = exposition.choose_encoder(fields.get("accept", ""))
        # Takes long for many bindings.
        text = await in_thread(lambda: encoder(_Collected(status)))
        return _response("200 OK", kind, text, with_body=method == "GET")


def _response(status: str, kind: str, body: bytes, with_body: bool = True) -> bytes:
    fields = {"Content-Type": kind, "Content-Length": len(body), "Connection": "close"}
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode() + (body if with_body else b"")
