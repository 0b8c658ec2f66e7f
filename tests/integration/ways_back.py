"""Ways back of their own on the wire: what a packet tells, and which way its answer takes."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address

import pytest
from scapy.layers.inet import UDP
from scapy.layers.inet6 import HBHOptUnknown, IPv6ExtHdrDestOpt, IPv6ExtHdrSegmentRouting
from scapy.packet import Packet

from lab.network import Lab
from lab.packets import path
from lab.wait import patient
from lab.wire import Capture, udp_port

from .conftest import Endpoint, said
from .onwire import (
    LOWER_WAY_BACK,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    UPPER_WAY,
    UPPER_WAY_BACK,
    B,
    Expected,
)

TCP_NUMBER, UDP_NUMBER, ICMPV6 = 6, 17, 58
OPTION, TAG = 0x1E, 0x4858
AT_ONCE = 3
PORT = 5000
THERE, BACK, REVERSE = [R1, R2, R4, R6], [R6, R5, R3, R1], [R6, R4, R2, R1]
LOWER_LINKS = [link for link, _destination, _left in LOWER_WAY_BACK]
UPPER_LINKS = [link for link, _destination, _left in UPPER_WAY_BACK]
HOOKS = pytest.mark.parametrize("hook", ["tc", "xdp-generic"])


def listed(sids: Sequence[str]) -> str:
    return "[" + ", ".join(f"'{sid}'" for sid in sids) + "]"


def config(
    back: Sequence[str] = BACK,
    there: Sequence[str] = THERE,
    ports: Sequence[int] = (80, PORT),
    more: str = "",
) -> str:
    """TCP and UDP to host-b over these SIDs, and the way back; empty: none is told."""
    told = f", return_sid: {listed(back)}" if back else ""
    text = f"services:\n  b:\n    ipv6_addresses: ['{B}']\n    applications:\n"
    return text + "".join(f"      - {{port: {port}, sid: {listed(there)}{told}}}\n" for port in ports) + more


def option(back: Sequence[str] = BACK) -> Packet:
    """The Destination Options header that tells this way back."""
    sids = b"".join(IPv6Address(sid).packed for sid in reversed(back))
    data = b"HW" + bytes([1, len(back)]) + sids
    return IPv6ExtHdrDestOpt(autopad=0, options=[HBHOptUnknown(otype=OPTION, optdata=data)])


def way_told(packet: Packet) -> list[str]:
    """The way back that a packet tells, in travel order; empty if it has no option."""
    header = packet.getlayer(IPv6ExtHdrDestOpt)
    if header is None:
        return []
    (one,) = header.options
    data = bytes(one.optdata)
    assert one.otype == OPTION and data[:3] == b"HW\1" and len(data) == 4 + 16 * data[3], packet
    sids = [str(IPv6Address(data[at : at + 16])) for at in range(4, len(data), 16)]
    return sids[::-1]


def tag(packet: Packet) -> int:
    return int(packet[IPv6ExtHdrSegmentRouting].tag)


def tagged(expected: list[Expected]) -> list[Expected]:
    """With the tag of replies over a way back that was told."""
    for _link, pattern in expected:
        pattern[IPv6ExtHdrSegmentRouting].tag = TAG
    return expected


def counters(lab: Lab, host: str, direction: str) -> dict[str, int]:
    """The packets counted by a host's agent, by reason."""
    (agent,) = json.loads(said(lab, "status", "--json", host=host))
    found = agent["counters"][direction].items()
    return {reason: one["packets"] for reason, one in found if reason != "NO_ROUTING_HEADER"}


def fetch(lab: Lab, size: int) -> None:
    """So many bytes over HTTP from host-b."""
    curl = ["curl", "-sS", "-m", f"{patient(5):g}", "-o", "/dev/null", "-w", "%{size_download}"]
    assert lab.execute("host-a", [*curl, f"http://[{B}]/bytes/{size}"]).stdout == str(size)


@dataclass(frozen=True)
class Seen:
    """A datagram and its answer."""

    told: list[str]
    """The way back that the datagram told; empty if it told none."""
    back: list[str]
    """The SIDs of the answer; empty if it had no SRH."""
    tag: int
    links: list[str]
    """Those that the answer crossed."""


OVER_LOWER = (BACK, TAG, LOWER_LINKS)
OVER_UPPER = (REVERSE, 0, UPPER_LINKS)


def way(seen: Seen) -> tuple[list[str], int, list[str]]:
    """That of the answer."""
    return seen.back, seen.tag, seen.links


def exchange(capture: Capture, near: Endpoint, far: Endpoint) -> Seen:
    """A datagram and its answer: all links agree."""
    capture.forget()
    near.socket.sendto(b"ping", (B, PORT))
    data, peer = far.socket.recvfrom(100)
    assert data == b"ping"
    far.socket.sendto(b"pong", peer)
    assert near.socket.recv(100) == b"pong"
    packets = [
        one for one in capture.settled(udp_port(PORT)) if near.port in (one[UDP].sport, one[UDP].dport)
    ]
    pings = [packet for packet in packets if packet[UDP].dport == PORT]
    pongs = [packet for packet in packets if packet[UDP].sport == PORT]
    assert [packet.link for packet in pings] == [link for link, _destination, _left in UPPER_WAY]
    (told,) = {tuple(way_told(packet)) for packet in pings}
    assert not any(way_told(packet) for packet in pongs)
    (back,) = {tuple(path(packet)) for packet in pongs}
    (number,) = {tag(packet) if back else 0 for packet in pongs}
    return Seen(list(told), list(back), number, [packet.link for packet in pongs])


def settle(capture: Capture, near: Endpoint, far: Endpoint) -> None:
    """The first packets of this flow have told the way back."""
    for _ in range(AT_ONCE):
        assert exchange(capture, near, far).told
