"""What a client does besides its filters: names, the controller and the configured paths, kept up to date."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Any

from hawkwing import candidates, explain, handover, status
from hawkwing.addresses import Sources
from hawkwing.dataplane.layout import structures
from hawkwing.dataplane.plane import DataPlane
from hawkwing.dataplane.ringbuf import RingBuffer
from hawkwing.errors import DataplaneError, HawkwingError
from hawkwing.intents import PathQuery
from hawkwing.labels import NO_LABELS, Labels
from hawkwing.measured import LOOK
from hawkwing.plan import Plan
from hawkwing.room import Room
from hawkwing.status_model import ClientPart
from hawkwing.steering import SourceOf, Steering
from hawkwing.tasks import SLICE, Supervisor, collected, in_thread

if TYPE_CHECKING:
    from hawkwing.controller.stream import ControllerStream
    from hawkwing.path_probes import PathProber
    from hawkwing.resolver import Follower

log = logging.getLogger("hawkwing")
_EXPIRY_CHECK = 1.0
_QUERIES_AT_ONCE = 50
_MANY_OBJECTS = 20_000
_SETTLED = 0.2
"""Seconds after a change of addresses or routes, at least: they come in bursts."""


Changes = tuple[list[PathQuery], list[PathQuery]]
"""Queries that have come, and queries that have gone."""


@contextmanager
def without_collecting() -> Iterator[None]:
    """Looking for garbage among very many new objects keeps everybody waiting: they are left out for good.

    What is in use then is left out, too, and stays where it ends up as garbage, as asyncio's connections do.
    So few new objects are looked at as ever, or agents that are reloaded all the time would grow.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if gc.get_count()[0] > _MANY_OBJECTS:
            gc.freeze()
        if collecting:
            gc.enable()


