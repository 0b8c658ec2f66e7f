"""Sends probes along the paths of applications with several paths; the data plane detects dead paths.

    loopback  IPv6(A, S1) SRH(A, S1, ..., Sk, ..., S1; SL=2k-1, tag) UDP(p, p) probe
    STAMP     IPv6(A, S1) SRH(B, Sk, ..., S1; SL=k) UDP(p, 862) STAMP with the probe in a TLV

Loopback probes go to the last SID and back to this host, like those of `hawkwing ping`, so no responder is
needed; where packets tell the server another way back, they return over that. STAMP packets (RFC 8762) go to
a reflector at a destination of the path; they are for networks whose routers drop packets with this host's
source address. Their answers take the reverse list. The ingress program takes what returns (bpf/health.h).
Egress moves flows away from paths without returning probes.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import struct
import threading
import time
from collections.abc import Callable
from functools import cache, partial
from ipaddress import IPv6Address

from hawkwing import stamp
from hawkwing.dataplane.layout import limits
from hawkwing.dataplane.plane import DataPlane
from hawkwing.errors import HawkwingError
from hawkwing.pace import at_interval
from hawkwing.probe_sending import KnownNextHops, ProbedPath, Rounds, Target
from hawkwing.probing import lists
from hawkwing.sids import Encapsulated, SidList, ready_srh
from hawkwing.srh_hmac import Key, signed_to
from hawkwing.steering import Steering

log = logging.getLogger("hawkwing")
SILENT_INTERVALS = 3
_PAYLOAD = struct.Struct("=QQII")
_WHEN_AT = 8
"""Offset of the time in a payload."""
_BY_SOCKET = 4000
"""Milliseconds between two probes of a path that its socket sends: less than a neighbour is valid for."""
_PAUSE = 1.5
"""Intervals without a sent probe that count as a pause."""
_LOOK = 1.0
"""Seconds between checks for paths that need another source address or reflector."""
_SOURCES_FOR = 15.0
"""Seconds for which source addresses are known without a notification of the kernel."""


class PathProber:
    """Sends a probe along each path, once per interval."""

    def __init__(
        self,
        plane: DataPlane,
        steering: Steering,
        source_of: Callable[[IPv6Address], IPv6Address | None],
        stamp_port: int | None = None,
        next_hops: KnownNextHops | None = None,
    ) -> None:
        """`stamp_port`: the port of reflectors at the destinations; None: probes return by themselves.

        Without `next_hops` all probes are sent by sockets.
        """
        self._plane = plane
        self._steering = steering
        self._source_of = source_of
        self._stamp_port = stamp_port
        self._session = secrets.randbelow(65535) + 1
        self._key = secrets.randbits(64)
        self._probed: dict[tuple[SidList, int], ProbedPath] = {}
        self._left_out: dict[tuple[SidList, int], str] = {}
        self._seen = -1
        self._looked = self._asked = 0.0
        self._sources: dict[IPv6Address, IPv6Address | None] = {}
        self._since = self._beat = 0
        #: Held while a round is sent, and while what it sends is changed.
        self._sending = threading.Lock()
        self._refused: list[ProbedPath] = []
        self._signed_with: tuple[Key, ...] = ()
        self._rounds = Rounds(plane.probe_sender() if next_hops is not None else None, next_hops)

    def look_again(self) -> None:
        """Looks up source addresses at the next interval, because addresses or routes have changed."""
        self._looked = 0.0
        self._sources.clear()

    @property
    def sent(self) -> dict[int, int]:
        """The number of probes sent along each path, by slot."""
        return {one.slot: self._rounds.number - one.first for one in self._probed.values()}

    def why_not(self, sids: SidList) -> str:
        """Why a list, as in packets, is not probed; empty if it is."""
        return next((why for (left, _slot), why in self._left_out.items() if left == sids), "")

    async def run(self, interval: int, former: asyncio.Task[None] | None = None) -> None:
        """Sends probes at this interval (milliseconds) until cancelled; then no path counts as dead.

        A `former` prober has to end before: it switches off what both use.
        """
        if former is not None:
            await asyncio.wait([former])
        loop = asyncio.get_running_loop()
        wake = asyncio.Event()
        sending = asyncio.ensure_future(
            at_interval(
                "probes", interval, lambda: self._send(interval, partial(loop.call_soon_threadsafe, wake.set))
            )
        )
        sending.add_done_callback(lambda _done: wake.set())
        try:
            while not sending.done():
                wake.clear()
                with self._sending:
                    self._follow()
                await wake.wait()
            await sending
        finally:
            sending.cancel()
            await asyncio.wait([sending])
            self.close()

    def _send(self, interval: int, wake: Callable[[], object]) -> None:
        """One round. It is sent by a thread; `wake` has the event loop follow what has changed."""
        with self._sending:
            now = time.monotonic_ns()
            if now - self._beat > _PAUSE * interval * 1_000_000:
                self._since = now
            self._beat = now
            silence = SILENT_INTERVALS * interval * 1_000_000
            self._plane.set_prober(self._key, now, self._since, silence if self._probed else 0)
            refused = self._rounds.send(max(1, _BY_SOCKET // interval))
            if refused:
                self._refused += refused
        if refused or self._has_to_look() or self._rounds.is_outdated:
            wake()

    def _has_to_look(self) -> bool:
        """Whether the paths to probe, their sources or their key may have changed."""
        return (
            self._seen != self._steering.selection_changes
            or self._signed_with != self._plane.hmac[:1]
            or time.monotonic() - self._looked >= _LOOK
        )

    def close(self) -> None:
        """Closes all sockets."""
        self._plane.set_prober(0, 0, 0, 0)
        self._plane.set_stamp_port(0)
        for one in self._probed.values():
            one.socket.close()
        self._probed.clear()
        self._rounds.arrange(())
        self._left_out.clear()
        self._seen = -1

    def _follow(self) -> None:
        """Paths that are new, or have another source address or reflector now."""
        for one in self._refused:
            self._without_reflector(one)
        self._refused.clear()
        if not self._has_to_look():
            if self._rounds.is_outdated:
                self._rounds.arrange(self._probed.values())
            return
        self._seen, self._looked = self._steering.selection_changes, time.monotonic()
        self._signed_with = self._plane.hmac[:1]
        if self._looked - self._asked > _SOURCES_FOR:
            self._sources.clear()
            self._asked = self._looked
        self._plane.set_stamp_port(self._stamp_port or 0)
        targets = cache(self._targets)
        wanted = {(sids, slot) for sids, slot in self._steering.probed_lists().items()}
        for gone in self._probed.keys() - wanted:
            self._probed.pop(gone).socket.close()
        self._left_out = {path: why for path, why in self._left_out.items() if path in wanted}
        for path in wanted:
            source, known = self._source_to(path[0][0]), self._probed.get(path)
            target = self._kept_target(known) or targets().get(path[0])
            wanted_now = (source, target, self._plane.hmac[:1])
            if known is not None and (known.source, known.target, known.signed) == wanted_now:
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
        self._rounds.arrange(self._probed.values())

    def _source_to(self, segment: IPv6Address) -> IPv6Address | None:
        """With 100 paths, asking the kernel each time is a fifth of the cost."""
        source = self._sources.get(segment)
        if source is None:
            source = self._sources[segment] = self._source_of(segment)
        return source

    def _kept_target(self, known: ProbedPath | None) -> Target | None:
        """The reflector of a path, as long as it is a destination."""
        target = known.target if known is not None else None
        return target if target is not None and self._steering.knows(target.address) else None

    def _targets(self) -> dict[SidList, Target]:
        """The reflector for each list; empty if probes return by themselves. Slow with many addresses."""
        if self._stamp_port is None:
            return {}
        port = self._stamp_port
        return {sids: Target(address, port) for sids, address in self._steering.list_destinations().items()}

    def _opened(self, sids: SidList, slot: int, source: IPv6Address, target: Target | None) -> ProbedPath:
        if isinstance(sids, Encapsulated):
            if self._stamp_port is not None:
                raise HawkwingError("STAMP packets are not encapsulated")
            sids = lists.before_decap(sids, self._plane.csid)
        made = ProbedPath(slot, source, target, self._rounds.number, self._plane.hmac[:1])
        payload = _PAYLOAD.pack(self._key, 0, slot, 0)
        if target is not None:
            payload = stamp.request(0, time.time_ns(), self._session, stamp.padding(payload))
            srh = self._signed(ready_srh(sids), source, target.address)
            made.open(srh, payload, stamp.VALUE_AT + _WHEN_AT)
            return made
        if self._stamp_port is not None:
            raise HawkwingError("no destination is known yet")
        blocks = self._plane.csid
        tagged = bytearray(lists.probe_srh(lists.single(sids, blocks), blocks))
        struct.pack_into("!H", tagged, 6, limits()["HW_PROBE_TAG"])
        made.open(self._signed(bytes(tagged), source, source), payload, _WHEN_AT)
        return made

    def _signed(self, srh: bytes, source: IPv6Address, end: IPv6Address) -> bytes:
        keys = self._plane.hmac
        return signed_to(source, end, srh, keys[0]) if keys else srh

    def _without_reflector(self, one: ProbedPath) -> None:
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
