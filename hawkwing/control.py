"""The agent's control socket, used by `hawkwing status`, `reload` and `explain`: one JSON line each way."""

import asyncio
import json
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hawkwing.dataplane.claim import runtime_folder
from hawkwing.errors import ConfigError, HawkwingError

Handler = Callable[[Mapping[str, Any]], Any]
_TIMEOUT = 5.0
_MOST = 1 << 26


def socket_path(role: str, interface: str) -> Path:
    """The socket of the agent of a role on an interface; each network namespace has its own folder."""
    return runtime_folder() / f"{role}-{interface}.sock"


class ControlServer:
    """Answers requests by name; a handler's HawkwingError is raised again in the client."""

    def __init__(self, path: Path, handlers: Mapping[str, Handler]) -> None:
        self._path = path
        self._handlers = handlers
        self._server: asyncio.AbstractServer | None = None

    async def start(self) -> None:
        """Listens; only root may connect."""
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, self._path, limit=_MOST)
        self._path.chmod(0o600)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = await reader.readline()
            writer.write(json.dumps(self._answer(line)).encode() + b"\n")
            await writer.drain()
        except (OSError, ValueError):
            return
        finally:
            writer.close()

    def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            handler = self._handlers[request["ask"]]
        except (ValueError, KeyError, TypeError):
            return {"error": "unknown request (different version?)"}
        try:
            return {"answer": handler(request)}
        except ConfigError as error:
            return {"problems": error.problems}
        except HawkwingError as error:
            return {"error": str(error)}

    def close(self) -> None:
        """Stops listening and removes the socket."""
        if self._server is not None:
            self._server.close()
        self._path.unlink(missing_ok=True)


def sockets() -> list[Path]:
    """The sockets of all agents in this network namespace, also of killed ones."""
    folder = runtime_folder()
    return sorted(folder.glob("*.sock")) if folder.exists() else []


def ask(path: Path, request: Mapping[str, Any]) -> Any:
    """The agent's answer; HawkwingError with its error message, OSError where no agent listens."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_TIMEOUT)
        connection.connect(str(path))
        connection.sendall(json.dumps(request).encode() + b"\n")
        with connection.makefile("rb") as stream:
            answer = json.loads(stream.readline(_MOST) or b'{"error": "the agent has stopped"}')
    if "problems" in answer:
        raise ConfigError(answer["problems"])
    if "error" in answer:
        raise HawkwingError(answer["error"])
    return answer["answer"]
