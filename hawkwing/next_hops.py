"""Keeps the next hops of first segments as the kernel's routes and neighbours have them.

The kernel chooses the next hop of a packet by its destination, before the packet gets its SRH. If the first
segment has another one, the data plane sends the packet there (bpf/next_hop.h). It compares link-layer
addresses, so that packets need no second look-up where both are the same.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from ipaddress import IPv6Address

from hawkwing import netlink
from hawkwing.dataplane.interfaces import ethernet_links
from hawkwing.dataplane.next_hop import ASK, CAME_FROM_THERE, NextHop, PolicyNextHops, pack

_AT_ONCE = 1024
_CHUNK = 256
_QUIET = 0.1
"""Seconds that changes are collected for."""
_LOOK = 1.0
"""Seconds between looks at what the data plane has learned."""


class NextHops:
    """Answers from memory, until a route, a neighbour or an interface changes."""

    def __init__(self, interfaces: Callable[[], Sequence[str]], table: PolicyNextHops) -> None:
        """`interfaces` tells the names at present."""
        self._interfaces = interfaces
        self._table = table
        self._kernel = netlink.Netlink(netlink.LINK | netlink.NEIGHBOUR | netlink.IPV6_ROUTE)
        self._known: dict[IPv6Address, NextHop | None] = {}
        self._neighbours: dict[netlink.Neighbour, set[IPv6Address]] = {}
        self._links = ethernet_links(interfaces())
        self._sought: set[netlink.Neighbour] = set()
        self._changed = asyncio.Event()
        self._routes_changed = False

    def close(self) -> None:
        """Lets go of its sockets."""
        self._kernel.close()

    def of(self, segment: IPv6Address) -> NextHop | None:
        """Of a packet to this segment on our interfaces; None: it has no route there."""
        if segment not in self._known:
            if len(self._known) >= _AT_ONCE:
                # `run` will write it.
                self._changed.set()
                return None
            self._known[segment] = self._resolve(segment)
        return self._known[segment]

    def _resolve(self, segment: IPv6Address) -> NextHop | None:
        leg = self._kernel.route(segment)
        if leg is None or leg.link not in self._links:
            # Not through another interface: where the user has HawkWing, the network knows the SIDs.
            found = (self._kernel.route(segment, link) for link in self._links)
            leg = next((leg for leg in found if leg is not None), None)
            if leg is None:
                return None
        else:
            several = [other for other in self._kernel.legs(segment) if other.link in self._links]
            if len(several) > 1:
                everywhere = {other.link for other in several} >= set(self._links)
                return NextHop(ASK, 0 if everywhere else several[0].link)
        neighbour = netlink.Neighbour(leg.link, leg.gateway or segment)
        self._neighbours.setdefault(neighbour, set()).add(segment)
        address = self._kernel.link_layer_address(neighbour)
        if address is None and neighbour not in self._sought:
            self._sought.add(neighbour)
            self._kernel.look_for(neighbour)
        elif address is not None:
            self._sought.discard(neighbour)
        return NextHop(address or ASK, leg.link)

    def _hear(self) -> None:
        for news in self._kernel.news():
            if news is None or news[0] not in (netlink.NEWNEIGH, netlink.DELNEIGH):
                self._routes_changed = True
                self._changed.set()
                continue
            neighbour = netlink.read_neighbour(news[1])
            for segment in self._neighbours.pop(neighbour, ()) if neighbour else ():
                self._known[segment] = self._resolve(segment)
                self._changed.set()

    async def settle(self, patience: float = 1.0) -> None:
        """Waits until the neighbours at hand are known, or so many seconds have passed.

        Until its address is known, large datagrams to a next hop can't be split (bpf/egress.h).
        """
        end = time.monotonic() + patience
        self._hear()
        while self._sought and time.monotonic() < end:
            await asyncio.sleep(0.005)
            self._hear()
        await self._write()

    async def run(self, learning: bool) -> None:
        """Writes what has changed into the policies; for ever.

        While `learning`, the data plane makes policies, too.
        """
        loop = asyncio.get_running_loop()
        loop.add_reader(self._kernel.fd, self._hear)
        seen: object = None
        try:
            while True:
                if self._routes_changed:
                    await asyncio.sleep(_QUIET)
                    self._forget()
                if self._changed.is_set() or seen != self._table.snapshot():
                    self._changed.clear()
                    await self._write()
                    seen = self._table.snapshot()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), _LOOK if learning else None)
        finally:
            loop.remove_reader(self._kernel.fd)

    def _forget(self) -> None:
        self._routes_changed = False
        self._links = ethernet_links(self._interfaces())
        self._known.clear()
        self._neighbours.clear()
        self._sought.clear()

    async def _write(self) -> None:
        table = self._table
        for first in range(0, table.slots, _CHUNK):
            for slot, segment in table.segments(first, _CHUNK):
                if segment not in self._known:
                    self._known[segment] = self._resolve(segment)
                next_hop, written = self._known[segment], table.value(slot)
                if written & CAME_FROM_THERE and (next_hop is None or next_hop.link_layer == ASK):
                    # No better is known for a learned path than where its packets come from.
                    continue
                if pack(next_hop) != written:
                    table.write(slot, pack(next_hop))
            await asyncio.sleep(0)
