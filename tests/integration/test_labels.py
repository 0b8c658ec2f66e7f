"""`labels` in the lab: paths by names in every command, and what stays with addresses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lab.network import Lab
from lab.wait import wait_until
from tests.schemas import assert_known_status

from .conftest import HAWKWING, Agents, on_vpp, said
from .onwire import R1, R2, R4, R6, B
from .test_steering import http

SIDS = [R1, R2, R4, R6]
CONFIG = f"services: {{b: {{ipv6_addresses: ['{B}'], applications: [{{port: 80, sid: {SIDS}}}]}}}}\n"
#: The third router has none.
LABELS = f"labels: {{'{R1}': vpp1, '{R2}': vpp2, '{R6}': vpp6}}\n"
NAMES = f"vpp1 > vpp2 > {R4} > vpp6"
ADDRESSES = " > ".join(SIDS)
BACK = f"vpp6 > {R4} > vpp2 > vpp1"


def status(lab: Lab, host: str = "host-a") -> dict[str, Any]:
    told = json.loads(said(lab, "status", "--json", host=host))
    assert_known_status(told)
    return dict(told[0])


def test_every_command_shows_names(lab: Lab, agents: Agents) -> None:
    agents.client(CONFIG + LABELS)
    assert f"backup: {NAMES}  (" in said(lab, "status")
    assert f"configured  {NAMES}  (in use since" in said(lab, "paths", B)
    assert f"use {NAMES}: the configured sid" in said(lab, "explain", B, "80")
    pinged = said(lab, "ping", B, "80", "-c", "1")
    assert pinged.startswith(f"ping {NAMES} and back, ") and f"--- {NAMES} and back ---" in pinged
    traced = said(lab, "trace", B, "80", "-c", "1", "-i", "0.1")
    assert traced.startswith(f"trace {NAMES} and back, ")
    assert f" vpp2 ({R2}) " in traced and f" 3  {R4} " in traced
    given = said(lab, "ping", "--sid", f"{R1},{R4}", "-c", "1")
    assert given.startswith(f"ping vpp1 > {R4} and back, ")


def test_json_keeps_addresses(lab: Lab, agents: Agents) -> None:
    agents.client(CONFIG + LABELS)
    nodes = NAMES.split(" > ")
    (binding,) = status(lab)["bindings"]
    assert (binding["sids"], binding["nodes"]) == (SIDS, nodes)
    (told,) = json.loads(said(lab, "paths", B, "--json"))
    (found,) = told["bindings"]
    assert (found["candidates"][0]["sids"], found["candidates"][0]["nodes"]) == (SIDS, nodes)
    pinged = json.loads(said(lab, "ping", B, "80", "-c", "1", "--json"))
    assert (pinged["sids"], pinged["nodes"]) == (SIDS, nodes)


def test_without_labels_there_are_addresses(lab: Lab, agents: Agents) -> None:
    """The control."""
    agents.client(CONFIG)
    assert f"backup: {ADDRESSES}  (" in said(lab, "status")
    assert f"configured  {ADDRESSES}  (in use since" in said(lab, "paths", B)
    assert f"use {ADDRESSES}: the configured sid" in said(lab, "explain", B, "80")
    assert said(lab, "ping", B, "80", "-c", "1").startswith(f"ping {ADDRESSES} and back, ")
    assert f" 2  {R2} " in said(lab, "trace", B, "80", "-c", "1", "-i", "0.1")
    assert said(lab, "ping", "--sid", R1, "-c", "1").startswith(f"ping {R1} and back, ")
    assert "nodes" not in status(lab)["bindings"][0]


def test_a_server_shows_what_it_has_learned_by_names(lab: Lab, agents: Agents, tmp_path: Path) -> None:
    file = tmp_path / "server.yaml"
    file.write_text(LABELS)
    agents.server("host-b", "--config", str(file))
    agents.client(CONFIG)
    http(lab, f"http://[{B}]/")
    assert f"  learned path {BACK}: " in said(lab, "status", host="host-b")
    (path,) = status(lab, "host-b")["paths"]
    assert (path["sids"], path["nodes"]) == (SIDS[::-1], BACK.split(" > "))


def test_containers_are_unpacked_first(lab: Lab, agents: Agents, tmp_path: Path) -> None:
    if not on_vpp(lab) and "next-csid" not in lab.execute("vpp1", ["ip", "-6", "route"]).stdout:
        pytest.skip("the routers have no compressed SIDs")
    block = "csid: [{block: 'fcbb:bb00::/32'}]\n"
    labels = "labels: {" + ", ".join(f"fcbb:bb00:{n}::: vpp{n}" for n in (1, 2, 4, 6)) + "}\n"
    config = CONFIG.replace(str(SIDS), "['fcbb:bb00:1:2::', 'fcbb:bb00:4:6::']")
    file = tmp_path / "server.yaml"
    file.write_text(block + labels)
    agents.server("host-b", "--config", str(file))
    agents.client(config + block + labels)
    http(lab, f"http://[{B}]/")
    path = "vpp1 > vpp2 > vpp4 > vpp6"
    assert f"backup: {path}  (" in said(lab, "status")
    assert f"use {path}: " in said(lab, "explain", B, "80")
    assert said(lab, "ping", B, "80", "-c", "1").startswith(f"ping {path} and back, ")
    assert "  learned path vpp6 > vpp4 > vpp2 > vpp1: " in said(lab, "status", host="host-b")
    (binding,) = status(lab)["bindings"]
    assert binding["segments"] == ["fcbb:bb00:1:2:4:6::"]


def test_a_reload_applies_them_at_once(lab: Lab, agents: Agents, tmp_path: Path) -> None:
    agents.client(CONFIG)
    (file,) = tmp_path.glob("host-a-*.yaml")
    before = status(lab)["bindings"][0]
    for labels, shown in ((LABELS, NAMES), (LABELS.replace("vpp2", "two"), NAMES.replace("vpp2", "two"))):
        file.write_text(CONFIG + labels)
        said(lab, "reload")
        assert f"backup: {shown}  (" in said(lab, "status")
    file.write_text(CONFIG)
    said(lab, "reload")
    after = status(lab)["bindings"][0]
    assert after == before


def test_watch_shows_names_and_rates(lab: Lab, agents: Agents) -> None:
    agents.client(CONFIG + LABELS)
    watching = lab.start("host-a", "watching", [*HAWKWING, "status", "--watch"])
    wait_until(lambda: watching.output().count(NAMES) >= 2, 30.0, "the second sample")
    watching.stop()
    assert f"{NAMES}  (0 packets over this path, 0 packets/s, " in watching.output()
