"""Reloads of large files with real maps: the loop goes on, and what is refused changes nothing."""

from __future__ import annotations

import asyncio
import functools
import gc
import os
import struct
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from typing import Any

import pytest

from hawkwing import control
from hawkwing.agent import Agent
from hawkwing.client import Client
from hawkwing.dataplane.bpf import Map
from hawkwing.dataplane.encoding import policy_bytes, route_key
from hawkwing.dataplane.interfaces import Asked
from hawkwing.dataplane.layout import structures
from hawkwing.dataplane.loader import Capacities, Loading
from hawkwing.dataplane.plane import DEFAULT_SR_DOMAIN, DataPlane
from hawkwing.errors import ConfigError, DataplaneError, HawkwingError
from hawkwing.intents import PathQuery
from hawkwing.next_hops import NextHops
from hawkwing.plan import Options, make_plan
from hawkwing.room import Room
from hawkwing.tasks import in_thread
from lab.wait import patient

SOURCE, SMALL, OTHER = "fd00::1", IPv6Address("fd00::80"), IPv6Address("fd00::81")
SID = IPv6Address("fcbb:bb00:1::2")
_TRIES = 3
LONGEST_PAUSE = 0.05
"""Seconds that a reload may keep everything else waiting."""
HEAD = f"""client_ipv6_address: {SOURCE}
hawkeye: {{enabled: true, address: "::1", port: 1}}
services:
  small:
    ipv6_addresses: ["{SMALL}"]
    applications: [{{port: 80, sid: ["{SID}"], intents: [{{intent: low-jitter}}]}}]
"""


def address(number: int) -> IPv6Address:
    return IPv6Address((0x20010DB8 << 96) + number + 1)


def sid(number: int) -> IPv6Address:
    return IPv6Address((0xFCBBBB00 << 96) + (number << 16) + 3)


def large(addresses: int, services: int = 20, first: int = 0, lists: int = 20) -> str:
    """A file with so many addresses besides the small service's, all with intents."""
    lines = [HEAD]
    for number in range(services):
        mine = range(first + number, first + addresses, services)
        lines.append(f"  s{number}:\n    ipv6_addresses: [{', '.join(str(address(n)) for n in mine)}]\n")
        lines.append(f"    applications: [{{port: 80, sid: ['{sid(number % lists)}'],")
        lines.append(" intents: [{intent: low-latency}]}]\n")
    return "".join(lines)


class Running:
    """A client's agent without interfaces: everything behind its control socket, over real maps."""

    def __init__(self, folder: Path, text: str, capacities: Capacities | None = None) -> None:
        self.file = folder / "hawk.yaml"
        self.file.write_text(text)
        options = Options("client", [Asked("lo", "lo")], self.file)
        plan = make_plan(options)
        loading = Loading("client", Capacities())
        capacities = capacities or Capacities().with_room_for(plan.needs)
        self.plane = DataPlane("client", loading.result(capacities=capacities))
        self.agent = Agent(options, plan, loading)
        self.client = Client(self.plane, "lo", self.agent._tasks)
        self.agent._plane, self.agent._client = self.plane, self.client
        self.client.begin(plan)

    def entries(self) -> tuple[int, int]:
        """How many services and routes the maps hold."""
        return tuple(sum(1 for _ in self.plane.maps[name].each_key()) for name in ("services", "routes"))  # type: ignore[return-value]

    def path(self, destination: IPv6Address, port: int = 80) -> IPv6Address | None:
        """The first SID of what packets there get."""
        service = self.plane.maps["services"].get(destination.packed)
        if service is None:
            return None
        slot = self.plane.maps["routes"].get(route_key(struct.unpack_from("=I", service)[0], port, 17))
        policy = self.plane.maps["policies"].get(slot) if slot else None
        return IPv6Address(policy[8:24]) if policy else None

    async def reload(self, text: str) -> str:
        self.file.write_text(text)
        return await self.agent._reload({})

    def run(self, work: Callable[[], Awaitable[Any]]) -> Any:
        async def main() -> Any:
            try:
                return await work()
            finally:
                await self.agent._tasks.close()

        return asyncio.run(main())

    def close(self) -> None:
        for table in self.plane.maps.values():
            table.close()


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Running]]:
    """`running(text)` is an agent with this configuration; see `Running`."""
    if os.geteuid() != 0:
        pytest.skip("loading BPF programs needs root")
    monkeypatch.setenv("HAWKWING_RUN", str(tmp_path / "run"))
    made: list[Running] = []

    def make(text: str, capacities: Capacities | None = None) -> Running:
        made.append(Running(tmp_path, text, capacities))
        return made[-1]

    yield make
    for one in made:
        one.close()
    gc.unfreeze()


