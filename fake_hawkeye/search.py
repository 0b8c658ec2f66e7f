"""The best path through a graph with given stops and limits."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import networkx

from fake_hawkeye.graph import Metrics

Weight = Callable[[Metrics], float]
#: A router, and the number of stops made so far.
Step = tuple[str, int]
Way = tuple[Step, ...]
_NOISE = 1e-9
#: Rounded cost, IGP metric, length, path: the order of preference; then exact cost, consumed limits.
_Entry = tuple[float, int, int, Way, float, tuple[float, ...]]


@dataclass(frozen=True)
class Limit:
    """The maximum of a sum over the links of a path."""

    weight: Weight
    most: float


def links_of(graph: networkx.Graph, way: Way) -> list[Metrics] | None:
    """The current links of the path; None if one of them is gone."""
    hops = [(one, other) for (one, _), (other, _) in pairwise(way) if one != other]
    if not all(graph.has_edge(*hop) for hop in hops):
        return None
    return [graph.edges[hop]["metrics"] for hop in hops]


def within(links: Sequence[Metrics], limits: Sequence[Limit]) -> bool:
    """Whether these links together are within all limits."""
    return all(sum(map(limit.weight, links)) <= limit.most + _NOISE for limit in limits)


def cheapest(
    graph: networkx.Graph,
    source: str,
    destination: str,
    stops: Sequence[Collection[str]],
    weight: Weight,
    limits: Sequence[Limit] = (),
) -> Way | None:
    """The path with the lowest weight that makes each stop, in order, at one of its routers.

    Among equal paths: lowest IGP metric, then fewest hops, then the first by its routers' names. A more
    expensive path to a router is kept only if it has consumed less of some limit.
    """
    if source not in graph or destination not in graph:
        return None
    begin: _Entry = (0.0, 0, 0, ((source, 0),), 0.0, (0.0,) * len(limits))
    pending = [begin]
    settled: dict[Step, list[tuple[float, ...]]] = {}
    while pending:
        _, igp, length, way, cost, used = heapq.heappop(pending)
        here, stage = way[-1]
        if here == destination and stage == len(stops):
            return way
        known = settled.setdefault((here, stage), [])
        if any(all(less <= more for less, more in zip(other, used, strict=True)) for other in known):
            continue
        known.append(used)
        if stage < len(stops) and here in stops[stage]:
            step = (here, stage + 1)
            heapq.heappush(pending, (round(cost, 9), igp, length + 1, (*way, step), cost, used))
        for neighbour, link in _neighbours(graph, here):
            spent = tuple(total + limit.weight(link) for total, limit in zip(used, limits, strict=True))
            if all(total <= limit.most + _NOISE for total, limit in zip(spent, limits, strict=True)):
                total = cost + weight(link)
                step = (neighbour, stage)
                heapq.heappush(
                    pending, (round(total, 9), igp + link.igp, length + 1, (*way, step), total, spent)
                )
    return None


def _neighbours(graph: networkx.Graph, node: str) -> Iterator[tuple[str, Metrics]]:
    for neighbour, attributes in graph.adj[node].items():
        yield neighbour, attributes["metrics"]
