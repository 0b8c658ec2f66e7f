"""The lab's web server: HTTP/1.1 over IPv6, with bodies that the client can verify.

GET /          the text given on the command line
GET /bytes/N   N bytes, the same for every request (`pattern`)
PUT, POST      reads the body and returns its SHA-256 and length
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CHUNK = 65536
MOST_BYTES = 1 << 40
_BLOCK = b"".join(hashlib.sha256(index.to_bytes(4, "big")).digest() for index in range(CHUNK // 32))


class BodyError(ValueError):
    """The request's body is malformed or ends too early."""


def pattern(length: int) -> Iterator[bytes]:
    """`length` bytes in chunks; a longer pattern begins with each shorter one."""
    while length > 0:
        yield _BLOCK[:length]
        length -= CHUNK


class Server(ThreadingHTTPServer):
    address_family = socket.AF_INET6
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: str, port: int, text: str) -> None:
        self.text = text
        super().__init__((address, port), Handler)

    def server_bind(self) -> None:
        # HTTPServer's own method would resolve the address.
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exc_info()[1]
        print(f"{client_address[0]} connection lost: {error}", file=sys.stderr, flush=True)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "hawkwing-lab"
    sys_version = ""
    disable_nagle_algorithm = True
    timeout = 60
    server: Server

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_PUT(self) -> None:
        self._take_body()

    def do_POST(self) -> None:
        self._take_body()

    def log_message(self, format: str, *args: Any) -> None:
        line = f"{self.client_address[0]} {format % args}"
        print(line.encode("unicode_escape").decode("ascii"), file=sys.stderr, flush=True)

    def _take_body(self) -> None:
        try:
            digest, length = self._consume()
        except BodyError as error:
            self.close_connection = True
            self._send(400, f"{error}\n".encode())
            return
        self._send(200, f"{digest} {length}\n".encode())

    def _answer(self, *, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        if path == "/":
            self._send(200, self.server.text.encode(), with_body=with_body)
            return
        asked = re.fullmatch(r"/bytes/([0-9]{1,13})", path)
        if asked is None or int(asked[1]) > MOST_BYTES:
            self._send(404, b"not found\n", with_body=with_body)
            return
        self._head(200, "application/octet-stream", int(asked[1]))
        for chunk in pattern(int(asked[1])) if with_body else ():
            self.wfile.write(chunk)

    def _send(self, status: int, body: bytes, *, with_body: bool = True) -> None:
        self._head(status, "text/plain; charset=utf-8", len(body))
        if with_body:
            self.wfile.write(body)

    def _head(self, status: int, kind: str, length: int) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()

    def _consume(self) -> tuple[str, int]:
        digest, length = hashlib.sha256(), 0
        coding = self.headers.get("Transfer-Encoding", "").lower()
        if coding not in ("", "chunked"):
            raise BodyError("Transfer-Encoding is not chunked")
        for part in self._chunked_body() if coding else self._sized_body():
            digest.update(part)
            length += len(part)
        return digest.hexdigest(), length

    def _sized_body(self) -> Iterator[bytes]:
        text = self.headers.get("Content-Length", "0")
        if re.fullmatch(r"[0-9]{1,18}", text) is None:
            raise BodyError("Content-Length is not a number")
        yield from self._exactly(int(text))

    def _chunked_body(self) -> Iterator[bytes]:
        while True:
            size = self.rfile.readline(1024).partition(b";")[0].strip()
            if re.fullmatch(rb"[0-9a-fA-F]{1,15}", size) is None:
                raise BodyError("chunk size is not a number")
            if int(size, 16) == 0:
                break
            yield from self._exactly(int(size, 16))
            if self.rfile.readline(3) != b"\r\n":
                raise BodyError("chunk is longer than its size")
        while self.rfile.readline(CHUNK).strip():
            pass

    def _exactly(self, left: int) -> Iterator[bytes]:
        while left > 0:
            part = self.rfile.read(min(left, CHUNK))
            if not part:
                raise BodyError("body ends too early")
            left -= len(part)
            yield part


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="lab.services.web", description="The lab's web server.")
    parser.add_argument("--address", required=True, help="IPv6 address to listen on")
    parser.add_argument("--port", type=int, default=80)
    parser.add_argument("--text", default="Hello", help="what GET / answers")
    options = parser.parse_args(arguments)
    try:
        server = Server(options.address, options.port, options.text)
    except (OSError, OverflowError) as error:
        reason = error.strerror or str(error) if isinstance(error, OSError) else "no such port"
        print(f"Can't listen on [{options.address}]:{options.port}: {reason}.", file=sys.stderr)
        return 1
    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
    print(f"listening on [{options.address}]:{server.server_port}", flush=True)
    done.wait()
    server.shutdown()
    server.server_close()
    return 0


if __name__ == "__main__":
    status = main()
    sys.stderr.flush()
    # A transfer must not delay the end of the process.
    os._exit(status)
