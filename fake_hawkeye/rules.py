"""HawkEye's rules: the path for a query over the current network, and when to push a new one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv6Address
from itertools import pairwise

import networkx

from fake_hawkeye.graph import Network
from fake_hawkeye.objectives import Objective, limits, objective, only_links
from fake_hawkeye.paths import Refused
from fake_hawkeye.search import Way, links_of, within
from fake_hawkeye.validation import refusal_of_query
from hawkwing.intents import Intent, IntentType, PathQuery

#: A new path must cost less than this share of the old one's cost.
WORTH_A_CHANGE = 0.9


@dataclass(frozen=True)
class Found:
    """A path; `way` and `services` (SIDs of its services in order) are needed to check it later."""

    sids: tuple[IPv6Address, ...]
    way: Way
    services: tuple[IPv6Address, ...]


class Computed:
    """A PathSource that calculates paths; it has no state."""

    def __init__(self, network: Network) -> None:
        self.network = network

    def path(self, query: PathQuery) -> tuple[IPv6Address, ...]:
        return self.best(query).sids

    def forget(self, query: PathQuery) -> None:
        """Nothing to do: it has no state."""

    def best(self, query: PathQuery) -> Found:
        """The best path; Refused if the query is invalid or there is none."""
        text = refusal_of_query(query)
        if text is not None:
            raise Refused(text)
        source = self._router(query.source, "Source")
        destination = self._router(query.destination, "Destination")
        functions = _functions(query)
        instances = [self.network.instances(function) for function in functions]
        for function, found in zip(functions, instances, strict=True):
            if not found:
                raise Refused(f"No SIDs found for service: {function}")
        way = self._objective(query).best(
            self._graph(query), source, destination, instances, limits(query.intents)
        )
        if way is None:
            raise Refused(f"No path found from node {source} to node {destination}")
        return self._found(query, way)

    def better(self, query: PathQuery, old: Found) -> Found | None:
        """The path to push instead of `old`, None if that is still good enough; Refused if there is none."""
        new = self.best(query)
        if new.sids == old.sids:
            return None
        if not self._holds(query, old) or self.cost(query, new) < WORTH_A_CHANGE * self.cost(query, old):
            return new
        return None

    def cost(self, query: PathQuery, found: Found) -> float:
        """The current cost of a path, in the units of the query's intents; ValueError for a broken one."""
        links = links_of(self._graph(query), found.way)
        if links is None:
            raise ValueError("the path is broken")
        return self._objective(query).cost(links)

    def _router(self, address: IPv6Address, which: str) -> str:
        router = self.network.router_of(address)
        if router is None:
            raise Refused(f"Router ID not found for {which} IP: {IPv6Address(int(address) >> 64 << 64)}")
        return router

    def _graph(self, query: PathQuery) -> networkx.Graph:
        """The graph for the query's paths."""
        graph = self.network.graph(_algorithm(query))
        least = max((intent.min_value or 0 for intent in query.intents), default=0)
        return only_links(graph, lambda link: link.available >= least) if least else graph

    def _objective(self, query: PathQuery) -> Objective:
        everything = self.network.graph().edges(data="metrics")
        return objective(query.intents, [metrics for _, _, metrics in everything])

    def _holds(self, query: PathQuery, old: Found) -> bool:
        """Whether its links are up and within the query's values, and its services healthy."""
        links = links_of(self._graph(query), old.way)
        return (
            links is not None
            and within(links, limits(query.intents))
            and all(
                sid in self.network.instances(function).values()
                for function, sid in zip(_functions(query), old.services, strict=True)
            )
        )

    def _found(self, query: PathQuery, way: Way) -> Found:
        instances = [self.network.instances(function) for function in _functions(query)]
        services = tuple(
            instances[stage][here] for (here, stage), (_, later) in pairwise(way) if later > stage
        )
        return Found(tuple(self._sids(way, services, _algorithm(query))), way, services)

    def _sids(
        self, way: Way, services: tuple[IPv6Address, ...], algorithm: int | None
    ) -> Iterator[IPv6Address]:
        """One SID for each router after the source's, and each service's SID after that of its router."""
        at_source = True
        for (here, stage), (following, later) in pairwise(way):
            if later > stage:
                if at_source:
                    yield self.network.sid(here, algorithm)
                yield services[stage]
            else:
                yield self.network.sid(following, algorithm)
            at_source = False


def _functions(query: PathQuery) -> tuple[str, ...]:
    return next((intent.functions for intent in query.intents if intent.type is IntentType.SFC), ())


def _algorithm(query: PathQuery) -> int | None:
    numbers: Iterator[Intent] = (i for i in query.intents if i.type is IntentType.FLEX_ALGO)
    return next((intent.flex_algo_number for intent in numbers), None)