async def pauses(work: Awaitable[object]) -> list[float]:
    """How long this process kept a task of the loop waiting while this was at work, the longest first.

    What others took of the processors meanwhile does not count.
    """
    found: list[float] = []

    async def probe() -> None:
        while True:
            begun, worked = time.monotonic(), time.process_time()
            await asyncio.sleep(0.001)
            found.append(min(time.monotonic() - begun - 0.001, time.process_time() - worked))

    task = asyncio.create_task(probe())
    await asyncio.sleep(0.01)
    try:
        await work
        # Its last turn counts, too.
        await asyncio.sleep(0.01)
    finally:
        task.cancel()
    return sorted(found, reverse=True)


@pytest.mark.parametrize(("before", "after"), [(0, 20_000), (20_000, 0), (20_000, 20_000)])
def test_a_reload_of_20000_addresses_keeps_nobody_waiting(
    running: Callable[..., Running], before: int, after: int
) -> None:
    texts = [large(count, first=first) if count else HEAD for count, first in ((before, 0), (after, 10_000))]
    agent = running(texts[0], Capacities(services=65536, routes=262144))

    async def work() -> list[float]:
        await agent.client._start_stream()
        await asyncio.sleep(0.1)
        found = await pauses(agent.reload(texts[1]))
        for _ in range(_TRIES - 1):
            # Others may have used the machine.
            if found[0] >= patient(LONGEST_PAUSE):
                await agent.reload(texts[0])
                found = await pauses(agent.reload(texts[1]))
        return found

    found = agent.run(work)
    assert agent.entries() == (after + 1, 2 * (after + 1))
    assert agent.path(SMALL) == SID
    assert len(agent.client.steering.queries()) == after + 1
    assert found[0] < patient(LONGEST_PAUSE), [round(pause, 3) for pause in found[:8]]


def test_many_signals_are_few_reloads(running: Callable[..., Running]) -> None:
    """The last of them counts: the file is read after it has come."""
    agent = running(HEAD)

    async def work() -> None:
        agent.file.write_text(large(10))
        for _ in range(30):
            agent.agent._reload_soon()
            await asyncio.sleep(0)
        agent.file.write_text(large(20))
        agent.agent._reload_soon()
        end = time.monotonic() + patient(10)
        while agent.entries()[0] != 21:
            assert time.monotonic() < end, agent.entries()
            await asyncio.sleep(0.01)
        await agent.agent._reload({})

    agent.run(work)
    assert agent.agent._reloads["good"] <= 4


def test_the_status_of_20000_addresses_keeps_nobody_waiting(
    running: Callable[..., Running], tmp_path: Path
) -> None:
    agent = running(large(20_000))
    path = tmp_path / "agent.sock"
    script = "import sys; from pathlib import Path; from hawkwing.control import ask; "
    script += "print(len(ask(Path(sys.argv[1]), {'ask': 'status'})['bindings']))"
    command = [sys.executable, "-c", script, str(path)]
    told: list[str] = []

    async def ask() -> None:
        # Another process: reading it would keep this one busy.
        told.append(await in_thread(lambda: subprocess.run(command, capture_output=True, text=True).stdout))

    async def work() -> list[float]:
        server = control.ControlServer(path, {"status": agent.agent._status})
        await server.start()
        found = [await pauses(ask()) for _ in range(_TRIES)]
        server.close()
        return min(found)

    found = agent.run(work)
    assert told == ["20001\n"] * _TRIES
    assert found[0] < patient(LONGEST_PAUSE), [round(pause, 3) for pause in found[:8]]


