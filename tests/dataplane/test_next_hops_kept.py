"""The agent's part of next hops: the kernel's routes and neighbours, followed into a policy table."""

import asyncio
import json
import socket
import struct
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv6Address
from pathlib import Path

import pytest

from hawkwing.dataplane import bpf
from hawkwing.dataplane.bpf import Map
from hawkwing.dataplane.encoding import policy_bytes
from hawkwing.dataplane.next_hop import ASK, CAME_FROM_THERE, NextHop, PolicyNextHops, pack
from hawkwing.next_hops import NextHops
from hawkwing.sids import Encapsulated, SidList
from lab.wait import patient, wait_until
from tests.dataplane.bench import Bench, Namespace

ROUTER = "fd00:1::1"
BEFORE, AFTER = "02:00:00:00:aa:01", "02:00:00:00:aa:02"


def segment(number: int) -> IPv6Address:
    """All of them are behind the router."""
    return IPv6Address("fd00:50::") + number


def mac(text: str) -> bytes:
    """As in a frame."""
    return bytes.fromhex(text.replace(":", ""))


@dataclass
class Kept:
    """A policy table, and a namespace with a router on its one link."""

    namespace: Namespace
    map: Map
    table: PolicyNextHops

    @staticmethod
    def shell_here(*commands: str) -> None:
        """Runs commands; for the namespace's own thread."""
        subprocess.run(["sh", "-ec", "\n".join(commands)], check=True)

    def shell(self, *commands: str) -> None:
        """Runs commands in the namespace."""
        self.namespace.do(lambda: self.shell_here(*commands))

    @staticmethod
    def neighbours() -> int:
        """How many the kernel knows or looks for; for the namespace's own thread."""
        told = subprocess.run(["ip", "-6", "neigh"], check=True, capture_output=True, text=True).stdout
        return len(told.splitlines())

    def put(self, slot: int, first: IPv6Address, flags: int = 0, encapsulates: bool = False) -> None:
        """A path over this first segment."""
        sids: SidList = Encapsulated([first]) if encapsulates else (first,)
        self.map.set(struct.pack("=I", slot), policy_bytes(sids, source=segment(0)))
        if flags:
            self.table.write(slot, flags)

    def to(self, link_layer: str) -> int:
        """What the data plane finds in a policy."""
        return pack(NextHop(mac(link_layer), self.namespace.port))

    def run(self, work: Callable[[NextHops], Awaitable[None]], table: PolicyNextHops | None = None) -> None:
        """Has `work` done while next hops are looked after."""

        async def main() -> None:
            kept = NextHops(lambda: [self.namespace.port], table or self.table)
            task = asyncio.create_task(kept.run(learning=table is not None))
            try:
                await work(kept)
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                kept.close()

        self.namespace.do(lambda: asyncio.run(main()))

    async def until(self, reached: Callable[[], bool], what: str) -> None:
        """Fails where it takes too long."""
        end = time.monotonic() + patient(60)
        while not reached():
            assert time.monotonic() < end, what
            await asyncio.sleep(0.01)


def links_are_up() -> bool:
    """Does the kernel say so?"""
    told = subprocess.run(["ip", "-j", "link"], check=True, capture_output=True, text=True).stdout
    return all(one["operstate"] == "UP" for one in json.loads(told) if one["ifname"] in ("port", "wire"))


@pytest.fixture
def kept(benches: dict[str, Bench]) -> Iterator[Kept]:
    """With a table as a client has it."""
    namespace = Namespace()
    policies = Map(bpf.create_map(benches["client"].plane.maps["policies"].info))
    table = PolicyNextHops(policies)

    def enable() -> None:
        # No address comes by itself, and with it changes of routes.
        for setting, value in (("addr_gen_mode", "1"), ("accept_dad", "0"), ("disable_ipv6", "0")):
            Path("/proc/sys/net/ipv6/conf/port", setting).write_text(value)

    namespace.do(enable)
    made = Kept(namespace, policies, table)
    made.shell(
        "ip address add fd00:1::a/64 dev port nodad",
        f"ip neigh replace {ROUTER} lladdr {BEFORE} dev port nud permanent",
        f"ip route add fd00:50::/64 via {ROUTER}",
    )
    # The kernel tells of it a while after the link was set up.
    wait_until(lambda: namespace.do(links_are_up), 10, "the links are up")
    yield made
    table.close()
    policies.close()
    namespace.close()


