"""The table of metrics in docs/metrics.md, generated from the agent's list."""

from __future__ import annotations

from pathlib import Path

from hawkwing.metric_families import METRICS, Described

PAGE = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"
_BEGIN = "<!-- Made by python -m lab.packages.texts from hawkwing/metric_families.py -->\n"
_END = "<!-- end -->\n"


def text() -> str:
    """The page with an updated table."""
    before, begin, rest = PAGE.read_text().partition(_BEGIN)
    _table, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"{PAGE} has no table of metrics: {_BEGIN.strip()} ... {_END.strip()}")
    return f"{before}{begin}{table()}{end}{after}"


def table() -> str:
    """All metrics, one per line."""
    return "".join(
        f"{line}\n"
        for line in ("| metric | type | labels | agent | |", "|---|---|---|---|---|", *map(_row, METRICS))
    )


def _row(one: Described) -> str:
    labels = ", ".join(f"`{label}`" for label in one.labels)
    return f"| `{one.name}` | {one.kind} | {labels} | {one.of} | {one.text} |"
