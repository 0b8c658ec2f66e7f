"""Client, service and routers on one link (a bridge): the next hop of the first segment is another one.

Each test sees the frames that a router gets: the link-layer destination says who was meant.
"""

import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrSegmentRouting
from scapy.layers.l2 import Ether

from lab import netns
from lab.process import Process
from lab.wait import patient, wait_until
from lab.wire import Tap

from .conftest import HAWKWING

A, B, BEHIND = "fd00:1::a", "fd00:1::b", "fd00:2::b"
ROUTERS = {"r1": "fd00:1::1", "r2": "fd00:1::2"}
SID = {"r1": "fd00:51::1", "r2": "fd00:52::1"}
MAC = {
    "a": "02:00:00:00:00:0a",
    "b": "02:00:00:00:00:0b",
    "r1": "02:00:00:00:00:01",
    "r2": "02:00:00:00:00:02",
}
CONFIG = f"""
services:
  x:
    ipv6_addresses: ["{B}", "{BEHIND}"]
    applications:
      - {{port: 5000, sid: ["{SID["r1"]}"]}}
      - {{port: 5002, sid: ["{SID["r1"]}", "{SID["r2"]}"]}}
"""


class Segment:
    """Four hosts on a bridge: `a` and `b`, and the routers `r1` and `r2` with a SID each."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self._stack, self._folder = stack, folder
        (folder / "logs").mkdir()
        (folder / "pids").mkdir()
        self._marks = os.getpid()
        self._create("switch", "ip link add br0 type bridge && ip link set br0 up")
        for node in MAC:
            self._plug(node)
        for node, address in (("a", A), ("b", B), *ROUTERS.items()):
            self.shell(node, f"ip address add {address}/64 dev eth0 nodad")
        self.shell("b", f"ip address add {BEHIND}/128 dev lo nodad")
        for node in ("a", "b"):
            self.shell(node, *(f"ip route add {SID[r]}/128 via {ROUTERS[r]}" for r in ROUTERS))
        self.shell("a", f"ip route add {BEHIND}/128 via {ROUTERS['r2']}")
        for router, address in ROUTERS.items():
            other = "r2" if router == "r1" else "r1"
            self.shell(
                router,
                "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding",
                "for i in all eth0; do echo 1 > /proc/sys/net/ipv6/conf/$i/seg6_enabled; done",
                f"ip route add {BEHIND}/128 via {B}",
                f"ip route add {SID[router]}/128 encap seg6local action End dev eth0",
                f"ip route add {SID[other]}/128 via {ROUTERS[other]}",
            )
            assert address

    def _create(self, node: str, *commands: str) -> None:
        netns.create(self.name(node))
        self._stack.callback(netns.remove, self.name(node))
        self.shell(node, "ip link set lo up", *commands)

    def _plug(self, node: str) -> None:
        self._create(node)
        self.shell(
            "switch",
            f"ip link add to-{node} type veth peer name eth0 address {MAC[node]} netns {self.name(node)}",
            f"ip link set to-{node} master br0 up",
        )
        self.shell(node, "echo 0 > /proc/sys/net/ipv6/conf/all/accept_ra", "ip link set eth0 up")

    def name(self, node: str) -> str:
        """Of its namespace."""
        return f"hw-link{self._marks}-{node}"

    def shell(self, node: str, *commands: str) -> str:
        """Runs commands of a shell in a node."""
        argv = ["ip", "netns", "exec", self.name(node), "sh", "-ec", "\n".join(commands)]
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout

    def agent(self, node: str, role: str, *options: str) -> Process:
        """An agent, once it is ready; it is stopped at the end."""
        argv = ["ip", "netns", "exec", self.name(node), *HAWKWING, role, "-i", "eth0", *options]
        process = Process("shared-link", self._folder, f"{role}-{node}", argv)
        self._stack.callback(process.stop)
        process.wait_for("ready: ")
        return process

    def client(self) -> Process:
        """The client's agent on `a`."""
        file = self._folder / "config.yaml"
        file.write_text(CONFIG)
        return self.agent("a", "client", "--config", str(file))

    def socket(self, node: str, kind: socket.SocketKind, address: str, port: int = 0) -> socket.socket:
        """Bound in a node."""

        def make() -> socket.socket:
            made = socket.socket(socket.AF_INET6, kind)
            made.settimeout(patient(5))
            made.bind((address, port))
            return made

        return self._stack.enter_context(netns.run_inside(self.name(node), make))

    def tap(self, node: str) -> "Callable[[], list[Ether]]":
        """What arrives at a node's interface from now on, and is meant for it, each time it is called."""
        tap = Tap("eth0", self.name(node), "the link", (node, "others"))
        self._stack.callback(tap.close)
        return lambda: [f.packet for f in tap.frames() if f.packet.dst == MAC[node]]


@pytest.fixture
def segment(tmp_path: Path) -> Iterator[Segment]:
    """A link of its own for each test."""
    with ExitStack() as stack:
        yield Segment(stack, tmp_path)


def echo(segment: Segment, port: int, data: bytes, address: str = B) -> None:
    """A datagram there and back."""
    near = segment.socket("a", socket.SOCK_DGRAM, A)
    far = segment.socket("b", socket.SOCK_DGRAM, address, port)
    near.sendto(data, (address, port))
    got, peer = far.recvfrom(1 << 16)
    assert got == data
    far.sendto(data, peer)
    assert near.recvfrom(1 << 16)[0] == data
    near.close()
    far.close()