def test_what_changes_routes_is_told(kept: Kept) -> None:
    """Routes, rules, and a router that does not answer any more; not the ordinary states of a neighbour."""
    router = f"ip neigh replace {ROUTER} lladdr {BEFORE} dev port router nud"
    told: list[int] = []

    async def main() -> None:
        next_hops = NextHops(lambda: [kept.namespace.port], kept.table, lambda: told.append(1))
        task = asyncio.create_task(next_hops.run(learning=False))
        await next_hops.settle()
        for command, news in (
            ("ip -6 route add fd00:51::/64 dev port", True),
            ("ip -6 rule add to fd00:52::/64 priority 9 lookup 77", True),
            (f"{router} reachable", False),
            (f"{router} stale", False),
            (f"{router} incomplete", False),
            (f"{router} failed", True),
            (f"{router} incomplete", False),
            (f"{router} failed", False),
            (f"{router} reachable", True),
            (f"{router} stale", False),
        ):
            told.clear()
            kept.shell_here(command)
            if news:
                await kept.until(lambda: bool(told), command)
            await asyncio.sleep(0.3)
            assert bool(told) == news, command
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        next_hops.close()

    kept.namespace.do(lambda: asyncio.run(main()))


async def longest_turn(work: Awaitable[None]) -> float:
    """The most time of this processor that the event loop was busy without a turn for others."""
    task = asyncio.ensure_future(work)
    longest, before = 0.0, time.thread_time()
    while not task.done():
        await asyncio.sleep(0)
        now = time.thread_time()
        longest, before = max(longest, now - before), now
    await task
    return longest


@pytest.mark.measures_time
def test_many_segments_behind_a_router_whose_address_changes(kept: Kept) -> None:
    """However many they are, others have their turns meanwhile."""
    slots = range(1, 3001)
    for slot in slots:
        kept.put(slot, segment(slot))

    async def work(_next_hops: NextHops) -> None:
        async def changes() -> None:
            for address in (BEFORE, AFTER):
                kept.shell_here(f"ip neigh replace {ROUTER} lladdr {address} dev port nud permanent")
                await kept.until(
                    lambda address=address: all(kept.table.value(slot) == kept.to(address) for slot in slots),  # type: ignore[misc]
                    f"all policies lead to {address}",
                )

        assert await longest_turn(changes()) < patient(0.05)

    kept.run(work)


def test_a_state_of_the_neighbour_changes_nothing(kept: Kept) -> None:
    """The kernel tells of it twice a minute: nothing is looked up again for it."""
    kept.put(1, segment(1))

    async def work(next_hops: NextHops) -> None:
        await kept.until(lambda: kept.table.value(1) == kept.to(BEFORE), "the next hop is written")
        kept.table.write(1, 7)
        for state in ("stale", "reachable", "stale"):
            kept.shell_here(f"ip neigh replace {ROUTER} lladdr {BEFORE} dev port nud {state}")
        await asyncio.sleep(0.05)
        next_hops._hear()
        assert kept.table.value(1) == 7 and not next_hops._changed.is_set()

    kept.run(work)


def test_what_is_learned_while_others_are_written(kept: Kept) -> None:
    """A path in a slot that was just passed is found with the next look."""

    class Learning(PolicyNextHops):
        learning = False

        def segments(self, first: int, count: int) -> Iterator[tuple[int, IPv6Address]]:
            yield from super().segments(first, count)
            if first + count >= self.slots and self.learning:
                self.learning = False
                kept.put(1, segment(1), kept.to(AFTER) | CAME_FROM_THERE)

    table = Learning(kept.map)

    async def work(_next_hops: NextHops) -> None:
        kept.put(2, segment(2), kept.to(AFTER) | CAME_FROM_THERE)
        await kept.until(lambda: table.value(2) == kept.to(BEFORE), "the route is found for a learned path")
        # The look after a change of its own finds nothing more.
        await asyncio.sleep(2.5)
        table.learning = True
        kept.put(3, segment(3), kept.to(AFTER) | CAME_FROM_THERE)
        await kept.until(lambda: table.value(1) == kept.to(BEFORE), "the same for the other one")

    try:
        kept.run(work, table)
    finally:
        table.close()


