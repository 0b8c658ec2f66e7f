"""Sends a round of probes: most of them by the data plane at once, the others by sockets.

A system call for each probe is most of what probing costs. The data plane sends probes whose next hop the
agent knows. Each path's socket sends its probe now and then all the same: then the kernel confirms the
neighbour.
"""

from __future__ import annotations

import errno
import select
import socket
import struct
import time
from collections.abc import Iterable, Sequence
from ipaddress import IPv6Address
from typing import NamedTuple, Protocol

from hawkwing import stamp
from hawkwing.dataplane import tc
from hawkwing.dataplane.netlink import Netlink
from hawkwing.dataplane.next_hop import ASK, NextHop
from hawkwing.dataplane.probe_sender import ProbeSender
from hawkwing.ready_probe import ReadyProbe, ready_probe
from hawkwing.sids import first_segment
from hawkwing.srh_hmac import Key

_IPV6_RTHDR, _IPV6_AUTOFLOWLABEL = 57, 70
_WHEN = struct.Struct("=Q")


class KnownNextHops(Protocol):
    """What the agent knows of next hops (next_hops.py)."""

    changes: int

    def of(self, segment: IPv6Address) -> NextHop | None:
        """The next hop to this segment; None if the kernel has to be asked."""


class Target(NamedTuple):
    """A STAMP reflector."""

    address: IPv6Address
    port: int


class ProbedPath:
    """A probed path. Each has its own socket, because the SRH is a socket option."""

    def __init__(
        self,
        slot: int,
        source: IPv6Address,
        target: Target | None,
        first: int,
        signed: tuple[Key, ...] = (),
    ) -> None:
        """`first` is the round of its first probe, `signed` has the key that signs them."""
        self.slot = slot
        self.source = source
        self.target = target
        self.first = first
        self.signed = signed
        #: The number and address of the interface that the data plane sends by, and the next hop.
        self.by: tuple[int, bytes, bytes] | None = None
        self.socket: socket.socket
        self._srh = self._blank = b""
        self.payload = bytearray()
        self.when_at = 0

    def open(self, srh: bytes, payload: bytes, when_at: int) -> None:
        """Opens the socket; OSError if the kernel refuses it. `when_at` is the place of the probe's time."""
        self._srh, self._blank, self.payload = srh, payload, bytearray(payload)
        self.when_at = when_at
        self.socket = made = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        try:
            made.setblocking(False)
            # The ingress program takes returning probes, so nothing is read from this socket.
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
            # Both ways of sending give the same packet.
            made.setsockopt(socket.IPPROTO_IPV6, _IPV6_AUTOFLOWLABEL, 0)
            made.bind((str(self.source), 0))
            made.setsockopt(socket.IPPROTO_IPV6, _IPV6_RTHDR, srh)
            # Connected: no address has to be read for each probe.
            target = self.target
            made.connect(made.getsockname()[:2] if target is None else (str(target.address), target.port))
        except OSError:
            made.close()
            raise

    @property
    def first_segment(self) -> IPv6Address:
        """Where its probes go first."""
        return IPv6Address(first_segment(self._srh))

    def send(self, number: int) -> None:
        """Sends a probe by the socket; OSError if the kernel refuses it."""
        if self.target is not None:
            stamp.renew(self.payload, number - self.first, time.time_ns())
        _WHEN.pack_into(self.payload, self.when_at, time.monotonic_ns())
        self.socket.send(self.payload)

    def frame(self, link_layer: tuple[bytes, bytes]) -> ReadyProbe:
        """What the socket sends, without times and number, as a frame with these addresses."""
        own = self.source, self.socket.getsockname()[1]
        hops = self.socket.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS)
        blank = self._blank if self.target is None else stamp.without_number(self._blank)
        return ready_probe(link_layer, own, self.target or own, self._srh, blank, hops)

    def put(self, sender: ProbeSender, index: int, frame: ReadyProbe, link: int) -> None:
        """Has the data plane send its probes."""
        number_at = frame.payload_at if self.target is not None else 0
        sender.put(index, frame, link, self.first, frame.payload_at + self.when_at, number_at)


