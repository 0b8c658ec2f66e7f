"""The paths that a client requests from the controller, and their answers, by query. No I/O."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv6Address

from hawkwing.config_models import Application
from hawkwing.intents import PathQuery
from hawkwing.selections import Candidate, Shares
from hawkwing.sids import SidList
from hawkwing.status_model import Origin

FORMER_ANSWERS = 300.0
"""Seconds for which a path of the controller is kept after the last application that uses it is removed."""


@dataclass(slots=True, eq=False)
class Binding:
    """One application at one address of its service, and its path."""

    service: str
    application: Application
    address: IPv6Address
    query: PathQuery | None = None
    #: For the way back, from the destination to this host.
    back_query: PathQuery | None = None
    controller_path: SidList = ()
    since: float = field(default_factory=time.time)
    #: The configured paths that are active without a path from the controller.
    configured: tuple[Candidate, ...] = ()
    #: The controller is not connected, and its path breaks a limit: the configured ones are used instead.
    left: bool = False

    @property
    def _has_controllers(self) -> bool:
        return bool(self.controller_path) and not (self.left and self.configured)

    @property
    def shares(self) -> Shares:
        """The lists in use with their weights: the controller's path, or the configured ones."""
        if self._has_controllers:
            return ((self.controller_path, 1),)
        return tuple((one.sids, one.weight) for one in self.configured)

    @property
    def standby(self) -> tuple[SidList, ...]:
        """The other paths, the preferred ones first: used if those in use are dead."""
        used = {sids for sids, _weight in self.shares}
        ordered = sorted(self.application.candidates, key=lambda one: -one.preference)
        others = [one.sids for one in ordered if one.sids not in used]
        if self.controller_path and self.controller_path not in (*used, *others):
            others.append(self.controller_path)
        return tuple(others)

    @property
    def path(self) -> SidList:
        """The SIDs in use, in travel order, of the first path of several; empty if there is no path."""
        if self._has_controllers:
            return self.controller_path
        return self.configured[0].sids if self.configured else ()

    @property
    def origin(self) -> Origin:
        """Source of the path: controller, backup or none."""
        if self._has_controllers:
            return "controller"
        return "backup" if self.configured else "none"


@dataclass(slots=True)
class _Asked:
    """A query: the bindings that need its path, and the path, if there was an answer."""

    bindings: list[Binding] = field(default_factory=list)
    path: SidList = ()


def _queries(binding: Binding) -> Iterator[PathQuery]:
    """The queries of a binding, there and back; with a destination on this host they can be the same one."""
    return (query for query in dict.fromkeys((binding.query, binding.back_query)) if query is not None)


class Queries:
    """The queries of all bindings; `changes` returns added and removed queries once."""

    def __init__(
        self,
        now: Callable[[], float],
        sent: Callable[[Application, SidList, SidList], SidList] = Application.as_sent,
    ) -> None:
        """`sent` returns a path, with its way back, as packets of an application get it; empty if none."""
        self._now = now
        self._sent = sent
        self._asked: dict[PathQuery, _Asked] = {}
        self._changes: dict[PathQuery, bool] = {}
        #: Paths of removed queries, with their expiry; the oldest first.
        self.former: dict[PathQuery, tuple[float, SidList]] = {}

    def __contains__(self, query: PathQuery) -> bool:
        return query in self._asked

    def __iter__(self) -> Iterator[PathQuery]:
        return iter(self._asked)

    def add(self, binding: Binding) -> None:
        """Requests its paths; recently answered queries have them at once."""
        for query in _queries(binding):
            asked = self._asked.get(query)
            if asked is None:
                asked = self._asked[query] = _Asked()
                self._note(query, asked=True)
                end, path = self.former.pop(query, (0.0, ()))
                if end > self._now():
                    asked.path = path
            asked.bindings.append(binding)
        binding.controller_path = self.path_for(binding)

    def remove(self, binding: Binding) -> None:
        """Stops the requests, unless other bindings need the same paths."""
        for query in _queries(binding):
            asked = self._asked[query]
            asked.bindings = [other for other in asked.bindings if other is not binding]
            if asked.bindings:
                continue
            del self._asked[query]
            self._note(query, asked=False)
            self.forget_former()
            if asked.path:
                self.former[query] = self._now() + FORMER_ANSWERS, asked.path

    def path_for(self, binding: Binding) -> SidList:
        """The controller's path of a binding, as its packets get it; empty if there is none."""
        path = self._path(binding.query)
        return self._sent(binding.application, path, self._path(binding.back_query)) if path else ()

    def _path(self, query: PathQuery | None) -> SidList:
        asked = self._asked.get(query) if query is not None else None
        return asked.path if asked is not None else ()

    def answer(self, query: PathQuery, path: SidList) -> list[Binding]:
        """Stores a path that a binding can use; returns the bindings that have another one."""
        asked = self._asked.get(query)
        if asked is None:
            return []
        if any(query == one.back_query or self._sent(one.application, path, ()) for one in asked.bindings):
            asked.path = path
        found = ((one, self.path_for(one)) for one in asked.bindings)
        return [one for one, sent in found if sent and one.controller_path != sent]

    def bindings(self, query: PathQuery) -> list[Binding]:
        """The bindings that need the path for this query."""
        asked = self._asked.get(query)
        return list(asked.bindings) if asked is not None else []

    def answers(self) -> Iterator[tuple[PathQuery, SidList]]:
        """The last valid paths; changes while it runs are not included."""
        for query, asked in list(self._asked.items()):
            if asked.path:
                yield query, asked.path

    def changes(self, most: int | None = None) -> tuple[list[PathQuery], list[PathQuery]]:
        """Queries that were added since the last call, and queries that were removed; `most` at once."""
        changes = self._changes
        if most is not None and len(changes) > most:
            changes = {query: changes[query] for query in itertools.islice(changes, most)}
            for query in changes:
                del self._changes[query]
        else:
            self._changes = {}
        return [q for q, asked in changes.items() if asked], [q for q, asked in changes.items() if not asked]

    def name(self, query: PathQuery) -> str:
        """The query in an operator's terms: service, port, address, intents with their values."""
        intents = ", ".join(map(str, query.intents))
        asking = self.bindings(query)
        if not asking:
            return str(query)
        more = f" and {len(asking) - 1} more" if len(asking) > 1 else ""
        port = asking[0].application.port
        if self.is_way_back(query):
            return f"way back of {asking[0].service} port {port} from {query.source}{more} ({intents})"
        return f"{asking[0].service} port {port} at {query.destination}{more} ({intents})"

    def is_way_back(self, query: PathQuery) -> bool:
        """Whether all that need the path need it for their way back."""
        asking = self.bindings(query)
        return bool(asking) and not any(query == one.query for one in asking)

    def forget_former(self) -> None:
        """Removes expired paths."""
        while self.former:
            query, (end, _) = next(iter(self.former.items()))
            if end > self._now():
                return
            del self.former[query]

    def _note(self, query: PathQuery, asked: bool) -> None:
        # A query that was added and removed between two calls, or the reverse, is no change.
        if self._changes.pop(query, asked) is asked:
            self._changes[query] = asked
