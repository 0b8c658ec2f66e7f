"""Connects the parts of the agent; start and stop. One asyncio program, without threads."""

import asyncio
import ctypes
import gc
import logging
import os
import signal
import socket
import time
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hawkwing import __version__, addresses, ending, explain, handover, notify, status
from hawkwing.config import Config, check_config, load_config
from hawkwing.control import ControlServer, socket_path
from hawkwing.dataplane.attacher import Attacher
from hawkwing.dataplane.claim import claimed
from hawkwing.dataplane.interfaces import requiring_hmac
from hawkwing.dataplane.layout import structures
from hawkwing.dataplane.loader import Loading
from hawkwing.dataplane.plane import DataPlane
from hawkwing.dataplane.ringbuf import RingBuffer
from hawkwing.errors import HawkwingError
from hawkwing.next_hops import NextHops
from hawkwing.steering import Steering

if TYPE_CHECKING:
    from hawkwing.controller.stream import ControllerStream
    from hawkwing.resolver import Follower

log = logging.getLogger(__name__)
_EPOCH = 30.0
_EXPIRY_CHECK = 1.0
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class Options:
    """The options of the command line, without the configuration file."""

    role: str
    interfaces: Sequence[str]
    config_file: Path | None
    hook: str = "tc"
    sr_domain: tuple[IPv6Network, ...] = ()
    keep: bool = False
    #: Addresses and port of `--metrics`.
    metrics: tuple[tuple[str, ...], int] | None = None
    #: Of the file that was read last, as lines `FILE:LINE: warning: ...`.
    warnings: list[str] = field(default_factory=list)

    def read(self) -> Config:
        """The configuration file, with the options of the command line; ConfigError where it is wrong."""
        config = Config()
        if self.config_file is not None:
            if self.role == "client":
                config, self.warnings[:] = check_config(self.config_file, os.environ)
            else:
                config = load_config(self.config_file, os.environ, require_services=False)
            if config.hawkeye.tls is not None:
                tls = config.hawkeye.tls.beside(self.config_file.resolve().parent)
                config = config.model_copy(update={"hawkeye": config.hawkeye.model_copy(update={"tls": tls})})
        if self.sr_domain:
            config = config.model_copy(update={"sr_domain": self.sr_domain})
        return config


def _return_memory() -> None:
    """Gives back memory that only the start needed."""
    gc.collect()
    gc.freeze()
    with suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


