"""Does a server with a million learned flows take longer for a packet than one with a thousand?"""

import os
import random
import struct
from collections.abc import Iterator, Sequence
from ipaddress import IPv6Address

from hawkwing.dataplane import bpf
from hawkwing.dataplane.loader import Capacities, Loading
from hawkwing.dataplane.plane import DataPlane, policy_bytes
from lab.bench.figures import Series, per_run
from lab.bench.programs import reading, statistics

CAPACITY = 1 << 20
FEW, MANY = 1000, 1_000_000
_SLOTS = 1000
_BATCH = 20_000
_CHUNK = 500
_UDP = 17
_LOCAL = IPv6Address("fcbb:cc00:2::a").packed
_LOCAL_PORT, _REMOTE_PORT = 5201, 40000
_REMOTE = IPv6Address("2001:db8:f00d::").packed[:8]
_U32 = struct.Struct("=I")
_TAIL = _LOCAL + struct.pack("!HHBxxx", _REMOTE_PORT, _LOCAL_PORT, _UDP)


def flow_key(number: int) -> bytes:
    """`struct flow_key` of the flow with this number: the remote addresses differ."""
    return _REMOTE + number.to_bytes(8, "big") + _TAIL


def packet(number: int) -> bytes:
    """A datagram of that flow as it leaves the server, 64 bytes of data."""
    udp = struct.pack("!HHHH", _LOCAL_PORT, _REMOTE_PORT, 72, 1) + bytes(64)
    header = struct.pack("!IHBB", 0x60000000, len(udp), _UDP, 64)
    return bytes(12) + b"\x86\xdd" + header + _LOCAL + _REMOTE + number.to_bytes(8, "big") + udp


def _fill(plane: DataPlane, count: int, sids: Sequence[IPv6Address]) -> None:
    policies = [policy_bytes(sids, list_hash=number + 1) for number in range(_SLOTS)]
    plane.maps["policies"].set_many([_U32.pack(slot + 1) for slot in range(_SLOTS)], policies)
    for start in range(0, count, _BATCH):
        numbers = range(start, min(start + _BATCH, count))
        values = [_U32.pack(number % _SLOTS + 1) for number in numbers]
        plane.maps["flows"].set_many([flow_key(number) for number in numbers], values)


def _planes(sids: Sequence[IPv6Address]) -> Iterator[tuple[int, DataPlane]]:
    for count in (FEW, MANY):
        loading = Loading("server", Capacities(flows=CAPACITY))
        try:
            plane = DataPlane("server", loading.result())
        finally:
            loading.abandon()
        _fill(plane, count, sids)
        yield count, plane


def measure(sids: Sequence[IPv6Address], packets: int, rounds: int) -> Series:
    """Nanoseconds a run of the server's egress for packets of flows taken at random."""
    series = Series("server egress, UDP 64 B of a random flow", "ns a run")
    chance = random.Random(1)
    planes = dict(_planes(sids))
    try:
        for count, plane in planes.items():
            number = count - 1
            out = bpf.test_run(plane.programs["egress_ethernet"], packet(number)).packet
            if len(out) != len(packet(number)) + 8 + 16 * (len(sids) + 1):
                raise RuntimeError(f"with {count} learned flows a packet of one of them is not steered")
        with statistics():
            for _ in range(rounds):
                spent = dict.fromkeys(planes, (0, 0))
                for _chunk in range(0, packets, _CHUNK):
                    for count, plane in planes.items():
                        spent[count] = _add(spent[count], _run(plane, count, chance))
                for count, total in spent.items():
                    series.add(f"{count} flows", per_run((0, 0), total))
    finally:
        for plane in planes.values():
            for fd in plane.programs.values():
                os.close(fd)
            for table in plane.maps.values():
                table.close()
    return series


def _run(plane: DataPlane, count: int, chance: random.Random) -> tuple[int, int]:
    fd = plane.programs["egress_ethernet"]
    chosen = [packet(chance.randrange(count)) for _ in range(_CHUNK)]
    before = reading(fd)
    for one in chosen:
        bpf.test_run(fd, one)
    after = reading(fd)
    return after[0] - before[0], after[1] - before[1]


def _add(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    return one[0] + other[0], one[1] + other[1]
