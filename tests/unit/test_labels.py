"""`labels`: what is accepted, what is said of mistakes, and paths as people read them."""

from __future__ import annotations

import json
from collections.abc import Callable
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from hawkwing import candidates, config_schema, control, explain, metric_families, paths, status
from hawkwing.config import Config, check_config, load_config
from hawkwing.config_labels import MOST_LABELS
from hawkwing.csid import Block
from hawkwing.dataplane.interfaces import Asked
from hawkwing.errors import ConfigError, HawkwingError
from hawkwing.labels import NO_LABELS, Labels, path_of
from hawkwing.plan import Options, make_plan
from hawkwing.probing import chosen, ping, trace
from hawkwing.probing.chosen import Chosen
from hawkwing.probing.rtt import Tally
from hawkwing.probing.run import Lane
from hawkwing.watch import Sample, lines
from hawkwing.yaml_lines import read_yaml
from tests.agents import answering
from tests.unit.test_explain import SID, THERE, steering
from tests.unit.test_probe_commands import Counting
from tests.unit.test_watch import client, server

A = IPv6Address("fcbb:cc00:1::a")
R1, R2, R3 = (IPv6Address(f"fcbb:bb00:{n}::2") for n in (1, 2, 3))
C1, C2, C3 = (IPv6Address(f"fcbb:bb00:{n}::") for n in (1, 2, 3))
BLOCK = Block(IPv6Network("fcbb:bb00::/32"))
LABELS = Labels({R1: "r1", R3: "r3", C1: "c1", C3: "c3"}, [BLOCK])
BLOCKS = "csid: [{block: 'fcbb:bb00::/32'}]\n"
SERVICES = f"services: {{b: {{ipv6_addresses: ['{THERE}'], applications: [{{port: 80, sid: ['{R1}']}}]}}}}\n"


def load(folder: Path, text: str) -> Config:
    file = folder / "hawk.yaml"
    file.write_text(text)
    return load_config(file, require_services=False)


def said(folder: Path, text: str) -> list[str]:
    """What is said of a file, behind `FILE:`."""
    with pytest.raises(ConfigError) as caught:
        load(folder, text)
    return [line.removeprefix(f"{folder}/hawk.yaml:") for line in caught.value.problems]


def schema_takes(text: str) -> bool:
    return not list(Draft7Validator(config_schema.schema()).iter_errors(read_yaml(text).data))


# --- the file


@pytest.mark.parametrize(
    "text",
    [
        'labels: {fcbb:bb00:1::: r1, "fcbb:bb00:3::": r3}\n',
        "labels:\n  fcbb:bb00:1::: r1\n  fcbb:bb00:3::: r3\n",
        "labels:\n  FCBB:BB00:1:0::0: r1\n  'fcbb:bb00:3::': r3\n" + BLOCKS,
    ],
    ids=["flow", "block", "spelled otherwise"],
)
def test_sids_have_names(tmp_path: Path, text: str) -> None:
    assert load(tmp_path, text).labels == {C1: "r1", C3: "r3"}
    assert schema_takes(text)


@pytest.mark.parametrize("name", ["a", "R1.core-2_x", "7up", "'101'", "x" * 63, "_1"])
def test_names(tmp_path: Path, name: str) -> None:
    text = f"labels: {{'{R1}': {name}, '{R2}': {name}}}\n"
    assert load(tmp_path, text).labels == {R1: name.strip("'"), R2: name.strip("'")}
    assert schema_takes(text)


@pytest.mark.parametrize("text", ["", "labels:\n", "labels: {}\n"])
def test_without_labels(tmp_path: Path, text: str) -> None:
    text = "sr_domain: ['fcbb::/16']\n" + text
    assert load(tmp_path, text).labels == {}
    assert schema_takes(text)


