"""The control socket: one JSON object a line in, one a line out, to steer the controller from outside."""

import asyncio
import contextlib
import json
import socket
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import json_format
from pydantic import ValidationError

from fake_hawkeye.paths import Entry, Table, first_fault
from fake_hawkeye.service import HawkEye, readable
from hawkwing.controller import intent_pb2 as pb

Reply = dict[str, Any]
_LONGEST_LINE = 2**20


class Operations:
    """What a control client can do; every method takes the request without its `op` and returns the reply."""

    def __init__(self, hawkeye: HawkEye, table: Table) -> None:
        self._hawkeye = hawkeye
        self._table = table
        self._methods: dict[str, Callable[[Reply], Reply]] = {
            "set": self._set,
            "sessions": self._sessions,
            "requests": self._requests,
            "end_streams": self._end_streams,
            "raw_push": self._raw_push,
        }

    def reply(self, line: bytes) -> Reply:
        """Carries out one line; never raises, a wrong one gets `{"ok": false, "error": sentence}`."""
        try:
            command = json.loads(line)
            if not isinstance(command, dict) or command.get("op") not in self._methods:
                raise ValueError(f"a command is an object with an op out of {', '.join(self._methods)}")
            method = self._methods[command.pop("op")]
            return {"ok": True, **method(command)}
        except ValidationError as error:
            return {"ok": False, "error": first_fault(error)}
        except (ValueError, TypeError, KeyError, json_format.ParseError) as error:
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
                    "asked": [readable(request) for request in session.asked.values()],
                }
                for session in self._hawkeye.sessions.values()
            ]
        }

    def _requests(self, command: Reply) -> Reply:
        return {"requests": self._hawkeye.requests}

    def _end_streams(self, command: Reply) -> Reply:
        name = command.get("code", "UNKNOWN")
        code = next((code for code in grpc.StatusCode if code.name == name), None)
        if code in (None, grpc.StatusCode.OK):
            raise ValueError(f"{name!r} is not a gRPC error code")
        return {"ended": self._hawkeye.end_streams(code, str(command.get("message", "")))}

    def _raw_push(self, command: Reply) -> Reply:
        return {"pushed": self._hawkeye.push_raw(json_format.ParseDict(command["result"], pb.PathResult()))}


@contextlib.asynccontextmanager
async def control_socket(path: Path, operations: Operations) -> AsyncIterator[None]:
    """Listens at `path` and removes it in the end; OSError when that can't be."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(ConnectionError, ValueError):
            while line := await reader.readline():
                writer.write(json.dumps(operations.reply(line)).encode() + b"\n")
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
