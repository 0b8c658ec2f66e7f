"""docs/tutorial.md, command by command as written, on three namespaces that are its machines."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from lab import netns
from lab.wait import PATIENCE, patient, wait_until

PAGE = Path(__file__).parents[2] / "docs" / "tutorial.md"
BLOCK = re.compile(r"^<!-- (run|start|shows)(?:: (\w+))? -->\n```\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINKS = [("client", "eth0", "router", "eth0"), ("router", "eth1", "server", "eth0")]
MACHINES = ("client", "router", "server")
#: What a program that stays says once it works; a web server says nothing.
BEGUN = {"hawkwing server": "ready: server", "hawkwing client": "ready: client"}


class Step(NamedTuple):
    what: str
    machine: str
    text: str


def steps() -> Iterator[Step]:
    for what, machine, text in BLOCK.findall(PAGE.read_text()):
        yield Step(what, machine, text)


class Machines:
    """Namespaces with the tutorial's links, and a folder each."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder, self._stack = folder, stack
        programs = folder / "bin"
        programs.mkdir()
        # In a test there is nobody but root, and sudo may be missing.
        (programs / "sudo").write_text('#!/bin/sh\nexec "$@"\n')
        (programs / "sudo").chmod(0o755)
        own = Path(sys.executable).parent
        self._environment = os.environ | {"PATH": f"{programs}:{own}:{os.environ['PATH']}"}
        for name in MACHINES:
            (folder / name).mkdir()
            netns.create(self.namespace(name))
            stack.callback(netns.remove, self.namespace(name))
            self.run(name, "ip link set lo up")
        for here, near, there, far in LINKS:
            self.run(here, f"ip link add {near} type veth peer name {far} netns {self.namespace(there)}")

    def namespace(self, machine: str) -> str:
        return f"tutorial-{os.getpid()}-{machine}"

    def _inside(self, machine: str, script: str) -> list[str]:
        return ["nsenter", f"--net={netns.path(self.namespace(machine))}", "sh", "-ec", script]

    def run(self, machine: str, script: str) -> str:
        """What a block prints."""
        done = subprocess.run(
            self._inside(machine, script),
            cwd=self._folder / machine,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=patient(60),
            check=False,
        )
        assert done.returncode == 0, (machine, script, done.stdout, done.stderr)
        return done.stdout

    def settle(self) -> None:
        """Waits until no address is tentative any more: people type more slowly than that takes."""
        for machine in MACHINES:
            wait_until(lambda here=machine: not self._tentative(here), 20, f"addresses of {machine}")

    def _tentative(self, machine: str) -> bytes:
        return subprocess.check_output(self._inside(machine, "ip -6 address show tentative"))

    def start(self, machine: str, script: str) -> subprocess.Popen[bytes]:
        """A block whose program stays, once it works."""
        log = self._folder / f"{machine}-{len(list(self._folder.iterdir()))}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                # Without a shell between, which would be the one that is ended.
                self._inside(machine, f"exec {script.removeprefix('sudo ')}"),
                cwd=self._folder / machine,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        self._stack.callback(process.wait, patient(20))
        self._stack.callback(process.terminate)
        words = next((said for command, said in BEGUN.items() if command in script), "")
        wait_until(lambda: words in log.read_text(), PATIENCE, f"{script.strip()} to begin")
        if "http.server" in script:
            asking = self._inside(machine, "curl -s -o /dev/null 'http://[::1]:8000/'")
            wait_until(
                lambda: subprocess.run(asking, check=False).returncode == 0, PATIENCE, "the web server"
            )
        if "--output" in script:
            file = self._folder / machine / script.split()[-1]
            wait_until(lambda: file.exists() and file.stat().st_size > 0, PATIENCE, "the capture to begin")
        return process


def shown(pattern: str) -> re.Pattern[str]:
    """A line of the tutorial; … stands for anything."""
    pieces = [re.escape(piece) for piece in re.split(r"\s*…\s*", pattern)]
    return re.compile(r".*".join(pieces) if "…" in pattern else pieces[0])


def test_each_command_and_what_it_shows(tmp_path: Path) -> None:
    with ExitStack() as stack:
        machines = Machines(tmp_path, stack)
        captures: list[subprocess.Popen[bytes]] = []
        output = ""
        for step in steps():
            if step.what == "start":
                process = machines.start(step.machine, step.text)
                captures += [process] if "capture" in step.text else []
            elif step.what == "run":
                if "tcpdump -nr" in step.text:
                    for capture in captures:
                        assert capture.wait(patient(20)) == 0
                if "ping" in step.text:
                    machines.settle()
                output = machines.run(step.machine, step.text)
            else:
                lines = [re.sub(r"\s+", " ", line) for line in output.splitlines()]
                for wanted in step.text.splitlines():
                    pattern = shown(re.sub(r"\s+", " ", wanted))
                    assert any(pattern.search(line) for line in lines), (wanted, output)
    leftovers = [name for name in netns.names() if name.startswith(f"tutorial-{os.getpid()}-")]
    assert leftovers == []


def test_the_tutorial_has_all_steps() -> None:
    found = list(steps())
    assert {step.machine for step in found if step.what != "shows"} == set(MACHINES)
    commands = "".join(step.text for step in found)
    for word in (
        "seg6local",
        "hawkwing server",
        "hawkwing client",
        "hawkwing capture",
        "hawkwing drops",
        "curl",
    ):
        assert word in commands


@pytest.mark.parametrize(
    ("pattern", "line", "expected"),
    [
        ("200", "200", True),
        ("200", "404", False),
        ("… ok … STEERED: SRH", "egress ok 4 packets STEERED: SRH inserted, or packet encapsulated", True),
        ("… drop … STEERED: SRH", "egress ok 4 packets STEERED: SRH inserted, or packet encapsulated", False),
    ],
)
def test_what_is_shown_is_compared(pattern: str, line: str, expected: bool) -> None:
    assert bool(shown(pattern).search(line)) is expected
