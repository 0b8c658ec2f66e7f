"""The Grafana dashboard docs/grafana-dashboard.json: panels in rows, with their Prometheus queries."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

PAGE = Path(__file__).resolve().parents[2] / "docs" / "grafana-dashboard.json"
_SCHEMA_VERSION = 38
"""The schema version of Grafana 10.0; later versions can read it."""
_COLUMNS = 24
_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
_WHERE = 'instance=~"$instance"'
_RATE = "[$__rate_interval]"


class Panel(NamedTuple):
    """A panel; `queries` are (expression, legend)."""

    title: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 12
    height: int = 8
    #: Red from this value on (green below), or, with `good`, green from this value on.
    limit: float | None = None
    good: bool = False


def _rate(metric: str, by: str, labels: str = "") -> str:
    return f"sum by ({by}) (rate({metric}{{{_WHERE}{labels}}}{_RATE}))"


def _count(title: str, query: str, unit: str = "short", limit: float = 1) -> Panel:
    return Panel(title, ((query, ""),), unit, "stat", 6, 4, limit)


ROWS: dict[str, tuple[Panel, ...]] = {
    "Overview": (
        _count("Interfaces not attached", f"count(hawkwing_attached{{{_WHERE}}} == 0) or vector(0)"),
        _count(
            "Agents without their controller",
            f'count(hawkwing_controller_state{{{_WHERE},state="connected"}} == 0) or vector(0)',
        ),
        _count("Names without an address", f"sum(hawkwing_unresolved_names{{{_WHERE}}}) or vector(0)"),
        _count(
            "Fullest table",
            f"max(hawkwing_flows{{{_WHERE}}} / hawkwing_flows_capacity or "
            f"hawkwing_learned_paths{{{_WHERE}}} / hawkwing_learned_paths_capacity) or vector(0)",
            "percentunit",
            0.9,
        ),
        Panel(
            "Time since the start",
            (
                (
                    f"(time() - hawkwing_start_time_seconds{{{_WHERE}}}) * on (job, instance) "
                    "group_left (role, version, interfaces) hawkwing_agent_info",
                    "{{instance}} {{role}} on {{interfaces}}, {{version}}",
                ),
            ),
            "s",
            "bargauge",
            24,
        ),
    ),
    "Traffic": (
        Panel(
            "Egress packets by reason",
            ((_rate("hawkwing_packets_total", "reason", ',direction="egress"'), "{{reason}}"),),
            "pps",
        ),
        Panel(
            "Ingress packets by reason",
            ((_rate("hawkwing_packets_total", "reason", ',direction="ingress"'), "{{reason}}"),),
            "pps",
        ),
        Panel(
            "Bytes steered and with the SRH removed",
            (
                (
                    _rate("hawkwing_bytes_total", "reason", ',reason=~"STEERED|SPLIT|STRIPPED"'),
                    "{{reason}}",
                ),
            ),
            "Bps",
        ),
        Panel(
            "Drops",
            (
                (
                    _rate(
                        "hawkwing_packets_total",
                        "instance, reason",
                        ',reason=~"TOO_BIG|TOO_BIG_SILENT|NO_ROOM"',
                    ),
                    "{{instance}} {{reason}}",
                ),
            ),
            "pps",
        ),
    ),
    "Paths (client)": (
        Panel(
            "Packets by path, the 20 most used",
            ((f"topk(20, {_rate('hawkwing_path_packets_total', 'path')})", "{{path}}"),),
            "pps",
        ),
        Panel(
            "Bytes by path, the 20 most used",
            ((f"topk(20, {_rate('hawkwing_path_bytes_total', 'path')})", "{{path}}"),),
            "Bps",
        ),
        Panel(
            "Dead paths (no probe returns)",
            ((f"min by (path) (hawkwing_path_alive{{{_WHERE}}}) == 0", "{{path}}"),),
        ),
        Panel(
            "Round trip and jitter of probes by path, the 20 longest",
            (
                (f"topk(20, max by (path) (hawkwing_path_round_trip_seconds{{{_WHERE}}}))", "{{path}}"),
                (f"topk(20, max by (path) (hawkwing_path_jitter_seconds{{{_WHERE}}}))", "jitter {{path}}"),
            ),
            "s",
        ),
        Panel(
            "Round trip of TCP connections by path, the 20 longest",
            ((f"topk(20, max by (path) (hawkwing_path_tcp_round_trip_seconds{{{_WHERE}}}))", "{{path}}"),),
            "s",
        ),
        Panel(
            "Retransmitted TCP segments by path, the 20 worst",
            ((f"topk(20, {_rate('hawkwing_path_tcp_retransmitted_segments_total', 'path')})", "{{path}}"),),
            "pps",
        ),
        Panel(
            "Acknowledged bytes of TCP connections by path, the 20 most used",
            ((f"topk(20, {_rate('hawkwing_path_tcp_acknowledged_bytes_total', 'path')})", "{{path}}"),),
            "Bps",
        ),
        Panel(
            "Lost probes by path, the 20 worst",
            ((f"topk(20, max by (path) (hawkwing_path_loss_ratio{{{_WHERE}}}))", "{{path}}"),),
            "percentunit",
        ),
        Panel(
            "Bindings by origin of the path",
            (
                (f"sum by (origin) (hawkwing_bindings{{{_WHERE}}})", "{{origin}}"),
                (f"sum(hawkwing_metrics_left_out{{{_WHERE}}})", "not in the metrics"),
            ),
        ),
        Panel(
            "Bindings without a path",
            (
                (
                    f'sum by (instance, service, port) (hawkwing_bindings{{{_WHERE},origin="none"}})',
                    "{{instance}} {{service}} port {{port}}",
                ),
            ),
        ),
    ),
    "Controller (client)": (
        Panel(
            "Connected",
            ((f'hawkwing_controller_state{{{_WHERE},state="connected"}}', "{{instance}}"),),
            kind="state-timeline",
            limit=1,
            good=True,
        ),
        Panel(
            "Time in the current state",
            ((f"time() - hawkwing_controller_state_timestamp_seconds{{{_WHERE}}}", "{{instance}}"),),
            "s",
        ),
        Panel(
            "Queries by state",
            ((f"sum by (state) (hawkwing_controller_queries{{{_WHERE}}})", "{{state}}"),),
        ),
        Panel(
            "Events on the stream",
            ((_rate("hawkwing_controller_events_total", "event"), "{{event}}"),),
            "ops",
        ),
    ),
    "Learned (server)": (
        Panel(
            "Flow table in use",
            ((f"hawkwing_flows{{{_WHERE}}} / hawkwing_flows_capacity", "{{instance}}"),),
            "percentunit",
        ),
        Panel(
            "Table of learned paths in use",
            ((f"hawkwing_learned_paths{{{_WHERE}}} / hawkwing_learned_paths_capacity", "{{instance}}"),),
            "percentunit",
        ),
        Panel(
            "STAMP packets",
            ((_rate("hawkwing_stamp_packets_total", "result"), "{{result}}"),),
            "pps",
        ),
        Panel(
            "Decapsulated packets",
            ((_rate("hawkwing_decap_packets_total", "sid, result"), "{{sid}} {{result}}"),),
            "pps",
        ),
        Panel(
            "SIDs that decapsulate",
            ((f"hawkwing_decap_installed{{{_WHERE}}}", "{{instance}} {{sid}}"),),
            kind="state-timeline",
            limit=1,
            good=True,
        ),
    ),
    "Agent": (
        Panel(
            "Attached",
            ((f"hawkwing_attached{{{_WHERE}}}", "{{instance}} {{interface}}"),),
            kind="state-timeline",
            limit=1,
            good=True,
        ),
        Panel(
            "Interference by other programs",
            (
                (
                    f"increase(hawkwing_attachments_restored_total{{{_WHERE}}}{_RATE})",
                    "{{instance}} {{interface}}: filters attached again",
                ),
                (f"hawkwing_attachment_warnings{{{_WHERE}}}", "{{instance}} {{interface}}: warnings"),
            ),
        ),
        Panel(
            "Reloads",
            (
                (
                    f"sum by (instance, result) (increase(hawkwing_reloads_total{{{_WHERE}}}{_RATE}))",
                    "{{instance}} {{result}}",
                ),
            ),
        ),
        Panel(
            "Restarts of background tasks",
            (
                (
                    f"sum by (instance, task) (increase(hawkwing_task_restarts_total{{{_WHERE}}}{_RATE}))",
                    "{{instance}} {{task}}",
                ),
            ),
        ),
    ),
}


def text() -> str:
    """The dashboard as JSON."""
    return json.dumps(_dashboard(), indent=2) + "\n"


def _dashboard() -> dict[str, Any]:
    return {
        "uid": "hawkwing",
        "title": "HawkWing",
        "description": "Agents that insert SRv6 segment lists into the packets of their hosts.",
        "tags": ["hawkwing", "srv6"],
        "schemaVersion": _SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "",
        "annotations": {"list": []},
        "links": [],
        "templating": {"list": [_datasource(), _instance()]},
        "panels": list(_panels()),
    }


def _datasource() -> dict[str, Any]:
    return {
        "type": "datasource",
        "name": "datasource",
        "label": "Data source",
        "query": "prometheus",
        "current": {},
        "hide": 0,
        "includeAll": False,
        "multi": False,
        "options": [],
        "refresh": 1,
        "regex": "",
    }


def _instance() -> dict[str, Any]:
    query = "label_values(hawkwing_agent_info, instance)"
    return {
        "type": "query",
        "name": "instance",
        "label": "Agent",
        "datasource": _DATASOURCE,
        "definition": query,
        "query": {"query": query, "refId": "instance"},
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "allValue": ".*",
        "hide": 0,
        "includeAll": True,
        "multi": True,
        "options": [],
        "refresh": 2,
        "regex": "",
        "sort": 1,
    }


def _panels() -> Iterator[dict[str, Any]]:
    """Places panels from left to right, in lines as high as their highest panel; each row has a title."""
    number, y = 0, 0
    for title, panels in ROWS.items():
        number += 1
        place = {"x": 0, "y": y, "w": _COLUMNS, "h": 1}
        yield {
            "id": number,
            "type": "row",
            "title": title,
            "collapsed": False,
            "panels": [],
            "gridPos": place,
        }
        x, y, height = 0, y + 1, 0
        for panel in panels:
            if x + panel.width > _COLUMNS:
                x, y, height = 0, y + height, 0
            number += 1
            place = {"x": x, "y": y, "w": panel.width, "h": panel.height}
            yield {"id": number, "gridPos": place, **_panel(panel)}
            x, height = x + panel.width, max(height, panel.height)
        y += height


def _panel(panel: Panel) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0}
    if panel.limit is not None:
        first, then = ("red", "green") if panel.good else ("green", "red")
        steps = [{"color": first, "value": None}, {"color": then, "value": panel.limit}]
        defaults |= {"thresholds": {"mode": "absolute", "steps": steps}, "color": {"mode": "thresholds"}}
    if panel.kind == "state-timeline":
        words = {"0": {"text": "no", "index": 0}, "1": {"text": "yes", "index": 1}}
        defaults["mappings"] = [{"type": "value", "options": words}]
    now = panel.kind in ("stat", "bargauge")
    targets = [
        {
            "refId": chr(ord("A") + number),
            "datasource": _DATASOURCE,
            "expr": expression,
            "legendFormat": legend,
            "instant": now,
            "range": not now,
        }
        for number, (expression, legend) in enumerate(panel.queries)
    ]
    return {
        "type": panel.kind,
        "title": panel.title,
        "datasource": _DATASOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": _OPTIONS[panel.kind],
        "targets": targets,
    }


_LAST = {"calcs": ["lastNotNull"], "fields": "", "values": False}
_OPTIONS: dict[str, dict[str, Any]] = {
    "timeseries": {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {"reduceOptions": _LAST, "colorMode": "background", "graphMode": "none"},
    "bargauge": {"reduceOptions": _LAST, "orientation": "horizontal", "displayMode": "basic"},
    "state-timeline": {"mergeValues": True, "showValue": "auto", "rowHeight": 0.9},
}
