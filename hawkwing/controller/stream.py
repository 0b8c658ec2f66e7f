"""The stream to HawkEye: reconnects until closed, and sends all queries again on each new connection.

A refused query ends HawkEye's whole stream. So that one bad query does not block the others, the next stream
sends one query at a time, and the refused one is held back for a while.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from typing import Literal

import grpc

from hawkwing.controller import intent_pb2 as pb
from hawkwing.controller.intent_pb2_grpc import IntentControllerStub
from hawkwing.controller.messages import query_of, sids_of, to_request
from hawkwing.intents import PathQuery

State = Literal["connecting", "connected"]

CONNECT_TIMEOUT = 10.0
"""Seconds for TCP and the HTTP/2 settings."""
PATIENCE = 2.0
"""Seconds to wait for one answer before the next query, when they are sent one at a time."""
HOLD_FIRST, HOLD_MOST = 5.0, 600.0
"""Seconds a refused query is held back: the first time, and at most; doubled each time."""

_CHANNEL_OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),  # else a new channel inherits the old one's back-off
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
    ("grpc.keepalive_time_ms", 330_000),  # HawkEye ends connections that ping more often than every 300 s
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.bdp_probe", 0),
)
_REFUSALS = (
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.OUT_OF_RANGE,
)

_log = logging.getLogger(__name__)


class StreamEndedError(Exception):
    """The controller ended the stream without an error."""


class Backoff:
    """Growing, jittered waits, in seconds."""

    def __init__(
        self, first: float = 0.5, factor: float = 1.6, jitter: float = 0.2, cap: float = 30.0
    ) -> None:
        self._first, self._factor, self._jitter, self._cap = first, factor, jitter, cap
        self._delay = first

    def next(self) -> float:
        """The next wait: at most `cap`, jitter included."""
        delay = self._delay
        self._delay = min(delay * self._factor, self._cap)
        return min(delay * random.uniform(1 - self._jitter, 1 + self._jitter), self._cap)

    def reset(self) -> None:
        """Starts again from the first wait."""
        self._delay = self._first


def describe_failure(error: BaseException) -> str:
    """Why the stream failed, for log messages."""
    if isinstance(error, StreamEndedError):
        return "the controller ended the stream"
    if isinstance(error, TimeoutError):
        return f"no answer within {CONNECT_TIMEOUT:g} s"
    if not isinstance(error, grpc.RpcError):
        return f"{type(error).__name__}: {error}"
    code, details = error.code(), error.details() or "no reason given"
    if code is grpc.StatusCode.UNAVAILABLE:
        for reason in ("Connection refused", "No route to host", "Network is unreachable"):
            if reason in details:
                return reason.lower()
        if "CERTIFICATE_VERIFY_FAILED" in details:
            return "its certificate is not signed by hawkeye.tls.ca"
        if "SSL" in details or "handshake" in details.lower():
            return (
                "TLS handshake failed: the controller does not use TLS, or refuses the client's certificate"
            )
        return f"connection lost: {details}"
    if _status_is_lost(error):
        return "the controller ended the stream during a query, without a reason"
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return "the server there is not an intent controller"
    return f"the controller ended the stream: {details} ({code.name})"


def _status_is_lost(error: grpc.RpcError) -> bool:
    """gRPC's asyncio side overwrites the status when a write meets the end of a stream (grpc/grpc#36066)."""
    return error.code() is grpc.StatusCode.INTERNAL and error.details() == "Internal error from Core"


@dataclass
class _Session:
    """One stream: queries to be sent, sent queries with their time (event loop's seconds), and answered ones.

    Updated with each query and answer, so that one answer doesn't take a look at thousands of queries.
    """

    one_by_one: bool
    unasked: dict[PathQuery, None] = field(default_factory=dict)
    asked: dict[PathQuery, float] = field(default_factory=dict)
    unanswered: dict[PathQuery, None] = field(default_factory=dict)
    answered: set[PathQuery] = field(default_factory=set)
    ready: bool = False

    def ask(self, query: PathQuery, now: float) -> None:
        del self.unasked[query]
        self.asked[query] = now
        if query not in self.answered:
            self.unanswered[query] = None

    def answer(self, query: PathQuery) -> None:
        self.answered.add(query)
        self.unanswered.pop(query, None)

    def forget(self, query: PathQuery) -> None:
        for listed in (self.unasked, self.asked, self.unanswered):
            listed.pop(query, None)
        self.answered.discard(query)


@dataclass
class _Hold:
    until: float
    delay: float


