"""Nothing dies in silence: what background work ends of is told once, and it is started again."""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from hawkwing.tasks import Supervisor, collected, heed_cancellation, in_thread, in_turns
from lab.wait import PATIENCE, patient

PROJECT = Path(__file__).resolve().parents[2]


def test_work_that_fails_is_told_once_and_started_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    starts: list[float] = []

    async def work() -> None:
        starts.append(time.monotonic())
        if len(starts) <= 4:
            raise ValueError("no\nsuch thing")

    async def run() -> Supervisor:
        supervisor = Supervisor(first_pause=0.02, longest_pause=0.05)
        async with asyncio.timeout(patient(10)):
            await supervisor.keep("counting", work)
        return supervisor

    supervisor = asyncio.run(run())
    assert caplog.messages == ["counting: ValueError: no such thing"]
    trouble = supervisor.troubles["counting"]
    assert (trouble.error, trouble.times, trouble.restarts_at) == ("ValueError: no such thing", 4, None)
    pauses = [later - earlier for earlier, later in itertools.pairwise(starts)]
    assert len(pauses) == 4
    assert pauses[0] >= 0.02 and pauses[1] >= 0.04 and pauses[3] >= 0.05


def test_restarts_are_counted_by_kind() -> None:
    """Names such as a host's are not told apart: there are too many."""
    failures = iter((True, True, False, True, False))

    async def work() -> None:
        if next(failures):
            raise OSError("no")

    async def run() -> dict[str, int]:
        supervisor = Supervisor(first_pause=0.02, longest_pause=0.05)
        async with asyncio.timeout(patient(10)):
            await supervisor.keep("look-ups of a.example", work, "look-ups")
            await supervisor.keep("look-ups of b.example", work, "look-ups")
            await supervisor.keep("good work", lambda: asyncio.sleep(0))
        return supervisor.restarts

    assert asyncio.run(run()) == {"look-ups": 3, "good work": 0}


