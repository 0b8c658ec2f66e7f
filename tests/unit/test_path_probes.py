"""Which paths are probed, from which address, and what is said of those that can't be."""

import asyncio
import logging
import struct
import threading
import time
from collections.abc import Callable
from ipaddress import IPv6Address, IPv6Network
from typing import Any, cast

import pytest
from scapy.contrib.stamp import STAMPSessionSenderTestUnauthenticated

from hawkwing.csid import Block
from hawkwing.dataplane.plane import DataPlane
from hawkwing.path_probes import PathProber
from hawkwing.probe_sending import ProbedPath
from hawkwing.sids import SidList
from hawkwing.srh_hmac import Key
from hawkwing.steering import Steering
from lab.wait import PATIENCE

LOOPBACK = IPv6Address("::1")
A, B = ((IPv6Address(f"fcbb:bb00:{number}::2"),) for number in (1, 2))
LINK = (IPv6Address("fcbb:bb00:e001::"),)
BLOCK = Block(IPv6Network("fcbb:bb00::/32"))


class Plane:
    """What is told to the programs."""

    csid = (BLOCK,)
    hmac: tuple[Key, ...] = ()

    def __init__(self) -> None:
        self.told: list[tuple[int, int, int, int]] = []
        self.probed: list[tuple[int, bool]] = []
        self.ports: list[int] = []
        self.pause_at = self.fails_at = -1

    def set_stamp_port(self, port: int) -> None:
        if self.ports[-1:] != [port]:
            self.ports.append(port)

    def set_prober(self, *values: int) -> None:
        if any(values) and len(self.told) == self.pause_at:
            time.sleep(0.1)
        if any(values) and len(self.told) == self.fails_at:
            raise OSError("no such map")
        self.told.append(cast(Any, values))

    def set_probed(self, slot: int, probed: bool) -> None:
        self.probed.append((slot, probed))


class Paths:
    """The paths to probe, with their slots."""

    def __init__(self, **slots: int) -> None:
        self.selection_changes = 0
        self.slots: dict[SidList, int] = {}
        self.destinations: dict[SidList, IPv6Address] = {}
        self.asked = 0

    def set(self, slots: dict[SidList, int]) -> None:
        self.slots = slots
        self.selection_changes += 1

    def probed_lists(self) -> dict[SidList, int]:
        return self.slots

    def list_destinations(self) -> dict[SidList, IPv6Address]:
        self.asked += 1
        return self.destinations

    def knows(self, address: IPv6Address) -> bool:
        return address in self.destinations.values()


def prober(
    plane: Plane, paths: Paths, source: Callable[[IPv6Address], IPv6Address | None] = lambda _sid: LOOPBACK
) -> PathProber:
    return PathProber(cast(DataPlane, plane), cast(Steering, paths), source)


def run(made: PathProber, until: Callable[[], bool], interval: int = 10) -> None:
    """Runs it until this is so."""

    async def main() -> None:
        task = asyncio.create_task(made.run(interval))
        async with asyncio.timeout(PATIENCE):
            while not until():  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())
    assert not probe_threads()


def test_the_programs_know_when_it_sent_last_and_since_when() -> None:
    plane, paths = Plane(), Paths()
    paths.set({A: 1, B: 2})
    made = prober(plane, paths)
    begun = time.monotonic_ns()
    run(made, lambda: len(plane.told) >= 5)
    keys = {key for key, *_rest in plane.told[:-1]}
    assert len(keys) == 1 and keys != {0}
    for _key, beat, since, silence in plane.told[:-1]:
        assert begun <= since <= beat <= time.monotonic_ns() and silence == 30_000_000
    # Nothing counts as dead any more.
    assert plane.told[-1] == (0, 0, 0, 0)


def test_without_a_path_nothing_can_be_dead() -> None:
    plane = Plane()
    run(prober(plane, Paths()), lambda: bool(plane.told))
    assert plane.told[0][3] == 0


def test_a_pause_is_told() -> None:
    plane, paths = Plane(), Paths()
    paths.set({A: 1})
    made = prober(plane, paths)

    plane.pause_at = 3
    run(made, lambda: len(plane.told) >= 6)
    sinces = [since for _key, _beat, since, _silence in plane.told[:-1]]
    assert sinces[-1] > sinces[0]


def test_a_busy_event_loop_delays_no_probe() -> None:
    plane, paths = Plane(), Paths()
    paths.set({A: 1})

    def blocks() -> bool:
        before = len(plane.told)
        time.sleep(0.1)
        return len(plane.told) - before >= 3

    run(prober(plane, paths), blocks)


def test_an_exception_in_a_round_ends_the_task() -> None:
    plane, paths = Plane(), Paths()
    paths.set({A: 1})
    plane.fails_at = 4
    with pytest.raises(OSError, match="no such map"):
        asyncio.run(prober(plane, paths).run(10))
    assert plane.told[-1] == (0, 0, 0, 0) and not probe_threads()


