"""Checks with ICMPv6 echo requests whether all hosts reach each other.

Eight bytes of a raw socket: importing scapy would take a tenth of the time of `lab.up`.
"""

import select
import socket
import struct
import time
from collections.abc import Callable
from ipaddress import IPv6Address

from lab import netns
from lab.topology import Topology

_ECHO_REQUEST, _ECHO_REPLY = 128, 129
_AGAIN = 0.05


def unreachable(topology: Topology, namespace: Callable[[str], str], timeout: float) -> list[tuple[str, str]]:
    """Pairs (from, to) of hosts without a reply after `timeout` seconds; empty if there are none."""
    sockets = {
        host.name: netns.run_inside(
            namespace(host.name),
            lambda: socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6),
        )
        for host in topology.hosts
    }
    names = {host.address: host.name for host in topology.hosts}
    missing = {(a.name, b.name) for a in topology.hosts for b in topology.hosts if a is not b}
    request = struct.pack("!BBHHH", _ECHO_REQUEST, 0, 0, 0x4857, 1)
    end = time.monotonic() + timeout
    try:
        while missing and time.monotonic() < end:
            for source, destination in missing:
                try:
                    sockets[source].sendto(request, (str(topology.host(destination).address), 0))
                except OSError:
                    continue
            again = time.monotonic() + _AGAIN
            while missing and (left := again - time.monotonic()) > 0:
                ready, _w, _x = select.select(sockets.values(), [], [], left)
                for answered in ready:
                    data, peer = answered.recvfrom(256)
                    source = next(name for name, opened in sockets.items() if opened is answered)
                    if data[0] == _ECHO_REPLY:
                        missing.discard((source, names.get(IPv6Address(peer[0]), "")))
    finally:
        for opened in sockets.values():
            opened.close()
    return sorted(missing)
