"""The controller stream against a real gRPC server on ::1, and the messages by themselves."""

import asyncio
import contextlib
import functools
import logging
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

import grpc
import pytest

import hawkwing.controller
from fake_hawkeye.faults import Fault
from fake_hawkeye.paths import Entry, Table
from fake_hawkeye.service import HawkEye, intent_entry, start, to_result
from hawkwing.controller import channel as channel_module
from hawkwing.controller import intent_pb2 as pb
from hawkwing.controller import questions as questions_module
from hawkwing.controller import stream as stream_module
from hawkwing.controller.backoff import Backoff
from hawkwing.controller.channel import StreamEndedError, describe_failure
from hawkwing.controller.messages import query_of, sids_of, to_request
from hawkwing.controller.stream import ControllerStream
from hawkwing.intents import Intent, IntentType, PathQuery
from lab import protoc
from lab.wait import PATIENCE

LOOPBACK = IPv6Address("::1")
HOST_A = IPv6Address("2001:cafe:a::a")
HOST_B = IPv6Address("fcbb:cc00:2::a")
SID_1, SID_2, SID_3 = (IPv6Address(f"fcbb:bb00:{n}::2") for n in (1, 2, 3))


def query(
    intent: Intent | IntentType = IntentType.LOW_LATENCY, destination: IPv6Address = HOST_B
) -> PathQuery:
    return PathQuery(HOST_A, destination, (Intent(intent) if isinstance(intent, IntentType) else intent,))


LATENCY = query()
JITTER = query(IntentType.LOW_JITTER)
LOSS = query(IntentType.LOW_PACKET_LOSS)


def entry(asked: PathQuery, *sids: IPv6Address, error: str | None = None) -> Entry:
    return Entry.model_validate(
        {
            "destination": asked.destination,
            "intents": [intent_entry(intent) for intent in asked.intents],
            "sids": None if error else sids,
            "error": error,
        }
    )


async def wait_until(ready: Callable[[], Any], why: str) -> None:
    """Polls until `ready()` is true; fails with `why` if it never is."""
    loop = asyncio.get_running_loop()
    end = loop.time() + PATIENCE
    while not ready():
        assert loop.time() < end, f"{why}: not within {PATIENCE:g} s"
        await asyncio.sleep(0.002)


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Runs a coroutine test in a fresh event loop."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


class Agent:
    """A running ControllerStream and what it delivered; retries within hundredths of a second."""

    def __init__(self, port: int) -> None:
        self.paths: list[tuple[PathQuery, tuple[IPv6Address, ...]]] = []
        self.notes: list[str] = []
        self.stream = ControllerStream(
            LOOPBACK,
            port,
            lambda asked, sids: self.paths.append((asked, sids)),
            self.notes.append,
            backoff=Backoff(first=0.02, cap=0.1),
        )

    async def until(self, *paths: tuple[PathQuery, tuple[IPv6Address, ...]]) -> None:
        await wait_until(lambda: len(self.paths) >= len(paths), f"{len(paths)} paths, have {self.paths}")
        assert sorted(self.paths, key=str) == sorted(paths, key=str)

    async def counts(self, name: str, number: int) -> None:
        await wait_until(
            lambda: self.stream.counters[name] == number, f"{name} {number}: {self.stream.counters}"
        )


@contextlib.asynccontextmanager
async def agent(port: int, *wanted: PathQuery) -> AsyncIterator[Agent]:
    made = Agent(port)
    made.stream.change(wanted, [])
    running = asyncio.create_task(made.stream.run())
    try:
        yield made
    finally:
        running.cancel()
        done, _ = await asyncio.wait({running}, timeout=PATIENCE)
        assert done, "the stream did not end although it was cancelled"
        assert running.cancelled()


@contextlib.asynccontextmanager
async def controller(*entries: Entry, port: int = 0) -> AsyncIterator[tuple[HawkEye, Table, int]]:
    table = Table(entries)
    hawkeye = HawkEye(table)
    server, port = await start(hawkeye, LOOPBACK, port)
    try:
        yield hawkeye, table, port
    finally:
        await server.stop(None)


