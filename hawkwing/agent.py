"""An agent's life: loading, attaching, serving requests, detaching. One asyncio program."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import os
import signal
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Any

from hawkwing import __version__, addresses, ending, explain, handover, notify, status
from hawkwing.client import Client, without_collecting
from hawkwing.control import ControlServer, socket_path
from hawkwing.dataplane import tc
from hawkwing.dataplane.btf import socket_fields
from hawkwing.dataplane.claim import Claims, claimed
from hawkwing.dataplane.interfaces import accepting_srh, checking_hmac, requiring_hmac
from hawkwing.dataplane.keeper import Keeper
from hawkwing.dataplane.layout import limits
from hawkwing.dataplane.loader import SIGNED, Loaded, Loading, memory_for
from hawkwing.dataplane.memory import available, require_room_for_tables
from hawkwing.dataplane.netlink import Netlink
from hawkwing.dataplane.plane import DataPlane, require_hmac_links_fit
from hawkwing.decap import asked_of
from hawkwing.decapsulator import Decapsulator
from hawkwing.errors import DataplaneError, HawkwingError
from hawkwing.next_hops import NextHops
from hawkwing.plan import Options, Plan, make_plan
from hawkwing.srh_hmac import signed_to
from hawkwing.status_model import ClientPart, Reloads, ServerPart, Summary, Work
from hawkwing.tasks import Supervisor, in_thread, in_turns

if TYPE_CHECKING:
    from hawkwing.reflector import Reflector

log = logging.getLogger(__name__)
_EPOCH = 30.0
_KERNEL_HMAC = "HMACs by the agent alone"


def _return_memory() -> None:
    """Releases memory that only the start needed."""
    gc.collect()
    gc.freeze()
    # A full collection waits until the number of objects has grown by a quarter, counted from now on.
    gc.collect()
    with suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


class Agent:
    """One role on one or more interfaces, from loading the programs to detaching the filters."""

    def __init__(self, options: Options, plan: Plan, loading: Loading) -> None:
        self._options = options
        self._plan = plan
        self._loading = loading
        self._started = time.time()
        self._tasks = Supervisor()
        self._reloading = asyncio.Lock()
        self._reload_waits = False
        self._reloads = Reloads(good=0, refused=0)
        self._ready = False
        self._plane: DataPlane
        self._keeper: Keeper | None = None
        self._client: Client | None = None
        self._hmac: list[str] = []
        self._reflector: Reflector | None = None
        self._reflecting: asyncio.Task[None] | None = None
        self._decapsulator: Decapsulator | None = None
        self._decapsulating: asyncio.Task[None] | None = None

    def run(self) -> None:
        """Runs until a signal; detaches everything, unless the filters are kept."""
        # From here on no other agent of this role and interface may start.
        with claimed(self._options.role, self._options.interfaces) as claims:
            told = self._run_alone(claims)
        log.info("stopped%s", told)

    def _run_alone(self, claims: Claims) -> str:
        """The state of the filters, for the last line of the log."""
        options = self._options
        role, first = options.role, options.interfaces[0]
        handover.tidy(role, first)
        loaded = self._loaded()
        self._plane = plane = DataPlane(
            role,
            loaded,
            self._plan.config.sr_domain or None,
            self._plan.desired.blocks,
            self._plan.hmac,
        )
        plane.set_decap(_decap_sids(self._plan))
        note = handover.Note(role, first)
        others = handover.programs_of_others(role)
        self._keeper = keeper = Keeper(
            role, options.asked, options.hook, plane.programs, claims, note.former, others, plane.seen
        )
        if role == "server":
            self._decapsulator = Decapsulator(first, keeper.links)
        self._next_hops = NextHops(
            lambda: list(keeper.links().values()), plane.next_hops, self._sources_changed
        )
        plane.next_hop_of = self._next_hops.of
        self._refresh_addresses()
        self._refresh_hmac()
        self._refresh_shared()
        started = kept = False
        try:
            if role == "client":
                self._client = Client(plane, first, self._tasks, keeper.first_name, self._next_hops)
                self._client.begin(self._plan)
            ending.check()
            with ending.shielded():
                # An interrupt would leave it half attached; and a loop can't be ended while it is created.
                # `_live` checks for a signal.
                plane.set_xdp(options.hook != "tc")
                note.announce(plane.program_ids())
                keeper.start(options.wait)
                started = True
                note.confirm(plane.program_ids())
                if self._decapsulator is not None:
                    self._decapsulator.use(asked_of(self._plan.config))
                if role == "server":
                    notify.store(loaded.maps)
                self._warn()
                log.info("%s", status.trust_sentence(plane.sr_domain, plane.hmac))
                asyncio.run(self._live(keeper))
            kept = options.keep
        finally:
            # The loop has restored the signal handlers; a second signal must not interrupt the clean-up.
            ending.undisturbed()
            self._next_hops.close()
            where = list(keeper.links())
            left: list[str] = []
            if kept:
                keeper.leave()
            elif started:
                handover.discard(role, first)
                where, left = keeper.release()
            else:
                note.take_back()
            self._stop_decapsulating(remove=started and not kept)
        if left:
            raise DataplaneError(f"stopped, but filters are still on {', '.join(left)}")
        return f", filters {'kept on' if kept else 'removed from'} {', '.join(where)}" if where else ""

    def _stop_decapsulating(self, remove: bool) -> None:
        if self._decapsulator is None:
            return
        if not remove:
            self._decapsulator.leave()
            return
        try:
            self._decapsulator.remove()
        except (DataplaneError, OSError) as error:
            log.error("stopped, but rules or routes for decapsulation are left: %s", error)

    def _loaded(self) -> Loaded:
        """The programs, with maps large enough for the plan."""
        needs = self._plan.needs
        if self._options.role == "client":
            require_room_for_tables(memory_for(needs), available())
        local = len(addresses.all_addresses())
        inherited = handover.running_maps(self._options.role, self._options.interfaces[0])
        capacities = self._loading.capacities.with_room_for(needs, local, bool(self._plan.hmac))
        return self._loading.result(inherited, capacities)

    def _refresh_hmac(self) -> None:
        """Respects the host's policy: if an interface requires an HMAC, the kernel handles its SRHs."""
        links = self._keeper.links() if self._keeper is not None else {}
        names = requiring_hmac(list(links))
        if names != self._hmac:
            self._hmac = names
            if names and not self._plane.hmac:
                log.warning("%s: seg6_require_hmac is set, the kernel handles all SRHs", ", ".join(names))
        self._compare_with_kernel(list(links))
        try:
            require_hmac_links_fit(len(names))
        except DataplaneError as error:
            # It was set after the start: only a start and a reload are refused.
            self._tasks.note("seg6_require_hmac", error)
        self._plane.set_hmac_links([links[name] for name in names][: limits()["HW_MAX_HMAC_LINKS"]])

    def _compare_with_kernel(self, links: list[str]) -> None:
        """With keys, the kernel's own SRv6 should not do what the agent says nobody does."""
        problems = []
        if self._plane.hmac and (names := accepting_srh(links)):
            problems.append(
                f"{', '.join(names)}: the kernel accepts SRHs without a valid HMAC, too: set seg6_enabled "
                "to 0, or seg6_require_hmac to 1"
            )
        if self._plane.hmac and self._plane.decap and (names := checking_hmac(links)):
            problems.append(
                f"{', '.join(names)}: the kernel drops signed packets to the SIDs of decap unless it has the "
                "key, too: set seg6_require_hmac to -1, the agent verifies them"
            )
        if problems:
            self._tasks.note(_KERNEL_HMAC, HawkwingError("; ".join(problems)))
        else:
            self._tasks.troubles.pop(_KERNEL_HMAC, None)

    def _find_socket_fields(self) -> None:
        fields = socket_fields()
        if fields is None:
            log.info(
                "this kernel has no description of its sockets (BTF): datagrams of sockets that forbid "
                "fragments are split like others"
            )
        self._plane.set_socket_fields(fields)

    def _refresh_addresses(self) -> None:
        self._plane.set_local_addresses(addresses.all_addresses())

    def _addresses_changed(self) -> None:
        self._refresh_addresses()
        self._sources_changed()

    def _sources_changed(self) -> None:
        """Addresses and routes determine the source of a packet."""
        if self._client is not None:
            self._client.sources_changed()

    def _refresh_shared(self) -> None:
        ours = set(self._keeper.links().values()) if self._keeper is not None else set()
        with Netlink() as ip:
            links = tc.links(ip)
        self._plane.set_shared(
            any(link.lower in ours or (link.master and link.index in ours) for link in links)
        )

    def _links_changed(self) -> None:
        self._next_hops.look_again()
        self._refresh_hmac()
        self._refresh_shared()
        self._addresses_changed()

    async def _live(self, keeper: Keeper) -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._tasks.callback_failed)

        def heard(number: int) -> None:
            if number == signal.SIGHUP:
                self._reload_soon()
            else:
                stop.set()

        with ExitStack() as stack:
            stack.callback(ending.told(loop, heard))
            # A signal may have come before.
            ending.check()
            stack.callback(addresses.watch(self._addresses_changed))
            self._refresh_addresses()
            self._tasks.keep("watching interfaces", lambda: keeper.watch(self._links_changed))
            if self._client is not None:
                await self._client.live(stack)
            self._reflect(self._new_reflector(self._plan))
            stack.callback(self._reflect, None)
            self._keep_decapsulating()
            control = ControlServer(
                socket_path(self._options.role, self._options.interfaces[0]),
                {
                    "status": self._status,
                    "summary": self._summary,
                    "reload": self._reload,
                    "explain": self._explain,
                    "paths": self._paths,
                    "labels": self._labels,
                    "sign": self._sign,
                },
                self._tasks.note,
            )
            await control.start()
            stack.callback(control.close)
            await self._serve_metrics(stack)
            self._tasks.keep("ageing of flows", self._tick)
            learning = self._options.role == "server"
            self._tasks.keep("next hops", lambda: self._next_hops.run(learning))
            self._find_socket_fields()
            await self._next_hops.settle()
            _return_memory()
            if not stop.is_set():
                self._tell_ready(keeper)
            self._tasks.keep("watchdog", notify.watchdog)
            try:
                await stop.wait()
            finally:
                notify.stopping()
                ending.undisturbed()
                if self._client is not None:
                    self._client.save()
                await self._tasks.close()

    def _tell_ready(self, keeper: Keeper) -> None:
        self._ready = True
        missing = "".join(f" ({problem})" for problem in keeper.problems())
        what = f"{self._options.role} on {', '.join(self._options.interfaces)}{missing}"
        log.info("ready: %s", what)
        notify.ready(what)

    async def _serve_metrics(self, stack: ExitStack) -> None:
        if self._options.metrics is not None:
            # The client library needs memory: it is loaded only for metrics.
            from hawkwing.metrics import MetricsServer

            server = MetricsServer(self._options.metrics, lambda: self._status({}))
            await server.start()
            stack.callback(server.close)

    def _new_reflector(self, plan: Plan) -> Reflector | None:
        """The reflector for this plan; HawkwingError if its port can't be used."""
        port = plan.config.stamp_port if self._options.role == "server" else None
        if port is None:
            return None
        if self._reflector is not None and self._reflector.port == port:
            return self._reflector
        from hawkwing.reflector import Reflector

        return Reflector(port, lambda: self._plane.sr_domain)

    def _reflect(self, reflector: Reflector | None) -> None:
        """Uses this reflector from now on, instead of another one."""
        if reflector is self._reflector:
            return
        if self._reflecting is not None:
            self._reflecting.cancel()
            self._reflecting = None
        if self._reflector is not None:
            self._reflector.close()
        self._reflector = reflector
        if reflector is not None:
            self._reflecting = self._tasks.keep("STAMP reflector", reflector.run)
            log.info("answers STAMP packets on UDP port %d", reflector.port)

    def _keep_decapsulating(self) -> None:
        """Watches rules and routes from now on, if there are SIDs."""
        used = self._decapsulator is not None and self._decapsulator.is_used
        if self._decapsulator is not None and used and self._decapsulating is None:
            self._decapsulating = self._tasks.keep("decapsulation", self._decapsulator.watch)
        elif self._decapsulating is not None and not used:
            self._decapsulating.cancel()
            self._decapsulating = None

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_EPOCH)
            self._refresh_hmac()
            self._refresh_shared()
            self._plane.tick()
            await in_turns(self._plane.sweeping())

    # --- configuration

    def _reload_soon(self) -> None:
        """Combines signals: a reload that waits for another one reads the file afterwards."""
        if not self._reload_waits:
            self._reload_waits = True
            self._tasks.once("reload", self._reload_on_signal())

    async def _reload_on_signal(self) -> None:
        try:
            log.info("%s", await self._reload({}))
        except HawkwingError as error:
            for line in str(error).splitlines():
                log.error("%s", line)
            log.error("configuration not changed")

    async def _reload(self, _request: Mapping[str, Any]) -> str:
        """Applies the differences; a refused configuration changes nothing."""
        async with self._reloading:
            self._reload_waits = False
            try:
                with notify.reloading(), without_collecting():
                    await self._change()
            except Exception:
                self._reloads["refused"] += 1
                raise
            self._reloads["good"] += 1
        return "configuration reloaded"

    async def _change(self) -> None:
        plan = await in_thread(lambda: make_plan(self._options))
        if self._client is not None:
            plan = await self._client.check(plan)
        reflector = self._new_reflector(plan)
        before, self._plan = self._plan, plan
        try:
            await self._decapsulate(plan)
            self._apply_sr_domain(plan)
            if self._client is not None:
                await self._client.take(plan)
        except (DataplaneError, OSError):
            self._plan = before
            if reflector is not None and reflector is not self._reflector:
                reflector.close()
            self._apply_sr_domain(before)
            await self._decapsulate(before)
            raise
        self._reflect(reflector)
        self._refresh_hmac()
        self._warn()

    async def _decapsulate(self, plan: Plan) -> None:
        decapsulator = self._decapsulator
        if decapsulator is not None:
            await in_thread(lambda: decapsulator.use(asked_of(plan.config)))
            self._keep_decapsulating()

    def _apply_sr_domain(self, plan: Plan) -> None:
        domain = plan.config.sr_domain or None
        if domain != self._plane.sr_domain:
            self._plane.set_sr_domain(domain)
        self._plane.set_csid(plan.desired.blocks)
        self._plane.set_decap(_decap_sids(plan))
        had_keys = bool(self._plane.hmac)
        self._plane.set_hmac(plan.hmac)
        if self._plane.hmac and not had_keys and self._plane.maps["signatures"].info.max_entries < SIGNED:
            log.info("HMACs are computed more often than needed: a restart makes room to keep them")

    def _warn(self) -> None:
        """Logs the warnings of `hawkwing check`."""
        for line in self._plan.warnings:
            log.warning("%s", line.replace(": warning: ", ": ", 1))

    # --- answers to the command line

    def _summary(self, _request: Mapping[str, Any]) -> Summary:
        """The part of the status whose cost does not depend on the number of paths."""
        return {
            "role": self._options.role,
            "pid": os.getpid(),
            "version": __version__,
            "interfaces": list(self._options.interfaces),
            "started": self._started,
            "ready": self._ready,
            "ingress_hook": self._options.hook,
            "attachments": self._keeper.report() if self._keeper is not None else [],
            **status.of_data_plane(self._plane),
        }

    async def _status(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The whole status: `Client` or `Server` of `status_model`."""
        work = Work(
            troubles=status.of_tasks(self._tasks),
            tasks=len(asyncio.all_tasks()),
            restarts=dict(self._tasks.restarts),
            reloads=self._reloads.copy(),
        )
        more: ClientPart | ServerPart
        if self._client is not None:
            more = await self._client.status()
        else:
            more = await status.of_learned_paths(self._plane, self._plan.labels)
            if self._reflector is not None:
                more["stamp"] = self._reflector.status()
            if self._decapsulator is not None:
                decap = await asyncio.to_thread(self._decapsulator.status)
                if decap is not None:
                    more["decap"] = decap
        return {**self._summary(request), **work, **more}

    def _explain(self, request: Mapping[str, Any]) -> str:
        if self._client is None:
            return explain.of_a_server(self._plan.desired.key_id)
        found = self._client.explain(request)
        return explain.where_attached(found, self._keeper.report() if self._keeper is not None else [])

    def _paths(self, request: Mapping[str, Any]) -> dict[str, Any]:
        if self._client is None:
            raise HawkwingError(explain.of_a_server(self._plan.desired.key_id))
        attachments = self._keeper.report() if self._keeper is not None else []
        return {
            "interfaces": list(self._options.interfaces),
            "pid": os.getpid(),
            "problems": explain.attachment_problems(attachments),
            **self._client.paths(request),
        }

    def _sign(self, request: Mapping[str, Any]) -> str:
        """The SRH of a probe of this host with an HMAC, if there is a key; both in hexadecimal."""
        try:
            source = IPv6Address(str(request.get("source")))
            srh = bytes.fromhex(str(request.get("srh")))
            keys = self._plane.hmac
            return (signed_to(source, source, srh, keys[0]) if keys else srh).hex()
        except (ValueError, IndexError):
            raise HawkwingError("a source and an SRH are needed") from None

    def _labels(self, request: Mapping[str, Any]) -> dict[str, str]:
        return self._plan.labels.of_texts(request.get("sids"))


def _decap_sids(plan: Plan) -> list[IPv6Address]:
    asked = asked_of(plan.config)
    return list(asked.sids.values()) if asked is not None else []
