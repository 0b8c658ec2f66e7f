"""The actual calculations of HawkEye 1.0.1; `rules` implements its documentation.

It crashes on some queries, ignores some values, inverts some metrics, and uses other thresholds to keep or
leave a path. docs/hawkeye.md lists the effects on an agent.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address
from itertools import pairwise

import networkx

from fake_hawkeye.crash import CrashError, crash
from fake_hawkeye.graph import Metrics, Network
from fake_hawkeye.greedy import Leg, Mode, Search, Spent
from fake_hawkeye.objectives import FACTORS, SCALES, SUMS, scaled_weight
from fake_hawkeye.paths import Outcome, Refused
from fake_hawkeye.search import Weight
from fake_hawkeye.sessions import Sessions
from hawkwing.intents import Intent, IntentType, PathQuery

_PREFIX = "failed to calculate path result: "
_SETUP = "error setting up service function chain: Error getting service SIDs: "
_NO_CHAIN = "No valid path for service function chain found"
_STRUCTURE = (IntentType.SFC, IntentType.FLEX_ALGO)
#: Of several metrics only these count; high-bandwidth as a cost, which avoids links with high bandwidth.
_COUNTED = (IntentType.LOW_LATENCY, IntentType.LOW_JITTER, IntentType.LOW_PACKET_LOSS)
_LIMITED: dict[IntentType, Callable[[Spent], float]] = {
    IntentType.LOW_LATENCY: lambda spent: spent.latency,
    IntentType.LOW_JITTER: lambda spent: spent.jitter,
    IntentType.LOW_PACKET_LOSS: lambda spent: 100 * (1 - spent.kept),
}


#: The router and the SID of each function's instance, in order.
_Chain = tuple[tuple[str, IPv6Address], ...]


@dataclass(frozen=True)
class Found101:
    """A path, its routers from the source's on, and its cost when it was found."""

    sids: tuple[IPv6Address, ...]
    routers: tuple[str, ...]
    services: tuple[IPv6Address, ...]
    cost: float


