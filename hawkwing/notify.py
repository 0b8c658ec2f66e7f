"""Notifications to the service manager (sd_notify(3)), if any: ready, reloading, stopping, alive."""

import asyncio
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

_FIRST_STORED = 3


def send(*lines: str, file: int | None = None) -> None:
    """Sends one datagram of NAME=VALUE lines; a missing manager must not end the agent."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.connect("\0" + path[1:] if path[0] == "@" else path)
        socket.send_fds(manager, ["\n".join(lines).encode()], [] if file is None else [file])


def ready(status: str) -> None:
    """Reports that the agent is ready; `systemctl status` shows `status`."""
    send("READY=1", f"STATUS={status}")


def stopping() -> None:
    """Reports that the agent begins to clean up."""
    send("STOPPING=1", "STATUS=stopping")


@contextmanager
def reloading() -> Iterator[None]:
    """Reports begin and end of a reload, also if it fails: the agent keeps its state."""
    send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")
    try:
        yield
    finally:
        send("READY=1")


def store(files: Mapping[str, int]) -> None:
    """Stores files in the manager, for the next agent of this unit; needs no privilege."""
    for name, descriptor in files.items():
        send("FDSTOREREMOVE=1", f"FDNAME={name}")
        send("FDSTORE=1", f"FDNAME={name}", "FDPOLL=0", file=descriptor)


def stored() -> dict[str, int]:
    """The files that the previous agent has stored in the manager; the caller closes them."""
    if os.environ.pop("LISTEN_PID", "") != str(os.getpid()):
        return {}
    os.environ.pop("LISTEN_FDS", None)
    names = os.environ.pop("LISTEN_FDNAMES", "").split(":")
    found = {name: _FIRST_STORED + number for number, name in enumerate(names) if name}
    for descriptor in found.values():
        os.set_inheritable(descriptor, False)
    return found


def watchdog_seconds() -> float | None:
    """The watchdog interval of the manager for this process; None without a watchdog."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    text = os.environ.get("WATCHDOG_USEC", "")
    return int(text) / 1_000_000 if text.isdecimal() and int(text) else None


async def watchdog() -> None:
    """Sends the keep-alive from the event loop, so a blocked loop sends none."""
    seconds = watchdog_seconds()
    while seconds is not None:
        send("WATCHDOG=1")
        await asyncio.sleep(seconds / 3)
