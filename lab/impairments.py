"""Impairments of links from a lab's start, read from a YAML file:

vpp2-vpp4: {latency: 80ms, loss: 1%}
vpp1-vpp3: {bandwidth: 10Mbit}
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from hawkwing.errors import ConfigError
from hawkwing.yaml_lines import Document, Fault, problem_lines, read_yaml_file
from lab import units
from lab.errors import LabError
from lab.topology import Link, Topology

Metrics = dict[str, float]
_READ: dict[str, Callable[[str], float]] = {
    "latency": units.latency,
    "bandwidth": units.bandwidth,
    "loss": units.loss,
}


def check_metrics(metrics: Metrics) -> None:
    """ValueError if no link can have these metrics."""
    latency, bandwidth, loss = (metrics.get(key, 1) for key in _READ)
    if latency < 0 or bandwidth < 1 or not 0 <= loss < 100:
        raise ValueError("latency must be 0 or more, bandwidth 1 or more, loss at least 0 and less than 100")


def load_impairments(path: Path, topology: Topology) -> dict[str, Metrics]:
    """The metrics of each impaired link; LabError with a line per error, each with file, line and key."""
    try:
        document = read_yaml_file(path)
    except ConfigError as error:
        raise LabError("\n".join(error.problems)) from error
    found: dict[str, Metrics] = {}
    faults = [*document.faults, *_read(document, topology, found)]
    if faults:
        raise LabError("\n".join(problem_lines(path, document, faults, {})))
    return found


def _read(document: Document, topology: Topology, found: dict[str, Metrics]) -> Iterator[Fault]:
    if not isinstance(document.data, dict):
        yield Fault(
            document.line_of(()), (), "must be a mapping of links, such as vpp2-vpp4: {latency: 80ms}"
        )
        return
    for name, values in document.data.items():
        link = _link(topology, str(name))
        line = document.line_of((name,))
        if link is None:
            yield Fault(line, (name,), f"is not a link, the topology has {', '.join(_names(topology))}")
        elif link.name in found:
            yield Fault(line, (name,), f"is the link {link.name}, which is already listed")
        elif not isinstance(values, dict) or not values:
            yield Fault(line, (name,), "must be a mapping with latency, bandwidth or loss")
        else:
            found[link.name] = {}
            for key, value in values.items():
                place = (name, key)
                try:
                    found[link.name] |= _metric(key, value)
                except ValueError as error:
                    yield Fault(document.line_of(place), place, str(error))


def _metric(key: str, value: object) -> Metrics:
    if key not in _READ:
        raise ValueError(f"is not a known key, use {', '.join(_READ)}")
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("must be one value with a unit, such as 80ms, 10Mbit or 1%")
    metric = {key: _READ[key](str(value))}
    check_metrics(metric)
    return metric


def _link(topology: Topology, name: str) -> Link | None:
    return next((one for one in topology.links if name in (one.name, "-".join(reversed(one.nodes)))), None)


def _names(topology: Topology) -> list[str]:
    return [link.name for link in topology.links]
