"""Compares HawkWing with no steering, with the kernel's seg6, and with minimal programs.

Everything is measured in turns within one run: figures from different times can't be compared.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from lab.bench import encap, floor, flows, hooks, lifecycle, probes, programs, report, scale, throughput, vpp
from lab.bench.figures import Series
from lab.bench.machine import stolen_seconds
from lab.bench.switch import check, switchable
from lab.bench.traffic import Traffic
from lab.bench.ways import one_path, sids
from lab.network import Lab


@dataclass(frozen=True)
class _Effort:
    """Rounds of each part; `datagrams` are those of a turn in programs and hooks."""

    datagrams: int
    encapsulation: throughput.Rounds
    throughput: throughput.Rounds
    streams: tuple[int, ...]
    programs: int
    floor: int
    flows: int
    hooks: int
    starts: int
    pushes: int
    probes: int
    routers: int


_FULL = _Effort(
    20_000,
    throughput=throughput.Rounds(tcp=100, cut=40, udp=24),
    encapsulation=throughput.Rounds(tcp=40, cut=20, udp=12),
    streams=(1, 4),
    programs=5,
    floor=40,
    flows=24,
    hooks=3,
    starts=5,
    pushes=100,
    probes=5,
    routers=3,
)
_QUICK = _Effort(
    4_000,
    throughput=throughput.Rounds(tcp=24, cut=12, udp=2),
    encapsulation=throughput.Rounds(tcp=12, cut=6, udp=2),
    streams=(1,),
    programs=1,
    floor=12,
    flows=12,
    hooks=0,
    starts=1,
    pushes=20,
    probes=1,
    routers=1,
)
_SECONDS = 1.0
"""Seconds of a turn with iperf3."""
_PROBED = 5.0
"""Seconds of a turn with probes: 500 rounds."""
_SHORT, _DATAGRAMS, _PACKETS = 0.05, 2_000, 3_000
"""Turns of the floor and of test runs: many and short, because the speed of a machine changes."""


def run(output: Path | None, quick: bool) -> int:
    """Measures, prints tables and writes JSON (`bench.json` in the caller's folder); exit status."""
    console = report.terminal()
    file = Path(os.environ.get("HAWKWING_CWD", Path.cwd())) / (output or "bench.json")
    effort = _QUICK if quick else _FULL
    machine = report.environment()
    begun, stolen = time.monotonic(), stolen_seconds()
    results = report.Results(quick)
    results.routers = _routers(machine, effort, console)
    lab = Lab(f"bench-{os.getpid()}")
    try:
        console.print("Building the lab")
        lab.up()
        _measure(lab, effort, console, results)
    finally:
        lab.down()
        lasted = time.monotonic() - begun
        machine["processor_seconds_stolen"] = round(stolen_seconds() - stolen, 1)
        if results.measured:
            # Also after an interrupted run: minutes of measurements are kept.
            report.show(results, machine, console)
            file.write_text(report.as_json(results, machine, lasted) + "\n")
    left = lab.remains()
    note = " (few rounds: not for comparisons)" if quick else ""
    console.print(
        f"{lasted:.0f} s{note}; all rounds are in {file}; left over: {', '.join(left) or 'nothing'}"
    )
    return 1 if left else 0


def _measure(lab: Lab, effort: _Effort, console: Console, results: report.Results) -> None:
    one_path(lab)
    traffic = Traffic(lab)
    console.print("Throughput: unsteered, the kernel's seg6, the wired floor and HawkWing in turn")
    with switchable(lab) as to:
        results.links = check(lab, traffic, to)
        results.throughput = throughput.measure(lab, traffic, to, effort.streams, effort.throughput)
    console.print("Encapsulation: unsteered, the kernel's and HawkWing's in turn")
    with encap.switchable(lab, traffic) as to:
        results.encapsulation = throughput.measure(
            lab, traffic, to, effort.streams[-1:], effort.encapsulation, encap.WAYS
        )
    console.print("Programs: nanoseconds per run")
    results.programs = programs.measure(lab, traffic, _SECONDS, effort.datagrams, effort.programs)
    console.print("Floor: minimal programs in place of HawkWing's")
    results.floor = floor.measure(lab, traffic, _DATAGRAMS, _SHORT, effort.floor)
    if effort.hooks:
        console.print("Ingress hooks")
        results.hooks = hooks.measure(lab, traffic, _SECONDS, effort.datagrams, effort.hooks)
    console.print("Learned flows: a thousand and a million")
    results.flows, results.flows_known = flows.measure(sids(lab), _PACKETS, effort.flows)
    console.print("Start, cold and warm")
    results.starts = [lifecycle.starts(lab, traffic, effort.starts)]
    console.print("Ten thousand services, and pushed paths")
    results.scale = [scale.many()]
    results.pushes = [scale.pushes(lab, traffic, effort.pushes)]
    console.print("Probes")
    results.probes = [probes.measure(lab, _PROBED, effort.probes)]
    console.print("Memory")
    results.memory = [lifecycle.memory(lab)]
    traffic.close()


def _routers(machine: dict[str, object], effort: _Effort, console: Console) -> list[Series]:
    """Measures labs with both kinds of routers, before the main lab is built."""
    version = vpp.version()
    if version is None:
        console.print("VPP routers: skipped, VPP is not installed (see ./run doctor)")
        return []
    machine["vpp"] = version
    console.print("VPP routers and Linux routers")
    return vpp.measure(_SECONDS, effort.routers)
