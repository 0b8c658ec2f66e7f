"""Datagrams and streams of every size: all arrive, and all are steered."""

import hashlib
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest
from scapy.layers.inet6 import IPv6, IPv6ExtHdrSegmentRouting

from lab.linux.large import forwards_large
from lab.network import Lab
from lab.packets import segments
from lab.vpp.objects import MOST_SEGMENTS
from lab.wait import patient, wait_until
from lab.wire import Capture, Filter

from .conftest import Agents, Endpoint, have_tool, on_vpp
from .onwire import R1, R3, R5, R6, B, assert_steered

UDP_NUMBER = 17
# Around every edge: the MTU less SRHs of 1 to 8 SIDs, the MTU itself, fragments, the largest.
SIZES = [
    1,
    100,
    1231,
    1232,
    1233,
    1280,
    1300,
    1320,
    1340,
    1356,
    1360,
    1372,
    1373,
    1388,
    1396,
    1397,
    1404,
    1405,
]
SIZES += [
    1412,
    1420,
    1421,
    1428,
    1440,
    1451,
    1452,
    1453,
    1460,
    1500,
    2000,
    2800,
    2900,
    4000,
    9000,
    30000,
    65000,
]


def config(sids: list[str], *more_ports: int) -> str:
    """Port 5000 of host-b, and more of its ports, over the same path."""
    head = f"services:\n  b:\n    ipv6_addresses: [{B}]\n    applications:\n"
    return head + "".join(
        f"      - {{port: {port}, sid: [{', '.join(sids)}]}}\n" for port in (5000, *more_ports)
    )


def sids(count: int) -> list[str]:
    """A path of that many SIDs which really leads to host-b."""
    return ([R1, R3, R5, R6] + [R5, R6] * 8)[:count]


def route(lab: Lab, host: str, destination: str) -> str:
    """What a host's stack knows of the way there."""
    return lab.execute(host, ["ip", "-6", "route", "get", destination]).stdout


def forget_path_mtu(lab: Lab) -> None:
    """Every test starts with a stack that knows nothing of the path."""
    for host in ("host-a", "host-b"):
        lab.execute(host, ["ip", "-6", "route", "flush", "cache"])


def streams(lab: Lab, size: int) -> "subprocess.CompletedProcess[str]":
    """So many bytes over TCP from host-b to host-a, and back; all of them have to arrive."""
    curl = f"curl -sS -m {patient(10):g}"
    script = f"{curl} http://[{B}]/bytes/{size} | wc -c; "
    script += f"head -c {size} /dev/zero | {curl} -T - http://[{B}]/"
    result = lab.execute("host-a", ["sh", "-c", script])
    there, answer = result.stdout.splitlines()
    assert there.strip() == str(size) and answer.endswith(f" {size}"), result
    return result


@contextmanager
def inner_mtu(lab: Lab, mtu: int) -> Iterator[None]:
    """A link inside the path carries less than the hosts' links."""
    ends = (("vpp3", "vpp5"), ("vpp5", "vpp3"))
    for end in ends:
        lab.set_mtu(*end, mtu)
    try:
        forget_path_mtu(lab)
        yield
    finally:
        for end in ends:
            lab.set_mtu(*end, 1500)
        forget_path_mtu(lab)


@pytest.mark.parametrize("count", [1, 2, 8, 12, 15])
def test_every_datagram_arrives_and_is_steered(
    lab: Lab, agents: Agents, udp: Callable[..., Endpoint], count: int
) -> None:
    if on_vpp(lab) and count > MOST_SEGMENTS - 1:
        pytest.skip(f"VPP's End reads lists of at most {MOST_SEGMENTS} segments")
    agents.server("host-b")
    agents.client(config(sids(count)))
    near, far = udp("host-a"), udp("host-b", 5000)
    ends = [lab.topology.link("host-a", "site-a"), lab.topology.link("site-b", "host-b")]
    lost = []
    with Capture(lab.topology, lab.namespace, ends) as capture:
        for size in SIZES:
            # Not even the first datagram may be lost: the stack knows nothing in advance.
            forget_path_mtu(lab)
            data = hashlib.shake_128(str(size).encode()).digest(size)
            capture.forget()
            try:
                near.socket.sendto(data, (B, 5000))
                there, peer = far.socket.recvfrom(70000)
                far.socket.sendto(data, peer)
                back, _peer = near.socket.recvfrom(70000)
            except TimeoutError:
                lost.append(size)
                continue
            assert there == data and back == data, f"{size} bytes arrived changed"
            packets = capture.packets(Filter(UDP_NUMBER))
            assert_steered(packets)
            # The SRH stands before any Fragment header.
            heads = {type(p[IPv6].payload) for p in packets}
            assert heads == {IPv6ExtHdrSegmentRouting}, f"{size} bytes: a packet without its SRH"
            assert {len(segments(p)) for p in packets} == {count + 1}
            assert max(p.length - 14 for p in packets) <= 1500, f"{size} bytes: larger than the MTU"
    assert lost == []


@pytest.mark.parametrize("offload", ["on", "off"])
def test_tcp_at_full_size(lab: Lab, agents: Agents, capture: Capture, offload: str) -> None:
    text = config(sids(8)).replace("5000", "80")
    for host in ("host-a", "host-b"):
        tso = offload if forwards_large() else "off"
        lab.execute(host, ["ethtool", "-K", "eth0", "tso", tso, "gso", offload, "gro", offload])
    forget_path_mtu(lab)
    agents.server("host-b")
    agents.client(text)
    result = streams(lab, 3_000_000)
    for host in ("host-a", "host-b"):
        tso = "on" if forwards_large() else "off"
        lab.execute(host, ["ethtool", "-K", "eth0", "tso", tso, "gso", "on", "gro", "on"])
    assert "Packet Too Big" not in result.stderr


