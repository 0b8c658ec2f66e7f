"""Captured packets as scapy packets, compared byte for byte with expected ones.

A pattern is a scapy packet from its IPv6 header on, such as `IPv6(src=A, dst=R1) /
IPv6ExtHdrSegmentRouting(addresses=[B, R2, R1], segleft=2) / TCP(dport=80)`. Values that the sender chooses,
and the pattern leaves open, are taken from the capture: flow label and hop limit, a fragment's
identification, the fields of the transport header, and its payload. Scapy builds everything else from the
pattern, in particular the SRH and all lengths and checksums.
"""

from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

from scapy.layers.inet import TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment, IPv6ExtHdrSegmentRouting, in6_pseudoheader
from scapy.layers.l2 import Ether
from scapy.packet import NoPayload, Packet, Raw
from scapy.utils import checksum

_CHOSEN = {
    IPv6: ("tc", "fl", "hlim"),
    IPv6ExtHdrFragment: ("id",),
    UDP: ("sport", "dport"),
    TCP: ("sport", "dport", "seq", "ack", "reserved", "flags", "window", "urgptr", "options"),
}
_NUMBERS = {TCP: 6, UDP: 17}


class Captured(Ether):  # type: ignore[misc]
    """A captured frame, `Ether / [Dot1Q /] IPv6 / ...`; `time` in seconds, as all scapy packets have it.

    `link` is the link's name in the topology and `sender` the node that sent the frame. `length` is the
    original length, the capture may have less. `unfinished`: the device would complete the transport
    checksum.
    """

    __slots__ = ["length", "link", "sender", "unfinished"]
    name = "Ethernet"
    match_subclass = True

    def __str__(self) -> str:
        return f"{self.link}: {shown(self)}"


def shown(packet: Packet) -> str:
    """In the notation of RFC 8754: IPv6(source, destination) SRH(last segment, ..., first; SL=left) TCP."""
    return " ".join(_shown(layer) for layer in layers(packet) if not isinstance(layer, Ether))


def _shown(layer: Packet) -> str:
    if isinstance(layer, IPv6):
        return f"IPv6({layer.src}, {layer.dst})"
    if isinstance(layer, IPv6ExtHdrSegmentRouting):
        return f"SRH({', '.join(layer.addresses)}; SL={layer.segleft})"
    if isinstance(layer, TCP | UDP):
        return f"{layer.name}({layer.sport}, {layer.dport})"
    return str(layer.name)


def layers(packet: Packet) -> Iterator[Packet]:
    """A packet's layers, including the payload of the last one."""
    while not isinstance(packet, NoPayload):
        yield packet
        packet = packet.payload


def segments(packet: Packet) -> list[str]:
    """The segment list as on the wire, the last segment first; empty without an SRH."""
    return list(packet[IPv6ExtHdrSegmentRouting].addresses) if IPv6ExtHdrSegmentRouting in packet else []


def path(packet: Packet) -> list[str]:
    """The SIDs in travel order; empty without an SRH."""
    return segments(packet)[:0:-1]


def segments_left(packet: Packet) -> int | None:
    """Segments left; None without an SRH."""
    found = packet.getlayer(IPv6ExtHdrSegmentRouting)
    return None if found is None else int(found.segleft)


def completed(pattern: Packet, captured: Captured) -> Packet:
    """The expected packet of a pattern, with open values from the capture."""
    whole = pattern.copy()
    seen = captured[IPv6]
    for layer in layers(whole):
        if type(seen) is type(layer):
            for name in _CHOSEN.get(type(layer), ()):
                if name not in layer.fields:
                    layer.setfieldval(name, seen.getfieldval(name))
            if type(layer) in _NUMBERS and isinstance(layer.payload, NoPayload) and seen.payload:
                layer.add_payload(Raw(seen.payload.original))
                break
        seen = seen.payload
    if captured.unfinished:
        _unfinish(whole)
    return whole


def _unfinish(packet: Packet) -> None:
    """The checksum before completion by a device: the sum of the pseudo-header only."""
    for kind, number in _NUMBERS.items():
        if kind in packet and "chksum" not in packet[kind].fields:
            header = in6_pseudoheader(number, packet[kind], len(packet[kind]))
            packet[kind].chksum = ~checksum(bytes(header)) & 0xFFFF


def assert_packet(captured: Captured, pattern: Packet) -> None:
    """Asserts that the captured packet matches the pattern, byte for byte."""
    whole = completed(pattern, captured)
    got = captured[IPv6].original
    if captured.length - (len(captured.original) - len(got)) > len(got):
        raise AssertionError(f"{captured}: {captured.length} bytes were sent, the capture has fewer")
    if told := difference(got, bytes(whole), IPv6):
        raise AssertionError(f"on {captured.link}, sent by {captured.sender}:\n{told}")


def assert_same(got: bytes, expected: bytes, first: type[Packet] = Ether) -> None:
    """Asserts that two packets are equal, byte for byte; `first` is their outermost layer."""
    if told := difference(got, expected, first):
        raise AssertionError(told)


def difference(got: bytes, expected: bytes, first: type[Packet] = Ether) -> str:
    """The differences of a packet from the expected one, layer by layer; empty if there are none."""
    if got == expected:
        return ""
    mine, theirs = first(got), first(expected)
    lines = [f"got      {shown(mine)}", f"expected {shown(theirs)}"]
    for one, other in zip_longest(layers(mine), layers(theirs)):
        lines += _layer_difference(one, other)
    unlike = (at for at, (one, other) in enumerate(zip(got, expected, strict=False)) if one != other)
    at = next(unlike, min(len(got), len(expected)))
    lines.append(f"{len(got)} bytes, expected {len(expected)}; from byte {at} on:")
    lines += [f"  got      {got[at : at + 16].hex(' ')}", f"  expected {expected[at : at + 16].hex(' ')}"]
    return "\n".join(lines)


def _layer_difference(got: Packet | None, expected: Packet | None) -> Iterator[str]:
    if got is None or expected is None:
        here, there = ("nothing" if one is None else one.name for one in (got, expected))
        yield f"  {here}, expected {there}"
    elif type(got) is not type(expected):
        yield f"  {got.name}, expected {expected.name}"
    else:
        names = [field.name for field in got.fields_desc]
        wrong = [name for name in names if _raw(got, name) != _raw(expected, name)]
        yield f"  {got.name}: {'' if wrong else 'the same'}".rstrip()
        for name in wrong:
            yield f"    {name}: {_value(got, name)}, expected {_value(expected, name)}"


def _raw(layer: Packet, name: str) -> Any:
    value = layer.getfieldval(name)
    return (
        [bytes(one) if isinstance(one, Packet) else one for one in value]
        if isinstance(value, list)
        else value
    )


def _value(layer: Packet, name: str) -> str:
    text = str(layer.get_field(name).i2repr(layer, layer.getfieldval(name)))
    return text if len(text) <= 100 else f"{text[:100]}..."
