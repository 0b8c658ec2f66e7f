"""Prints the measurements as tables, and formats them as JSON."""

import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from hawkwing import __version__
from lab.bench.encap import HAWKWING_ENCAP, KERNEL_ENCAP
from lab.bench.encap import WAYS as ENCAP_WAYS
from lab.bench.figures import Series, row
from lab.bench.floor import BARE, EMPTY, WIRED
from lab.bench.flows import FEW, MANY
from lab.bench.flows import name as flows_name
from lab.bench.hooks import HOOKS
from lab.bench.lifecycle import COLD, WARM
from lab.bench.probes import WAYS as PROBE_WAYS
from lab.bench.programs import ACKNOWLEDGEMENTS, BULK, FOREIGN, UDP
from lab.bench.scale import APPLY, LOAD, QUANTILES, RESULTS
from lab.bench.switch import WAYS
from lab.bench.vpp import KERNEL as KERNEL_ROUTERS
from lab.bench.vpp import ROUTERS, VPP
from lab.bench.ways import HAWKWING, KERNEL, UNSTEERED

Ratio = tuple[str, str]
THROUGHPUT_RATIOS: list[Ratio] = [(HAWKWING, KERNEL), (WIRED, KERNEL), (HAWKWING, UNSTEERED)]
ENCAP_RATIOS: list[Ratio] = [(HAWKWING_ENCAP, KERNEL_ENCAP)]
FLOOR_RATIOS: list[Ratio] = [(HAWKWING, BARE), (HAWKWING, WIRED)]
FLOW_WAYS = [flows_name(FEW), flows_name(MANY)]
FLOW_RATIOS: list[Ratio] = [(FLOW_WAYS[1], FLOW_WAYS[0])]
LOADS = [BULK, ACKNOWLEDGEMENTS, UDP, FOREIGN]
HOOK_RATIOS: list[Ratio] = [("xdp", "tc"), ("xdp-generic", "tc")]
ROUTER_RATIOS: list[Ratio] = [(VPP, KERNEL_ROUTERS)]
MEMORY = ["client", "client with controller", "server"]


@dataclass
class Results:
    """All measurements."""

    quick: bool
    links: list[str] = field(default_factory=list)
    throughput: list[Series] = field(default_factory=list)
    encapsulation: list[Series] = field(default_factory=list)
    programs: list[Series] = field(default_factory=list)
    floor: list[Series] = field(default_factory=list)
    hooks: list[Series] = field(default_factory=list)
    flows: list[Series] = field(default_factory=list)
    flows_known: dict[str, int] = field(default_factory=dict)
    starts: list[Series] = field(default_factory=list)
    scale: list[Series] = field(default_factory=list)
    pushes: list[Series] = field(default_factory=list)
    probes: list[Series] = field(default_factory=list)
    memory: list[Series] = field(default_factory=list)
    routers: list[Series] = field(default_factory=list)

    @property
    def measured(self) -> bool:
        """Whether there are results."""
        parts = (getattr(self, one.name) for one in fields(self) if one.name not in ("quick", "links"))
        return any(parts)


def environment() -> dict[str, object]:
    """Describes the machine."""
    processors = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":", 1)[1].strip() for line in processors if line.startswith("model name")), "")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "kernel": platform.release(),
        "processor": model or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gb": round(memory / 1e9, 1),
        "load_average_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "hawkwing": __version__,
    }


def as_json(results: Results, machine: dict[str, object], seconds: float) -> str:
    """All measurements, with the values of each round."""

    def part(series: Sequence[Series], ratios: Sequence[Ratio] = ()) -> list[dict[str, object]]:
        return [one.as_json(ratios) for one in series]

    return json.dumps(
        {
            "environment": machine,
            "quick": results.quick,
            "lasted_s": round(seconds, 1),
            "links": results.links,
            "throughput": part(results.throughput, THROUGHPUT_RATIOS),
            "encapsulation": part(results.encapsulation, ENCAP_RATIOS),
            "programs": part(results.programs),
            "floor": part(results.floor, FLOOR_RATIOS),
            "hooks": part(results.hooks, HOOK_RATIOS),
            "flows": part(results.flows, FLOW_RATIOS),
            "flows_known": results.flows_known,
            "starts": part(results.starts, [(COLD, WARM)]),
            "scale": part(results.scale),
            "pushes": part(results.pushes),
            "probes": part(results.probes),
            "memory": part(results.memory),
            "routers": part(results.routers, ROUTER_RATIOS),
        },
        indent=1,
    )


def _table(title: str, series: Sequence[Series], ways: Sequence[str], ratios: Sequence[Ratio] = ()) -> Table:
    table = Table(title=title, title_style="bold", title_justify="left")
    table.add_column("")
    for name in [*ways, *(f"{a} / {b}" for a, b in ratios)]:
        table.add_column(name, justify="right")
    for one in series:
        table.add_row(*row(one, ways, ratios))
    return table


def show(results: Results, machine: dict[str, object], console: Console) -> None:
    """Prints the results as tables: medians, and medians of the ratios within rounds."""
    words = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in machine.items())
    console.print(f"\n{words}\nlinks on all paths: {', '.join(results.links)}\n")

    def part(title: str, series: Sequence[Series], ways: Sequence[str], ratios: Sequence[Ratio] = ()) -> None:
        if series:
            console.print(_table(title, series, ways, ratios))

    part("Throughput", results.throughput, WAYS, THROUGHPUT_RATIOS)
    part("Encapsulation", results.encapsulation, ENCAP_WAYS, ENCAP_RATIOS)
    part("HawkWing's programs", results.programs, LOADS)
    part("Compared with the floor", results.floor, (EMPTY, BARE, WIRED, HAWKWING), FLOOR_RATIOS)
    part("Ingress hooks", results.hooks, HOOKS, HOOK_RATIOS)
    part("Learned flows", results.flows, FLOW_WAYS, FLOW_RATIOS)
    if results.flows_known:
        kept = ", ".join(f"{known:,} of {wanted}" for wanted, known in results.flows_known.items())
        console.print(f"kept: {kept}\n")
    part("Start", results.starts, (COLD, WARM), [(COLD, WARM)])
    part("Scale", results.scale, (LOAD, APPLY, RESULTS))
    part("Pushed paths", results.pushes, list(QUANTILES))
    part("Probes", results.probes, PROBE_WAYS)
    part("Memory", results.memory, MEMORY)
    part("Kinds of routers", results.routers, ROUTERS, ROUTER_RATIOS)


def terminal() -> Console:
    """A console, wide enough for the tables if the output is a file."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 150)
