"""Sends a request, and follows one of its packets and one of the reply over all links, by captures."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from ipaddress import IPv6Address
from itertools import count

from scapy.layers.inet6 import IPv6

from lab.capture import find_link
from lab.errors import LabError
from lab.network import Lab
from lab.packets import Captured, segments, segments_left
from lab.wait import patient
from lab.wire import Capture, Frame, tcp_port

_TCP_HEADER = struct.Struct("!HHIIBB")
_TCP = 6
_ANSWER_WITHIN = 5
_runs = count(1)


@dataclass(frozen=True)
class Hop:
    """The packet on one link; `microseconds` since its first link."""

    link: str
    sender: str
    receiver: str
    microseconds: float
    destination: IPv6Address
    segments_left: int | None
    segments: tuple[IPv6Address, ...]
    """As on the wire, the last segment first."""


@dataclass(frozen=True)
class Followed:
    """The followed packets of a request and its reply."""

    run: int
    title: str
    outcome: str
    request: tuple[Hop, ...]
    reply: tuple[Hop, ...]


def send(lab: Lab, host: str, service: str, address: IPv6Address, port: int) -> Followed:
    """Sends a request from a host, captured on all links; LabError if the capture failed."""
    url = f"http://[{address}]:{port}/"
    seconds = patient(_ANSWER_WITHIN)
    form = "%{http_code} %{local_port} %{time_total}"
    argv = ["curl", "-g", "-s", "-m", f"{seconds:g}", "-o", "/dev/null", "-w", form, url]
    with closing(Capture(lab.topology, lab.namespace)) as capture:
        done = lab.execute(host, argv, timeout=seconds + 5, check=False)
        code, local, took = done.stdout.split()
        if code == "000":
            outcome = f"no answer (curl's exit status {done.returncode})"
        else:
            outcome = f"HTTP {code} after {float(took) * 1000:.1f} ms"
        try:
            capture.settled(lambda _frame: False)
            frames = capture.frames(tcp_port(port))
        except RuntimeError as error:
            raise LabError(str(error)) from None
    if local != "0":
        frames = [frame for frame in frames if int(local) in _ports(frame)]
    there = [frame for frame in frames if _ports(frame)[1] == port]
    back = [frame for frame in frames if _ports(frame)[0] == port]
    return followed(lab, f"{host}: GET {url} ({service})", outcome, _one(there), _one(back))


def hops(lab: Lab, packets: Iterable[Captured]) -> tuple[Hop, ...]:
    """The captures of one packet, in order of time."""
    ordered = sorted(packets, key=lambda packet: packet.time)
    return tuple(
        Hop(
            packet.link,
            packet.sender,
            find_link(lab, packet.link).interface(packet.sender).peer_node,
            (packet.time - ordered[0].time) * 1e6,
            IPv6Address(packet[IPv6].dst),
            segments_left(packet),
            tuple(IPv6Address(one) for one in segments(packet)),
        )
        for packet in ordered
    )


def followed(
    lab: Lab, title: str, outcome: str, request: Iterable[Captured], reply: Iterable[Captured]
) -> Followed:
    """The content of the page for a packet and its reply."""
    return Followed(next(_runs), title, outcome, hops(lab, request), hops(lab, reply))


def _one(frames: list[Frame]) -> list[Captured]:
    """One packet on every link: the first one with data, or the first of the connection."""
    if not frames:
        return []
    chosen = next((frame for frame in frames if _identity(frame)[3]), frames[0])
    found: dict[str, Frame] = {}
    for frame in frames:
        if _identity(frame) == _identity(chosen):
            # A retransmission has the same numbers, and is later.
            found.setdefault(frame.link, frame)
    return [frame.packet for frame in found.values()]


def _ports(frame: Frame) -> tuple[int, int]:
    source, destination = struct.unpack_from("!HH", frame.transport[1])
    return source, destination


def _identity(frame: Frame) -> tuple[int, int, int, int, int]:
    """Ports, sequence number, length of the data, and flags."""
    kind, header = frame.transport
    assert kind == _TCP
    source, destination, sequence, _ack, offset, flags = _TCP_HEADER.unpack_from(header)
    return source, destination, sequence, len(header) - (offset >> 4) * 4, flags
