"""What an agent answers on its control socket, without the agent."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hawkwing.control import ControlServer
from hawkwing.tasks import in_thread
from lab.wait import PATIENCE


@contextmanager
def answering(path: Path, request: str, handler: Callable[[Any], Any]) -> Iterator[None]:
    """A control socket that knows this request, in another thread."""
    there, over = threading.Event(), threading.Event()

    async def main() -> None:
        listening = ControlServer(path, {request: handler})
        await listening.start()
        there.set()
        await in_thread(over.wait)
        listening.close()

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    try:
        assert there.wait(PATIENCE)
        yield
    finally:
        over.set()
        thread.join()
