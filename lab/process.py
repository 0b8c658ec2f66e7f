"""Processes inside nodes: each with a log and a pid file in the lab's run directory.

A process belongs to a lab by a variable in its environment, not by its name: nothing else is ever stopped.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lab import netns
from lab.wait import PATIENCE, wait_until

MARKER = "HAWKWING_LAB_MEMBER"
#: The lab that commands are about which are not told its name.
CURRENT = "HAWKWING_LAB"
# The node's own resolver settings, in a mount namespace that ends with the process.
_MOUNT = (
    'if [ -d "$0" ]; then for f in resolv.conf hosts; do '
    'if [ -e "$0/$f" ] && [ -e "/etc/$f" ]; then mount --bind "$0/$f" "/etc/$f"; fi; done; fi; exec "$@"'
)


def command_inside(namespace: str, etc: Path, argv: Sequence[str]) -> list[str]:
    """`argv` as run in a node: its network, and its /etc/resolv.conf and /etc/hosts."""
    # A slave hears of what is unmounted outside: a lab's processes hold no other lab's namespaces.
    mounts = ["unshare", "--mount", "--propagation", "slave"]
    return ["nsenter", f"--net={netns.path(namespace)}", *mounts, "sh", "-c", _MOUNT, str(etc), *argv]


def marked_environment(lab: str, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Our environment with the lab's mark."""
    return {**os.environ, **(extra or {}), MARKER: lab, CURRENT: lab}


def members(lab: str) -> list[int]:
    """All processes with the lab's mark, our own left out."""
    mark = f"{MARKER}={lab}".encode()
    pids = [int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdecimal()]
    environments = {pid: _environment(pid) for pid in pids if pid != os.getpid()}
    for pid, text in environments.items():
        if not text:
            # While a process becomes another program, it shows none for a moment.
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
    """SIGTERM, and SIGKILL for what is still there after `patience` seconds."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in pids:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue
        end = time.monotonic() + patience
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
    """The end of a log: a line as it is, several below each other."""
    lines = output.strip().splitlines()[-most:] or ["it said nothing"]
    return lines[0] if len(lines) == 1 else "\n  ".join(["", *lines])


class Process:
    """A process in the background of a node; `name` is that of its log and pid file."""

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
        """nsenter, unshare and sh give way to the command itself: it is the same process."""
        return self._process.pid

    def output(self) -> str:
        """What it has printed so far."""
        return self.log.read_text(errors="replace")

    def wait_for(
        self, text: str, heard: Callable[[str], None] | None = None, limit: float = PATIENCE
    ) -> None:
        """Until it has printed `text`, for as long as it lives; RuntimeError with the end of its log.

        A cold start may take long: the limit is there for what never ends. `heard` is given each line that
        comes meanwhile.
        """
        told = 0

        def seen() -> bool:
            nonlocal told
            # Before its output: what has ended has said all.
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
                raise RuntimeError(f"{self.name} ended with status {status}: {last_words(output)}")
            return False

        try:
            wait_until(seen, limit, "")
        except TimeoutError:
            raise RuntimeError(
                f"{self.name} did not say {text!r} within {limit:g} s: {last_words(self.output())}"
            ) from None

    def signal(self, number: int) -> None:
        """Sends it a signal."""
        self._process.send_signal(number)

    def poll(self) -> int | None:
        """Its exit status, None while it runs."""
        return self._process.poll()

    def wait(self, timeout: float = 10.0) -> int:
        """Its exit status, once it has ended."""
        status = self._process.wait(timeout)
        self._pid_file.unlink(missing_ok=True)
        return status

    def stop(self, timeout: float = 10.0) -> int:
        """SIGTERM and its exit status."""
        if self._process.poll() is None:
            self._process.terminate()
        return self.wait(timeout)
