"""`lab.export --to containerlab`: the file has what containerlab reads, and each mistake its sentence."""

from __future__ import annotations

import copy
import json
import os
import shlex
from ipaddress import IPv6Network
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import validators

from hawkwing.cli import parser
from hawkwing.config import load_config
from lab import export
from lab.errors import LabError
from lab.network import DEFAULT_TOPOLOGY
from lab.routing import routes
from lab.topology import load_topology

PROJECT = Path(__file__).parents[2]
CONFIG = PROJECT / "lab" / "client.yaml"
TOPOLOGY = load_topology(DEFAULT_TOPOLOGY)
SCHEMA = "HAWKWING_CONTAINERLAB_SCHEMA"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The file for the development network."""
    file = tmp_path_factory.mktemp("export") / "hawk.clab.yml"
    written = export.export(TOPOLOGY, file, CONFIG, export.ROUTER_IMAGE, export.AGENT_IMAGE)
    assert written == [file, file.with_name("client.yaml")]
    load_config(written[1])
    found: dict[str, Any] = yaml.safe_load(file.read_text())
    return found


def test_containerlab_takes_it(made: dict[str, Any]) -> None:
    """By its own schema (schemas/clab.schema.json of its sources), where the variable has its path."""
    if SCHEMA not in os.environ:
        pytest.skip(f"no schema of containerlab: {SCHEMA} is not set")
    schema = json.loads(Path(os.environ[SCHEMA]).read_text())
    validator = validators.validator_for(schema)(schema)
    assert [one.message for one in validator.iter_errors(made)] == []
    wrong = copy.deepcopy(made)
    wrong["topology"]["nodes"]["host-a"]["network-modes"] = "none"
    assert not validator.is_valid(wrong)


def test_the_clients_labels_are_the_nodes_names(tmp_path: Path) -> None:
    names = {router.sid: router.name for router in TOPOLOGY.routers}
    file = tmp_path / "client.yaml"
    file.write_text(export.client_config(TOPOLOGY, CONFIG))
    for one in (CONFIG, file):
        assert load_config(one).labels == names


def test_all_nodes_and_links(made: dict[str, Any]) -> None:
    nodes, links = made["topology"]["nodes"], made["topology"]["links"]
    assert made["name"] == TOPOLOGY.name
    assert {name for name, one in nodes.items() if one["group"] == "router"} == set(TOPOLOGY.nodes)
    assert [tuple(one["endpoints"]) for one in links] == [
        tuple(str(endpoint) for endpoint in link.endpoints) for link in TOPOLOGY.links
    ]
    # containerlab allows eth0 as a link's end only in nodes without a management network.
    assert {nodes[one["endpoints"][0].split(":")[0]]["network-mode"] for one in links} == {"none"}


def test_all_addresses_sids_and_routes(made: dict[str, Any]) -> None:
    nodes = made["topology"]["nodes"]
    for router in TOPOLOGY.routers:
        words = [shlex.split(line) for line in nodes[router.name]["exec"]]
        assert [line[4] for line in words if "seg6local" in line] == [
            *(f"{sid}/128" for sid in router.sids),
            *([str(router.csid)] if router.csid else []),
        ]
        prefixes = [IPv6Network(line[4]) for line in words if "nexthop" in line]
        assert prefixes == [route.prefix for route in routes(TOPOLOGY)[router.name]]
        assert [line[4] for line in words if line[2] == "address"] == [
            str(router.loopback),
            *(str(interface.address) for interface in router.interfaces),
        ]


def test_containers_beside_hosts(made: dict[str, Any]) -> None:
    nodes = made["topology"]["nodes"]
    beside = {name: one for name, one in nodes.items() if one["group"] == "agent"}
    assert list(beside) == ["host-a-client", "host-b-server", "host-b-web", "host-c-server", "host-c-web"]
    for name, one in beside.items():
        host, _, what = name.rpartition("-")
        assert one["network-mode"] == f"container:{host}" and one["image"] == export.AGENT_IMAGE
        if what != "web":
            assert parser().parse_args(one["cmd"].split()).command == what


def test_vpp_routers_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "vpp.yaml"
    text = DEFAULT_TOPOLOGY.read_text().replace(
        "vpp2:\n    kind: router", "vpp2:\n    kind: router\n    router: vpp"
    )
    file.write_text(text)
    with pytest.raises(LabError, match="only Linux routers can be exported: router: vpp is set for vpp2"):
        export.containerlab(load_topology(file), "x", "router", "agent")


def test_names_that_nobody_knows_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "client.yaml"
    file.write_text(CONFIG.read_text().replace("wb.hawk.net", "wx.hawk.net"))
    with pytest.raises(LabError, match=r"wx\.hawk\.net is not in the topology's DNS zone"):
        export.client_config(TOPOLOGY, file)


def test_where_it_can_not_be_written() -> None:
    with pytest.raises(LabError, match="can't write /nowhere/x: No such file or directory"):
        export.export(TOPOLOGY, Path("/nowhere/x"), CONFIG, "router", "agent")
