"""Captures packets on the links and parses IPv6 and SRH (RFC 8200, RFC 8754)."""

import mmap
import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv6Address
from types import TracebackType

from lab import netns
from lab.topology import Interface, Link, Topology

_ETH_P_ALL = 0x0003
_ETH_P_IPV6 = 0x86DD
_SOL_PACKET, _PACKET_RX_RING, _PACKET_STATISTICS, _PACKET_VERSION = 263, 5, 6, 10
_TPACKET_V2 = 1
_TP_STATUS_USER, _TP_STATUS_VLAN_VALID = 1, 1 << 4
_FRAME, _FRAMES, _MANY_FRAMES, _BLOCK = 2048, 2048, 16384, 65536
_FRAME_HEADER = struct.Struct("=IIIHHIIH")
_ADDRESS = struct.Struct("=2xHiHB")
_ADDRESS_AT = 32
_OUTGOING = 4
_HOP_BY_HOP, _TCP, _UDP, _ROUTING, _FRAGMENT, _ICMPV6, _DESTINATION = 0, 6, 17, 43, 44, 58, 60
_QUIET, _LONGEST_SETTLING = 0.01, 0.3
_ND_TYPES = range(133, 138)
_MLD_TYPES = (130, 131, 132, 143)


@dataclass(frozen=True)
class Srh:
    """A Segment Routing Header; `segments` are in wire order, the last SID of the path first."""

    raw: bytes
    next_header: int
    segments_left: int
    last_entry: int
    flags: int
    tag: int
    segments: tuple[IPv6Address, ...]


@dataclass(frozen=True)
class Packet:
    """A captured packet from its IPv6 header on; `time` in seconds, `link` is the name in the topology."""

    raw: bytes
    time: float
    link: str
    sender: str
    source: IPv6Address
    destination: IPv6Address
    flow_label: int
    hop_limit: int
    next_header: int
    payload_length: int
    srh: Srh | None
    fragment: tuple[int, bool, int] | None
    protocol: int
    source_port: int
    destination_port: int
    payload: bytes
    vlan: int | None = None
    """The VLAN identifier of the frame's tag (IEEE 802.1Q), where it has one."""

    def __str__(self) -> str:
        list_ = (
            f" SRH({', '.join(map(str, self.srh.segments))}; SL={self.srh.segments_left})" if self.srh else ""
        )
        return f"{self.link}: IPv6({self.source}, {self.destination}){list_} {self.protocol}"


def parse(
    raw: bytes, link: str = "", sender: str = "", at: float = 0.0, vlan: int | None = None
) -> Packet | None:
    """Parses an IPv6 packet; None if it is none, or truncated in its headers."""
    if len(raw) < 40 or raw[0] >> 4 != 6:
        return None
    label, length, following, hops = struct.unpack_from("!IHBB", raw)
    base = following
    position, srh, fragment = 40, None, None
    try:
        while following in (_HOP_BY_HOP, _DESTINATION, _ROUTING, _FRAGMENT):
            size = 8 if following == _FRAGMENT else (raw[position + 1] + 1) * 8
            part = raw[position : position + size]
            if following == _ROUTING and part[2] == 4:
                srh = _read_srh(part)
            if following == _FRAGMENT:
                _next, _zero, offset, number = struct.unpack("!BBHI", part)
                fragment = (offset & 0xFFF8, bool(offset & 1), number)
            following = part[0]
            position += size
            if fragment and fragment[0]:
                break
        ports = (0, 0)
        if following in (_TCP, _UDP) and not (fragment and fragment[0]):
            ports = struct.unpack_from("!HH", raw, position)
    except (IndexError, struct.error):
        return None
    return Packet(
        raw,
        at,
        link,
        sender,
        IPv6Address(raw[8:24]),
        IPv6Address(raw[24:40]),
        label & 0xFFFFF,
        hops,
        base,
        length,
        srh,
        fragment,
        following,
        *ports,
        raw[position:],
        vlan,
    )


def _read_srh(part: bytes) -> Srh:
    following, length, _type, left, last, flags, tag = struct.unpack_from("!BBBBBBH", part)
    segments = tuple(IPv6Address(part[8 + 16 * i : 24 + 16 * i]) for i in range(last + 1))
    return Srh(part[: (length + 1) * 8], following, left, last, flags, tag, segments)


