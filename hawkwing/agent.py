"""Wires the parts together; owns start and stop. One asyncio program, no thread, no packet."""

import asyncio
import ctypes
import logging
import os
import signal
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import ExitStack
from ipaddress import IPv6Address
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from hawkwing import __version__, addresses, status
from hawkwing.config import Config
from hawkwing.control import ControlServer, socket_path
from hawkwing.dataplane.layout import structures
from hawkwing.dataplane.loader import Loading
from hawkwing.dataplane.plane import DataPlane
from hawkwing.dataplane.ringbuf import RingBuffer
from hawkwing.steering import Steering

if TYPE_CHECKING:
    from hawkwing.controller.stream import ControllerStream

log = logging.getLogger(__name__)
_EPOCH = 30.0
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _exit(number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def _nobody_asks() -> None:
    """Without a controller there is nobody to tell of new addresses."""


def _refresh_addresses(plane: DataPlane) -> None:
    plane.set_local_addresses(entry.address for entry in addresses.host_addresses())


async def _tick(plane: DataPlane) -> None:
    while True:
        await asyncio.sleep(_EPOCH)
        plane.tick()


class Agent:
    """One role on some interfaces, from loaded programs to the last detached filter."""

    def __init__(
        self, role: str, interfaces: Sequence[str], config: Config, loading: Loading, hook: str = "tc"
    ) -> None:
        self._role = role
        self._interfaces = interfaces
        self._config = config
        self._loading = loading
        self._hook = hook
        self._tasks: set[asyncio.Task[None]] = set()
        self._stream: ControllerStream | None = None
        self._started = time.time()

    def run(self) -> None:
        """Until a signal comes; everything is detached whatever happens."""
        for number in _STOP_SIGNALS:
            signal.signal(number, _exit)
        plane = DataPlane(self._role, self._loading.result(), self._config.sr_domain)
        steering = self._fill(plane)
        try:
            plane.attach(self._interfaces, self._hook)
            if not self._config.sr_domain:
                log.warning("no SR domain is set: segment lists of any sender are believed")
            asyncio.run(self._live(plane, steering))
        finally:
            plane.detach()
        log.info("stopped: nothing is left on %s", ", ".join(self._interfaces))

    def _fill(self, plane: DataPlane) -> Steering | None:
        """Everything that is known before the first packet is seen."""
        _refresh_addresses(plane)
        if self._role == "server":
            return None
        config = self._config
        source = None
        if config.hawkeye.enabled:
            source = config.client_ipv6_address or addresses.source_address(self._interfaces[0])
        steering = Steering(plane, config, source)
        steering.start()
        return steering

    def _status(self, plane: DataPlane, steering: Steering | None) -> dict[str, Any]:
        told: dict[str, Any] = {
            "role": self._role,
            "pid": os.getpid(),
            "version": __version__,
            "interfaces": list(self._interfaces),
            "started": self._started,
            "ingress_hook": self._hook,
            **status.of_data_plane(plane),
        }
        if self._stream is not None:
            told["controller"] = {
                "target": self._stream.target,
                "state": self._stream.state,
                "since": self._stream.since,
                "counters": dict(self._stream.counters),
            }
        if steering is not None:
            told["bindings"] = status.of_steering(plane, steering)
        return told

    async def _live(self, plane: DataPlane, steering: Steering | None) -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in _STOP_SIGNALS:
            loop.add_signal_handler(number, stop.set)
        with ExitStack() as stack:
            stack.callback(addresses.watch(lambda: _refresh_addresses(plane)))
            _refresh_addresses(plane)
            if steering is not None:
                self._start_client(plane, steering, stack)
            control = ControlServer(
                socket_path(self._role, self._interfaces[0]),
                {"status": lambda _request: self._status(plane, steering)},
            )
            await control.start()
            stack.callback(control.close)
            self._spawn(_tick(plane))
            log.info("ready: %s on %s", self._role, ", ".join(self._interfaces))
            try:
                await stop.wait()
            finally:
                for task in self._tasks:
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start_client(self, plane: DataPlane, steering: Steering, stack: ExitStack) -> None:
        want = self._start_controller(steering) if self._config.hawkeye.enabled else _nobody_asks
        self._follow_answers(plane, steering, want, stack)
        if steering.names:
            from hawkwing import resolver

            def found(name: str, address: IPv6Address) -> None:
                if steering.add_address(name, address):
                    want()

            for name in steering.names:
                self._spawn(resolver.follow(name, found))

    def _start_controller(self, steering: Steering) -> Callable[[], None]:
        # gRPC costs memory and time: only who has a controller pays for it.
        from hawkwing.controller.stream import ControllerStream

        hawkeye = self._config.hawkeye
        assert hawkeye.address is not None and hawkeye.port is not None
        stream = ControllerStream(hawkeye.address, hawkeye.port, steering.set_controller_path)
        self._stream = stream

        def want() -> None:
            stream.want(steering.queries())

        want()
        self._spawn(stream.run())
        return want

    def _follow_answers(
        self, plane: DataPlane, steering: Steering, want: Callable[[], None], stack: ExitStack
    ) -> None:
        """Addresses that the kernel read in DNS answers."""
        buffer = RingBuffer(plane.maps["learned_names"])
        record_type = structures()["learned_name"]
        loop = asyncio.get_running_loop()

        def drain() -> None:
            news = False
            for record in buffer.records():
                learned = record_type.from_buffer_copy(record[: ctypes.sizeof(record_type)])
                name = steering.name_of_group(learned.group)
                if name is not None:
                    news |= steering.add_address(name, IPv6Address(bytes(learned.address)))
            if news:
                want()

        loop.add_reader(buffer.fd, drain)
        stack.callback(buffer.close)
        stack.callback(loop.remove_reader, buffer.fd)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a part of the agent failed: %s", task.exception(), exc_info=task.exception())
