"""rtnetlink (rtnetlink(7)): requests with their answers, and a socket that receives changes.

The kernel processes a request during the send call, so the answer is available at once; a request may wait
for the kernel's lock on the network configuration. Without a library, an agent attaches within milliseconds,
and needs no separate process.
"""

import itertools
import os
import socket
import struct
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from hawkwing.errors import DataplaneError

NEWLINK, DELLINK, GETLINK, SETLINK = 16, 17, 18, 19
NEWQDISC, DELQDISC, GETQDISC = 36, 37, 38
NEWTFILTER, DELTFILTER, GETTFILTER = 44, 45, 46
GROUPS_LINK, GROUPS_TC = 1 << 0, 1 << 3
"""RTMGRP_LINK, and RTMGRP_TC: queueing disciplines, classes and filters."""
REPLACE, EXCLUSIVE, CREATE = 0x100, 0x200, 0x400

_REQUEST, _ACK, _DUMP, _INTERRUPTED = 0x1, 0x4, 0x300, 0x10
_ERROR, _DONE = 2, 3
_CAPPED, _WITH_TEXT = 0x100, 0x200
_SOL_NETLINK, _CAP_ACK, _EXT_ACK, _STRICT = 270, 10, 11, 12
_ERROR_TEXT = 1
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_ROOM = 1 << 18
_SECONDS = 10.0
_TRIES = 5


class RefusedError(OSError):
    """The kernel refuses a request; `text` is its reason, if it gives one."""

    def __init__(self, number: int, text: str = "") -> None:
        super().__init__(number, os.strerror(number))
        self.text = text


def attribute(kind: int, value: bytes | int | str) -> bytes:
    """One attribute: a number is 32 bits long, a text ends with a zero byte."""
    if isinstance(value, int):
        value = struct.pack("=I", value & 0xFFFFFFFF)
    elif isinstance(value, str):
        value = value.encode() + b"\0"
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(-length % 4)


def nested(kind: int, values: Mapping[int, bytes | int | str]) -> bytes:
    """An attribute of attributes."""
    return attribute(kind | 0x8000, b"".join(attribute(inner, value) for inner, value in values.items()))


def each_attribute(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Kind and value of all attributes, in order."""
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size:
            return
        yield kind & 0x3FFF, data[at + _ATTRIBUTE.size : at + length]
        at += -(-length // 4) * 4


def attributes(data: bytes) -> dict[int, bytes]:
    """Attributes by kind."""
    return dict(each_attribute(data))


def text_of(value: bytes) -> str:
    """The text in an attribute."""
    return value.split(b"\0", 1)[0].decode(errors="replace")


def number_of(value: bytes) -> int:
    """The number in an attribute, in the byte order of this machine."""
    return int.from_bytes(value, "little" if struct.pack("=H", 1)[0] else "big")


class Change(NamedTuple):
    """A notification; `port` is that of the socket that requested the change."""

    kind: int
    content: bytes
    port: int


def _messages(data: bytes) -> Iterator[tuple[int, int, int, int, bytes]]:
    """Kind, flags, sequence number, port and content."""
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, flags, sequence, port = _HEADER.unpack_from(data, at)
        if length < _HEADER.size:
            return
        yield kind, flags, sequence, port, data[at + _HEADER.size : at + length]
        at += -(-length // 4) * 4


class Netlink:
    """A socket for requests in the network namespace in which it is created; for one thread at a time.

    `strict`: the kernel filters dumps by the values in the request.
    """

    def __init__(self, strict: bool = False) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
        )
        for option in (_CAP_ACK, _EXT_ACK, *((_STRICT,) if strict else ())):
            self._socket.setsockopt(_SOL_NETLINK, option, 1)
        self._socket.bind((0, 0))
        # Should never be needed: the answer is available when the request has been sent.
        self._socket.settimeout(_SECONDS)
        self._numbers = itertools.count(1)
        #: Identifies this socket's requests in notifications.
        self.port: int = self._socket.getsockname()[0] & 0xFFFFFFFF

    def close(self) -> None:
        """Closes the socket."""
        self._socket.close()

    def __enter__(self) -> "Netlink":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, kind: int, body: bytes, flags: int = 0) -> list[bytes]:
        """The kernel's answer before its acknowledgement; RefusedError if it refuses the request."""
        answer, _interrupted = self._exchange(kind, body, _REQUEST | _ACK | flags)
        return answer

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """All objects that match the request; repeated if they changed during the dump."""
        for _ in range(_TRIES):
            answer, interrupted = self._exchange(kind, body, _REQUEST | _DUMP)
            if not interrupted:
                break
        return answer

    def _exchange(self, kind: int, body: bytes, flags: int) -> tuple[list[bytes], bool]:
        number = next(self._numbers) & 0xFFFFFFFF
        self._socket.send(_HEADER.pack(_HEADER.size + len(body), kind, flags, number, 0) + body)
        answer: list[bytes] = []
        interrupted = False
        while True:
            for kind_of, flags_of, sequence, _port, content in _messages(self._receive()):
                if sequence != number:
                    # From an earlier request that was abandoned.
                    continue
                interrupted |= bool(flags_of & _INTERRUPTED)
                if kind_of in (_ERROR, _DONE):
                    _raise_error(content, flags_of, kind_of)
                    return answer, interrupted
                answer.append(content)

    def _receive(self) -> bytes:
        try:
            return self._socket.recv(_ROOM)
        except TimeoutError:
            raise DataplaneError(f"the kernel did not answer on netlink within {_SECONDS:.0f} s") from None


def _raise_error(content: bytes, flags: int, kind: int) -> None:
    code = -struct.unpack_from("=i", content)[0] if len(content) >= 4 else 0
    if code <= 0:
        return
    # An acknowledgement quotes the request's header, and the rest of it unless it is capped.
    start = 4
    if kind == _ERROR:
        start += _HEADER.size if flags & _CAPPED else struct.unpack_from("=I", content, 4)[0]
    text = attributes(content[start:]).get(_ERROR_TEXT, b"") if flags & _WITH_TEXT else b""
    raise RefusedError(code, text_of(text))


class Listener:
    """Receives changes, by default of links, queueing disciplines and filters; never blocks."""

    def __init__(self, groups: int = GROUPS_LINK | GROUPS_TC) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK,
            socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK,
            socket.NETLINK_ROUTE,
        )
        self._socket.bind((0, groups))

    def fileno(self) -> int:
        """For the event loop."""
        return self._socket.fileno()

    def close(self) -> None:
        """Closes the socket."""
        self._socket.close()

    def changes(self, most: int = 64) -> Iterator[Change | None]:
        """Some of the received notifications; None if some were lost."""
        for _ in range(most):
            try:
                data = self._socket.recv(_ROOM)
            except BlockingIOError:
                return
            except OSError:
                # ENOBUFS: the socket's buffer was full.
                yield None
                continue
            for kind, _flags, _sequence, port, content in _messages(data):
                yield Change(kind, content, port)
