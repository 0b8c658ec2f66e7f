"""All metrics for Prometheus, with their values from an agent's status; docs/metrics.md has the same table.

The number of label values is limited: reasons, states and tasks are fixed lists, interfaces are from the
command line, services and paths from configuration and controller, at most `MOST_PATHS`. No label value is
taken from packets.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric

from hawkwing.labels import key_of_path

MOST_PATHS = 500
_STATES = ("connecting", "connected")

Kind = Literal["counter", "gauge", "info"]
_FAMILIES = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily, "info": InfoMetricFamily}
_ENDINGS = {"counter": "_total", "gauge": "", "info": "_info"}


class Described(NamedTuple):
    """One metric; `of` is the role of the agents that have it."""

    family: str
    kind: Kind
    text: str
    labels: tuple[str, ...] = ()
    of: str = "both"

    @property
    def name(self) -> str:
        """The name of its samples in Prometheus."""
        return self.family + _ENDINGS[self.kind]


METRICS = (
    Described(
        "hawkwing_agent",
        "info",
        "Version, role and interfaces of the agent; always 1.",
        ("version", "role", "interfaces", "ingress_hook"),
    ),
    Described("hawkwing_start_time_seconds", "gauge", "Start of the agent, in Unix seconds."),
    Described(
        "hawkwing_attached",
        "gauge",
        "1 if the programs are attached to the interface, otherwise 0.",
        ("interface",),
    ),
    Described(
        "hawkwing_attachments_restored",
        "counter",
        "How often filters were attached again, because another program had removed them.",
        ("interface",),
    ),
    Described(
        "hawkwing_attachment_warnings",
        "gauge",
        "Number of other programs that may hide packets from the agent's programs.",
        ("interface",),
    ),
    Described(
        "hawkwing_packets",
        "counter",
        "Packets by direction and reason; the reasons are those of hawkwing status.",
        ("direction", "reason"),
    ),
    Described("hawkwing_bytes", "counter", "Bytes by direction and reason.", ("direction", "reason")),
    Described(
        "hawkwing_reloads",
        "counter",
        "Reloads of the configuration, by result: good, or refused (nothing was changed).",
        ("result",),
    ),
    Described("hawkwing_task_restarts", "counter", "Restarts of background tasks after an error.", ("task",)),
    Described(
        "hawkwing_bindings",
        "gauge",
        "Addresses of an application, by origin of the path (controller, backup, none) and path.",
        ("service", "port", "origin", "path"),
        "client",
    ),
    Described(
        "hawkwing_path_packets",
        "counter",
        "Packets sent over a path; bindings can share a path.",
        ("path",),
        "client",
    ),
    Described("hawkwing_path_bytes", "counter", "Bytes sent over a path.", ("path",), "client"),
    Described(
        "hawkwing_path_alive",
        "gauge",
        "1 if probes return on a path, otherwise 0; only for applications with several paths, "
        "and with `probes`.",
        ("path",),
        "client",
    ),
    Described(
        "hawkwing_path_round_trip_seconds",
        "gauge",
        "Round trip of probes along a path and back, smoothed.",
        ("path",),
        "client",
    ),
    Described(
        "hawkwing_path_jitter_seconds",
        "gauge",
        "Variation of the round trip of probes, smoothed (RFC 3550).",
        ("path",),
        "client",
    ),
    Described(
        "hawkwing_path_loss_ratio",
        "gauge",
        "Ratio of lost probes in the last 30 seconds or more; only if paths are compared by measurement.",
        ("path",),
        "client",
    ),
    Described(
        "hawkwing_path_tcp_round_trip_seconds",
        "gauge",
        "Round trip of TCP connections of applications with several paths, smoothed.",
        ("path",),
        "client",
    ),
    Described(
        "hawkwing_path_tcp_retransmitted_segments",
        "counter",
        "Segments that TCP connections of applications with several paths have retransmitted.",
        ("path",),
        "client",
    ),
    Described(
        "hawkwing_path_tcp_acknowledged_bytes",
        "counter",
        "Bytes that the peers of these TCP connections have acknowledged.",
        ("path",),
        "client",
    ),
    Described("hawkwing_unresolved_names", "gauge", "Configured names without an address.", (), "client"),
    Described(
        "hawkwing_metrics_left_out",
        "gauge",
        f"Bindings and paths beyond the first {MOST_PATHS}, which have no samples.",
        (),
        "client",
    ),
    Described(
        "hawkwing_controller_state",
        "gauge",
        "1 for the state of the stream to the controller (connecting, connected), 0 for the other.",
        ("state",),
        "client",
    ),
    Described(
        "hawkwing_controller_state_timestamp_seconds",
        "gauge",
        "When the stream entered its state, in Unix seconds.",
        (),
        "client",
    ),
    Described(
        "hawkwing_controller_events",
        "counter",
        "Events on the stream: connections, failures, requests, results and others.",
        ("event",),
        "client",
    ),
    Described(
        "hawkwing_controller_queries",
        "gauge",
        "Queries by state: answered, without_path (answered without a path), unanswered, held_back. Each "
        "query is in one state.",
        ("state",),
        "client",
    ),
    Described("hawkwing_flows", "gauge", "Learned flows.", (), "server"),
    Described("hawkwing_flows_capacity", "gauge", "Maximum number of learned flows.", (), "server"),
    Described("hawkwing_learned_paths", "gauge", "Learned reverse paths.", (), "server"),
    Described(
        "hawkwing_learned_paths_capacity", "gauge", "Maximum number of learned reverse paths.", (), "server"
    ),
    Described(
        "hawkwing_stamp_packets",
        "counter",
        "STAMP packets by result: answered, refused; only with `stamp_port`.",
        ("result",),
        "server",
    ),
    Described(
        "hawkwing_decap_installed",
        "gauge",
        "1 if packets to a SID of `decap` are decapsulated, otherwise 0.",
        ("sid",),
        "server",
    ),
    Described(
        "hawkwing_decap_packets",
        "counter",
        "Packets to a SID of `decap` by result: decapsulated, dropped; since its route was set.",
        ("sid", "result"),
        "server",
    ),
)

Sample = tuple[str, tuple[str, ...], float]
"""Family, label values, value."""


def families(status: Mapping[str, Any]) -> list[Metric]:
    """All metrics of one agent, from its status."""
    values: dict[str, list[tuple[tuple[str, ...], float]]] = defaultdict(list)
    for name, labels, value in _samples(status):
        values[name].append((labels, value))
    made: list[Metric] = []
    for one in METRICS:
        if one.family not in values:
            continue
        family = _FAMILIES[one.kind](one.family, one.text, labels=one.labels if one.kind != "info" else ())
        for labels, value in values.pop(one.family):
            if isinstance(family, InfoMetricFamily):
                family.add_metric((), dict(zip(one.labels, labels, strict=True)))
            else:
                family.add_metric(labels, value)
        made.append(family)
    assert not values, f"not described: {', '.join(values)}"
    return made


def _samples(status: Mapping[str, Any]) -> Iterator[Sample]:
    interfaces = ",".join(status["interfaces"])
    who = (status["version"], status["role"], interfaces, status["ingress_hook"])
    yield "hawkwing_agent", who, 1
    yield "hawkwing_start_time_seconds", (), status["started"]
    for one in status["attachments"]:
        interface = (one["interface"],)
        yield "hawkwing_attached", interface, one["attached"]
        yield "hawkwing_attachments_restored", interface, one["restored"]
        yield "hawkwing_attachment_warnings", interface, len(one["warnings"])
    for direction, reasons in status["counters"].items():
        for reason, count in reasons.items():
            yield "hawkwing_packets", (direction, reason), count["packets"]
            yield "hawkwing_bytes", (direction, reason), count["bytes"]
    for result, times in status["reloads"].items():
        yield "hawkwing_reloads", (result,), times
    for task, times in status["restarts"].items():
        yield "hawkwing_task_restarts", (task,), times
    if "bindings" in status:
        yield from _of_bindings(status["bindings"])
        yield "hawkwing_unresolved_names", (), len(status["unresolved"])
    if "controller" in status:
        yield from _of_controller(status["controller"])
    for table in ("flows", "learned_paths"):
        if table in status:
            yield f"hawkwing_{table}", (), status[table]["count"]
            yield f"hawkwing_{table}_capacity", (), status[table]["capacity"]
    for result in ("answered", "refused") if "stamp" in status else ():
        yield "hawkwing_stamp_packets", (result,), status["stamp"][result]
    for one in status["decap"]["sids"] if "decap" in status else ():
        yield "hawkwing_decap_installed", (one["sid"],), one["installed"]
        yield "hawkwing_decap_packets", (one["sid"], "decapsulated"), one["packets"]
        yield "hawkwing_decap_packets", (one["sid"], "dropped"), one["errors"]


def _of_bindings(bindings: Sequence[Mapping[str, Any]]) -> Iterator[Sample]:
    """Addresses by service, port, origin and path; counters and figures of each path, shared by bindings."""
    addresses: Counter[tuple[str, ...]] = Counter()
    sent: dict[str, Mapping[str, int]] = {}
    figures: dict[str, Mapping[str, Any]] = {}
    for binding in bindings:
        path = key_of_path(binding)
        addresses[binding["service"], str(binding["port"]), binding["origin"], path] += 1
        if path:
            sent[path] = binding["path_sent"]
        for one in binding.get("active", ()):
            sent[key_of_path(one)] = one["sent"]
        for one in (*binding.get("active", ()), *binding.get("standby", ())):
            figures[key_of_path(one)] = one
    for labels, count in sorted(addresses.items())[:MOST_PATHS]:
        yield "hawkwing_bindings", labels, count
    for path, over_it in sorted(sent.items())[:MOST_PATHS]:
        yield "hawkwing_path_packets", (path,), over_it["packets"]
        yield "hawkwing_path_bytes", (path,), over_it["bytes"]
    for path, one in sorted(figures.items())[:MOST_PATHS]:
        yield from _of_figures((path,), one["health"], one["tcp"])
    left_out = max(0, len(addresses) - MOST_PATHS) + max(0, len(sent) - MOST_PATHS)
    yield "hawkwing_metrics_left_out", (), left_out


def _of_figures(path: tuple[str, ...], health: Mapping[str, Any], tcp: Mapping[str, Any]) -> Iterator[Sample]:
    if health["state"] != "unknown":
        yield "hawkwing_path_alive", path, health["state"] == "alive"
    for family, value, unit in (
        ("hawkwing_path_round_trip_seconds", health["rtt_ms"], 1000),
        ("hawkwing_path_jitter_seconds", health["jitter_ms"], 1000),
        ("hawkwing_path_loss_ratio", health["loss_percent"], 100),
        ("hawkwing_path_tcp_round_trip_seconds", tcp["rtt_ms"], 1000),
    ):
        if value is not None:
            yield family, path, value / unit
    if tcp["rtt_ms"] is not None:
        yield "hawkwing_path_tcp_retransmitted_segments", path, tcp["retransmitted_segments"]
        yield "hawkwing_path_tcp_acknowledged_bytes", path, tcp["acknowledged_bytes"]


def _of_controller(controller: Mapping[str, Any]) -> Iterator[Sample]:
    for state in _STATES:
        yield "hawkwing_controller_state", (state,), state == controller["state"]
    yield "hawkwing_controller_state_timestamp_seconds", (), controller["since"]
    for event, count in controller["counters"].items():
        yield "hawkwing_controller_events", (event,), count
    queries = controller["queries"]
    without, held = queries["without_path"], queries["held_back"]
    for state, count in (
        ("answered", queries["answered"] - without),
        ("without_path", without),
        ("unanswered", queries["unanswered"] - held),
        ("held_back", held),
    ):
        yield "hawkwing_controller_queries", (state,), count
