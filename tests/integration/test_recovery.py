"""A lab that was interrupted, killed or spoilt: a signal leaves nothing behind, `lab.up` repairs the rest.

Signals come by progress, when something is there, and not after a time.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hawkwing.dataplane.claim import runtime_folder
from lab import netns
from lab.network import Lab
from lab.process import members
from lab.vpp.installation import PREFIX_VARIABLE
from lab.wait import PATIENCE, wait_until

PROJECT = Path(__file__).resolve().parents[2]
LAB = [sys.executable, "-m", "lab"]
HELLO = ["curl", "-sS", "-m", "5", "http://wb.hawk.net/"]

Moment = Callable[[Lab], bool]
MOMENTS: dict[str, Moment] = {
    "claimed": lambda lab: (lab.run / "lab.json").exists(),
    "first namespace": lambda lab: bool(netns.names(f"{lab.name}-")),
    "some namespaces": lambda lab: len(netns.names(f"{lab.name}-")) > 7,
    "first service": lambda lab: (lab.run / "pids").is_dir() and any((lab.run / "pids").iterdir()),
    "last service": lambda lab: (lab.run / "pids" / "hawkeye").exists(),
}


@pytest.fixture
def other(new_lab: Callable[..., Lab]) -> Iterator[Lab]:
    """A lab that is spoilt; taken down afterwards whatever happened."""
    made = new_lab("spoilt")
    yield made
    made.down()
    assert made.remains() == []


@pytest.fixture
def options(request: pytest.FixtureRequest) -> list[str]:
    """What the command line of a task says of routers."""
    routers, prefix = (request.config.getoption(name) for name in ("--routers", "--vpp-prefix"))
    return ["--routers", routers, *(["--vpp-prefix", prefix] if prefix else [])]


def begin(*words: str) -> "subprocess.Popen[str]":
    """`./run WORDS` in the background, as the leader of a process group, as a shell makes it."""
    return subprocess.Popen(
        [*LAB, *words],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )


def interrupt(process: "subprocess.Popen[str]", lab: Lab, moment: Moment, number: int) -> tuple[str, str]:
    """Sends the signal at that moment, as the terminal does to the whole group; what was printed."""

    def reached() -> bool:
        assert process.poll() is None, process.communicate()
        return moment(lab)

    wait_until(reached, PATIENCE, "the moment to come", pause=0.001)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    return process.communicate(timeout=PATIENCE)


def assert_repaired(lab: Lab, options: list[str]) -> None:
    """By `./run lab.up`, as a user does it."""
    up = subprocess.run(
        [*LAB, "lab.up", "--name", lab.name, *options],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (up.returncode, up.stderr) == (0, ""), up.stderr
    again = Lab(lab.name)
    assert again.is_up() and f"lab {lab.name} is up (" in up.stdout
    assert again.execute("host-a", HELLO).stdout == "Hello from host-b\n"


# --- signals


@pytest.mark.parametrize(
    ("number", "moment"),
    [
        *((signal.SIGTERM, moment) for moment in MOMENTS),
        (signal.SIGINT, "some namespaces"),
        (signal.SIGINT, "last service"),
        (signal.SIGHUP, "claimed"),
        (signal.SIGHUP, "first service"),
    ],
)
def test_up_that_is_ended_leaves_nothing(
    other: Lab, options: list[str], number: signal.Signals, moment: str
) -> None:
    process = begin("lab.up", "--name", other.name, *options)
    output, errors = interrupt(process, other, MOMENTS[moment], number)
    word = "interrupted" if number == signal.SIGINT else f"ended by {number.name}"
    assert (process.returncode, output, errors) == (128 + number, "", f"hawkwing lab: {word}\n")
    assert other.remains() == []


def down(lab: Lab) -> int:
    """Exit status of `./run lab.down`."""
    argv = [*LAB, "lab.down", "--name", lab.name]
    return subprocess.run(argv, cwd=PROJECT, stdout=subprocess.DEVNULL, check=False).returncode


@pytest.mark.parametrize("moment", MOMENTS)
def test_up_that_is_killed_is_repaired(other: Lab, options: list[str], moment: str) -> None:
    interrupt(begin("lab.up", "--name", other.name, *options), other, MOMENTS[moment], signal.SIGKILL)
    assert not other.is_up()
    assert_repaired(other, options)


@pytest.mark.parametrize("moment", ["some namespaces", "first service"])
def test_up_that_is_killed_is_taken_away(other: Lab, options: list[str], moment: str) -> None:
    interrupt(begin("lab.up", "--name", other.name, *options), other, MOMENTS[moment], signal.SIGKILL)
    assert down(other) == 0
    assert other.remains() == []


def agents_start(lab: Lab) -> bool:
    """The demonstration has begun with its agents."""
    return (lab.run / "pids" / "client").exists()


def agents_steer(lab: Lab) -> bool:
    """The client's first message that it is ready."""
    log = lab.run / "logs" / "client.log"
    return log.exists() and "ready" in log.read_text()


