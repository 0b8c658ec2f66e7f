"""Sends traffic from host-a to host-b, and counts what arrives."""

import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from lab.bench import datagrams
from lab.linux.kernel import set_sysctl
from lab.network import Lab
from lab.process import Process, last_words
from lab.wait import PATIENCE, wait_until

PORT, DATAGRAM_PORT, FOREIGN_PORT = 5201, 5202, 5203
"""iperf3's and that of single datagrams, both configured; and one that is not."""
DATAGRAM = 64


def cores() -> tuple[int, int]:
    """The cores of sender and receiver, one each: otherwise the scheduler would influence the figures."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[1 % len(usable)]


def _plain_tcp() -> None:
    """Sets TCP in this thread's namespace to Reno, without metrics of earlier connections.

    BBR, the default of some machines, sends at its own estimate of the path's rate. Reno is in every kernel,
    and allowed in every namespace.
    """
    set_sysctl("net/ipv4/tcp_congestion_control", "reno")
    set_sysctl("net/ipv4/tcp_no_metrics_save", 1)


class UdpRates(NamedTuple):
    """Packets per second: sent, received at the interface, and read by the receiver."""

    sent: float
    arrived: float
    read: float


class Traffic:
    """An iperf3 server on host-b, and socket pairs for single datagrams."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._address = str(lab.topology.host("host-b").address)
        self._client = ["iperf3", "-c", self._address, "-p", str(PORT)]
        sender, receiver = cores()
        if sender != receiver:
            self._client += ["-A", f"{sender},{receiver}"]
        for host in ("host-a", "host-b"):
            lab.inside(host, _plain_tcp)
        self._server = lab.start("host-b", "iperf3", ["iperf3", "-s", "-p", str(PORT)])
        wait_until(self._listening, PATIENCE, "iperf3 to listen")
        self._receiver, self.sender = self._pair(DATAGRAM_PORT)
        self._foreign_receiver, self._foreign_sender = self._pair(FOREIGN_PORT)

    def _listening(self) -> bool:
        if self._server.poll() is not None:
            raise RuntimeError(f"iperf3 has ended: {last_words(self._server.output())}")
        table = self._lab.inside("host-b", lambda: Path("/proc/thread-self/net/tcp6").read_text())
        return f":{PORT:04X} " in table

    def _pair(self, port: int) -> tuple[socket.socket, socket.socket]:
        """A socket bound on host-b, and one on host-a that is connected to it."""

        def bound() -> socket.socket:
            made = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
            made.bind((self._address, port))
            made.settimeout(2)
            return made

        def connected() -> socket.socket:
            made = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
            made.connect((self._address, port))
            made.settimeout(2)
            return made

        there = self._lab.inside("host-b", bound)
        return there, self._lab.inside("host-a", connected)

    def close(self) -> None:
        """Stops the server."""
        for one in (self.sender, self._receiver, self._foreign_sender, self._foreign_receiver):
            one.close()
        self._server.stop()

    def _iperf3(self, *options: str) -> dict[str, Any]:
        result = self._lab.execute("host-a", [*self._client, "--json", *options], check=False)
        try:
            told = json.loads(result.stdout)
        except ValueError:
            raise RuntimeError(f"iperf3 failed: {result.stderr.strip()}") from None
        if "error" in told:
            raise RuntimeError(f"iperf3 failed: {told['error']}")
        return dict(told["end"])

    def tcp(self, seconds: float) -> float:
        """Received Gbit/s of one connection."""
        end = self._iperf3("-t", f"{seconds:g}")
        return float(end["sum_received"]["bits_per_second"]) / 1e9

    def udp(self, seconds: float = 0, megabytes: int = 0) -> UdpRates:
        """Sends 64-byte datagrams as fast as possible, for a time or an amount."""
        amount = ["-n", f"{megabytes}M"] if megabytes else ["-t", f"{seconds:g}"]
        before = self.arrived()
        end = self._iperf3("-u", "-b", "0", "-l", str(DATAGRAM), *amount)
        arrived = self.arrived() - before
        lasted = float(end["sum"]["seconds"])
        sent, lost = float(end["sum"]["packets"]), float(end["sum"]["lost_packets"])
        return UdpRates(sent / lasted, arrived / lasted, (sent - lost) / lasted)

    def arrived(self) -> int:
        """The number of packets received at host-b's interface."""
        table = self._lab.inside("host-b", lambda: Path("/proc/thread-self/net/dev").read_text())
        line = next(line for line in table.splitlines() if line.strip().startswith("eth0:"))
        return int(line.split()[2])

    def flood(self, count: int, foreign: bool = False, back: bool = False) -> None:
        """Sends 64-byte datagrams that are not read: the socket drops them when it is full."""
        sender = self._foreign_sender if foreign else self.sender
        data = bytes(DATAGRAM)
        if back:
            receiver = self._foreign_receiver if foreign else self._receiver
            peer = sender.getsockname()[:2]
            for _ in range(count):
                receiver.sendto(data, peer)
            return
        for _ in range(count):
            sender.send(data)

    @contextmanager
    def datagrams(self, pause: float) -> Iterator[None]:
        """Sends single datagrams to DATAGRAM_PORT from a process on host-a, every `pause` seconds."""
        command = [sys.executable, datagrams.__file__, self._address, str(DATAGRAM_PORT), f"{pause:g}"]
        process = self._lab.start("host-a", "datagrams", command)
        try:
            yield
        finally:
            process.stop()

    def endless_tcp(self) -> Process:
        """A TCP transfer that runs until it is stopped."""
        return self._lab.start("host-a", "iperf3-endless", [*self._client, "-t", "600"])

    def ask_once(self) -> None:
        """Sends one datagram there and one back."""
        self.drain()
        self.sender.send(b"there")
        data, peer = self._receiver.recvfrom(100)
        self._receiver.sendto(b"back", peer)
        if (data, self.sender.recv(100)) != (b"there", b"back"):
            raise RuntimeError("an unexpected datagram arrived")

    def drain(self) -> None:
        """Discards unread datagrams."""
        for one in (self._receiver, self.sender):
            one.setblocking(False)
            try:
                while one.recv(100):
                    continue
            except OSError:
                pass
            one.settimeout(2)