def is_noise(packet: Packet) -> bool:
    """True for neighbour discovery, router advertisements and multicast listener reports."""
    if packet.protocol != _ICMPV6 or not packet.payload:
        return False
    return packet.payload[0] in _ND_TYPES or packet.payload[0] in _MLD_TYPES


class Tap:
    """A packet socket at one end of a link; it captures from its creation on.

    Packets are copied into a ring: an ordinary packet socket only keeps a reference, and the End behaviour of
    the next router, which rewrites the destination in place, would change what was captured.
    """

    def __init__(self, interface: Interface, namespace: str, frames: int = _FRAMES) -> None:
        self._frames = frames
        self._here, self._there = interface.node, interface.peer_node
        self._link = interface.link.name
        self._socket = netns.run_inside(namespace, lambda: _packet_socket(interface.name, frames))
        self._ring = mmap.mmap(self._socket.fileno(), _FRAME * frames)
        self._next = 0

    def packets(self) -> Iterator[Packet]:
        """The IPv6 packets since the last call; RuntimeError if the ring was too small."""
        while True:
            at = self._next * _FRAME
            header = _FRAME_HEADER.unpack_from(self._ring, at)
            status, _length, kept, mac, _net, seconds, nanoseconds, tag = header
            if not status & _TP_STATUS_USER:
                break
            vlan = tag & 0xFFF if status & _TP_STATUS_VLAN_VALID else None
            protocol, _index, _type, kind = _ADDRESS.unpack_from(self._ring, at + _ADDRESS_AT)
            frame = self._ring[at + mac : at + mac + kept]
            struct.pack_into("=I", self._ring, at, 0)
            self._next = (self._next + 1) % self._frames
            if protocol != socket.htons(_ETH_P_IPV6):
                continue
            sender = self._here if kind == _OUTGOING else self._there
            packet = parse(frame[14:], self._link, sender, seconds + nanoseconds / 1e9, vlan)
            if packet is not None:
                yield packet
        _seen, lost = struct.unpack("=II", self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
        if lost:
            raise RuntimeError(
                f"the capture on {self._link} lost {lost} packets, use less traffic or fewer links"
            )

    def close(self) -> None:
        """Stops the capture."""
        self._ring.close()
        self._socket.close()


def _packet_socket(interface: str, frames: int) -> socket.socket:
    tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
    tap.setsockopt(_SOL_PACKET, _PACKET_VERSION, _TPACKET_V2)
    ring = struct.pack("=IIII", _BLOCK, _FRAME * frames // _BLOCK, _FRAME, frames)
    tap.setsockopt(_SOL_PACKET, _PACKET_RX_RING, ring)
    tap.bind((interface, _ETH_P_ALL))
    return tap


class Capture:
    """Captures on links of a lab (default: all links); a context manager."""

    def __init__(
        self, topology: Topology, namespace: Callable[[str], str], links: Iterable[Link] | None = None
    ) -> None:
        self._taps = []
        frames = _FRAMES if links is None else _MANY_FRAMES
        for link in topology.links if links is None else links:
            # The end at a router: at a host, its own programs would show in the capture.
            routers = [node for node in link.nodes if node in {r.name for r in topology.routers}]
            end = (routers or list(link.nodes))[0]
            self._taps.append(Tap(link.interface(end), namespace(end), frames))
        self._seen: list[Packet] = []

    def packets(self, wanted: Callable[[Packet], bool] = lambda _packet: True) -> list[Packet]:
        """All packets so far in time order, without neighbour discovery and the like."""
        for tap in self._taps:
            self._seen += (packet for packet in tap.packets() if not is_noise(packet))
        self._seen.sort(key=lambda packet: packet.time)
        return [packet for packet in self._seen if wanted(packet)]

    def settled(self, wanted: Callable[[Packet], bool] = lambda _packet: True) -> list[Packet]:
        """All packets, once no new ones arrive; VPP routers need some time."""
        end = time.monotonic() + _LONGEST_SETTLING
        known = -1
        while known != len(self.packets()) and time.monotonic() < end:
            known = len(self._seen)
            time.sleep(_QUIET)
        return self.packets(wanted)

    def forget(self) -> None:
        """Discards all packets so far, also those that are still on their way."""
        self.settled()
        self.clear()

    def clear(self) -> None:
        """Discards all packets so far."""
        self.packets()
        self._seen.clear()

    def close(self) -> None:
        """Stops all captures."""
        for tap in self._taps:
            tap.close()

    def __enter__(self) -> "Capture":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.close()