class Rounds:
    """Sends a probe along each path in each round."""

    def __init__(self, sender: ProbeSender | None, next_hops: KnownNextHops | None) -> None:
        """Without both, all probes are sent by sockets."""
        self._sender = sender
        self._next_hops = next_hops
        #: How many there were.
        self.number = 0
        self._ready: list[ProbedPath] = []
        self._others: list[ProbedPath] = []
        self._changes = -1
        #: Tells which sockets of paths to reflectors have got an error; these paths by the sockets' numbers.
        self._errors: select.epoll | None = None
        self._watched: dict[int, ProbedPath] = {}

    def arrange(self, paths: Iterable[ProbedPath]) -> None:
        """Sets the paths to probe, and finds those whose probes the data plane can send."""
        paths = list(paths)
        self._watch([path for path in paths if path.target is not None])
        if self._sender is None or self._next_hops is None:
            self._others = paths
            return
        self._changes = self._next_hops.changes
        own: dict[int, bytes] = {}
        ready: list[tuple[ProbedPath, tuple[int, bytes, bytes]]] = []
        others = []
        with Netlink() as ip:
            for path in paths:
                hop = self._next_hops.of(path.first_segment)
                if hop is None or hop.link_layer == ASK or not hop.link or len(ready) == self._sender.most:
                    others.append(path)
                    continue
                if hop.link not in own:
                    own[hop.link] = _own_address(ip, hop.link)
                if own[hop.link]:
                    ready.append((path, (hop.link, own[hop.link], hop.link_layer)))
                else:
                    others.append(path)
        self._put(self._sender, ready, others)

    def _watch(self, paths: Iterable[ProbedPath]) -> None:
        watched, before = {path.socket.fileno(): path for path in paths}, self._watched
        self._watched = watched
        if not watched:
            if self._errors is not None:
                self._errors.close()
            self._errors = None
            return
        if self._errors is None:
            self._errors = select.epoll()
        for number, path in watched.items():
            # A closed socket is watched no more, and its number may be another one's now.
            if before.get(number) is not path:
                self._errors.register(number, 0)

    def _put(
        self,
        sender: ProbeSender,
        ready: Sequence[tuple[ProbedPath, tuple[int, bytes, bytes]]],
        others: list[ProbedPath],
    ) -> None:
        before, self._ready = self._ready, []
        for path, by in ready:
            index = len(self._ready)
            if path.by != by or before[index : index + 1] != [path]:
                link, own, next_hop = by
                frame = path.frame((next_hop, own))
                if len(frame.content) > sender.longest:
                    others.append(path)
                    continue
                path.put(sender, index, frame, link)
                path.by = by
            self._ready.append(path)
        self._others = others

    @property
    def is_outdated(self) -> bool:
        """Whether next hops may have changed since `arrange`."""
        return self._next_hops is not None and self._next_hops.changes != self._changes

    def send(self, every: int) -> list[ProbedPath]:
        """Sends a round; each path uses its socket in one of `every` rounds.

        A probe that the kernel refuses is lost. Returns the paths without a reflector.
        """
        number = self.number
        self.number += 1
        by_socket = self._others
        if self._sender is not None and self._ready:
            turn = number % every
            ntp = stamp.timestamp(time.time_ns()) if self._ready[0].target is not None else 0
            missing = self._sender.send(len(self._ready), number, ntp, every, turn)
            if missing or turn < len(self._ready):
                by_socket = [
                    *by_socket,
                    *self._ready[turn::every],
                    *(self._ready[index] for index in missing),
                ]
        refused = self._refused()
        for one in by_socket:
            try:
                one.send(number)
            except ConnectionRefusedError:
                refused.append(one)
            except OSError:
                pass
        return refused

    def _refused(self) -> list[ProbedPath]:
        if self._errors is None:
            return []
        return [
            path
            for number, _event in self._errors.poll(0)
            if (path := self._watched.get(number)) is not None
            and path.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED
        ]


def _own_address(ip: Netlink, link: int) -> bytes:
    """The link-layer address of an interface; empty if it is gone, or has none like Ethernet's."""
    found = tc.link(ip, link)
    return found.link_layer if found is not None and len(found.link_layer) == len(ASK) else b""
