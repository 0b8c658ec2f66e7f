"""Start and stop: nothing is left, nothing of others is touched, every mistake gets one sentence."""

import os
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from hawkwing.dataplane.claim import runtime_folder
from lab import netns
from lab.network import PROJECT, Lab
from lab.process import Process
from lab.wait import PATIENCE, wait_until
from lab.wire import Capture, tcp_port

from .conftest import HAWKWING, Agents, filters
from .onwire import B, assert_steered
from .test_steering import BY_ADDRESS, BY_NAME, http

CLSACT = "tc qdisc add dev eth0 clsact"
FOREIGN = f"{CLSACT}; tc filter add dev eth0 egress prio 7 protocol ipv6 u32 match u32 0 0 flowid 1:1"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_detaches_everything(lab: Lab, agents: Agents, number: signal.Signals) -> None:
    client = agents.client(BY_NAME)
    assert "hawkwing:client" in filters(lab, "host-a")
    client.signal(number)
    assert client.wait() == 0
    assert filters(lab, "host-a") == ""
    assert "Traceback" not in client.output()


def children_of(process: Process) -> list[str]:
    """The numbers of an agent's own processes."""
    try:
        return Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    except OSError:
        return []


def children(process: Process) -> list[str]:
    """Their command lines."""
    found = []
    for pid in children_of(process):
        with suppress(OSError):
            found.append(Path(f"/proc/{pid}/cmdline").read_text(errors="replace"))
    return found


def compiles(_lab: Lab, process: Process) -> bool:
    """Its compiler is at work."""
    return any("dataplane.compiler" in line for line in children(process))


def has_claimed(lab: Lab, _process: Process) -> bool:
    """It is the one agent of its role."""
    return any(runtime_folder(netns.path(lab.namespace("host-c"))).glob("*.lock"))


def has_attached(lab: Lab, _process: Process) -> bool:
    """Its programs are noted."""
    return any(runtime_folder(netns.path(lab.namespace("host-c"))).glob("*.programs"))


BEFORE = (
    "hawkwing: compiling the data plane, once",
    "hawkwing: accepts SRHs whose source and segments are in fcbb::/16",
)
"""What an agent may have said before it was ended."""


def with_other_sources(folder: Path) -> dict[str, str]:
    """An environment with a copy of the agent whose C sources are not those of the shipped bytecode."""
    for name in ("hawkwing", "bpf"):
        shutil.copytree(PROJECT / name, folder / "copy" / name, ignore=shutil.ignore_patterns("__pycache__"))
    with (folder / "copy/bpf/hawkwing.c").open("a") as file:
        file.write("static int another_version;\n")
    return {"HAWKWING_CACHE": str(folder / "cache"), "PYTHONPATH": str(folder / "copy")}


@pytest.mark.parametrize("moment", [compiles, has_claimed, has_attached])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_it_starts_leaves_nothing_and_is_one_line(
    lab: Lab, tmp_path: Path, number: signal.Signals, moment: Callable[[Lab, Process], bool]
) -> None:
    """Ctrl-C comes to all its processes; and impatient people press it twice."""
    environment = with_other_sources(tmp_path) if moment is compiles else None
    program = [sys.executable, "-P", "-m", "hawkwing"] if moment is compiles else HAWKWING
    argv = [*program, "server", "-i", "eth0", "--sr-domain", "fcbb::/16"]
    process = lab.start("host-c", "interrupted", argv, environment)
    wait_until(
        lambda: moment(lab, process) or process.poll() is not None, PATIENCE, "the moment", pause=0.001
    )
    own = [int(line) for line in children_of(process)]
    for _ in range(2):
        with suppress(ProcessLookupError):
            if number == signal.SIGINT:
                os.killpg(process.pid, number)
            else:
                process.signal(number)
    if number == signal.SIGHUP:
        # Had it started already, it has read its configuration again.
        wait_until(lambda: process.poll() is not None or "reloaded" in process.output(), PATIENCE, "an end")
        status = process.poll() if process.poll() is not None else process.stop()
    else:
        status = process.wait(PATIENCE)
    if status:
        word = "interrupted" if number == signal.SIGINT else f"ended by {number.name}"
        said = [line for line in process.output().splitlines() if line not in BEFORE]
        assert (status, said) == (128 + number, [f"hawkwing: {word}"])
    assert "Traceback" not in process.output()
    assert filters(lab, "host-c") == ""
    assert not runtime_folder(netns.path(lab.namespace("host-c"))).exists()
    assert not [pid for pid in own if Path(f"/proc/{pid}").exists()]


def test_killed_agent_is_tidied_up_by_the_next(lab: Lab, agents: Agents, capture: Capture) -> None:
    first = agents.client(BY_NAME)
    first.signal(signal.SIGKILL)
    first.wait()
    assert "hawkwing:client" in filters(lab, "host-a"), "a killed agent can't tidy up"
    second = agents.client(BY_ADDRESS)
    assert filters(lab, "host-a").count("hawkwing:client") == 2, "one filter a direction"
    assert second.stop() == 0
    assert filters(lab, "host-a") == ""


def test_second_agent_is_refused_and_the_first_stays(lab: Lab, agents: Agents, capture: Capture) -> None:
    agents.server("host-b")
    agents.client(BY_NAME)
    result = lab.execute("host-a", [*HAWKWING, "client", "-i", "eth0", "--config", "/dev/null"], check=False)
    assert result.returncode == 1
    file = lab.run / "second.yaml"
    file.write_text(BY_ADDRESS)
    result = lab.execute("host-a", [*HAWKWING, "client", "-i", "eth0", "--config", str(file)], check=False)
    assert result.returncode == 1
    assert result.stderr.startswith("hawkwing: hawkwing client already runs on eth0 (PID ")
    assert len(result.stderr.splitlines()) == 1
    http(lab, "http://wb.hawk.net/")
    assert_steered(capture.settled(tcp_port(80)))