def test_smaller_mtu_inside_the_path_is_discovered(
    lab: Lab, agents: Agents, capture: Capture, udp: Callable[..., Endpoint]
) -> None:
    """A router's error quotes our packet with its SRH; the stack takes it as about the application's."""
    with inner_mtu(lab, 1400):
        agents.server("host-b")
        agents.client(config(sids(4), 80))
        near, far = udp("host-a"), udp("host-b", 5000)
        near.socket.sendto(bytes(1350), (B, 5000))
        far.socket.settimeout(0.3)
        with pytest.raises(TimeoutError):
            far.socket.recvfrom(2000)
        wait_until(lambda: "mtu 1312" in route(lab, "host-a", B), 5.0, "host-a to know the path's MTU")
        near.socket.sendto(bytes(1350), (B, 5000))
        far.socket.settimeout(patient(5))
        data, peer = far.socket.recvfrom(2000)
        assert len(data) == 1350
        forget_path_mtu(lab)
        far.socket.sendto(bytes(1350), peer)
        near.socket.settimeout(0.3)
        with pytest.raises(TimeoutError):
            near.socket.recvfrom(2000)
        wait_until(lambda: "mtu 1312" in route(lab, "host-b", peer[0]), 5.0, "host-b to know the path's MTU")
        far.socket.sendto(bytes(1350), peer)
        near.socket.settimeout(patient(5))
        assert len(near.socket.recvfrom(2000)[0]) == 1350
        forget_path_mtu(lab)
        streams(lab, 1_000_000)


def test_a_link_inside_the_path_that_carries_1280_bytes(
    lab: Lab, agents: Agents, udp: Callable[..., Endpoint]
) -> None:
    """With an SRH 1280 bytes are too much there, and a router can't ask the stack for less.

    Once a datagram was lost on either way, none of any size is any more; a connection goes on.
    """
    with inner_mtu(lab, 1280):
        agents.server("host-b")
        agents.client(config(sids(4), 80))
        near, far = udp("host-a"), udp("host-b", 5000)
        near.socket.sendto(b"hello", (B, 5000))
        _data, peer = far.socket.recvfrom(100)
        for sender, receiver, address in (
            (near.socket, far.socket, (B, 5000)),
            (far.socket, near.socket, peer),
        ):
            receiver.settimeout(0.3)
            for _ in range(3):
                # The first one says that 1368 bytes are too much, the second one that 1280 are.
                sender.sendto(bytes(1400), address)
                with suppress(TimeoutError):
                    receiver.recvfrom(2000)
            receiver.settimeout(patient(5))
            for size in (1, 1140, 1144, 1145, 1232, 1233, 1400, 1452, 3000, 9000, 30000):
                data = hashlib.shake_128(str(size).encode()).digest(size)
                sender.sendto(data, address)
                assert receiver.recvfrom(70000)[0] == data, size
        streams(lab, 1_000_000)


#: What drops packets whose source has its route by another interface, or none; and what takes that back.
REVERSE_PATH = {
    "nft": (
        "nft add table ip6 back; "
        "nft add chain ip6 back in { type filter hook prerouting priority -300 \\; }; "
        "nft add rule ip6 back in fib saddr . iif oif missing counter drop; "
        "nft add rule ip6 back in iif != lo fib saddr type local counter drop",
        "nft delete table ip6 back",
    ),
    "ip6tables": (
        "ip6tables -w -t raw -A PREROUTING -m rpfilter --invert -j DROP",
        "ip6tables -w -t raw -D PREROUTING -m rpfilter --invert -j DROP",
    ),
}


@pytest.fixture(params=REVERSE_PATH)
def reverse_path(lab: Lab, request: pytest.FixtureRequest) -> Iterator[None]:
    """The usual rule of a firewall on both hosts."""
    if not have_tool(request.param):
        pytest.skip(f"{request.param} is not installed")
    begin, end = REVERSE_PATH[request.param]
    for host in ("host-a", "host-b"):
        if lab.execute(host, ["sh", "-ec", begin], check=False).returncode:
            pytest.skip(f"this kernel has no reverse-path rule for {request.param}")
    yield
    for host in ("host-a", "host-b"):
        lab.execute(host, ["sh", "-c", end])


def test_a_firewall_that_verifies_sources(
    lab: Lab, agents: Agents, udp: Callable[..., Endpoint], reverse_path: None
) -> None:
    """What we tell the stack about the MTU passes it: connections older than the agents go on."""
    near, far = udp("host-a"), udp("host-b", 5000)
    with ExitStack() as stack:
        near_end = Endpoint(lab, "host-a", socket.SOCK_STREAM)
        listening = Endpoint(lab, "host-b", socket.SOCK_STREAM, 81)
        old = stack.enter_context(near_end.socket)
        stack.enter_context(listening.socket).listen()
        old.connect((B, 81))
        other = stack.enter_context(listening.socket.accept()[0])
        other.settimeout(patient(10))
        forget_path_mtu(lab)
        agents.server("host-b")
        agents.client(config(sids(3), 81))
        for size in (1, 1372, 1400, 1452, 3000, 30000):
            data = hashlib.shake_128(str(size).encode()).digest(size)
            near.socket.sendto(data, (B, 5000))
            got, address = far.socket.recvfrom(70000)
            far.socket.sendto(got, address)
            assert near.socket.recvfrom(70000)[0] == data
        # A single segment of full size can't be cut smaller by us: its sender has to be told.
        for size in (1428, 3 * 1428):
            for one, two in ((old, other), (other, old)):
                one.sendall(bytes(size))
                arrived = 0
                while arrived < size:
                    arrived += len(two.recv(1 << 16))
