"""How a stream to the controller ends, what is told of it, and when the next one begins: step by step."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import time
import weakref
from ipaddress import IPv6Address
from typing import Any

import grpc
import pytest

from fake_hawkeye.service import to_result
from hawkwing.controller import intent_pb2 as pb
from hawkwing.controller import questions as questions_module
from hawkwing.controller import stream as stream_module
from hawkwing.controller.backoff import Backoff
from hawkwing.controller.channel import StreamEndedError, describe_failure
from hawkwing.controller.messages import to_request
from hawkwing.controller.stream import ControllerStream
from lab.wait import PATIENCE, patient
from tests.unit.test_controller import (
    JITTER,
    LATENCY,
    LOOPBACK,
    LOSS,
    SID_1,
    Agent,
    agent,
    answering,
    controller,
    entry,
    in_loop,
    query,
    wait_until,
)

PORT = 5001
WHERE = f"the controller at [::1]:{PORT}"


class Told:
    """A stream that is not connected, with a clock of its own, and what it has told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **more: Any) -> None:
        self.notes: list[str] = []
        self.paths: list[Any] = []
        self.now = 1000.0
        monkeypatch.setattr(ControllerStream, "now", staticmethod(lambda: self.now))
        self.stream = ControllerStream(
            LOOPBACK,
            PORT,
            lambda asked, sids: self.paths.append((asked, sids)),
            self.notes.append,
            name=lambda asked: f"web ({asked.intents[0]})",
            **more,
        )

    def ask(self, *queries: Any) -> None:
        """A new stream, connected, on which all of these are asked."""
        self.stream.change(queries, [])
        self.stream.questions.begin(self.now)
        self.stream._connected()
        for question in self.stream.questions:
            self.stream.questions.asked(question, self.now)

    def answer(self, asked: Any, *sids: IPv6Address) -> None:
        self.stream._take(to_result(to_request(asked), sids))

    def counts(self, **expected: int) -> None:
        """These are the counters, and all others are 0."""
        found = {name: count for name, count in self.stream.counters.items() if count}
        assert found == expected


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    return Told(monkeypatch)


def ended(code: grpc.StatusCode, details: str = "why") -> grpc.aio.AioRpcError:
    """The end of a stream as gRPC tells it."""
    nothing = grpc.aio.Metadata()
    return grpc.aio.AioRpcError(code, nothing, nothing, details)


CANCELLED = ended(grpc.StatusCode.CANCELLED)
LOST = ended(grpc.StatusCode.UNAVAILABLE, "Socket closed")
REFUSED = ended(grpc.StatusCode.UNKNOWN, "No path found")


# --- what is told


def test_a_failure_is_told_once_until_it_works_again(told: Told) -> None:
    error = OSError("broken")
    for _ in range(3):
        told.stream._failed(error)
    assert told.notes == [f"cannot reach {WHERE}: OSError: broken"]
    assert told.stream.error == "OSError: broken"
    told.counts(failures=3)
    told.ask(LATENCY)
    assert told.stream.error == ""
    told.answer(LATENCY, SID_1)
    told.stream._failed(LOST)
    assert told.notes[1:] == [f"connected to {WHERE}", f"lost {WHERE}: connection lost: Socket closed"]


def test_a_controller_that_accepts_and_hangs_up_is_told_once_and_connected_when_it_answers(
    told: Told,
) -> None:
    for _ in range(3):
        told.ask()
        told.stream._failed(LOST)
    assert [note.split(" at ")[0] for note in told.notes] == [
        "connected to the controller",
        "lost the controller",
    ]
    told.ask(LATENCY, JITTER)
    assert len(told.notes) == 2
    told.answer(LATENCY, SID_1)
    told.answer(JITTER, SID_1)
    assert told.notes[2:] == [f"connected to {WHERE}"]


def test_before_the_first_attempt_nothing_is_wrong(told: Told) -> None:
    assert (told.stream.state, told.stream.error, told.stream.retry_at) == ("connecting", "", None)
    told.counts()