AT = "labels['fcbb:bb00:1::2']"
ALLOWED = "a label has letters (a to z), digits, '.', '-' and '_' only"
SHAPE = "1: labels: must be a mapping of SIDs to names, for example `fcbb:bb00:1::2: r1`"


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("''", "is empty, write the node's name"),
        ("' '", "is empty, write the node's name"),
        ("", "is empty, write the node's name"),
        ("5", "5 is not text, put it in quotes"),
        ("on", "true is not text, put it in quotes"),
        ("[r1]", "must be text, but here is a list"),
        ("x" * 64, f"{'x' * 64} is 64 characters long, a label has at most 63"),
        ("r 1", f"r 1 has the character ' ' in it, {ALLOWED}"),
        ("r1>r2", f"r1>r2 has the character '>' in it, {ALLOWED}"),
        ("zürich", f"zürich has the character 'ü' in it, {ALLOWED}"),
        ("fcbb::1", f"fcbb::1 has the character ':' in it, {ALLOWED}"),
        ('"a\\a"', "'a\\x07' has characters that can't be printed"),
        ("'--'", "-- has no letter or digit in it"),
    ],
)
def test_names_that_are_none(tmp_path: Path, written: str, told: str) -> None:
    text = f"labels:\n  fcbb:bb00:2::2: r2\n  fcbb:bb00:1::2: {written}\n"
    assert said(tmp_path, text) == [f"3: {AT}: {told}"]
    assert not schema_takes(text)


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("fcbb:bb00:1::/48", "fcbb:bb00:1::/48 has a prefix length, write the address without it"),
        ("fe80::1", "fe80::1 is link-local: no router forwards to it"),
        ("r1", "r1 is a name: a SID is an IPv6 address"),
        ("10.0.0.1", "10.0.0.1 is an IPv4 address, only IPv6 can be used"),
        ("'ff02::1'", "ff02::1 is a multicast address, which can't be used here"),
        (
            "fcbb:bb00:1:",
            'fcbb:bb00:1: is not an IPv6 address, write "fcbb:bb00:1::" in quotes and a colon behind it',
        ),
        ("fcbb:", 'fcbb: is not an IPv6 address, write "fcbb::" in quotes and a colon behind it'),
        ("fcbb:x:", "fcbb:x: is not an IPv6 address"),
    ],
)
def test_addresses_that_are_none(tmp_path: Path, key: str, told: str) -> None:
    text = f"labels:\n  {key}: r1\n"
    (line,) = said(tmp_path, text)
    assert line.startswith("2: labels") and line.endswith(f": {told}")
    assert not schema_takes(text)


def test_the_wrong_way_round(tmp_path: Path) -> None:
    text = "labels: {r1: fcbb:bb00:1::2}\n"
    assert said(tmp_path, text) == ["1: labels.r1: is the wrong way round, write fcbb:bb00:1::2: r1"]
    assert not schema_takes(text)


@pytest.mark.parametrize("written", ["[r1]", "r1", "[{fcbb:bb00:1::2: r1}]", "7"])
def test_no_mapping(tmp_path: Path, written: str) -> None:
    text = f"labels: {written}\n"
    assert said(tmp_path, text) == [SHAPE]
    assert not schema_takes(text)


def test_a_sid_has_one_label(tmp_path: Path) -> None:
    text = "labels:\n  fcbb:bb00:1::2: r1\n  FCBB:bb00:1:0::2: r9\n"
    assert said(tmp_path, text) == [
        "3: labels['FCBB:bb00:1:0::2']: FCBB:bb00:1:0::2 has a label already, as fcbb:bb00:1::2"
    ]
    text = "labels:\n  fcbb:bb00:1::2: r1\n  fcbb:bb00:1::2: r1\n"
    assert said(tmp_path, text) == [f"3: {AT}: is given twice, on line 2 and on line 3"]


def test_a_container_has_the_labels_of_its_sids(tmp_path: Path) -> None:
    text = "labels: {'fcbb:bb00:1:2::': r1}\n"
    assert said(tmp_path, BLOCKS + text) == [
        "2: labels['fcbb:bb00:1:2::']: fcbb:bb00:1:2:: is a container of 2 SIDs, label each of them: "
        "fcbb:bb00:1::, fcbb:bb00:2::"
    ]
    # Without the block it is one SID of another network.
    assert load(tmp_path, text).labels == {IPv6Address("fcbb:bb00:1:2::"): "r1"}


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    text = f"labels:\n  fe80::1: r 1\n  {R1}: ''\nsr_domain: ['fcbb::']\n"
    assert [line.partition(":")[0] for line in said(tmp_path, text)] == ["2", "2", "3", "4"]


def test_so_many_labels_and_no_more(tmp_path: Path) -> None:
    listed = [f"  fcbb::{n // 65536:x}:{n % 65536:x}: r{n}\n" for n in range(1, MOST_LABELS + 2)]
    assert len(load(tmp_path, "labels:\n" + "".join(listed[:-1])).labels) == MOST_LABELS
    assert said(tmp_path, "labels:\n" + "".join(listed)) == [
        "1: labels: has 65,537 labels, at most 65,536 are possible"
    ]


