"""Captures packets on the links, for scapy.

scapy reads about 2,000 packets per second, so a capture stores frames as bytes: a `Filter` selects frames by
their bytes, and scapy reads only these.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv6Address
from types import TracebackType

from scapy.packet import Packet

from hawkwing import packet_ring
from hawkwing.packet_ring import PacketRing
from lab import netns
from lab.packets import Captured, assert_packet
from lab.topology import Link, Topology
from lab.wait import wait_until

_MANY_FRAMES = 16384
_HOP_BY_HOP, _TCP, _UDP, _ROUTING, _FRAGMENT, _ICMPV6, _DESTINATION = 0, 6, 17, 43, 44, 58, 60
_EXTENSIONS = (_HOP_BY_HOP, _DESTINATION, _ROUTING, _FRAGMENT)
_QUIET, _LONGEST_SETTLING = 0.01, 0.3
_ARRIVED_WITHIN = 5.0
_ND_TYPES = range(133, 138)
_MLD_TYPES = (130, 131, 132, 143)


@dataclass(frozen=True)
class Frame:
    """A captured Ethernet frame with an IPv6 packet, as bytes; see `Captured` for the rest."""

    data: bytes
    time: float
    link: str
    sender: str
    length: int
    unfinished: bool = False

    @cached_property
    def packet(self) -> Captured:
        """The frame as a scapy packet."""
        packet = Captured(self.data)
        packet.time = self.time
        packet.link, packet.sender = self.link, self.sender
        packet.length, packet.unfinished = self.length, self.unfinished
        return packet

    @cached_property
    def ipv6(self) -> bytes:
        """The bytes from the IPv6 header on."""
        return self.data[18 if self.data[12:14] == packet_ring.ETH_P_8021Q.to_bytes(2, "big") else 14 :]

    @cached_property
    def transport(self) -> tuple[int, bytes]:
        """The number and the bytes of the first header after IPv6 that is no extension header.

        They are empty in a fragment that is not the first, and in a packet that ends before.
        """
        kind, rest = self.ipv6[6], self.ipv6[40:]
        while kind in _EXTENSIONS and len(rest) >= 8:
            size = 8 if kind == _FRAGMENT else (rest[1] + 1) * 8
            later = kind == _FRAGMENT and (rest[2] << 8 | rest[3]) & 0xFFF8
            kind, rest = rest[0], rest[size:]
            if later:
                return kind, b""
        return kind, rest


@dataclass(frozen=True)
class Filter:
    """Selects frames of a capture; None accepts all.

    `port` is the source or the destination port, `to` the destination port. `destination` is the address in
    the IPv6 header. `steered` packets have a routing header.
    """

    protocol: int | None = None
    port: int | None = None
    to: int | None = None
    link: str | None = None
    destination: str | None = None
    steered: bool | None = None

    def __call__(self, frame: Frame) -> bool:
        kind, rest = frame.transport
        ports = (rest[:2], rest[2:4]) if kind in (_TCP, _UDP) else ()
        return (
            (self.protocol is None or kind == self.protocol)
            and (self.port is None or self.port.to_bytes(2, "big") in ports)
            and (self.to is None or self.to.to_bytes(2, "big") in ports[1:])
            and (self.link is None or frame.link == self.link)
            and (self.destination is None or frame.ipv6[24:40] == IPv6Address(self.destination).packed)
            and (self.steered is None or (frame.ipv6[6] == _ROUTING) is self.steered)
        )


EVERYTHING = Filter()


def tcp_port(port: int, link: str | None = None) -> Filter:
    """TCP from or to a port."""
    return Filter(_TCP, port, link=link)


def udp_port(port: int, link: str | None = None) -> Filter:
    """UDP from or to a port."""
    return Filter(_UDP, port, link=link)


def is_noise(frame: Frame) -> bool:
    """True for neighbour discovery, router advertisements and multicast listener reports."""
    kind, rest = frame.transport
    return kind == _ICMPV6 and bool(rest) and (rest[0] in _ND_TYPES or rest[0] in _MLD_TYPES)


class Tap:
    """A capture at one end of a link, from its creation on."""

    def __init__(
        self, device: str, namespace: str, link: str, ends: tuple[str, str], frames: int = packet_ring.FRAMES
    ) -> None:
        """Captures on a device; its frames belong to `link`, sent by one of the `ends` (here, there)."""
        self._here, self._there = ends
        self._link = link
        self._ring = netns.run_inside(namespace, lambda: PacketRing(device, frames=frames))

    def frames(self, every: bool = False) -> Iterator[Frame]:
        """The frames with IPv6 since the last call, or all; RuntimeError if the ring was too small.

        On a link without a link-layer header they get an Ethernet header of zeros.
        """
        for one in self._ring.read():
            data, length = one.data, one.length
            if one.bare:
                data, length = bytes(12) + one.protocol.to_bytes(2, "big") + data, length + 14
            if every or (one.protocol == packet_ring.ETH_P_IPV6 and len(data) >= 14 + 40):
                sender = self._here if one.outgoing else self._there
                yield Frame(data, one.time / 1e9, self._link, sender, length, one.unfinished)
        if lost := self._ring.lost():
            raise RuntimeError(
                f"the capture on {self._link} lost {lost} packets, use less traffic or fewer links"
            )

    def close(self) -> None:
        """Stops the capture."""
        self._ring.close()


class Capture:
    """Captures on links of a lab (default: all links); a context manager."""

    def __init__(
        self, topology: Topology, namespace: Callable[[str], str], links: Iterable[Link] | None = None
    ) -> None:
        self._taps = []
        frames = packet_ring.FRAMES if links is None else _MANY_FRAMES
        for link in topology.links if links is None else links:
            # The end at a router: at a host, its own programs would show in the capture.
            routers = [node for node in link.nodes if node in {r.name for r in topology.routers}]
            end = (routers or list(link.nodes))[0]
            at = link.interface(end)
            self._taps.append(Tap(at.name, namespace(end), link.name, (at.node, at.peer_node), frames))
        self._seen: list[Frame] = []

    def frames(self, wanted: Callable[[Frame], bool] = EVERYTHING) -> list[Frame]:
        """All frames so far in time order, without neighbour discovery and the like, as bytes."""
        for tap in self._taps:
            self._seen += (frame for frame in tap.frames() if not is_noise(frame))
        self._seen.sort(key=lambda frame: frame.time)
        return [frame for frame in self._seen if wanted(frame)]

    def count(self, wanted: Callable[[Frame], bool] = EVERYTHING) -> int:
        """The number of packets so far."""
        return len(self.frames(wanted))

    def packets(self, wanted: Callable[[Frame], bool] = EVERYTHING) -> list[Captured]:
        """All packets so far in time order."""
        return [frame.packet for frame in self.frames(wanted)]

    def settled(self, wanted: Callable[[Frame], bool] = EVERYTHING) -> list[Captured]:
        """All packets, once no new ones arrive; VPP routers need some time."""
        end = time.monotonic() + _LONGEST_SETTLING
        known = -1
        while known != self.count() and time.monotonic() < end:
            known = len(self._seen)
            time.sleep(_QUIET)
        return self.packets(wanted)

    def forget(self) -> None:
        """Discards all packets so far, including those in flight."""
        self.settled(lambda _frame: False)
        self.clear()

    def clear(self) -> None:
        """Discards all packets so far."""
        self.count()
        self._seen.clear()

    def send_and_expect(
        self,
        send: Callable[[], object],
        wanted: Callable[[Frame], bool],
        expected: Sequence[tuple[str, Packet]],
    ) -> list[Captured]:
        """Calls `send` and expects these packets, and no others that the filter accepts.

        Each one is a link and a pattern (see `lab.packets`), in the order on the wire.
        """
        self.forget()
        send()
        with suppress(TimeoutError):
            wait_until(lambda: self.count(wanted) >= len(expected), _ARRIVED_WITHIN, "the packets")
        return self.assert_captured(wanted, expected)

    def assert_captured(
        self, wanted: Callable[[Frame], bool], expected: Sequence[tuple[str, Packet]]
    ) -> list[Captured]:
        """Asserts that these packets were captured, and no others that the filter accepts; returns them."""
        packets = self.settled(wanted)
        links = [link for link, _pattern in expected]
        if [packet.link for packet in packets] != links:
            seen = "\n  ".join(map(str, packets)) or "nothing"
            raise AssertionError(f"expected on {', '.join(links)}, captured:\n  {seen}")
        for packet, (_link, pattern) in zip(packets, expected, strict=True):
            assert_packet(packet, pattern)
        return packets

    def assert_nothing_captured(self, wanted: Callable[[Frame], bool] = EVERYTHING) -> None:
        """Asserts that no packet was captured that the filter accepts, and that none is in flight."""
        if packets := self.settled(wanted):
            raise AssertionError(
                f"expected nothing, captured {len(packets)}:\n  " + "\n  ".join(map(str, packets[:20]))
            )

    def close(self) -> None:
        """Stops all captures."""
        for tap in self._taps:
            tap.close()

    def __enter__(self) -> "Capture":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.close()