class Client:
    """A client's parts, from a plan to the data plane's maps."""

    def __init__(
        self,
        plane: DataPlane,
        interface: str,
        tasks: Supervisor,
        name_now: Callable[[], str] | None = None,
        reaches: Callable[[IPv6Address], bool] = lambda _segment: True,
    ) -> None:
        """`interface` is what the first one was called at the start, `name_now` tells its name at present.

        `reaches` tells whether there is a route to a segment.
        """
        self.steering = Steering(plane)
        self._reaches = reaches
        self._prober: PathProber | None = None
        self._probing: asyncio.Task[None] | None = None
        self._interval: int | None = None
        self._comparing: asyncio.Task[None] | None = None
        self._plane = plane
        self._interface = interface
        self._tasks = tasks
        self._sources = Sources(name_now or (lambda: interface))
        self._saver = handover.Saver(self.steering, interface, tasks)
        self._plan: Plan | None = None
        self._stream: ControllerStream | None = None
        self._stream_task: asyncio.Task[None] | None = None
        self._names: Follower | None = None
        # One change of everything at a time.
        self._changing = asyncio.Lock()
        self._sources_changed = False
        self._settled = _SETTLED

    # --- start and stop

    def begin(self, plan: Plan) -> None:
        """Fills the data plane, before there is an event loop; with what the agent before has left."""
        self._plan = plan
        self.steering.finish(self.steering.applying(plan.desired, self._source_of(plan)))
        handover.restore(self.steering, self._interface)
        if plan.needs.queries and not self.steering.queries() and self._sources.usual() is None:
            log.warning(
                "%s has no global IPv6 address yet: the controller is asked once it has one; "
                "or set client_ipv6_address in the configuration",
                self._interface,
            )

    async def live(self, stack: ExitStack) -> None:
        """Follows names, answers and the controller until `close`."""
        # When the data plane was filled, it was on no interface yet.
        await self._follow_reachability()
        self._follow_answers(stack)
        self._follow_names()
        self._follow_probes()
        self._follow_measured()
        await self._start_stream()
        self._tasks.keep("expiry of addresses", self._expire)

    def save(self) -> None:
        """Saves what a successor takes over, for the last time."""
        self._saver.close()

    # --- configuration

    def _source_of(self, plan: Plan) -> SourceOf | None:
        if not plan.config.hawkeye.enabled:
            return None
        fixed = plan.config.client_ipv6_address
        return self._sources.of if fixed is None else lambda _destination: fixed

    async def check(self, plan: Plan) -> Plan:
        """The same plan; ConfigError where the running tables have no room for it."""
        tables = {name: table.info.max_entries for name, table in self._plane.maps.items()}
        room = Room(
            addresses=tables["services"],
            names=tables["names"],
            applications=tables["routes"] // 2,
            lists=tables["policies"] - 1,
            selections=tables["selections"] // 2,
        )
        learned, used = self.steering.needs_of_names(plan.desired), self.steering.lists_in_use()
        return await in_thread(lambda: plan.fitting(room, learned, used))

    async def take(self, plan: Plan) -> None:
        """Applies the differences, a few at a time; DataplaneError: the kernel refuses, all is as before."""
        async with self._changing:
            before = self._plan
            assert before is not None
            try:
                await self._in_steps(self.steering.applying(plan.desired, self._source_of(plan)))
            except (OSError, DataplaneError) as error:
                await self._in_steps(self.steering.applying(before.desired, self._source_of(before)))
                reason = error.strerror if isinstance(error, OSError) else error
                raise DataplaneError(f"the data plane's tables refuse the change: {reason}") from None
            self._plan = plan
            self._follow_names()
            self._follow_probes()
            self._follow_measured()
            if plan.config.hawkeye != before.config.hawkeye or plan.pem != before.pem:
                await self._start_stream()
            else:
                await self._want_all()
            self._save_soon()

    async def _in_steps(self, steps: Iterator[None]) -> None:
        while not self.steering.finish(steps, SLICE):  # noqa: ASYNC110
            await asyncio.sleep(0)

    def sources_changed(self) -> None:
        """Addresses or routes of this host may have changed: looks soon which sources requests have now."""
        plan = self._plan
        if self._prober is not None:
            self._prober.look_again()
        if self._sources_changed or plan is None:
            return
        if plan.needs.selections or self._asks_by_route(plan):
            self._sources_changed = True
            self._tasks.once("source addresses", self._follow_sources())

    def _asks_by_route(self, plan: Plan) -> bool:
        """Does the source address in requests depend on routes?"""
        config = plan.config
        return config.client_ipv6_address is None and bool(plan.needs.queries or config.hawkeye.enabled)

    async def _follow_sources(self) -> None:
        await asyncio.sleep(self._settled)
        self._sources_changed = False
        async with self._changing:
            begun = time.monotonic()
            await self._follow_reachability()
            if self._plan is None or not self._asks_by_route(self._plan):
                return
            await self._in_steps(self.steering.following_sources())
            # Where routes change all the time, others have half of it.
            self._settled = max(_SETTLED, time.monotonic() - begun)
            if sources := await self._want_all():
                log.info("the controller is asked for paths from %s", ", ".join(map(str, sorted(sources))))

    async def _follow_reachability(self) -> None:
        """Takes paths to whose first SID there is a route now, and leaves those without."""
        if self._plan is not None and self._plan.needs.selections:
            known = cache(self._reaches)
            self.steering.reachable = lambda sids: known(sids[0])
            await self._in_steps(self.steering.following_reachability())

    def _follow_probes(self) -> None:
        """Probes are sent while the configuration asks for them."""
        interval = self._plan.desired.probes if self._plan is not None else None
        if interval == self._interval:
            return
        self._interval = interval
        if self._probing is not None:
            self._probing.cancel()
            self._probing = None
        if interval is not None:
            from hawkwing.path_probes import PathProber

            self._prober = prober = PathProber(self._plane, self.steering, self._sources.of)
            self._probing = self._tasks.keep("probes along paths", lambda: prober.run(interval))

    def _follow_measured(self) -> None:
        """Paths are compared while there are applications with several, and intents that can be measured."""
        wanted = self._plan is not None and bool(self._plan.desired.choices)
        if wanted and self._comparing is None:
            self._comparing = self._tasks.keep("choice of paths by measurement", self._compare)
        elif not wanted and self._comparing is not None:
            self._comparing.cancel()
            self._comparing = None

    async def _compare(self) -> None:
        while True:
            await asyncio.sleep(max(LOOK, (self._interval or 0) / 1000))
            sent = self._prober.sent if self._prober is not None else {}
            silent = self._stream is None or self._stream.state != "connected"
            if self.steering.look_at_paths(sent, silent):
                async with self._changing:
                    await self._in_steps(self.steering.following_reachability())
                    self._save_soon()

    def _follow_names(self) -> None:
        if self._names is None and self.steering.names:
            # The resolver needs memory: loaded only where there are names.
            from hawkwing.resolver import Follower

            self._names = Follower(self._learn, self._tasks)
        if self._names is not None:
            self._names.follow(self.steering.names)

    # --- the controller

    async def _start_stream(self) -> None:
        assert self._plan is not None
        hawkeye = self._plan.config.hawkeye
        if self._stream_task is not None:
            self._stream_task.cancel()
        self._stream = self._stream_task = None
        if not hawkeye.enabled:
            return
        # gRPC needs memory and time: loaded only where there is a controller.
        from hawkwing.controller.credentials import Renewed
        from hawkwing.controller.stream import ControllerStream

        assert hawkeye.address is not None and hawkeye.port is not None
        credentials = None
        if hawkeye.tls is not None and self._plan.pem is not None:
            credentials = Renewed(hawkeye.tls, self._plan.pem)
        self._stream = stream = ControllerStream(
            hawkeye.address,
            hawkeye.port,
            self._take_path,
            name=self.steering.name_of_query,
            credentials=credentials,
        )
        self.steering.query_changes()  # the new stream gets all of them
        self._stream_task = self._tasks.keep("stream to the controller", stream.run)
        queries = self.steering.queries()
        for first in range(0, len(queries), _QUERIES_AT_ONCE):
            if first:
                await asyncio.sleep(0)
            listed = queries[first : first + _QUERIES_AT_ONCE]
            stream.change([query for query in listed if self.steering.asks(query)], [])

    def _take_path(self, query: Any, sids: Any) -> None:
        self.steering.set_controller_path(query, sids)
        self._save_soon()

    def _want(self, most: int | None = None) -> Changes:
        """Tells the stream which queries have come and gone."""
        wanted, dropped = self.steering.query_changes(most)
        if self._stream is not None:
            self._stream.change(wanted, dropped)
        return wanted, dropped

    async def _want_all(self) -> set[IPv6Address]:
        """As `_want`, a few at a time; the sources of the new ones."""
        sources: set[IPv6Address] = set()
        while any(changes := self._want(_QUERIES_AT_ONCE)):
            sources.update(query.source for query in changes[0])
            await asyncio.sleep(0)
        return sources

    # --- events

    def _learn(self, name: str, found: Sequence[IPv6Address], ttl: float) -> None:
        if self.steering.learn(name, found, ttl):
            self._want()
            self._save_soon()

    def _follow_answers(self, stack: ExitStack) -> None:
        """Takes over addresses that the data plane read in DNS answers."""
        buffer = RingBuffer(self._plane.maps["learned_names"])
        record_type = structures()["learned_name"]
        loop = asyncio.get_running_loop()

        def drain() -> None:
            for record in buffer.records():
                learned = record_type.from_buffer_copy(record[: ctypes.sizeof(record_type)])
                name = self.steering.name_of_group(learned.group)
                if name is not None:
                    self._learn(name, [IPv6Address(bytes(learned.address))], float(learned.ttl))

        loop.add_reader(buffer.fd, drain)
        stack.callback(buffer.close)
        stack.callback(loop.remove_reader, buffer.fd)

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(_EXPIRY_CHECK)
            if self._names is not None and self.steering.expire(self._names.resolves):
                self._want()
                self._save_soon()

    def _save_soon(self) -> None:
        self._saver.soon()

    # --- answers to the command line

    async def status(self) -> ClientPart:
        """Controller, bindings and unresolved names."""
        names = self._names
        why_not: Callable[[str], str | None] = names.why_not if names is not None else lambda _name: None
        told = ClientPart(
            bindings=await collected(status.of_steering(self._plane, self.steering, self._labels)),
            unresolved=status.of_names(self.steering, why_not),
        )
        if self._stream is not None:
            told["controller"] = status.of_controller(self._stream, self.steering)
        return told

    def explain(self, request: Mapping[str, Any]) -> str:
        """Which path a packet takes."""
        destination, port = _target(request)
        if port is None:
            raise HawkwingError("a destination and a port are needed")
        return explain.sentence(self.steering, self._stream, destination, port, self._labels)

    def paths(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """All paths of a destination."""
        destination, port = _target(request)
        return candidates.of_destination(
            self._plane, self.steering, self._stream, destination, port, self._labels
        )

    @property
    def _labels(self) -> Labels:
        return self._plan.labels if self._plan is not None else NO_LABELS


def _target(request: Mapping[str, Any]) -> tuple[str, int | None]:
    destination, port = request.get("destination"), request.get("port")
    known = port is None or (type(port) is int and 0 <= port <= 65535)
    if not isinstance(destination, str) or not known:
        raise HawkwingError("a destination and a port are needed")
    return destination, port