# --- the plan


def options(folder: Path, text: str, role: Any, *csid: str) -> Options:
    file = folder / "hawk.yaml"
    file.write_text(text)
    return Options(role, [Asked("lo", "lo")], file, csid=tuple(map(IPv6Network, csid)))


@pytest.mark.parametrize("role", ["client", "server"])
def test_both_roles_have_them(tmp_path: Path, role: str) -> None:
    text = f"{SERVICES}{BLOCKS}labels: {{'{C1}': c1, '{R3}': r3}}\n"
    made = make_plan(options(tmp_path, text, role))
    assert made.labels.nodes([IPv6Address("fcbb:bb00:1:2::"), R3]) == ["c1", str(C2), "r3"]
    assert not make_plan(options(tmp_path, SERVICES, role)).labels


def test_containers_of_the_command_line(tmp_path: Path) -> None:
    text = SERVICES + "labels: {'fcbb:bb00:1:2::': r1}\n"
    with pytest.raises(HawkwingError, match=r"^labels: fcbb:bb00:1:2:: is a container of 2 SIDs, label each"):
        make_plan(options(tmp_path, text, "client", "fcbb:bb00::/32"))
    assert make_plan(options(tmp_path, text, "client", "fcbb:bbbb::/32")).labels


def test_nothing_is_warned_of(tmp_path: Path) -> None:
    file = tmp_path / "hawk.yaml"
    file.write_text(f"{SERVICES}labels: {{'{R1}': r1}}\n")
    assert check_config(file)[1] == []


# --- paths


@pytest.mark.parametrize(
    ("sids", "shown"),
    [
        ((R1, R2, R3), f"r1 > {R2} > r3"),
        ((), ""),
        ((IPv6Address("fcbb:bb00:1:2:3::"), R1), f"c1 > {C2} > c3 > r1"),
        ((A,), str(A)),
    ],
)
def test_a_path_by_names(sids: tuple[IPv6Address, ...], shown: str) -> None:
    assert LABELS.path(sids) == shown


def test_without_labels_a_path_is_as_it_was() -> None:
    container = IPv6Address("fcbb:bb00:1:2:3::")
    assert NO_LABELS.path((container, R1)) == f"{container} > {R1}"
    assert Labels({}, [BLOCK]).path((container, R1)) == f"{container} > {R1}"


def test_what_an_agent_has_told() -> None:
    assert path_of({"sids": ["fcbb::1"], "nodes": ["r1"]}) == "r1"
    assert path_of({"sids": ["fcbb::1"]}) == "fcbb::1"
    assert path_of({"sids": [], "nodes": []}) == ""


def with_nodes(told: dict[str, Any], *nodes: str) -> dict[str, Any]:
    """The status with these names on each of its paths."""
    for one in (*told.get("bindings", ()), *told.get("paths", ())):
        one["nodes"] = list(nodes) if one["sids"] else []
    return told


def test_the_status_and_its_rates() -> None:
    def shown(told: Callable[..., dict[str, Any]], *packets: int) -> list[str]:
        before, after = (with_nodes(told(number), "r1", "r2") for number in packets)
        return list(lines(Sample(4.0, [after]), Sample(2.0, [before])))

    assert "  learned path r1 > r2: 30 packets, 10 packets/s" in shown(server, 10, 30)
    told = shown(lambda number: client(long=number), 10, 30)
    assert (
        "  web [fcbb:cc00::a]:80  backup: r1 > r2  (30 packets over this path, 10 packets/s, 0 s old)" in told
    )
    assert any("[fcbb:cc00::d]:80  none: no path" in line for line in told)


def test_json_has_addresses_and_names() -> None:
    plane: Any = Counting()
    made = steering(enabled=False)
    labels = Labels({SID: "r1"})
    binding = made.bindings_at(THERE)[0]
    told = status.of_binding(plane, binding, labels)
    assert told["sids"] == [str(SID), str(SID)] and told["nodes"] == ["r1", "r1"]
    assert "nodes" not in status.of_binding(plane, binding, NO_LABELS)
    (found,) = candidates.of_destination(plane, made, None, str(THERE), 80, labels)["bindings"]
    assert (
        found["candidates"][0]["nodes"] == ["r1", "r1"] and found["candidates"][0]["sids"] == [str(SID)] * 2
    )