def free_port() -> int:
    with socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return int(probe.getsockname()[1])


# Messages


def test_every_value_is_written_with_both_its_number_and_its_string() -> None:
    value = to_request(query(Intent(IntentType.LOW_LATENCY, max_value=300))).intents[0].values[0]
    # type=2 (varint), number_value=300 (varint), string_value="" (length-delimited, empty but present)
    assert value.SerializeToString() == bytes([0x08, 0x02, 0x10, 0xAC, 0x02, 0x1A, 0x00])
    value = to_request(query(Intent(IntentType.SFC, functions=("fw",)))).intents[0].values[0]
    assert value.SerializeToString() == b"\x08\x03\x10\x00\x1a\x02fw"


def test_a_request_carries_addresses_types_and_all_values() -> None:
    intents = (
        Intent(IntentType.SFC, functions=("fw", "ids")),
        Intent(IntentType.FLEX_ALGO, flex_algo_number=128),
        Intent(IntentType.HIGH_BANDWIDTH, min_value=1, max_value=2),
    )
    request = to_request(PathQuery(HOST_A, HOST_B, intents))
    assert (request.ipv6_source_address, request.ipv6_destination_address) == (
        "2001:cafe:a::a",
        "fcbb:cc00:2::a",
    )
    assert [
        (intent.type, [(value.type, value.number_value, value.string_value) for value in intent.values])
        for intent in request.intents
    ] == [(7, [(3, 0, "fw"), (3, 0, "ids")]), (6, [(4, 128, "")]), (1, [(1, 1, ""), (2, 2, "")])]


@pytest.mark.parametrize("kind", IntentType)
def test_a_result_is_recognised_as_the_answer_to_its_request(kind: IntentType) -> None:
    asked = query(Intent(kind, min_value=1, max_value=2, functions=("b", "a"), flex_algo_number=200))
    assert query_of(to_result(to_request(asked), [SID_1])) == asked


def test_a_result_may_spell_addresses_otherwise_and_leave_unused_fields_out() -> None:
    asked = query(Intent(IntentType.LOW_LATENCY, max_value=10))
    result = pb.PathResult(
        ipv6_source_address="2001:CAFE:000a:0::000A",
        ipv6_destination_address="fcbb:cc00:2:0:0:0:0:a",
        intents=[
            pb.Intent(
                type=pb.INTENT_TYPE_LOW_LATENCY,
                values=[pb.Value(type=pb.VALUE_TYPE_MAX_VALUE, number_value=10)],
            )
        ],
    )
    assert query_of(result) == asked


def broken_results() -> dict[str, pb.PathResult]:
    def change(edit: Callable[[pb.PathResult], Any]) -> pb.PathResult:
        request = to_request(query(Intent(IntentType.LOW_LATENCY, max_value=10)))
        result = to_result(request, [SID_1])
        edit(result)
        return result

    def set_to(field: str, text: str) -> Callable[[pb.PathResult], None]:
        return lambda result: setattr(result, field, text)

    return {
        "source is IPv4": change(set_to("ipv6_source_address", "10.0.0.1")),
        "destination is a name": change(set_to("ipv6_destination_address", "host-b")),
        "no addresses": pb.PathResult(),
        "unspecified intent": change(lambda result: setattr(result.intents[0], "type", 0)),
        "unknown intent": change(lambda result: setattr(result.intents[0], "type", 99)),
        "unspecified value": change(lambda result: setattr(result.intents[0].values[0], "type", 0)),
        "value twice": change(lambda result: result.intents[0].values.append(result.intents[0].values[0])),
    }


@pytest.mark.parametrize(
    "result", [pytest.param(result, id=name) for name, result in broken_results().items()]
)
def test_a_result_that_does_not_parse_answers_nothing(result: pb.PathResult) -> None:
    assert query_of(result) is None


def test_sids_come_in_travel_order_and_may_be_none_at_all() -> None:
    assert sids_of(to_result(to_request(LATENCY), [SID_2, SID_1])) == (SID_2, SID_1)
    assert sids_of(to_result(to_request(LATENCY), [])) == ()
    assert len(sids_of(to_result(to_request(LATENCY), [SID_1] * 15))) == 15


