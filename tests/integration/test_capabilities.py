"""Agents with the smallest set of capabilities, not all of root's; with less, one sentence says so."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyroute2 import IPRoute

from hawkwing.dataplane import bpf
from lab.network import Lab
from lab.process import Process
from lab.wire import Capture, tcp_port
from tests.schemas import assert_known_status

from .conftest import HAWKWING, Agents, filters
from .onwire import assert_steered
from .test_steering import BY_NAME, http

PASS = b"\xb7\0\0\0\2\0\0\0" + b"\x95" + bytes(7)
"""An XDP program: r0 = XDP_PASS; exit."""
GENERIC = 2
SMALLEST = ("net_admin", "bpf", "perfmon")


def limited(*capabilities: str) -> list[str]:
    """Of root's capabilities these alone."""
    return ["setpriv", f"--bounding-set=-all{''.join(f',+{name}' for name in capabilities)}", "--"]


@pytest.fixture
def server(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Process]:
    """A server on host-b with the smallest set and an ingress hook; it must end with status 0."""
    options = ["--ingress-hook", request.param, "--sr-domain", "fcbb::/16"]
    command = [*limited(*SMALLEST), *HAWKWING, "server", "-i", "eth0", *options]
    process = lab.start("host-b", "limited-server", command)
    process.wait_for("ready: ")
    yield process
    assert process.stop() == 0, process.output()
    assert "Traceback" not in process.output()
    assert filters(lab, "host-b") == ""
    assert "xdp" not in lab.execute("host-b", ["ip", "link", "show", "eth0"]).stdout


@pytest.mark.parametrize("server", ["tc", "xdp", "xdp-generic"], indirect=True)
def test_a_server_steers_and_tells(lab: Lab, server: Process, agents: Agents, capture: Capture) -> None:
    agents.client(BY_NAME, "host-a")
    capture.forget()
    assert http(lab, "http://wb.hawk.net/") == "Hello from host-b\n"
    assert_steered(capture.settled(tcp_port(80)))
    for arguments in (["status", "--json"], ["status"]):
        told = lab.execute("host-b", [*limited(), *HAWKWING, *arguments])
        assert told.stderr == ""
    answer = json.loads(lab.execute("host-b", [*limited(), *HAWKWING, "status", "--json"]).stdout)
    assert_known_status(answer)
    assert answer[0]["flows"]["count"] >= 1


@pytest.mark.parametrize("server", ["tc"], indirect=True)
def test_a_client_steers_too(lab: Lab, server: Process, capture: Capture) -> None:
    file = lab.run / "limited.yaml"
    file.write_text(BY_NAME)
    command = [*limited(*SMALLEST), *HAWKWING, "client", "-i", "eth0", "--config", str(file)]
    client = lab.start("host-a", "limited-client", command)
    try:
        client.wait_for("ready: ")
        capture.forget()
        assert http(lab, "http://wb.hawk.net/") == "Hello from host-b\n"
        assert_steered(capture.settled(tcp_port(80)))
    finally:
        assert client.stop() == 0
    assert filters(lab, "host-a") == ""


@pytest.mark.parametrize("missing", SMALLEST)
def test_what_is_missing_is_named(lab: Lab, missing: str) -> None:
    rest = limited(*(name for name in SMALLEST if name != missing))
    result = lab.execute("host-b", [*rest, *HAWKWING, "server", "-i", "eth0"], check=False)
    assert result.returncode == 1
    assert result.stderr == (
        f"hawkwing: missing CAP_{missing.upper()}: run it as root, or give it this capability\n"
    )
    assert filters(lab, "host-b") == ""


@pytest.fixture
def foreign_xdp(lab: Lab) -> Iterator[int]:
    """Somebody's XDP program on host-b's link, which passes everything; its id."""
    program = bpf.load_program("somebody", PASS, bpf.XDP)

    def put(fd: int) -> None:
        with IPRoute() as ip:
            attributes = [("IFLA_XDP_FD", fd), ("IFLA_XDP_FLAGS", GENERIC)]
            ip.link("set", index=ip.link_lookup(ifname="eth0")[0], xdp={"attrs": attributes})

    lab.inside("host-b", lambda: put(program))
    yield bpf.program_info(program).id
    lab.inside("host-b", lambda: put(-1))
    os.close(program)


@pytest.mark.parametrize("prefix", [[], limited(*SMALLEST)], ids=["root", "limited"])
def test_a_foreign_xdp_program_is_left_alone(lab: Lab, foreign_xdp: int, prefix: list[str]) -> None:
    """Without CAP_SYS_ADMIN it can't be asked for its name; tc's hooks don't need that."""
    agent = lab.start("host-b", "beside-xdp", [*prefix, *HAWKWING, "server", "-i", "eth0"])
    try:
        agent.wait_for("ready: ")
    finally:
        assert agent.stop() == 0, agent.output()
    assert f"prog/xdp id {foreign_xdp} " in lab.execute("host-b", ["ip", "link", "show", "eth0"]).stdout
    assert filters(lab, "host-b") == ""


def test_a_killed_agent_is_cleaned_up_after(lab: Lab, agents: Agents) -> None:
    """By one that may not ask the kernel for programs by number: it knows them from the note."""
    first = agents.server("host-b", "--ingress-hook", "xdp")
    first.signal(9)
    first.wait()
    command = [*limited(*SMALLEST), *HAWKWING, "server", "-i", "eth0"]
    second = lab.start("host-b", "limited-server", command)
    try:
        second.wait_for("ready: ")
        assert "learned again" in second.output()
        assert "xdp" not in lab.execute("host-b", ["ip", "link", "show", "eth0"]).stdout
    finally:
        assert second.stop() == 0
    assert filters(lab, "host-b") == ""


def test_a_server_decapsulates(lab: Lab, tmp_path: Path) -> None:
    """CAP_NET_ADMIN is enough for its rules and routes, also for `detach`; without it a sentence says so."""
    file = tmp_path / "server.yaml"
    file.write_text("sr_domain: [fcbb::/16]\ndecap: {ipv6: 'fcbb:cc00:2::d6'}\n")
    command = [*limited(*SMALLEST), *HAWKWING, "server", "-i", "eth0", "--config", str(file)]
    process = lab.start("host-b", "limited-server", command)
    process.wait_for("ready: ")
    try:
        answer = json.loads(lab.execute("host-b", [*limited(), *HAWKWING, "status", "--json"]).stdout)
        assert answer[0]["decap"]["sids"][0]["installed"]
        process.signal(signal.SIGKILL)
        process.wait()
        lab.execute("host-b", ["tc", "qdisc", "del", "dev", "eth0", "clsact"])
        refused = lab.execute("host-b", [*limited(), *HAWKWING, "detach"], check=False)
        assert refused.stderr == "hawkwing: can't remove the SIDs of a server: it needs CAP_NET_ADMIN\n"
    finally:
        removed = lab.execute("host-b", [*limited("net_admin"), *HAWKWING, "detach"]).stdout
    assert removed == "removed the SIDs of the server on eth0\n"
    assert "proto 169" not in lab.execute("host-b", ["ip", "-6", "rule"]).stdout
