"""The stand-in controller as HawkEye 1.0.1: answers and errors that go to other clients, and crashes."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest

from fake_hawkeye.control import Control
from lab.wait import PATIENCE
from tests.unit.test_fake_hawkeye import LATENCY, Client, Program, wait_until
from tests.unit.test_fake_hawkeye_sessions import FAST, NEVER, WIDE, write_topology

JITTER = [{"intent": "low-jitter"}]
TWICE = [*LATENCY, *LATENCY]
CANCELLED = (grpc.StatusCode.CANCELLED, "context canceled")


class Started:
    """A controller, its control client, and clients that are closed in the end."""

    def __init__(self, program: Program, stack: ExitStack) -> None:
        self.program = program
        self.control = stack.enter_context(Control(program.control_path))
        self._stack = stack
        self._clients = 0

    def client(self) -> Client:
        """Once the controller knows it: who comes first matters."""
        made = Client(self.program.port)
        self._stack.callback(made.close)
        self._clients += 1
        count = self._clients
        wait_until(lambda: len(self.control.sessions()) == count, "the stream open")
        return made

    def sessions(self, count: int) -> list[dict[str, Any]]:
        wait_until(lambda: len(self.control.sessions()) == count, f"{count} streams")
        self._clients = count
        return self.control.sessions()


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Started]:
    """A controller for one test."""
    program = Program(tmp_path, like="1.0.1", topology=write_topology(tmp_path), batch=NEVER)
    with ExitStack() as stack:
        stack.callback(program.finish)
        yield Started(program, stack)


def test_an_answer_goes_to_whoever_has_waited_longest(started: Started) -> None:
    first, second = started.client(), started.client()
    first.ask(LATENCY)
    assert first.sids() == FAST
    second.ask(JITTER)
    assert [intent.type for intent in first.result().intents] == [5], "the other's answer"
    second.ask(JITTER)
    assert second.sids()
    wait_until(lambda: len(started.control.requests()) == 3, "all are read")


def test_a_push_goes_to_one_stream(started: Started) -> None:
    first, second = started.client(), started.client()
    first.ask(LATENCY)
    assert first.sids() == FAST
    second.ask(LATENCY)
    assert first.sids() == FAST
    started.control.set_link("vpp1-vpp2", up=False)
    assert started.control.recalculate() == 1
    assert second.sids() == WIDE


def test_what_was_asked_is_forgotten_with_the_stream_that_asked_it_first(started: Started) -> None:
    first, second = started.client(), started.client()
    first.ask(LATENCY)
    assert first.sids() == FAST
    first.half_close()
    wait_until(lambda: any(one["half_closed"] for one in started.control.sessions()), "the half-close")
    first.close()
    started.sessions(1)
    started.control.set_link("vpp1-vpp2", up=False)
    assert started.control.recalculate() == 0
    second.ask(LATENCY)
    assert second.sids() == WIDE


def test_a_refusal_ends_the_stream_that_was_opened_first_and_the_next_one_with_it(started: Started) -> None:
    first, second = started.client(), started.client()
    second.ask(TWICE)
    assert first.error() == (grpc.StatusCode.UNKNOWN, "Intent type LowLatency appears more than once")
    assert second.error() == CANCELLED


def test_a_client_that_leaves_gets_another_one_cancelled(started: Started) -> None:
    first, second = started.client(), started.client()
    first.close()
    assert second.error() == CANCELLED
    third = Client(started.program.port)
    assert third.error() == CANCELLED
    third.close()
    started.sessions(0)
    fourth = started.client()
    fourth.ask(LATENCY)
    assert fourth.sids() == FAST


def test_a_client_that_half_closes_first_harms_nobody(started: Started) -> None:
    first, second = started.client(), started.client()
    first.half_close()
    wait_until(lambda: any(one["half_closed"] for one in started.control.sessions()), "the half-close")
    first.close()
    started.sessions(1)
    second.ask(LATENCY)
    assert second.sids() == FAST


def test_a_path_that_cannot_be_found_ends_a_stream(started: Started) -> None:
    client = started.client()
    client.ask([{"intent": "sfc", "functions": ["spam"]}])
    code, text = client.error()
    assert code is grpc.StatusCode.UNKNOWN
    assert text.startswith("failed to calculate path result: error setting up service function chain: ")


def test_a_lost_path_ends_a_stream_at_each_recalculation(started: Started) -> None:
    clients = [started.client(), started.client()]
    clients[1].ask(LATENCY)
    assert clients[1].sids() == FAST
    started.control.set_link("site-a-vpp1", up=False)
    assert started.control.recalculate() == 1
    assert clients[0].error() == (grpc.StatusCode.UNKNOWN, "No path found from node site-a to node site-b")


@pytest.mark.parametrize(
    "intents", [[{"intent": "high-bandwidth"}, {"intent": "low-latency"}], [{"intent": "low-bandwidth"}]]
)
def test_it_answers_what_does_not_crash_it(started: Started, intents: list[dict[str, Any]]) -> None:
    client = started.client()
    client.ask(intents)
    assert client.sids()


def test_it_crashes_as_a_whole(started: Started, tmp_path: Path) -> None:
    client, other = started.client(), started.client()
    client.ask(LATENCY, source="fcbb:cc00:2::77")
    _, errors = started.program.process.communicate(timeout=PATIENCE)
    assert started.program.process.returncode == 2
    assert errors == "panic: the path from site-b to itself has no links\n"
    assert [one.error()[0] for one in (client, other)] == [grpc.StatusCode.UNAVAILABLE] * 2
    again = Program(tmp_path, like="1.0.1", port=started.program.port, topology=write_topology(tmp_path))
    fresh = Client(again.port)
    fresh.ask(LATENCY)
    assert fresh.sids() == FAST
    fresh.close()
    assert again.finish()[0] == 0


def test_another_release_is_not_known(tmp_path: Path) -> None:
    program = Program(tmp_path, like="2.0")
    _, errors = program.process.communicate(timeout=PATIENCE)
    assert program.process.returncode == 2
    assert "--like: invalid choice: '2.0'" in errors
