"""The control socket: one JSON object per line in each direction, to control the mock controller."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import grpc
from google.protobuf import json_format
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fake_hawkeye.answers import status_code
from fake_hawkeye.faults import Fault
from fake_hawkeye.graph import Network
from fake_hawkeye.listener import Listener
from fake_hawkeye.paths import Entry, Table, first_fault
from fake_hawkeye.service import HawkEye, readable
from fake_hawkeye.sessions import Updates
from hawkwing.controller import intent_pb2 as pb

Reply = dict[str, Any]
_LONGEST_LINE = 2**20


class ServerFault(BaseModel):
    """An event that affects the whole controller."""

    model_config = ConfigDict(extra="forbid")

    fault: Literal["goaway", "refuse", "die", "clear"]
    seconds: Annotated[float, Field(ge=0, le=3600)] | None = None


class Operations:
    """The commands of control clients; each method gets the request without its `op` and returns the reply.

    Without `updates` the controller computes no paths, and has no links and services.
    """

    def __init__(
        self,
        hawkeye: HawkEye,
        table: Table,
        listener: Listener,
        network: Network | None = None,
        updates: Updates | None = None,
    ) -> None:
        self._hawkeye = hawkeye
        self._table = table
        self._listener = listener
        self._network = network
        self._updates = updates
        self._methods: dict[str, Callable[[Reply], Reply | Awaitable[Reply]]] = {
            "set": self._set,
            "sessions": self._sessions,
            "requests": self._requests,
            "end_streams": self._end_streams,
            "raw_push": self._raw_push,
            "link": self._link,
            "service": self._service,
            "network": self._show_network,
            "recalculate": self._recalculate,
            "fault": self._fault,
        }

    async def reply(self, line: bytes) -> Reply:
        """Executes one line; never raises, an invalid one gets `{"ok": false, "error": sentence}`."""
        try:
            command = json.loads(line)
            if not isinstance(command, dict) or command.get("op") not in self._methods:
                raise ValueError(f"a command is an object with an op out of {', '.join(self._methods)}")
            outcome = self._methods[command.pop("op")](command)
            return {"ok": True, **(outcome if isinstance(outcome, dict) else await outcome)}
        except ValidationError as error:
            return {"ok": False, "error": first_fault(error)}
        except (ValueError, TypeError, KeyError, OSError, RuntimeError, json_format.ParseError) as error:
            return {"ok": False, "error": str(error)}

    def _set(self, command: Reply) -> Reply:
        entry = Entry.model_validate(command)
        self._table.set(entry)
        return {"pushed": self._hawkeye.push(lambda query: self._table.entry(query) is entry)}

    def _sessions(self, command: Reply) -> Reply:
        return {
            "sessions": [
                {
                    "session": session.number,
                    "peer": session.peer,
                    "half_closed": session.half_closed,
                    "asked": [readable(request) for request in session.asked.values()],
                }
                for session in self._hawkeye.sessions.values()
            ]
        }

    def _requests(self, command: Reply) -> Reply:
        return {"requests": self._hawkeye.requests}

    def _end_streams(self, command: Reply) -> Reply:
        name = command.get("code", "UNKNOWN")
        if name not in {code.name for code in grpc.StatusCode} - {"OK"}:
            raise ValueError(f"{name!r} is not a gRPC error code")
        code = status_code(name)
        return {"ended": self._hawkeye.end_streams(code, str(command.get("message", "")))}

    def _raw_push(self, command: Reply) -> Reply:
        return {"pushed": self._hawkeye.push_raw(json_format.ParseDict(command["result"], pb.PathResult()))}

    def _link(self, command: Reply) -> Reply:
        network, updates = self._computing()
        network.change_link(str(command.pop("link")), **command)
        updates.changed()
        return {}

    def _service(self, command: Reply) -> Reply:
        network, updates = self._computing()
        if not isinstance(command["healthy"], bool):
            raise ValueError("healthy must be true or false")
        network.change_service(command["service"], command["router"], command["healthy"])
        updates.changed()
        return {}

    def _show_network(self, command: Reply) -> Reply:
        network, _ = self._computing()
        return {
            "links": {name: metrics.model_dump() for name, metrics in network.links.items()},
            "services": [
                {"service": one.function, "router": one.router, "sid": str(one.sid), "healthy": healthy}
                for one, healthy in network.services.items()
            ],
        }

    def _recalculate(self, command: Reply) -> Reply:
        return {"pushed": self._computing()[1].now()}

    async def _fault(self, command: Reply) -> Reply:
        if command.get("fault") not in ("goaway", "refuse", "die", "clear"):
            self._hawkeye.faults.add(Fault.model_validate(command))
            return {}
        wanted = ServerFault.model_validate(command)
        match wanted.fault:
            case "goaway":
                await self._listener.go_away(wanted.seconds or 0.0)
            case "refuse":
                await self._listener.refuse(wanted.seconds)
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "clear":
                self._hawkeye.clear()
                await self._listener.open()
        return {}

    def _computing(self) -> tuple[Network, Updates]:
        if self._network is None or self._updates is None:
            raise ValueError("this controller has no topology, it only uses its table")
        return self._network, self._updates


@contextlib.asynccontextmanager
async def control_socket(path: Path, operations: Operations) -> AsyncIterator[None]:
    """Listens at `path` and removes it at the end; OSError if it can't."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(ConnectionError, ValueError):
            while line := await reader.readline():
                writer.write(json.dumps(await operations.reply(line)).encode() + b"\n")
                await writer.drain()

    if _alive(path):
        raise OSError(f"{path}: another controller uses this control socket")
    try:
        server = await asyncio.start_unix_server(serve, path, limit=_LONGEST_LINE)
    except OSError as error:
        raise OSError(f"{path}: no control socket here: {error.strerror or error}") from None
    with contextlib.ExitStack() as stack:
        stack.callback(path.unlink, missing_ok=True)
        stack.callback(server.close)
        yield


def _alive(path: Path) -> bool:
    if not path.exists() or not stat.S_ISSOCK(path.stat().st_mode):
        return False
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0
