"""gRPC channels to the controller, and the reasons for their failures."""

import asyncio
from collections.abc import Callable
from ipaddress import IPv6Address
from typing import TypeAlias

import grpc

CONNECT_TIMEOUT = 10.0
"""Seconds for TCP and the HTTP/2 settings."""

_OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),  # otherwise a new channel inherits the old one's back-off
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
    ("grpc.keepalive_time_ms", 330_000),  # HawkEye ends connections that ping more often than every 300 s
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.bdp_probe", 0),
)
_REFUSALS = (
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.OUT_OF_RANGE,
)
_NO_CONTROLLER = (
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
)


class StreamEndedError(Exception):
    """The controller ended the stream without an error."""


Credentials: TypeAlias = grpc.ChannelCredentials | Callable[[], grpc.ChannelCredentials]


def open_channel(address: IPv6Address, port: int, credentials: Credentials | None) -> grpc.aio.Channel:
    """A new channel, not connected yet; plaintext without credentials."""
    target = f"ipv6:[{address}]:{port}"
    if credentials is None:
        return grpc.aio.insecure_channel(target, options=_OPTIONS)
    # Files may have changed since the last connection.
    made = credentials() if callable(credentials) else credentials
    return grpc.aio.secure_channel(target, made, options=_OPTIONS)


async def settle(channel: grpc.aio.Channel) -> None:
    """Waits until the channel is connected or has failed; TimeoutError after CONNECT_TIMEOUT seconds."""
    settled = (grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.TRANSIENT_FAILURE)
    async with asyncio.timeout(CONNECT_TIMEOUT):
        while (state := channel.get_state(try_to_connect=True)) not in settled:
            await channel.wait_for_state_change(state)


def describe_failure(error: BaseException) -> str:
    """Why the stream failed, for log messages."""
    if isinstance(error, StreamEndedError):
        return "the controller ended the stream"
    if isinstance(error, TimeoutError):
        return f"no answer within {CONNECT_TIMEOUT:g} s"
    if not isinstance(error, grpc.RpcError):
        return f"{type(error).__name__}: {error}"
    code, details = error.code(), error.details() or "no reason given"
    if code is grpc.StatusCode.UNAVAILABLE:
        for reason in ("Connection refused", "No route to host", "Network is unreachable"):
            if reason in details:
                return reason.lower()
        if "CERTIFICATE_VERIFY_FAILED" in details:
            return "its certificate is not signed by hawkeye.tls.ca"
        if "SSL" in details or "handshake" in details.lower():
            return (
                "TLS handshake failed: the controller does not use TLS, or refuses the client's certificate"
            )
        return f"connection lost: {details}"
    if _status_is_lost(error):
        return "the controller ended the stream during a query, without a reason"
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return "the server there is not an intent controller"
    return f"the controller ended the stream: {details} ({code.name})"


def is_refusal(error: BaseException) -> bool:
    """Whether the controller has refused a query."""
    return isinstance(error, grpc.RpcError) and error.code() in _REFUSALS


def gives_no_reason(error: BaseException) -> bool:
    """Whether it is CANCELLED (HawkEye 1.0.1 after another client has left), or the status is lost."""
    return isinstance(error, grpc.RpcError) and (
        error.code() is grpc.StatusCode.CANCELLED or _status_is_lost(error)
    )


def is_no_controller(error: BaseException) -> bool:
    """Whether the server can't be used, regardless of the query."""
    return isinstance(error, grpc.RpcError) and error.code() in _NO_CONTROLLER


def _status_is_lost(error: grpc.RpcError) -> bool:
    """gRPC's asyncio API overwrites the status if a write meets the end of a stream (grpc/grpc#36066)."""
    return error.code() is grpc.StatusCode.INTERNAL and error.details() == "Internal error from Core"
