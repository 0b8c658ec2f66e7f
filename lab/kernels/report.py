"""The results as a table, and the end of each failure's output."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from rich.table import Table

from lab.kernels.steps import Outcome

_LINES = 12


@dataclass
class Attempt:
    """All results of one kernel, by step and compiler."""

    name: str
    release: str = ""
    missing: str = ""  # why it was not tested
    outcomes: dict[str, Mapping[str, Outcome]] = field(default_factory=dict)

    @property
    def succeeded(self) -> bool:
        """Whether all steps passed; on an old kernel there may be none."""
        found = [outcome.ok for by_compiler in self.outcomes.values() for outcome in by_compiler.values()]
        return not self.missing and all(found)


def cell(outcome: Outcome | None, between: str = "\n") -> str:
    """The cell of a step."""
    if outcome is None:
        return "-"
    return f"{'ok' if outcome.ok else 'FAILED'}, {outcome.seconds:.0f} s{between}{outcome.words}"


def table(attempts: Sequence[Attempt], compilers: Sequence[str], steps: Sequence[str]) -> Table:
    """The table, with a row for each kernel and compiler."""
    made = Table(title="Kernels", title_style="bold", title_justify="left", show_lines=True)
    for name in ("kernel", "bytecode", *steps):
        made.add_column(name)
    for attempt in attempts:
        for compiler in compilers if attempt.release else ():
            cells = [cell(attempt.outcomes.get(step, {}).get(compiler)) for step in steps]
            made.add_row(attempt.release, compiler, *cells)
    return made


def failures(attempts: Sequence[Attempt]) -> Iterator[str]:
    """Name and end of the log of each failed step; the reason for each kernel that was not tested."""
    for attempt in attempts:
        if attempt.missing:
            yield f"{attempt.name}: not tried: {attempt.missing}"
        for step, by_compiler in attempt.outcomes.items():
            for compiler, outcome in by_compiler.items():
                if not outcome.ok:
                    lines = outcome.log.read_text(errors="replace").rstrip().splitlines()[-_LINES:]
                    title = f"{attempt.release}, {compiler}: {step} failed; the end of {outcome.log}:"
                    yield "\n".join([title, *(f"  {line}" for line in lines)])
