"""The controller stream against a controller like HawkEye 1.0.1, over real gRPC on ::1."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from ipaddress import IPv6Address
from pathlib import Path

import grpc
import pytest

from fake_hawkeye.graph import Network
from fake_hawkeye.paths import Table
from fake_hawkeye.rules_101 import Computed101, Sessions101
from fake_hawkeye.service import HawkEye, start
from fake_hawkeye.shared import SharedHawkEye
from hawkwing.controller import questions
from hawkwing.controller.intent_pb2_grpc import IntentControllerStub
from hawkwing.controller.messages import to_request
from hawkwing.intents import Intent, IntentType, PathQuery
from lab.topology import load_topology

from .test_controller import LOOPBACK, Agent, agent, in_loop, wait_until
from .test_fake_hawkeye import Program

HAWK = Path(__file__).parents[2] / "lab" / "hawk.yaml"
A, C = IPv6Address("2001:cafe:a::a"), IPv6Address("fcbb:cc00:3::a")
B = IPv6Address("fcbb:cc00:2::a")
METRICS = (IntentType.LOW_LATENCY, IntentType.LOW_JITTER, IntentType.LOW_PACKET_LOSS)


def queries(source: IPv6Address, count: int) -> list[PathQuery]:
    """All different, and none that crashes or is refused."""
    return [
        PathQuery(source, B, (Intent(METRICS[number % 3], max_value=90 + number),)) for number in range(count)
    ]


TWICE = PathQuery(A, B, (Intent(IntentType.LOW_LATENCY), Intent(IntentType.LOW_LATENCY)))
NO_SUCH_ALGORITHM = PathQuery(A, B, (Intent(IntentType.FLEX_ALGO, flex_algo_number=200),))
NO_SUCH_SERVICE = PathQuery(A, B, (Intent(IntentType.SFC, functions=("spam",)),))


@contextlib.asynccontextmanager
async def controller() -> AsyncIterator[tuple[HawkEye, int]]:
    network = Network(load_topology(HAWK))
    hawkeye = SharedHawkEye(Sessions101(Table(), Computed101(network)))
    server, port = await start(hawkeye, LOOPBACK, 0)
    try:
        yield hawkeye, port
    finally:
        await server.stop(None)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the real times, and never more than a second."""
    for name in ("AGAIN_FIRST", "PATIENCE", "HOLD_FIRST", "RECENT"):
        monkeypatch.setattr(questions, name, getattr(questions, name) / 10)
    monkeypatch.setattr(questions, "AGAIN_MOST", 1.0)


def paths(one: Agent) -> set[PathQuery]:
    return {query for query, _ in one.paths}


async def all_answered(*agents: Agent, but: int = 0) -> None:
    for one in agents:
        stream = one.stream
        await wait_until(
            lambda stream=stream: len(stream.questions.unanswered()) == but,  # type: ignore[misc]
            f"all but {but} answered",
        )


@in_loop
async def test_two_agents_get_all_their_paths_at_last() -> None:
    mine, yours = queries(A, 18), queries(C, 18)
    async with controller() as (_, port), agent(port, *mine) as host_a, agent(port, *yours) as host_c:
        await all_answered(host_a, host_c)
        assert (paths(host_a), paths(host_c)) == (set(mine), set(yours))
        assert host_a.stream.counters["unasked"] + host_c.stream.counters["unasked"] > 0, "nothing strayed"
        assert host_a.stream.counters["failures"] == host_c.stream.counters["failures"] == 0


@in_loop
async def test_an_agent_that_leaves_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async with controller() as (hawkeye, port), agent(port, *queries(A, 3)) as host_a:
        await all_answered(host_a)
        async with agent(port, *queries(C, 3)) as host_c:
            await all_answered(host_c)
        await wait_until(lambda: len(hawkeye.sessions) == 1, "the other has left")
        host_a.stream.change(queries(A, 5), [])
        await all_answered(host_a)
        counters = host_a.stream.counters
        assert (counters["connections"], counters["cancelled"], counters["failures"]) == (1, 0, 0)


@in_loop
async def test_a_stream_cancelled_for_another_client_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "hawkwing.controller")
    async with controller() as (_, port), agent(port, *queries(A, 3)) as host_a:
        await all_answered(host_a)
        channel = grpc.aio.insecure_channel(f"[::1]:{port}")
        call = IntentControllerStub(channel).GetIntentPath()
        await call.write(to_request(queries(C, 1)[0]))
        call.cancel()
        await channel.close()
        await wait_until(lambda: host_a.stream.counters["cancelled"] > 0, "the cancelled stream")
        host_a.paths.clear()
        await wait_until(lambda: paths(host_a) == set(queries(A, 3)), "asked again")
        assert host_a.stream.counters["failures"] == 0
        assert host_a.notes == [f"connected to the controller at [::1]:{port}"]
        assert [record.message for record in caplog.records] == host_a.notes


@pytest.mark.parametrize("bad", [TWICE, NO_SUCH_SERVICE], ids=["invalid", "no path"])
@in_loop
async def test_a_refused_query_is_found_though_its_error_goes_elsewhere(bad: PathQuery) -> None:
    mine, yours = queries(A, 6), queries(C, 6)
    async with (
        controller() as (_, port),
        agent(port, *yours) as host_c,
        agent(port, *mine[:3], bad, *mine[3:]) as host_a,
    ):
        await all_answered(host_a, but=1)
        await all_answered(host_c)
        left = host_a.stream.questions.get(bad)
        assert left is not None and not left.answered
        await wait_until(lambda: left.hold >= 2 * questions.HOLD_FIRST, "held back ever longer")
        await all_answered(host_c)
        assert (paths(host_a), paths(host_c)) == (set(mine), set(yours))


@in_loop
async def test_a_query_that_crashes_it_is_held_back_and_the_others_have_their_paths(tmp_path: Path) -> None:
    """The controller is started again each time, as a service manager would."""
    programs = [Program(tmp_path, like="1.0.1", topology=HAWK)]
    port = programs[0].port
    stop = asyncio.Event()

    async def manage() -> None:
        while not stop.is_set():
            if programs[-1].process.poll() is None:
                await asyncio.sleep(0.01)
            else:
                programs.append(await asyncio.to_thread(Program, tmp_path, port, "1.0.1", topology=HAWK))

    managing = asyncio.create_task(manage())
    try:
        mine = queries(A, 4)
        async with agent(port, mine[0], NO_SUCH_ALGORITHM, *mine[1:]) as host_a:
            await all_answered(host_a, but=1)
            left = host_a.stream.questions.get(NO_SUCH_ALGORITHM)
            assert left is not None and not left.answered
            await wait_until(lambda: left.hold >= 2 * questions.HOLD_FIRST, "held back ever longer")
            await all_answered(host_a, but=1)
            assert paths(host_a) == set(mine)
            assert 3 <= len(programs) < 8
            note = next(note for note in host_a.notes if note.startswith("no path for "))
            assert note.startswith(
                f"no path for {A} -> {B} (flex-algo(200)): the stream ended when only this"
            )
    finally:
        stop.set()
        await managing
        programs[-1].finish()
