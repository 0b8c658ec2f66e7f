"""When the kernel received a packet: an ancillary message (SO_TIMESTAMPNS) of a socket."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable

_TIMESTAMPS = socket.SOL_SOCKET, 35
"""SO_TIMESTAMPNS."""
_TIME = struct.Struct("@ll")


def ask_for_times(made: socket.socket) -> None:
    """Has the kernel add the time to each packet that the socket receives."""
    made.setsockopt(*_TIMESTAMPS, 1)


def receive_time(ancillary: Iterable[tuple[int, int, bytes]]) -> int:
    """Nanoseconds since 1970; 0: unknown."""
    for level, kind, value in ancillary:
        if (level, kind) == _TIMESTAMPS and len(value) == _TIME.size:
            seconds, nanoseconds = _TIME.unpack(value)
            return int(seconds * 1_000_000_000 + nanoseconds)
    return 0
