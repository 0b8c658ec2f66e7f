"""Who takes part in the tests, and what their tables hold."""

import struct
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Any

from hawkwing.dataplane.layout import structures
from tests.dataplane import packets as p
from tests.dataplane.bench import Bench

HOST_A = IPv6Address("fcbb:cc00:1::a")
HOST_B = IPv6Address("fcbb:cc00:2::a")
HOST_C = IPv6Address("fcbb:cc00:3::a")
OWN_IPV4 = IPv6Address("::ffff:192.0.2.1")
DNS = IPv6Address("fcbb:cc00:4::f")
ROUTER = IPv6Address("2001:db8:a1::1")
SIDS = [IPv6Address(f"fcbb:bb00:{number:x}::2") for number in range(1, 16)]
NOWHERE = [SIDS[6], SIDS[3], SIDS[11]]
GROUP = 7
NAME = "wb.hawk.net"
LOCAL_PORT = 40000
STEERED, PATHLESS, UNKNOWN, COUNTED = 80, 81, 82, 5000
"""Port 80 has two SIDs, 81 no path at present, 82 is not configured or learned, 5000 + k has k SIDs."""


@dataclass
class Host:
    """The host under test, `here`, and its peer, `there`; packets go from one to the other."""

    bench: Bench
    here: IPv6Address
    there: IPv6Address

    @property
    def unknown(self) -> str:
        """The reason for a port without a path."""
        return "NO_APPLICATION" if self.bench.role == "client" else "NO_FLOW"

    def slot(self, count: int) -> int:
        """The slot of the path with so many SIDs."""
        return 10 + count if self.bench.role == "client" else self.bench.slot(SIDS[:count])

    def udp(self, port: int = STEERED, data: bytes = b"hello") -> bytes:
        """A datagram to the peer's port."""
        return p.udp(self.here, self.there, LOCAL_PORT, port, data)

    def tcp(self, port: int = STEERED, data: bytes = b"", **fields: Any) -> bytes:
        """A segment to the peer's port."""
        return p.tcp(self.here, self.there, LOCAL_PORT, port, data, **fields)

    def out(self, next_header: int, payload: bytes, **fields: Any) -> bytes:
        """A frame that leaves."""
        return p.ipv6(self.here, self.there, next_header, payload, **fields)

    def arrived(self, next_header: int, payload: bytes, **fields: Any) -> bytes:
        """A frame that arrives."""
        return p.ipv6(self.there, self.here, next_header, payload, **fields)


def fill_client(bench: Bench) -> None:
    """Host A as a client of host B, which is a service and has a name."""
    bench.reset()
    bench.local(HOST_A, OWN_IPV4)
    bench.plane.add_service(HOST_B, GROUP)
    bench.name(NAME, GROUP)
    for protocol in (p.TCP, p.UDP):
        bench.route(GROUP, protocol, STEERED, 1, SIDS[:2])
        bench.route(GROUP, protocol, PATHLESS, 2, [])
        for count in range(1, len(SIDS) + 1):
            bench.route(GROUP, protocol, COUNTED + count, 10 + count, SIDS[:count])


def fill_server(bench: Bench) -> None:
    """Host B as a server that has learned nothing and believes everyone."""
    bench.reset()
    bench.local(HOST_B)


def fill_flows(bench: Bench) -> None:
    """Gives host B flows of host A with the same ports and paths that the client's routes have."""
    for protocol in (p.TCP, p.UDP):
        ends = (HOST_A, HOST_B, protocol)
        bench.learn(*ends, STEERED, LOCAL_PORT, SIDS[:2])
        bench.learn(*ends, PATHLESS, LOCAL_PORT, NOWHERE)
        for count in range(1, len(SIDS) + 1):
            bench.learn(*ends, COUNTED + count, LOCAL_PORT, SIDS[:count])
    # Empty, but for whose path it was.
    slot, policies = struct.pack("=I", bench.slot(NOWHERE)), bench.plane.maps["policies"]
    emptied = structures()["policy"].from_buffer_copy(policies.get(slot) or b"")
    emptied.srh_length = 0
    policies.set(slot, bytes(emptied))