def test_the_status_of_a_full_server_keeps_nobody_waiting() -> None:
    """Metrics ask for it all the time."""
    if os.geteuid() != 0:
        pytest.skip("loading BPF programs needs root")
    options = Options("server", [Asked("lo", "lo")], None)
    loading = Loading("server", Capacities())
    agent = Agent(options, make_plan(options), loading)
    agent._plane = plane = DataPlane("server", loading.result())
    at = structures()["policy"].srh.offset
    slots = range(1, plane.maps["policies"].info.max_entries)
    for slot in slots:
        policy = policy_bytes([sid(slot), SID])
        plane.maps["policies"].set(struct.pack("=I", slot), policy)
        plane.maps["paths"].set(policy[at : at + 264], struct.pack("=I", slot))
    told: list[int] = []

    async def ask() -> None:
        told.append(len((await agent._status({}))["paths"]))

    async def work() -> list[float]:
        return min([await pauses(ask()) for _ in range(_TRIES)])

    found = asyncio.run(work())
    assert told == [len(slots)] * _TRIES
    assert found[0] < patient(LONGEST_PAUSE), [round(pause, 3) for pause in found[:8]]
    for table in plane.maps.values():
        table.close()


def test_different_first_segments_keep_nobody_waiting(running: Callable[..., Running]) -> None:
    """For each the kernel is asked for its next hop."""
    agent = running(HEAD, Capacities(policies=32768, services=65536, routes=262144))
    next_hops = NextHops(lambda: [1], agent.plane.next_hops)
    agent.plane.next_hop_of = next_hops.of

    async def work() -> list[float]:
        task = asyncio.create_task(next_hops.run(learning=False))
        found = []
        for first in range(_TRIES):
            found.append(await pauses(agent.reload(large(3_000, services=3_000, first=first, lists=3_000))))
            await agent.reload(HEAD)
        task.cancel()
        return min(found)

    found = agent.run(work)
    next_hops.close()
    assert found[0] < patient(LONGEST_PAUSE), [round(pause, 3) for pause in found[:8]]


def test_a_path_of_the_controller_comes_through_during_a_reload(running: Callable[..., Running]) -> None:
    agent = running(HEAD, Capacities(services=65536, routes=262144))
    query: PathQuery = agent.client.steering.queries()[0]
    number = 0

    async def push() -> None:
        nonlocal number
        while True:
            number += 1
            await asyncio.sleep(0.005)
            agent.client.steering.set_controller_path(query, (sid(number),))
            assert agent.path(SMALL) == sid(number)

    async def work() -> list[float]:
        pushing = asyncio.create_task(push())
        found = await pauses(agent.reload(large(20_000)))
        pushing.cancel()
        return found

    found = agent.run(work)
    assert number > 20 and found[0] < patient(LONGEST_PAUSE)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            large(17_000, services=2),
            "{file}:11: services.s1.ipv6_addresses: the file has 17,001 IPv6 addresses, "
            "the running agent has room for 16,384: restart it to get larger tables",
        ),
        (
            HEAD
            + "  many:\n    ipv6_addresses: ['fd00::99']\n    applications:\n"
            + "".join(f"      - {{port: {n + 1}, sid: [{SID}]}}\n" for n in range(40_000)),
            "{file}:9: services.many.applications: the file has 40,001 applications at addresses and names, "
            "the running agent has room for 32,768: restart it to get larger tables",
        ),
        (
            HEAD
            + "  many:\n    ipv6_addresses: ['fd00::99']\n    applications:\n"
            + "".join(f"      - {{port: {n + 1}, sid: [{sid(n)}]}}\n" for n in range(5_000)),
            "{file}:4104: services.many.applications[4094].sid: the file has 5,001 different segment lists, "
            "the running agent has room for 4,095: restart it to get larger tables",
        ),
        (
            "sr_domain: [" + ", ".join(f"fc0{n}::/16" for n in range(9)) + "]\n" + HEAD,
            "{file}:1: sr_domain: has 9 prefixes, at most 8 are possible",
        ),
    ],
    ids=["addresses", "applications", "lists", "prefixes"],
)
def test_what_is_refused_is_one_sentence_and_changes_nothing(
    running: Callable[..., Running], text: str, sentence: str
) -> None:
    agent = running(HEAD)
    before = agent.entries(), agent.client.steering.queries(), agent.plane.sr_domain

    async def work() -> list[str]:
        await agent.client._start_stream()
        stream = agent.client._stream
        with pytest.raises(ConfigError) as caught:
            await agent.reload(text)
        assert agent.client._stream is stream
        return caught.value.problems

    assert agent.run(work) == [sentence.format(file=agent.file)]
    assert (agent.entries(), agent.client.steering.queries(), agent.plane.sr_domain) == before
    assert agent.path(SMALL) == SID


