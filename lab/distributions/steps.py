"""The test steps in each distribution, and their results."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lab.distributions.catalogue import Distribution
from lab.distributions.chroot import Chroot
from lab.network import LabError

INSTALL, LOAD = "install", "load"
_PYTHON = ".venv/bin/python"
_BYTECODE = "/mnt/bytecode"
#: The command of each step; as in the README, if it has one.
STEPS: dict[str, tuple[str, ...]] = {
    INSTALL: ("./run", "doctor"),
    LOAD: (
        *(_PYTHON, "-m", "hawkwing.dataplane.bytecode"),
        *("--compile", "--trial", "--output", _BYTECODE),
    ),
    "demo": ("./run", "demo"),
    "unit": ("./run", "test.unit"),
    "dataplane": ("./run", "test.dataplane"),
    "integration": ("./run", "test.integration"),
}
USUAL = ("install", "load", "demo", "unit", "dataplane")
_TESTS = ("unit", "dataplane", "integration")
_CLONE = "/root/hawkwing"
_LOADED = re.compile(r" loads, ([\d,]+) instructions verified$", re.MULTILINE)
_REFUSED = re.compile(r" refused: ")
_COUNTS = re.compile(r"(\d+) (passed|failed|errors?|skipped)")
_VERSIONS = """
import bcc
libraries = [line.split()[-1] for line in open("/proc/self/maps") if "/libLLVM" in line]
print("versions", bcc.__version__, *libraries[:1])
"""


@dataclass(frozen=True)
class Outcome:
    """The result of one step."""

    ok: bool
    seconds: float
    log: Path
    counts: str = ""  # of programs, or of tests


@dataclass
class Attempt:
    """All results of one distribution."""

    distribution: Distribution
    missing: str = ""  # why it has no root file system
    bcc: str = ""
    llvm: str = ""
    outcomes: dict[str, Outcome] = field(default_factory=dict)

    def succeeded(self, steps: Sequence[str]) -> bool:
        """Whether all steps ran and passed."""
        return all(step in self.outcomes and self.outcomes[step].ok for step in steps)


def chosen_steps(steps: str | None) -> list[str]:
    """The steps in a list with commas, or the default, after the installation; in a fixed order."""
    if steps is None:
        return list(USUAL)
    wanted = {name.strip() for name in steps.split(",")}
    for name in sorted(wanted - set(STEPS)):
        raise LabError(f"{name!r} is not a step, use {', '.join(STEPS)}")
    return [name for name in STEPS if name in wanted | {INSTALL}]


def counts_in(text: str) -> dict[str, int]:
    """The numbers in pytest's last line; empty if it did not finish."""
    lines = [line for line in text.splitlines() if _COUNTS.search(line) and " in " in line]
    return {word: int(number) for number, word in _COUNTS.findall(lines[-1])} if lines else {}


def programs_in(text: str) -> str:
    """The number of loaded programs, and the maximum of verified instructions."""
    verified = [int(number.replace(",", "")) for number in _LOADED.findall(text)]
    refused = len(_REFUSED.findall(text))
    words = [f"{len(verified)} load, most verified {max(verified):,}"] if verified else []
    return ", ".join([*words, *([f"{refused} refused"] if refused else [])])


def git_bundle(project: Path, file: Path) -> None:
    """The committed state, with its history, in one file."""
    # Root may read a clone that belongs to another user.
    _git("-C", str(project), "-c", f"safe.directory={project}", "bundle", "create", "-q", str(file), "HEAD")


def clone(bundle: Path, chroot: Chroot) -> None:
    """Makes a fresh clone inside."""
    _git("-c", "advice.detachedHead=false", "clone", "-q", str(bundle), f"{chroot.root}{_CLONE}")


def _git(*arguments: str) -> None:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True)
    except FileNotFoundError:
        raise LabError("needs git, to clone the project") from None
    if done.returncode:
        raise LabError(f"needs a git clone of the project: {done.stderr.strip().splitlines()[-1]}")


def perform(step: str, chroot: Chroot, logs: Path, bytecode: Path) -> Outcome:
    """Runs a step; a test run without tests has failed."""
    log = logs / f"{step}.log"
    bytecode.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    status = chroot.run(STEPS[step], log, _CLONE, share=(bytecode, _BYTECODE))
    seconds = time.monotonic() - begun
    text = log.read_text(errors="replace")
    if step not in _TESTS:
        return Outcome(status == 0, seconds, log, programs_in(text) if step == LOAD else "")
    counts = counts_in(text)
    words = ", ".join(f"{number} {word}" for word, number in counts.items())
    return Outcome(status == 0 and counts.get("passed", 0) > 0, seconds, log, words)


def versions(chroot: Chroot, logs: Path) -> tuple[str, str]:
    """The versions of BCC and of its LLVM."""
    log = logs / "versions.log"
    chroot.run([_PYTHON, "-c", _VERSIONS], log, _CLONE)
    found = re.search(r"^versions (\S+)(.*)$", log.read_text(errors="replace"), re.MULTILINE)
    return (found[1], llvm_release(found[2])) if found else ("?", "?")


def llvm_release(library: str) -> str:
    """The release in the library's path, in the folder or in the name."""
    found = re.search(r"/(?:llvm-|libLLVM-|libLLVM\.so\.)(\d+)", library)
    return found[1] if found else "?"
