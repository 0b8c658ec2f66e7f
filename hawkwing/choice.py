"""Selects the path that fits an application's intents best, by measurements. No I/O.

Preferences come first, as in RFC 9256: only the usable candidates with the highest preference are compared.
A candidate that breaks a limit of an intent is not usable, so a path with a lower preference replaces it.
Measurements vary, so a broken limit or a better path counts only after several looks in a row. A look is one
comparison of all figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from hawkwing.intents import Intent, IntentType
from hawkwing.labels import path_text
from hawkwing.selections import Candidate
from hawkwing.sids import SidList

LOOKS = 3
"""Looks in a row with a broken limit, or with a better path, before the path changes."""
GOOD_LOOKS = 5
"""Looks in a row within its limits before a path is used again."""
CALM = 5.0
"""Minimum seconds between two changes, unless the path in use is no longer usable."""
_WELL_BELOW = 0.9
"""The part of its limit that a figure must not exceed before the path is used again."""


class Figures(NamedTuple):
    """Measurements of a path; None: unknown."""

    alive: bool = True
    #: One way, in microseconds: half of the round trip.
    latency: float | None = None
    #: Variation of the round trip, in microseconds.
    jitter: float | None = None
    #: Lost probes, in percent.
    loss: float | None = None
    #: Delivery rate of TCP connections that use at least half of their window, in kbit/s.
    rate: float | None = None


class _Metric(NamedTuple):
    """The figure that an intent compares, and by how much another path must be better."""

    figure: str
    name: str
    floor: float
    share: float
    higher_is_better: bool = False


_METRICS = {
    IntentType.LOW_LATENCY: _Metric("latency", "latency", 200.0, 0.15),
    IntentType.LOW_JITTER: _Metric("jitter", "jitter", 100.0, 0.25),
    IntentType.LOW_PACKET_LOSS: _Metric("loss", "loss", 1.0, 0.25),
    IntentType.HIGH_BANDWIDTH: _Metric("rate", "delivery rate", 100.0, 0.25, higher_is_better=True),
}


def is_measurable(intents: Sequence[Intent]) -> bool:
    """Whether a host can measure one of these intents."""
    return any(intent.type in _METRICS for intent in intents)


def shown(figure: str, value: float) -> str:
    """A figure with its unit."""
    if figure == "loss":
        return f"{value:.3g} %"
    if figure == "rate":
        return f"{value / 1000:.3g} Mbit/s"
    return f"{value / 1000:.3g} ms"


class Choice(NamedTuple):
    """The candidates that share the flows, and the reason, with figures."""

    active: tuple[Candidate, ...]
    reason: str = ""


@dataclass(slots=True)
class _Record:
    """Looks in a row in which a path broke its limits, or kept them."""

    over: int = 0
    under: int = 0
    left: str = ""


@dataclass(slots=True)
class Chooser:
    """Selects paths for applications with the same candidates and intents; has state from look to look."""

    intents: tuple[Intent, ...]
    _records: dict[SidList, _Record] = field(default_factory=dict)
    _current: SidList = ()
    _better: SidList = ()
    _better_for: int = 0
    _changed: float = float("-inf")

    def why_left(self, sids: SidList) -> str:
        """The limit that a path breaks, with figures; empty if it breaks none."""
        record = self._records.get(sids)
        return record.left if record is not None else ""

    def watch(self, sids: SidList, figures: Figures) -> None:
        """Compares a path with the limits of the intents; called once per look."""
        record = self._records.setdefault(sids, _Record())
        broken = self._broken(figures, 1.0)
        if broken:
            record.over, record.under = record.over + 1, 0
            if record.over >= LOOKS or record.left:
                record.left = broken
            return
        record.over = 0
        record.under = 0 if self._broken(figures, _WELL_BELOW) else record.under + 1
        if record.under >= GOOD_LOOKS:
            record.left = ""

    def _broken(self, figures: Figures, share: float) -> str:
        for intent in self.intents:
            metric = _METRICS.get(intent.type)
            # A low rate does not mean a slow path: the application may have little to send.
            if metric is None or metric.higher_is_better or intent.max_value is None:
                continue
            value = getattr(figures, metric.figure)
            if value is not None and value > intent.max_value * share:
                limit = shown(metric.figure, intent.max_value)
                return f"its {metric.name} of {shown(metric.figure, value)} exceeds {limit}"
        return ""

    def choose(
        self, candidates: Sequence[Candidate], figures: Mapping[SidList, Figures], now: float
    ) -> Choice:
        """Selects among candidates that are usable by their routes; `now` in seconds."""
        alive = [one for one in candidates if _of(figures, one).alive] or list(candidates)
        usable = [one for one in alive if not self.why_left(one.sids)] or alive
        best = max((one.preference for one in usable), default=0)
        group = tuple(one for one in usable if one.preference == best)
        metric = next((_METRICS[one.type] for one in self.intents if one.type in _METRICS), None)
        if metric is None or len(group) < 2:
            if group and group[0].sids != self._current:
                self._take(group[0].sids, now)
            return Choice(group, self._alone(group, candidates))
        values = {
            one.sids: value
            for one in group
            if (value := getattr(_of(figures, one), metric.figure)) is not None
        }
        # Only a path with flows has a rate: all paths share the flows until all rates are known.
        if not values or (metric.higher_is_better and len(values) < len(group)):
            return Choice(group, f"their {metric.name} is not known yet")
        self._settle(metric, values, now)
        chosen = tuple(one for one in group if one.sids == self._current)
        return Choice(chosen, _reason(metric, values, self._current, group))

    def _alone(self, group: Sequence[Candidate], candidates: Sequence[Candidate]) -> str:
        """Why other candidates are not in use, if there is nothing to compare."""
        told = [
            f"{_named(one)} is not used: {why}"
            for one in candidates
            if one not in group and (why := self.why_left(one.sids))
        ]
        return "; ".join(told)

    def _settle(self, metric: _Metric, values: Mapping[SidList, float], now: float) -> None:
        pick = max if metric.higher_is_better else min
        best = pick(values, key=lambda sids: values[sids])
        if self._current not in values:
            self._take(best, now)
            return
        here, there = values[self._current], values[best]
        gain = there - here if metric.higher_is_better else here - there
        if gain <= max(metric.floor, metric.share * here):
            self._better, self._better_for = (), 0
            return
        self._better_for = self._better_for + 1 if self._better == best else 1
        self._better = best
        if self._better_for >= LOOKS and now - self._changed >= CALM:
            self._take(best, now)

    def _take(self, sids: SidList, now: float) -> None:
        self._current, self._changed = sids, now
        self._better, self._better_for = (), 0


def _of(figures: Mapping[SidList, Figures], one: Candidate) -> Figures:
    return figures.get(one.sids) or Figures()


def _named(one: Candidate) -> str:
    return one.name or path_text([str(sid) for sid in one.sids])


def _reason(
    metric: _Metric, values: Mapping[SidList, float], current: SidList, group: Sequence[Candidate]
) -> str:
    others = [
        f"{_named(one)}: " + (shown(metric.figure, values[one.sids]) if one.sids in values else "not known")
        for one in group
        if one.sids != current
    ]
    what = f"measured {metric.name} of {shown(metric.figure, values[current])}"
    return f"{what} ({'; '.join(others)})"