def outer(frames: "list[Ether]") -> list[tuple[str, str, str, int | None]]:
    """(link-layer source, source, destination, segments left) of the datagrams."""
    found = []
    for frame in frames:
        if UDP in frame and frame[IPv6].nh in (17, 43):
            srh = frame.getlayer(IPv6ExtHdrSegmentRouting)
            packet = frame[IPv6]
            found.append((frame.src, packet.src, packet.dst, srh.segleft if srh else None))
    return found


def test_service_and_router_on_the_clients_link(segment: Segment) -> None:
    """The first packet too: the kernel's own insertion delivers all of them."""
    segment.agent("b", "server")
    segment.client()
    router, service = segment.tap("r1"), segment.tap("b")
    echo(segment, 5000, b"by the router")
    assert outer(router()) == [(MAC["a"], A, SID["r1"], 1), (MAC["b"], B, SID["r1"], 1)]
    assert outer(service()) == [(MAC["r1"], A, B, 0)]
    echo(segment, 5001, b"straight")
    assert outer(router()) == []
    assert outer(service()) == [(MAC["a"], A, B, None)]


def test_two_routers_on_the_clients_link(segment: Segment) -> None:
    """The service is behind the second one, the first segment is the first one's."""
    segment.agent("b", "server")
    segment.client()
    first, second = segment.tap("r1"), segment.tap("r2")
    echo(segment, 5000, b"by the first", BEHIND)
    assert outer(first())[0] == (MAC["a"], A, SID["r1"], 1)
    assert all(left is None for _mac, _source, _destination, left in outer(second()))
    echo(segment, 5002, b"by both", BEHIND)
    assert outer(first()) == [(MAC["a"], A, SID["r1"], 2), (MAC["r2"], BEHIND, SID["r1"], 1)]
    assert outer(second()) == [(MAC["r1"], A, SID["r2"], 1), (MAC["b"], BEHIND, SID["r2"], 2)]
    echo(segment, 5001, b"plain", BEHIND)
    assert outer(first()) == [] and outer(second())[0] == (MAC["a"], A, BEHIND, None)


@pytest.mark.parametrize("size", [1, 1200, 1380, 1452, 9000, 65000])
def test_datagrams_of_all_sizes(segment: Segment, size: int) -> None:
    segment.agent("b", "server")
    segment.client()
    # A next hop that isn't known yet can't be given both parts of a datagram that is cut in two.
    for _ in range(3):
        echo(segment, 5000, b"who is there?")
    router = segment.tap("r1")
    for _ in range(2):
        echo(segment, 5000, bytes(number % 251 for number in range(size)))
    assert router()


def test_a_stream(segment: Segment) -> None:
    """With segmentation offload, both ways."""
    segment.agent("b", "server")
    segment.client()
    sent = os.urandom(3_000_000)
    listening = segment.socket("b", socket.SOCK_STREAM, B, 5000)
    listening.listen()
    near = segment.socket("a", socket.SOCK_STREAM, A)
    near.connect((B, 5000))
    far, _peer = listening.accept()
    far.settimeout(patient(10))
    for one, other in ((near, far), (far, near)):
        writer = threading.Thread(target=one.sendall, args=(sent,))
        writer.start()
        got = bytearray()
        while len(got) < len(sent):
            got += other.recv(1 << 20)
        writer.join()
        assert got == sent
    far.close()


def test_a_next_hop_that_changes(segment: Segment) -> None:
    """Its link-layer address, then the route to it; the kernel's neighbours and routes are followed."""
    segment.agent("b", "server")
    segment.client()
    echo(segment, 5000, b"before")
    router = segment.tap("r1")
    segment.shell("r1", "ip link set eth0 address 02:00:00:00:00:99")
    for node in ("a", "b"):
        segment.shell(node, f"ip neigh replace {ROUTERS['r1']} lladdr 02:00:00:00:00:99 dev eth0")
    echo(segment, 5000, b"another address")
    assert outer(router()) == [], f"nothing is sent to {MAC['r1']} any more"
    second = segment.tap("r2")
    for node in ("a", "b"):
        segment.shell(node, f"ip route replace {SID['r1']}/128 via {ROUTERS['r2']}")

    def moved() -> bool:
        echo(segment, 5000, b"another route")
        return (MAC["a"], A, SID["r1"], 1) in outer(second())

    wait_until(moved, 5, "the packets to follow the route")


def test_no_route_to_the_first_segment(segment: Segment) -> None:
    """Packets go where they would have gone without an SRH: that router may know the SID."""
    segment.shell("a", f"ip route del {SID['r1']}/128", f"ip route replace {BEHIND}/128 via {ROUTERS['r1']}")
    segment.shell("b", f"ip route del {SID['r1']}/128", f"ip route add {A}/128 via {ROUTERS['r1']}")
    segment.agent("b", "server")
    segment.client()
    router = segment.tap("r1")
    echo(segment, 5000, b"as ever", BEHIND)
    assert [entry for entry in outer(router()) if entry[3]] == [
        (MAC["a"], A, SID["r1"], 1),
        (MAC["b"], BEHIND, SID["r1"], 1),
    ]
