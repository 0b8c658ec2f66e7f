"""The client's part of an agent: follows DNS names, the controller and probes, and updates the paths."""

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
from hawkwing.desired import Desired
from hawkwing.errors import DataplaneError, HawkwingError
from hawkwing.intents import PathQuery
from hawkwing.labels import NO_LABELS, Labels
from hawkwing.measured import LOOK
from hawkwing.plan import Plan
from hawkwing.room import Room
from hawkwing.sids import SidList
from hawkwing.status_model import ClientPart
from hawkwing.steering import SourceOf, Steering
from hawkwing.tasks import SLICE, Supervisor, collected, in_thread

if TYPE_CHECKING:
    from hawkwing.controller.stream import ControllerStream
    from hawkwing.next_hops import NextHops
    from hawkwing.path_probes import PathProber
    from hawkwing.resolver import Follower

log = logging.getLogger("hawkwing")
_EXPIRY_CHECK = 1.0
_QUERIES_AT_ONCE = 50
_MANY_OBJECTS = 20_000
_SETTLED = 0.2
"""Minimum seconds after a change of addresses or routes: they come in bursts."""


Changes = tuple[list[PathQuery], list[PathQuery]]
"""Added queries, and removed queries."""


@contextmanager
def without_collecting() -> Iterator[None]:
    """Disables the garbage collector inside; afterwards collections skip the new objects, if they are many.

    A collection of very many objects would block all tasks. `gc.freeze` also skips all other objects in use,
    such as asyncio's connections, which are never freed if they become garbage in a cycle. So nothing is
    frozen after few new objects: otherwise an agent with frequent reloads would grow.
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
    """The parts of a client, between the plan and the data plane's maps."""

    def __init__(
        self,
        plane: DataPlane,
        interface: str,
        tasks: Supervisor,
        name_now: Callable[[], str] | None = None,
        next_hops: NextHops | None = None,
    ) -> None:
        """`interface` is the first interface's name at the start, `name_now` returns its current name."""
        self.steering = Steering(plane)
        self._next_hops = next_hops
        self._prober: PathProber | None = None
        self._probing: asyncio.Task[None] | None = None
        self._interval: int | None = None
        self._stamp_port: int | None = None
        self._comparing: asyncio.Task[None] | None = None
        self._plane = plane
        self._interface = interface
        self._tasks = tasks
        self._sources = Sources(name_now or (lambda: interface))
        plane.outer_source = self._sources.of
        self._saver = handover.Saver(self.steering, interface, tasks)
        self._plan: Plan | None = None
        self._stream: ControllerStream | None = None
        self._stream_task: asyncio.Task[None] | None = None
        self._names: Follower | None = None
        # Only one change of the whole configuration at a time.
        self._changing = asyncio.Lock()
        self._sources_changed = False
        self._settled = _SETTLED

    # --- start and stop

    def begin(self, plan: Plan) -> None:
        """Fills the data plane before the event loop starts, also with the state of the previous agent."""
        self._plan = plan
        self._plane.set_ipv4_services(plan.desired.has_ipv4)
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
        # `begin` ran before the programs were attached: routes were unknown.
        await self._follow_reachability()
        self._follow_answers(stack)
        self._follow_names()
        self._follow_probes()
        self._follow_measured()
        await self._start_stream()
        self._tasks.keep("expiry of addresses", self._expire)

    def save(self) -> None:
        """Saves the state for the next agent, for the last time."""
        self._saver.close()

    # --- configuration

    def _source_of(self, plan: Plan) -> SourceOf | None:
        if not plan.config.hawkeye.enabled:
            return None
        fixed = plan.config.client_ipv6_address
        return self._sources.of if fixed is None else lambda _destination: fixed

    async def check(self, plan: Plan) -> Plan:
        """The same plan; ConfigError if it does not fit into the running tables."""
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
        """Applies the differences in steps; if the kernel refuses one, restores all, and DataplaneError."""
        async with self._changing:
            before = self._plan
            assert before is not None
            try:
                await self._in_steps(self.steering.applying(plan.desired, self._source_of(plan)))
            except (OSError, DataplaneError) as error:
                self._plane.set_hmac(before.hmac)
                await self._in_steps(self.steering.applying(before.desired, self._source_of(before)))
                reason = error.strerror if isinstance(error, OSError) else error
                raise DataplaneError(f"the data plane's tables refuse the change: {reason}") from None
            self._plan = plan
            self._plane.set_ipv4_services(plan.desired.has_ipv4)
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
        """Handles changes of addresses or routes: soon checks the source addresses of requests again."""
        plan = self._plan
        if self._prober is not None:
            self._prober.look_again()
        if self._sources_changed or plan is None:
            return
        if plan.needs.selections or self.steering.encapsulates or self._asks_by_route(plan):
            self._sources_changed = True
            self._tasks.once("source addresses", self._follow_sources())

    def _asks_by_route(self, plan: Plan) -> bool:
        """Whether the source address in requests depends on routes."""
        config = plan.config
        return config.client_ipv6_address is None and bool(plan.needs.queries or config.hawkeye.enabled)

    async def _follow_sources(self) -> None:
        await asyncio.sleep(self._settled)
        self._sources_changed = False
        async with self._changing:
            begun = time.monotonic()
            await self._follow_reachability()
            await self._in_steps(self.steering.following_outer_sources())
            if self._plan is None or not self._asks_by_route(self._plan):
                return
            await self._in_steps(self.steering.following_sources())
            # If routes change all the time, other tasks get half of it.
            self._settled = max(_SETTLED, time.monotonic() - begun)
            if sources := await self._want_all():
                log.info("the controller is asked for paths from %s", ", ".join(map(str, sorted(sources))))

    async def _follow_reachability(self) -> None:
        """Uses the paths that have a route to their first SID now."""
        if self._plan is not None and self._plan.needs.selections:
            if self._next_hops is not None:
                known = cache(self._next_hops.reaches)
                self.steering.reachable = lambda sids: known(sids[0])
            await self._in_steps(self.steering.following_reachability())

    def _follow_probes(self) -> None:
        """Starts or stops probes, as configured."""
        desired = self._plan.desired if self._plan is not None else Desired()
        interval, port = desired.probes, desired.stamp_port
        if (interval, port) == (self._interval, self._stamp_port):
            return
        self._interval, self._stamp_port = interval, port
        former, self._probing = self._probing, None
        if former is not None:
            former.cancel()
        if interval is not None:
            from hawkwing.path_probes import PathProber

            self._prober = prober = PathProber(
                self._plane, self.steering, self._sources.of, port, self._next_hops
            )
            self.steering.why_not_probed = prober.why_not
            self._probing = self._tasks.keep("probes along paths", lambda: prober.run(interval, former))

    def _follow_measured(self) -> None:
        """Starts or stops the comparison of paths: it needs several paths and a measurable intent."""
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
            # The resolver needs memory: imported only if there are names.
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
        # gRPC needs memory and time: imported only if there is a controller.
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
            refusal=self.steering.refusal,
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
        """Passes added and removed queries to the stream."""
        wanted, dropped = self.steering.query_changes(most)
        if self._stream is not None:
            self._stream.change(wanted, dropped)
        return wanted, dropped

    async def _want_all(self) -> set[IPv6Address]:
        """Like `_want`, a few at a time; returns the source addresses of the new queries."""
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
        return explain.sentence(
            self.steering, self._stream, destination, port, self._labels, self._way_back_state
        )

    def _way_back_state(self, path: SidList) -> str:
        slot = self.steering.slot_of_path(path)
        sent = self._plane.path_count(slot).packets if slot else 0
        return self._plane.way_back_use(slot).state(sent)

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