def test_ever_new_segments(kept: Kept) -> None:
    """Those that no path has any more are forgotten."""

    async def work(next_hops: NextHops) -> None:
        for number in range(20):
            for slot in range(1, 301):
                kept.put(slot, segment(number * 300 + slot))
            await next_hops._write()
            assert all(kept.table.value(slot) == kept.to(BEFORE) for slot in range(1, 301))
        assert len(next_hops._known) < 3 * 300 + 1024

    kept.run(work)


def test_a_neighbour_that_changes_after_much_was_forgotten(kept: Kept) -> None:
    async def work(next_hops: NextHops) -> None:
        for number in range(6):
            for slot in range(1, 301):
                kept.put(slot, segment(number * 300 + slot))
            await next_hops._write()
        kept.shell_here(f"ip neigh replace {ROUTER} lladdr {AFTER} dev port nud permanent")
        await kept.until(lambda: kept.table.value(7) == kept.to(AFTER), "the new address is written")

    kept.run(work)


def test_an_interface_that_is_one_of_ours_later(kept: Kept) -> None:
    """Whoever looks after the interfaces tells of it: the kernel has done so before."""
    kept.put(1, segment(1))

    async def main() -> None:
        links: list[int] = []
        next_hops = NextHops(lambda: links, kept.table)
        task = asyncio.create_task(next_hops.run(learning=False))
        await next_hops.settle()
        assert kept.table.value(1) == 0
        links.append(kept.namespace.port)
        next_hops.look_again()
        await kept.until(lambda: kept.table.value(1) == kept.to(BEFORE), "its routes count")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        next_hops.close()

    kept.namespace.do(lambda: asyncio.run(main()))


def test_of_equal_routes_the_kernel_chooses_again_for_what_is_encapsulated(kept: Kept) -> None:
    """It has chosen an interface for the inner packet: that says nothing of the router there."""
    kept.put(1, segment(1))
    kept.put(2, segment(1), encapsulates=True)
    kept.shell(
        "ip link add second type veth peer name far",
        "ip link set second addrgenmode none",
        "echo 0 > /proc/sys/net/ipv6/conf/second/disable_ipv6",
        "ip link set second up; ip link set far up",
        "ip address add fd00:2::a/64 dev second nodad",
        f"ip neigh replace fd00:2::1 lladdr {AFTER} dev second nud permanent",
        f"ip route replace fd00:50::/64 nexthop via {ROUTER} dev port nexthop via fd00:2::1 dev second",
    )

    async def main() -> None:
        links = [kept.namespace.port, socket.if_nametoindex("second")]
        next_hops = NextHops(lambda: links, kept.table)
        task = asyncio.create_task(next_hops.run(learning=False))
        await next_hops.settle()
        asked = NextHop(ASK, 0)
        assert [kept.table.value(slot) for slot in (1, 2)] == [0, pack(asked)]
        assert [next_hops.of(segment(1), encapsulated) for encapsulated in (False, True)] == [None, asked]
        # The control: with one route both have its router.
        kept.shell_here("ip link del second", f"ip route replace fd00:50::/64 via {ROUTER}")
        for slot in (1, 2):
            await kept.until(lambda slot=slot: kept.table.value(slot) == kept.to(BEFORE), "one router")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        next_hops.close()

    kept.namespace.do(lambda: asyncio.run(main()))


def test_more_silent_neighbours_than_the_kernel_has_room_for(kept: Kept) -> None:
    """They are not all looked for at once."""
    for slot in range(1, 1001):
        kept.put(slot, IPv6Address("fd00:1::1:0") + slot)

    async def work(next_hops: NextHops) -> None:
        await kept.until(lambda: kept.table.value(1000) == pack(NextHop(ASK, kept.namespace.port)), "all")
        assert len(next_hops._sought) <= 256
        assert 0 < kept.neighbours() <= 300

    kept.run(work)
