"""Delay and loss of `lab.impair`, measured on steered packets: netem is in the kernels of distributions."""

import socket
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from lab import impair
from lab.network import Lab
from lab.wait import patient
from lab.wire import Capture, Filter
from tests.labs import running

from ..conftest import Agents, Endpoint
from ..onwire import assert_steered

TOPOLOGY = """
name: delays
nodes:
  host-a: {kind: host, service_address: "fcbb:cc00:1::a/48"}
  host-b: {kind: host, service_address: "fcbb:cc00:2::a/48"}
  r1: {kind: router, loopback: "fcbb:bb00:1::1/128", sid: "fcbb:bb00:1::2"}
  r2: {kind: router, loopback: "fcbb:bb00:2::1/128", sid: "fcbb:bb00:2::2"}
links:
  - endpoints: ["host-a:eth0", "r1:host-a"]
    prefix: "2001:cafe:a::/64"
    addresses: ["::a", "::1"]
    igp: 10
    latency: 1
    bandwidth: 1000000
  - endpoints: ["r1:r2", "r2:r1"]
    prefix: "2001:db8:12::/64"
    addresses: ["::1", "::2"]
    igp: 10
    latency: 1
    bandwidth: 1000000
  - endpoints: ["r2:host-b", "host-b:eth0"]
    prefix: "2001:cafe:b::/64"
    addresses: ["::1", "::b"]
    igp: 10
    latency: 1
    bandwidth: 1000000
"""
CONFIG = """
services:
  b:
    ipv6_addresses: ["fcbb:cc00:2::a"]
    applications: [{port: 5000, sid: ["fcbb:bb00:1::2", "fcbb:bb00:2::2"]}]
"""
LINK = "r1-r2"
DELAY = 0.1
B = "fcbb:cc00:2::a"


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory, new_lab: Callable[..., Lab]) -> Iterator[Lab]:
    """Two hosts and two routers; skips where the kernel has no netem."""
    file = tmp_path_factory.mktemp("short") / "delays.yaml"
    file.write_text(TOPOLOGY)
    with running(new_lab("delays", "linux", file)) as lab:
        done = impair.impair(lab, LINK, latency=1000)
        if any("no netem" in line for line in done):
            pytest.skip("this kernel has no netem (CONFIG_NET_SCH_NETEM)")
        impair.heal(lab)
        yield lab


@pytest.fixture(scope="module")
def steered(short: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """With client and server."""
    agents = Agents(short, tmp_path_factory.mktemp("agents"))
    agents.server("host-b")
    agents.client(CONFIG)
    yield short
    agents.stop()


@pytest.fixture(autouse=True)
def healed(short: Lab) -> Iterator[None]:
    """Each test begins with links that are not impaired."""
    yield
    impair.heal(short)


def round_trips(lab: Lab, count: int, patience: float = 5.0) -> list[float]:
    """Seconds of each datagram to host-b and back that was not lost."""
    near, far = Endpoint(lab, "host-a", socket.SOCK_DGRAM), Endpoint(lab, "host-b", socket.SOCK_DGRAM, 5000)
    found = []
    with near.socket as one, far.socket as other:
        for end in (one, other):
            end.settimeout(patience)
        for number in range(count):
            data = number.to_bytes(4, "big")
            began = time.monotonic()
            one.sendto(data, (B, 5000))
            with suppress(TimeoutError):
                got, peer = other.recvfrom(100)
                assert got == data
                other.sendto(got, peer)
                assert one.recv(100) == data
                found.append(time.monotonic() - began)
    return found


def test_delay(steered: Lab) -> None:
    """Both ends of the link delay, so that a round trip has it twice; healed it is gone."""
    before = statistics.median(round_trips(steered, 20))
    assert before < DELAY, "the machine is too slow for this measurement"
    done = impair.impair(steered, LINK, latency=int(DELAY * 1e6))
    assert any(f"delay {int(DELAY * 1e6)}us" in line for line in done), done
    with Capture(steered.topology, steered.namespace) as capture:
        during = round_trips(steered, 20)
        assert_steered(capture.packets(Filter(17)))
    assert len(during) == 20
    assert min(during) >= 2 * DELAY
    assert statistics.median(during) - before < 3 * DELAY
    impair.heal(steered)
    assert statistics.median(round_trips(steered, 20)) < DELAY


def drained(receiver: socket.socket, patience: float) -> int:
    """How many datagrams come, until none has come for so many seconds."""
    receiver.settimeout(patience)
    count = 0
    with suppress(TimeoutError, BlockingIOError):
        while receiver.recv(100):
            count += 1
    return count


def test_loss(steered: Lab) -> None:
    """A third of the packets, one way: within five standard deviations of what chance allows."""
    count, loss = 600, 0.3
    impair.impair(steered, LINK, loss=loss * 100)
    near, far = (
        Endpoint(steered, "host-a", socket.SOCK_DGRAM),
        Endpoint(steered, "host-b", socket.SOCK_DGRAM, 5000),
    )
    arrived = 0
    with near.socket as one, far.socket as other:
        for number in range(count):
            one.sendto(number.to_bytes(4, "big"), (B, 5000))
            # A receiver's buffer holds some hundred.
            if number % 50 == 49:
                arrived += drained(other, 0)
        arrived += drained(other, patient(1))
    expected, deviation = count * (1 - loss), (count * loss * (1 - loss)) ** 0.5
    assert abs(arrived - expected) < 5 * deviation, f"{arrived} of {count} arrived"


def test_delay_and_loss_together(steered: Lab) -> None:
    done = impair.impair(steered, LINK, latency=20_000, loss=20)
    assert any("delay 20000us loss 20" in line for line in done), done
    found = round_trips(steered, 40, patience=patient(0.3))
    assert 10 < len(found) < 40
    assert min(found) >= 0.04