class Computed101:
    """A PathSource that calculates paths; it has no state."""

    def __init__(self, network: Network) -> None:
        self.network = network

    def path(self, query: PathQuery) -> tuple[IPv6Address, ...]:
        return self.best(query).sids

    def forget(self, query: PathQuery) -> None:
        """Nothing to do: it has no state."""

    def best(self, query: PathQuery) -> Found101:
        """The path for a new query; may raise Refused or CrashError."""
        try:
            return self._best(query)
        except Refused as error:
            raise Refused(f"{_PREFIX}{error}") from None

    def better(self, query: PathQuery, old: Found101) -> Found101 | None:
        """The path to push instead of `old`; a path that violates its own values is kept."""
        new = self._best(query)
        if new.sids == old.sids:
            return None
        links = self._links(old)
        if links is None or not self._healthy(old) or self._worth(query, new, links):
            return new
        return None

    def _best(self, query: PathQuery) -> Found101:
        source = self._router(query.source, "Source")
        destination = self._router(query.destination, "Destination")
        algorithm = _algorithm(query.intents)
        chained = query.intents[0].type is IntentType.SFC
        chains = self._chains(query.intents[0].functions, self._members(algorithm)) if chained else []
        if chained and not chains:
            raise Refused(_NO_CHAIN)
        search = self._search(query, algorithm)
        if not chained:
            leg = search.leg(source, destination, Spent())
            if leg is None:
                raise Refused(f"No path found from node {source} to node {destination}")
            return self._found(query, source, [leg], {})
        found: list[Leg] = []
        best: _Chain = ()
        for chain in chains:
            legs = _legs(search, [source, *(router for router, _ in chain), destination])
            if legs and (not found or legs[-1].spent.cost < found[-1].spent.cost):
                found, best = legs, chain
        if not found:
            raise Refused(_NO_CHAIN)
        return self._found(query, source, found, dict(best))

    def _found(
        self, query: PathQuery, source: str, legs: Sequence[Leg], services: dict[str, IPv6Address]
    ) -> Found101:
        """The service's SID follows at each pass of its router."""
        algorithm = _algorithm(query.intents)
        routers = tuple(node for leg in legs for node in leg.nodes)
        sids: list[IPv6Address] = []
        members = self._members(algorithm)
        for router in filter(members.__contains__, routers):
            sids.append(self.network.sid(router, algorithm))
            sids += [services[router]] if router in services else []
        cost = legs[-1].spent.cost
        if _mode(query.intents) is not Mode.SUM:
            # Regardless of the metric, it stores the lowest available bandwidth.
            links = self._graph_links((source, *routers))
            cost = min(link.available for link in links or ())
        return Found101(tuple(sids), (source, *routers), tuple(services.values()), cost)

    def _chains(self, functions: Sequence[str], members: Collection[str]) -> list[_Chain]:
        """All combinations of instances of the functions."""
        choices = []
        for function in functions:
            instances = self.network.instances(function)
            if not instances:
                raise Refused(f"{_SETUP}No SIDs found for service: {function}")
            choices.append([(router, sid) for router, sid in instances.items() if router in members])
        return list(itertools.product(*choices))

    def _members(self, algorithm: int | None) -> set[str]:
        return set(self.network.graph(algorithm).nodes)

    def _search(self, query: PathQuery, algorithm: int | None) -> Search:
        kinds = _metrics(query.intents)
        if not kinds:
            raise CrashError("sfc with flex-algo leaves no metric")
        members = self._members(algorithm)
        if not members:
            raise CrashError(f"no router has flex-algo {algorithm}")
        graph = self.network.graph()
        weight = self._weight(kinds, graph)
        least = max(
            (i.min_value or 0 for i in query.intents if i.type is IntentType.HIGH_BANDWIDTH), default=0
        )
        most = [
            (_LIMITED[intent.type], intent.max_value)
            for intent in query.intents
            if len(kinds) > 1 and intent.max_value is not None and intent.type in _LIMITED
        ]

        def fits(spent: Spent, link: Metrics) -> bool:
            return link.available >= least and all(of(spent) <= limit for of, limit in most)

        return Search(graph, members, _mode(query.intents), weight, fits)

    def _weight(self, kinds: Sequence[IntentType | None], graph: networkx.Graph) -> Weight:
        if len(kinds) == 1:
            return _single(kinds[0])
        network = [metrics for _, _, metrics in graph.edges(data="metrics")]
        parts: list[tuple[float, Weight]] = []
        for factor, kind in zip(FACTORS.get(len(kinds), FACTORS[1]), kinds, strict=False):
            if kind is IntentType.HIGH_BANDWIDTH:
                parts.append((factor, _available))
            elif kind in _COUNTED:
                parts.append((factor, scaled_weight(*SCALES[kind], network)))
        return lambda link: sum(factor * weight(link) for factor, weight in parts)

    def _worth(self, query: PathQuery, new: Found101, links: Sequence[Metrics]) -> bool:
        """Whether the new path is much cheaper; the same comparison for a bandwidth, where less is worse."""
        kinds = _metrics(query.intents)
        if kinds == [IntentType.LOW_PACKET_LOSS]:
            # HawkEye uses percentages as fractions here.
            old = 100 * (1 - math.prod(1 - link.loss for link in links))
        elif _mode(query.intents) is Mode.SUM:
            old = sum(map(self._weight(kinds, self.network.graph()), links))
        else:
            old = min(map(_single(kinds[0]), links))
        return new.cost < 0.9 * old

    def _links(self, found: Found101) -> list[Metrics] | None:
        return self._graph_links(found.routers)

    def _graph_links(self, routers: Sequence[str]) -> list[Metrics] | None:
        graph = self.network.graph()
        if not all(graph.has_edge(*hop) for hop in pairwise(routers)):
            return None
        return [graph.edges[hop]["metrics"] for hop in pairwise(routers)]

    def _healthy(self, found: Found101) -> bool:
        there = {service.sid for service, healthy in self.network.services.items() if healthy}
        return there.issuperset(found.services)

    def _router(self, address: IPv6Address, which: str) -> str:
        """Compares the text of the address's /64 only, regardless of the prefix length."""
        text = str(IPv6Address(int(address) >> 64 << 64))
        for prefix, router in self.network.prefixes():
            if str(prefix.network_address) == text:
                return router
        raise Refused(f"Router ID not found for {which} IP: {text}")


class Sessions101(Sessions[Found101]):
    """A lost path stays stored: repeated queries get it, and it fails at each recalculation."""

    def recalculate(self) -> Mapping[PathQuery, Outcome]:
        try:
            return super().recalculate()
        except CrashError as error:
            crash(str(error))
            raise

    def _lost(self, query: PathQuery) -> None:
        """Nothing is dropped."""


def _legs(search: Search, stops: Sequence[str]) -> list[Leg]:
    """The path over all stops; empty if one of them can't be reached."""
    legs: list[Leg] = []
    for one, other in pairwise(stops):
        leg = search.leg(one, other, legs[-1].spent if legs else Spent())
        if leg is None:
            return []
        legs.append(leg)
    return legs


def _algorithm(intents: Sequence[Intent]) -> int | None:
    first = intents[1] if intents[0].type is IntentType.SFC and len(intents) > 1 else intents[0]
    return first.flex_algo_number if first.type is IntentType.FLEX_ALGO else None


def _metrics(intents: Sequence[Intent]) -> list[IntentType | None]:
    """The metrics that count; None means the IGP metric, for a single intent without a metric."""
    if len(intents) == 1 and intents[0].type in _STRUCTURE:
        return [None]
    return [intent.type for intent in intents if intent.type not in _STRUCTURE]


def _mode(intents: Sequence[Intent]) -> Mode:
    match _metrics(intents):
        case [IntentType.HIGH_BANDWIDTH]:
            return Mode.WIDEST
        case [IntentType.LOW_BANDWIDTH]:
            return Mode.SMALLEST
    return Mode.SUM


def _available(link: Metrics) -> float:
    return link.available


def _single(kind: IntentType | None) -> Weight:
    if kind is None:
        return lambda link: link.igp
    if kind is IntentType.HIGH_BANDWIDTH:
        return _available
    if kind is IntentType.LOW_BANDWIDTH:
        return lambda link: link.bandwidth
    return SUMS[kind]
