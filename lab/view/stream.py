"""Continuous requests to one application, so that the page shows traffic on the links."""

from __future__ import annotations

import socket
import threading
from ipaddress import IPv6Address

from lab import netns
from lab.wait import patient

_PAUSE, _ANSWER_WITHIN = 0.1, 2.0


class Stream:
    """Sends requests from a node until stopped, each on a new connection."""

    def __init__(self, namespace: str, key: str, address: IPv6Address, port: int) -> None:
        self.key = key
        self.answered = self.failed = 0
        self._namespace, self._target = namespace, (str(address), port)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            netns.enter(self._namespace)
        except OSError:
            return
        while not self._end.is_set():
            try:
                self._request()
                self.answered += 1
            except OSError:
                self.failed += 1
            self._end.wait(_PAUSE)

    def _request(self) -> None:
        with socket.create_connection(self._target, patient(_ANSWER_WITHIN)) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n")
            answer = b""
            while piece := connection.recv(4096):
                answer += piece
        if not answer.startswith(b"HTTP/1.1 200"):
            raise ConnectionError("no answer of a web server")

    def stop(self) -> None:
        """Stops after the current request."""
        self._end.set()
        self._thread.join()