@pytest.mark.parametrize(
    ("sids", "sentence"),
    [
        (["10.0.0.1"], "the SID '10.0.0.1' is not an IPv6 address"),
        ([""], "the SID '' is not an IPv6 address"),
        (["fe80::1%eth0"], "the SID 'fe80::1%eth0' has a zone ID"),
        (["fcbb:bb00:1::2", "fe80::1"], "the SID fe80::1 is link-local"),
        (["fcbb:bb00:1::2", "::"], "the SID :: is the unspecified address"),
        (["::1"], "the SID ::1 is the loopback address"),
        (["ff02::1"], "the SID ff02::1 is a multicast address"),
        (["::ffff:10.0.0.1"], " is an IPv4-mapped address"),
        (["fcbb:bb00:1::2"] * 16, "the path has 16 SIDs, at most 15 are possible"),
    ],
)
def test_unusable_sids_are_refused_with_a_sentence(sids: list[str], sentence: str) -> None:
    with pytest.raises(ValueError, match=r"^the ") as caught:
        sids_of(pb.PathResult(ipv6_sid_addresses=sids))
    assert str(caught.value).endswith(sentence)


def test_the_committed_messages_are_the_generated_ones(tmp_path: Path) -> None:
    protoc.regenerate(tmp_path)
    committed = Path(hawkwing.controller.__file__).parent
    for name in protoc.FILES:
        assert (tmp_path / name).read_bytes() == (committed / name).read_bytes(), name


# Back-off and words


def test_backoff_grows_by_its_factor_within_its_jitter_up_to_its_cap() -> None:
    backoff = Backoff()
    expected = 0.5
    for _ in range(20):
        assert expected * 0.8 <= backoff.next() <= min(expected * 1.2, 30)
        expected = min(expected * 1.6, 30)
    backoff.reset()
    assert 0.4 <= backoff.next() <= 0.6


def test_failures_are_described_in_plain_words() -> None:
    assert describe_failure(StreamEndedError()) == "the controller ended the stream"
    assert describe_failure(TimeoutError()) == "no answer within 10 s"


# The stream


@in_loop
async def test_each_failure_is_counted_once_and_the_state_has_its_time() -> None:
    begun = time.time()
    async with agent(free_port(), LATENCY) as host_a:
        await host_a.counts("failures", 1)
        assert begun - 1 <= host_a.stream.since <= time.time()
        assert host_a.stream.counters["cancelled"] == host_a.stream.counters["connections"] == 0
    async with controller(entry(LATENCY, SID_1)) as (_, _, port), agent(port, LATENCY) as host_a:
        connecting = host_a.stream.since
        await host_a.until((LATENCY, (SID_1,)))
        assert connecting < host_a.stream.since <= time.time()
        assert (host_a.stream.counters["requests"], host_a.stream.counters["results"]) == (1, 1)


@in_loop
async def test_what_comes_while_it_leaves_is_not_taken() -> None:
    """The half of the stream that is ours is closed, and the controller may still send."""
    async with controller(entry(LATENCY, SID_1)) as (hawkeye, _, port):
        async with agent(port, LATENCY) as host_a:
            await host_a.until((LATENCY, (SID_1,)))
            host_a.stream._leaving = True
            hawkeye.push_raw(to_result(to_request(LATENCY), [SID_2]))
            await asyncio.sleep(0.1)
        assert host_a.paths == [(LATENCY, (SID_1,))]
        await wait_until(lambda: not hawkeye.sessions, "the controller to see it leave")


@in_loop
async def test_a_query_gets_its_path() -> None:
    async with controller(entry(LATENCY, SID_1, SID_2)) as (_, _, port), agent(port, LATENCY) as host_a:
        await host_a.until((LATENCY, (SID_1, SID_2)))
        assert host_a.stream.state == "connected"
        assert host_a.notes == [f"connected to the controller at [::1]:{port}"]


