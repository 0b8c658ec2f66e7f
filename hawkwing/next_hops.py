"""Keeps the next hops of first segments up to date with the kernel's routes and neighbours.

The kernel selects the next hop of a packet by its destination, before the packet gets its SRH. If the first
segment has another next hop, the data plane sends the packet there (bpf/next_hop.h). It compares link-layer
addresses, so packets need no second look-up if both are the same.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv6Address

from hawkwing.dataplane.interfaces import ethernet_links
from hawkwing.dataplane.next_hop import ASK, CAME_FROM_THERE, NextHop, PolicyNextHops, pack
from hawkwing.routes import DELNEIGH, NEWNEIGH, Neighbour, Routes, read_neighbour
from hawkwing.tasks import SLICE

_AT_ONCE = 1024
_CHUNK = 256
_QUIET = 0.1
"""Minimum number of seconds for which changes are collected."""
_LOOK = 1.0
"""Seconds between checks for paths that the data plane has learned."""
_MOST_SOUGHT = 256
"""Neighbours that the kernel resolves at once: its table is small."""


@dataclass(slots=True)
class _Found:
    """The next hop of a segment; all segments behind a neighbour share it."""

    next_hop: NextHop | None
    outdated: bool = False
    #: The route leads to several routers (ECMP).
    several: bool = False

    def of(self, encapsulated: bool) -> NextHop | None:
        """Of equal routes the kernel has chosen one, but not for an inner packet, which may be IPv4."""
        return NextHop(ASK, 0) if encapsulated and self.several and self.next_hop is None else self.next_hop


class NextHops:
    """Caches next hops until a route, a neighbour or an interface changes."""

    def __init__(
        self,
        links: Callable[[], Sequence[int]],
        table: PolicyNextHops,
        rerouted: Callable[[], None] = lambda: None,
    ) -> None:
        """`links` returns the current indexes of our interfaces, in the user's order.

        `rerouted` is called when routes may have changed, in the loop of `run`.
        """
        self._links_now = links
        self._rerouted = rerouted
        self._table = table
        self._kernel = Routes()
        #: Increases when `of` may have other answers than before.
        self.changes = 0
        self._known: dict[IPv6Address, _Found] = {}
        self._neighbours: dict[Neighbour, _Found] = {}
        self._links = ethernet_links(links())
        self._sought: set[Neighbour] = set()
        self._silent: set[Neighbour] = set()
        self._changed = asyncio.Event()
        self._settled = asyncio.Event()
        self._routes_changed = False
        self._quiet = _QUIET

    def close(self) -> None:
        """Closes its sockets."""
        self._kernel.close()

    def of(self, segment: IPv6Address, encapsulated: bool = False) -> NextHop | None:
        """The next hop to this segment on our interfaces; None: the kernel's choice counts."""
        if segment not in self._known and len(self._known) >= _AT_ONCE:
            # `run` will write it.
            self._changed.set()
            return None
        return self._found(segment).of(encapsulated)

    def reaches(self, segment: IPv6Address) -> bool:
        """Whether a route of any kind leads to this segment on our interfaces."""
        links = self._links_now()
        leg = self._kernel.route(segment)
        if leg is None:
            return False
        return leg.link in links or any(self._kernel.route(segment, link) is not None for link in links)

    def look_again(self) -> None:
        """Clears the cache: routes or our interfaces have changed."""
        self._routes_changed = True
        self._changed.set()

    def _found(self, segment: IPv6Address) -> _Found:
        found = self._known.get(segment)
        if found is None or found.outdated:
            found = self._known[segment] = self._resolve(segment)
        return found

    def _resolve(self, segment: IPv6Address) -> _Found:
        leg = self._kernel.route(segment)
        if leg is None or leg.link not in self._links:
            # Not through other interfaces: the SIDs belong to the network of the agent's interfaces.
            legs = (self._kernel.route(segment, link) for link in self._links)
            leg = next((leg for leg in legs if leg is not None), None)
            if leg is None:
                return _Found(None)
        else:
            several = [other for other in self._kernel.legs(segment) if other.link in self._links]
            if len(several) > 1:
                return _Found(self._of_several([other.link for other in several]), several=True)
        neighbour = Neighbour(leg.link, leg.gateway or segment)
        found = self._neighbours.get(neighbour)
        if found is None:
            address = self._kernel.link_layer_address(neighbour)
            found = self._neighbours[neighbour] = _Found(NextHop(address or ASK, leg.link))
            if address is not None:
                self._sought.discard(neighbour)
            elif neighbour not in self._sought and len(self._sought) < _MOST_SOUGHT:
                self._sought.add(neighbour)
                self._kernel.look_for(neighbour)
        return found

    def _of_several(self, links: Sequence[int]) -> NextHop | None:
        """The next hop of a route to several routers on these links (ECMP)."""
        everywhere = set(links) >= set(self._links)
        if everywhere and len(set(links)) == len(links):
            # Uplinks with one router each: the kernel's choice of the link is correct.
            return None
        return NextHop(ASK, 0 if everywhere else links[0])

    def _hear(self) -> None:
        for news in self._kernel.news():
            if news is None or news.kind not in (NEWNEIGH, DELNEIGH):
                self.look_again()
            elif (told := read_neighbour(news.content)) is not None:
                if told.neighbour in self._neighbours:
                    self._hear_of(told.neighbour)
                if told.is_router:
                    # A neighbour without an entry counts as reachable.
                    self._hear_of_router(told.neighbour, news.kind == DELNEIGH or told.answers)

    def _hear_of_router(self, router: Neighbour, answers: bool | None) -> None:
        """Records whether a router answers: of equal routes, the kernel uses those with reachable routers."""
        if answers is not None and answers == (router in self._silent):
            (self._silent.discard if answers else self._silent.add)(router)
            self.look_again()

    def _hear_of(self, neighbour: Neighbour) -> None:
        """Whether a neighbour's address has changed: most notifications are about its state."""
        address, found = self._kernel.link_layer_address(neighbour), self._neighbours[neighbour]
        if address is not None:
            self._sought.discard(neighbour)
            if found.next_hop is not None and found.next_hop.link_layer == address:
                return
        # The kernel may select another router while this one is unreachable.
        found.outdated = True
        self.changes += 1
        del self._neighbours[neighbour]
        self._changed.set()

    async def settle(self, patience: float = 1.0) -> None:
        """Waits until `run` has resolved the current neighbours, or until the time is over.

        Until its address is known, large datagrams to a next hop can't be split (bpf/egress.h).
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._settled.wait()

    async def run(self, learning: bool) -> None:
        """Writes changes into the policies, in an endless loop.

        With `learning`, the data plane creates policies, too.
        """
        loop = asyncio.get_running_loop()
        loop.add_reader(self._kernel.fd, self._hear)
        # Also after a failure.
        self._changed.set()
        seen: object = None
        try:
            while True:
                if forgotten := self._routes_changed:
                    await asyncio.sleep(self._quiet)
                    self._forget()
                    self._rerouted()
                # Read first, so that paths learned by the data plane from now on count as changes.
                snapshot = self._table.snapshot() if learning else None
                if self._changed.is_set() or seen != snapshot:
                    self._changed.clear()
                    begun = time.monotonic()
                    await self._write()
                    seen = snapshot
                    if not self._sought:
                        self._settled.set()
                    if forgotten:
                        # If routes change all the time, other tasks get half of it.
                        self._quiet = max(_QUIET, time.monotonic() - begun)
                with suppress(TimeoutError):
                    # Not wait_for: on Python 3.11 it can swallow a cancellation.
                    async with asyncio.timeout(_LOOK if learning else None):
                        await self._changed.wait()
        finally:
            loop.remove_reader(self._kernel.fd)

    def _forget(self) -> None:
        self._links = ethernet_links(self._links_now())
        self.changes += 1
        self._known.clear()
        self._neighbours.clear()
        self._sought.clear()
        self._routes_changed = False

    async def _write(self) -> None:
        table, paths = self._table, 0
        end = time.monotonic() + SLICE
        for first in range(0, table.slots, _CHUNK):
            for slot, segment in table.segments(first, _CHUNK):
                paths += 1
                self._write_slot(slot, segment)
                if time.monotonic() > end:
                    await asyncio.sleep(0)
                    end = time.monotonic() + SLICE
            if time.monotonic() > end:
                await asyncio.sleep(0)
                end = time.monotonic() + SLICE
        if len(self._known) > 2 * paths + _AT_ONCE:
            # Most of them belong to paths that are no longer used.
            self._known.clear()
            self._neighbours.clear()
            self._changed.set()

    def _write_slot(self, slot: int, segment: IPv6Address) -> None:
        found, written = self._found(segment), self._table.value(slot)
        next_hop = found.of(self._table.encapsulates(slot))
        unknown = next_hop is None or next_hop.link_layer == ASK
        if written & CAME_FROM_THERE and unknown and not found.several:
            # For a learned path the origin of its packets is the best known next hop.
            return
        if pack(next_hop) != written:
            self._table.write(slot, pack(next_hop))
