"""Decapsulation by the kernel's SRv6, on a server with `decap`: sets the rules and routes, and keeps them.

The kernel reports changes of rules, routes, addresses and interfaces (netlink), and a regular check finds the
rest. Like the filters they are removed at a normal stop, and stay with `--keep` and after a kill. The next
agent on the interface finds them by its record (`decap_slot`), and changes only what differs.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address

from hawkwing import decap, decap_slot
from hawkwing import status_model as model
from hawkwing.addresses import host_addresses, host_ipv4
from hawkwing.dataplane import local_sids, netlink
from hawkwing.dataplane.local_sids import LocalSids, Packets
from hawkwing.decap import Asked, Entry, Host, Route, Rule, Slot, Version, Wanted

log = logging.getLogger("hawkwing")
_PERIOD = 10.0
_PAUSE = 0.1
_TOLD_AGAIN = 60.0
_ROUTE_KINDS = (local_sids.NEWROUTE, local_sids.DELROUTE)


class Decapsulator:
    """The SIDs of one server, from `use` to `remove` or `leave`."""

    def __init__(self, interface: str, interfaces: Callable[[], Iterable[str]]) -> None:
        """`interface` is the first one, as in the records; `interfaces` returns the names of all."""
        self._interface = interface
        self._interfaces = interfaces
        self._kernel = LocalSids()
        self._lock = threading.Lock()
        self._asked: Asked | None = None
        self._held: decap_slot.Held | None = None
        self._ended = False
        #: What the last check has left in the kernel.
        self._there: frozenset[Entry] = frozenset()
        #: Why packets to a SID are not decapsulated; without a problem, it has no entry.
        self._problems: dict[IPv6Address, str] = {}
        self._restored = 0
        self._told = 0.0

    @property
    def is_used(self) -> bool:
        """Whether there is a SID to keep."""
        return self._asked is not None

    # --- changes

    def use(self, asked: Asked | None) -> None:
        """Decapsulates packets to these SIDs from now on, and to no others; HawkwingError without tables."""
        with self._lock:
            before = self._asked
            if asked is None:
                self._asked = None
                self._remove()
            else:
                if self._held is None:
                    self._held = decap_slot.take(self._kernel, self._interface)
                self._asked = asked
                self._problems = {sid: text for sid, text in self._problems.items() if sid in _sids(asked)}
                self._check()
            decap_slot.tidy(self._kernel)
            self._tell_difference(before)

    def remove(self) -> None:
        """Removes all of its rules and routes, at a stop; OSError if the kernel refuses."""
        with self._lock:
            self._asked, self._ended = None, True
            try:
                self._remove()
            finally:
                self._kernel.close()

    def leave(self) -> None:
        """Stops; the kernel continues to decapsulate."""
        with self._lock:
            self._ended = True
            self._kernel.close()
            if self._held is not None:
                self._held.lock.release()

    def check(self) -> None:
        """Restores what is missing, and follows changes of the host's addresses and interfaces."""
        with self._lock:
            if self._asked is not None and not self._ended:
                self._check()

    async def watch(self) -> None:
        """Checks after each change, and every ten seconds, until cancelled."""
        loop = asyncio.get_running_loop()
        due = asyncio.Event()
        listener = netlink.Listener(local_sids.GROUPS)

        def drain() -> None:
            for change in listener.changes():
                if change is None or self._concerns(change):
                    due.set()

        loop.add_reader(listener, drain)
        try:
            # Changes since `use` were not reported.
            due.set()
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_PERIOD):
                        await due.wait()
                due.clear()
                await asyncio.to_thread(self.check)
                # Other programs may make many changes at once.
                await asyncio.sleep(_PAUSE)
        finally:
            loop.remove_reader(listener)
            listener.close()

    def _concerns(self, change: netlink.Change) -> bool:
        # A host may have many routes of others.
        ours = change.kind in _ROUTE_KINDS and decap.slot_of(local_sids.route_table(change.content))
        return change.kind not in _ROUTE_KINDS or ours is not None

    def _remove(self) -> None:
        self._problems, self._there = {}, frozenset()
        held, self._held = self._held, None
        if held is not None:
            decap_slot.give_back(self._kernel, self._interface, held)
        else:
            decap_slot.clean_up(self._kernel, self._interface)

    @property
    def _tables(self) -> Slot | None:
        return decap.slot(self._held.number) if self._held is not None else None

    def _check(self) -> None:
        asked, tables = self._asked, self._tables
        assert asked is not None and tables is not None
        wanted = decap.wanted(asked, self._host(), tables)
        steps = decap.changes(wanted, self._kernel.found().of(tables))
        refused: dict[Entry, str] = {}
        for one in steps.add:
            _try(self._kernel.add, one, refused)
        for one in steps.remove:
            _try(self._kernel.remove, one, refused)
        self._tell_restored((set(steps.add) - refused.keys()) & self._there)
        self._there = wanted.entries - refused.keys()
        now = set(self._kernel.found().of(tables))
        self._tell_problems(
            {
                sid: problem
                for version, sid in asked.sids.items()
                if (problem := self._problem(version, sid, wanted, now, refused))
            }
        )

    def _host(self) -> Host:
        ipv4 = [IPv4Address(one.packed[-4:]) for one in host_ipv4()]
        return Host(host_addresses(), ipv4, self._kernel.links(), list(self._interfaces()))

    def _problem(
        self,
        version: Version,
        sid: IPv6Address,
        wanted: Wanted,
        there: set[Entry],
        refused: dict[Entry, str],
    ) -> str:
        """Why packets to a SID are not decapsulated; empty if they are."""
        assert self._asked is not None and self._tables is not None
        if sid in wanted.problems:
            return wanted.problems[sid]
        needed = [one for one in wanted.entries if decap.concerns(sid, version, one, self._tables)]
        for one in needed:
            if one in refused:
                return f"the kernel refuses its {_kind(one)}: {refused[one]}"
        missing = {_kind(one) for one in needed if one not in there}
        if missing:
            return f"its {min(missing)} is missing"
        (link,) = {one.link for one in needed if isinstance(one, Route) and one.address == sid}
        for prefix in self._asked.domain:
            if not self._kernel.is_reached(sid, prefix, link):
                return f"a routing rule of another program takes its packets from {prefix}"
        return ""

    # --- log

    def _tell_difference(self, before: Asked | None) -> None:
        for version in decap.BEHAVIORS:
            old, new = (_sentence(asked, version) for asked in (before, self._asked))
            if new and new != old and self._works(version):
                log.info("%s", new)
            elif old and not new and before is not None:
                log.info("no longer decapsulates packets to %s", before.sids[version])

    def _works(self, version: Version) -> bool:
        return self._asked is not None and self._asked.sids[version] not in self._problems

    def _tell_problems(self, problems: dict[IPv6Address, str]) -> None:
        before, self._problems = self._problems, problems
        for sid, problem in problems.items():
            if before.get(sid) != problem:
                log.warning("packets to %s are not decapsulated: %s", sid, problem)
        for version, sid in self._asked.sids.items() if self._asked is not None else ():
            if sid in before and sid not in problems:
                log.info("%s", _sentence(self._asked, version))

    def _tell_restored(self, restored: set[Entry]) -> None:
        if not restored:
            return
        self._restored += 1
        now = time.monotonic()
        # If two tools compete for them, this must not fill the log.
        if now - self._told > _TOLD_AGAIN or not self._told:
            self._told = now
            kinds = " and ".join(sorted({f"{_kind(one)}s" for one in restored}))
            log.warning("%s for decapsulation were missing, and are set again", kinds)

    # --- status

    def status(self) -> model.Decapsulation | None:
        """Its part of the server's status, read from the kernel; None without SIDs."""
        with self._lock:
            asked, tables = self._asked, self._tables
            if asked is None or tables is None or self._ended:
                return None
            wanted = decap.wanted(asked, self._host(), tables)
            found = self._kernel.found()
            there = set(found.of(tables))
            sids: list[model.DecapSid] = []
            for version, sid in asked.sids.items():
                problem = self._problem(version, sid, wanted, there, {})
                # The reason of the last check says more than that something is missing.
                problem = problem and self._problems.get(sid, problem)
                counted = found.packets.get((tables.sids, sid), Packets(0, 0))
                sids.append(
                    {
                        "sid": str(sid),
                        "carries": version,
                        "behavior": decap.BEHAVIORS[version],
                        "installed": not problem,
                        "problem": problem,
                        "packets": counted.decapsulated,
                        "errors": counted.errors,
                    }
                )
            return {
                "sources": [str(prefix) for prefix in asked.domain],
                "table": tables.sids,
                "restored": self._restored,
                "sids": sids,
            }


def _sids(asked: Asked) -> set[IPv6Address]:
    return set(asked.sids.values())


def _sentence(asked: Asked | None, version: Version) -> str:
    return decap.sentence(asked, version) if asked is not None and version in asked.sids else ""


def _kind(one: Entry) -> str:
    return "rule" if isinstance(one, Rule) else "route"


def _try(do: Callable[[Entry], None], one: Entry, refused: dict[Entry, str]) -> None:
    try:
        do(one)
    except netlink.RefusedError as error:
        refused[one] = error.text or error.strerror or str(error)
