"""Sends probes along the paths of applications with several paths; the data plane detects dead paths.

    loopback  IPv6(A, S1) SRH(A, S1, ..., Sk, ..., S1; SL=2k-1, tag) UDP(p, p) probe
    STAMP     IPv6(A, S1) SRH(B, Sk, ..., S1; SL=k) UDP(p, 862) STAMP with the probe in a TLV

Loopback probes go to the last SID and back to this host, like those of `hawkwing ping`, so no responder is
needed. STAMP packets (RFC 8762) go to a reflector at a destination of the path; they are for networks whose
routers drop packets with this host's source address. The ingress program takes what returns (bpf/health.h).
Egress moves flows away from paths without returning probes.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
import struct
import time
from collections.abc import Callable, Iterable
from functools import cache
from ipaddress import IPv6Address
from typing import NamedTuple

from hawkwing import stamp
from hawkwing.csid import unpack
from hawkwing.dataplane.layout import limits
from hawkwing.dataplane.plane import DataPlane
from hawkwing.errors import HawkwingError
from hawkwing.probing import lists
from hawkwing.sids import SidList, ready_srh
from hawkwing.steering import Steering

log = logging.getLogger("hawkwing")
SILENT_INTERVALS = 3
_IPV6_RTHDR = 57
_PAYLOAD = struct.Struct("=QQII")
_WHEN, _WHEN_AT = struct.Struct("=Q"), 8
"""The time in a payload, and its offset."""
_PAUSE = 1.5
"""Intervals without a sent probe that count as a pause."""
_LOOK = 1.0
"""Seconds between look-ups of source addresses."""


class _Target(NamedTuple):
    """A STAMP reflector."""

    address: IPv6Address
    port: int


class _Probed:
    """A probed path. Each has its own socket, because the SRH is a socket option."""

    def __init__(self, slot: int, source: IPv6Address, target: _Target | None) -> None:
        self.slot = slot
        self.source = source
        self.target = target
        self.sent = 0
        self.payload = bytearray()
        #: Where the probe's own time is in the payload.
        self.when_at = 0
        self.socket: socket.socket

    def open(self, srh: bytes, payload: bytes, when_at: int) -> None:
        """Opens the socket; OSError if the kernel refuses it."""
        self.payload, self.when_at = bytearray(payload), when_at
        self.socket = made = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        try:
            made.setblocking(False)
            # The ingress program takes returning probes, so nothing is read from this socket.
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
            made.bind((str(self.source), 0))
            made.setsockopt(socket.IPPROTO_IPV6, _IPV6_RTHDR, srh)
            # Connected: no address has to be read for each probe.
            target = self.target
            made.connect(made.getsockname()[:2] if target is None else (str(target.address), target.port))
        except OSError:
            made.close()
            raise


def send_all(probed: Iterable[_Probed]) -> list[_Probed]:
    """Sends a probe along each path; one that the kernel refuses is lost. Returns those without a reflector.

    This is most of what the agent costs with many paths and short intervals.
    """
    write, now = _WHEN.pack_into, time.monotonic_ns
    missing = []
    for one in probed:
        if one.target is not None:
            stamp.renew(one.payload, one.sent, time.time_ns())
        write(one.payload, one.when_at, now())
        try:
            one.socket.send(one.payload)
        except ConnectionRefusedError:
            missing.append(one)
        except OSError:
            pass
        one.sent += 1
    return missing


class PathProber:
    """Sends a probe along each path, once per interval."""

    def __init__(
        self,
        plane: DataPlane,
        steering: Steering,
        source_of: Callable[[IPv6Address], IPv6Address | None],
        stamp_port: int | None = None,
    ) -> None:
        """`stamp_port`: the port of reflectors at the destinations; None: probes return by themselves."""
        self._plane = plane
        self._steering = steering
        self._source_of = source_of
        self._stamp_port = stamp_port
        self._session = secrets.randbelow(65535) + 1
        self._key = secrets.randbits(64)
        self._probed: dict[tuple[SidList, int], _Probed] = {}
        self._left_out: dict[tuple[SidList, int], str] = {}
        self._seen = -1
        self._looked = 0.0
        self._since = self._beat = 0

    def look_again(self) -> None:
        """Looks up source addresses at the next interval, because addresses or routes have changed."""
        self._looked = 0.0

    @property
    def sent(self) -> dict[int, int]:
        """The number of probes sent along each path, by slot."""
        return {one.slot: one.sent for one in self._probed.values()}

    def why_not(self, sids: SidList) -> str:
        """Why a list, as in packets, is not probed; empty if it is."""
        return next((why for (left, _slot), why in self._left_out.items() if left == sids), "")

    async def run(self, interval: int) -> None:
        """Sends probes at this interval (milliseconds) until cancelled; then no path counts as dead."""
        seconds = interval / 1000
        silence = SILENT_INTERVALS * interval * 1_000_000
        loop = asyncio.get_running_loop()
        due = loop.time()
        try:
            while True:
                self._follow()
                now = time.monotonic_ns()
                if now - self._beat > _PAUSE * interval * 1_000_000:
                    self._since = now
                self._beat = now
                self._plane.set_prober(self._key, now, self._since, silence if self._probed else 0)
                for missing in send_all(self._probed.values()):
                    self._without_reflector(missing)
                due = max(due + seconds, loop.time())
                await asyncio.sleep(due - loop.time())
        finally:
            self.close()

    def close(self) -> None:
        """Closes all sockets."""
        self._plane.set_prober(0, 0, 0, 0)
        self._plane.set_stamp_port(0)
        for one in self._probed.values():
            one.socket.close()
        self._probed.clear()
        self._left_out.clear()
        self._seen = -1

    def _follow(self) -> None:
        """Paths that are new, or have another source address or reflector now."""
        if self._seen == self._steering.selection_changes and time.monotonic() - self._looked < _LOOK:
            return
        self._seen, self._looked = self._steering.selection_changes, time.monotonic()
        self._plane.set_stamp_port(self._stamp_port or 0)
        targets = cache(self._targets)
        wanted = {(sids, slot) for sids, slot in self._steering.probed_lists().items()}
        for gone in self._probed.keys() - wanted:
            self._probed.pop(gone).socket.close()
        self._left_out = {path: why for path, why in self._left_out.items() if path in wanted}
        for path in wanted:
            source, known = self._source_of(path[0][0]), self._probed.get(path)
            target = self._kept_target(known) or targets().get(path[0])
            if known is not None and (known.source, known.target) == (source, target):
                self._look_for_answer(path)
                continue
            if known is not None:
                self._probed.pop(path).socket.close()
            try:
                if source is None:
                    raise HawkwingError("this host has no global IPv6 address")
                self._probed[path] = self._opened(*path, source, target)
            except (OSError, HawkwingError) as error:
                self._leave_out(path, error.strerror or "" if isinstance(error, OSError) else str(error))
            else:
                if self._left_out.pop(path, None) is not None:
                    self._plane.set_probed(path[1], True)

    def _kept_target(self, known: _Probed | None) -> _Target | None:
        """The reflector of a path, as long as it is a destination."""
        target = known.target if known is not None else None
        return target if target is not None and self._steering.knows(target.address) else None

    def _targets(self) -> dict[SidList, _Target]:
        """The reflector for each list; empty if probes return by themselves. Slow with many addresses."""
        if self._stamp_port is None:
            return {}
        port = self._stamp_port
        return {sids: _Target(address, port) for sids, address in self._steering.list_destinations().items()}

    def _opened(self, sids: SidList, slot: int, source: IPv6Address, target: _Target | None) -> _Probed:
        made = _Probed(slot, source, target)
        payload = _PAYLOAD.pack(self._key, 0, slot, 0)
        if target is not None:
            payload = stamp.request(0, time.time_ns(), self._session, stamp.padding(payload))
            made.open(ready_srh(sids), payload, stamp.VALUE_AT + _WHEN_AT)
            return made
        if self._stamp_port is not None:
            raise HawkwingError("no destination is known yet")
        blocks = self._plane.csid
        srh = bytearray(lists.probe_srh(lists.single(unpack(sids, blocks), blocks), blocks))
        struct.pack_into("!H", srh, 6, limits()["HW_PROBE_TAG"])
        made.open(bytes(srh), payload, _WHEN_AT)
        return made

    def _without_reflector(self, one: _Probed) -> None:
        """The destination has answered that nobody listens there: this tells nothing about the path."""
        path = next((path for path, probed in self._probed.items() if probed is one), None)
        if path is not None and one.target is not None:
            self._leave_out(path, f"no STAMP reflector answers at [{one.target.address}]:{one.target.port}")

    def _look_for_answer(self, path: tuple[SidList, int]) -> None:
        if path in self._left_out and self._plane.health(path[1], time.monotonic_ns()).received:
            del self._left_out[path]
            log.info("path %s is probed again", " > ".join(map(str, path[0])))

    def _leave_out(self, path: tuple[SidList, int], why: str) -> None:
        """Marks a path as not probed, so that it never counts as dead."""
        if self._left_out.get(path) != why:
            self._left_out[path] = why
            self._plane.set_probed(path[1], False)
            log.warning("path %s is not probed: %s", " > ".join(map(str, path[0])), why)
