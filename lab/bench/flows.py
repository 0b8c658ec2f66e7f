"""Compares a server with a million learned flows to one with a thousand.

Both tables have room for a million. The data plane learns the flows from received packets. Then packets of
random flows are sent and received, with one test run each (BPF_PROG_TEST_RUN).
"""

import ctypes
import os
import random
import struct
from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv6Address

from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrSegmentRouting
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from hawkwing.dataplane import bpf
from hawkwing.dataplane.loader import Capacities, Loading
from hawkwing.dataplane.plane import DataPlane
from hawkwing.sids import wire_order
from lab.bench.figures import Series, per_run
from lab.bench.programs import reading, statistics
from lab.bench.reads import Reads
from lab.bench.traffic import DATAGRAM

FEW, MANY = 1000, 1_000_000
_PATHS = 1000
_CHUNK = 500
_TEST_RUN = 10
_LOCAL, _REMOTE = IPv6Address("fcbb:cc00:2::a"), IPv6Address("2001:db8:f00d::")
_LOCAL_PORT, _REMOTE_PORT = 5201, 40000
_ETHERNET = Ether(src="00:00:00:00:00:00", dst="00:00:00:00:00:00")
_DESTINATION_PREFIX, _SOURCE_PREFIX = 42, 26


def _datagram(sport: int, dport: int) -> Packet:
    # Addresses are set later, so no checksum holds; 0 would be none.
    return UDP(sport=sport, dport=dport, chksum=1) / bytes(DATAGRAM)


def leaving() -> bytes:
    """A datagram to a client; the second half of its /64 prefix is set later."""
    ends = IPv6(src=str(_LOCAL), dst=str(_REMOTE))
    return bytes(_ETHERNET / ends / _datagram(_LOCAL_PORT, _REMOTE_PORT))


def arriving(sids: Sequence[IPv6Address]) -> bytes:
    """A datagram from a client with its SRH; the second half of its /64 prefix is set later."""
    listed = [str(_LOCAL), *map(str, wire_order(sids))]
    ends = IPv6(src=str(_REMOTE), dst=str(_LOCAL)) / IPv6ExtHdrSegmentRouting(addresses=listed, segleft=0)
    return bytes(_ETHERNET / ends / _datagram(_REMOTE_PORT, _LOCAL_PORT))


class _Runner:
    """Runs a program on a frame; only the client's prefix, and with it the first SID, changes.

    Each flow has its own /64, because the flows of a /64 share the limits of one source.
    """

    def __init__(self, fd: int, frame: bytes, address_at: int, path_at: int = 0) -> None:
        self.fd = fd
        self._address_at, self._path_at = address_at, path_at
        self._frame = ctypes.create_string_buffer(frame, len(frame))
        request = struct.pack("=IIIIQQ40x", fd, 0, len(frame), 0, ctypes.addressof(self._frame), 0)
        self._request = ctypes.create_string_buffer(request, len(request))

    def __call__(self, numbers: Iterable[int]) -> tuple[int, int]:
        """(run time, runs) for packets of the flows with these numbers."""
        frame, request = self._frame, self._request
        before = reading(self.fd)
        for number in numbers:
            struct.pack_into("!I", frame, self._address_at, number)
            if self._path_at:
                struct.pack_into("!H", frame, self._path_at, number % _PATHS)
            # The kernel writes the packet's new size here, also if there is no room for it.
            struct.pack_into("=I", request, 12, 0)
            bpf._bpf(_TEST_RUN, request)
        after = reading(self.fd)
        return after[0] - before[0], after[1] - before[1]


class _Server:
    """A data plane with many learned flows; `known` is how many it kept."""

    def __init__(self, count: int, sids: Sequence[IPv6Address]) -> None:
        self.count = count
        loading = Loading("server", Capacities(flows=MANY))
        try:
            self._plane = DataPlane("server", loading.result())
        finally:
            loading.abandon()
        self._plane.set_local_addresses([_LOCAL])
        programs = self._plane.programs
        first_sid = 14 + 40 + 8 + 16 * len(sids)
        frame = arriving(sids)
        self.ingress = _Runner(programs["ingress_ethernet"], frame, _SOURCE_PREFIX, first_sid + 14)
        self.egress = _Runner(programs["egress_ethernet"], leaving(), _DESTINATION_PREFIX)
        self.learning = per_run((0, 0), self.ingress(range(count)))
        assert self._plane.flows is not None
        self.known = len(self._plane.flows)

    def close(self) -> None:
        """Unloads the data plane."""
        assert self._plane.flows is not None
        self._plane.flows.close()
        for fd in self._plane.programs.values():
            os.close(fd)
        for table in self._plane.maps.values():
            table.close()


def name(count: int) -> str:
    """The title of a column."""
    return f"{count:,} flows"


def measure(sids: Sequence[IPv6Address], packets: int, rounds: int) -> tuple[list[Series], dict[str, int]]:
    """Nanoseconds per run for random known flows and for new ones; and how many flows were kept."""
    leave = Series("server egress, UDP 64 B of any flow", "ns per run")
    arrive = Series("server ingress, UDP 64 B of any flow", "ns per run")
    new = Series("server ingress, first datagram of a flow", "ns per run")
    alone = Series("one read from as much memory", "ns")
    servers: list[_Server] = []
    buckets = Capacities(flows=MANY).buckets
    reads = Reads(buckets, FEW, buckets)
    try:
        with statistics():
            for count in (FEW, MANY):
                servers.append(_Server(count, sids))
                new.add(name(count), servers[-1].learning)
            chance = random.Random(1)
            for _ in range(rounds):
                _round(servers, leave, lambda server: server.egress, packets, chance)
                _round(servers, arrive, lambda server: server.ingress, packets, chance)
                alone.add(name(FEW), reads.nanoseconds(FEW))
                alone.add(name(MANY), reads.nanoseconds(buckets))
        return [leave, arrive, alone, new], {name(server.count): server.known for server in servers}
    finally:
        reads.close()
        for server in servers:
            server.close()


def _round(
    servers: Sequence[_Server],
    series: Series,
    program: Callable[[_Server], _Runner],
    packets: int,
    chance: random.Random,
) -> None:
    """One round: the servers take turns."""
    spent = {server.count: (0, 0) for server in servers}
    for _ in range(0, packets, _CHUNK):
        for server in servers:
            time, runs = program(server)([chance.randrange(server.count) for _ in range(_CHUNK)])
            spent[server.count] = spent[server.count][0] + time, spent[server.count][1] + runs
    for server in servers:
        series.add(name(server.count), per_run((0, 0), spent[server.count]))