def test_an_answer_shows_that_it_is_connected(told: Told) -> None:
    told.stream.change([LATENCY], [])
    told.answer(LATENCY, SID_1)
    assert (told.stream.state, told.notes) == ("connected", [f"connected to {WHERE}"])
    told.counts(connections=1, results=1, paths=1)


def test_what_is_not_taken_is_in_the_log_for_debugging(told: Told, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "hawkwing.controller")
    told.ask(LATENCY)
    caplog.clear()
    told.stream._take(pb.PathResult())
    told.answer(JITTER, SID_1)
    told.answer(LATENCY, IPv6Address("::"))
    told.answer(LATENCY)
    begin = f"ignored from {WHERE}:"
    assert caplog.messages == [
        f"{begin} a result without a valid request",
        f"{begin} a path that was not requested: {JITTER}",
        f"{begin} the path for web (low-latency): the SID :: is the unspecified address",
        f"{begin} the controller has no path for web (low-latency)",
    ]
    told.counts(connections=1, results=4, malformed=2, unasked=1, empty=1)
    assert told.paths == []


def test_a_path_that_no_application_can_use_is_like_a_malformed_one(
    told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "hawkwing.controller")
    told.stream._refusal = lambda query, sids: (
        "too long" if (query, sids) == (LATENCY, (SID_1, SID_1)) else ""
    )
    told.ask(LATENCY)
    caplog.clear()
    told.answer(LATENCY, SID_1, SID_1)
    assert caplog.messages == [f"ignored from {WHERE}: the path for web (low-latency): too long"]
    told.answer(LATENCY, SID_1)
    told.counts(connections=1, results=2, malformed=1, paths=1)
    assert told.paths == [(LATENCY, (SID_1,))]


def test_a_query_with_a_path_is_not_empty_any_more(told: Told) -> None:
    told.ask(LATENCY)
    question = told.stream.questions.get(LATENCY)
    assert question is not None
    told.answer(LATENCY)
    assert question.empty is True
    told.answer(LATENCY, SID_1)
    assert question.empty is False


def test_a_note_that_is_not_taken_does_no_harm(told: Told, caplog: pytest.LogCaptureFixture) -> None:
    def fail(note: str) -> None:
        raise KeyError(note)

    told.stream._on_note = fail
    told.stream._failed(LOST)
    assert "passing on a note failed" in caplog.text
    told.counts(failures=1)


def test_the_words_for_a_failure_are_those_that_were_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told(monkeypatch, describe=lambda error: f"so: {describe_failure(error)}")
    told.stream._failed(StreamEndedError())
    assert told.notes == [f"cannot reach {WHERE}: so: the controller ended the stream"]


# --- silence


def test_a_minute_without_any_answer_is_told_once(told: Told) -> None:
    told.ask(LATENCY)
    told.notes.clear()
    told.now += 60
    told.stream._tell_of_silence()
    assert told.notes == []
    told.now += 0.1
    told.stream._tell_of_silence()
    told.now += 100
    told.stream._tell_of_silence()
    sentence = f"{WHERE} has sent nothing for 60 s, and one query is unanswered: restart it if this continues"
    assert told.notes == [sentence]


def test_each_answer_ends_the_silence(told: Told) -> None:
    told.ask(LATENCY, JITTER, LOSS)
    told.notes.clear()
    told.now += 50
    told.answer(LATENCY, SID_1)
    told.now += 50
    told.stream._tell_of_silence()
    assert told.notes == []
    told.now += 11
    told.stream._tell_of_silence()
    assert "2 queries are unanswered" in told.notes[0]
    told.answer(JITTER, SID_1)
    told.answer(LOSS, SID_1)
    told.now += 1000
    told.stream._tell_of_silence()
    assert len(told.notes) == 1, "all queries have their answers"


# --- CANCELLED: HawkEye 1.0.1 ends a stream so when another client has left


def test_three_streams_cancelled_in_a_row_are_no_failure_and_the_next_begin_soon(told: Told) -> None:
    for first in (0.1, 0.16, 0.256):
        told.stream._connected()
        assert first * 0.79 < told.stream._failed(CANCELLED) < first * 1.21
    told.counts(connections=3, cancelled=3)
    assert told.notes == [f"connected to {WHERE}"]
    told.stream._connected()
    assert told.stream._failed(CANCELLED) > 0.39
    told.counts(connections=4, cancelled=4, failures=1)
    assert told.notes[1].startswith(f"lost {WHERE}: ")


