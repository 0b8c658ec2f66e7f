"""A STAMP Session-Reflector (RFC 8762, unauthenticated, stateless) for `hawkwing server`.

Its answers belong to learned flows, so egress sends them back on the reverse path. With a configured SR
domain only sources inside get an answer. A packet from a reflector's port never does: two reflectors would
answer each other for ever.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from ipaddress import IPv6Address, IPv6Network

from hawkwing import stamp
from hawkwing import status_model as model
from hawkwing.errors import HawkwingError
from hawkwing.receive_time import ask_for_times, receive_time

log = logging.getLogger("hawkwing")
_RECVPKTINFO, _PKTINFO, _RECVHOPLIMIT, _HOPLIMIT = 49, 50, 51, 52
_PLACE, _NUMBER = struct.Struct("=16sI"), struct.Struct("=i")
_ROOM, _ANCILLARY = 9000, 256
_AT_ONCE = 64
"""Packets answered in a row; others of the agent then have a turn."""


class Reflector:
    """Answers STAMP packets on a UDP port of all addresses."""

    def __init__(self, port: int, domain: Callable[[], Sequence[IPv6Network] | None]) -> None:
        """`domain`: the configured SR domain at present, if any. HawkwingError if the port can't be used."""
        self.port = port
        self._domain = domain
        #: Packets that were answered, and that were not.
        self.answered = self.refused = 0
        self._socket = made = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        try:
            made.setblocking(False)
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            ask_for_times(made)
            for option in (_RECVPKTINFO, _RECVHOPLIMIT):
                made.setsockopt(socket.IPPROTO_IPV6, option, 1)
            made.bind(("::", port))
        except OSError as error:
            made.close()
            advice = " (CAP_NET_BIND_SERVICE)" if isinstance(error, PermissionError) else ""
            raise HawkwingError(f"stamp_port {port} can't be used: {error.strerror}{advice}") from None

    async def run(self) -> None:
        """Answers until it is cancelled."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._socket.fileno(), self._answer_some)
        try:
            await asyncio.Event().wait()
        finally:
            loop.remove_reader(self._socket.fileno())

    def status(self) -> model.Reflecting:
        """Its part of the server's status."""
        return {"port": self.port, "answered": self.answered, "refused": self.refused}

    def close(self) -> None:
        """Closes the socket; `run` has ended."""
        self._socket.close()

    def _answer_some(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                data, ancillary, _flags, sender = self._socket.recvmsg(_ROOM, _ANCILLARY)
            except BlockingIOError:
                return
            except OSError:
                # An error that a router or host has sent about an answer.
                continue
            self._answer(data, ancillary, sender)

    def _answer(
        self, data: bytes, ancillary: list[tuple[int, int, bytes]], sender: tuple[str, int, int, int]
    ) -> None:
        received, hop_limit, place = receive_time(ancillary) or time.time_ns(), 0, b""
        for level, kind, value in ancillary:
            if (level, kind) == (socket.IPPROTO_IPV6, _PKTINFO):
                place = value
            elif (level, kind) == (socket.IPPROTO_IPV6, _HOPLIMIT):
                (hop_limit,) = _NUMBER.unpack(value)
        answer = stamp.reflected(data, received, hop_limit) if self._is_trusted(sender) else None
        if answer is None or not place:
            self.refused += 1
            return
        # From the address that was asked, over any interface.
        address, _interface = _PLACE.unpack(place)
        source = [(socket.IPPROTO_IPV6, _PKTINFO, _PLACE.pack(address, 0))]
        with suppress(OSError):
            self._socket.sendmsg([answer], source, 0, sender)
            self.answered += 1

    def _is_trusted(self, sender: tuple[str, int, int, int]) -> bool:
        if sender[1] in (self.port, stamp.PORT):
            return False
        domain = self._domain()
        address = IPv6Address(sender[0].partition("%")[0])
        return domain is None or any(address in prefix for prefix in domain)
