"""Medians over rounds, and ratios within rounds."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import sqrt
from statistics import median


def ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """The median of the ratios of all rounds: a disturbance of a whole round cancels out.

    ratio([9, 18], [10, 20]) == 0.9. Rounds in which one side is missing or zero are left out; nan if all are.
    """
    pairs = [a / b for a, b in zip(above, below, strict=False) if a > 0 and b > 0]
    return median(pairs) if pairs else float("nan")


def bounds(above: Sequence[float], below: Sequence[float]) -> tuple[float, float]:
    """The 95 % confidence interval of the median of the ratios, by order statistics.

    nan with fewer than a dozen rounds, where it would be too wide to be useful.
    """
    pairs = sorted(a / b for a, b in zip(above, below, strict=False) if a > 0 and b > 0)
    if len(pairs) < 12:
        return float("nan"), float("nan")
    rank = int((len(pairs) - 1.96 * sqrt(len(pairs))) / 2)
    return pairs[rank - 1], pairs[-rank]


@dataclass
class Series:
    """One quantity, with a value for each variant and round."""

    name: str
    unit: str
    rounds: dict[str, list[float]] = field(default_factory=dict)

    def add(self, way: str, value: float) -> None:
        """Adds a value; the n-th values of all variants belong to the n-th round."""
        self.rounds.setdefault(way, []).append(value)

    def median(self, way: str) -> float:
        """The median; nan without values."""
        values = [value for value in self.rounds.get(way, ()) if value == value]
        return median(values) if values else float("nan")

    def ratio(self, way: str, other: str) -> float:
        """The ratio of `way` to `other`, see `ratio`."""
        return ratio(self.rounds.get(way, ()), self.rounds.get(other, ()))

    def bounds(self, way: str, other: str) -> tuple[float, float]:
        """The interval of the ratio of `way` to `other`, see `bounds`."""
        return bounds(self.rounds.get(way, ()), self.rounds.get(other, ()))

    def as_json(self, ratios: Sequence[tuple[str, str]] = ()) -> dict[str, object]:
        """All values, with these ratios."""
        return {
            "name": self.name,
            "unit": self.unit,
            "median": {way: rounded(self.median(way)) for way in self.rounds},
            "ratio": {f"{a}/{b}": rounded(self.ratio(a, b)) for a, b in ratios},
            "ratio_95": {f"{a}/{b}": [rounded(end) for end in self.bounds(a, b)] for a, b in ratios},
            "rounds": {way: [rounded(value) for value in values] for way, values in self.rounds.items()},
        }


def rounded(value: float) -> float | None:
    """Rounds to four significant digits; None for nan, which JSON lacks."""
    return None if value != value else float(f"{value:.4g}")


def shown(value: float) -> str:
    """Three significant digits, or a dash for nan."""
    if value != value:
        return "-"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def row(series: Series, ways: Sequence[str], ratios: Sequence[tuple[str, str]] = ()) -> list[str]:
    """A row of a table: name with unit, medians, ratios."""
    medians = [shown(series.median(way)) for way in ways]
    return [f"{series.name}, {series.unit}", *medians, *(_quotient(series, *pair) for pair in ratios)]


def _quotient(series: Series, way: str, other: str) -> str:
    value, (low, high) = series.ratio(way, other), series.bounds(way, other)
    if value != value:
        return "-"
    return f"{value:.2f}" if low != low else f"{value:.2f} ({low:.2f} to {high:.2f})"


def per_run(before: tuple[int, int], after: tuple[int, int]) -> float:
    """Nanoseconds per run between two readings of (run time, runs); nan with too few runs."""
    runs = after[1] - before[1]
    return (after[0] - before[0]) / runs if runs >= 20 else float("nan")
