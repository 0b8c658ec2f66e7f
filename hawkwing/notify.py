"""What the service manager is told (sd_notify(3)): ready, reloading, stopping, alive. Without one nothing."""

import asyncio
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def send(*lines: str) -> None:
    """One datagram of NAME=VALUE lines; a manager that has gone must not end the agent."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.connect("\0" + path[1:] if path[0] == "@" else path)
        manager.sendall("\n".join(lines).encode())


def ready(status: str) -> None:
    """The agent works; `status` is the line that `systemctl status` shows."""
    send("READY=1", f"STATUS={status}")


def stopping() -> None:
    """The agent begins to tidy up."""
    send("STOPPING=1", "STATUS=stopping")


def reloading(reload: Callable[P, T]) -> Callable[P, T]:
    """Tells when the function begins and ends, also where it fails: the agent goes on with what it had."""

    @wraps(reload)
    def told(*args: P.args, **kwargs: P.kwargs) -> T:
        send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")
        try:
            return reload(*args, **kwargs)
        finally:
            send("READY=1")

    return told


def watchdog_seconds() -> float | None:
    """How often the manager wants a sign of life from this process; None where it wants none."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    text = os.environ.get("WATCHDOG_USEC", "")
    return int(text) / 1_000_000 if text.isdecimal() and int(text) else None


async def watchdog() -> None:
    """Gives the sign of life from the event loop: none comes where that is stuck."""
    seconds = watchdog_seconds()
    while seconds is not None:
        send("WATCHDOG=1")
        await asyncio.sleep(seconds / 3)
