"""Keeps the programs on their interfaces: restores removed ones, and reports problems.

An interface is identified by its index, even if it is renamed. If the index is gone, the next interface with
the requested name is used. The kernel reports changes (netlink); a regular check finds the rest. A thread
checks and restores, because the kernel may be busy with other changes.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from hawkwing.dataplane import ahead, attach, bpf, claim, netlink, tc
from hawkwing.dataplane.attach import Hooks, Program
from hawkwing.dataplane.claim import Claims
from hawkwing.dataplane.interfaces import Asked, ethernet_links, with_two_tags
from hawkwing.dataplane.netlink import Change, Listener, Netlink
from hawkwing.dataplane.next_hop import largest_index
from hawkwing.dataplane.tc import Link
from hawkwing.errors import DataplaneError, HawkwingError
from hawkwing.status_model import Attachment

log = logging.getLogger(__name__)
_PERIOD = 10.0
_PAUSE = 0.1
_ENOUGH = 10
_TOLD_AGAIN = 60.0
_ANY_INTERFACE = -1
"""The index in messages about filters of a shared block."""


@dataclass
class Place:
    """A requested interface and its state; index 0: it does not exist."""

    asked: Asked
    index: int = 0
    name: str = ""
    attached: bool = False
    #: Our programs may be on it.
    held: bool = False
    #: Why it is not attached, or a problem although it is attached.
    problem: str = ""
    warnings: tuple[str, ...] = ()
    #: Warnings from packet counters.
    starved: tuple[str, ...] = ()
    restored: int = 0
    told: float = 0.0
    counted: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        self.name = self.name or self.asked.name

    def report(self) -> Attachment:
        """For `hawkwing status`."""
        return {
            "interface": self.asked.asked,
            "name": self.name,
            "renamed": self.name != self.asked.name,
            "index": self.index or None,
            "attached": self.attached,
            "problem": self.problem,
            "warnings": list(self.warnings),
            "restored": self.restored,
        }


class Keeper:
    """The programs of one role on all of its interfaces, from `start` to `release` or `leave`."""

    def __init__(
        self,
        role: str,
        interfaces: Iterable[Asked],
        hook: str,
        programs: Mapping[str, int],
        claims: Claims,
        former: Collection[int] = (),
        others: Collection[int] = (),
        seen: Callable[[], tuple[int, int]] = lambda: (0, 0),
    ) -> None:
        """`programs` are file descriptors; `seen` returns our programs' packets, on egress and ingress."""
        self._role = role
        self._ip = Netlink()
        known = {name: Program(fd, bpf.program_info(fd).id) for name, fd in programs.items()}
        self._hooks = Hooks(self._ip, role, hook, known, former, others)
        self._claims = claims
        self._seen = seen
        self._seen_before: tuple[int, int] | None = None
        self._places = [Place(asked) for asked in interfaces]
        self._deleted: set[int] = set()
        self._makers: dict[int, int] = {}
        self._missed = True
        self._lock = threading.Lock()
        self._ended = False
        for place in self._places:
            found = self._find(place)
            if found is not None:
                place.index, place.name = found.index, found.name

    # --- start and stop

    def start(self, wait: bool = False) -> None:
        """Attaches to all interfaces, or to none: DataplaneError. With `wait`, interfaces may be missing."""
        claim.forget_vanished(self._ip)
        # Before any change: the filters of a killed agent continue to steer.
        for place in self._places:
            self._there(place, wait)
        try:
            if self._hooks.with_xdp:
                self._start_xdp(wait)
            for place in self._places:
                link = self._there(place, wait)
                if link is None:
                    place.index, place.problem = 0, f"{place.asked.asked} is not there yet"
                    log.info("%s: waiting for it", place.problem)
                    continue
                self._take(place, link)
                place.held = True
                held = self._hooks.hold(link, first=True)
                place.attached = True
                if held.problem:
                    raise DataplaneError(held.problem)
        except BaseException:
            self._take_back_xdp()
            self.release()
            raise
        attach.forget_vanished(self._ip)

    def _start_xdp(self, wait: bool) -> None:
        """Attaches XDP first: if a driver refuses it, the filters of a killed agent are not replaced."""
        for place in self._places:
            link = self._there(place, wait)
            if link is not None:
                self._take(place, link)
                _changed, problem = self._hooks.hold_xdp(link, first=True)
                if problem:
                    raise DataplaneError(problem)

    def _take_back_xdp(self) -> None:
        """Detaches from the interfaces after a failed start."""
        for place in self._places:
            if place.index and not place.held:
                self._hooks.take_back_xdp(place.index)

    def _there(self, place: Place, wait: bool) -> Link | None:
        """The interface, if it is supported; otherwise DataplaneError."""
        link = self._find(place)
        if link is not None:
            self._hooks.check(link)
        elif not wait:
            raise DataplaneError(f"there is no interface {place.asked.asked!r} here")
        return link

    def release(self) -> tuple[list[str], list[str]]:
        """Detaches from all interfaces; returns those without and those with remaining filters."""
        free: list[str] = []
        left: list[str] = []
        with self._lock:
            self._ended = True
            for place in self._places:
                if not place.held:
                    # The remaining filters belong to other agents.
                    continue
                try:
                    link = tc.link(self._ip, place.index)
                    if link is None:
                        attach.forget(place.index)
                        continue
                    place.name = link.name
                    (free if self._hooks.let_go(link) else left).append(place.name)
                except (DataplaneError, OSError) as error:
                    log.error("%s: %s", place.name, error)
                    left.append(place.name)
            self._ip.close()
        return free, left

    def leave(self) -> None:
        """Stops; the programs on the interfaces continue to steer."""
        with self._lock:
            self._ended = True
            self._ip.close()

    # --- state

    def links(self) -> dict[str, int]:
        """Index by name, of the existing interfaces."""
        return {place.name: place.index for place in self._places if place.index}

    def first_name(self) -> str:
        """The current name of the first interface."""
        return self._places[0].name

    def report(self) -> list[Attachment]:
        """The state of each interface, for `hawkwing status`."""
        return [place.report() for place in self._places]

    def problems(self) -> list[str]:
        """The problems of interfaces that are not attached."""
        return [place.problem for place in self._places if not place.attached]

    # --- restoring

    async def watch(self, changed: Callable[[], None]) -> None:
        """Restores removed programs until cancelled; calls `changed` if interfaces appear or disappear."""
        loop = asyncio.get_running_loop()
        due = asyncio.Event()
        listener = Listener()

        def drain() -> None:
            for change in listener.changes():
                if self._concerns(change):
                    due.set()

        loop.add_reader(listener, drain)
        try:
            # Changes since the start were not reported.
            due.set()
            counted = loop.time()
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_PERIOD):
                        await due.wait()
                due.clear()
                drain()
                thorough = loop.time() - counted >= _PERIOD
                if thorough:
                    counted = loop.time()
                try:
                    if await asyncio.to_thread(self.check, thorough):
                        changed()
                except (HawkwingError, OSError) as error:
                    log.error("checking the interfaces: %s", error)
                # Other programs may make many changes at once.
                await asyncio.sleep(_PAUSE)
        finally:
            loop.remove_reader(listener)
            listener.close()

    def _concerns(self, change: Change | None) -> bool:
        if change is None:
            self._missed = True
            return True
        kind, content, port = change
        family, index = tc.family_and_index(content)
        ours = any(place.index == index for place in self._places)
        if kind in (netlink.NEWLINK, netlink.DELLINK):
            if family:
                # A message about a bridge port, not about a link.
                return False
            if kind == netlink.DELLINK and ours:
                self._deleted.add(index)
            return ours or not all(place.attached for place in self._places)
        if kind == netlink.NEWQDISC and ours and tc.is_clsact(content):
            self._makers[index] = port
        return ours or index == _ANY_INTERFACE

    def check(self, thorough: bool = False) -> bool:
        """Checks all interfaces and restores missing programs; True if one was added, removed or renamed."""
        with self._lock:
            if self._ended:
                return False
            before = self.links()
            deleted, self._deleted = self._deleted, set()
            makers, self._makers = self._makers, {}
            missed, self._missed = self._missed, False
            for place in self._places:
                was, attached = place.problem, place.attached
                if place.index in deleted:
                    self._lose(place)
                    self._tell(place, was, attached)
                    was, attached = place.problem, place.attached
                self._look_after(place, missed, makers.get(place.index))
                self._tell(place, was, attached)
            self._look_ahead(thorough)
            return self.links() != before

    def _find(self, place: Place) -> Link | None:
        """Finds an interface by its index, or, if that is gone or reused, by its possible names."""
        link = tc.link(self._ip, place.index) if place.index else None
        if link is not None and link.name == place.name:
            return link
        if link is not None and attach.is_attached(self._ip, self._role, link.index):
            return link
        for name in (place.asked.asked, place.asked.name, place.name):
            found = tc.link(self._ip, name=name)
            if found is not None:
                return found
        return link

    def _take(self, place: Place, link: Link) -> None:
        """Uses this interface as the requested one."""
        if any(other is not place and other.index == link.index for other in self._places):
            raise DataplaneError(f"{link.name} is already given by another of its names")
        if place.index and place.index != link.index:
            was, attached = place.problem, place.attached
            self._lose(place)
            self._tell(place, was, attached)
        self._claims.take_link(link.index, link.name)
        if place.index == link.index and place.name != link.name:
            log.info("%s has been renamed to %s", place.name, link.name)
        place.index, place.name = link.index, link.name

    def _look_after(self, place: Place, missed: bool, maker: int | None) -> None:
        try:
            link = self._find(place)
            if link is None:
                if place.index:
                    self._lose(place)
                return
            self._take(place, link)
            place.held = True
            held = self._hooks.hold(link, unsure=missed or not place.attached, maker=maker)
            if held.put and place.attached:
                self._tell_restored(place, held.put)
            place.attached, place.problem = True, held.problem
        except DataplaneError as error:
            place.attached, place.problem = False, str(error)
        except OSError as error:
            place.attached, place.problem = False, f"{place.name}: {error.strerror}"

    def _lose(self, place: Place) -> None:
        """Handles an interface that is gone, with its programs."""
        self._claims.drop_link(place.index)
        attach.forget_former(self._ip, place.index)
        place.index, place.attached, place.held = 0, False, False
        place.problem = f"{place.name} is gone"

    def _tell_restored(self, place: Place, put: tuple[str, ...]) -> None:
        place.restored += 1
        now = time.monotonic()
        # If two tools compete for an interface, this must not fill the log.
        if now - place.told > _TOLD_AGAIN or not place.told:
            place.told = now
            what = ", ".join(put)
            log.warning("%s: filters were removed by another program (%s); attached again", place.name, what)

    def _tell(self, place: Place, was: str, attached: bool) -> None:
        if place.problem == was and place.attached == attached:
            return
        if not place.attached:
            log.warning("not attached: %s", place.problem)
        elif place.problem:
            log.warning("%s", place.problem)
        elif not attached:
            log.info("attached to %s%s", place.name, " again" if was.endswith("is gone") else "")

    # --- other programs

    def _look_ahead(self, thorough: bool) -> None:
        seen = self._seen() if thorough else None
        links = tc.links(self._ip) if any(place.attached for place in self._places) else []
        for place in self._places:
            warnings: list[str] = []
            if place.attached:
                found = ahead.of_interface(self._ip, place.index)
                warnings = [f"{place.name} {one}" for one in found]
                if seen is not None:
                    place.starved = tuple(self._starved(place, seen, {one.direction for one in found}))
                warnings += place.starved if found else ()
                if place.index > largest_index() and ethernet_links([place.index]):
                    warnings.append(
                        f"{place.name} has the interface index {place.index}, above {largest_index()}, the "
                        "largest one for next hops: packets go to the next hop of their destination, even if "
                        "their first segment has another one"
                    )
                warnings += [
                    f"{place.name}: packets of {name} have two VLAN tags here and are not steered: "
                    f"give HawkWing {name}"
                    for name in with_two_tags(links, place.index)
                ]
            for warning in warnings:
                if warning not in place.warnings:
                    log.warning("%s", warning)
            place.warnings = tuple(warnings)
        if seen is not None:
            self._seen_before = seen

    def _starved(self, place: Place, seen: tuple[int, int], directions: Collection[str]) -> Iterator[str]:
        """Warns if packets pass and none reaches our programs."""
        link = tc.link(self._ip, place.index)
        if link is None:
            return
        before, place.counted = place.counted, (link.sent, link.received)
        if self._seen_before is None:
            return
        for number, direction in enumerate(("egress", "ingress")):
            passed = place.counted[number] - before[number]
            if (
                direction in directions
                and before[number]
                and passed >= _ENOUGH
                and seen[number] == self._seen_before[number]
            ):
                yield (
                    f"{place.name} {direction}: packets pass, but none reaches HawkWing's program: "
                    "nothing is steered"
                )
