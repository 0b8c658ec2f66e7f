"""Both ends of the control socket, for `hawkwing status`, `reload` and `explain`: one JSON line each way.

While the agent prepares an answer, it sends a space each second: JSON allows that, and the other end knows
that the agent is alive.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from inspect import isawaitable
from pathlib import Path
from typing import Any

from hawkwing.dataplane.claim import runtime_folder
from hawkwing.errors import ConfigError, HawkwingError

Handler = Callable[[Mapping[str, Any]], Any]
_TIMEOUT = 5.0
_SIGN_OF_LIFE = 1.0
_MOST_ASKED, _MOST = 1 << 16, 1 << 28
_PIECE = 500
_UNKNOWN = "unknown request (different version?)"


def socket_path(role: str, interface: str) -> Path:
    """The socket of the agent of a role on an interface; each network namespace has its own folder."""
    return runtime_folder() / f"{role}-{interface}.sock"


class ControlServer:
    """Answers requests by name; a handler's HawkwingError is raised again in the client.

    A handler gets the request and returns a value for JSON, or an awaitable of one.
    """

    def __init__(
        self,
        path: Path,
        handlers: Mapping[str, Handler],
        failed: Callable[[str, BaseException], object] = lambda _name, _error: None,
    ) -> None:
        self._path = path
        self._handlers = handlers
        self._failed = failed
        self._server: asyncio.AbstractServer | None = None

    async def start(self) -> None:
        """Listens; only root can connect. Raises HawkwingError with the reason if it can't."""
        try:
            self._path.unlink(missing_ok=True)
            listener = socket.socket(socket.AF_UNIX)
            try:
                listener.bind(str(self._path))
                # Before a client can connect.
                self._path.chmod(0o600)
            except BaseException:
                listener.close()
                raise
            self._server = await asyncio.start_unix_server(self._serve, sock=listener, limit=_MOST_ASKED)
        except OSError as error:
            raise HawkwingError(f"can't listen on {self._path}: {error.strerror or error}") from None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, ValueError, TimeoutError):
            async with asyncio.timeout(_TIMEOUT):
                line = await reader.readline()
            if line:
                answer = await self._with_signs_of_life(asyncio.ensure_future(self._answer(line)), writer)
                for piece in itertools.chain(_pieces(answer), "\n"):
                    writer.write(piece.encode())
                    # This also yields to other tasks.
                    await writer.drain()
                    await asyncio.sleep(0)
        writer.close()

    async def _with_signs_of_life(
        self, work: asyncio.Future[dict[str, Any]], writer: asyncio.StreamWriter
    ) -> dict[str, Any]:
        while True:
            done, _ = await asyncio.wait({work}, timeout=_SIGN_OF_LIFE)
            if done:
                return work.result()
            writer.write(b" ")

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            name = request["ask"]
            handler = self._handlers[name]
        except (ValueError, KeyError, TypeError, RecursionError):
            return {"error": _UNKNOWN}
        try:
            answer = handler(request)
            return {"answer": await answer if isawaitable(answer) else answer}
        except ConfigError as error:
            return {"problems": error.problems}
        except HawkwingError as error:
            return {"error": str(error)}
        except Exception as error:
            self._failed(f"request {name}", error)
            return {"error": f"the agent failed: {type(error).__name__}: {error}"}

    def close(self) -> None:
        """Stops listening and removes the socket."""
        if self._server is not None:
            self._server.close()
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


def _pieces(answer: object, depth: int = 2) -> Iterator[str]:
    """The answer as JSON; long lists near the top are split into pieces."""
    if isinstance(answer, dict) and depth:
        begin = "{"
        for key, value in answer.items():
            yield f"{begin}{json.dumps(key)}: "
            yield from _pieces(value, depth - 1)
            begin = ", "
        yield "}" if answer else "{}"
    elif isinstance(answer, list) and len(answer) > _PIECE:
        for first in range(0, len(answer), _PIECE):
            text = json.dumps(answer[first : first + _PIECE])
            yield ("[" if not first else ", ") + text[1:-1]
        yield "]"
    else:
        yield json.dumps(answer)


def sockets() -> list[Path]:
    """The sockets of all agents in this network namespace, also of killed ones."""
    folder = runtime_folder()
    return sorted(folder.glob("*.sock")) if folder.exists() else []


def ask(path: Path, request: Mapping[str, Any]) -> Any:
    """The agent's answer; HawkwingError with its error message, OSError if no agent listens."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_TIMEOUT)
        connection.connect(str(path))
        connection.sendall(json.dumps(request).encode() + b"\n")
        text = b"".join(_received(connection)).strip()
    try:
        answer = json.loads(text or b'{"error": "the agent has stopped"}')
        if "problems" in answer:
            raise ConfigError([str(line) for line in answer["problems"]])
        if "error" in answer:
            raise HawkwingError(str(answer["error"]))
        return answer["answer"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise HawkwingError(f"the answer at {path} is not an agent's") from None


def _received(connection: socket.socket) -> Iterator[bytes]:
    """Reads up to the end of the line, without the keep-alive spaces."""
    total = 0
    while total < _MOST:
        piece = connection.recv(1 << 16)
        ended = not piece
        piece = piece if total else piece.lstrip(b" ")
        yield piece
        total += len(piece)
        if ended or piece.endswith(b"\n"):
            return


def answers(
    request: Mapping[str, Any], roles: tuple[str, ...], interfaces: Sequence[str] = ()
) -> Iterator[tuple[Path, Any]]:
    """The answers of all agents of these roles and (first) interfaces, by socket; None for a killed one."""
    for path in sockets():
        role, _, interface = path.stem.partition("-")
        if role not in roles or (interfaces and interface not in interfaces):
            continue
        try:
            yield path, ask(path, request)
        except ConnectionRefusedError:
            yield path, None
        except OSError as error:
            raise HawkwingError(f"can't ask the agent at {path}: {error.strerror or error}") from None
