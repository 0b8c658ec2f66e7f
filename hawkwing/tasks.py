"""Supervised background work: an error is logged once, and the work starts again.

Endless work is restarted, with growing pauses. Exceptions of callbacks are recorded, too; asyncio continues
to call them.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

log = logging.getLogger("hawkwing")
T = TypeVar("T")
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
_MOST_TROUBLES = 100
_CANCELLED_AGAIN = 2.0
"""Seconds."""
SLICE = 0.005
"""Seconds of long work before it yields to other tasks."""


@dataclass
class Trouble:
    """The error of some work: its number, last time, and next restart (None: it runs, or is over)."""

    error: str
    times: int
    last: float
    restarts_at: float | None = None


class Supervisor:
    """Runs the background tasks of one event loop until `close`."""

    def __init__(self, first_pause: float = _FIRST_PAUSE, longest_pause: float = _LONGEST_PAUSE) -> None:
        self._first, self._longest = first_pause, longest_pause
        self._tasks: set[asyncio.Task[None]] = set()
        #: By the name of the work.
        self.troubles: dict[str, Trouble] = {}
        #: Number of restarts of endless work, by its kind.
        self.restarts: dict[str, int] = {}

    def keep(
        self, name: str, work: Callable[[], Awaitable[None]], kind: str | None = None
    ) -> asyncio.Task[None]:
        """Runs `work()` until it returns, again after each exception; the task may be cancelled.

        Restarts are counted by `kind`, because there may be many tasks of one kind, each with its own name.
        """
        kind = kind or name
        self.restarts.setdefault(kind, 0)
        return self._start(self._keeping(name, work, kind))

    def once(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs it to its end, and records its exception."""
        task = self._start(self._noting(name, work))
        # It may be cancelled before its first step.
        task.add_done_callback(lambda _task: work.close())
        return task

    def note(self, name: str, error: BaseException) -> Trouble:
        """Logs an exception, unless this work had the same one before."""
        text, now = _text(error), time.time()
        trouble = self.troubles.get(name)
        if trouble is None or trouble.error != text:
            log.error("%s: %s", name, text, exc_info=error if log.isEnabledFor(logging.DEBUG) else None)
            if trouble is None and len(self.troubles) >= _MOST_TROUBLES:
                self.troubles.pop(next(iter(self.troubles)))
            trouble = self.troubles[name] = Trouble(text, trouble.times if trouble else 0, now)
        trouble.times += 1
        trouble.last = now
        return trouble

    def callback_failed(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """The event loop's exception handler."""
        error = context.get("exception")
        what = context.get("message", "")
        handle = str(context.get("handle", ""))
        name = next((word for word in handle.replace("(", " ").split() if "." in word), "")
        self.note(f"event loop ({name or what})", error if error is not None else RuntimeError(what))

    async def close(self) -> None:
        """Ends all tasks; a task that misses its cancellation is cancelled again."""
        while self._tasks:
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=_CANCELLED_AGAIN)

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _noting(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:
            self.note(name, error)

    async def _keeping(self, name: str, work: Callable[[], Awaitable[None]], kind: str) -> None:
        pause = self._first
        while True:
            begun = time.monotonic()
            try:
                await work()
                return
            except Exception as error:
                if time.monotonic() - begun > self._longest:
                    pause = self._first
                trouble = self.note(name, error)
            trouble.restarts_at = time.time() + pause
            try:
                await asyncio.sleep(pause)
            finally:
                trouble.restarts_at = None
            self.restarts[kind] += 1
            pause = min(pause * 2, self._longest)


def _text(error: BaseException) -> str:
    said = " ".join(str(error).split())
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def heed_cancellation() -> None:
    """Raises CancelledError if this task was cancelled, and a library has swallowed that.

    On Python 3.11 asyncio.wait_for does, if its result arrives at the same time.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def collected(items: Iterable[T]) -> list[T]:
    """Collects all items, and yields to other tasks in between."""
    found: list[T] = []
    await in_turns(map(found.append, items))
    return found


async def in_turns(steps: Iterable[object]) -> None:
    """Runs all steps, and yields to other tasks in between."""
    begun = time.monotonic()
    for _ in steps:
        if time.monotonic() - begun > SLICE:
            await asyncio.sleep(0)
            begun = time.monotonic()


async def in_thread(work: Callable[[], T]) -> T:
    """Runs `work` in a thread, for which the end of the process does not wait."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[T] = loop.create_future()
    threading.Thread(target=_run, args=(work, loop, result), daemon=True).start()
    try:
        return await result
    finally:
        # The exception refers to this frame, and the future to the exception: a cycle for the garbage
        # collector.
        del result


def _run(work: Callable[[], T], loop: asyncio.AbstractEventLoop, result: asyncio.Future[T]) -> None:
    value: T | None = None
    raised: BaseException | None = None
    try:
        value = work()
    except BaseException as error:
        raised = error
    # The loop may have ended in between.
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(_settle, result, value, raised)
    del value, raised, result


def _settle(result: asyncio.Future[Any], value: object, error: BaseException | None) -> None:
    if result.done():
        return
    if error is not None:
        result.set_exception(error)
    else:
        result.set_result(value)