def test_another_error_is_told_again(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor = Supervisor()
    for at, error in enumerate((OSError("a"), OSError("a"), OSError("b"), OSError("b"))):
        monkeypatch.setattr("hawkwing.tasks.time.time", lambda at=at: 1000.0 + at)
        supervisor.note("it", error)
        assert (supervisor.troubles["it"].times, supervisor.troubles["it"].last) == (at + 1, 1000.0 + at)
    assert caplog.messages == ["it: OSError: a", "it: OSError: b"]


def test_it_says_when_the_next_start_is() -> None:
    async def broken() -> None:
        raise OSError("broken")

    async def run() -> None:
        supervisor = Supervisor(first_pause=30)
        task = supervisor.keep("broken", broken)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        at = supervisor.troubles["broken"].restarts_at
        assert at is not None and 25 < at - time.time() <= 30
        await supervisor.close()
        assert task.cancelled()

    asyncio.run(run())


def test_a_job_that_fails_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async def job() -> None:
        raise KeyError("x")

    async def run() -> None:
        await Supervisor().once("a job", job())

    asyncio.run(run())
    assert caplog.messages == ["a job: KeyError: 'x'"]


def test_a_callback_that_fails_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    def callback() -> None:
        raise ZeroDivisionError("nothing")

    async def run() -> Supervisor:
        supervisor = Supervisor()
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(supervisor.callback_failed)
        for _ in range(3):
            loop.call_soon(callback)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return supervisor

    (trouble,) = asyncio.run(run()).troubles.values()
    assert trouble.times == 3
    (message,) = caplog.messages
    assert "callback" in message and message.endswith("ZeroDivisionError: nothing")


def test_closing_ends_what_is_started_meanwhile() -> None:
    async def run() -> None:
        supervisor = Supervisor()

        async def last() -> None:
            await asyncio.sleep(60)

        async def first() -> None:
            try:
                await asyncio.sleep(60)
            finally:
                supervisor.keep("last", last)

        supervisor.keep("first", first)
        await asyncio.sleep(0)
        async with asyncio.timeout(patient(5)):
            await supervisor.close()

    asyncio.run(run())


def test_work_in_a_thread() -> None:
    def fails() -> int:
        raise OSError("no")

    async def run() -> None:
        assert await in_thread(lambda: 3) == 3
        with pytest.raises(OSError, match="no"):
            await in_thread(fails)

    asyncio.run(run())


def test_collecting_lets_others_have_their_turn() -> None:
    turns = [0]

    def items() -> Iterator[int]:
        for number in range(40):
            end = time.monotonic() + 0.001
            while time.monotonic() < end:
                pass
            yield number

    async def work() -> None:
        async def count() -> None:
            while True:
                turns[0] += 1
                await asyncio.sleep(0)

        counting = asyncio.create_task(count())
        await asyncio.sleep(0)
        begun = turns[0]
        assert await collected(items()) == list(range(40))
        # Every 5 ms, in 40 ms of work or more.
        assert turns[0] - begun >= 2
        counting.cancel()
        assert await collected(()) == []

    asyncio.run(work())


@pytest.mark.parametrize(("length", "step", "expected"), [(None, 0.002, 7), (5.0, 1.0, 3)])
def test_others_have_their_turn_after_each_slice_of_time(
    length: float | None, step: float, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 5 ms, where it isn't given: in the third step of 2 ms each; in the sixth of those that just fit."""
    now, turns = 100.0, 0

    def steps() -> Iterator[int]:
        nonlocal now
        for number in range(23):
            now += step
            yield number

    async def run() -> None:
        async def count() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        counting = asyncio.create_task(count())
        await asyncio.sleep(0)
        await in_turns(steps())
        counting.cancel()

    if length is not None:
        monkeypatch.setattr("hawkwing.tasks.SLICE", length)
    monkeypatch.setattr("hawkwing.tasks.time.monotonic", lambda: now)
    asyncio.run(run())
    assert turns == expected


def test_only_so_many_troubles_are_kept_the_latest_ones() -> None:
    supervisor = Supervisor()
    for number in range(120):
        supervisor.note(f"work {number}", OSError("no"))
    assert list(supervisor.troubles) == [f"work {number}" for number in range(20, 120)]
    supervisor.note("work 50", OSError("another"))
    assert len(supervisor.troubles) == 100 and supervisor.troubles["work 50"].times == 2


def test_nobody_waits_for_a_thread_at_the_end() -> None:
    program = (
        "import asyncio, time\nfrom hawkwing.tasks import in_thread\n"
        "async def main():\n"
        "    asyncio.create_task(in_thread(lambda: time.sleep(3600)))\n"
        "    await asyncio.sleep(0)\n"
        "asyncio.run(main())\nprint('ended')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, timeout=PATIENCE
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "ended\n", "")


def test_a_thread_that_ends_after_its_event_loop_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    raised: list[object] = []
    monkeypatch.setattr(threading, "excepthook", raised.append)
    others, may_end = set(threading.enumerate()), threading.Event()

    async def run() -> None:
        task = asyncio.create_task(in_thread(may_end.wait))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})

    asyncio.run(run())
    (thread,) = set(threading.enumerate()) - others
    may_end.set()
    thread.join(PATIENCE)
    assert not thread.is_alive() and raised == []


def test_a_result_that_nobody_waits_for_any_more_is_let_go_of(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        may_end = threading.Event()
        task = asyncio.create_task(in_thread(may_end.wait))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        may_end.set()
        # What is put into the loop's queue later has its turn later.
        assert await in_thread(lambda: 3) == 3
        assert task.cancelled()

    asyncio.run(run())
    assert caplog.messages == []


def test_what_work_in_a_thread_raised_is_no_garbage() -> None:
    """Nothing refers to it any more: it is gone without a search for garbage."""

    class BrokenError(Exception):
        pass

    raised: list[weakref.ref[BrokenError]] = []

    def broken() -> BrokenError:
        error = BrokenError()
        raised.append(weakref.ref(error))
        return error

    def work() -> None:
        raise broken()

    async def run() -> None:
        with suppress(BrokenError):
            await in_thread(work)
        async with asyncio.timeout(patient(10)):
            while raised[0]() is not None:  # noqa: ASYNC110
                await asyncio.sleep(0.001)

    gc.disable()
    try:
        asyncio.run(run())
    finally:
        gc.enable()


def test_work_that_misses_its_cancellation_is_cancelled_again() -> None:
    async def work() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)
        await asyncio.sleep(3600)

    async def run() -> None:
        supervisor = Supervisor()
        task = supervisor.keep("deaf", work)
        await asyncio.sleep(0)
        async with asyncio.timeout(patient(10)):
            await supervisor.close()
        assert task.cancelled()

    asyncio.run(run())


