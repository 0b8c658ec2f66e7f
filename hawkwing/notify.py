"""What the service manager is told (sd_notify(3)): ready, reloading, stopping, alive. Without one nothing."""

import asyncio
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

_FIRST_STORED = 3


def send(*lines: str, file: int | None = None) -> None:
    """One datagram of NAME=VALUE lines; a manager that has gone must not end the agent."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.connect("\0" + path[1:] if path[0] == "@" else path)
        socket.send_fds(manager, ["\n".join(lines).encode()], [] if file is None else [file])


def ready(status: str) -> None:
    """The agent works; `status` is the line that `systemctl status` shows."""
    send("READY=1", f"STATUS={status}")


def stopping() -> None:
    """The agent begins to tidy up."""
    send("STOPPING=1", "STATUS=stopping")


@contextmanager
def reloading() -> Iterator[None]:
    """Tells when a reload begins and ends, also where it fails: the agent goes on with what it had."""
    send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")
    try:
        yield
    finally:
        send("READY=1")


def store(files: Mapping[str, int]) -> None:
    """Gives files to the manager, which gives them to the next agent of this unit; no privilege is needed."""
    for name, descriptor in files.items():
        send("FDSTOREREMOVE=1", f"FDNAME={name}")
        send("FDSTORE=1", f"FDNAME={name}", "FDPOLL=0", file=descriptor)


def stored() -> dict[str, int]:
    """The files that the agent before this one has given to the manager; whoever gets them closes them."""
    if os.environ.pop("LISTEN_PID", "") != str(os.getpid()):
        return {}
    os.environ.pop("LISTEN_FDS", None)
    names = os.environ.pop("LISTEN_FDNAMES", "").split(":")
    found = {name: _FIRST_STORED + number for number, name in enumerate(names) if name}
    for descriptor in found.values():
        os.set_inheritable(descriptor, False)
    return found


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
