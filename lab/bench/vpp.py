"""What routers made of VPP cost beside the kernel's: until they are up, in memory, idle and under load."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lab.bench.figures import Series
from lab.bench.lifecycle import resident
from lab.bench.traffic import Traffic
from lab.network import Lab
from lab.record import RouterName
from lab.vpp.installation import VppMissingError, find

KERNEL, VPP = "kernel", "VPP"
ROUTERS = (KERNEL, VPP)
_NAMES: dict[str, RouterName] = {KERNEL: "linux", VPP: "vpp"}
_SETTLED, _IDLE = 2.0, 5.0
_TICKS = os.sysconf("SC_CLK_TCK")


def version() -> str | None:
    """That of the VPP found here; None where there is none that runs."""
    try:
        return find().version()
    except VppMissingError:
        return None


def measure(seconds: float, rounds: int) -> list[Series]:
    """Labs of both kinds in turn, one at a time; the throughput is that of a turn of `seconds`."""
    up = Series("until lab.up is done", "s")
    memory = Series("resident memory of the largest instance", "MB")
    idle = Series("processor time of all nine, idle", "cores")
    throughput = Series("TCP, 1 stream, unsteered", "Gbit/s")
    for number in range(rounds):
        for name in ROUTERS if number % 2 == 0 else ROUTERS[::-1]:
            with _lab(name, up) as lab:
                if name == VPP:
                    instances = _instances(lab)
                    # Not a wait for something: memory and processor time are taken as they are then.
                    time.sleep(_SETTLED)
                    memory.add(VPP, max(map(resident, instances)))
                    idle.add(VPP, _cores(instances, _IDLE))
                traffic = Traffic(lab)
                try:
                    throughput.add(name, traffic.tcp(seconds))
                finally:
                    traffic.close()
    return [up, memory, idle, throughput]


@contextmanager
def _lab(name: str, up: Series) -> Iterator[Lab]:
    """A lab with these routers; nothing of it may be left afterwards."""
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
        raise RuntimeError(f"lab {lab.name} is down, but still there: {', '.join(left)}")


def _instances(lab: Lab) -> list[int]:
    processes = lab.processes()
    return [processes[router.name] for router in lab.topology.routers]


def processor_seconds(pid: int) -> float:
    """What a process has used so far, in user space and in the kernel."""
    # The name before the last ")" may hold anything; utime and stime are fields 14 and 15.
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _cores(pids: Sequence[int], seconds: float) -> float:
    """How many cores the processes keep busy together, over so many seconds."""
    before, begun = sum(map(processor_seconds, pids)), time.monotonic()
    time.sleep(seconds)
    return (sum(map(processor_seconds, pids)) - before) / (time.monotonic() - begun)