def test_after_an_answer_cancelled_streams_are_counted_anew(told: Told) -> None:
    for _ in range(3):
        for _ in range(3):
            told.stream._failed(CANCELLED)
        told.ask(LATENCY)
        told.answer(LATENCY, SID_1)
        assert told.stream._failed(CANCELLED) < 0.13, "soon, as the first time"
        told.answer(LATENCY, SID_1)
    assert told.stream.counters["failures"] == 0


def test_pauses_grow_until_there_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told(monkeypatch, backoff=Backoff(first=1.0, jitter=0.0))
    assert [told.stream._failed(LOST) for _ in range(3)] == pytest.approx([1.0, 1.6, 2.56])
    told.ask(LATENCY)
    assert told.stream._failed(LOST) > 2.6, "being connected is not enough"
    told.answer(LATENCY, SID_1)
    assert told.stream._failed(LOST) == 1.0


# --- whose fault it was


def test_the_only_query_that_was_asked_is_blamed_for_a_refusal(told: Told) -> None:
    told.ask(LATENCY)
    told.notes.clear()
    told.stream._failed(REFUSED)
    reason = "the controller ended the stream: No path found (UNKNOWN)"
    assert told.notes == [
        f"lost {WHERE}: {reason}",
        f"no path for web (low-latency): {reason}; next request in 5 s",
    ]
    told.counts(connections=1, failures=1, refused=1)


def test_a_broken_stream_is_blamed_on_a_query_the_second_time(told: Told) -> None:
    told.ask(LATENCY)
    told.stream._failed(LOST)
    told.counts(connections=1, failures=1)
    told.ask(LATENCY)
    told.notes.clear()
    told.stream._failed(LOST)
    told.counts(connections=2, failures=2, refused=1)
    assert told.notes == [
        "no path for web (low-latency): the stream ended when only this query was open "
        "(connection lost: Socket closed); next request in 5 s"
    ]


def test_cancelled_streams_are_blamed_on_a_query_the_third_time(told: Told) -> None:
    for count in range(3):
        assert told.stream.counters["refused"] == 0, count
        told.ask(LATENCY)
        told.stream._failed(CANCELLED)
    assert told.stream.counters["refused"] == 1


@pytest.mark.parametrize("code", ["UNIMPLEMENTED", "UNAUTHENTICATED", "PERMISSION_DENIED"])
def test_no_query_is_blamed_where_the_server_is_not_a_controller(told: Told, code: str) -> None:
    for _ in range(3):
        told.ask(LATENCY)
        told.stream._failed(ended(grpc.StatusCode[code]))
    assert [one.breaks for one in told.stream.questions] == [0]


def test_no_query_is_blamed_where_there_was_no_connection(told: Told) -> None:
    told.ask(LATENCY)
    told.stream._ready = False
    for _ in range(3):
        told.stream._failed(REFUSED)
    assert [one.breaks for one in told.stream.questions] == [0]


# --- with a real server


@in_loop
async def test_it_is_connected_before_there_is_anything_to_ask() -> None:
    async with controller() as (_, _, port), agent(port) as host_a:
        await wait_until(lambda: host_a.stream.state == "connected", "the connection")
        host_a.stream.counters.pop("connections")
        assert not any(host_a.stream.counters.values())


@in_loop
async def test_a_query_is_asked_at_once_when_nothing_else_was_due() -> None:
    table = entry(LATENCY, SID_1), entry(JITTER, SID_1)
    async with controller(*table) as (_, _, port), agent(port, LATENCY) as host_a:
        await host_a.until((LATENCY, (SID_1,)))
        await wait_until(lambda: not host_a.stream._changed.is_set(), "the stream to have nothing to do")
        host_a.stream.change([JITTER], [])
        await host_a.until((LATENCY, (SID_1,)), (JITTER, (SID_1,)))


