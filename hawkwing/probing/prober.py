"""Sends probes and receives their results: a UDP socket with an SRH (IPV6_RTHDR).

The SRH and errors (IPV6_RECVERR) need no privilege. With IOAM a packet socket receives the returning probes:
an agent removes no SRH after a Hop-by-Hop header of this size, and the kernel would drop them.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv6Address

from hawkwing.errors import HawkwingError
from hawkwing.packet_ring import attach
from hawkwing.probing import lists, problems
from hawkwing.probing.problems import Problem
from hawkwing.receive_time import ask_for_times, receive_time
from hawkwing.sids import first_segment

_IPV6_MTU_DISCOVER, _IPV6_RECVERR, _PMTUDISC_PROBE = 23, 25, 3
_IPV6_HOPOPTS, _IPV6_RTHDR = 54, 57
_MSG_ERRQUEUE = 0x2000
_ETH_P_IPV6, _PACKET_OUTGOING = 0x86DD, 4
# Classic BPF: with a Hop-by-Hop header behind the IPv6 header (its next header, byte 6, is 0), else not.
_WITH_OPTIONS = b"".join(
    struct.pack("=HBBI", *instruction)
    for instruction in ((0x30, 0, 0, 6), (0x15, 0, 1, 0), (0x06, 0, 0, 0xFFFF), (0x06, 0, 0, 0))
)
_ROOM, _ANCILLARY = 1 << 16, 1 << 10
_NEEDED = "IOAM needs CAP_NET_RAW: run it as root, or give this capability"


@dataclass(frozen=True)
class Arrival:
    """A probe came back after a number of seconds; `options` is its Hop-by-Hop header, if any."""

    number: int
    seconds: float
    options: bytes = b""


@dataclass(frozen=True)
class Failure:
    """A probe failed with an error."""

    number: int
    problem: Problem


Event = Arrival | Failure


class Prober:
    """Probes from one source address and port, so all of them belong to one flow."""

    def __init__(self, source: IPv6Address, size: int, options: bytes | None = None) -> None:
        """Each probe has the Hop-by-Hop `options`, if given; HawkwingError if the kernel refuses."""
        self._token = os.urandom(lists.TOKEN_LENGTH)
        self._size = size
        self._srh = b""
        self._sent: dict[int, tuple[float, int]] = {}
        self._waiting: list[Event] = []
        self._tap: socket.socket | None = None
        self._socket = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        try:
            self._prepare(source, options)
        except BaseException:
            self.close()
            raise

    def _prepare(self, source: IPv6Address, options: bytes | None) -> None:
        made = self._socket
        try:
            made.bind((str(source), 0))
        except OSError:
            raise HawkwingError(f"{source} is not an address of this host") from None
        made.setblocking(False)
        ask_for_times(made)
        made.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
        # No fragments: a link with a small MTU must be reported.
        made.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE)
        self._own = str(source), made.getsockname()[1]
        self._poll = select.poll()
        self._poll.register(made, select.POLLIN)
        if options is None:
            return
        try:
            made.setsockopt(socket.IPPROTO_IPV6, _IPV6_HOPOPTS, options)
            self._tap = _tap()
        except PermissionError:
            raise HawkwingError(_NEEDED) from None
        self._poll.register(self._tap, select.POLLIN)

    def send(self, number: int, srh: bytes) -> None:
        """Sends a probe; if the kernel refuses it, this is a failure of the probe."""
        try:
            if srh != self._srh:
                self._socket.setsockopt(socket.IPPROTO_IPV6, _IPV6_RTHDR, srh)
                self._srh = srh
            self._sent[number] = time.monotonic(), len(srh)
            self._try(number)
        except OSError as error:
            active = IPv6Address(first_segment(srh))
            self._waiting.append(Failure(number, problems.local(error.errno or 0, active)))

    def _try(self, number: int) -> None:
        """An error of an earlier probe makes the next call fail, once."""
        for last in (False, True):
            data = lists.payload(self._token, number, time.time_ns(), self._size)
            try:
                self._socket.sendto(data, self._own)
                return
            except OSError:
                told = len(self._waiting)
                self._waiting += self._errors(number)
                if last or len(self._waiting) == told:
                    raise

    def events(self, seconds: float) -> Iterator[Event]:
        """Waits up to a number of seconds; returns the results."""
        if not self._waiting:
            self._poll.poll(max(0, -(-seconds * 1000 // 1)))
        self._waiting += [*self._errors(), *self._arrived()]
        while self._waiting:
            yield self._waiting.pop(0)

    def _errors(self, sending: int | None = None) -> Iterator[Event]:
        while True:
            try:
                data, ancillary, _flags, quoted = self._socket.recvmsg(_ROOM, _ANCILLARY, _MSG_ERRQUEUE)
            except OSError:
                return
            found = lists.read_payload(self._token, data)
            for level, kind, value in ancillary:
                if (level, kind) != (socket.IPPROTO_IPV6, _IPV6_RECVERR):
                    continue
                # A refusal of the local kernel quotes no packet: the failed call reports it.
                if found is None or found[0] == sending or found[0] not in self._sent:
                    continue
                # A server's agent restores the destination, this host.
                known = quoted and quoted[0] != self._own[0]
                active = IPv6Address(quoted[0].partition("%")[0]) if known else None
                yield Failure(found[0], problems.read_error(value, active, self._sent[found[0]][1]))

    def _arrived(self) -> Iterator[Event]:
        if self._tap is not None:
            yield from self._tapped(self._tap)
        while True:
            try:
                data, ancillary, _flags, _where = self._socket.recvmsg(_ROOM, _ANCILLARY)
            except BlockingIOError:
                return
            except OSError:
                # A probe's error, which the error queue has, too.
                continue
            if self._tap is None:
                yield from self._arrival(data, ancillary, b"")

    def _tapped(self, tap: socket.socket) -> Iterator[Event]:
        while True:
            try:
                packet, ancillary, _flags, where = tap.recvmsg(_ROOM, _ANCILLARY)
            except OSError:
                return
            found = lists.read_packet(packet) if where[2] != _PACKET_OUTGOING else None
            if found is not None:
                yield from self._arrival(found[1], ancillary, found[0])

    def _arrival(
        self, data: bytes, ancillary: list[tuple[int, int, bytes]], options: bytes
    ) -> Iterator[Arrival]:
        found = lists.read_payload(self._token, data)
        if found is None or found[0] not in self._sent:
            return
        number, sent = found
        most = time.monotonic() - self._sent[number][0]
        seconds = (receive_time(ancillary) - sent) / 1e9
        # The clock may have been set in between.
        yield Arrival(number, seconds if 0 < seconds <= most else most, options)

    def fileno(self) -> int:
        """The descriptors, to wait for several probers."""
        return self._socket.fileno()

    def close(self) -> None:
        """Closes the sockets."""
        for one in (self._socket, self._tap):
            with suppress(OSError):
                if one is not None:
                    one.close()


def _tap() -> socket.socket:
    """Receives packets with a Hop-by-Hop header on all interfaces."""
    made = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_IPV6))
    attach(made, _WITH_OPTIONS)
    made.setblocking(False)
    ask_for_times(made)
    return made
