"""Compares the ingress hooks: tc, native XDP, generic XDP."""

import os
import re
from collections.abc import Callable

from hawkwing.dataplane import bpf
from lab.bench.figures import Series
from lab.bench.programs import attached, reading, statistics
from lab.bench.traffic import Traffic
from lab.bench.ways import agents
from lab.network import Lab

HOOKS = ("tc", "xdp", "xdp-generic")
_XDP = re.compile(r"prog/xdp id (\d+)")


def measure(lab: Lab, traffic: Traffic, seconds: float, datagrams: int, rounds: int) -> list[Series]:
    """Measures both agents on each hook in turn, with statistics enabled."""
    tcp = Series("TCP, 1 stream", "Gbit/s")
    arrived = Series("UDP 64 B, received", "1000/s")
    cost = Series("server's programs, UDP 64 B", "ns per datagram")
    with statistics():
        for _ in range(rounds):
            for hook in HOOKS:
                with agents(lab, "--ingress-hook", hook):
                    tcp.add(hook, traffic.tcp(seconds))
                    arrived.add(hook, traffic.udp(seconds).arrived / 1000)
                    traffic.ask_once()
                    cost.add(hook, _cost(lab, traffic, lambda: traffic.flood(datagrams)))
    return [tcp, arrived, cost]


def _cost(lab: Lab, traffic: Traffic, work: Callable[[], None]) -> float:
    """Time of the server's XDP program and of the tc program after it, per received packet."""
    programs = [attached(lab, "host-b", "ingress")]
    shown = lab.execute("host-b", ["ip", "-details", "link", "show", "eth0"]).stdout
    programs += [bpf.program_by_id(int(number)) for number in _XDP.findall(shown)]
    try:
        before = sum(reading(fd)[0] for fd in programs)
        packets = traffic.arrived()
        work()
        return (sum(reading(fd)[0] for fd in programs) - before) / max(traffic.arrived() - packets, 1)
    finally:
        for fd in programs:
            os.close(fd)
