"""The results as a table, and the end of each failure's output."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.table import Table

from lab.distributions.steps import Attempt, Outcome

_LINES = 12


def cell(outcome: Outcome | None) -> str:
    """The cell of a step in a distribution."""
    if outcome is None:
        return "not tried"
    words = f"{'ok' if outcome.ok else 'FAILED'}, {outcome.seconds:.0f} s"
    return f"{words}\n{outcome.counts}" if outcome.counts else words


def table(attempts: Sequence[Attempt], steps: Sequence[str]) -> Table:
    """The table, with a row for each distribution."""
    made = Table(title="Distributions", title_style="bold", title_justify="left")
    for name in ("", "BCC", "LLVM", *steps):
        made.add_column(name)
    for attempt in attempts:
        cells = [cell(attempt.outcomes.get(step)) for step in steps]
        made.add_row(attempt.distribution.title, attempt.bcc or "-", attempt.llvm or "-", *cells)
    return made


def failures(attempts: Sequence[Attempt]) -> Iterator[str]:
    """Name and end of the log of each failed step; the reason for each distribution that was not tested."""
    for attempt in attempts:
        name = attempt.distribution.name
        if attempt.missing:
            yield f"{name}: not tried: {attempt.missing}"
        for step, outcome in attempt.outcomes.items():
            if not outcome.ok:
                lines = outcome.log.read_text(errors="replace").rstrip().splitlines()[-_LINES:]
                yield "\n".join(
                    [f"{name}: {step} failed; the end of {outcome.log}:", *(f"  {x}" for x in lines)]
                )
