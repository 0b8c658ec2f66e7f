"""TCP connections for turns of some milliseconds that send a given amount."""

import fcntl
import os
import selectors
import socket
import struct
import termios
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from lab.bench.traffic import DATAGRAM_PORT as PORT
from lab.bench.traffic import cores
from lab.network import Lab

_CHUNK = bytes(1 << 20)
_PAUSE = 0.0002


class Streams:
    """Host-a sends; host-b reads all data on the steered port that iperf3 does not use."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._address = str(lab.topology.host("host-b").address)
        self._listener = lab.inside("host-b", self._listen)
        self._wake, self._woken = os.pipe()[::-1]
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _listen(self) -> socket.socket:
        made = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((self._address, PORT))
        made.listen(64)
        return made

    def _read(self) -> None:
        os.sched_setaffinity(0, {cores()[1]})
        buffer = bytearray(len(_CHUNK))
        with selectors.DefaultSelector() as waiting:
            waiting.register(self._listener, selectors.EVENT_READ)
            waiting.register(self._woken, selectors.EVENT_READ)
            peers: set[socket.socket] = set()
            while True:
                for key, _events in waiting.select():
                    if key.fd == self._woken:
                        for peer in peers:
                            peer.close()
                        return
                    if key.fileobj is self._listener:
                        peer, _address = self._listener.accept()
                        peers.add(peer)
                        waiting.register(peer, selectors.EVENT_READ, peer)
                    elif not key.data.recv_into(buffer):
                        waiting.unregister(key.data)
                        peers.remove(key.data)
                        key.data.close()

    @contextmanager
    def connected(self, count: int) -> Iterator[list[socket.socket]]:
        """Opens connections over the current path."""
        with ExitStack() as stack:
            yield [stack.enter_context(self._lab.inside("host-a", self._connection)) for _ in range(count)]

    def _connection(self) -> socket.socket:
        return socket.create_connection((self._address, PORT), timeout=10)

    def send(self, streams: Sequence[socket.socket], megabytes: int) -> float:
        """Sends, and returns Gbit/s from the first byte sent to the last byte acknowledged."""
        each = max(1, megabytes // len(streams))
        senders = [threading.Thread(target=_send, args=(stream, each)) for stream in streams]
        begun = time.perf_counter()
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        while any(_unacknowledged(stream) for stream in streams):
            time.sleep(_PAUSE)
        return each * len(streams) * len(_CHUNK) * 8 / (time.perf_counter() - begun) / 1e9

    def close(self) -> None:
        """Stops the reader."""
        os.write(self._wake, b"x")
        self._reader.join()
        self._listener.close()
        os.close(self._wake)
        os.close(self._woken)


def _send(stream: socket.socket, chunks: int) -> None:
    os.sched_setaffinity(0, {cores()[0]})
    for _ in range(chunks):
        stream.sendall(_CHUNK)


def _unacknowledged(stream: socket.socket) -> int:
    """Bytes sent but not yet acknowledged (SIOCOUTQ, tcp(7))."""
    (count,) = struct.unpack("=i", fcntl.ioctl(stream, termios.TIOCOUTQ, bytes(4)))
    return int(count)