class Agent:
    """One role on one or more interfaces, from loading the programs to detaching the filters."""

    def __init__(
        self, options: Options, config: Config, loading: Loading, attacher: Attacher | None = None
    ) -> None:
        self._options = options
        self._config = config
        self._loading = loading
        self._attacher = attacher
        self._started = time.time()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stream: ControllerStream | None = None
        self._stream_task: asyncio.Task[None] | None = None
        self._names: Follower | None = None
        self._saver: handover.Saver | None = None
        self._plane: DataPlane
        self._steering: Steering | None = None
        self._hmac: list[str] = []

    def run(self) -> None:
        """Runs until a signal; detaches everything, unless the filters are kept."""
        options = self._options
        if options.role == "client":
            # Before anything is attached: errors in the controller's settings.
            self._source()
            self._credentials_readable(self._config)
        # From here on no other agent of this role and interface may start.
        with claimed(options.role, options.interfaces):
            self._run_alone()
        where = ", ".join(options.interfaces)
        log.info("stopped, filters kept on %s" if options.keep else "stopped, filters removed from %s", where)

    def _run_alone(self) -> None:
        options = self._options
        handover.tidy(options.role, options.interfaces[0])
        inherited = handover.running_maps(options.role, options.interfaces[0])
        loaded = self._loading.result(inherited)
        self._plane = DataPlane(options.role, loaded, self._config.sr_domain or None)
        self._next_hops = NextHops(options.interfaces, self._plane.next_hops)
        self._plane.next_hop_of = self._next_hops.of
        self._refresh_addresses()
        self._refresh_hmac()
        kept = False
        try:
            if options.role == "client":
                self._steering = Steering(self._plane)
                self._saver = handover.Saver(self._steering, options.interfaces[0])
                self._steering.apply(self._config, self._source())
                handover.restore(self._steering, options.interfaces[0])
            ending.check()
            former = handover.noted_programs(options.role, options.interfaces[0])
            with ending.shielded():
                # Interrupted, what the other process attaches meanwhile would stay there; and a loop that is
                # being made can't be ended. `_live` looks whether a signal has come.
                self._plane.attach(options.interfaces, options.hook, self._attacher, former)
                handover.note_programs(options.role, options.interfaces[0], loaded.programs)
                if options.role == "server":
                    notify.store(loaded.maps)
                self._warn()
                log.info("%s", status.trust_sentence(self._plane.sr_domain))
                asyncio.run(self._live())
            kept = options.keep
        finally:
            # The loop has given the signals back; a second one must not keep us from tidying up.
            ending.undisturbed()
            if kept:
                self._plane.leave()
            else:
                handover.discard(options.role, options.interfaces[0])
                self._plane.detach()

    def _source(self) -> IPv6Address | None:
        if not self._config.hawkeye.enabled:
            return None
        return self._config.client_ipv6_address or addresses.source_address(self._options.interfaces[0])

    def _refresh_hmac(self) -> None:
        """The host's policy stands: where the kernel requires an HMAC, SRHs are left to it."""
        names = requiring_hmac(self._options.interfaces)
        if names != self._hmac:
            self._hmac = names
            if names:
                log.warning("%s: seg6_require_hmac is set, SRHs are left to the kernel", ", ".join(names))
        self._plane.set_hmac_links([socket.if_nametoindex(name) for name in names])

    def _refresh_addresses(self) -> None:
        self._plane.set_local_addresses(addresses.all_addresses())

    async def _live(self) -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in _STOP_SIGNALS:
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload_on_signal)
        ending.check()
        with ExitStack() as stack:
            stack.callback(addresses.watch(self._refresh_addresses))
            self._refresh_addresses()
            if self._steering is not None:
                self._follow_answers(self._steering, stack)
                await self._follow_configuration()
                self._spawn(self._expire(self._steering))
            control = ControlServer(
                socket_path(self._options.role, self._options.interfaces[0]),
                {"status": self._status, "reload": self._reload, "explain": self._explain},
            )
            await control.start()
            stack.callback(control.close)
            await self._serve_metrics(stack)
            self._spawn(self._tick())
            learning = self._options.role == "server"
            self._spawn(self._next_hops.run(learning))
            await self._next_hops.settle()
            _return_memory()
            log.info("ready: %s on %s", self._options.role, ", ".join(self._options.interfaces))
            notify.ready(f"{self._options.role} on {', '.join(self._options.interfaces)}")
            self._spawn(notify.watchdog())
            try:
                await stop.wait()
            finally:
                notify.stopping()
                ending.undisturbed()
                await self._end_tasks()

    async def _serve_metrics(self, stack: ExitStack) -> None:
        if self._options.metrics is not None:
            # The client library needs memory: loaded only where metrics are asked for.
            from hawkwing.metrics import MetricsServer

            server = MetricsServer(self._options.metrics, lambda: self._status({}))
            await server.start()
            stack.callback(server.close)

    async def _end_tasks(self) -> None:
        if self._saver is not None:
            self._saver.close()
        if self._names is not None:
            await self._names.close()
        tasks = [*self._tasks, *([self._stream_task] if self._stream_task else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- configuration

    async def _follow_configuration(self) -> None:
        """Follows the names and connects to the controller of the current configuration."""
        await self._follow_names()
        self._start_stream()

    def _start_stream(self) -> None:
        hawkeye = self._config.hawkeye
        if self._stream_task is not None:
            self._stream_task.cancel()
        self._stream = self._stream_task = None
        if not hawkeye.enabled or self._steering is None:
            return
        # gRPC needs memory and time: loaded only where there is a controller.
        from hawkwing.controller import credentials
        from hawkwing.controller.stream import ControllerStream

        assert hawkeye.address is not None and hawkeye.port is not None
        self._stream = ControllerStream(
            hawkeye.address,
            hawkeye.port,
            self._take_path,
            credentials=credentials.read(hawkeye.tls) if hawkeye.tls else None,
        )
        self._steering.query_changes()  # `want` gets all of them
        self._stream.want(self._steering.queries())
        self._stream_task = asyncio.get_running_loop().create_task(self._stream.run())

    def _take_path(self, query: Any, sids: Any) -> None:
        assert self._steering is not None
        self._steering.set_controller_path(query, sids)
        self._save_soon()

    def _want(self) -> None:
        if self._stream is not None and self._steering is not None:
            self._stream.change(*self._steering.query_changes())

    def _learn(self, name: str, found: Sequence[IPv6Address], ttl: float) -> None:
        assert self._steering is not None
        if self._steering.learn(name, found, ttl):
            self._want()
            self._save_soon()

    def _reload_on_signal(self) -> None:
        try:
            log.info("%s", self._reload({}))
        except HawkwingError as error:
            for line in str(error).splitlines():
                log.error("%s", line)
            log.error("configuration not changed")

    def _reload(self, _request: Mapping[str, Any]) -> str:
        """Applies the differences; a wrong file changes nothing."""
        with notify.reloading():
            return self._change()

    def _change(self) -> str:
        config = self._options.read()
        if self._options.role == "client":
            self._credentials_readable(config)
        old, self._config = self._config, config
        try:
            source = self._source()
        except Exception:
            self._config = old
            raise
        self._warn()
        self._plane.set_sr_domain(config.sr_domain or None)
        self._refresh_hmac()
        if self._steering is not None:
            self._steering.apply(config, source)
            self._spawn(self._follow_names())
            if config.hawkeye != old.hawkeye:
                self._start_stream()
            else:
                self._want()
            self._save_soon()
        return "configuration reloaded"

    def _warn(self) -> None:
        """Logs what `hawkwing check` warns of."""
        for line in self._options.warnings:
            log.warning("%s", line.replace(": warning: ", ": ", 1))

    @staticmethod
    def _credentials_readable(config: Config) -> None:
        if config.hawkeye.enabled and config.hawkeye.tls:
            from hawkwing.controller import credentials

            credentials.read(config.hawkeye.tls)

    async def _follow_names(self) -> None:
        steering = self._steering
        assert steering is not None
        if self._names is None and steering.names:
            # The resolver needs memory: loaded only where there are names.
            from hawkwing.resolver import Follower

            self._names = Follower(self._learn)
        if self._names is not None:
            self._names.follow(steering.names)

    # --- events

    def _follow_answers(self, steering: Steering, stack: ExitStack) -> None:
        """Takes over addresses that the data plane read in DNS answers."""
        buffer = RingBuffer(self._plane.maps["learned_names"])
        record_type = structures()["learned_name"]
        loop = asyncio.get_running_loop()

        def drain() -> None:
            for record in buffer.records():
                learned = record_type.from_buffer_copy(record[: ctypes.sizeof(record_type)])
                name = steering.name_of_group(learned.group)
                if name is not None:
                    self._learn(name, [IPv6Address(bytes(learned.address))], float(learned.ttl))

        loop.add_reader(buffer.fd, drain)
        stack.callback(buffer.close)
        stack.callback(loop.remove_reader, buffer.fd)

    async def _expire(self, steering: Steering) -> None:
        while True:
            await asyncio.sleep(_EXPIRY_CHECK)
            names = self._names
            if names is not None and steering.expire(names.resolves):
                self._want()
                self._save_soon()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_EPOCH)
            self._refresh_hmac()
            self._plane.tick()

    def _save_soon(self) -> None:
        if self._saver is not None:
            self._saver.soon()

    # --- answers to the command line

    def _status(self, _request: Mapping[str, Any]) -> dict[str, Any]:
        told: dict[str, Any] = {
            "role": self._options.role,
            "pid": os.getpid(),
            "version": __version__,
            "interfaces": list(self._options.interfaces),
            "started": self._started,
            "ingress_hook": self._options.hook,
            **status.of_data_plane(self._plane),
        }
        if self._stream is not None:
            told["controller"] = {
                "target": self._stream.target,
                "state": self._stream.state,
                "retry_at": self._stream.retry_at,
                "error": self._stream.error,
                "since": self._stream.since,
                "counters": dict(self._stream.counters),
            }
        if self._steering is not None:
            told["bindings"] = status.of_steering(self._plane, self._steering)
            names = self._names
            told["unresolved"] = status.of_names(
                self._steering, names.why_not if names is not None else lambda _name: None
            )
        return told

    def _explain(self, request: Mapping[str, Any]) -> str:
        return explain.sentence(
            self._steering, self._stream, str(request["destination"]), int(request["port"])
        )

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("internal error: %s", task.exception(), exc_info=task.exception())
