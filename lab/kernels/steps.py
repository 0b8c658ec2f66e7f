"""The test steps on each kernel, and their results."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hawkwing.dataplane import bytecode
from hawkwing.dataplane.trial import MOST_INSTRUCTIONS
from lab.distributions.steps import counts_in
from lab.kernels import machine
from lab.kernels.archive import Kernel, KernelError
from lab.network import PROJECT, LabError

LOAD, DATAPLANE, LAB, LINKS = "load", "dataplane", "lab", "links"
STEPS = (LOAD, DATAPLANE, LAB, LINKS)
SHIPPED = "shipped"
REFUSAL = "needs Linux 5.15 or newer"
_PYTEST = ("-m", "pytest", "-v", "--color=no", "-o", "cache_dir=/tmp/pytest")
_PATIENCE = 10  # emulation is slow
_SIZES = "tests/integration/test_sizes.py"
#: Data plane: all tests except those that measure times, such as those of large configurations. Lab: the
#: demo, and tests with datagrams of all sizes and large packets. Links: agents on each kind of interface.
_COMMANDS: dict[str, list[tuple[str, ...]]] = {
    DATAPLANE: [
        (*_PYTEST, "-m", "not measures_time", "--ignore", "tests/dataplane/test_reload.py", "tests/dataplane")
    ],
    LAB: [
        ("-m", "lab", "demo"),
        (
            *(*_PYTEST, "tests/integration/test_large.py"),
            f"{_SIZES}::test_every_datagram_arrives_and_is_steered[2]",
            *(f"{_SIZES}::test_tcp_at_full_size[{offload}]" for offload in ("on", "off")),
        ),
    ],
    LINKS: [(*_PYTEST, "tests/integration/links")],
}


@dataclass(frozen=True)
class Outcome:
    """The result of a step on a kernel with the bytecode of a compiler; `words` is a summary."""

    ok: bool
    words: str
    log: Path
    seconds: float = 0.0


def chosen_steps(steps: str | None) -> list[str]:
    """The steps in a list with commas, or all, in a fixed order."""
    wanted = STEPS if steps is None else [name.strip() for name in steps.split(",")]
    for name in wanted:
        if name not in STEPS:
            raise LabError(f"{name!r} is not a step, use {', '.join(STEPS)}")
    return [name for name in STEPS if name in wanted]


def compilers(folder: Path | None) -> dict[str, Path]:
    """Folders with bytecode by compiler; by default the shipped bytecode."""
    if folder is None:
        found = {SHIPPED: bytecode.shipped_folder()}
    else:
        found = {file.parent.name: file.parent for file in sorted(folder.glob("*/client.json"))}
    if not found:
        raise LabError(f"{folder} has no bytecode, expected COMPILER/ROLE.json")
    digest = bytecode.source_digest()
    for path in found.values():
        for role in bytecode.ROLES:
            code = bytecode.read(path / f"{role}.json")
            if code is None or code.source != digest:
                fault = "no bytecode" if code is None else "bytecode of different C sources"
                raise LabError(f"{path / role}.json is {fault}")
    return found


def perform(step: str, kernel: Kernel, codes: Mapping[str, Path], logs: Path) -> dict[str, Outcome]:
    """Runs a step with the bytecode of each compiler; the results by compiler."""
    if step == LOAD:
        return _load(kernel, codes, logs)
    return {name: _test(step, kernel, name, path, logs) for name, path in codes.items()}


def _load(kernel: Kernel, codes: Mapping[str, Path], logs: Path) -> dict[str, Outcome]:
    """All in one boot, because loading takes less time than booting."""
    job, log = logs / "job", logs / f"{LOAD}.log"
    python = shlex.quote(sys.executable)
    lines = ["cd " + shlex.quote(str(PROJECT))]
    for name, path in codes.items():
        result = shlex.quote(f"{machine.PLACE}/{name}.json")
        trial = f"{python} -m hawkwing.dataplane.bytecode --trial --json --from {shlex.quote(str(path))}"
        lines += [f"echo {shlex.quote(name)}", f"{trial} >{result}", f"cat {result}"]
    if kernel.too_old:
        lines += [
            f"{python} -m hawkwing server -i lo 2>{machine.PLACE}/agent",
            f"echo $? >{machine.PLACE}/ended",
        ]
    began = time.monotonic()
    try:
        machine.run(kernel, "\n".join(lines), PROJECT, [PROJECT, *codes.values()], job, log)
    except KernelError as error:
        return dict.fromkeys(codes, Outcome(False, str(error), log, time.monotonic() - began))
    seconds = (time.monotonic() - began) / len(codes)
    found = {}
    for name in codes:
        ok, words = judged(_text(job / f"{name}.json"), kernel.too_old)
        if ok and kernel.too_old:
            ok, words = refused(_text(job / "agent"), _text(job / "ended"))
        found[name] = Outcome(ok, words, log, seconds)
    shutil.rmtree(job)
    return found


def judged(report: str, too_old: bool = False) -> tuple[bool, str]:
    """Whether all programs in the report load within the limit, or are refused with a clear message."""
    try:
        programs = json.loads(report)["programs"]
    except (ValueError, KeyError):
        return False, "the programs were not tried"
    complete = {(one["role"], one["program"]) for one in programs} == {
        (role, program) for role in bytecode.ROLES for program in bytecode.programs_of(role)
    }
    refusals = [one["refused"] for one in programs if one["refused"]]
    if too_old:
        well = [said for said in refusals if REFUSAL in said and "\n" not in said]
        return complete and len(well) == len(
            programs
        ), f"{len(well)} of {len(programs)} refused in one sentence"
    most = max((one["verified"] for one in programs), default=0)
    words = f"{len(programs) - len(refusals)} of {len(programs)} load, most verified {most:,}"
    return complete and not refusals and 0 < most <= MOST_INSTRUCTIONS, words


def refused(said: str, status: str) -> tuple[bool, str]:
    """Whether the agent ended with status 1 and one sentence."""
    well = status.strip() == "1" and said.count("\n") == 1 and REFUSAL in said
    return well, "refused in one sentence" if well else "not refused with an error message of the agent"


def _test(step: str, kernel: Kernel, name: str, code: Path, logs: Path) -> Outcome:
    """One boot per compiler, whose bytecode replaces the shipped bytecode."""
    log = logs / (f"{step}.log" if name == SHIPPED else f"{step}-{name}.log")
    job = logs / "job"
    place = bytecode.shipped_folder()
    commands = [shlex.join([sys.executable, *arguments]) for arguments in _COMMANDS[step]]
    command = " && ".join([f"export HAWKWING_PATIENCE={_PATIENCE}", *commands])
    if code != place:
        command = f"mount --bind {shlex.quote(str(code))} {shlex.quote(str(place))} && {command}"
    began = time.monotonic()
    try:
        status = machine.run(kernel, command, PROJECT, [PROJECT, code], job, log)
    except KernelError as error:
        return Outcome(False, str(error), log, time.monotonic() - began)
    finally:
        shutil.rmtree(job, ignore_errors=True)
    counts = counts_in(log.read_text(errors="replace"))
    words = ", ".join(f"{number} {word}" for word, number in counts.items()) or "no test ran"
    return Outcome(status == 0 and counts.get("passed", 0) > 0, words, log, time.monotonic() - began)


def _text(file: Path) -> str:
    return file.read_text(errors="replace") if file.exists() else ""


def applicable(kernel: Kernel, steps: Sequence[str]) -> list[str]:
    """Tests only the agent's error message on a kernel that is too old."""
    return [step for step in steps if step == LOAD or not kernel.too_old]