@in_loop
async def test_the_controller_sees_the_end_of_our_half_and_may_end_its_own_in_peace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stream_module, "FAREWELL", PATIENCE)
    ends: list[str] = []

    async def work(context: Any) -> None:
        try:
            while await context.read() is not grpc.aio.EOF:
                pass
            ends.append("our half is closed")
            await context.write(to_result(to_request(LATENCY), [SID_1]))
            await asyncio.sleep(0.03)
            ends.append("it ends its half")
        except asyncio.CancelledError:
            ends.append("cut off")
            raise

    async with answering(work) as port:
        async with agent(port, LATENCY) as host_a:
            await host_a.counts("requests", 1)
        await wait_until(lambda: len(ends) == 2, "the end of the stream")
    assert ends == ["our half is closed", "it ends its half"]
    assert host_a.paths == [], "what comes now is not wanted any more"


@in_loop
async def test_a_controller_that_is_stuck_does_not_keep_the_agent() -> None:
    async def work(_context: Any) -> None:
        await asyncio.Event().wait()

    async with answering(work) as port:
        host_a = Agent(port)
        host_a.stream.change([LATENCY], [])
        running = asyncio.create_task(host_a.stream.run())
        await host_a.counts("requests", 1)
        begun = time.monotonic()
        running.cancel()
        await asyncio.wait({running})
        assert time.monotonic() - begun < patient(10)
    assert stream_module.FAREWELL <= 0.2, "an agent ends at once"


@in_loop
async def test_what_misses_its_end_is_ended_again() -> None:
    """As gRPC's read does where the end comes while a request is being written."""
    heard: list[str] = []

    class Deaf:
        async def read(self) -> Any:
            for number in range(3):
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    heard.append(f"cancelled {number}")
            raise asyncio.CancelledError

        async def write(self, request: Any) -> None: ...

        async def done_writing(self) -> None: ...

    stream = ControllerStream(LOOPBACK, PORT, lambda asked, sids: None)
    talk = asyncio.create_task(stream._converse(Deaf()))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    talk.cancel()
    done, _ = await asyncio.wait({talk}, timeout=PATIENCE)
    assert done and talk.cancelled()
    assert heard == ["cancelled 0", "cancelled 1", "cancelled 2"]


@in_loop
async def test_the_next_query_follows_at_once_when_the_one_before_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(questions_module, "STEP", 600.0)
    table = entry(LATENCY, SID_1), entry(JITTER, SID_1), entry(LOSS, SID_1)
    async with controller(*table) as (_, _, port), agent(port, LATENCY, JITTER, LOSS) as host_a:
        await host_a.until((LATENCY, (SID_1,)), (JITTER, (SID_1,)), (LOSS, (SID_1,)))


@in_loop
async def test_it_is_known_when_the_next_attempt_begins(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "hawkwing.controller")
    async with controller(entry(LATENCY, SID_1)) as (_, _, port):
        host_a = Agent(port)
        host_a.stream._backoff = Backoff(first=0.05, factor=400, cap=20, jitter=0)
        host_a.stream.change([LATENCY], [])
        running = asyncio.create_task(host_a.stream.run())
        await host_a.until((LATENCY, (SID_1,)))
        assert host_a.stream.retry_at is None
    await host_a.counts("failures", 2)
    assert host_a.stream.retry_at is not None and 15 < host_a.stream.retry_at - time.time() <= 20
    assert host_a.stream.state == "connecting"
    running.cancel()
    await asyncio.wait({running})
    failures = [message for message in caplog.messages if "connected" not in message]
    assert failures[0].startswith("lost the controller at ")
    assert failures[1].startswith("cannot reach the controller at ")


@in_loop
async def test_a_stream_that_has_ended_is_let_go_of_at_once() -> None:
    """Its channel would go on connecting until the garbage is collected."""

    class Ending:
        async def read(self) -> Any:
            return grpc.aio.EOF

        async def write(self, request: Any) -> None: ...

    stream = ControllerStream(LOOPBACK, PORT, lambda asked, sids: None)
    stream.change([query()], [])
    gc.disable()
    try:
        call = Ending()
        known = weakref.ref(call)
        with contextlib.suppress(StreamEndedError):
            await stream._converse(call)  # type: ignore[arg-type]
        del call
        assert known() is None
    finally:
        gc.enable()