@in_loop
async def test_queries_that_differ_in_a_value_only_get_their_own_paths() -> None:
    slow, fast = (query(Intent(IntentType.LOW_LATENCY, max_value=value)) for value in (20, 10))
    table = entry(slow, SID_1), entry(fast, SID_2)
    async with controller(*table) as (_, _, port), agent(port, slow, fast) as host_a:
        await host_a.until((slow, (SID_1,)), (fast, (SID_2,)))


@in_loop
async def test_a_query_wanted_later_is_asked_on_the_open_stream() -> None:
    table = entry(LATENCY, SID_1), entry(JITTER, SID_2)
    async with controller(*table) as (hawkeye, _, port), agent(port, LATENCY) as host_a:
        await host_a.until((LATENCY, (SID_1,)))
        host_a.stream.change([JITTER], [])
        await host_a.until((LATENCY, (SID_1,)), (JITTER, (SID_2,)))
        assert len(hawkeye.requests) == 2
        assert host_a.stream.counters["connections"] == 1


@in_loop
async def test_a_query_dropped_and_wanted_again_is_asked_again() -> None:
    async with controller(entry(LATENCY, SID_1)) as (_, _, port), agent(port, LATENCY) as host_a:
        await host_a.until((LATENCY, (SID_1,)))
        host_a.stream.change([], [LATENCY])
        host_a.stream.change([LATENCY], [])
        await host_a.until((LATENCY, (SID_1,)), (LATENCY, (SID_1,)))


@in_loop
async def test_a_number_too_big_for_the_protocol_changes_nothing() -> None:
    async with controller(entry(LATENCY, SID_1)) as (_, _, port), agent(port, LATENCY) as host_a:
        with pytest.raises(ValueError, match="2147483648"):
            host_a.stream.change([query(Intent(IntentType.LOW_LATENCY, max_value=2**31))], [LATENCY])
        await host_a.until((LATENCY, (SID_1,)))


@in_loop
async def test_a_pushed_path_arrives() -> None:
    async with controller(entry(LATENCY, SID_1)) as (hawkeye, table, port), agent(port, LATENCY) as host_a:
        await host_a.until((LATENCY, (SID_1,)))
        table.set(entry(LATENCY, SID_2))
        hawkeye.push(lambda asked: asked == LATENCY)
        await host_a.until((LATENCY, (SID_1,)), (LATENCY, (SID_2,)))


@in_loop
async def test_a_controller_that_starts_after_the_agent_is_found(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "hawkwing.controller")
    port = free_port()
    async with agent(port, LATENCY) as host_a:
        await wait_until(lambda: host_a.stream.counters["failures"] >= 3, "three failed attempts")
        await wait_until(lambda: host_a.stream.retry_at is not None, "a pause")
        assert (host_a.stream.state, host_a.stream.error) == ("connecting", "connection refused")
        async with controller(entry(LATENCY, SID_1), port=port):
            await host_a.until((LATENCY, (SID_1,)))
            said = [record for record in caplog.records if record.levelno > logging.DEBUG]
    assert [(record.levelname, record.message) for record in said] == [
        ("WARNING", f"cannot reach the controller at [::1]:{port}: connection refused"),
        ("INFO", f"connected to the controller at [::1]:{port}"),
    ]


@in_loop
async def test_after_a_controller_died_and_came_back_every_query_is_asked_again() -> None:
    table = entry(LATENCY, SID_1), entry(JITTER, SID_2)
    first = controller(*table)
    _, _, port = await first.__aenter__()
    async with agent(port, LATENCY, JITTER) as host_a:
        await host_a.until((LATENCY, (SID_1,)), (JITTER, (SID_2,)))
        await first.__aexit__(None, None, None)
        await wait_until(lambda: host_a.stream.state == "connecting", "the loss noticed")
        host_a.paths.clear()
        async with controller(*table, port=port) as (hawkeye, _, _):
            await host_a.until((LATENCY, (SID_1,)), (JITTER, (SID_2,)))
            assert len(hawkeye.requests) == 2
            stream = host_a.stream
            assert (stream.state, stream.retry_at, stream.error) == ("connected", None, "")
            notes = list(host_a.notes)
    assert [note.split(" at ")[0] for note in notes] == [
        "connected to the controller",
        "lost the controller",
        "connected to the controller",
    ]


