"""The stream to HawkEye: reconnects until closed, and sends all queries again on each new connection.

`questions` decides when to send which query, and which one to hold back.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Collection, Iterable
from functools import partial
from ipaddress import IPv6Address
from typing import Literal

import grpc

from hawkwing.controller import intent_pb2 as pb
from hawkwing.controller.backoff import Backoff
from hawkwing.controller.channel import (
    Credentials,
    StreamEndedError,
    describe_failure,
    gives_no_reason,
    is_no_controller,
    is_refusal,
    open_channel,
    settle,
)
from hawkwing.controller.intent_pb2_grpc import IntentControllerStub
from hawkwing.controller.messages import query_of, sids_of
from hawkwing.controller.questions import Break, Questions
from hawkwing.intents import PathQuery

State = Literal["connecting", "connected"]

FAREWELL = 0.1
"""Seconds between closing our half of a stream and leaving it: HawkEye 1.0.1 ends another client's stream if
it has not read the end of ours by then."""
SILENCE = 60.0
"""Seconds without a result, while queries are unanswered, until a warning."""
CANCELLED_MOST = 3
"""Streams in a row that may end without an answer and a reason before this counts as a failure."""

_CANCELLED_AGAIN = 0.2
"""Seconds."""

_log = logging.getLogger(__name__)


class ControllerStream:
    """Sends the wanted queries and passes on the paths that answer them.

    `on_path` gets a wanted query and its SIDs in travel order, never an empty list; `on_note` gets one
    sentence for each event that matters to an operator. Both are called in the event loop's thread.
    `name` returns the applications that need a query, `refusal` why none of them can use a path (or nothing).
    """

    def __init__(
        self,
        address: IPv6Address,
        port: int,
        on_path: Callable[[PathQuery, tuple[IPv6Address, ...]], None],
        on_note: Callable[[str], None] = lambda note: None,
        *,
        name: Callable[[PathQuery], str] = str,
        refusal: Callable[[PathQuery, tuple[IPv6Address, ...]], str] = lambda _query, _sids: "",
        credentials: Credentials | None = None,
        describe: Callable[[BaseException], str] = describe_failure,
        backoff: Backoff | None = None,
    ) -> None:
        self.target = f"[{address}]:{port}"
        self.counters = dict.fromkeys(
            (
                "connections",
                "failures",
                "cancelled",
                "refused",
                "requests",
                "results",
                "paths",
                "empty",
                "unasked",
                "malformed",
            ),
            0,
        )
        self.questions = Questions()
        self._open_channel = partial(open_channel, address, port, credentials)
        self._on_path = on_path
        self._on_note = on_note
        self._name = name
        self._refusal = refusal
        self._describe = describe
        self._backoff = backoff or Backoff()
        self._after_cancelled = Backoff(first=0.1)
        self._cancelled = 0
        self._changed = asyncio.Event()
        self._state: State = "connecting"
        self._since = time.time()
        self._retry_at: float | None = None
        self._error = ""
        self._ready = False
        self._heard: float | None = None  # time of the last result on this stream; None: a warning was logged
        self._leaving = False
        self._announced = False
        self._warned = False
        self._flapping = False

    @property
    def state(self) -> State:
        """The state; `connecting` also between two attempts."""
        return self._state

    @property
    def retry_at(self) -> float | None:
        """When the next attempt begins, in Unix seconds; None during an attempt and while connected."""
        return self._retry_at

    @property
    def error(self) -> str:
        """The reason for the last failure; empty while connected."""
        return self._error

    @property
    def since(self) -> float:
        """The time of the last change of the state, in Unix seconds."""
        return self._since

    def change(self, wanted: Iterable[PathQuery], dropped: Iterable[PathQuery]) -> None:
        """Adds and removes queries; the others stay. New ones, also former ones, are sent at once.

        ValueError, and no change, if one can't be sent.
        """
        self.questions.change(wanted, dropped)
        self._changed.set()

    async def run(self) -> None:
        """Keeps the stream up until cancelled; raises nothing else."""
        while True:
            self.questions.begin(self.now())
            self._ready = False
            try:
                await self._connect_and_converse()
            except Exception as error:
                delay = self._failed(error)
            self._enter("connecting")
            self._retry_at = time.time() + delay
            await asyncio.sleep(delay)
            self._retry_at = None

    async def _connect_and_converse(self) -> None:
        """Runs one stream; always ends with an exception."""
        channel = self._open_channel()
        try:
            await settle(channel)
            if channel.get_state() is grpc.ChannelConnectivity.READY:
                self._connected()
            # On a channel that could not connect, the call fails at once, with the reason.
            await self._converse(IntentControllerStub(channel).GetIntentPath())
        finally:
            await channel.close()

    async def _converse(self, call: grpc.aio.StreamStreamCall) -> None:
        """Sends and receives until the stream ends, which is always an exception."""
        tasks = {asyncio.create_task(self._listen(call)), asyncio.create_task(self._ask(call))}
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        except asyncio.CancelledError:
            await self._leave(call, tasks)
            raise
        finally:
            await _end(tasks)
        try:
            for task in done:
                task.result()
        finally:
            # Otherwise the exception and this frame keep the call alive, whose closed channel reconnects.
            del tasks, done, task

    async def _leave(self, call: grpc.aio.StreamStreamCall, tasks: Collection[asyncio.Task[None]]) -> None:
        """Closes our half of the stream and gives the controller time to read it."""
        self._leaving = True
        # Nothing to do if the stream has ended, or is in the middle of a write.
        with contextlib.suppress(Exception):
            async with asyncio.timeout(FAREWELL):
                await call.done_writing()
                await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)

    async def _listen(self, call: grpc.aio.StreamStreamCall) -> None:
        while (result := await call.read()) is not grpc.aio.EOF:
            self._take(result)
        raise StreamEndedError

    async def _ask(self, call: grpc.aio.StreamStreamCall) -> None:
        # Reading reports a broken stream, too, with its status.
        with contextlib.suppress(grpc.RpcError, asyncio.InvalidStateError):
            while not self._leaving:
                self._changed.clear()
                self._tell_of_silence()
                due, pause = self.questions.due(self.now())
                for question in due:
                    if not question.dropped and not self._leaving:
                        self.questions.asked(question, self.now())
                        self.counters["requests"] += 1
                        await call.write(question.request)
                if not due:
                    # Not wait_for: on Python 3.11 it can swallow a cancellation.
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(pause):
                            await self._changed.wait()

    def _take(self, result: pb.PathResult) -> None:
        if self._leaving:
            return
        self._heard = self.now()
        self.counters["results"] += 1
        query = query_of(result)
        if query is None:
            self._ignore("malformed", "a result without a valid request")
            return
        question = self.questions.answered(query, self.now())
        if question is None:
            self._ignore("unasked", f"a path that was not requested: {query}")
            return
        self._answered()
        try:
            sids = sids_of(result)
            if refused := self._refusal(query, sids):
                raise ValueError(refused)
        except ValueError as error:
            self._ignore("malformed", f"the path for {self._name(query)}: {error}")
            return
        question.empty = not sids
        if not sids:
            self._ignore("empty", f"the controller has no path for {self._name(query)}")
            return
        self.counters["paths"] += 1
        try:
            self._on_path(query, sids)
        except Exception:
            _log.exception("taking over the path for %s failed", self._name(query))

    def _tell_of_silence(self) -> None:
        """Warns of silence: HawkEye 1.0.1 can hang, accept connections and answer no client."""
        waiting = bool(self.questions.open)
        if waiting and self._heard is not None and self.now() - self._heard > SILENCE:
            self._heard = None
            count = len(self.questions.unanswered())
            what = f"{count} queries are" if count > 1 else "one query is"
            sentence = f"the controller at {self.target} has sent nothing for {SILENCE:g} s"
            self._say(logging.WARNING, f"{sentence}, and {what} unanswered: restart it if this continues")

    def _answered(self) -> None:
        self._backoff.reset()
        self._after_cancelled.reset()
        self._cancelled = 0
        self._changed.set()
        if not self._ready:
            self._connected()
        if self._flapping:
            self._flapping = False
            self._announce()

    def _ignore(self, counter: str, what: str) -> None:
        self.counters[counter] += 1
        _log.debug("ignored from the controller at %s: %s", self.target, what)

    def _connected(self) -> None:
        self._ready = True
        self._heard = self.now()
        self.counters["connections"] += 1
        self._error = ""
        self._enter("connected")
        if not self._flapping:
            self._announce()

    def _announce(self) -> None:
        self._warned = False
        if not self._announced:
            self._announced = True
            self._say(logging.INFO, f"connected to the controller at {self.target}")

    def _failed(self, error: Exception) -> float:
        """Handles the end of a stream; returns the seconds until the next attempt."""
        reason = self._describe(error)
        if gives_no_reason(error):
            self.counters["cancelled"] += 1
            self._cancelled += 1
            self._blame(Break.CANCELLED, reason)
            if self._cancelled <= CANCELLED_MOST:
                _log.debug("reconnecting to the controller at %s: %s", self.target, reason)
                return self._after_cancelled.next()
        self.counters["failures"] += 1
        self._error = reason
        what = "lost the controller" if self._ready else "cannot reach the controller"
        self._announced = False
        self._say(logging.DEBUG if self._warned else logging.WARNING, f"{what} at {self.target}: {reason}")
        self._warned = True
        # A controller that accepts and hangs up counts as connected only when it answers.
        self._flapping = self._ready and not self.questions.answers
        if self._ready and not gives_no_reason(error) and not is_no_controller(error):
            self._blame(Break.REFUSED if is_refusal(error) else Break.BROKEN, reason)
        return self._backoff.next()

    def _blame(self, how: Break, reason: str) -> None:
        """Finds the query that ended the stream, and logs it."""
        if how is not Break.REFUSED:
            reason = f"the stream ended when only this query was open ({reason})"
        held = self.questions.broke(how, self.now(), reason)
        if held is not None:
            self.counters["refused"] += 1
            what = f"no path for {self._name(held.query)}: {held.reason}"
            self._say(logging.WARNING, f"{what}; next request in {held.hold:g} s")

    @staticmethod
    def now() -> float:
        """The time of `questions`."""
        return asyncio.get_running_loop().time()

    def _enter(self, state: State) -> None:
        if state != self._state:
            self._state, self._since = state, time.time()

    def _say(self, level: int, sentence: str) -> None:
        _log.log(level, sentence)
        if level >= logging.INFO:
            try:
                self._on_note(sentence)
            except Exception:
                _log.exception("passing on a note failed")


async def _end(tasks: Collection[asyncio.Task[None]]) -> None:
    """Cancels them, repeatedly: gRPC's `read` misses a cancellation while a request is written."""
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=_CANCELLED_AGAIN)
