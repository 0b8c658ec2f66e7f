"""From names to questions and from results to maps: what each change costs, in look-ups and not in time."""

import asyncio
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

import pytest

from fake_hawkeye.service import to_result
from hawkwing import explain, handover, status
from hawkwing.client import Client
from hawkwing.config import Application, Config, Hawkeye, Service
from hawkwing.controller import intent_pb2 as pb
from hawkwing.controller.stream import ControllerStream
from hawkwing.intents import Intent, IntentType, PathQuery
from hawkwing.queries import FORMER_ANSWERS
from hawkwing.steering import GRACE, Steering
from hawkwing.tasks import Supervisor
from lab.wait import PATIENCE
from tests.schemas import assert_as_described

SOURCE, CONTROLLER, SID = IPv6Address("fd00::1"), IPv6Address("fd00::9"), IPv6Address("fcbb:bb00:1::2")
LATENCY = (Intent(IntentType.LOW_LATENCY),)


class Table:
    """A map that takes everything."""

    class info:  # noqa: N801
        max_entries = 65536

    def set(self, key: bytes, value: bytes) -> None: ...
    def delete(self, key: bytes) -> None: ...


class Plane:
    """A data plane without a kernel: what is done to it, by name, in order."""

    def __init__(self) -> None:
        self.maps = {"policies": Table(), "selections": Table(), "names": Table()}
        self.done: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: self.done.append(name)


class Clock:
    """Time that stands still until it is moved."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def name(number: int) -> str:
    return f"n{number}.example"


def address(number: int) -> IPv6Address:
    return IPv6Address(f"fd00:1::{number + 1:x}")


def asked(number: int) -> PathQuery:
    return PathQuery(SOURCE, address(number), LATENCY)


def named(count: int) -> Config:
    apps = (Application(port=80, sid=(SID,), intents=LATENCY), Application(port=81, intents=LATENCY))
    return Config(
        hawkeye=Hawkeye(enabled=True, address=CONTROLLER, port=5001),
        services={name(n): Service(domain_name=name(n), applications=apps) for n in range(count)},
    )


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How often a query was looked up, kept or compared in a dict or a set: one number."""
    count = [0]
    real = PathQuery.__hash__

    def counting(query: PathQuery) -> int:
        count[0] += 1
        return real(query)

    monkeypatch.setattr(PathQuery, "__hash__", counting)
    return count


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(handover, "runtime_folder", lambda: tmp_path)
    return tmp_path


def client(config: Config) -> tuple[Client, Steering, ControllerStream, Plane, Clock]:
    """An agent with everything but a kernel and a controller."""
    plane, clock = Plane(), Clock()
    agent = Client(plane, "eth0", Supervisor())  # type: ignore[arg-type]
    stream = ControllerStream(CONTROLLER, 5001, agent._take_path)
    agent._stream, steering = stream, agent.steering
    steering._now = steering._asked._now = clock
    steering.apply(config, SOURCE)
    agent._want()
    return agent, steering, stream, plane, clock


def wanted(stream: ControllerStream) -> list[PathQuery]:
    return [question.query for question in stream.questions]


# --- what is handed to the stream