@pytest.mark.parametrize("theirs", [CLSACT, FOREIGN])
def test_what_others_put_there_stays(lab: Lab, agents: Agents, theirs: str) -> None:
    lab.execute("host-a", ["sh", "-c", theirs])
    before = filters(lab, "host-a")
    assert before
    client = agents.client(BY_NAME)
    assert client.stop() == 0
    assert filters(lab, "host-a") == before
    lab.execute("host-a", ["tc", "qdisc", "del", "dev", "eth0", "clsact"])


def test_both_roles_on_one_interface(lab: Lab, agents: Agents, capture: Capture) -> None:
    agents.server("host-a")
    agents.client(BY_NAME, "host-a")
    agents.server("host-b")
    capture.forget()
    http(lab, "http://wb.hawk.net/")
    assert_steered(capture.settled(tcp_port(80)))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["client", "-i", "nope", "--config", "/dev/null"], "hawkwing: there is no interface 'nope' here\n"),
        (["server", "-i", "eth0", "-i", "nope"], "hawkwing: there is no interface 'nope' here\n"),
    ],
)
def test_wrong_interface(lab: Lab, arguments: list[str], sentence: str) -> None:
    result = lab.execute("host-a", [*HAWKWING, *arguments], check=False)
    assert (result.returncode, result.stderr) == (1, sentence)
    assert filters(lab, "host-a") == ""


def test_wrong_configuration(lab: Lab) -> None:
    file = lab.run / "wrong.yaml"
    file.write_text(
        "services:\n  a:\n    domain_name: x.y\n    applications:\n"
        "      - port: 99999\n        sid: [10.0.0.1]\n"
    )
    result = lab.execute("host-a", [*HAWKWING, "client", "-i", "eth0", "--config", str(file)], check=False)
    assert result.returncode == 1
    lines = result.stderr.splitlines()
    assert lines == [
        f"{file}:5: services.a.applications[0].port: 99999 is not a port, use 1 to 65535",
        f"{file}:6: services.a.applications[0].sid[0]: 10.0.0.1 is an IPv4 address, only IPv6 can be used",
        "2 errors",
    ]
    assert filters(lab, "host-a") == ""


def test_table_too_large_for_the_memory(lab: Lab, agents: Agents, capture: Capture) -> None:
    """What is steered before stays steered."""
    group = Path("/sys/fs/cgroup/memory" if Path("/sys/fs/cgroup/memory").is_dir() else "/sys/fs/cgroup")
    group /= f"hawkwing-test-{os.getpid()}"
    try:
        group.mkdir()
        limit = next(
            file for name in ("memory.max", "memory.limit_in_bytes") if (file := group / name).exists()
        )
        limit.write_text(str(200 << 20))
    except (OSError, StopIteration):
        pytest.skip("no control group for memory can be made here")
    try:
        agents.server("host-b")
        agents.client(BY_ADDRESS)
        enter = f"echo $$ > {group}/cgroup.procs; exec {' '.join(HAWKWING)} server -i eth0 --flows 20000000"
        refused = lab.execute("host-c", ["sh", "-c", enter], check=False)
        assert refused.returncode == 1
        (line,) = refused.stderr.splitlines()
        assert "a table for 20,000,000 flows takes" in line and "MB are available" in line
        accepted = enter.replace("20000000", "1000")
        process = lab.start("host-c", "few-flows", ["sh", "-c", accepted])
        process.wait_for("ready: ")
        assert process.stop() == 0
        capture.forget()
        http(lab, f"http://[{B}]/")
        assert_steered(capture.settled(tcp_port(80)))
    finally:
        group.rmdir()


def test_without_rights(lab: Lab) -> None:
    drop = "import os, sys; os.setgroups([]); os.setgid(65534); os.setuid(65534); "
    drop += "os.execv(sys.argv[1], sys.argv[1:])"
    argv = [sys.executable, "-c", drop, *HAWKWING, "server", "-i", "eth0"]
    result = lab.execute("host-a", argv, check=False)
    if "No module named" in result.stderr or "can't open" in result.stderr or "Permission" in result.stderr:
        pytest.skip("the project's folder can't be read by other users")
    assert result.returncode == 1
    missing = "CAP_NET_ADMIN, CAP_BPF, CAP_PERFMON"
    assert result.stderr == f"hawkwing: missing {missing}: run it as root, or give it these capabilities\n"


def test_usage(lab: Lab) -> None:
    result = lab.execute("host-a", [*HAWKWING, "client"], check=False)
    assert result.returncode == 2
    assert lab.execute("host-a", [*HAWKWING, "version"]).stdout.startswith("hawkwing ")
    text = lab.execute("host-a", [*HAWKWING, "--help"]).stdout
    assert "examples:" in text and "hawkwing client -i eth0" in text


def test_interface_that_goes_away(lab: Lab, agents: Agents) -> None:
    """The agent lives on and ends cleanly."""
    script = "ip link add away type veth peer name away2 && ip link set away up && ip link set away2 up"
    lab.execute("host-c", ["sh", "-c", script])
    process = lab.start("host-c", "server-away", [*HAWKWING, "server", "-i", "eth0", "-i", "away"])
    process.wait_for("ready: ")
    lab.execute("host-c", ["ip", "link", "del", "away"])
    wait_until(lambda: process.poll() is None, 1.0, "the agent lives")
    assert process.stop() == 0
    assert "Traceback" not in process.output()
    assert filters(lab, "host-c") == ""
