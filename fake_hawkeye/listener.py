"""The listener of the controller, which can close and reopen."""

from __future__ import annotations

import asyncio
import socket
from ipaddress import IPv6Address

import grpc

from fake_hawkeye.service import HawkEye, start

_PATIENCE, _PAUSE = 5.0, 0.01


class Listener:
    """One gRPC server at a time, always on the same port."""

    def __init__(
        self,
        hawkeye: HawkEye,
        address: IPv6Address,
        port: int,
        credentials: grpc.ServerCredentials | None = None,
    ) -> None:
        self._hawkeye = hawkeye
        self._credentials = credentials
        self._address = address
        self.port = port
        self._server: grpc.aio.Server | None = None
        self._leaving: dict[asyncio.Task[None], grpc.aio.Server] = {}
        self._return: asyncio.TimerHandle | None = None
        self._opening: asyncio.Future[None] | None = None

    async def open(self) -> None:
        """Listens, unless it already does; OSError with a sentence if it can't."""
        self._stay()
        if self._server is None:
            self._check_free()
            self._server, self.port = await start(self._hawkeye, self._address, self.port, self._credentials)

    async def close(self) -> None:
        """Refuses connections from now on, and aborts the streams."""
        self._stay()
        servers = [*self._leaving.values(), *([self._server] if self._server else [])]
        self._server = None
        for server in servers:
            await server.stop(None)

    async def refuse(self, seconds: float | None) -> None:
        """Closes, and reopens after the given number of seconds, if any."""
        await self.close()
        if seconds is not None:
            self._return = asyncio.get_running_loop().call_later(seconds, self._come_back)

    async def go_away(self, grace: float) -> None:
        """Sends GOAWAY: open streams have `grace` seconds left, new connections are accepted at once."""
        if self._server is None:
            return
        server, self._server = self._server, None
        task = asyncio.ensure_future(server.stop(grace))
        self._leaving[task] = server
        task.add_done_callback(self._leaving.pop)
        loop = asyncio.get_running_loop()
        end = loop.time() + _PATIENCE
        while True:
            try:
                await self.open()
            except (OSError, RuntimeError):
                if loop.time() > end:
                    raise
                await asyncio.sleep(_PAUSE)
            else:
                return

    def _come_back(self) -> None:
        self._opening = asyncio.ensure_future(self.open())

    def _stay(self) -> None:
        if self._return is not None:
            self._return.cancel()
            self._return = None

    def _check_free(self) -> None:
        """OSError with a sentence if the port is not available; gRPC itself reports no reason."""
        with socket.socket(socket.AF_INET6) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((str(self._address), self.port))
                probe.listen()
            except OSError as error:
                raise OSError(f"cannot listen on [{self._address}]:{self.port}: {error.strerror}") from None
