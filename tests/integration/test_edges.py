"""Connections of a stopped agent, packets that the host forwards, answers that nobody asked for."""

import os
import socket
import subprocess
from collections.abc import Callable, Iterator

import pytest
from scapy.layers.dns import DNS, DNSQR, DNSRR
from scapy.layers.inet import TCP

from lab import netns
from lab.linux.kernel import set_sysctl
from lab.network import Lab
from lab.wait import PATIENCE, wait_until
from lab.wire import Capture, Filter, tcp_port

from .conftest import Agents, Endpoint
from .onwire import A, B, assert_not_steered, assert_steered, is_steered
from .test_steering import BY_ADDRESS, BY_NAME, http

GUEST, GUESTS_LINK = "fcbb:cc00:1:1::b", "fcbb:cc00:1:1::a"


def connection(lab: Lab) -> tuple[socket.socket, socket.socket]:
    """Both ends of a TCP connection from host-a to host-b's port 5000."""
    listening = Endpoint(lab, "host-b", socket.SOCK_STREAM, 5000).socket
    near = Endpoint(lab, "host-a", socket.SOCK_STREAM).socket
    listening.listen()
    near.connect((B, 5000))
    far, _peer = listening.accept()
    far.settimeout(PATIENCE)
    listening.close()
    return near, far


def exchange(near: socket.socket, far: socket.socket, word: bytes) -> None:
    """There and back."""
    near.sendall(word)
    assert far.recv(100) == word
    far.sendall(word[::-1])
    assert near.recv(100) == word[::-1]


def test_a_connection_outlives_its_clients_agent(lab: Lab, agents: Agents, capture: Capture) -> None:
    """The server hears of the flow without an SRH, and answers without one."""
    agents.server("host-b")
    client = agents.client(BY_ADDRESS)
    near, far = connection(lab)
    exchange(near, far, b"steered")
    assert_steered(capture.settled(tcp_port(5000)))
    assert client.stop() == 0
    capture.forget()
    for _ in range(3):
        exchange(near, far, b"without")
    assert_not_steered([p for p in capture.settled(tcp_port(5000)) if p[TCP].sport == 5000])
    agents.client(BY_ADDRESS)
    capture.forget()
    exchange(near, far, b"steered again")
    assert any(is_steered(p) for p in capture.settled(tcp_port(5000)) if p[TCP].sport == 5000)
    near.close()
    far.close()


@pytest.fixture
def guest(lab: Lab) -> Iterator[str]:
    """The name of a network namespace behind host-a, which forwards for it."""
    name = f"guest-{os.getpid()}"
    netns.create(name)
    before = lab.execute("host-a", ["cat", "/proc/sys/net/ipv6/conf/all/forwarding"]).stdout.strip()
    for command in (
        f"ip link add guest0 type veth peer name eth0 netns {name}",
        f"ip address add {GUESTS_LINK}/64 dev guest0 nodad",
        "ip link set guest0 up",
        f"ip -n {name} address add {GUEST}/64 dev eth0 nodad",
        f"ip -n {name} link set eth0 up",
        f"ip -n {name} route add default via {GUESTS_LINK}",
    ):
        lab.execute("host-a", command.split())
    lab.inside("host-a", lambda: set_sysctl("net/ipv6/conf/all/forwarding", 1))
    yield name
    lab.inside("host-a", lambda: set_sysctl("net/ipv6/conf/all/forwarding", int(before)))
    netns.remove(name)


def test_what_a_host_forwards_is_not_steered(lab: Lab, agents: Agents, capture: Capture, guest: str) -> None:
    """A guest behind the client reaches the service as without agents; the host's own packets are steered."""
    agents.server("host-b")
    agents.client(BY_ADDRESS)
    fetch = ["ip", "netns", "exec", guest, "curl", "-sS", "-m", "10", f"http://[{B}]/"]
    answer = subprocess.run(fetch, capture_output=True, text=True, check=False)
    assert answer.stdout == "Hello from host-b\n", answer.stderr
    assert_not_steered(capture.settled(tcp_port(80)))
    capture.forget()
    assert http(lab, f"http://[{B}]/") == "Hello from host-b\n"
    assert_steered(capture.settled(tcp_port(80)))


def test_a_forged_answer_teaches_nothing(
    lab: Lab, agents: Agents, capture: Capture, udp: Callable[..., Endpoint]
) -> None:
    """From port 53 of another host, for a configured name; then the host sends to the address it names."""
    agents.server("host-b")
    agents.client(BY_NAME)
    http(lab, "http://wb.hawk.net/")
    forger, victim, sender = udp("host-c", 53), udp("host-a", 40053), udp("host-a")
    forged = lab.topology.host("host-c").address
    question = DNSQR(qname="wb.hawk.net", qtype="AAAA")
    answer = DNSRR(rrname="wb.hawk.net", type="AAAA", ttl=300, rdata=str(forged))
    message = bytes(DNS(id=0x1234, qr=1, rd=1, ra=1, qd=[question], an=[answer]))
    forger.socket.sendto(message, (A, victim.port))
    assert victim.socket.recv(1000) == message
    capture.forget()
    sender.socket.sendto(b"x", (str(forged), 80))
    wait_until(lambda: capture.count(Filter(to=80)), 5.0, "the datagram")
    assert_not_steered(capture.settled(Filter(to=80)))