def recorded_sleeps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """From now on nobody waits, but for how long they would is written down."""
    waited: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        waited.append(seconds)
        await real(0)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    return waited


def test_the_pauses_between_two_starts_double_up_to_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    waited = recorded_sleeps(monkeypatch)

    async def work() -> None:
        if len(waited) < 9:
            raise OSError("no")

    async def run() -> None:
        await Supervisor().keep("it", work)

    asyncio.run(run())
    assert waited == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_after_it_ran_for_longer_than_the_longest_pause_the_pauses_begin_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waited, now = recorded_sleeps(monkeypatch), time.monotonic()

    async def work() -> None:
        nonlocal now
        if len(waited) == 6:
            return
        now += 100 if len(waited) == 3 else 60
        raise OSError("no")

    async def run() -> None:
        await Supervisor().keep("it", work)

    monkeypatch.setattr("hawkwing.tasks.time.monotonic", lambda: now)
    asyncio.run(run())
    assert waited == [1, 2, 4, 1, 2, 4]


def test_an_error_without_words_is_told_by_its_kind(caplog: pytest.LogCaptureFixture) -> None:
    supervisor = Supervisor()
    trouble = supervisor.note("it", TimeoutError())
    assert caplog.messages == ["it: TimeoutError"]
    assert (trouble.times, trouble.restarts_at) == (1, None) and abs(trouble.last - time.time()) < 60
    assert supervisor.troubles == {"it": trouble}


def test_where_an_exception_comes_from_is_shown_for_debugging_only(caplog: pytest.LogCaptureFixture) -> None:
    for level, shown in ((logging.INFO, False), (logging.DEBUG, True)):
        caplog.set_level(level, "hawkwing")
        caplog.clear()
        Supervisor().note("it", OSError("no"))
        assert bool(caplog.records[0].exc_info) is shown


def test_what_the_event_loop_complains_of_is_noted(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> Supervisor:
        supervisor, loop = Supervisor(), asyncio.get_running_loop()
        supervisor.callback_failed(loop, {"message": "a future was never read"})
        supervisor.callback_failed(
            loop, {"message": "x", "exception": OSError("no"), "handle": "<Handle a.b() at c>"}
        )
        supervisor.callback_failed(loop, {})
        return supervisor

    assert list(asyncio.run(run()).troubles) == [
        "event loop (a future was never read)",
        "event loop (a.b)",
        "event loop ()",
    ]
    assert caplog.messages[:2] == [
        "event loop (a future was never read): RuntimeError: a future was never read",
        "event loop (a.b): OSError: no",
    ]


def test_a_job_that_is_cancelled_before_it_begins_leaves_nothing(recwarn: pytest.WarningsRecorder) -> None:
    async def job() -> None:
        raise AssertionError("it was not to begin")

    async def run() -> None:
        supervisor = Supervisor()
        supervisor.once("a job", job())
        await supervisor.close()
        assert supervisor.troubles == {}

    asyncio.run(run())
    assert not [str(one.message) for one in recwarn if "never awaited" in str(one.message)]


def test_one_whose_cancellation_was_forgotten_is_told_of_it() -> None:
    async def run() -> None:
        begun = asyncio.Event()

        async def forgetting() -> None:
            begun.set()
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(60)
            heed_cancellation()
            raise AssertionError("it goes on")

        heed_cancellation()
        task = asyncio.create_task(forgetting())
        await begun.wait()
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()

    asyncio.run(run())
