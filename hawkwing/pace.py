"""Work at a fixed interval, in a thread of its own: waking an event loop for it takes twice as long."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable


async def at_interval(name: str, milliseconds: float, work: Callable[[], None]) -> None:
    """Calls `work()` in a thread with this name until cancelled; raises its exception.

    After it has returned, `work` is not running any more. Intervals that are missed are left out.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    stop = threading.Lock()
    stop.acquire()

    def end(error: Exception) -> None:
        if not ended.done():
            ended.set_exception(error)

    def run() -> None:
        due = time.monotonic()
        try:
            while True:
                work()
                now = time.monotonic()
                due = max(due + milliseconds / 1000, now)
                if stop.acquire(timeout=due - now):
                    return
        except Exception as error:
            loop.call_soon_threadsafe(end, error)

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    try:
        await ended
    finally:
        stop.release()
        thread.join()
