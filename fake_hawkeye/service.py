"""The gRPC service: streams with their requests, answers, pushes, and the record of all requests."""

import asyncio
import contextlib
import itertools
import json
import time
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from typing import Any, TextIO

import grpc
from google.protobuf import json_format

from fake_hawkeye.answers import Answer, End, to_result
from fake_hawkeye.faults import Faults
from fake_hawkeye.paths import Outcome, PathSource, Refused
from fake_hawkeye.validation import refusal
from hawkwing.controller import intent_pb2 as pb
from hawkwing.controller.intent_pb2_grpc import add_IntentControllerServicer_to_server
from hawkwing.controller.messages import query_of
from hawkwing.intents import Intent, PathQuery


@dataclass
class Session:
    """One open stream; `asked` has each request unchanged, for the answers."""

    number: int
    peer: str
    asked: dict[PathQuery, pb.PathRequest] = field(default_factory=dict)
    half_closed: bool = False
    outbox: asyncio.Queue[Answer] = field(default_factory=asyncio.Queue)


class HawkEye:
    """Answers from `paths`; each stream gets only answers to its own requests."""

    def __init__(self, paths: PathSource, record: TextIO | None = None) -> None:
        self.sessions: dict[int, Session] = {}
        self.requests: list[dict[str, Any]] = []
        self.faults = Faults()
        self._paths = paths
        self._record = record
        self._numbers = itertools.count(1)

    async def GetIntentPath(self, requests: Any, context: Any) -> None:  # noqa: N802
        """Serves one stream until its client leaves; half-closing it leaves it open for pushes."""
        session = self._enter(context)
        reading = asyncio.create_task(self._read(requests, session))
        try:
            await self._end(await self._write(session, context), context)
        finally:
            self._leave(session)
            reading.cancel()
            await asyncio.wait({reading})

    def push(self, concerns: Callable[[PathQuery], bool]) -> int:
        """Sends the queries' current paths on the streams that requested them; returns their number."""
        concerned = [
            (session, request)
            for session in self.sessions.values()
            for query, request in session.asked.items()
            if concerns(query)
        ]
        for session, request in concerned:
            session.outbox.put_nowait(self._answer(session, request))
        return len(concerned)

    def tell(self, news: Mapping[PathQuery, Outcome]) -> int:
        """Sends a recalculation's result on the streams that requested it; returns their number."""
        concerned = [
            (session, request, news[query])
            for session in self.sessions.values()
            for query, request in session.asked.items()
            if query in news
        ]
        for session, request, outcome in concerned:
            session.outbox.put_nowait(to_answer(request, outcome))
        return len(concerned)

    def push_raw(self, result: pb.PathResult) -> int:
        """Sends any result on all streams; returns their number."""
        for session in self.sessions.values():
            session.outbox.put_nowait(result)
        return len(self.sessions)

    def end_streams(self, code: grpc.StatusCode, message: str) -> int:
        """Ends all streams with an error, after pending answers; returns their number."""
        for session in self.sessions.values():
            session.outbox.put_nowait(End(code, message))
        return len(self.sessions)

    def clear(self) -> None:
        """Restores correct answers."""
        self.faults.clear()

    def _enter(self, context: Any) -> Session:
        session = Session(next(self._numbers), urllib.parse.unquote(context.peer()))
        self.sessions[session.number] = session
        return session

    @staticmethod
    async def _write(session: Session, context: Any) -> End:
        """Runs until the stream has to end."""
        while not isinstance(item := await session.outbox.get(), End):
            await context.write(item)
        return item

    @staticmethod
    async def _end(end: End, context: Any) -> None:
        if end.code is not grpc.StatusCode.OK:
            await context.abort(end.code, end.message)

    async def _read(self, requests: Any, session: Session) -> None:
        with contextlib.suppress(grpc.RpcError):
            async for request in requests:
                self._note(request, session)
                self._spoil_and_send(request, self._answer(session, request), session.outbox)
        session.half_closed = True

    def _spoil_and_send(self, request: pb.PathRequest, honest: Answer, to: asyncio.Queue[Answer]) -> None:
        for delay, answer in self.faults.spoil(request, honest):
            if delay:
                asyncio.get_running_loop().call_later(delay, to.put_nowait, answer)
            else:
                to.put_nowait(answer)

    def _answer(self, session: Session, request: pb.PathRequest) -> Answer:
        query = query_of(request)
        if query is None:
            return End(grpc.StatusCode.UNKNOWN, refusal(request) or "the request is not valid")
        session.asked[query] = request
        return to_answer(request, self._outcome(query))

    def _outcome(self, query: PathQuery) -> Outcome:
        try:
            return self._paths.path(query)
        except Refused as error:
            return error

    def _leave(self, session: Session) -> None:
        del self.sessions[session.number]
        for query in session.asked:
            if not any(query in other.asked for other in self.sessions.values()):
                self._paths.forget(query)

    def _note(self, request: pb.PathRequest, session: Session) -> None:
        note = {"time": time.time(), "peer": session.peer, "session": session.number, **readable(request)}
        self.requests.append(note)
        if self._record is not None:
            self._record.write(json.dumps(note) + "\n")
            self._record.flush()


def to_answer(request: pb.PathRequest, outcome: Outcome) -> Answer:
    """A result, or the end of a stream."""
    if isinstance(outcome, Refused):
        return End(grpc.StatusCode.UNKNOWN, str(outcome))
    return to_result(request, outcome)


def readable(request: pb.PathRequest) -> dict[str, Any]:
    """A readable request: unchanged addresses, and intents as in a configuration file if they parse."""
    query = query_of(request)
    intents = (
        [json_format.MessageToDict(intent) for intent in request.intents]
        if query is None
        else [intent_entry(intent) for intent in query.intents]
    )
    return {
        "source": request.ipv6_source_address,
        "destination": request.ipv6_destination_address,
        "intents": intents,
    }


def intent_entry(intent: Intent) -> dict[str, Any]:
    """The intent as in a configuration file."""
    entry: dict[str, Any] = {"intent": intent.type.value}
    for key in ("min_value", "max_value", "flex_algo_number"):
        if (value := getattr(intent, key)) is not None:
            entry[key] = value
    if intent.functions:
        entry["functions"] = list(intent.functions)
    return entry


async def start(
    hawkeye: HawkEye, address: IPv6Address, port: int, credentials: grpc.ServerCredentials | None = None
) -> tuple[grpc.aio.Server, int]:
    """A listening server and its port, selected by the kernel for 0; RuntimeError if it can't listen."""
    # Without so_reuseport=0 a second controller would share the port instead of failing.
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    add_IntentControllerServicer_to_server(hawkeye, server)
    target = f"[{address}]:{port}"
    bound: int = (
        server.add_secure_port(target, credentials) if credentials else server.add_insecure_port(target)
    )
    await server.start()
    return server, bound