def test_another_prober_begins_when_the_former_has_ended() -> None:
    plane, paths = Plane(), Paths()
    one, two = (
        PathProber(cast(DataPlane, plane), cast(Steering, paths), lambda _sid: LOOPBACK, port)
        for port in (862, 863)
    )

    async def main() -> None:
        former = asyncio.create_task(one.run(10))
        async with asyncio.timeout(PATIENCE):
            while not plane.told:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            former.cancel()
            following = asyncio.create_task(two.run(10, former))
            while plane.ports[-1] != 863 or not any(plane.told[-1]):  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            assert plane.ports == [862, 0, 863]
            following.cancel()
            await asyncio.wait([following])

    asyncio.run(main())


def test_another_key_is_used_at_once() -> None:
    plane, paths = Plane(), Paths()
    paths.set({A: 1})
    made = prober(plane, paths)
    seen: list[tuple[Key, ...]] = []

    def renewed() -> bool:
        seen.extend(probed.signed for probed in made._probed.values())
        if len(plane.told) == 2:
            plane.hmac = (Key(7, b"x"),)
        return seen[-1:] == [(Key(7, b"x"),)]

    run(made, renewed)
    assert seen[0] == ()


def probe_threads() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name == "probes"]


def test_each_path_is_probed_and_those_that_are_gone_no_more() -> None:
    plane, paths = Plane(), Paths()
    paths.set({A: 1, B: 2})
    made = prober(plane, paths)

    def moved() -> bool:
        if made.sent.get(1, 0) > 2 and made.sent.get(2, 0) > 2 and B in paths.slots:
            paths.set({A: 3})
        return made.sent.get(3, 0) > 2

    run(made, moved)
    assert plane.probed == []


def test_a_path_with_a_link_in_one_direction_is_left_out_and_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    plane, paths = Plane(), Paths()
    paths.set({A: 1, LINK: 2})
    made = prober(plane, paths)
    with caplog.at_level(logging.WARNING):

        def looked_twice() -> bool:
            made.look_again()
            return made.sent.get(1, 0) > 5

        run(made, looked_twice)
    assert plane.probed == [(2, False)]
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        "path fcbb:bb00:e001:: is not probed: fcbb:bb00:e001:: names a link in one direction: "
        "no probe can return over it"
    ]


def test_without_a_source_address_it_is_left_out_until_there_is_one() -> None:
    plane, paths, sources = Plane(), Paths(), {A[0]: None, B[0]: LOOPBACK}
    paths.set({A: 1, B: 2})
    made = prober(plane, paths, lambda sid: cast(IPv6Address | None, sources[sid]))

    def found() -> bool:
        if made.sent.get(2, 0) > 2:
            sources[A[0]] = LOOPBACK
            made.look_again()
        return made.sent.get(1, 0) > 2

    run(made, found)
    assert plane.probed == [(1, False), (1, True)]


def test_source_addresses_are_asked_for_when_they_may_have_changed() -> None:
    plane, paths = Plane(), Paths()
    asked: list[IPv6Address] = []

    def source(segment: IPv6Address) -> IPv6Address:
        asked.append(segment)
        return LOOPBACK

    made = prober(plane, paths, source)
    checks = 0

    def checked() -> bool:
        nonlocal checks
        if len(plane.told) == checks:
            return False
        checks = len(plane.told)
        paths.set({A: 1, B: checks})
        if checks == 6:
            assert sorted(asked) == [A[0], B[0]]
            made.look_again()
        return checks >= 10

    run(made, checked)
    assert sorted(asked) == [A[0], A[0], B[0], B[0]]


# --- to a STAMP reflector


def test_stamp_packets_go_to_a_destination_of_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """And to another one once that is none any more; who has many is not asked each second."""
    plane, paths = Plane(), Paths()
    here, there = LOOPBACK, IPv6Address("fcbb:cc00:2::a")
    paths.set({A: 1})
    paths.destinations = {A: here}
    made = PathProber(cast(DataPlane, plane), cast(Steering, paths), lambda _sid: LOOPBACK, 862)
    seen: list[tuple[IPv6Address, int, bytes, int]] = []

    def send(one: ProbedPath, _number: int) -> None:
        assert one.target is not None
        seen.append((one.target.address, one.target.port, bytes(one.payload), one.when_at))

    monkeypatch.setattr(ProbedPath, "send", send)

    def moved() -> bool:
        made.look_again()
        if len(seen) > 3:
            paths.destinations = {A: there}
        return seen[-1:] != [] and seen[-1][0] == there

    run(made, moved)
    assert {(address, port) for address, port, _payload, _at in seen} == {(here, 862), (there, 862)}
    assert paths.asked == 2
    assert plane.ports == [862, 0]
    payload, at = seen[0][2], seen[0][3]
    request = STAMPSessionSenderTestUnauthenticated(payload)
    (tlv,) = request.tlv_objects
    key, _when, slot, _zero = struct.unpack("=QQII", tlv.value)
    assert slot == 1 and key == plane.told[0][0] and payload[at - 8 : at] == struct.pack("=Q", key)


def test_without_a_destination_a_path_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    plane, paths = Plane(), Paths()
    paths.set({A: 1})
    made = PathProber(cast(DataPlane, plane), cast(Steering, paths), lambda _sid: LOOPBACK, 862)
    run(made, lambda: bool(plane.probed))
    assert plane.probed == [(1, False)]
    assert made.why_not(A) == "", "it has ended"
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == [
        "path fcbb:bb00:1::2 is not probed: no destination is known yet"
    ]