class ControllerStream:
    """Sends the wanted queries and passes on the paths that answer them.

    `on_path` gets a wanted query and its SIDs in travel order, never an empty list; `on_note` gets one
    sentence for each event that matters to an operator. Both are called in the event loop's thread.
    """

    def __init__(
        self,
        address: IPv6Address,
        port: int,
        on_path: Callable[[PathQuery, tuple[IPv6Address, ...]], None],
        on_note: Callable[[str], None] = lambda note: None,
        *,
        credentials: grpc.ChannelCredentials | Callable[[], grpc.ChannelCredentials] | None = None,
        describe: Callable[[BaseException], str] = describe_failure,
        backoff: Backoff | None = None,
    ) -> None:
        self.target = f"[{address}]:{port}"
        self.counters = dict.fromkeys(
            (
                "connections",
                "failures",
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
        self._on_path = on_path
        self._on_note = on_note
        self._credentials = credentials
        self._describe = describe
        self._backoff = backoff or Backoff()
        self._wanted: dict[PathQuery, pb.PathRequest] = {}
        self._holds: dict[PathQuery, _Hold] = {}
        self._session = _Session(one_by_one=False)
        self._changed = asyncio.Event()
        self._state: State = "connecting"
        self._since = time.time()
        self._retry_at: float | None = None
        self._error = ""
        self._warned = False
        self._flapping = False

    @property
    def state(self) -> State:
        """`connecting` also between two attempts."""
        return self._state

    @property
    def retry_at(self) -> float | None:
        """When the next attempt begins, in Unix seconds; None during an attempt and while connected."""
        return self._retry_at

    @property
    def error(self) -> str:
        """Why the last attempt or connection failed; empty while connected."""
        return self._error

    @property
    def since(self) -> float:
        """Since when it is in this state, in Unix seconds."""
        return self._since

    def want(self, queries: Collection[PathQuery]) -> None:
        """Sets the queries; new ones are sent at once. ValueError, and no change, if one can't be sent."""
        wanted = dict.fromkeys(queries)
        self.change(wanted, [query for query in self._wanted if query not in wanted])

    def change(self, wanted: Iterable[PathQuery], dropped: Iterable[PathQuery]) -> None:
        """Adds and removes queries, as `want` would; the others stay."""
        requests = {query: to_request(query) for query in wanted if query not in self._wanted}
        for query in dropped:
            self._wanted.pop(query, None)
            self._holds.pop(query, None)
            # A query that is removed and added again is sent again.
            self._session.forget(query)
        self._wanted.update(requests)
        self._session.unasked.update(dict.fromkeys(requests))
        self._changed.set()

    async def run(self) -> None:
        """Keeps the stream up until cancelled; raises nothing else."""
        one_by_one = False
        while True:
            self._session = session = _Session(one_by_one, dict.fromkeys(self._wanted))
            try:
                await self._connect_and_converse(session)
            except Exception as error:
                one_by_one = self._failed(session, error)
            delay = self._backoff.next()
            self._enter("connecting")
            self._retry_at = time.time() + delay
            await asyncio.sleep(delay)
            self._retry_at = None

    async def _connect_and_converse(self, session: _Session) -> None:
        self._enter("connecting")
        channel = self._open_channel()
        try:
            await _settle(channel)
            if channel.get_state() is grpc.ChannelConnectivity.READY:
                self._connected(session)
            # On a channel that could not connect, the call fails at once and says why.
            await self._converse(IntentControllerStub(channel).GetIntentPath(), session)
        finally:
            await channel.close()

    def _open_channel(self) -> grpc.aio.Channel:
        target = f"ipv6:{self.target}"
        if self._credentials is None:
            return grpc.aio.insecure_channel(target, options=_CHANNEL_OPTIONS)
        # Files may have been renewed since the last connection.
        credentials = self._credentials() if callable(self._credentials) else self._credentials
        return grpc.aio.secure_channel(target, credentials, options=_CHANNEL_OPTIONS)

    async def _converse(self, call: grpc.aio.StreamStreamCall, session: _Session) -> None:
        """Sends and receives until the stream ends, which is always an exception."""
        tasks = {
            asyncio.create_task(self._listen(call, session)),
            asyncio.create_task(self._ask(call, session)),
        }
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        try:
            for task in done:
                task.result()
        finally:
            # Otherwise the exception and this frame keep the call alive, whose closed channel reconnects.
            del tasks, done, task

    async def _listen(self, call: grpc.aio.StreamStreamCall, session: _Session) -> None:
        while (result := await call.read()) is not grpc.aio.EOF:
            self._take(result, session)
        raise StreamEndedError

    async def _ask(self, call: grpc.aio.StreamStreamCall, session: _Session) -> None:
        # A broken stream is also noticed when reading, with its status.
        with contextlib.suppress(grpc.RpcError, asyncio.InvalidStateError):
            while True:
                self._changed.clear()
                due, pause = self._due(session)
                for query in due:
                    if query in session.unasked:  # not dropped meanwhile
                        session.ask(query, asyncio.get_running_loop().time())
                        self.counters["requests"] += 1
                        await call.write(self._wanted[query])
                if not due:
                    # Not wait_for: on Python 3.11 it can swallow being cancelled.
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(pause):
                            await self._changed.wait()

    def _due(self, session: _Session) -> tuple[list[PathQuery], float | None]:
        """The queries to send now; if none, the seconds to wait (None: until a change)."""
        free = (query for query in session.unasked if query not in self._holds)
        if not session.one_by_one and (due := list(free)):
            return due, None
        if not session.unasked:
            return [], None
        now = asyncio.get_running_loop().time()
        last = next(reversed(session.unanswered), None)
        waited = PATIENCE if last is None else now - session.asked[last]
        if waited < PATIENCE:
            return [], PATIENCE - waited
        if (query := next(free, None)) is not None:
            return [query], None
        first = min(session.unasked, key=lambda query: self._holds[query].until)
        pause = self._holds[first].until - now
        return ([first], None) if pause <= 0 else ([], pause)

    def _take(self, result: pb.PathResult, session: _Session) -> None:
        self.counters["results"] += 1
        query = query_of(result)
        if query is None:
            self._ignore("malformed", "a result that is no answer to a query")
            return
        if query not in self._wanted:
            self._ignore("unasked", f"a path that was not requested: {query}")
            return
        self._answered(query, session)
        try:
            sids = sids_of(result)
        except ValueError as error:
            self._ignore("malformed", f"the path for {query}: {error}")
            return
        if not sids:
            self._ignore("empty", f"the controller has no path for {query}")
            return
        self.counters["paths"] += 1
        try:
            self._on_path(query, sids)
        except Exception:
            _log.exception("taking over the path for %s failed", query)

    def _answered(self, query: PathQuery, session: _Session) -> None:
        session.answer(query)
        self._holds.pop(query, None)
        self._backoff.reset()
        self._changed.set()
        if not session.ready:
            self._connected(session)
        if self._flapping:
            self._flapping = False
            self._announce()

    def _ignore(self, counter: str, what: str) -> None:
        self.counters[counter] += 1
        _log.debug("ignored from the controller at %s: %s", self.target, what)

    def _connected(self, session: _Session) -> None:
        session.ready = True
        self.counters["connections"] += 1
        self._error = ""
        self._enter("connected")
        if not self._flapping:
            self._announce()

    def _announce(self) -> None:
        self._warned = False
        self._say(logging.INFO, f"connected to the controller at {self.target}")

    def _failed(self, session: _Session, error: Exception) -> bool:
        """Notes the end of a stream; true if the next one should send one query at a time."""
        self.counters["failures"] += 1
        self._error = reason = self._describe(error)
        what = "lost the controller" if session.ready else "cannot reach the controller"
        self._say(logging.DEBUG if self._warned else logging.WARNING, f"{what} at {self.target}: {reason}")
        self._warned = True
        # A controller that accepts and hangs up counts as connected only when it answers.
        self._flapping = session.ready and not session.answered
        if not isinstance(error, grpc.RpcError):
            return False
        refused = error.code() in _REFUSALS
        if refused and (culprit := self._culprit(session)) is not None:
            self._hold(culprit, reason)
        return refused or _status_is_lost(error)

    def _culprit(self, session: _Session) -> PathQuery | None:
        """The query whose refusal ended the stream, if that is known."""
        if len(session.unanswered) == 1:
            return next(iter(session.unanswered))
        last = next(reversed(session.asked), None)
        asked_alone = session.one_by_one or last in self._holds
        return last if asked_alone and last in session.unanswered else None

    def _hold(self, query: PathQuery, reason: str) -> None:
        before = self._holds.get(query)
        delay = HOLD_FIRST if before is None else min(before.delay * 2, HOLD_MOST)
        self._holds[query] = _Hold(asyncio.get_running_loop().time() + delay, delay)
        self.counters["refused"] += 1
        self._say(logging.WARNING, f"no path for {query}: {reason}; next request in {delay:g} s")

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


async def _settle(channel: grpc.aio.Channel) -> None:
    """Waits until the channel is connected or has failed; TimeoutError after CONNECT_TIMEOUT seconds."""
    settled = (grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.TRANSIENT_FAILURE)
    async with asyncio.timeout(CONNECT_TIMEOUT):
        while (state := channel.get_state(try_to_connect=True)) not in settled:
            await channel.wait_for_state_change(state)
