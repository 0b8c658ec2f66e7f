"""What was answered and is still wanted: stored results, and their recalculation after changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from ipaddress import IPv6Address

from fake_hawkeye.paths import Refused, Table
from fake_hawkeye.rules import Computed, Found
from hawkwing.intents import PathQuery


class Sessions:
    """A PathSource: the table's entry, else the stored result, else the calculated one, which is stored."""

    def __init__(self, table: Table, computed: Computed) -> None:
        self._table = table
        self._computed = computed
        self._stored: dict[PathQuery, Found] = {}

    def path(self, query: PathQuery) -> tuple[IPv6Address, ...]:
        if self._table.entry(query) is not None:
            return self._table.path(query)
        if query not in self._stored:
            self._stored[query] = self._computed.best(query)
        return self._stored[query].sids

    def forget(self, query: PathQuery) -> None:
        """Drops the result of a query that no stream waits for any more."""
        self._stored.pop(query, None)

    def recalculate(self) -> set[PathQuery]:
        """Brings the stored results up to date; the queries with news, a lost path among them."""
        news = set()
        for query, old in list(self._stored.items()):
            if self._table.entry(query) is not None:
                continue
            try:
                new = self._computed.better(query, old)
            except Refused:
                del self._stored[query]
                news.add(query)
            else:
                if new is not None:
                    self._stored[query] = new
                    news.add(query)
        return news


class Updates:
    """Recalculates once for all changes that come within `batch` seconds of the first."""

    def __init__(
        self, sessions: Sessions, push: Callable[[Callable[[PathQuery], bool]], int], batch: float
    ) -> None:
        self._sessions = sessions
        self._push = push
        self._batch = batch
        self._timer: asyncio.TimerHandle | None = None

    def changed(self) -> None:
        """Notes that the network has changed."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._batch, self.now)

    def now(self) -> int:
        """Recalculates at once; the number of results pushed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return self._push(self._sessions.recalculate().__contains__)
