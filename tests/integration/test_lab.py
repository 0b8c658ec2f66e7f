"""The lab's own promises: up, down, side by side, repaired after a kill, and real exit statuses."""

import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab import netns
from lab.network import Lab, LabError
from lab.process import members
from lab.wait import wait_until

PROJECT = Path(__file__).resolve().parents[2]


def invoke(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """`./run ARGUMENTS` without the installing."""
    argv = [sys.executable, "-m", "invoke", *arguments]
    return subprocess.run(argv, cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def other(new_lab: Callable[..., Lab]) -> Iterator[Lab]:
    """A second lab's name; taken down afterwards whatever happened."""
    made = new_lab("other")
    yield made
    made.down()
    assert made.remains() == []


def test_two_labs_side_by_side_and_up_again_does_nothing(lab: Lab, other: Lab) -> None:
    assert other.up()
    assert not other.up()
    assert not lab.up()
    for one in (lab, other):
        assert one.execute("host-a", ["ping", "-c1", "-W2", "fcbb:cc00:3::a"]).returncode == 0
    before = netns.path(lab.namespace("vpp1")).stat().st_ino
    other.down()
    assert other.remains() == []
    assert netns.path(lab.namespace("vpp1")).stat().st_ino == before
    assert lab.is_up()


def test_killed_half_way_it_is_built_anew_or_taken_away(other: Lab, request: pytest.FixtureRequest) -> None:
    routers, prefix = (request.config.getoption(name) for name in ("--routers", "--vpp-prefix"))
    argv = [sys.executable, "-m", "invoke", "lab.up", "--name", other.name, "--routers", routers]
    argv += ["--vpp-prefix", prefix] if prefix else []
    for again in (True, False):
        process = subprocess.Popen(argv, cwd=PROJECT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        some = [f"{other.name}-{node}" for node in other.topology.nodes][3]
        wait_until(lambda some=some: netns.path(some).exists(), 10.0, "it has begun")
        process.send_signal(signal.SIGKILL)
        process.wait()
        if again:
            assert not other.is_up()
            assert other.up() and other.is_up()
        other.down()
        assert other.remains() == []


def test_dead_service_is_noticed_and_repaired(other: Lab) -> None:
    other.up()
    os.kill(other.processes()["host-b"], signal.SIGKILL)
    wait_until(lambda: not other.is_up(), 5.0, "the lab is no longer whole")
    assert other.up()
    assert "Hello from host-b" in other.execute("host-a", ["curl", "-s", "http://wb.hawk.net/"]).stdout


def test_namespace_of_somebody_else_is_not_touched(other: Lab) -> None:
    name = f"{other.name}-vpp3"
    netns.create(name)
    try:
        with pytest.raises(LabError, match="exists and does not belong to this lab"):
            other.up()
        assert netns.exists(name)
    finally:
        netns.remove(name)


def test_up_and_down_are_quick(other: Lab) -> None:
    """No fixed waits hide in them; the limit is far above what they take, for slow machines."""
    begun = time.monotonic()
    other.up()
    middle = time.monotonic()
    other.down()
    assert middle - begun < 10 and time.monotonic() - middle < 5


def test_names_are_answered_over_udp_and_tcp(lab: Lab) -> None:
    script = "import dns.resolver as r; q=r.Resolver(); "
    script += "print(*[str(a) for t in (0,1) for a in q.resolve('www.hawk.net','AAAA',tcp=bool(t))]);\n"
    script += "try: q.resolve('no.hawk.net','AAAA')\nexcept r.NXDOMAIN: print('nxdomain')"
    result = lab.execute("host-a", [sys.executable, "-c", script])
    assert result.stdout == "fcbb:cc00:2::a fcbb:cc00:2::a\nnxdomain\n", result.stderr


def test_commands(lab: Lab) -> None:
    name = ["--name", lab.name]
    assert invoke("lab.exec", "host-a", "exit 37", *name).returncode == 37
    on_vpp = lab.topology.router("vpp2").router == "vpp"
    command = "show sr localsid" if on_vpp else "ip -6 route show fcbb:bb00:2::2"
    shown = invoke("lab.exec", "vpp2", command, *name)
    assert shown.returncode == 0 and ("fcbb:bb00:2::2" if on_vpp else "action End") in shown.stdout
    assert ("Behavior" if on_vpp else "seg6local") in shown.stdout
    status = invoke("lab.status", *name)
    assert status.returncode == 0 and "fcbb:bb00:6::2" in status.stdout and "ready: yes" in status.stdout
    wrong = invoke("lab.exec", "vpp9", "true", *name)
    assert wrong.returncode == 1 and len(wrong.stderr.splitlines()) == 1 and "vpp9" in wrong.stderr
    absent = invoke("lab.exec", "vpp1", "true", "--name", "no-such-lab")
    assert absent.returncode == 1 and "is not up" in absent.stderr


def test_capture_to_files(lab: Lab) -> None:
    begun = invoke("lab.capture", "--link", "vpp1-vpp2", "--name", lab.name)
    assert begun.returncode == 0, begun.stderr
    assert lab.execute("host-a", ["ping", "-c1", "-W1", "2001:db8:12::2"]).returncode == 0
    ended = invoke("lab.capture", "--stop", "--name", lab.name)
    (file,) = ended.stdout.split()
    text = subprocess.run(["tcpdump", "-nr", file], capture_output=True, text=True, check=True).stdout
    assert "echo request" in text and "echo reply" in text
    assert not [pid for pid in members(lab.name) if "tcpdump" in Path(f"/proc/{pid}/cmdline").read_text()]


def test_graph_needs_the_file_only(tmp_path: Path) -> None:
    assert invoke("lab.graph").stdout.startswith(("graph", "flowchart", "%%"))
    file = tmp_path / "lab.svg"
    assert invoke("lab.graph", "--format", "svg", "--output", str(file)).returncode == 0
    assert file.read_text().lstrip().startswith(("<?xml", "<svg"))


def test_wheel_carries_the_c_sources_and_works_from_any_folder(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path), str(PROJECT)],
        capture_output=True,
        text=True,
        check=False,
    )
    if built.returncode:
        pytest.skip(f"pip can't build here: {built.stderr.strip().splitlines()[-1]}")
    (wheel,) = tmp_path.glob("*.whl")
    folder = tmp_path / "unpacked"
    zipfile.ZipFile(wheel).extractall(folder)
    assert (folder / "hawkwing/bpf/hawkwing.c").exists()
    assert (folder / "hawkwing/bpf/bytecode/server.json").exists()
    assert (folder / "hawkwing/bpf/kernel/include/linux/kconfig.h").exists()
    environment = {**os.environ, "PYTHONPATH": str(folder), "HAWKWING_CACHE": str(tmp_path / "cache")}
    # No compiler is there, and none is needed.
    load = "import sys; sys.modules['bcc'] = None; from hawkwing.dataplane.loader import *; import hawkwing; print(hawkwing.__file__); "
    load += "print(*Loading('server', Capacities()).result().programs)"
    result = subprocess.run(
        [sys.executable, "-P", "-c", load],
        cwd="/",
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout.splitlines() == [
        str(folder / "hawkwing/__init__.py"),
        "egress_ethernet ingress_ethernet sweep",
    ]