def test_explain() -> None:
    told = explain.sentence(steering(enabled=False), None, str(THERE), 80, Labels({SID: "r1"}))
    assert told == (
        f"packets to [{THERE}]:80 (service web) use r1 > r1: the configured sid; no controller is asked"
    )


def test_paths() -> None:
    found = candidates.of_destination(
        Counting(),  # type: ignore[arg-type]
        steering(enabled=False),
        None,
        str(THERE),
        80,
        Labels({SID: "r1"}),
    )
    for binding in found["bindings"]:
        binding["packets_per_second"] = None
    answer = {"interfaces": ["eth0"], "pid": 1, "problems": [], **found}
    assert any("configured  r1 > r1  (in use since" in line for line in paths.lines([answer]))


NAMED = Chosen((R1, R2, R3), A, "given", nodes=("r1", str(R2), "r3"))


def test_ping() -> None:
    assert ping.head(NAMED, 56) == f"ping r1 > {R2} > r3 and back, from {A}, 56 bytes"
    assert next(ping.summary(NAMED, Tally(), 1.0)) == f"--- r1 > {R2} > r3 and back ---"
    told = ping.report(NAMED, Lane(b""), [], [])
    assert told["sids"] == [str(R1), str(R2), str(R3)] and told["nodes"] == ["r1", str(R2), "r3"]
    assert "nodes" not in ping.report(Chosen((R1,), A, "given"), Lane(b""), [], [])


def test_trace() -> None:
    lanes = [Lane(b"") for _ in range(3)]
    lanes[0].tally.came_back(0.001)
    lanes[1].tally.came_back(0.002)
    lanes[2].tally.was_lost()
    _head, *rows = trace.table(NAMED, lanes)
    assert [row.split()[1:3] for row in rows] == [["r1", f"({R1})"], [str(R2), "0%"], ["r3", f"({R3})"]]
    assert trace.verdict(NAMED, lanes, 2) == (
        f"the path fails at segment 3 (r3): no answer, segment 2 ({R2}) answers; the router is down or has "
        f"no such SID, or the path between {R2} and r3 is broken"
    )
    assert trace.report(NAMED, lanes, 2, [], [], None)["segments"][2]["sid"] == str(R3)


def test_metrics_stay_with_addresses() -> None:
    told = with_nodes(client(long=5), "r1", "r2")
    assert str(list(metric_families._of_bindings(told["bindings"]))) == str(
        list(metric_families._of_bindings(client(long=5)["bindings"]))
    )


# --- --sid: the agents of this host are asked


def test_a_given_list_has_the_labels_of_the_agents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAWKWING_RUN", str(tmp_path / "run"))
    assert chosen.nodes_of((R1, R2)) == ()
    labels = Labels({R1: "r1"})
    path = control.socket_path("client", "eth0")
    path.parent.mkdir(parents=True)
    with answering(path, "labels", lambda request: labels.of_texts(request["sids"])):
        assert chosen.nodes_of((R1, R2)) == ("r1", str(R2))
        assert chosen.nodes_of((R2,)) == ()
        assert chosen.by_list((R1, R2), A).nodes == ("r1", str(R2))
    with answering(control.socket_path("client", "eth0"), "status", lambda _request: {}):
        # An earlier version.
        assert chosen.nodes_of((R1, R2)) == ()


@pytest.mark.parametrize("asked", [None, "fcbb::1", [1, None, "x", ["fcbb::1"]], {"fcbb::1": 1}])
def test_a_request_that_nobody_should_send(asked: object) -> None:
    assert LABELS.of_texts(asked) == {}


def test_the_path_of_a_destination_has_the_names_of_its_client() -> None:
    binding = {
        "address": str(THERE),
        "port": 80,
        "sids": ["fcbb:bb00:1:2::"],
        "nodes": ["c1", str(C2)],
        "origin": "backup",
        "why": "so",
    }
    block = {"block": "fcbb:bb00::/32", "local": 0xE000}
    answer = {"bindings": [binding], "problems": [], "notes": [], "csid": [block]}
    found = chosen.from_answers([answer], A)
    assert (found.sids, found.nodes) == ((C1, C2), ("c1", str(C2)))
    assert json.loads(json.dumps(found.as_json()))["nodes"] == ["c1", str(C2)]
    assert found.shown == ["c1", str(C2)]
