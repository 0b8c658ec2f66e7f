"""`hawkwing capture`: the packets with an SRH on the agents' interfaces, as pcapng.

A packet socket gets a packet before tc ingress and after tc egress: both with the SRH. XDP runs earlier, and
has already removed the SRH of received packets.
"""

from __future__ import annotations

import errno
import os
import select
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import islice
from pathlib import Path

from hawkwing import ending, packet_filter, pcapng, watch
from hawkwing.dataplane import refusal, tc
from hawkwing.dataplane.interfaces import is_raw
from hawkwing.dataplane.netlink import Netlink
from hawkwing.errors import HawkwingError
from hawkwing.packet_ring import PacketRing

SIZE, FRAMES = 16384, 512
"""Bytes per frame of the ring, and frames. Larger packets (segmentation offload) are truncated."""


def main(interfaces: Sequence[str], count: int | None, output: Path | None, roles: tuple[str, ...]) -> int:
    """Captures until a signal, or until there are `count` packets; returns the exit status."""
    if output is None and os.isatty(1):
        raise HawkwingError(
            "capture writes pcapng for another program: add `| wireshark -k -i -`, `| tshark -r -` or "
            "`--output FILE`"
        )
    names = interfaces or _interfaces_of_agents(roles)
    with ExitStack() as stack:
        taps = [_Tap(stack, number, name) for number, name in enumerate(dict.fromkeys(names))]
        descriptor = stack.enter_context(_opened(output)) if output is not None else 1
        signals = stack.enter_context(ending.noted())
        writer = _Writer(descriptor, output)
        _Capture(taps, writer, count).run(signals.fileno())
        packets = "packet" if writer.packets == 1 else "packets"
        print(f"hawkwing: {writer.packets} {packets} captured", file=sys.stderr)
        if lost := sum(tap.ring.lost() for tap in taps):
            print(f"hawkwing: {lost} more were lost: they arrived too fast", file=sys.stderr)
    return 0


def _interfaces_of_agents(roles: tuple[str, ...]) -> list[str]:
    told = watch.sample(roles, ask="summary").statuses
    found = [one["name"] for agent in told for one in agent["attachments"] if one["index"] is not None]
    if not told:
        raise HawkwingError(
            "no hawkwing agent is running in this network namespace: name an interface with -i"
        )
    if not found:
        raise HawkwingError("none of the running agents' interfaces exists")
    for agent in told:
        if agent["ingress_hook"] != "tc":
            print(
                f"hawkwing: the {agent['role']} on {', '.join(agent['interfaces'])} removes SRHs in XDP, "
                "before they can be captured: received packets are missing",
                file=sys.stderr,
            )
    return found


@contextmanager
def _opened(file: Path) -> Iterator[int]:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


class _Tap:
    """The ring of one interface."""

    def __init__(self, stack: ExitStack, number: int, name: str) -> None:
        self.number, self.name = number, name
        with Netlink() as ip:
            link = tc.link(ip, name=name)
        if link is None:
            raise HawkwingError(f"there is no interface {name!r} here")
        self._ethernet = not is_raw(link.type)
        program = packet_filter.with_srh(self._ethernet)
        try:
            # Not by an altname: bind does not accept it.
            self._index = link.index
            self.ring = PacketRing(link.name, SIZE, FRAMES, program, self._ethernet)
        except PermissionError:
            raise HawkwingError(refusal.sentence_of_missing(["CAP_NET_RAW"])) from None
        except OSError as error:
            raise HawkwingError(f"can't capture on {name}: {error.strerror or error}") from None
        stack.callback(self.ring.close)

    def description(self) -> bytes:
        """Its interface block."""
        kind = pcapng.ETHERNET if self._ethernet else pcapng.RAW_IP
        return pcapng.interface(self.name, f"{self.name}, packets with an SRH", kind)

    def blocks(self) -> Iterator[tuple[int, bytes]]:
        """The packets since the last call: their times and blocks."""
        # At most the size of the ring: new packets may arrive as fast as they are read.
        for one in islice(self.ring.read(), FRAMES):
            record = pcapng.Record(one.time, one.data, one.length)
            yield one.time, pcapng.packet(self.number, record, one.outgoing)

    def is_gone(self) -> bool:
        """After an error of the socket: is the interface gone? Otherwise it was set down."""
        self.ring.clear_error()
        with Netlink() as ip:
            return tc.link(ip, self._index) is None


class _Writer:
    """Writes whole blocks; if the file can no longer be written, it ends with the last whole block."""

    def __init__(self, descriptor: int, file: Path | None) -> None:
        self.descriptor, self._file = descriptor, file
        self.packets = 0

    def header(self, blocks: Sequence[bytes]) -> None:
        """Writes blocks other than packets."""
        for block in blocks:
            self._write(block)

    def add(self, blocks: Sequence[bytes]) -> None:
        """Writes packets."""
        for block in blocks:
            self._write(block)
            self.packets += 1

    def _write(self, block: bytes) -> None:
        view = memoryview(block)
        try:
            while view:
                view = view[os.write(self.descriptor, view) :]
        except OSError as error:
            if self._file is None:
                raise
            with suppress(OSError):
                os.ftruncate(
                    self.descriptor, os.lseek(self.descriptor, 0, os.SEEK_CUR) - len(block) + len(view)
                )
            raise HawkwingError(
                f"can't write {self._file}: {error.strerror}; it has the first {self.packets} packets"
            ) from None


class _Capture:
    def __init__(self, taps: Sequence[_Tap], writer: _Writer, count: int | None) -> None:
        self._taps, self._writer, self._count = taps, writer, count
        self._waiting = pcapng.InOrder()

    def run(self, signals: int) -> None:
        """Runs until a signal, or until the count is reached; then writes all captured packets."""
        poll = select.poll()
        for tap in self._taps:
            poll.register(tap.ring, select.POLLIN)
        poll.register(signals, select.POLLIN)
        # No event is requested: poll always reports a closed reader.
        poll.register(self._writer.descriptor, 0)
        self._writer.header([pcapng.section(), *(tap.description() for tap in self._taps)])
        present = {tap.name for tap in self._taps}
        while not self._enough():
            events = dict(poll.poll(pcapng.HELD_NS // 1_000_000 if self._waiting else None))
            if events.get(self._writer.descriptor, 0) & (select.POLLERR | select.POLLHUP):
                raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
            if signals in events:
                break
            self._read()
            self._release(time.time_ns())
            for tap in self._taps:
                if events.get(tap.ring.fileno(), 0) & select.POLLERR and tap.is_gone():
                    poll.unregister(tap.ring)
                    present.discard(tap.name)
                    print(f"hawkwing: {tap.name} is gone", file=sys.stderr)
            if not present:
                break
        self._read()
        self._release(None)

    def _read(self) -> None:
        for tap in self._taps:
            for one in tap.blocks():
                self._waiting.add(*one)

    def _left(self) -> int | None:
        return None if self._count is None else self._count - self._writer.packets

    def _enough(self) -> bool:
        return self._left() == 0

    def _release(self, now: int | None) -> None:
        self._writer.add(self._waiting.release(now, self._left()))
