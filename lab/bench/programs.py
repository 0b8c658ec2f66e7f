"""The time of a run of each program, from the kernel's statistics."""

import ctypes
import os
import re
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hawkwing.dataplane import bpf
from lab.bench.figures import Series, per_run
from lab.bench.traffic import Traffic
from lab.bench.ways import agents
from lab.network import Lab

_ENABLE_STATS = 32
_RUN_TIME = 0
_PROGRAM = re.compile(r"hawkwing:\S+ .*\bid (\d+)")
PROGRAMS = ("client egress", "client ingress", "server ingress", "server egress")
BULK, ACKNOWLEDGEMENTS, UDP, FOREIGN = "TCP bulk", "TCP acknowledgements", "UDP 64 B", "UDP 64 B, no path"
_HOST = {"client": "host-a", "server": "host-b"}


@contextmanager
def statistics() -> Iterator[None]:
    """Enables the kernel's run statistics until the descriptor is closed, without the sysctl."""
    request = ctypes.create_string_buffer(struct.pack("=I", _RUN_TIME), 4)
    fd = bpf._bpf(_ENABLE_STATS, request)
    try:
        yield
    finally:
        os.close(fd)


def attached(lab: Lab, node: str, direction: str) -> int:
    """The file descriptor of the agent's tc program on a host; the caller closes it."""
    shown = lab.execute(node, ["tc", "filter", "show", "dev", "eth0", direction]).stdout
    found = _PROGRAM.findall(shown)
    if len(found) != 1:
        raise RuntimeError(f"expected one HawkWing program on {node}'s {direction}: {shown.strip()}")
    return bpf.program_by_id(int(found[0]))


def reading(fd: int) -> tuple[int, int]:
    """(run time in nanoseconds, runs) of a program."""
    info = bpf.program_info(fd)
    return info.run_time, info.run_count


def hawkwing_programs(lab: Lab) -> dict[str, int]:
    """The file descriptors of the agents' four programs; the caller closes them."""
    found = {}
    for name in PROGRAMS:
        role, direction = name.split()
        found[name] = attached(lab, _HOST[role], direction)
    return found


def measure(lab: Lab, traffic: Traffic, seconds: float, datagrams: int, rounds: int) -> list[Series]:
    """A series per program; the variants are kinds of traffic."""
    series = {name: Series(name, "ns per run") for name in PROGRAMS}
    there, back = ("client egress", "server ingress"), ("server egress", "client ingress")

    def flood(foreign: bool, back: bool) -> Callable[[], object]:
        return lambda: traffic.flood(datagrams, foreign, back)

    # The traffic, and the columns of the programs that it measures.
    loads: list[tuple[Callable[[], object], dict[str, tuple[str, str]]]] = [
        (lambda: traffic.tcp(seconds), {BULK: there, ACKNOWLEDGEMENTS: back}),
        (flood(foreign=False, back=False), {UDP: there}),
        (flood(foreign=False, back=True), {UDP: back}),
        (flood(foreign=True, back=False), {FOREIGN: there}),
        (flood(foreign=True, back=True), {FOREIGN: back}),
    ]
    with agents(lab), statistics():
        traffic.ask_once()
        programs = hawkwing_programs(lab)
        try:
            for _ in range(rounds):
                for work, columns in loads:
                    before = {name: reading(fd) for name, fd in programs.items()}
                    work()
                    for kind, names in columns.items():
                        for name in names:
                            series[name].add(kind, per_run(before[name], reading(programs[name])))
        finally:
            for fd in programs.values():
                os.close(fd)
    return list(series.values())
