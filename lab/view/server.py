"""Serves the page over HTTP: first completely, then changed regions as server-sent events."""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
import threading
from collections.abc import AsyncIterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple, Self
from urllib.parse import urlsplit

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from hawkwing import ending
from lab.errors import LabError
from lab.network import Lab
from lab.view.markup import Markup
from lab.view.page import asset, regions, whole
from lab.view.recordings import file_of
from lab.view.scene import Scene
from lab.view.view import View
from lab.wait import wait_until

DEFAULT = "127.0.0.1:8642"
_ASSETS = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
_COOKIE = "hawkwing-lab-view"
_SIGN_OF_LIFE = 10.0
_STARTED_WITHIN = 10.0
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Place(NamedTuple):
    """The address to listen on."""

    address: IPv4Address | IPv6Address
    port: int


def read_place(text: str) -> Place:
    """Parses `ADDRESS:PORT`, with brackets around an IPv6 address; LabError if it is invalid."""
    host, _, port = text.rpartition(":")
    try:
        if ":" in host and not (host.startswith("[") and host.endswith("]")):
            raise ValueError
        place = Place(ip_address(host.removeprefix("[").removesuffix("]")), int(port))
        if not 0 <= place.port <= 65535:
            raise ValueError
    except ValueError:
        raise LabError(
            f"{text!r} is not an address with a port: write 192.0.2.1:8642 or [2001:db8::1]:8642"
        ) from None
    return place


class Hub:
    """The newest scene, and the open pages that get it; used in the event loop's thread only."""

    def __init__(self, scene: Scene) -> None:
        self.ended = False
        self._scene = scene
        self._regions: dict[str, Markup] | None = None
        self._waiting: set[asyncio.Event] = set()

    def set(self, scene: Scene) -> None:
        """Notifies open pages of a new scene; it is rendered only if there are any."""
        self._scene, self._regions = scene, None
        for event in self._waiting:
            event.set()

    @property
    def regions(self) -> dict[str, Markup]:
        """The rendered scene."""
        if self._regions is None:
            self._regions = regions(self._scene)
        return self._regions

    def end(self) -> None:
        """Ends the event streams of all pages."""
        self.ended = True
        self.set(self._scene)

    @property
    def readers(self) -> int:
        """The number of open pages."""
        return len(self._waiting)

    async def listen(self) -> AsyncIterator[str]:
        """Events for one page: the differences from what was sent before."""
        event, sent = asyncio.Event(), dict[str, str]()
        self._waiting.add(event)
        try:
            while not self.ended:
                news = {name: html for name, html in self.regions.items() if sent.get(name) != html}
                sent |= news
                yield f"data: {json.dumps(news)}\n\n" if news else ": \n\n"
                try:
                    async with asyncio.timeout(_SIGN_OF_LIFE):
                        await event.wait()
                except TimeoutError:
                    continue
                event.clear()
        finally:
            self._waiting.discard(event)


class _Guard:
    """Accepts requests with the token, if there is one, and none from pages of other sites."""

    def __init__(self, app: ASGIApp, token: str | None, place: Place) -> None:
        self._app = app
        self._token = token
        self._names = {"localhost", str(place.address)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        refusal = self._refusal(request)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _refusal(self, request: Request) -> Response | None:
        host = request.headers.get("host", "")
        origin = request.headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return PlainTextResponse("a page of another site asks\n", 403)
        if self._token is None:
            # Against DNS rebinding: another site's name for this address must not be accepted.
            try:
                name = urlsplit(f"//{host}").hostname
            except ValueError:
                name = None
            return None if name in self._names else PlainTextResponse("unknown name in the URL\n", 403)
        known = request.query_params.get("token") or request.cookies.get(_COOKIE) or ""
        if secrets.compare_digest(known.encode(), self._token.encode()):
            return None
        return PlainTextResponse("the token is missing: use the whole URL that lab.view printed\n", 403)


class Server:
    """Context manager that serves a lab's page at `url`."""

    def __init__(self, name: str, place: Place) -> None:
        self._place = place
        self.token = None if place.address.is_loopback else secrets.token_urlsafe(24)
        self._loop = asyncio.new_event_loop()
        self.view = View(name, self._heard)
        self._hub = Hub(self.view.scene)
        self._socket = _listening(place)
        self._uvicorn = uvicorn.Server(
            uvicorn.Config(
                _Guard(self._app(), self.token, place),
                log_config=None,
                access_log=False,
                lifespan="off",
                timeout_graceful_shutdown=2,
            )
        )
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def url(self) -> str:
        """The URL for a browser, with the token."""
        host = f"[{self._place.address}]" if self._place.address.version == 6 else str(self._place.address)
        token = f"?token={self.token}" if self.token else ""
        return f"http://{host}:{self._socket.getsockname()[1]}/{token}"

    @property
    def readers(self) -> int:
        """The number of open pages."""
        return self._hub.readers

    def __enter__(self) -> Self:
        self.view.start()
        self._thread.start()
        wait_until(lambda: self._uvicorn.started, _STARTED_WITHIN, "the page's server")
        return self

    def __exit__(self, *_: object) -> None:
        with ending.shielded():
            self.view.close()
            self._loop.call_soon_threadsafe(self._hub.end)
            self._uvicorn.should_exit = True
            self._thread.join()
            self._socket.close()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._uvicorn.serve(sockets=[self._socket]))
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    def _heard(self, scene: Scene) -> None:
        self._loop.call_soon_threadsafe(self._hub.set, scene)

    def _app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/", self._page),
                Route("/events", self._events),
                Route("/do", self._do, methods=["POST"]),
                Route("/captures/{link}.pcapng", self._capture),
                *(Route(f"/{name}", _asset) for name in _ASSETS),
            ]
        )

    async def _page(self, request: Request) -> Response:
        response = Response(whole(self.view.scene), media_type="text/html", headers=_HEADERS)
        if self.token:
            response.set_cookie(_COOKIE, self.token, httponly=True, samesite="strict")
        return response

    async def _events(self, request: Request) -> Response:
        return StreamingResponse(self._hub.listen(), media_type="text/event-stream", headers=_HEADERS)

    async def _do(self, request: Request) -> Response:
        if request.headers.get("content-type") != "application/json":
            return JSONResponse({"error": "not JSON"}, 415)
        try:
            asked = await request.json()
            does, target = str(asked["do"]), str(asked["target"])
        except (ValueError, KeyError, TypeError):
            return JSONResponse({"error": "not a button's request"}, 400)
        answer = await run_in_threadpool(self.view.act, does, target)
        return JSONResponse(answer, 409 if "error" in answer else 200)

    async def _capture(self, request: Request) -> Response:
        try:
            file = file_of(Lab(self.view.name), request.path_params["link"])
        except LabError as error:
            return PlainTextResponse(f"{error}\n", 404)
        if not file.exists():
            return PlainTextResponse("this link was not captured\n", 404)
        return FileResponse(file, media_type="application/x-pcapng", filename=file.name)


async def _asset(request: Request) -> Response:
    name = request.url.path.removeprefix("/")
    return Response(asset(name), media_type=_ASSETS[name], headers=_HEADERS)


def _listening(place: Place) -> socket.socket:
    family = socket.AF_INET6 if place.address.version == 6 else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((str(place.address), place.port))
        listener.listen(64)
    except OSError as error:
        listener.close()
        raise LabError(
            f"can't listen on {place.address} port {place.port}: {error.strerror}; "
            "name another place with --listen ADDRESS:PORT"
        ) from None
    return listener
