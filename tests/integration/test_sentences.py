"""What a host lacks is one sentence, not a traceback; each in a network and mount namespace of its own."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from lab.network import PROJECT
from lab.wait import PATIENCE

from .conftest import HAWKWING
from .test_lifecycle import with_other_sources

LINK = "ip link set lo up; ip link add one type veth peer name two; ip link set one up; ip link set two up"
SMALL = "mount -t tmpfs -o size=4k,nr_inodes=8 none /run; dd if=/dev/zero of=/run/x bs=4k 2>/dev/null || true"
FILE = "services: {a: {ipv6_addresses: ['fd00::9'], applications: [{port: 80, sid: ['fcbb::1']}]}}\n"


def said(script: str, folder: Path, role: str = "client", program: str = " ".join(HAWKWING)) -> list[str]:
    """The lines of an agent that can't start there; none of its filters may be left."""
    file = folder / "hawk.yaml"
    file.write_text(FILE)
    start = f"timeout 60 {program} {role} -i one --config {file}"
    left = "tc filter show dev one egress; tc filter show dev one ingress"
    script = f"set -e; {LINK}; mount --make-rprivate /; {script}\nset +e; {start}; echo status $?; {left}"
    argv = ["unshare", "-n", "-m", "sh", "-c", script]
    result = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=PROJECT)
    assert result.stdout == "status 1\n", (result.stdout, result.stderr)
    return result.stderr.splitlines()


@pytest.mark.parametrize("role", ["client", "server"])
@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        (
            "mount -t tmpfs none /run; mount -o remount,ro /run",
            r"hawkwing: can't write /run/hawkwing/\d+/ROLE-one.lock: Read-only file system",
        ),
        (SMALL, r"hawkwing: can't write /run/hawkwing/\d+/ROLE-one.lock: No space left on device"),
        (
            "ulimit -n 22",
            r"hawkwing: only 22 open files are allowed, at least 128 are needed: raise the limit "
            r"\(ulimit -n, or LimitNOFILE= in systemd\)",
        ),
    ],
    ids=["read-only", "full", "files"],
)
def test_a_host_that_lacks_something(script: str, sentence: str, role: str, tmp_path: Path) -> None:
    (line,) = said(script, tmp_path, role)
    assert re.fullmatch(sentence.replace("ROLE", role), line), line


def test_an_agent_needs_no_temporary_folder(tmp_path: Path) -> None:
    """Not even to compile."""
    environment = with_other_sources(tmp_path)
    file = tmp_path / "hawk.yaml"
    file.write_text(FILE)
    variables = " ".join(f"{name}={value}" for name, value in environment.items())
    start = f"env {variables} {sys.executable} -P -m hawkwing client -i one --config {file}"
    # A file system without room for a file, except where the copy is.
    hide = f"mkdir /run/copy; mount --bind {tmp_path} /run/copy"
    # But not where this project itself is.
    folders = [name for name in ("/tmp", "/var/tmp", "/usr/tmp") if Path(name) not in PROJECT.parents]
    hidden = " ".join(folders)
    nothing = f"for each in {hidden}; do test -d $each && mount -t tmpfs -o ro none $each; done"
    moved = start.replace(str(tmp_path), "/run/copy")
    script = f"""set -e; {LINK}; mount --make-rprivate /; mount -t tmpfs none /run; {hide}; {nothing}
    cd /run; mount -o remount,ro /run || true
    export HAWKWING_RUN=/run/copy/state
    {moved} 2>/run/copy/log & agent=$!
    until grep -q ready /run/copy/log || ! kill -0 $agent; do :; done
    kill $agent; wait $agent"""
    subprocess.run(["unshare", "-n", "-m", "sh", "-c", script], check=True, timeout=PATIENCE)
    text = (tmp_path / "log").read_text()
    assert "hawkwing: compiling the data plane, once" in text and "Traceback" not in text


def test_a_full_run_later_is_told_and_does_not_end_the_agent(tmp_path: Path) -> None:
    """It steers on, and says once that it can't save."""
    file, log = tmp_path / "hawk.yaml", tmp_path / "log"
    file.write_text(FILE)
    other = FILE.replace("fd00::9", "fd00::a")
    hawkwing = " ".join(HAWKWING)
    script = f"""set -e; {LINK}; mount --make-rprivate /; mount -t tmpfs -o size=64k none /run
    {hawkwing} client -i one --config {file} 2>{log} & agent=$!
    until grep -q ready {log} || ! kill -0 $agent; do :; done
    dd if=/dev/zero of=/run/x bs=1k 2>/dev/null || true
    echo "{other.strip()}" >{file}
    {hawkwing} reload
    {hawkwing} explain fd00::a 80
    kill $agent; wait $agent"""
    argv = ["unshare", "-n", "-m", "sh", "-c", script]
    result = subprocess.run(argv, check=True, timeout=PATIENCE, capture_output=True, text=True, cwd=PROJECT)
    assert "configuration reloaded" in result.stdout
    assert "packets to [fd00::a]:80 (service a) use fcbb::1" in result.stdout
    text = log.read_text()
    assert (
        text.count("warning: learned addresses are not saved for a restart: can't write /run/hawkwing/") >= 1
    )
    assert "Traceback" not in text and "stopped, filters removed from one" in text


def test_a_failed_start_leaves_what_the_killed_agent_has_left(tmp_path: Path) -> None:
    """Its filters are still there, and so is what the next start needs to take over from it."""
    file, log = tmp_path / "hawk.yaml", tmp_path / "log"
    file.write_text(FILE)
    hawkwing = " ".join(HAWKWING)
    keep = "cat $(find /run/hawkwing -name '*.state' -o -name '*.programs' | sort)"
    script = f"""set -e; {LINK}; mount --make-rprivate /; mount -t tmpfs none /run
    ip tuntap add dev tun mode tun; ip link set tun up
    start() {{ {hawkwing} client -i one --config {file} "$@" 2>{log} & agent=$!
      until grep -q ready {log} || ! kill -0 $agent 2>/dev/null; do :; done; }}
    start; {hawkwing} reload; kill -9 $agent; wait $agent || true
    before="$({keep})"; test -n "$before"
    start -i tun --ingress-hook xdp; wait $agent && exit 1
    grep -q 'tun has no Ethernet header' {log}
    test "$before" = "$({keep})"
    test $(tc filter show dev one egress | grep -c hawkwing:client) = 1
    start; kill $agent; wait $agent
    test -z "$(tc filter show dev one egress)"; test ! -e /run/hawkwing; echo well"""
    argv = ["unshare", "-n", "-m", "sh", "-c", script]
    result = subprocess.run(argv, timeout=PATIENCE, capture_output=True, text=True, cwd=PROJECT, check=False)
    assert result.stdout.endswith("well\n"), (result.stdout, result.stderr, log.read_text())
