"""`python -m tests.mutants`, see the package."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from hawkwing import ending
from tests.mutants import campaign
from tests.mutants.campaign import Outcome
from tests.mutants.copies import PROJECT, WorkerDiedError
from tests.mutants.edits import EDITS, Edit
from tests.mutants.equivalent import outdated
from tests.mutants.operators import Mutant

CACHE = Path("/var/cache/hawkwing-mutants")
PARTS = (
    "addresses", "candidates", "check", "choice", "config", "config_base", "config_labels",
    "config_models", "config_schema", "config_types", "config_values", "config_warnings", "control",
    "controller/backoff", "controller/channel", "controller/credentials", "controller/messages",
    "controller/questions", "controller/stream", "csid", "dataplane/bytecode", "dataplane/layout",
    "dataplane/memory", "dataplane/refusal", "dataplane/source", "desired", "explain", "files",
    "hmac_keys", "intents", "labels", "locks", "logs", "measured", "metric_families", "metrics", "notify",
    "pem", "plan", "policies", "queries", "resolver", "room", "route_table", "selections", "sids",
    "stamp", "status", "steering", "target", "tasks", "usage", "watch", "yaml_lines", "yaml_mistakes",
)  # fmt: skip
"""The parts of the agent that unit tests can cover: the others need the kernel's answers."""


class _UnknownError(Exception):
    """What was asked for is not there."""


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 1 if more has survived than the goal allows, 2 for wrong arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutants", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--only", help="parts of the agent such as config,controller, and names of changes")
    parser.add_argument("--kind", choices=("python", "edits"), help="only one kind of changes")
    parser.add_argument("--sample", type=int, help="so many changes to Python, chosen at random")
    parser.add_argument("--seed", type=int, default=1, help="the same seed, the same sample")
    parser.add_argument("--workers", type=int, default=campaign.default_workers(), help="at work at once")
    parser.add_argument("--goal", type=float, default=5.0, help="percent of the changes that may survive")
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder for what tests reach")
    parser.add_argument("--output", type=Path, help="JSON file")
    parser.add_argument("--list", action="store_true", help="print the changes, and try none")
    arguments = parser.parse_args(argv)
    try:
        files, edits = _asked(arguments.only, arguments.kind)
    except _UnknownError as error:
        print(f"hawkwing test.mutants: {error}", file=sys.stderr)
        return 2
    if arguments.list:
        found = campaign.chosen(files, arguments.sample, arguments.seed)
        print("\n".join([*map(str, found), *(edit.name for edit in edits)]))
        return 0
    ending.tidily("hawkwing test.mutants", once=True)
    outcomes: list[Outcome] = []
    problems: list[str] = ["it was ended before its time"]
    try:
        problems = _run(arguments, files, edits, outcomes)
    except BrokenPipeError:
        raise
    except (OSError, ValueError, RuntimeError, WorkerDiedError) as error:
        problems = [str(error)]
    finally:
        # Also where a signal has come: with what has been found so far.
        if arguments.output:
            arguments.output.write_text(json.dumps([_as_json(one) for one in outcomes], indent=0))
        status = _report(outcomes, problems, arguments.goal)
    return status


def _asked(only: str | None, kind: str | None) -> tuple[list[str], list[Edit]]:
    """Files and changes by name."""
    names = [name.strip().removesuffix(".py").removeprefix("hawkwing/") for name in (only or "").split(",")]
    names = [name for name in names if name]
    files = [f"hawkwing/{part}.py" for part in PARTS if not names]
    edits = [edit for edit in EDITS if not names]
    for name in names:
        agent = PROJECT / "hawkwing"
        here = sorted([*agent.glob(f"**/{name}.py"), *agent.glob(f"{name}/*.py")])
        meant = [edit for edit in EDITS if edit.name == name]
        if not here and not meant:
            raise _UnknownError(f"--only: {name!r} is neither a part of the agent nor the name of a change")
        files += [str(one.relative_to(PROJECT)) for one in here if "_pb2" not in one.name]
        edits += meant
    return ([] if kind == "edits" else files), ([] if kind == "python" else edits)


