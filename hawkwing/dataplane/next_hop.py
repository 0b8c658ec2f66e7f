"""Properties of a path besides its SIDs: next hop of the first segment, and MTU (bpf/next_hop.h)."""

import mmap
import struct
from collections.abc import Iterator
from ipaddress import IPv6Address
from typing import NamedTuple

from hawkwing.dataplane.bpf import Map
from hawkwing.dataplane.layout import limits, structures

ASK = b"\xff" * 6
"""Instead of a link-layer address: the kernel does a look-up for each packet."""
_U32, _U64 = struct.Struct("=I"), struct.Struct("=Q")
CAME_FROM_THERE = 1 << 63
"""Set by the data plane in the value of a learned path: the agent has not looked for a route yet."""


class NextHop(NamedTuple):
    """Link-layer address, or ASK, and interface; 0: the packet's own interface."""

    link_layer: bytes
    link: int


def largest_index() -> int:
    """The largest interface index that the data plane supports for next hops."""
    return int((1 << (63 - limits()["HW_NEXT_HOP_BITS"])) - 1)


def pack(next_hop: NextHop | None) -> int:
    """`next_hop` of `struct policy`; 0 for None, and for an interface whose index is too large."""
    if next_hop is None or next_hop.link > largest_index():
        return 0
    return int(_U64.unpack(next_hop.link_layer + struct.pack("=H", next_hop.link))[0])


class PolicyNextHops:
    """Reads first segments, and writes next hops, through the memory mapping of the policy table.

    One word at a time: the data plane reads the old one or the new one, and may write the same policy.
    """

    def __init__(self, policies: Map) -> None:
        policy = structures()["policy"]
        self._stride = (policies.info.value_size + 7) // 8 * 8
        self._segment, self._next_hop = policy.first_segment.offset, policy.next_hop.offset
        self._length, self._path_mtu = policy.srh_length.offset, policy.path_mtu.offset
        self._source = policy.source.offset
        self._encapsulates = policy.encapsulates.offset
        self.slots = policies.info.max_entries
        self._memory = mmap.mmap(policies.fd, self._stride * self.slots)
        self._words = memoryview(self._memory).cast("Q")

    def first_segment(self, slot: int) -> bytes | None:
        """The first segment of the path in a slot; None if there is no path."""
        at = slot * self._stride
        if not any(self._memory[at + self._length : at + self._length + 4]):
            return None
        return self._memory[at + self._segment : at + self._segment + 16]

    def encapsulates(self, slot: int) -> bool:
        """Whether the path in a slot encapsulates."""
        at = slot * self._stride + self._encapsulates
        return any(self._memory[at : at + 4])

    def segments(self, first: int, count: int) -> Iterator[tuple[int, IPv6Address]]:
        """Slot and first segment of the paths in a number of slots."""
        for slot in range(first, min(first + count, self.slots)):
            segment = self.first_segment(slot)
            if segment is not None:
                yield slot, IPv6Address(segment)

    def snapshot(self) -> tuple[bytes, ...]:
        """Length, first segment and next hop of all paths, to find later changes."""
        step = self._stride // 8
        places = (self._length, self._segment, self._segment + 8, self._next_hop)
        return tuple(self._words[at // 8 :: step].tobytes() for at in places)

    def value(self, slot: int) -> int:
        """The current value, see `pack`."""
        return self._words[(slot * self._stride + self._next_hop) // 8]

    def write(self, slot: int, value: int) -> None:
        """Writes a value, see `pack`."""
        self._words[(slot * self._stride + self._next_hop) // 8] = value

    def learned_slots(self) -> list[int]:
        """The slots that the data plane uses for learned paths."""
        with memoryview(self._memory) as octets, octets.cast("I") as words:
            sources = words[self._source // 4 :: self._stride // 4].tolist()
        return [slot for slot, source in enumerate(sources) if source]

    def forget_path_mtus(self) -> None:
        """Clears the path MTUs that routers have reported: they may have grown (RFC 8201, section 4)."""
        step, at = self._stride // 4, self._path_mtu // 4
        with memoryview(self._memory) as octets, octets.cast("I") as words:
            for slot, value in enumerate(words[at::step].tolist()):
                if value:
                    words[slot * step + at] = 0

    def length(self, slot: int) -> bytes:
        """The length of the path's SRH, as in the policy."""
        at = slot * self._stride + self._length
        return self._memory[at : at + 4]

    def set_length(self, slot: int, length: bytes) -> None:
        """Sets it; with 0, packets are sent without an SRH."""
        with memoryview(self._memory) as octets, octets.cast("I") as words:
            (words[(slot * self._stride + self._length) // 4],) = _U32.unpack(length)

    def close(self) -> None:
        """Unmaps it."""
        self._words.release()
        self._memory.close()
