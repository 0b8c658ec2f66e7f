"""Connects the parts of the agent; start and stop. One asyncio program, without threads."""

import asyncio
import ctypes
import gc
import logging
import os
import signal
import time
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hawkwing import __version__, addresses, ending, explain, handover, status
from hawkwing.config import Config, check_config, load_config
from hawkwing.control import ControlServer, socket_path
from hawkwing.dataplane.claim import Claims, claimed
from hawkwing.dataplane.interfaces import Asked, requiring_hmac
from hawkwing.dataplane.keeper import Keeper
from hawkwing.dataplane.layout import structures
from hawkwing.dataplane.loader import Loading
from hawkwing.dataplane.plane import DataPlane
from hawkwing.dataplane.ringbuf import RingBuffer
from hawkwing.errors import DataplaneError, HawkwingError
from hawkwing.steering import Steering

if TYPE_CHECKING:
    from hawkwing.controller.stream import ControllerStream
    from hawkwing.resolver import Follower

log = logging.getLogger(__name__)
_EPOCH = 30.0
_EXPIRY_CHECK = 1.0


@dataclass(frozen=True)
class Options:
    """The options of the command line, without the configuration file."""

    role: str
    asked: Sequence[Asked]
    config_file: Path | None
    hook: str = "tc"
    sr_domain: tuple[IPv6Network, ...] = ()
    keep: bool = False
    wait: bool = False
    #: Of the file that was read last, as lines `FILE:LINE: warning: ...`.
    warnings: list[str] = field(default_factory=list)

    @property
    def interfaces(self) -> list[str]:
        """What the interfaces were called at the start."""
        return [one.name for one in self.asked]

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

    def __init__(self, options: Options, config: Config, loading: Loading) -> None:
        self._options = options
        self._config = config
        self._loading = loading
        self._started = time.time()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stream: ControllerStream | None = None
        self._stream_task: asyncio.Task[None] | None = None
        self._names: Follower | None = None
        self._saver: handover.Saver | None = None
        self._plane: DataPlane
        self._keeper: Keeper | None = None
        self._steering: Steering | None = None
        self._hmac: list[str] = []

    def run(self) -> None:
        """Runs until a signal; detaches everything, unless the filters are kept."""
        options = self._options
        if options.role == "client":
            # Before anything is attached: errors in the controller's settings.
            self._credentials_readable(self._config)
        # From here on no other agent of this role and interface may start.
        with claimed(options.role, options.interfaces) as claims:
            told = self._run_alone(claims)
        log.info("stopped%s", told)

    def _run_alone(self, claims: Claims) -> str:
        """What has become of the filters, for the last line of the log."""
        options = self._options
        role, first = options.role, options.interfaces[0]
        handover.tidy(role, first)
        inherited = handover.running_maps(role, first)
        loaded = self._loading.result(inherited)
        self._plane = plane = DataPlane(role, loaded, self._config.sr_domain or None)
        note = handover.Note(role, first)
        others = handover.programs_of_others(role)
        self._keeper = keeper = Keeper(
            role, options.asked, options.hook, plane.programs, claims, note.former, others, plane.seen
        )
        self._refresh_addresses()
        self._refresh_hmac()
        started = kept = False
        try:
            if role == "client":
                self._steering = Steering(plane)
                self._saver = handover.Saver(self._steering, first)
                self._steering.apply(self._config, self._source())
                handover.restore(self._steering, first)
            ending.check()
            with ending.shielded():
                # Interrupted, it would be half attached; and a loop that is being made can't be ended.
                # `_live` looks whether a signal has come.
                plane.set_xdp(options.hook != "tc")
                note.announce(plane.program_ids())
                keeper.start(options.wait)
                started = True
                note.confirm(plane.program_ids())
                self._warn()
                log.info("%s", status.trust_sentence(plane.sr_domain))
                asyncio.run(self._live(keeper))
            kept = options.keep
        finally:
            # The loop has given the signals back; a second one must not keep us from tidying up.
            ending.undisturbed()
            where = list(keeper.links())
            left: list[str] = []
            if kept:
                keeper.leave()
            elif started:
                handover.discard(role, first)
                where, left = keeper.release()
            else:
                note.take_back()
        if left:
            raise DataplaneError(f"stopped, but filters are still on {', '.join(left)}")
        return f", filters {'kept on' if kept else 'removed from'} {', '.join(where)}" if where else ""

    def _source(self) -> IPv6Address | None:
        """The source in requests to the controller; None: there is none, and the backup paths are used."""
        if not self._config.hawkeye.enabled:
            return None
        if self._config.client_ipv6_address is not None:
            return self._config.client_ipv6_address
        first = self._keeper.first_name() if self._keeper is not None else self._options.interfaces[0]
        source = addresses.source_address(first)
        if source is None:
            log.warning("%s has no global IPv6 address yet: the controller is asked once it has one", first)
        return source

    def _follow_source(self) -> None:
        """An interface may get its first address after the start."""
        if self._steering is None or self._stream is None or self._steering.source is not None:
            return
        source = addresses.source_address(self._keeper.first_name()) if self._keeper is not None else None
        if source is not None:
            log.info("the controller is asked for paths from %s", source)
            self._steering.apply(self._config, source)
            self._want()

    def _refresh_hmac(self) -> None:
        """The host's policy stands: where the kernel requires an HMAC, SRHs are left to it."""
        assert self._keeper is not None
        links = self._keeper.links()
        names = requiring_hmac(list(links))
        if names != self._hmac:
            self._hmac = names
            if names:
                log.warning("%s: seg6_require_hmac is set, SRHs are left to the kernel", ", ".join(names))
        self._plane.set_hmac_links([links[name] for name in names])

    def _refresh_addresses(self) -> None:
        self._plane.set_local_addresses(addresses.all_addresses())
        self._follow_source()

    def _links_changed(self) -> None:
        self._refresh_hmac()
        self._refresh_addresses()

    async def _live(self, keeper: Keeper) -> None:
        stop = asyncio.Event()

        def heard(number: int) -> None:
            if number == signal.SIGHUP:
                self._reload_on_signal()
            else:
                stop.set()

        with ExitStack() as stack:
            stack.callback(ending.told(asyncio.get_running_loop(), heard))
            # One may have come before.
            ending.check()
            stack.callback(addresses.watch(self._refresh_addresses))
            self._refresh_addresses()
            self._spawn(keeper.watch(self._links_changed))
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
            self._spawn(self._tick())
            _return_memory()
            missing = "".join(f" ({problem})" for problem in keeper.problems())
            log.info("ready: %s on %s%s", self._options.role, ", ".join(self._options.interfaces), missing)
            try:
                await stop.wait()
            finally:
                ending.undisturbed()
                await self._end_tasks()

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
        config = self._options.read()
        if self._options.role == "client":
            self._credentials_readable(config)
        old, self._config = self._config, config
        source = self._source()
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
            "attachments": self._keeper.report() if self._keeper is not None else [],
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
        found = explain.sentence(
            self._steering, self._stream, str(request["destination"]), int(request["port"])
        )
        return explain.where_attached(found, self._keeper.report() if self._keeper is not None else [])

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("internal error: %s", task.exception(), exc_info=task.exception())