def test_names_one_after_the_other_cost_as_much_each_as_the_first_few(
    hashed: list[int], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handed: list[PathQuery] = []
    real = ControllerStream.change

    def change(stream: ControllerStream, wanted: Any, dropped: Any) -> None:
        handed.extend([*wanted, *dropped])
        real(stream, wanted, dropped)

    monkeypatch.setattr(ControllerStream, "change", change)

    def looks(count: int) -> int:
        agent, steering, stream, _, clock = client(named(count))
        handed.clear()
        hashed[0] = 0

        async def learn() -> None:
            for number in range(count):
                agent._learn(name(number), [address(number)], 10.0)
            assert wanted(stream) == steering.queries() == [asked(n) for n in range(count)]
            for number in range(count):
                clock.now += 10 + GRACE + 1
                for other in range(number + 1, count):
                    steering._names[name(other)].expiry[address(other)] = clock.now + 1
                assert steering.expire(lambda _: True)
                agent._want()
            assert wanted(stream) == steering.queries() == []

        asyncio.run(learn())
        assert len(handed) == 2 * count
        return hashed[0]

    few, many = looks(50), looks(500)
    assert many <= 11 * few


def test_without_a_configuration_there_is_nothing_to_ask() -> None:
    steering = Steering(Plane())  # type: ignore[arg-type]
    assert steering.names == [] and list(steering.named_services()) == [] and steering.queries() == []
    assert not steering.learn(name(0), [address(0)], 10.0)
    assert steering.query_changes() == ([], []) and steering.paths_left_out == 0


def test_changes_of_queries_are_told_once_and_net() -> None:
    steering = Steering(Plane())  # type: ignore[arg-type]
    steering.apply(named(3), SOURCE)
    steering.learn(name(0), [address(0)], 10.0)
    steering.learn(name(1), [address(1)], 10.0)
    assert steering.query_changes() == ([asked(0), asked(1)], [])
    assert steering.query_changes() == ([], [])
    steering.apply(named(1), SOURCE)
    steering.apply(named(3), SOURCE)
    assert steering.query_changes() == ([], [asked(1)])  # its address went with its name
    steering.learn(name(1), [address(1)], 10.0)
    steering.learn(name(2), [address(2)], 10.0)
    steering.apply(named(2), SOURCE)
    assert steering.query_changes() == ([asked(1)], [])  # the third came and went
    steering.apply(named(2), None)
    steering.apply(named(2), SOURCE)
    assert steering.query_changes() == ([], [])  # all went and came back
    assert set(steering.queries()) == {asked(0), asked(1)}


def test_a_change_that_cannot_be_sent_changes_nothing() -> None:
    stream = ControllerStream(CONTROLLER, 5001, lambda query, sids: None)
    stream.change([asked(0)], [])
    too_big = PathQuery(SOURCE, address(1), (Intent(IntentType.LOW_LATENCY, max_value=2**31),))
    with pytest.raises(ValueError, match="2147483648"):
        stream.change([asked(2), too_big], [asked(0)])
    assert wanted(stream) == [one.query for one in stream.questions.due(0.0)[0]] == [asked(0)]


def test_a_path_is_kept_for_a_while_after_its_address_is_gone_and_then_forgotten() -> None:
    clock = Clock()
    steering = Steering(Plane(), clock)  # type: ignore[arg-type]
    steering.apply(named(2), SOURCE)

    def comes(number: int) -> None:
        steering.learn(name(number), [address(number)], 1.0)

    def goes() -> None:
        clock.now += 1 + GRACE + 1
        assert steering.expire(lambda _: True)

    def path() -> tuple[IPv6Address, ...]:
        binding = steering.binding(address(0), 80)
        assert binding is not None
        return binding.controller_path

    comes(0)
    steering.set_controller_path(asked(0), (SID, SID))
    goes()
    assert list(steering.answers()) == []
    clock.now += 299
    comes(0)
    assert path() == (SID, SID)
    goes()
    clock.now += 301
    comes(0)
    assert path() == (), "more than five minutes"
    steering.set_controller_path(asked(0), (SID, SID))
    goes()
    clock.now += FORMER_ANSWERS + 1
    steering.expire(lambda _: True)
    assert steering._asked.former == {}


def test_a_path_that_nobody_asks_for_is_not_kept() -> None:
    steering = Steering(Plane())  # type: ignore[arg-type]
    steering.apply(named(1), SOURCE)
    steering.set_controller_path(asked(0), (SID,))
    steering.learn(name(0), [address(0)], 10.0)
    assert list(steering.answers()) == []


def test_queries_are_told_by_service_port_and_values() -> None:
    steering = Steering(Plane())  # type: ignore[arg-type]
    limited = (Intent(IntentType.SFC, functions=("fw",)), Intent(IntentType.LOW_LATENCY, max_value=20))
    applications = tuple(Application(port=port, intents=limited) for port in (80, 81))
    service = Service(ipv6_addresses=(address(0),), applications=applications)
    hawkeye = Hawkeye(enabled=True, address=CONTROLLER, port=5001)
    steering.apply(Config(hawkeye=hawkeye, services={"web": service}), SOURCE)
    (query,) = steering.queries()
    assert (
        steering.name_of_query(query)
        == f"web port 80 at {address(0)} and 1 more (sfc(fw), low-latency(max 20))"
    )
    steering.apply(Config(), SOURCE)
    assert steering.name_of_query(query) == f"{SOURCE} -> {address(0)} (sfc(fw), low-latency(max 20))"


# --- on the stream


class Call:
    """A stream to a controller that answers each question at once."""

    def __init__(self) -> None:
        self.requests: list[pb.PathRequest] = []
        self._results: asyncio.Queue[pb.PathResult] = asyncio.Queue()

    async def write(self, request: pb.PathRequest) -> None:
        self.requests.append(request)
        self._results.put_nowait(to_result(request, [SID]))

    async def read(self) -> pb.PathResult:
        return await self._results.get()


@pytest.mark.parametrize("suspected", [False, True])
@pytest.mark.parametrize("at_once", [False, True])
def test_questions_and_answers_cost_as_much_each_as_the_first_few(
    hashed: list[int], suspected: bool, at_once: bool
) -> None:
    async def converse(count: int) -> None:
        answered: asyncio.Queue[PathQuery] = asyncio.Queue()
        stream = ControllerStream(CONTROLLER, 5001, lambda query, sids: answered.put_nowait(query))
        call = Call()
        if at_once:
            stream.change([asked(number) for number in range(count)], [])
        for question in stream.questions:
            question.suspect = suspected
        stream.questions.begin(asyncio.get_running_loop().time())
        talk = asyncio.create_task(stream._converse(call))  # type: ignore[arg-type]
        for number in range(count):
            if not at_once:
                stream.change([asked(number)], [])
            assert await answered.get() == asked(number)
        talk.cancel()
        await asyncio.wait({talk})
        assert len(call.requests) == count
        assert not stream.questions.open and not stream.questions.unanswered()

    def looks(count: int) -> int:
        hashed[0] = 0
        asyncio.run(converse(count))
        return hashed[0]

    few, many = looks(50), looks(500)
    assert many <= 11 * few


def test_a_query_dropped_before_its_turn_is_not_asked_and_leaves_nothing_behind() -> None:
    class Slow(Call):
        async def write(self, request: pb.PathRequest) -> None:
            await asyncio.sleep(0.01)
            self.requests.append(request)

    async def converse() -> None:
        stream = ControllerStream(CONTROLLER, 5001, lambda query, sids: None)
        stream.change([asked(0), asked(1), asked(2)], [])
        call = Slow()
        talk = asyncio.create_task(stream._converse(call))  # type: ignore[arg-type]
        await asyncio.sleep(0.005)
        stream.change([], [asked(0), asked(1)])
        await asyncio.sleep(0.05)
        talk.cancel()
        await asyncio.wait({talk})
        assert [r.ipv6_destination_address for r in call.requests] == [str(address(0)), str(address(2))]
        assert wanted(stream) == [one.query for one in stream.questions.open] == [asked(2)]

    asyncio.run(converse())


def test_status_and_explain_tell_what_became_of_each_query() -> None:
    async def look() -> None:
        _, steering, stream, _, _ = client(named(4))
        for number in range(4):
            steering.learn(name(number), [address(number)], 10.0)
        stream.change(*steering.query_changes())
        stream._connected()
        now = stream.now()
        for question in stream.questions:
            stream.questions.asked(question, now)
        for number, sids in ((0, [SID]), (1, [])):
            stream._take(to_result(stream.questions.get(asked(number)).request, sids))  # type: ignore[union-attr]
        third = stream.questions.get(asked(2))
        assert third is not None
        third.held_until, third.due, third.reason = now + 5, now + 5, "connection lost"
        told = status.of_controller(stream, steering)
        counts = {"count": 4, "answered": 2, "without_path": 1, "unanswered": 2, "held_back": 1}
        assert told["queries"] == counts
        assert [one["address"] for one in told["unanswered"]] == [str(address(2)), str(address(3))]
        held = told["unanswered"][0]
        assert held["applications"] == [{"service": name(2), "port": 80}, {"service": name(2), "port": 81}]
        assert (held["intents"], held["requests"]) == (["low-latency"], 1)
        assert (held["held_back"], held["reason"]) == (True, "connection lost")
        assert 4 < held["next_request"] - time.time() < 6
        assert held["source"] == str(SOURCE)
        waiting = told["unanswered"][1]
        assert (waiting["held_back"], waiting["reason"]) == (False, "")
        assert (told["target"], told["state"]) == ("[fd00::9]:5001", "connected")
        assert (told["retry_at"], told["error"]) == (None, "")
        assert abs(told["since"] - time.time()) < 60
        assert told["counters"] == stream.counters
        assert (told["counters"]["results"], told["counters"]["empty"]) == (2, 1)
        ends = [
            "the controller's path for low-latency",
            "the controller was asked, it returned no path",
            "the controller was asked, it is not asked again for a while: connection lost",
            "the controller was asked, it has not answered yet",
        ]
        for number, end in enumerate(ends):
            assert explain.sentence(steering, stream, name(number), 80).endswith(end)
        unusable = to_result(stream.questions.get(asked(3)).request, [IPv6Address("::1")])  # type: ignore[union-attr]
        stream._take(unusable)
        assert explain.sentence(steering, stream, name(3), 80).endswith("asked, its path can't be used")
        stream._enter("connecting")
        assert explain.sentence(steering, stream, name(3), 80).endswith("asked, it is not connected")
        told = status.of_controller(stream, steering)
        assert told["state"] == "connecting"
        assert [one["next_request"] for one in told["unanswered"]] == [None], "not before it is connected"
        assert_as_described(told, "Controller")

    asyncio.run(look())


def test_a_query_is_held_back_until_its_time_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def look() -> None:
        _, steering, stream, _, _ = client(named(1))
        steering.learn(name(0), [address(0)], 10.0)
        stream.change(*steering.query_changes())
        stream._connected()
        (question,) = stream.questions
        question.held_until = question.due = 1000.0
        for now, held in ((999.0, True), (1000.0, False)):
            monkeypatch.setattr(stream, "now", lambda now=now: now)
            told = status.of_controller(stream, steering)
            assert told["queries"]["held_back"] == held
            (waiting,) = told["unanswered"]
            assert waiting["held_back"] is held and (waiting["next_request"] is not None) is held

    asyncio.run(look())


def test_all_intents_of_an_application_are_told() -> None:
    both = (Intent(IntentType.SFC, functions=("fw",)), Intent(IntentType.LOW_LATENCY, max_value=20))
    service = Service(ipv6_addresses=(address(0),), applications=(Application(port=80, intents=both),))
    steering = Steering(Plane())  # type: ignore[arg-type]
    steering.apply(Config(services={"web": service}), None)
    assert explain.sentence(steering, None, str(address(0)), 80) == (
        f"packets to [{address(0)}]:80 (service web) are sent without an SRH: "
        "no controller is asked for sfc(fw), low-latency(max 20), and no sid is configured"
    )
    assert explain.unsteered(steering, address(1), None) == (
        f"packets to {address(1)} are sent without an SRH: destination matches no service"
    )


def test_leaving_with_queries_still_to_be_sent_ends_at_once() -> None:
    class Stuck(Call):
        async def write(self, request: pb.PathRequest) -> None:
            self.requests.append(request)
            await asyncio.sleep(0.02)

        async def done_writing(self) -> None: ...

    async def converse() -> None:
        stream = ControllerStream(CONTROLLER, 5001, lambda query, sids: None)
        stream.change([asked(0), asked(1), asked(2)], [])
        call = Stuck()
        talk = asyncio.create_task(stream._converse(call))  # type: ignore[arg-type]
        await asyncio.sleep(0.01)
        talk.cancel()
        done, _ = await asyncio.wait({talk}, timeout=PATIENCE)
        assert done and talk.cancelled()
        assert len(call.requests) == 1

    asyncio.run(converse())


# --- from a result to the maps


def test_a_result_is_in_the_maps_before_anything_is_written_down(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    agent, steering, _, plane, _ = client(named(1))

    async def results() -> None:
        agent._learn(name(0), [address(0)], 10.0)
        plane.done.clear()
        agent._take_path(asked(0), (SID, SID))
        # Both of its applications; the second takes the slot that the first wrote.
        assert plane.done == ["set_policy", "set_route", "set_route"]
        assert not (folder / "client-eth0.state").exists()
        await asyncio.sleep(0.05)
        assert str(address(0)) in (folder / "client-eth0.state").read_text()

    asyncio.run(results())
    successor = Steering(Plane())  # type: ignore[arg-type]
    successor.apply(named(1), SOURCE)
    handover.restore(successor, "eth0")
    assert list(successor.answers()) == list(steering.answers()) == [(asked(0), (SID, SID))]
    assert successor.learned() == {name(0): [address(0)]}


def test_paths_go_on_while_a_large_state_is_written_down(folder: Path) -> None:
    count = 2000
    agent, steering, _, _, _ = client(named(count))

    async def results() -> int:
        for number in range(count):
            agent._learn(name(number), [address(number)], 10.0)
            steering.set_controller_path(asked(number), (SID,))
        turns = 0
        while not (folder / "client-eth0.state").exists():
            await asyncio.sleep(0)
            turns += 1
        return turns

    assert asyncio.run(results()) > 100
