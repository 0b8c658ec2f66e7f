"""Ten thousand services, ten thousand results, and the time from a push to the wire."""

import logging
import tempfile
import time
from collections.abc import Callable
from ipaddress import IPv6Address
from pathlib import Path

from fake_hawkeye.control import Control
from hawkwing.config import load_config
from hawkwing.dataplane.loader import Capacities, Loading
from hawkwing.dataplane.plane import DataPlane
from hawkwing.steering import Steering
from lab.bench.figures import Series
from lab.bench.lifecycle import STEERED
from lab.bench.traffic import DATAGRAM_PORT, Traffic
from lab.bench.ways import agent
from lab.network import Lab
from lab.wait import PATIENCE, wait_until
from lab.wire import Capture, Filter

SERVICES = 10_000
_LISTS = 100
_SOURCE = IPv6Address("fd00::1")
LOAD, APPLY, RESULTS = "read the file", "apply it", "apply a result for each"
QUANTILES = {"median": 0.5, "90 %": 0.9, "99 %": 0.99}


def _file(folder: str) -> Path:
    lines = ["hawkeye: {enabled: true, address: 'fd00::2', port: 5001}", "services:"]
    for number in range(SERVICES):
        lines += [f"  s{number}:", f"    ipv6_addresses: ['fd00:1::{number + 1:x}']", "    applications:"]
        lines += ["      - port: 80", "        sid: ['fcbb:bb00:1::2']", "        intents:"]
        lines += ["          - intent: low-latency"]
    path = Path(folder) / "many.yaml"
    path.write_text("\n".join(lines) + "\n")
    return path


def _seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def many() -> Series:
    """The time to read and apply a large configuration; with real maps, but nothing attached."""
    series = Series(f"{SERVICES:,} services", "s")
    logging.getLogger("hawkwing").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        path = _file(folder)
        config = load_config(path)
        series.add(LOAD, _seconds(lambda: load_config(path)))
    steering = Steering(DataPlane("client", Loading("client", Capacities()).result()))
    series.add(APPLY, _seconds(lambda: steering.apply(config, _SOURCE)))
    lists = [
        (IPv6Address(f"fcbb:bb00:{n // 10 + 1:x}::2"), IPv6Address(f"fcbb:bb00:{n % 10 + 1:x}::2"))
        for n in range(_LISTS)
    ]
    queries = steering.queries()

    def results() -> None:
        for number, query in enumerate(queries):
            steering.set_controller_path(query, lists[number % _LISTS])

    series.add(RESULTS, _seconds(results))
    return series


def pushes(lab: Lab, traffic: Traffic, count: int) -> Series:
    """Milliseconds from the push command to the first packet with the new list."""
    series = Series("from a push to the wire", "ms")
    found: list[float] = []
    destination = str(lab.topology.host("host-b").address)
    lists = [
        [str(lab.topology.router(name).sid), str(lab.topology.router("vpp6").sid)]
        for name in ("vpp2", "vpp3")
    ]
    client = agent(lab, "client", "host-a", with_controller=True)
    link = [lab.topology.link("host-a", "site-a")]
    try:
        client.wait_for("connected")
        with (
            Control(lab.control_socket) as control,
            Capture(lab.topology, lab.namespace, link) as capture,
            traffic.datagrams(0.0002),
        ):
            wait_until(lambda: capture.count(STEERED), PATIENCE, "a packet with the first path")
            for number in range(count):
                wanted = lists[number % 2]
                capture.clear()
                begun = time.time()
                control.set_path(destination, [{"intent": "low-latency"}], wanted)

                def arrived(first: str = wanted[0]) -> float:
                    frames = capture.frames(Filter(to=DATAGRAM_PORT, destination=first))
                    return frames[0].time if frames else 0.0

                found.append((wait_until(arrived, PATIENCE, "a packet with the pushed path") - begun) * 1000)
    finally:
        client.stop()
    for name, share in QUANTILES.items():
        series.add(name, sorted(found)[min(int(len(found) * share), len(found) - 1)])
    return series