@pytest.mark.parametrize(
    ("number", "moment"),
    [(signal.SIGTERM, agents_start), (signal.SIGHUP, agents_steer), (signal.SIGINT, agents_steer)],
)
def test_demo_that_is_ended_leaves_nothing(
    other: Lab, options: list[str], number: signal.Signals, moment: Moment
) -> None:
    process = begin("demo", "--keep", "--name", other.name, *options)
    _output, errors = interrupt(process, other, moment, number)
    word = "interrupted" if number == signal.SIGINT else f"ended by {number.name}"
    assert (process.returncode, errors) == (128 + number, f"hawkwing lab: {word}\n")
    assert other.remains() == []


def test_demo_that_was_killed_is_repaired_by_the_next(other: Lab, options: list[str]) -> None:
    interrupt(begin("demo", "--name", other.name, *options), other, agents_steer, signal.SIGKILL)
    assert members(other.name)
    output, errors = begin("demo", "--name", other.name, *options).communicate(timeout=PATIENCE)
    assert errors == "" and "5. Configuration reloaded with a service chain" in output
    assert other.remains() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_bench_that_is_ended_leaves_nothing(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With VPP, bench compares the routers before its own lab is built.
    monkeypatch.delenv(PREFIX_VARIABLE, raising=False)
    process = begin("bench", "--quick", "--output", str(tmp_path / "figures.json"))
    lab = Lab(f"bench-{process.pid}")
    try:
        output, errors = interrupt(process, lab, MOMENTS["last service"], number)
        assert process.returncode == 128 + number and len(errors.splitlines()) == 1
        assert "│" not in output and not list(tmp_path.iterdir()), "no tables of nothing"
        assert lab.remains() == []
    finally:
        lab.down()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_tests_that_are_ended_leave_nothing(options: list[str], number: signal.Signals) -> None:
    argv = [sys.executable, "-m", "tests", "tests/integration/test_lab.py", "-k", "names", *options]
    process = subprocess.Popen(
        argv, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0
    )
    lab = Lab(f"test-{process.pid}")
    try:
        output, errors = interrupt(process, lab, MOMENTS["last service"], number)
        assert process.returncode == 128 + number and "Traceback" not in output + errors
        assert lab.remains() == []
    finally:
        lab.down()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_agent_on_a_terminal_ends_with_its_task(lab: Lab, number: signal.Signals) -> None:
    process = begin("server", "--node", "host-c", "--name", lab.name)
    folder = runtime_folder(netns.path(lab.namespace("host-c")))
    _output, errors = interrupt(process, lab, lambda _lab: (folder / "server-eth0.sock").exists(), number)
    assert process.returncode == 0 and errors.splitlines()[-1].startswith("hawkwing: stopped"), errors
    assert not list(folder.glob("server-eth0*"))


# --- spoilt


def kill_a_service(lab: Lab) -> None:
    """As the kernel does when memory is short."""
    os.kill(lab.processes()["host-b"], signal.SIGKILL)


def kill_all_services(lab: Lab) -> None:
    """Nothing of the lab runs any more."""
    for pid in members(lab.name):
        os.kill(pid, signal.SIGKILL)


def delete_a_namespace(lab: Lab) -> None:
    """By hand, with the system's own command."""
    subprocess.run(["ip", "netns", "del", lab.namespace("vpp3")], check=True)


def halve_the_record(lab: Lab) -> None:
    """A disk that was full, or a machine that stopped."""
    record = lab.run / "lab.json"
    record.write_text(record.read_text()[:40])


def empty_the_topology(lab: Lab) -> None:
    """And with it all that was known of the network; its processes are gone, too."""
    (lab.run / "topology.yaml").write_text("")
    kill_a_service(lab)


def lose_the_topology(lab: Lab) -> None:
    """The file that says what was built."""
    (lab.run / "topology.yaml").unlink()
    kill_a_service(lab)


def empty_the_run_directory(lab: Lab) -> None:
    """Namespaces and processes are still there."""
    shutil.rmtree(lab.run)
    lab.run.mkdir()


def lose_the_run_directory(lab: Lab) -> None:
    """Namespaces and processes are still there."""
    shutil.rmtree(lab.run)


def lose_the_pid_files(lab: Lab) -> None:
    """Nobody knows which process is which."""
    shutil.rmtree(lab.run / "pids")


@pytest.mark.parametrize(
    "spoil",
    [
        kill_a_service,
        kill_all_services,
        delete_a_namespace,
        halve_the_record,
        empty_the_topology,
        lose_the_topology,
        empty_the_run_directory,
        lose_the_run_directory,
        lose_the_pid_files,
    ],
)
def test_a_spoilt_lab_is_repaired(other: Lab, options: list[str], spoil: Callable[[Lab], None]) -> None:
    other.up()
    spoil(other)
    wait_until(lambda: not other.is_up(), PATIENCE, "the lab is no longer whole")
    assert (
        other.name in subprocess.run([*LAB, "lab.list"], cwd=PROJECT, capture_output=True, text=True).stdout
    )
    assert_repaired(other, options)


@pytest.mark.parametrize("spoil", [halve_the_record, lose_the_run_directory, lose_the_topology])
def test_a_spoilt_lab_is_taken_away(other: Lab, spoil: Callable[[Lab], None]) -> None:
    other.up()
    spoil(other)
    assert down(other) == 0
    assert other.remains() == []


def test_a_repaired_lab_has_the_topology_it_had(other: Lab, options: list[str], tmp_path: Path) -> None:
    file = tmp_path / "other.yaml"
    file.write_text(other.topology_file.read_text().replace("Hello from host-b", "Good morning"))
    own = Lab(other.name, file, *other._asked)
    own.up()
    kill_a_service(own)
    wait_until(lambda: not own.is_up(), PATIENCE, "the lab is no longer whole")
    assert Lab(other.name, routers=other._asked[0], vpp_prefix=other._asked[1]).up()
    assert own.execute("host-a", HELLO).stdout == "Good morning\n"


def test_a_namespace_that_somebody_adds_is_not_in_the_way(other: Lab, options: list[str]) -> None:
    """The first `ip netns add` of a machine lays a mount over /run/netns: here /run is a fresh one."""
    name = f"somebody-{os.getpid()}"
    words = " ".join(options)
    script = f"""
        set -e
        mount -t tmpfs none /run
        {" ".join(LAB)} lab.up --name {other.name} {words}
        ip netns add {name}
        {" ".join(LAB)} lab.down --name {other.name} || echo failed
        ip netns list | grep -c '^{name}'
        ip netns del {name}"""
    argv = ["unshare", "--mount", "sh", "-c", script]
    done = subprocess.run(argv, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1:] == [f"Lab {other.name} removed, nothing left over", "1"]
    assert members(other.name) == []
