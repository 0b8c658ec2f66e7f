"""The search of HawkEye 1.0.1: nearest node first, one path per node, and its crashes."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import Enum

import networkx

from fake_hawkeye.crash import CrashError
from fake_hawkeye.graph import Metrics
from fake_hawkeye.search import Weight


class Mode(Enum):
    """The best path: lowest sum, highest minimum bandwidth, or a path with the link of lowest bandwidth."""

    SUM = "sum"
    WIDEST = "widest"
    SMALLEST = "smallest"


@dataclass(frozen=True)
class Spent:
    """The cost of a path to a node; continued over several legs."""

    cost: float = 0.0
    latency: float = 0.0
    jitter: float = 0.0
    kept: float = 1.0  # the share of delivered packets

    def over(self, link: Metrics, cost: float) -> Spent:
        """The cost with another link."""
        kept = self.kept * (1 - link.loss / 100)
        return Spent(cost, self.latency + link.latency, self.jitter + link.jitter, kept)


@dataclass(frozen=True)
class Leg:
    """A path from one node to another, without its first node."""

    nodes: tuple[str, ...]
    spent: Spent


@dataclass(frozen=True)
class Search:
    """One calculation: graph, metric and limits; raises CrashError where HawkEye crashes."""

    graph: networkx.Graph
    members: Collection[str]
    mode: Mode
    weight: Weight
    fits: Callable[[Spent, Metrics], bool]

    def leg(self, source: str, destination: str, before: Spent) -> Leg | None:
        """The best path, None if there is none."""
        if source not in self.members:
            raise CrashError(f"{source} is not in the algorithm's graph")
        if source == destination:
            raise CrashError(f"the path from {source} to itself has no links")
        came, spent = self._reach(source, destination, before)
        nodes = [destination]
        while nodes[-1] != source:
            if nodes[-1] not in came:
                return None
            nodes.append(came[nodes[-1]])
        return Leg(tuple(reversed(nodes[:-1])), spent[destination])

    def _reach(self, source: str, destination: str, before: Spent) -> tuple[dict[str, str], dict[str, Spent]]:
        start = before.cost if self.mode is Mode.SUM else math.inf
        spent = {source: Spent(start, before.latency, before.jitter, before.kept)}
        came: dict[str, str] = {}
        settled: set[str] = set()
        pending = [(self._rank(start), source)]
        while pending:
            _, here = heapq.heappop(pending)
            settled.add(here)
            if here == destination:
                break
            if here not in self.members:
                raise CrashError(f"{here} is not in the algorithm's graph")
            for neighbour, attributes in self.graph.adj[here].items():
                link = attributes["metrics"]
                cost = self._extend(spent[here].cost, link)
                if neighbour in settled or not self._improves(cost, neighbour, spent):
                    continue
                further = spent[here].over(link, cost)
                if self.fits(further, link):
                    spent[neighbour], came[neighbour] = further, here
                    heapq.heappush(pending, (self._rank(cost), neighbour))
        return came, spent

    def _rank(self, cost: float) -> float:
        return -cost if self.mode is Mode.WIDEST else cost

    def _extend(self, cost: float, link: Metrics) -> float:
        return cost + self.weight(link) if self.mode is Mode.SUM else min(cost, self.weight(link))

    def _improves(self, cost: float, node: str, spent: dict[str, Spent]) -> bool:
        if node in spent:
            known = spent[node].cost
        else:
            # A node outside the algorithm counts as reached at no cost: only the search for bandwidth goes
            # there.
            known = math.inf if node in self.members and self.mode is not Mode.WIDEST else 0.0
        return cost > known if self.mode is Mode.WIDEST else cost < known
