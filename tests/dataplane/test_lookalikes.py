"""Addresses made to look like others to a hash: what is remembered must be compared, or hashed with secrets.

A product with an odd constant turns a difference in its factor's top bit into one in its own top bit, and in
no other. So these bits cancel each other in a chain of "multiply, shift right, exclusive or", whatever seed
it began with.
"""

from collections.abc import Iterator
from ipaddress import IPv6Address

import pytest

from tests.dataplane import packets as p
from tests.dataplane.packets import steered
from tests.dataplane.scene import HOST_A, HOST_B, SIDS, Host
from tests.dataplane.test_learning import PEER, learn, reply, request

DOMAIN = ("fcbb:bb00::/32", "fcbb:cc00:1::/64", "fcbb:cc00:2::/64")


def lookalikes(address: IPv6Address) -> Iterator[IPv6Address]:
    """Others that differ in the top bits of the address's two words, and where a shift takes the first to."""
    for shift in range(28, 34):
        words = [*address.packed[:8][::-1]], [*address.packed[8:][::-1]]
        first, second = (int.from_bytes(bytes(word)) for word in words)
        first ^= 1 << 63
        for other in (second ^ 1 << 63 ^ 1 << 63 - shift, second ^ 1 << 63 - shift, second ^ 1 << 63, second):
            yield IPv6Address(first.to_bytes(8, "little") + other.to_bytes(8, "little"))


ALIKE = range(24)


@pytest.mark.parametrize("number", ALIKE)
def test_a_path_that_looks_like_another(server: Host, number: int) -> None:
    """Each flow is answered over its own path, also where one changes to the other."""
    other = [*lookalikes(SIDS[1])][number]
    for first, second in (([SIDS[1]], [other]), ([SIDS[0], other, SIDS[3]], [SIDS[0], SIDS[1], SIDS[3]])):
        learn(server, request(first, sport=PEER), "LEARNED")
        learn(server, request(second, sport=PEER + 1), "LEARNED")
        for path, port in ((first, PEER), (second, PEER + 1)):
            answer = reply(dport=port)
            server.bench.expect("egress", answer, "STEERED", out=steered(answer, path[::-1]))
        learn(server, request(second, sport=PEER), "LEARNED")
        answer = reply()
        server.bench.expect("egress", answer, "STEERED", out=steered(answer, second[::-1]))


@pytest.mark.parametrize("number", ALIKE)
def test_a_flow_that_looks_like_another(server: Host, number: int) -> None:
    other = [*lookalikes(HOST_A)][number]
    learn(server, request(SIDS[:2]), "LEARNED")
    server.bench.expect("egress", reply(target=other), "NO_FLOW")
    learn(server, request(SIDS[2:4], source=other), "LEARNED")
    for target, path in ((HOST_A, SIDS[:2]), (other, SIDS[2:4])):
        answer = reply(target=target)
        server.bench.expect("egress", answer, "STEERED", out=steered(answer, path[::-1]))


@pytest.mark.parametrize("number", ALIKE)
def test_a_stranger_that_looks_like_a_member(host: Host, number: int) -> None:
    """Source or segment outside the SR domain, right after a packet that was believed."""
    host.bench.reset(DOMAIN)
    host.bench.local(host.here)
    besides = ("LEARNED",) if host.bench.role == "server" else ()

    def packet(source: IPv6Address, sids: list[IPv6Address]) -> bytes:
        inner = p.udp(source, host.here, PEER, 8888)
        return p.ipv6(source, host.here, p.ROUTING, p.srh(p.UDP, [*sids, host.here], inner, left=0))

    out = p.ipv6(host.there, host.here, p.UDP, p.udp(host.there, host.here, PEER, 8888))
    # A segment may be any address of the domain: there, too, a stranger must not look like one.
    sids = [SIDS[0], host.there]
    host.bench.expect("ingress", packet(host.there, sids), "STRIPPED", *besides, out=out)
    host.bench.expect("ingress", packet(host.there, sids), "STRIPPED", out=out)
    other = [*lookalikes(host.there)][number]
    for forged in (packet(other, sids), packet(host.there, [SIDS[0], other])):
        host.bench.expect("ingress", forged, "UNTRUSTED")


@pytest.mark.parametrize("number", ALIKE)
def test_a_service_that_looks_like_another(client: Host, number: int) -> None:
    """Two services, one port, two paths; and a destination that is none."""
    other = [*lookalikes(HOST_B)][number]
    client.bench.route(9, p.UDP, 80, 30, SIDS[4:7])
    first = client.out(p.UDP, client.udp(80))
    second = p.ipv6(HOST_A, other, p.UDP, p.udp(HOST_A, other, PEER, 80))
    for _ in range(2):
        client.bench.expect("egress", first, "STEERED", out=steered(first, SIDS[:2]))
    client.bench.expect("egress", second, "NO_SERVICE")
    client.bench.plane.add_service(other, 9)
    for _ in range(2):
        client.bench.expect("egress", first, "STEERED", out=steered(first, SIDS[:2]))
        client.bench.expect("egress", second, "STEERED", out=steered(second, SIDS[4:7]))
