"""How a channel to the controller is made, and how its failures are told, with real gRPC."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv6Address
from pathlib import Path

import grpc
import pytest

from hawkwing.controller import channel
from hawkwing.controller.channel import open_channel, settle

LOOPBACK = IPv6Address("::1")


@asynccontextmanager
async def controller() -> AsyncIterator[int]:
    """A gRPC server; its port."""
    server = grpc.aio.server()
    port = server.add_insecure_port("[::1]:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """The controller is inside the network; who logs in on the host may have set one for the web."""
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        writer.close()

    async def work() -> None:
        proxy = await asyncio.start_server(answer, "127.0.0.1", 0)
        address = f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
        for name in ("http_proxy", "https_proxy", "grpc_proxy"):
            monkeypatch.setenv(name, address)
        for name in ("no_proxy", "no_grpc_proxy"):
            monkeypatch.delenv(name, raising=False)
        async with proxy, controller() as port:
            opened = open_channel(LOOPBACK, port, None)
            await settle(opened)
            assert opened.get_state() is grpc.ChannelConnectivity.READY
            await opened.close()

    asyncio.run(work())
    assert asked == []


def test_the_controller_is_not_pinged_more_often_than_it_bears() -> None:
    """HawkEye, with grpc-go's default, ends connections that ping more often than every five minutes."""
    options = dict(channel._OPTIONS)
    assert options["grpc.keepalive_time_ms"] > 300_000
    # Pings without data would be limited to two otherwise, and a dead controller never be noticed.
    assert options["grpc.http2.max_pings_without_data"] == 0
    # Its probes are pings, too.
    assert options["grpc.http2.bdp_probe"] == 0
    assert options["grpc.keepalive_timeout_ms"] <= 60_000


def test_a_channel_that_was_refused_is_settled() -> None:
    async def work() -> None:
        async with controller() as port:
            pass
        opened = open_channel(LOOPBACK, port, None)
        await settle(opened)
        assert opened.get_state() is grpc.ChannelConnectivity.TRANSIENT_FAILURE
        await opened.close()

    asyncio.run(work())


def test_one_that_says_nothing_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "CONNECT_TIMEOUT", 0.2)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def work() -> None:
        server = await asyncio.start_server(silent, "::1", 0)
        async with server:
            opened = open_channel(LOOPBACK, server.sockets[0].getsockname()[1], None)
            with pytest.raises(TimeoutError):
                await settle(opened)
            await opened.close()

    asyncio.run(work())


class Failure(grpc.RpcError):
    """As gRPC raises it."""

    def __init__(self, code: grpc.StatusCode, details: str | None = "") -> None:
        super().__init__()
        self._code, self._details = code, details

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str | None:
        return self._details


UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("odd"), "ValueError: odd"),
        (Failure(UNAVAILABLE, "ipv6:[::1]:1: Connection refused"), "connection refused"),
        (Failure(UNAVAILABLE, "x: No route to host"), "no route to host"),
        (Failure(UNAVAILABLE, "x: Network is unreachable"), "network is unreachable"),
        (
            Failure(UNAVAILABLE, "SSL: CERTIFICATE_VERIFY_FAILED: self signed"),
            "its certificate is not signed by hawkeye.tls.ca",
        ),
        (
            Failure(UNAVAILABLE, "SSL_ERROR_SSL: wrong version"),
            "TLS handshake failed: the controller does not use TLS, or refuses the client's certificate",
        ),
        (
            Failure(UNAVAILABLE, "Handshake read failed"),
            "TLS handshake failed: the controller does not use TLS, or refuses the client's certificate",
        ),
        (Failure(UNAVAILABLE, "Socket closed"), "connection lost: Socket closed"),
        (Failure(UNAVAILABLE, None), "connection lost: no reason given"),
        (
            Failure(grpc.StatusCode.INTERNAL, "Internal error from Core"),
            "the controller ended the stream during a query, without a reason",
        ),
        (
            Failure(grpc.StatusCode.INTERNAL, "something else"),
            "the controller ended the stream: something else (INTERNAL)",
        ),
        (Failure(grpc.StatusCode.UNIMPLEMENTED, "x"), "the server there is not an intent controller"),
        (
            Failure(grpc.StatusCode.UNKNOWN, "No path found"),
            "the controller ended the stream: No path found (UNKNOWN)",
        ),
    ],
)
def test_failures_in_words(error: BaseException, said: str) -> None:
    assert channel.describe_failure(error) == said


REFUSALS = {"UNKNOWN", "INVALID_ARGUMENT", "FAILED_PRECONDITION", "NOT_FOUND", "OUT_OF_RANGE"}
NO_CONTROLLER = {"UNIMPLEMENTED", "UNAUTHENTICATED", "PERMISSION_DENIED"}


@pytest.mark.parametrize("code", list(grpc.StatusCode))
def test_kinds_of_failures(code: grpc.StatusCode) -> None:
    error = Failure(code, "x")
    assert channel.is_refusal(error) == (code.name in REFUSALS)
    assert channel.is_no_controller(error) == (code.name in NO_CONTROLLER)
    assert channel.gives_no_reason(error) == (code.name == "CANCELLED")
    assert channel.gives_no_reason(Failure(code, "Internal error from Core")) == (
        code.name in ("CANCELLED", "INTERNAL")
    )


def test_what_is_not_of_grpc_is_of_no_kind() -> None:
    error = ValueError("x")
    assert not (
        channel.is_refusal(error) or channel.is_no_controller(error) or channel.gives_no_reason(error)
    )


def certificate(folder: Path) -> tuple[bytes, bytes]:
    """Of ::1, signed by itself, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    argv += ["-days", "2", "-subj", "/CN=here", "-addext", "subjectAltName=IP:::1"]
    argv += ["-keyout", str(folder / "key"), "-out", str(folder / "pem")]
    subprocess.run(argv, check=True, capture_output=True)
    return (folder / "pem").read_bytes(), (folder / "key").read_bytes()


def test_a_channel_with_tls(tmp_path: Path) -> None:
    """Credentials may be made when they are needed: the files may be other ones then."""
    pem, key = certificate(tmp_path)
    right, wrong = grpc.ssl_channel_credentials(pem), grpc.ssl_channel_credentials()
    states: list[grpc.ChannelConnectivity] = []

    async def work() -> None:
        server = grpc.aio.server()
        port = server.add_secure_port("[::1]:0", grpc.ssl_server_credentials([(key, pem)]))
        await server.start()
        for given in (right, lambda: right, wrong, None):
            opened = open_channel(LOOPBACK, port, given)
            # Without TLS a channel is ready once it is connected: nothing is said before there is a call.
            await settle(opened)
            states.append(opened.get_state())
            await opened.close()
        await server.stop(None)

    asyncio.run(work())
    ready, failed = grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.TRANSIENT_FAILURE
    assert states[:3] == [ready, ready, failed] and states[3] is not ready