@contextlib.asynccontextmanager
async def answering(work: Callable[[Any], Awaitable[None]]) -> AsyncIterator[int]:
    """A controller that does `work` with each stream; its port."""

    async def serve(_requests: Any, context: Any) -> None:
        await work(context)

    handler = grpc.stream_stream_rpc_method_handler(
        serve, pb.PathRequest.FromString, pb.PathResult.SerializeToString
    )
    made = grpc.aio.server()
    made.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("api.IntentController", {"GetIntentPath": handler}),)
    )
    port = made.add_insecure_port("[::1]:0")
    await made.start()
    try:
        yield port
    finally:
        await made.stop(None)


@pytest.mark.parametrize("code", ["UNKNOWN", "UNAVAILABLE", "RESOURCE_EXHAUSTED", "INTERNAL"])
@in_loop
async def test_a_stream_ended_with_an_error_is_opened_again(code: str) -> None:
    table = entry(LATENCY, SID_1), entry(JITTER, SID_2)
    async with controller(*table) as (hawkeye, _, port), agent(port, LATENCY, JITTER) as host_a:
        await host_a.until((LATENCY, (SID_1,)), (JITTER, (SID_2,)))
        host_a.paths.clear()
        hawkeye.end_streams(grpc.StatusCode[code], "No path found from node A to node B")
        await host_a.until((LATENCY, (SID_1,)), (JITTER, (SID_2,)))
        assert host_a.stream.counters["refused"] == 0
        assert "No path found" in host_a.notes[1]


@in_loop
async def test_a_stream_ended_without_an_error_is_opened_again() -> None:
    streams = 0

    async def hang_up_once(context: Any) -> None:
        nonlocal streams
        streams += 1
        request = await context.read()
        if streams > 1:
            await context.write(to_result(request, [SID_1]))
            await asyncio.Event().wait()

    async with answering(hang_up_once) as port, agent(port, LATENCY) as host_a:
        await host_a.until((LATENCY, (SID_1,)))
        assert host_a.stream.counters["connections"] == 2


@in_loop
async def test_something_else_on_the_port_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "hawkwing.controller")
    server = grpc.aio.server()
    port = server.add_insecure_port("[::1]:0")
    await server.start()
    try:
        async with agent(port, LATENCY) as host_a:
            await wait_until(lambda: host_a.stream.counters["failures"] >= 4, "four attempts")
    finally:
        await server.stop(None)
    assert [record.message.split(":")[0] for record in caplog.records] == [
        "connected to the controller at [",
        "lost the controller at [",
    ]


@in_loop
async def test_a_listener_that_says_nothing_is_never_called_connected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(channel_module, "CONNECT_TIMEOUT", 0.1)
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as silent:
        port = silent.getsockname()[1]
        async with agent(port, LATENCY) as host_a:
            await host_a.counts("failures", 2)
        assert host_a.stream.counters["connections"] == 0
    assert host_a.notes == [f"cannot reach the controller at [::1]:{port}: no answer within 0.1 s"]


@in_loop
async def test_wrong_results_are_counted_and_change_nothing() -> None:
    async with controller(entry(LATENCY, SID_1)) as (hawkeye, _, port), agent(port, LATENCY) as host_a:
        await host_a.until((LATENCY, (SID_1,)))
        of_another_host = PathQuery(HOST_B, HOST_A, LATENCY.intents)
        hawkeye.push_raw(to_result(to_request(of_another_host), [SID_2]))
        hawkeye.push_raw(to_result(to_request(JITTER), [SID_2]))
        await host_a.counts("unasked", 2)
        for result in broken_results().values():
            hawkeye.push_raw(result)
        hawkeye.push_raw(to_result(to_request(LATENCY), [IPv6Address("::")]))
        await host_a.counts("malformed", len(broken_results()) + 1)
        hawkeye.push_raw(to_result(to_request(LATENCY), []))
        await host_a.counts("empty", 1)
        assert host_a.paths == [(LATENCY, (SID_1,))]
        assert host_a.stream.state == "connected"
        assert host_a.stream.counters["failures"] == 0


