"""Start-up time and memory of the agents."""

import tempfile
import time
from functools import partial
from pathlib import Path

from lab.bench.figures import Series
from lab.bench.traffic import DATAGRAM_PORT, Traffic
from lab.bench.ways import agent
from lab.network import Lab
from lab.process import Process
from lab.wait import PATIENCE, wait_until
from lab.wire import Capture, Filter, Frame

COLD, WARM = "cold", "warm"
_SETTLED = 2.0


#: The single datagrams, once they have an SRH.
STEERED = Filter(to=DATAGRAM_PORT, steered=True)


def _steered(client: Process, capture: Capture) -> list[Frame]:
    """The steered packets so far; RuntimeError if the client has ended."""
    if client.poll() is not None:
        client.wait_for("ready: ")
    return capture.frames(STEERED)


def start_once(lab: Lab, traffic: Traffic, cache: Path) -> float:
    """Seconds from the command to the first steered packet on the wire; a datagram is sent every ms."""
    link = lab.topology.link("host-a", "site-a")
    with Capture(lab.topology, lab.namespace, [link]) as capture, traffic.datagrams(0.001):
        wait_until(capture.count, PATIENCE, "the first datagram")
        client: Process | None = None
        try:
            begun = time.time()
            client = agent(lab, "client", "host-a", environment={"HAWKWING_CACHE": str(cache)})
            seen = wait_until(partial(_steered, client, capture), PATIENCE, "a steered packet", pause=0.02)
            client.wait_for("ready: ")
        finally:
            if client is not None:
                client.stop()
    return seen[0].time - begun


def starts(lab: Lab, traffic: Traffic, rounds: int) -> Series:
    """Cold starts (nothing compiled) and warm starts, in turn."""
    series = Series("from the command to the first steered packet", "s")
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            series.add(COLD, start_once(lab, traffic, Path(folder)))
            series.add(WARM, start_once(lab, traffic, Path(folder)))
    return series


def resident(pid: int) -> float:
    """Memory of a process in megabytes (VmRSS)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"process {pid} has ended")


def memory(lab: Lab) -> Series:
    """Resident memory of the agents two seconds after "ready"."""
    series = Series("resident memory", "MB")
    running = {
        "client": agent(lab, "client", "host-a"),
        "client with controller": agent(lab, "client", "host-c", with_controller=True),
        "server": agent(lab, "server", "host-b"),
    }
    try:
        for one in running.values():
            one.wait_for("ready: ")
        # This waits for nothing: memory is measured at this time.
        time.sleep(_SETTLED)
        for name, one in running.items():
            series.add(name, resident(one.pid))
    finally:
        for one in running.values():
            one.stop()
    return series
