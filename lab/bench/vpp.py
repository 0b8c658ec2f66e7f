"""Compares VPP routers with Linux routers: start-up time, memory, idle load and throughput."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from lab.bench.figures import Series
from lab.bench.lifecycle import resident
from lab.bench.machine import cores
from lab.bench.traffic import Traffic
from lab.network import Lab
from lab.record import RouterName
from lab.vpp.installation import VppMissingError, find

KERNEL, VPP = "kernel", "VPP"
ROUTERS = (KERNEL, VPP)
_NAMES: dict[str, RouterName] = {KERNEL: "linux", VPP: "vpp"}
_SETTLED, _IDLE = 2.0, 5.0


def version() -> str | None:
    """The version of the installed VPP; None if there is none."""
    try:
        return find().version()
    except VppMissingError:
        return None


def measure(seconds: float, rounds: int) -> list[Series]:
    """Measures labs of both kinds in turn; the throughput is measured for `seconds`."""
    up = Series("until lab.up is done", "s")
    memory = Series("resident memory of the largest instance", "MB")
    idle = Series("processor time of all nine, idle", "cores")
    throughput = Series("TCP, 1 stream, unsteered", "Gbit/s")
    for number in range(rounds):
        for name in ROUTERS if number % 2 == 0 else ROUTERS[::-1]:
            with _lab(name, up) as lab:
                if name == VPP:
                    instances = _instances(lab)
                    # This waits for nothing: memory and processor time are measured at this time.
                    time.sleep(_SETTLED)
                    memory.add(VPP, max(map(resident, instances)))
                    idle.add(VPP, cores(instances, _IDLE))
                traffic = Traffic(lab)
                try:
                    throughput.add(name, traffic.tcp(seconds))
                finally:
                    traffic.close()
    return [up, memory, idle, throughput]


@contextmanager
def _lab(name: str, up: Series) -> Iterator[Lab]:
    """A lab with these routers, removed afterwards without leftovers."""
    lab = Lab(f"bench-{_NAMES[name]}-{os.getpid()}", routers=_NAMES[name])
    try:
        begun = time.perf_counter()
        lab.up()
        up.add(name, time.perf_counter() - begun)
        yield lab
    finally:
        lab.down()
    left = lab.remains()
    if left:
        raise RuntimeError(f"lab {lab.name} was removed, but left over: {', '.join(left)}")


def _instances(lab: Lab) -> list[int]:
    processes = lab.processes()
    return [processes[router.name] for router in lab.topology.routers]
