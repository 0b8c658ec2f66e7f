"""Processes in nodes, each with a log and a PID file in the lab's run directory.

A variable in its environment marks a process of a lab, so that no other process is ever stopped.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from lab import netns
from lab.wait import PATIENCE, patient, wait_until

MARKER = "HAWKWING_LAB_MEMBER"
#: The lab of commands without a name.
CURRENT = "HAWKWING_LAB"
_STARTED = ("ready: ", "listening on")  # what agents and services print when they have started
# The node's own resolver settings, in the process's own mount namespace.
_MOUNT = (
    'if [ -d "$0" ]; then for f in resolv.conf hosts; do '
    'if [ -e "$0/$f" ] && [ -e "/etc/$f" ]; then mount --bind "$0/$f" "/etc/$f"; fi; done; fi; exec "$@"'
)


def command_inside(namespace: str, etc: Path, argv: Sequence[str]) -> list[str]:
    """The command line that runs `argv` in a node, with its network, /etc/resolv.conf and /etc/hosts."""
    # "slave" propagates unmounts from outside: a lab's processes hold no namespaces of other labs.
    mounts = ["unshare", "--mount", "--propagation", "slave"]
    return ["nsenter", f"--net={netns.path(namespace)}", *mounts, "sh", "-c", _MOUNT, str(etc), *argv]


def marked_environment(lab: str, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment with the lab's mark."""
    # Python prints a traceback for signals such as SIGABRT.
    return {**os.environ, "PYTHONFAULTHANDLER": "1", **(extra or {}), MARKER: lab, CURRENT: lab}


def members(lab: str) -> list[int]:
    """The PIDs of all processes with the lab's mark, except this one."""
    mark = f"{MARKER}={lab}".encode()
    pids = [int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdecimal()]
    environments = {pid: _environment(pid) for pid in pids if pid != os.getpid()}
    for pid, text in environments.items():
        if not text:
            # During exec a process shows an empty environment for a moment.
            environments[pid] = _environment(pid)
    return [pid for pid, text in environments.items() if mark in text.split(b"\0")]


def _environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def stop(pids: Sequence[int], patience: float = 3.0) -> None:
    """Sends SIGTERM, and SIGKILL to those that are still running after `patience` seconds."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in pids:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue
        end = time.monotonic() + patient(patience)
        while time.monotonic() < end:
            for pid in pids:
                try:
                    os.waitpid(pid, os.WNOHANG)
                except ChildProcessError:
                    continue
            if not any(_alive(pid) for pid in pids):
                return
            time.sleep(0.01)


def last_words(output: str, most: int = 15) -> str:
    """The end of a log: a single line in place, several lines on lines of their own."""
    lines = output.strip().splitlines()[-most:] or ["it printed nothing"]
    return lines[0] if len(lines) == 1 else "\n  ".join(["the end of its log:", *lines])


class Process:
    """A background process in a node; `name` is the name of its log and PID file."""

    def __init__(
        self,
        lab: str,
        run: Path,
        name: str,
        argv: Sequence[str],
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.name = name
        self.log = run / "logs" / f"{name}.log"
        self._pid_file = run / "pids" / name
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=marked_environment(lab, environment),
                start_new_session=True,
                cwd=cwd,
            )
        self._pid_file.write_text(f"{self._process.pid}\n")

    @property
    def pid(self) -> int:
        """The PID of the command: nsenter, unshare and sh replace themselves by it."""
        return self._process.pid

    def output(self) -> str:
        """Its output so far."""
        return self.log.read_text(errors="replace")

    def wait_for(
        self, text: str, heard: Callable[[str], None] | None = None, limit: float = PATIENCE
    ) -> None:
        """Waits until it has printed `text`, while it runs; RuntimeError with the end of its log.

        A cold start may take long: the limit is for a process that never prints it. `heard` is called with
        each printed line.
        """
        told = 0

        def seen() -> bool:
            nonlocal told
            # Before its output, which is complete once it has ended.
            status = self._process.poll()
            output = self.output()
            if heard is not None:
                whole = output.rfind("\n") + 1
                for line in output[told:whole].splitlines():
                    heard(line)
                told = max(told, whole)
            if text in output:
                return True
            if status is not None:
                raise RuntimeError(f"{self.name} exited with status {status}: {last_words(output)}")
            return False

        try:
            wait_until(seen, limit, f"{self.name} to print {text!r}")
        except TimeoutError:
            missed = "start" if text in _STARTED else f"print {text!r}"
            raise RuntimeError(
                f"{self.name} did not {missed} within {patient(limit):g} s: {last_words(self.output())}; "
                f"log: {self.log}"
            ) from None

    def signal(self, number: int) -> None:
        """Sends it a signal."""
        self._process.send_signal(number)

    def poll(self) -> int | None:
        """Its exit status, None while it runs."""
        return self._process.poll()

    def wait(self, timeout: float = 10.0) -> int:
        """Waits until it has ended; returns its exit status."""
        status = self._process.wait(patient(timeout))
        self._pid_file.unlink(missing_ok=True)
        return status

    def stop(self, timeout: float = 10.0) -> int:
        """Sends SIGTERM and returns its exit status.

        A process that does not end is killed; RuntimeError has the end of its log, for Python with a
        traceback.
        """
        if self._process.poll() is None:
            self._process.terminate()
        try:
            return self.wait(timeout)
        except subprocess.TimeoutExpired:
            pass
        for number in (signal.SIGABRT, signal.SIGKILL):
            self._process.send_signal(number)
            with suppress(subprocess.TimeoutExpired):
                self.wait(timeout)
                break
        words = last_words(self.output(), 40)
        raise RuntimeError(f"{self.name} did not stop within {patient(timeout):g} s: {words}")
