"""VPP's own trace of packets, with the same packets in a capture: as received, and as sent.

VPP traces the next packets from its devices. Each trace has the time at which VPP's ring got the packet,
which is nearly the time in the capture.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field

from hawkwing import ending
from lab.network import Lab, LabError
from lab.packets import shown
from lab.topology import Interface
from lab.wait import PATIENCE, wait_until
from lab.wire import Filter, Frame, Tap, is_noise

_TRACED = 100
_BEGUN = f"trace add af-packet-input {_TRACED}"
_SHOWN = f"show trace max {_TRACED}"
_STEP = re.compile(r"^(?P<time>\d+:\d\d:\d\d:\d+): (?P<node>\S+)$", re.MULTILINE)
_PACKET = re.compile(r"^Packet \d+\s*$", re.MULTILINE)
_LENGTH = re.compile(r"\blen (\d+) snaplen\b")
_ARRIVED = re.compile(r"\bsec 0x([0-9a-f]+) nsec 0x([0-9a-f]+)\b")
_SENT = re.compile(r"host-(?P<interface>\S+)-tx")
_SAME_NS = 5_000_000
_PASSED_WITHIN = 1.0


@dataclass(frozen=True)
class Trace:
    """The trace of one packet through VPP's graph; `text` is VPP's output."""

    text: str
    nodes: tuple[str, ...]
    time: int
    length: int

    @property
    def sent_on(self) -> str | None:
        """The outgoing interface."""
        matches = (_SENT.fullmatch(node) for node in self.nodes)
        return next((match["interface"] for match in matches if match), None)


@dataclass(frozen=True)
class Passed:
    """A packet as received, VPP's trace of it, and the packet that VPP sent."""

    came: Frame
    trace: Trace
    left: Frame | None


def traces(text: str) -> list[Trace]:
    """The output of `show trace` by packet; without packets that were not received from a device."""
    found = []
    for part in _PACKET.split(text)[1:]:
        # A line of hyphens follows the last packet of a thread.
        part = re.split(r"^-{3,}", part, maxsplit=1, flags=re.MULTILINE)[0].strip()
        arrived, length = _ARRIVED.search(part), _LENGTH.search(part)
        if arrived and length:
            nodes = tuple(match["node"] for match in _STEP.finditer(part))
            time_ns = int(arrived[1], 16) * 10**9 + int(arrived[2], 16)
            found.append(Trace(part, nodes, time_ns, int(length[1])))
    return found


def matched(
    frames: Sequence[Frame], found: Sequence[Trace], node: str, devices: dict[str, str], wanted: Filter
) -> list[Passed]:
    """The traced packets that `wanted` selects, with their frames; `devices` maps interfaces to links."""
    came = [frame for frame in frames if frame.sender != node]
    left = [frame for frame in frames if frame.sender == node]
    result = []
    for trace in found:
        near = [
            frame
            for frame in came
            if frame.length == trace.length and abs(frame.time * 1e9 - trace.time) < _SAME_NS
        ]
        if not near:
            continue
        first = min(near, key=lambda frame: abs(frame.time * 1e9 - trace.time))
        came.remove(first)
        link = devices.get(trace.sent_on or "")
        later = [frame for frame in left if frame.link == link and frame.time >= first.time]
        # An answer by VPP itself, such as an ICMPv6 error, is another packet.
        later.sort(key=lambda frame: (frame.transport != first.transport, frame.time))
        if later:
            left.remove(later[0])
        if wanted(first):
            result.append(Passed(first, trace, later[0] if later else None))
    return result


@dataclass
class _Tracing:
    """The captures at all ends of a router's links, and VPP's trace."""

    lab: Lab
    node: str
    wanted: Filter
    taps: list[Tap] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.interfaces: Sequence[Interface] = self.lab.topology.nodes[self.node].interfaces
        for at in self.interfaces:
            namespace = self.lab.namespace(self.node)
            self.taps.append(Tap(at.name, namespace, at.link.name, (self.node, at.peer_node)))
        self.ask("clear trace")
        self.ask(_BEGUN)

    def ask(self, command: str) -> str:
        """The output of a command in VPP's CLI."""
        status, text = self.lab.kind(self.node).execute(command) or (1, "")
        if status:
            raise LabError(text.strip())
        return text

    def came(self) -> int:
        """The number of wanted packets so far; LabError if VPP's trace buffer is full without one."""
        ending.check()
        for tap in self.taps:
            self.frames += tap.frames()
        arrived = [frame for frame in self.frames if frame.sender != self.node]
        count = sum(1 for frame in arrived if not is_noise(frame) and self.wanted(frame))
        if len(arrived) >= _TRACED and not count:
            raise LabError(f"none of the first {_TRACED} packets at {self.node} matched")
        return count

    def passed(self) -> list[Passed]:
        """The wanted packets so far."""
        self.came()
        self.frames.sort(key=lambda frame: frame.time)
        devices = {at.name: at.link.name for at in self.interfaces}
        found = matched(self.frames, traces(self.ask(_SHOWN)), self.node, devices, self.wanted)
        return [one for one in found if not is_noise(one.came)]

    def close(self) -> None:
        for tap in self.taps:
            tap.close()
        with suppress(LabError, OSError, RuntimeError):
            self.ask("clear trace")


def follow(
    lab: Lab, node: str, count: int, wanted: Filter, seconds: float, show: Callable[[str], object]
) -> None:
    """Shows the next packets at a VPP router; LabError if none arrives within this number of seconds."""
    router = next((router for router in lab.topology.routers if router.name == node), None)
    lab.router_kind(node)
    if router is None or router.router != "vpp":
        raise LabError(f"{node} is a Linux router, only VPP routers trace packets: use './run lab.capture'")
    with closing(_Tracing(lab, node, wanted)) as tracing:
        show(f"waiting for {count} packets at {node}" if count > 1 else f"waiting for a packet at {node}")
        end = time.monotonic() + seconds
        wait_until(lambda: tracing.came() >= count or time.monotonic() >= end, seconds + PATIENCE, "packets")
        if not tracing.came():
            raise LabError(f"no matching packet arrived at {node} within {seconds:g} s")
        enough = min(count, tracing.came())

        def whole() -> bool:
            found = tracing.passed()[:count]
            return len(found) == enough and all(one.left or not one.trace.sent_on for one in found)

        with suppress(TimeoutError):
            wait_until(whole, _PASSED_WITHIN, "VPP's trace")
        for number, one in enumerate(tracing.passed()[:count], 1):
            show("\n".join(_lines(number, one)))


def _lines(number: int, passed: Passed) -> Iterator[str]:
    yield f"\npacket {number}"
    yield f"received  {passed.came.link}: {shown(passed.came.packet)}"
    yield from (f"  {line.rstrip()}" for line in passed.trace.text.splitlines() if line.strip())
    if passed.left is not None:
        yield f"sent      {passed.left.link}: {shown(passed.left.packet)}"
    else:
        yield f"sent      nothing, the last node of VPP's graph is {passed.trace.nodes[-1]}"
