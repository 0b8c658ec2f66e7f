"""Sends probes along the paths of applications with several paths; the data plane detects dead paths.

    IPv6(A, S1) SRH(A, S1, ..., Sk, ..., S1; SL=2k-1, tag) UDP(p, p) probe

They go to the last SID and back to this host, like those of `hawkwing ping`, so no responder is needed. The
ingress program takes returning probes (bpf/health.h). Egress moves flows away from paths without them.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
import struct
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from ipaddress import IPv6Address

from hawkwing.csid import Block, unpack
from hawkwing.dataplane.layout import limits
from hawkwing.dataplane.plane import DataPlane
from hawkwing.errors import HawkwingError
from hawkwing.probing import lists
from hawkwing.sids import SidList
from hawkwing.steering import Steering

log = logging.getLogger("hawkwing")
SILENT_INTERVALS = 3
_IPV6_RTHDR = 57
_PAYLOAD = struct.Struct("=QQII")
_WHEN, _WHEN_AT = struct.Struct("=Q"), 8
"""The time in a payload, and its offset."""
_refused = suppress(OSError)
_PAUSE = 1.5
"""Intervals without a sent probe that count as a pause."""
_LOOK = 1.0
"""Seconds between look-ups of source addresses."""


class _Probed:
    """A probed path. Each has its own socket, because the SRH is a socket option."""

    def __init__(
        self, sids: SidList, slot: int, source: IPv6Address, blocks: Sequence[Block], key: int
    ) -> None:
        self.slot = slot
        self.source = source
        self.sent = 0
        self.payload = bytearray(_PAYLOAD.pack(key, 0, slot, 0))
        srh = bytearray(lists.probe_srh(lists.single(unpack(sids, blocks), blocks), blocks))
        struct.pack_into("!H", srh, 6, limits()["HW_PROBE_TAG"])
        self.socket = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        try:
            self.socket.setblocking(False)
            # The ingress program takes returning probes, so nothing is read from this socket.
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
            self.socket.bind((str(source), 0))
            self.socket.setsockopt(socket.IPPROTO_IPV6, _IPV6_RTHDR, bytes(srh))
            # Connected: the kernel does not need to parse an address for each probe.
            self.socket.connect(self.socket.getsockname()[:2])
        except OSError:
            self.socket.close()
            raise


def send_all(probed: Iterable[_Probed]) -> None:
    """Sends a probe along each path; a probe that the kernel refuses counts as lost.

    With many paths and short intervals, this takes most of the agent's CPU time.
    """
    write, now = _WHEN.pack_into, time.monotonic_ns
    for one in probed:
        write(one.payload, _WHEN_AT, now())
        with _refused:
            one.socket.send(one.payload)
        one.sent += 1


class PathProber:
    """Sends a probe along each path, once per interval."""

    def __init__(
        self, plane: DataPlane, steering: Steering, source_of: Callable[[IPv6Address], IPv6Address | None]
    ) -> None:
        self._plane = plane
        self._steering = steering
        self._source_of = source_of
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
                send_all(self._probed.values())
                due = max(due + seconds, loop.time())
                await asyncio.sleep(due - loop.time())
        finally:
            self.close()

    def close(self) -> None:
        """Closes all sockets."""
        self._plane.set_prober(0, 0, 0, 0)
        for one in self._probed.values():
            one.socket.close()
        self._probed.clear()
        self._seen = -1

    def _follow(self) -> None:
        """Opens and closes sockets as paths and their source addresses change."""
        if self._seen == self._steering.selection_changes and time.monotonic() - self._looked < _LOOK:
            return
        self._seen, self._looked = self._steering.selection_changes, time.monotonic()
        wanted = {(sids, slot) for sids, slot in self._steering.probed_lists().items()}
        for gone in self._probed.keys() - wanted:
            self._probed.pop(gone).socket.close()
        self._left_out = {path: why for path, why in self._left_out.items() if path in wanted}
        for path in wanted:
            source, known = self._source_of(path[0][0]), self._probed.get(path)
            if known is not None and known.source == source:
                continue
            if known is not None:
                self._probed.pop(path).socket.close()
            try:
                if source is None:
                    raise HawkwingError("this host has no global IPv6 address")
                self._probed[path] = _Probed(*path, source, self._plane.csid, self._key)
            except (OSError, HawkwingError) as error:
                self._leave_out(path, error.strerror or "" if isinstance(error, OSError) else str(error))
            else:
                if self._left_out.pop(path, None) is not None:
                    self._plane.set_probed(path[1], True)

    def _leave_out(self, path: tuple[SidList, int], why: str) -> None:
        """Marks a path as not probed, so that it never counts as dead."""
        if self._left_out.get(path) != why:
            self._left_out[path] = why
            self._plane.set_probed(path[1], False)
            log.warning("path %s is not probed: %s", " > ".join(map(str, path[0])), why)
