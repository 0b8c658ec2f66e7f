"""Load between host-a and host-b, and what arrived of it."""

import json
import socket
from pathlib import Path
from typing import Any, NamedTuple

from lab import netns
from lab.network import Lab
from lab.process import Process
from lab.wait import wait_until

PORT, FOREIGN_PORT, DATAGRAM_PORT = 5201, 5202, 5203
"""iperf3's on a configured port and on one that is not, and that of single datagrams (configured)."""
DATAGRAM = 64


class UdpRates(NamedTuple):
    """Packets a second: sent, come to the receiver's interface, and read by its program."""

    sent: float
    arrived: float
    read: float


class Traffic:
    """iperf3 servers on host-b, and a socket pair for single datagrams."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._address = str(lab.topology.host("host-b").address)
        self._servers = [
            lab.start("host-b", f"iperf3-{port}", ["iperf3", "-s", "-p", str(port)])
            for port in (PORT, FOREIGN_PORT)
        ]
        wait_until(self._listening, 5.0, "iperf3 to listen")
        self._receiver = netns.run_inside(lab.namespace("host-b"), self._bound)
        self.sender = netns.run_inside(lab.namespace("host-a"), self._connected)

    def _listening(self) -> bool:
        table = netns.run_inside(
            self._lab.namespace("host-b"), lambda: Path("/proc/thread-self/net/tcp6").read_text()
        )
        return all(f":{port:04X} " in table for port in (PORT, FOREIGN_PORT))

    def _bound(self) -> socket.socket:
        made = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        made.bind((self._address, DATAGRAM_PORT))
        made.settimeout(2)
        return made

    def _connected(self) -> socket.socket:
        made = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        made.connect((self._address, DATAGRAM_PORT))
        made.settimeout(2)
        return made

    def close(self) -> None:
        """Ends the servers."""
        self.sender.close()
        self._receiver.close()
        for server in self._servers:
            server.stop()

    def _iperf3(self, port: int, seconds: float, *options: str) -> dict[str, Any]:
        argv = ["iperf3", "-c", self._address, "-p", str(port), "-t", f"{seconds:g}", "--json", *options]
        result = self._lab.execute("host-a", argv, timeout=seconds + 20)
        try:
            told = json.loads(result.stdout)
        except ValueError:
            raise RuntimeError(f"iperf3 failed: {result.stderr.strip()}") from None
        if "error" in told:
            raise RuntimeError(f"iperf3 failed: {told['error']}")
        return dict(told["end"])

    def tcp(self, seconds: float, streams: int = 1) -> float:
        """Gigabits a second as received."""
        end = self._iperf3(PORT, seconds, "-P", str(streams))
        return float(end["sum_received"]["bits_per_second"]) / 1e9

    def udp(self, seconds: float, reverse: bool = False, port: int = PORT) -> UdpRates:
        """64-byte datagrams as fast as one sender goes; with `reverse` host-b sends."""
        before = self._arrived("host-a" if reverse else "host-b")
        options = ["-u", "-b", "0", "-l", str(DATAGRAM), *(["-R"] if reverse else [])]
        end = self._iperf3(port, seconds, *options)
        arrived = self._arrived("host-a" if reverse else "host-b") - before
        lasted = float(end["sum"]["seconds"])
        sent, lost = float(end["sum"]["packets"]), float(end["sum"]["lost_packets"])
        return UdpRates(sent / lasted, arrived / lasted, (sent - lost) / lasted)

    def _arrived(self, node: str) -> int:
        table = netns.run_inside(
            self._lab.namespace(node), lambda: Path("/proc/thread-self/net/dev").read_text()
        )
        line = next(line for line in table.splitlines() if line.strip().startswith("eth0:"))
        return int(line.split()[2])

    def flood(self, count: int) -> None:
        """Sends so many 64-byte datagrams; nobody reads them, the socket drops what it has no room for."""
        data = bytes(DATAGRAM)
        for _ in range(count):
            self.sender.send(data)

    def endless_tcp(self) -> Process:
        """A TCP transfer that goes on until it is stopped."""
        argv = ["iperf3", "-c", self._address, "-p", str(PORT), "-t", "600"]
        return self._lab.start("host-a", "iperf3-endless", argv)

    def ask_once(self) -> None:
        """One datagram there and one back."""
        self.drain()
        self.sender.send(b"there")
        data, peer = self._receiver.recvfrom(100)
        self._receiver.sendto(b"back", peer)
        if (data, self.sender.recv(100)) != (b"there", b"back"):
            raise RuntimeError("a datagram arrived that nobody sent")

    def drain(self) -> None:
        """Lets go of datagrams nobody has read."""
        for one in (self._receiver, self.sender):
            one.setblocking(False)
            try:
                while one.recv(100):
                    continue
            except OSError:
                pass
            one.settimeout(2)