def _run(
    arguments: argparse.Namespace, files: list[str], edits: list[Edit], outcomes: list[Outcome]
) -> list[str]:
    """What is wrong besides; each outcome is added when it is known."""
    begun = time.monotonic()
    found = campaign.chosen(files, arguments.sample, arguments.seed)
    total = len(found) + len(edits)

    def say(text: str) -> None:
        print(text, flush=True)

    def told(outcome: Outcome) -> None:
        outcomes.append(outcome)
        name = outcome.change.name if isinstance(outcome.change, Edit) else str(outcome.change)
        if isinstance(outcome.change, Edit) or outcome.status in ("survived", "unreached"):
            say(f"{outcome.status:9} {name}{f'  [{outcome.by}]' if outcome.by else ''}")
        if len(outcomes) % 100 == 0:
            say(f"... {len(outcomes)} of {total}, {time.monotonic() - begun:.0f} s")

    problems = []
    with (
        tempfile.TemporaryDirectory(prefix="hwm-") as folder,
        campaign.copies(Path(folder), max(1, min(arguments.workers, total))) as workers,
    ):
        campaign.try_edits(workers, edits, told)
        if found:
            reach = campaign.trace(workers, arguments.cache, say)
            if reach.failed:
                say(f"{len(reach.failed)} tests don't pass here as it is, and are left out:")
                say("\n".join(sorted(reach.failed)))
            campaign.warm(workers)
            changed = sorted({mutant.file for mutant in found})
            problems = campaign.controls(workers, changed, reach)
            wrong = {problem.split(":")[0] for problem in problems}
            say(f"{total} changes")
            campaign.try_mutants(workers, [one for one in found if one.file not in wrong], reach, told)
    if arguments.sample is None:
        problems += [f"no such change any more: {entry}" for entry in outdated(found)]
    return problems


def _as_json(outcome: Outcome) -> dict[str, object]:
    change = outcome.change
    described: dict[str, object] = {"status": outcome.status, "by": outcome.by, "seconds": outcome.seconds}
    if isinstance(change, Edit):
        return {"edit": change.name, "file": change.file, **described}
    return {
        "file": change.file,
        "line": change.line,
        "before": change.before,
        "after": change.after,
        **described,
    }


def _percent(outcomes: Sequence[Outcome]) -> tuple[int, int, float]:
    """How many were tried, how many survived, and the latter in percent."""
    tried = [one for one in outcomes if one.status not in ("equivalent", "skipped")]
    survived = [one for one in tried if not one.noticed]
    return len(tried), len(survived), 100 * len(survived) / len(tried) if tried else 0.0


def _report(outcomes: Sequence[Outcome], problems: Sequence[str], goal: float) -> int:
    of_python = [one for one in outcomes if isinstance(one.change, Mutant)]
    by_name = [one for one in outcomes if isinstance(one.change, Edit)]
    for one in sorted(of_python, key=lambda one: str(one.change)):
        if one.status in ("survived", "unreached"):
            print(f"{one.status:9} {one.change}")
    files = sorted({one.change.file for one in of_python})
    for file in files:
        here = [one for one in of_python if one.change.file == file]
        tried, survived, percent = _percent(here)
        left = f", {len(here) - tried} make no difference" if len(here) > tried else ""
        print(f"{file:40} {tried:5} changes {survived:4} survived {percent:5.1f} %{left}")
    tried, survived, percent = _percent(of_python)
    if of_python:
        print(
            f"{'all of Python':40} {tried:5} changes {survived:4} survived {percent:5.1f} %, goal {goal:g} %"
        )
    bad = [one for one in by_name if not one.noticed and one.status != "skipped"]
    if by_name:
        skipped = [one for one in by_name if one.status == "skipped"]
        print(f"{len(by_name)} changes by name, {len(bad)} not noticed, {len(skipped)} not tried")
        for one in [*bad, *skipped]:
            print(f"{one.status:9} {one.change.file}: {one.change.name}{f': {one.by}' if one.by else ''}")
    for problem in problems:
        print(f"hawkwing test.mutants: {problem}", file=sys.stderr)
    return int(percent > goal or bool(bad) or bool(problems))


if __name__ == "__main__":
    with ending.at_once("hawkwing test.mutants"):
        sys.exit(ending.output_of("hawkwing test.mutants", main))