@in_loop
async def test_an_empty_path_is_not_handed_on() -> None:
    async with controller() as (_, _, port), agent(port, LATENCY) as host_a:
        await host_a.counts("empty", 1)
        assert host_a.paths == []


@in_loop
async def test_a_refused_query_does_not_keep_the_others_from_their_paths() -> None:
    refused = entry(LATENCY, error="No SIDs found for service: fw")
    table = refused, entry(JITTER, SID_1), entry(LOSS, SID_2)
    async with controller(*table) as (hawkeye, _, port), agent(port, LATENCY, JITTER, LOSS) as host_a:
        await host_a.until((JITTER, (SID_1,)), (LOSS, (SID_2,)))
        assert host_a.stream.counters["refused"] == 1
        assert len(hawkeye.sessions) == 1
        assert any("No SIDs found for service: fw" in note and str(LATENCY) in note for note in host_a.notes)


@in_loop
async def test_a_refused_query_is_asked_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions_module, "HOLD_FIRST", 0.05)
    refused = entry(LATENCY, error="No path found from node A to node B")
    async with (
        controller(refused, entry(JITTER, SID_1)) as (_, table, port),
        agent(port, LATENCY, JITTER) as host_a,
    ):
        await host_a.counts("refused", 2)
        table.set(entry(LATENCY, SID_2))
        await wait_until(lambda: (LATENCY, (SID_2,)) in host_a.paths, "the path, no longer refused")


@in_loop
async def test_a_controller_that_answers_nothing_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "SILENCE", 0.2)
    monkeypatch.setattr(questions_module, "AGAIN_FIRST", 0.05)
    async with controller(entry(LATENCY, SID_1)) as (hawkeye, _, port):
        hawkeye.faults.add(Fault(fault="never", times=10**6))
        async with agent(port, LATENCY, JITTER) as host_a:
            await wait_until(lambda: len(host_a.notes) == 2, "the warning")
            assert host_a.notes[1] == (
                f"the controller at [::1]:{port} has sent nothing for 0.2 s, and 2 queries are unanswered: "
                "restart it if this continues"
            )
            asked = len(hawkeye.requests)
            await wait_until(lambda: len(hawkeye.requests) > asked + 2, "asked again")
            assert len(host_a.notes) == 2
            hawkeye.faults.clear()
            await host_a.counts("paths", 1)


@in_loop
async def test_a_failing_callback_does_not_end_the_stream(caplog: pytest.LogCaptureFixture) -> None:
    async with controller(entry(LATENCY, SID_1), entry(JITTER, SID_2)) as (_, _, port):
        taken: list[PathQuery] = []

        def take(asked: PathQuery, sids: tuple[IPv6Address, ...]) -> None:
            taken.append(asked)
            raise KeyError(asked)

        stream = ControllerStream(LOOPBACK, port, take)
        stream.change([LATENCY, JITTER], [])
        running = asyncio.create_task(stream.run())
        await wait_until(lambda: len(taken) == 2, "both paths")
        assert stream.state == "connected"
        running.cancel()
        await asyncio.wait({running})
    assert "taking over the path" in caplog.text


@in_loop
async def test_cancelling_in_the_very_moment_of_an_awaited_answer_ends_the_stream() -> None:
    # After the refusal queries are asked one by one, each waiting for the answer to the one before.
    async with controller(entry(LATENCY, error="No path found"), entry(JITTER, SID_1)) as (_, _, port):
        stream = ControllerStream(
            LOOPBACK, port, lambda asked, sids: running.cancel() and None, backoff=Backoff(first=0.02)
        )
        stream.change([LATENCY, JITTER], [])
        running = asyncio.create_task(stream.run())
        done, _ = await asyncio.wait({running}, timeout=PATIENCE)
        assert done, "the stream still runs"
        assert running.cancelled()
