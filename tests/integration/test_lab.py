"""The lab's own promises: up, down, side by side, repaired after a kill, and real exit statuses."""

import json
import os
import re
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
from lab.wait import PATIENCE, patient, wait_until

PROJECT = Path(__file__).resolve().parents[2]


def invoke(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """`./run ARGUMENTS` without the installing."""
    argv = [sys.executable, "-m", "lab", *arguments]
    return subprocess.run(argv, cwd=PROJECT, capture_output=True, text=True, timeout=PATIENCE, check=False)


def mounts(pid: int) -> list[str]:
    """What a process has mounted."""
    return Path(f"/proc/{pid}/mountinfo").read_text().splitlines()


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
        one.execute("host-a", ["ping", "-c1", "-W2", "fcbb:cc00:3::a"])
    before = netns.path(lab.namespace("vpp1")).stat().st_ino
    other.down()
    assert other.remains() == []
    assert netns.path(lab.namespace("vpp1")).stat().st_ino == before
    assert lab.is_up()
    held = [line for pid in lab.processes().values() for line in mounts(pid) if f"/{other.name}-" in line]
    assert held == [], "processes of the one keep no namespace of the other"


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
    assert middle - begun < patient(10) and time.monotonic() - middle < patient(5)


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


def test_a_command_in_words_and_nodes_by_name(lab: Lab) -> None:
    name = ["--name", lab.name]
    pinged = invoke("lab.exec", *name, "host-a", "ping", "-c", "1", "-W", "2", "host-b")
    assert pinged.returncode == 0 and "fcbb:cc00:2::a" in pinged.stdout, pinged.stderr
    quoted = invoke(
        "lab.exec", "host-a", "--name", lab.name, "sh", "-c", 'echo "$1"; exit 3', "sh", "two words"
    )
    assert (quoted.returncode, quoted.stdout) == (3, "two words\n")
    for node in ("host-a", "dns"):
        known = lab.execute(node, ["getent", "ahostsv6", "vpp5"]).stdout
        assert known.startswith(str(lab.topology.router("vpp5").loopback.ip))


def test_links_by_the_words_of_the_help(lab: Lab) -> None:
    name = ["--name", lab.name]
    worse = invoke(
        "lab.impair", "vpp2-vpp4", "--latency", "80ms", "--bandwidth", "10Mbit", "--loss", "1%", *name
    )
    assert worse.returncode == 0, worse.stderr
    assert worse.stdout.splitlines()[-1].endswith("vpp2-vpp4 has latency 80000, bandwidth 10000, loss 1.0")
    healed = invoke("lab.heal", "vpp4-vpp2", *name)
    assert healed.returncode == 0 and "vpp2-vpp4: up at both ends" in healed.stdout, healed.stderr
    for wrong in (["lab.impair", "vpp2-vpp4", "--latency", "80 parsecs"], ["lab.heal", "vpp2-vpp9"]):
        told = invoke(*wrong, *name)
        assert told.returncode == 1 and len(told.stderr.splitlines()) == 1


def test_links_impaired_from_the_start(other: Lab, tmp_path: Path) -> None:
    file, name = tmp_path / "impair.yaml", ["--name", other.name]
    file.write_text("vpp2-vpp4: {latency: 80ms}\nvpp9-vpp1: {loss: 1%}\n")
    wrong = invoke("lab.up", "--impair", str(file), *name)
    assert wrong.returncode == 1 and len(wrong.stderr.splitlines()) == 1
    assert wrong.stderr.startswith(f"hawkwing lab: {file}:2: vpp9-vpp1: is not a link, the topology has ")
    assert other.remains() == []

    file.write_text("vpp2-vpp4: {latency: 80ms}\nvpp3-vpp1: {bandwidth: 10Mbit}\n")
    begun = invoke("lab.up", "--impair", str(file), *name)
    assert begun.returncode == 0, begun.stderr
    assert "controller told: vpp2-vpp4 has latency 80000" in begun.stdout.splitlines()
    assert begun.stdout.splitlines()[-1].startswith(f"lab {other.name} is up")
    status = json.loads(invoke("lab.status", "--json", *name).stdout)
    links = {link["name"]: link["impaired"] for link in status["links"] if link["impaired"]}
    assert links == {"vpp2-vpp4": {"latency": 80000}, "vpp1-vpp3": {"bandwidth": 10000}}
    assert not any(link["failed"] for link in status["links"])
    assert "80000" in invoke("lab.status", *name).stdout


def test_a_wrong_table_leaves_the_running_controller(lab: Lab, tmp_path: Path) -> None:
    running = lab.processes()["hawkeye"]
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("- {destination: x}\n")
    for table in ("nope.yaml", str(wrong)):
        told = invoke("hawkeye", "--table", table, "--name", lab.name)
        assert told.returncode == 1 and len(told.stderr.splitlines()) == 1, told.stderr
        assert lab.processes()["hawkeye"] == running


def test_status_and_list_for_programs(lab: Lab) -> None:
    told = json.loads(invoke("lab.status", "--json", "--name", lab.name).stdout)
    assert told["ready"] and told["name"] == lab.name
    assert {node["name"] for node in told["nodes"]} == set(lab.topology.nodes)
    assert all(node["present"] for node in told["nodes"])
    assert {one["sid"] for one in told["sids"]} >= {str(router.sid) for router in lab.topology.routers}
    assert all(isinstance(one["packets"], int) for one in told["sids"])
    assert {one["name"]: one["pid"] for one in told["processes"]} == lab.processes()
    listed = {one["name"]: one for one in json.loads(invoke("lab.list", "--json").stdout)}
    assert listed[lab.name]["state"] == "up" and listed[lab.name]["run_directory"] == str(lab.run)
    assert lab.name in invoke("lab.list").stdout


def test_a_command_that_fails_is_no_secret(lab: Lab) -> None:
    with pytest.raises(LabError, match=r"^ls /nowhere failed in host-a \(exit status 2\): ls: cannot access"):
        lab.execute("host-a", ["ls", "/nowhere"])
    assert lab.execute("host-a", ["ls", "/nowhere"], check=False).returncode == 2
    with pytest.raises(LabError, match=r"^sleep 60 in host-a did not end within [0-9.]+ s$"):
        lab.execute("host-a", ["sleep", "60"], timeout=0.1)


def test_capture_to_files(lab: Lab) -> None:
    begun = invoke("lab.capture", "--link", "vpp1-vpp2", "--name", lab.name)
    assert begun.returncode == 0, begun.stderr
    lab.execute("host-a", ["ping", "-c1", "-W1", "2001:db8:12::2"])
    ended = invoke("lab.capture", "--stop", "--name", lab.name)
    (file,) = ended.stdout.split()
    text = subprocess.run(["tcpdump", "-nr", file], capture_output=True, text=True, check=True).stdout
    assert "echo request" in text and "echo reply" in text
    assert not [pid for pid in members(lab.name) if "tcpdump" in Path(f"/proc/{pid}/cmdline").read_text()]


def test_full_disk_ends_a_capture_with_a_sentence(lab: Lab) -> None:
    """Seen in a mount namespace of its own, where the captures have a tiny file system."""
    python = f"{sys.executable} -m lab"
    run = f"{python} lab.capture --name {lab.name}"
    script = f"""set -e
        mount -t tmpfs -o size=64k none {lab.run}/captures
        {run} vpp1-vpp2
        {python} lab.exec host-a --name {lab.name} ping -q -c 200 -i 0.002 -s 1000 2001:db8:12::2
        {run} --stop || echo status $?
        tcpdump -nr {lab.run}/captures/vpp1-vpp2.pcap 2>&1 >/dev/null | grep -c truncated || true
        dd if=/dev/zero of={lab.run}/captures/rest bs=1k 2>/dev/null || true
        {run} vpp1-vpp2 || echo status $?
        umount {lab.run}/captures"""
    argv = ["unshare", "--mount", "sh", "-c", script]
    done = subprocess.run(argv, cwd=PROJECT, capture_output=True, text=True, timeout=PATIENCE, check=False)
    file = f"{lab.run}/captures/vpp1-vpp2.pcap"
    ended, full = done.stderr.splitlines()
    sentence = rf"hawkwing lab: vpp1-vpp2: no space was left, {file} has \d+ of \d+ packets"
    assert re.fullmatch(sentence, ended), done.stderr
    assert full == f"hawkwing lab: no space is left for captures in {lab.run}/captures"
    assert [line for line in done.stdout.splitlines() if "status" in line] == ["status 1"] * 2
    assert "\n0\n" in done.stdout, "what is in the file can be read to its end"


def test_a_killed_capture_is_told(lab: Lab) -> None:
    name = ["--name", lab.name]
    assert invoke("lab.capture", "vpp1-vpp2", *name).returncode == 0
    os.kill(lab.processes()["capture-vpp1-vpp2"], signal.SIGKILL)
    wait_until(lambda: "capture-vpp1-vpp2" not in lab.processes(), 60.0, "it has ended")
    ended = invoke("lab.capture", "--stop", *name)
    assert ended.returncode == 1 and "the capture ended early" in ended.stderr
    assert invoke("lab.capture", "--stop", *name).returncode == 0


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
    load = "import sys; sys.modules['bcc'] = None; from hawkwing.dataplane.loader import *; "
    load += "import hawkwing; print(hawkwing.__file__); "
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
