"""The streams of HawkEye 1.0.1: all share one channel for results and one for errors.

Each request adds a receiver to its stream, and the receiver that has waited longest gets the next result, of
any stream. An error ends the stream that has been open longest. If a client disconnects, or its stream ends,
while its requests are still being read, this is an error, too: CANCELLED, for another stream.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any, TextIO

import grpc

from fake_hawkeye.answers import Answer, End
from fake_hawkeye.crash import CrashError, crash
from fake_hawkeye.paths import Outcome, PathSource
from fake_hawkeye.service import HawkEye, Session, to_answer
from fake_hawkeye.validation import refusal
from hawkwing.controller import intent_pb2 as pb
from hawkwing.controller.messages import query_of
from hawkwing.intents import PathQuery

_NOTICED = 0.02
"""Seconds: when a client disconnects, gRPC first reports the end of its requests, then the disconnection."""
_LEFT = End(grpc.StatusCode.CANCELLED, "context canceled")


class SharedHawkEye(HawkEye):
    """Answers from `paths`; any stream can get an answer."""

    def __init__(
        self, paths: PathSource, record: TextIO | None = None, crash: Callable[[str], None] = crash
    ) -> None:
        super().__init__(paths, record)
        self._results: asyncio.Queue[Answer] = asyncio.Queue()
        self._ends: asyncio.Queue[End] = asyncio.Queue()
        self._crash = crash
        #: Answered queries, each with its first stream: the query is removed with this stream.
        self._stored: dict[PathQuery, tuple[pb.PathRequest, int]] = {}
        self._takers: dict[int, set[asyncio.Task[None]]] = {}

    async def GetIntentPath(self, requests: Any, context: Any) -> None:  # noqa: N802
        """Serves one stream until its client leaves or any error ends it."""
        if not self._ends.empty():
            # An earlier error that was pending; it ends this stream, from which nothing is read.
            await self._end(self._ends.get_nowait(), context)
        session = self._enter(context)
        takers = self._takers[session.number] = {asyncio.create_task(self._take_end(session))}
        reading = asyncio.create_task(self._read(requests, session))
        try:
            end = await self._write(session, context)
        finally:
            if not reading.done():
                self._ends.put_nowait(_LEFT)
            self._leave(session)
            tasks = {reading, *takers}
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        await self._end(end, context)

    def push(self, concerns: Callable[[PathQuery], bool]) -> int:
        """Sends the current paths of these queries, each once, to any receiver; returns their number."""
        return self.tell({query: self._outcome(query) for query in self._stored if concerns(query)})

    def tell(self, news: Mapping[PathQuery, Outcome]) -> int:
        """The same for the result of a recalculation."""
        told = [(self._stored[query][0], outcome) for query, outcome in news.items() if query in self._stored]
        for request, outcome in told:
            self._results.put_nowait(to_answer(_bare(request), outcome))
        return len(told)

    def clear(self) -> None:
        """Restores correct answers, and discards leftovers for the next stream."""
        super().clear()
        for waiting in (self._results, self._ends):
            while not waiting.empty():
                waiting.get_nowait()

    async def _read(self, requests: Any, session: Session) -> None:
        with contextlib.suppress(grpc.RpcError):
            async for request in requests:
                self._note(request, session)
                query, problem = query_of(request), refusal(request)
                if query is None or problem is not None:
                    # The stream with the request is no longer read, and another one may be ended.
                    end = End(grpc.StatusCode.UNKNOWN, problem or "the request is not valid")
                    self._ends.put_nowait(end)
                    return
                session.asked[query] = request
                self._takers[session.number].add(asyncio.create_task(self._take_results(session)))
                await asyncio.sleep(0)  # the new receiver is in the queue before the result arrives
                answer = to_answer(_bare(request), self._outcome(query))
                if not isinstance(answer, End):
                    self._stored.setdefault(query, (request, session.number))
                self._spoil_and_send(request, answer, self._results)
        await asyncio.sleep(_NOTICED)
        session.half_closed = True

    def _outcome(self, query: PathQuery) -> Outcome:
        try:
            return super()._outcome(query)
        except CrashError as error:
            self._crash(str(error))
            raise

    async def _take_results(self, session: Session) -> None:
        while True:
            answer = await self._results.get()
            if isinstance(answer, End):
                self._ends.put_nowait(answer)
                return
            session.outbox.put_nowait(answer)

    async def _take_end(self, session: Session) -> None:
        session.outbox.put_nowait(await self._ends.get())

    def _leave(self, session: Session) -> None:
        del self.sessions[session.number]
        del self._takers[session.number]
        for query in [query for query, (_, number) in self._stored.items() if number == session.number]:
            del self._stored[query]
            self._paths.forget(query)


def _bare(request: pb.PathRequest) -> pb.PathRequest:
    """The request as repeated in a result: each value has its number or its string, never both."""
    bare = pb.PathRequest()
    bare.CopyFrom(request)
    for intent in bare.intents:
        for value in intent.values:
            value.ClearField("number_value" if value.type == pb.VALUE_TYPE_SFC else "string_value")
    return bare