def test_a_reload_of_labels_writes_no_map(
    running: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The names are shown at once; the control is a reload with another segment list."""
    agent = running(HEAD)
    written: list[str] = []
    for name in ("set", "delete", "push"):
        real = getattr(Map, name)

        def note(table: Map, *words: Any, name: str = name, real: Callable[..., Any] = real) -> Any:
            written.append(name)
            return real(table, *words)

        monkeypatch.setattr(Map, name, note)

    def explained() -> str:
        return agent.client.explain({"destination": str(SMALL), "port": 80})

    async def work() -> None:
        assert f"use {SID}: " in explained()
        for names, shown in (
            (f"labels: {{'{SID}': r1}}\n", "r1"),
            (f"labels: {{'{SID}': r2}}\n", "r2"),
            ("", SID),
        ):
            await agent.reload(HEAD + names)
            assert f"use {shown}: " in explained()
        assert written == []
        await agent.reload(HEAD.replace(str(SID), str(sid(7))))
        assert "set" in written

    agent.run(work)


def test_a_reload_changes_the_sr_domain(running: Callable[..., Running]) -> None:
    agent = running(HEAD)
    assert agent.plane.sr_domain is None
    for prefixes in (["fcbb::/16"], ["fd00::/16", "2001:db8::/32"], []):
        text = f"sr_domain: {prefixes}\n" + HEAD
        assert agent.run(functools.partial(agent.reload, text)) == "configuration reloaded"
        settings = structures()["settings"].from_buffer_copy(
            agent.plane.maps["settings"].get(bytes(4)) or b""
        )
        listed = [bytes(entry.network) for entry in settings.sr_domain[: settings.prefixes]]
        wanted = [IPv6Network(prefix) for prefix in prefixes] or DEFAULT_SR_DOMAIN
        assert listed == [prefix.network_address.packed for prefix in wanted]
        assert settings.sids_only == (not prefixes)


def test_a_reload_with_unreadable_tls_files_is_refused(
    running: Callable[..., Running], tmp_path: Path
) -> None:
    agent = running(HEAD)
    stream: list[object] = []

    async def work() -> None:
        await agent.client._start_stream()
        stream.append(agent.client._stream)
        text = HEAD.replace("port: 1}", f"port: 1, tls: {{ca: {tmp_path}/none.pem}}}}")
        with pytest.raises(
            HawkwingError, match=r"hawkeye\.tls\.ca: .*/none\.pem can't be read: No such file"
        ):
            await agent.reload(text)
        (tmp_path / "none.pem").write_text("not a certificate")
        with pytest.raises(HawkwingError, match=r"none\.pem has no certificate in PEM form"):
            await agent.reload(text)
        assert agent.client._stream is stream[0], "the stream goes on as it was"

    agent.run(work)
    assert agent.agent._reloads == {"good": 0, "refused": 2}


def test_what_the_kernel_refuses_in_the_middle_is_taken_back(running: Callable[..., Running]) -> None:
    agent = running(HEAD)
    real, left = agent.plane.add_service, [100]

    def add_service(destination: IPv6Address, group: int) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise OSError(12, "Cannot allocate memory")
        real(destination, group)

    agent.plane.add_service = add_service  # type: ignore[method-assign]
    before = agent.entries()

    async def work() -> None:
        with pytest.raises(DataplaneError, match="refuse the change: Cannot allocate memory"):
            await agent.reload("sr_domain: [fcbb::/16, fd00::/16, '2001:db8::/32']\n" + large(200))

    agent.run(work)
    assert agent.entries() == before and agent.path(SMALL) == SID
    assert agent.plane.sr_domain is None
    assert len(agent.client.steering.queries()) == 1
    # And it goes on from there.
    agent.run(lambda: agent.reload(large(50)))
    assert agent.entries()[0] == 51


def test_100000_addresses_and_65000_lists_load(tmp_path: Path, running: Callable[..., Running]) -> None:
    lists = "".join(f"      - {{port: {n + 1}, sid: [{sid(n + 100)}]}}\n" for n in range(65_000))
    text = large(100_000).replace("enabled: true", "enabled: false")
    agent = running(f"{text}  lists:\n    ipv6_addresses: ['{OTHER}']\n    applications:\n{lists}")
    assert agent.plane.maps["services"].info.max_entries >= 100_000
    assert agent.path(address(99_999)) is not None
    assert agent.path(OTHER, 65_000) == sid(65_099)
    assert len(agent.client.steering.lists_in_use()) == 65_021


def test_so_many_interfaces_with_hmac_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"eth{number}" for number in range(5)]
    monkeypatch.setattr("hawkwing.plan.requiring_hmac", lambda _names: names)
    file = tmp_path / "hawk.yaml"
    file.write_text(HEAD)
    with pytest.raises(DataplaneError, match="seg6_require_hmac is set on 5 of the interfaces, at most 4"):
        make_plan(Options("client", [Asked(name, name) for name in names], file))


def test_so_many_prefixes_on_the_command_line_are_refused(tmp_path: Path) -> None:
    from ipaddress import IPv6Network

    prefixes = tuple(IPv6Network(f"fc0{number}::/16") for number in range(9))
    with pytest.raises(HawkwingError, match="--sr-domain is given 9 times, at most 8 prefixes are possible"):
        make_plan(Options("server", [Asked("lo", "lo")], None, sr_domain=prefixes))


def test_more_addresses_of_the_host_than_there_is_room_for(
    running: Callable[..., Running], caplog: pytest.LogCaptureFixture
) -> None:
    """Those that are left out get their place when others go; a start makes room for all."""
    agent = running(HEAD, Capacities(local_addresses=2))
    table = agent.plane.maps["local_addresses"]
    all_of_them = {address(number) for number in range(4)}
    agent.plane.set_local_addresses(all_of_them)
    agent.plane.set_local_addresses(all_of_them)
    (message,) = caplog.messages
    assert message.startswith(
        "this host has 2 more addresses than the 2 that the table can hold: their packets"
    )
    kept = {IPv6Address(key) for key in table.each_key()}
    assert len(kept) == 2
    agent.plane.set_local_addresses(all_of_them - kept)
    assert {IPv6Address(key) for key in table.each_key()} == all_of_them - kept
    assert Capacities().with_room_for(Room(), 3000).local_addresses >= 6000


def test_reloads_leave_no_garbage(running: Callable[..., Running]) -> None:
    """What is left out of the search for garbage may not become garbage."""
    agent = running(HEAD)

    async def work() -> None:
        for number in range(3):
            await agent.reload(large(300, first=number * 100))
            with pytest.raises(ConfigError):
                await agent.reload("services: {}\n")

    agent.run(work)
    gc.unfreeze()
    gc.collect()
    gc.disable()
    try:
        agent.run(work)
        gc.unfreeze()
        found = gc.collect()
    finally:
        gc.enable()
    assert found < 30, f"{found} objects of three reloads were garbage"
