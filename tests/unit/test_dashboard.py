"""Dashboard and alerts ask for metrics that exist, with their labels; Prometheus' own tool tries them."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hawkwing.dataplane.layout import reasons
from hawkwing.metric_families import METRICS
from lab.packages import dashboard

DOCS = Path(__file__).parents[2] / "docs"
ALERTS = DOCS / "prometheus-alerts.yml"
NAMES = {one.name: set(one.labels) for one in METRICS}
#: Labels that Prometheus adds.
ADDED = {"job", "instance"}
#: Its own metrics.
PROMETHEUS: dict[str, set[str]] = {"up": set()}
PROMTOOL = shutil.which("promtool")
#: State of each metric whose values are named in an expression.
VALUES = {
    ("hawkwing_packets_total", "direction"): {"egress", "ingress"},
    ("hawkwing_controller_state", "state"): {"connecting", "connected"},
    ("hawkwing_bindings", "origin"): {"controller", "backup", "none"},
    ("hawkwing_reloads_total", "result"): {"good", "refused"},
}


def shown() -> dict[str, Any]:
    """The dashboard as it is in docs/."""
    found = json.loads(dashboard.PAGE.read_text())
    assert isinstance(found, dict)
    return found


def panels() -> list[dict[str, Any]]:
    return [panel for panel in shown()["panels"] if panel["type"] != "row"]


def queries() -> Iterator[tuple[str, str]]:
    """Expression and legend."""
    for panel in panels():
        for target in panel["targets"]:
            yield target["expr"], target["legendFormat"]


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(ALERTS.read_text())["groups"]
    return list(group["rules"])


def expressions() -> list[str]:
    return [expression for expression, _legend in queries()] + [rule["expr"] for rule in rules()]


def used(expression: str) -> set[str]:
    """The metrics in an expression."""
    return set(re.findall(r"\bhawkwing_\w+|\bup\b", re.sub(r'"[^"]*"', "", expression)))


def test_the_dashboard_is_as_it_is_made() -> None:
    assert dashboard.PAGE.read_text() == dashboard.text(), "run python -m lab.packages.texts"


@pytest.mark.parametrize("expression", expressions())
def test_an_expression_asks_for_what_there_is(expression: str) -> None:
    known = NAMES | PROMETHEUS
    assert used(expression), expression
    for name in used(expression):
        assert name in known, name
    for name, braces in re.findall(r"\b(hawkwing_\w+|up)\{([^}]*)\}", expression):
        for label, _operator, value in re.findall(r'(\w+)(=~|!~|!=|=)"([^"]*)"', braces):
            assert label in known[name] | ADDED, f"{name} has no label {label}"
            if label == "reason":
                assert set(value.split("|")) <= {reason.name for reason in reasons()}
            elif (name, label) in VALUES:
                assert set(value.split("|")) <= VALUES[name, label]
    labels = set().union(ADDED, *(known[name] for name in used(expression)))
    for listed in re.findall(r"\b(?:by|on|group_left|without|ignoring) ?\(([^)]*)\)", expression):
        assert {label.strip() for label in listed.split(",")} <= labels, listed


def test_the_dashboard_shows_every_metric() -> None:
    asked = set().union(*(used(expression) for expression, _legend in queries()))
    assert set(NAMES) - asked == set()


def test_legends_have_labels_that_are_left() -> None:
    for expression, legend in queries():
        named = set(re.findall(r"\{\{(\w+)\}\}", legend))
        summed = re.search(r"\b(?:sum|count|max) by \(([^)]*)\)", expression)
        left = (
            {label.strip() for label in summed[1].split(",")}
            if summed
            else set().union(ADDED, *(NAMES[name] for name in used(expression)))
        )
        assert named <= left, (expression, legend)


def test_grafana_can_place_and_tell_apart_the_panels() -> None:
    every = shown()["panels"]
    assert len({panel["id"] for panel in every}) == len(every)
    assert len({panel["title"] for panel in every}) == len(every)
    taken: set[tuple[int, int]] = set()
    for panel in every:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = set(
            itertools.product(
                range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
            )
        )
        assert not cells & taken, panel["title"]
        taken |= cells


def test_the_data_source_is_a_variable() -> None:
    board = shown()
    assert board["schemaVersion"] >= 38, "Grafana 10.0"
    variables = {one["name"]: one for one in board["templating"]["list"]}
    assert (
        variables["datasource"]["type"] == "datasource" and variables["datasource"]["query"] == "prometheus"
    )
    asking = [
        variables["instance"],
        *panels(),
        *(target for panel in panels() for target in panel["targets"]),
    ]
    assert {json.dumps(one["datasource"]) for one in asking} == {
        '{"type": "prometheus", "uid": "${datasource}"}'
    }
    assert all('instance=~"$instance"' in expression for expression, _legend in queries())
    assert "id" not in board, "a number of one Grafana"


def test_an_alert_says_what_and_where() -> None:
    page = (DOCS / "metrics.md").read_text()
    for rule in rules():
        assert f"`{rule['alert']}`" in page
        assert rule["labels"]["severity"] in ("critical", "warning")
        texts = " ".join(rule["annotations"].values())
        labels = set().union(ADDED, *((NAMES | PROMETHEUS)[name] for name in used(rule["expr"])))
        assert "instance" in re.findall(r"\$labels\.(\w+)", texts)
        assert set(re.findall(r"\$labels\.(\w+)", texts)) <= labels


@pytest.mark.skipif(PROMTOOL is None, reason="no promtool")
def test_promtool_reads_the_dashboards_expressions(tmp_path: Path) -> None:
    read = [
        {"record": f"query:{number}", "expr": one.replace("$__rate_interval", "5m")}
        for number, (one, _legend) in enumerate(queries())
    ]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": read}]}))
    done = subprocess.run(["promtool", "check", "rules", str(file)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


SERIES = {
    'up{job="hawkwing",instance="a"}': "0x20",
    'up{job="hawkwing",instance="b"}': "1x20",
    'hawkwing_attached{instance="a",interface="eth0"}': "1x4 0x16",
    'hawkwing_attached{instance="a",interface="eth1"}': "1x20",
    'hawkwing_decap_installed{instance="a",sid="fcbb::d6"}': "1x4 0x16",
    'hawkwing_controller_state{instance="a",state="connected"}': "1 1 1 1 0x16",
    'hawkwing_controller_state{instance="b",state="connected"}': "0 0 0 1 1 0 0 0 1x12",
    'hawkwing_flows{instance="a"}': "91x20",
    'hawkwing_flows_capacity{instance="a"}': "100x20",
    'hawkwing_flows{instance="b"}': "89x20",
    'hawkwing_flows_capacity{instance="b"}': "100x20",
    'hawkwing_learned_paths{instance="b"}': "4000x20",
    'hawkwing_learned_paths_capacity{instance="b"}': "4095x20",
    'hawkwing_packets_total{instance="a",direction="ingress",reason="FLOWS_FULL"}': "5+1x20",
    'hawkwing_packets_total{instance="b",direction="ingress",reason="FLOWS_FULL"}': "5x20",
    'hawkwing_reloads_total{instance="a",result="refused"}': "0 0 0 1x17",
    'hawkwing_reloads_total{instance="a",result="good"}': "0+1x20",
}
#: Minute and alert: labels of those that fire.
FIRING: dict[tuple[int, str], list[dict[str, str]]] = {
    (1, "HawkwingDown"): [],
    (3, "HawkwingDown"): [{"instance": "a", "job": "hawkwing", "severity": "critical"}],
    (4, "HawkwingNotAttached"): [],
    (7, "HawkwingNotAttached"): [{"instance": "a", "interface": "eth0", "severity": "critical"}],
    (4, "HawkwingNotDecapsulating"): [],
    (7, "HawkwingNotDecapsulating"): [{"instance": "a", "sid": "fcbb::d6", "severity": "critical"}],
    (8, "HawkwingControllerGone"): [],
    (10, "HawkwingControllerGone"): [{"instance": "a", "state": "connected", "severity": "warning"}],
    (4, "HawkwingTableNearlyFull"): [],
    (6, "HawkwingTableNearlyFull"): [
        {"instance": "a", "table": "flows", "severity": "warning"},
        {"instance": "b", "table": "paths", "severity": "warning"},
    ],
    (6, "HawkwingTableFull"): [{"instance": "a", "reason": "FLOWS_FULL", "severity": "warning"}],
    (2, "HawkwingReloadRefused"): [],
    (5, "HawkwingReloadRefused"): [{"instance": "a", "result": "refused", "severity": "warning"}],
}


@pytest.mark.skipif(PROMTOOL is None, reason="no promtool")
def test_alerts_fire_when_they_should(tmp_path: Path) -> None:
    """What the annotations say is not compared."""
    plain = yaml.safe_load(ALERTS.read_text())
    for rule in plain["groups"][0]["rules"]:
        del rule["annotations"]
    (tmp_path / "alerts.yml").write_text(yaml.safe_dump(plain))
    tests = [
        {
            "eval_time": f"{minute}m",
            "alertname": name,
            "exp_alerts": [{"exp_labels": labels} for labels in firing],
        }
        for (minute, name), firing in FIRING.items()
    ]
    assert {name for _minute, name in FIRING} == {rule["alert"] for rule in rules()}
    series = [{"series": name, "values": values} for name, values in SERIES.items()]
    case = {"interval": "1m", "input_series": series, "alert_rule_test": tests}
    file = tmp_path / "test.yml"
    file.write_text(
        yaml.safe_dump({"rule_files": ["alerts.yml"], "evaluation_interval": "1m", "tests": [case]})
    )
    for command in (("check", "rules", str(ALERTS)), ("test", "rules", str(file))):
        done = subprocess.run(["promtool", *command], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
