"""The objective of each intent: which path is best, and the cost of a path. Less is better."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import networkx

from fake_hawkeye.graph import Metrics
from fake_hawkeye.search import Limit, Way, Weight, cheapest
from hawkwing.intents import Intent, IntentType

Stops = Sequence[Collection[str]]
#: By the number of metrics in a request; with more than three only the first counts.
FACTORS = {1: (1.0,), 2: (0.7, 0.3), 3: (0.7, 0.2, 0.1)}
_SMALLEST = 0.00001


def _loss(link: Metrics) -> float:
    return -math.log(1 - link.loss / 100)


def _igp(link: Metrics) -> float:
    return link.igp


def _latency(link: Metrics) -> float:
    return link.latency


def _jitter(link: Metrics) -> float:
    return link.jitter


SUMS: dict[IntentType, Weight] = {
    IntentType.LOW_LATENCY: _latency,
    IntentType.LOW_JITTER: _jitter,
    IntentType.LOW_UTILIZATION: lambda link: link.utilization,
    IntentType.LOW_PACKET_LOSS: _loss,
}
#: Values scaled to 0..1 if several metrics are added, and whether a high value is good.
SCALES: dict[IntentType, tuple[Weight, bool]] = {
    IntentType.LOW_LATENCY: (_latency, False),
    IntentType.LOW_JITTER: (_jitter, False),
    IntentType.LOW_UTILIZATION: (lambda link: link.utilization, False),
    IntentType.LOW_PACKET_LOSS: (lambda link: link.loss, False),
    IntentType.LOW_BANDWIDTH: (lambda link: link.bandwidth, False),
    IntentType.HIGH_BANDWIDTH: (lambda link: link.available, True),
}


class Objective(Protocol):
    """Compares paths."""

    def best(
        self, graph: networkx.Graph, source: str, destination: str, stops: Stops, limits: Sequence[Limit]
    ) -> Way | None:
        """The best path."""
        ...

    def cost(self, links: Sequence[Metrics]) -> float:
        """The cost of a path over these links."""
        ...


@dataclass(frozen=True)
class Sum:
    """The sum of the links' weights."""

    weight: Weight

    def best(
        self, graph: networkx.Graph, source: str, destination: str, stops: Stops, limits: Sequence[Limit]
    ) -> Way | None:
        return cheapest(graph, source, destination, stops, self.weight, limits)

    def cost(self, links: Sequence[Metrics]) -> float:
        return sum(map(self.weight, links))


@dataclass(frozen=True)
class Worst:
    """Only the worst link counts; among equal paths the one with the lowest IGP metric is used."""

    badness: Weight

    def best(
        self, graph: networkx.Graph, source: str, destination: str, stops: Stops, limits: Sequence[Limit]
    ) -> Way | None:
        bounds = {self.badness(metrics) for _, _, metrics in graph.edges(data="metrics")} or {0.0}
        for bound in sorted(bounds):
            way = cheapest(self._no_worse(graph, bound), source, destination, stops, _igp, limits)
            if way is not None:
                return way
        return None

    def cost(self, links: Sequence[Metrics]) -> float:
        return max(map(self.badness, links), default=0.0)

    def _no_worse(self, graph: networkx.Graph, bound: float) -> networkx.Graph:
        return only_links(graph, lambda link: self.badness(link) <= bound)


def objective(intents: Sequence[Intent], network: Iterable[Metrics]) -> Objective:
    """The combined objective of the intents; `network` has the links for scaling the metrics."""
    kinds = [intent.type for intent in intents if intent.type not in (IntentType.SFC, IntentType.FLEX_ALGO)]
    if not kinds:
        return Sum(_igp)
    if len(kinds) > 1:
        return _weighted(kinds, list(network))
    if kinds[0] is IntentType.HIGH_BANDWIDTH:
        return Worst(lambda link: 1 / link.available if link.available else math.inf)
    if kinds[0] is IntentType.LOW_BANDWIDTH:
        return Worst(lambda link: link.bandwidth)
    return Sum(SUMS[kinds[0]])


def limits(intents: Iterable[Intent]) -> list[Limit]:
    """The intents' max values."""
    found = []
    for intent in intents:
        if intent.max_value is None:
            continue
        if intent.type is IntentType.LOW_PACKET_LOSS:
            most = -math.log(1 - intent.max_value / 100) if intent.max_value < 100 else math.inf
            found.append(Limit(_loss, most))
        elif intent.type in (IntentType.LOW_LATENCY, IntentType.LOW_JITTER):
            found.append(Limit(SUMS[intent.type], intent.max_value))
    return found


def only_links(graph: networkx.Graph, fine: Callable[[Metrics], bool]) -> networkx.Graph:
    """The graph without the links that fail the test."""
    return networkx.subgraph_view(graph, filter_edge=lambda one, other: fine(graph[one][other]["metrics"]))


def _weighted(kinds: Sequence[IntentType], network: Sequence[Metrics]) -> Sum:
    factors = FACTORS.get(len(kinds), FACTORS[1])
    parts = [
        (factor, scaled_weight(*SCALES[kind], network)) for factor, kind in zip(factors, kinds, strict=False)
    ]
    return Sum(lambda link: sum(factor * weight(link) for factor, weight in parts))


def scaled_weight(weight: Weight, much_is_good: bool, network: Sequence[Metrics]) -> Weight:
    """Scales to 0..1 between the fences: 1.5 interquartile ranges outside the quartiles, within the data."""
    values = sorted(map(weight, network))
    half = len(values) // 2
    first = statistics.median(values[:half] or values)
    third = statistics.median(values[-half:] or values)
    low = max(first - 1.5 * (third - first), values[0])
    high = min(third + 1.5 * (third - first), values[-1])

    def scaled(link: Metrics) -> float:
        if low == high:
            return 1.0
        share = min(max((weight(link) - low) / (high - low), 0.0), 1.0)
        return max(1 - share if much_is_good else share, _SMALLEST)

    return scaled
