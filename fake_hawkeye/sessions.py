"""Stored results of active queries, and their recalculation after changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from ipaddress import IPv6Address
from typing import Generic, Protocol, TypeVar

from fake_hawkeye.paths import Outcome, PathSource, Refused, Table
from hawkwing.intents import PathQuery


class HasSids(Protocol):
    """A calculated path."""

    @property
    def sids(self) -> tuple[IPv6Address, ...]: ...


FoundT = TypeVar("FoundT", bound=HasSids)


class Calculation(Protocol[FoundT]):
    """Finds paths, and decides when to push a new one."""

    def best(self, query: PathQuery) -> FoundT:
        """The best path; Refused if there is none."""
        ...

    def better(self, query: PathQuery, old: FoundT) -> FoundT | None:
        """The path to push instead of `old`, None if that is still good enough; Refused if there is none."""
        ...


class Recalculated(PathSource, Protocol):
    """A PathSource that reports changes."""

    def recalculate(self) -> Mapping[PathQuery, Outcome]:
        """Updates the stored results; returns the queries with changes, including lost paths."""
        ...


class Sessions(Generic[FoundT]):
    """A PathSource: the table's entry, or the stored result, or a calculated one, which is then stored."""

    def __init__(self, table: Table, computed: Calculation[FoundT]) -> None:
        self._table = table
        self._computed = computed
        self._stored: dict[PathQuery, FoundT] = {}

    def path(self, query: PathQuery) -> tuple[IPv6Address, ...]:
        if self._table.entry(query) is not None:
            return self._table.path(query)
        if query not in self._stored:
            self._stored[query] = self._computed.best(query)
        return self._stored[query].sids

    def forget(self, query: PathQuery) -> None:
        """Drops the result of a query for which no stream waits any longer."""
        self._stored.pop(query, None)

    def recalculate(self) -> Mapping[PathQuery, Outcome]:
        news: dict[PathQuery, Outcome] = {}
        for query, old in list(self._stored.items()):
            if self._table.entry(query) is not None:
                continue
            try:
                new = self._computed.better(query, old)
            except Refused as error:
                self._lost(query)
                news[query] = error
            else:
                if new is not None:
                    self._stored[query] = new
                    news[query] = new.sids
        return news

    def _lost(self, query: PathQuery) -> None:
        """There is no longer a path."""
        del self._stored[query]


class Updates:
    """Recalculates once for all changes within `batch` seconds after the first."""

    def __init__(
        self, sessions: Recalculated, tell: Callable[[Mapping[PathQuery, Outcome]], int], batch: float
    ) -> None:
        self._sessions = sessions
        self._tell = tell
        self._batch = batch
        self._timer: asyncio.TimerHandle | None = None

    def changed(self) -> None:
        """Reports a change of the network."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._batch, self.now)

    def now(self) -> int:
        """Recalculates at once; returns the number of pushed results."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return self._tell(self._sessions.recalculate())
