"""A server's memory of flows: what it spares is not to be seen, and it outlives nothing that made it true."""

import os
import sys
from collections.abc import Callable
from ipaddress import IPv6Address, IPv6Network
from typing import Any

import pytest

from hawkwing.dataplane.loader import Capacities, Loading
from tests.dataplane import packets as p
from tests.dataplane.bench import Bench, Namespace, with_xdp
from tests.dataplane.packets import steered
from tests.dataplane.scene import HOST_A, HOST_B, HOST_C, SIDS, fill_server

PEER, OWN = 50000, 8888
DATA = bytes(range(60))
SMALL = Capacities(policies=1024, services=4, routes=4, names=4, flows=16)
DOMAIN = [IPv6Network("fcbb:bb00::/32"), IPv6Network("fcbb:cc00::/32")]
HEADERS = 14 + 40
PATHS = {40: SIDS[:1], 56: SIDS[:2], 72: SIDS[:3]}
"""By the length of their SRH."""


@pytest.fixture(scope="module")
def loaded(namespace: Namespace) -> Bench:
    """A server with room for some twenty flows, and its XDP program."""
    return with_xdp(SMALL, namespace, ["server"])["server"]


@pytest.fixture
def bench(loaded: Bench) -> Bench:
    """The same with empty tables."""
    fill_server(loaded)
    return loaded


def transport(
    protocol: int, source: IPv6Address, target: IPv6Address, *ports: int, flags: int = p.ACK
) -> bytes:
    """A datagram or segment."""
    if protocol == p.UDP:
        return p.udp(source, target, *ports, DATA)
    return p.tcp(source, target, *ports, DATA, flags=flags, option_bytes=p.mss(1440))


def request(
    path: list[IPv6Address],
    protocol: int = p.UDP,
    source: IPv6Address = HOST_A,
    sport: int = PEER,
    flags: int = p.ACK,
    **fields: Any,
) -> bytes:
    """What host B gets over `path`."""
    inner = transport(protocol, source, HOST_B, sport, OWN, flags=flags)
    return p.ipv6(source, HOST_B, p.ROUTING, p.srh(protocol, [*path, HOST_B], inner, left=0, **fields))


def reply(protocol: int = p.UDP, target: IPv6Address = HOST_A) -> bytes:
    """What host B answers."""
    return p.ipv6(HOST_B, target, protocol, transport(protocol, HOST_B, target, OWN, PEER))


def arrives(bench: Bench, packet: bytes, *besides: str) -> None:
    """A packet is stripped, and counts `besides`."""
    assert bench.run("ingress", packet).counted == dict.fromkeys(("STRIPPED", *besides), 1)


def leaves(bench: Bench, path: list[IPv6Address], protocol: int = p.UDP) -> None:
    """The answer goes back over `path`."""
    answer = reply(protocol)
    bench.expect("egress", answer, "STEERED", out=steered(answer, path[::-1]))


def remembered(bench: Bench) -> int:
    """How many flows are remembered, and still hold."""
    valid = int.from_bytes(bench.plane.maps["flow_changes"].get(bytes(4)) or b"", sys.byteorder)
    return sum(flow.valid == valid for flow in bench.remembered("cached_flows", "cached_flow"))


def remember(bench: Bench, packet: bytes) -> None:
    """The first packet is learned from, the second one noted, the third one remembered."""
    arrives(bench, packet, "LEARNED")
    arrives(bench, packet)
    arrives(bench, packet)
    assert remembered(bench) == 1


@pytest.mark.parametrize("path", PATHS.values(), ids=map(str, PATHS))
@pytest.mark.parametrize("protocol", [p.UDP, p.TCP])
def test_the_memory_is_asked_before_the_table(bench: Bench, protocol: int, path: list[IPv6Address]) -> None:
    """Behind the data plane's back the table is emptied: what is remembered still holds, and no more."""
    packet = request(path, protocol)
    remember(bench, packet)
    leaves(bench, path, protocol)
    bench.empty("flows")
    arrives(bench, packet)
    leaves(bench, path, protocol)
    bench.expect("egress", reply(p.TCP if protocol == p.UDP else p.UDP), "NO_FLOW")
    bench.plane.forget()
    bench.expect("egress", reply(protocol), "NO_FLOW")
    arrives(bench, packet, "LEARNED")


def test_answers_alone_are_remembered_too(bench: Bench) -> None:
    """Requests may come in on another CPU; then one that comes in here is looked at whole."""
    packet = request(SIDS[:2])
    arrives(bench, packet, "LEARNED")
    leaves(bench, SIDS[:2])
    leaves(bench, SIDS[:2])
    assert remembered(bench) == 1
    bench.empty("flows")
    leaves(bench, SIDS[:2])
    arrives(bench, packet, "LEARNED")


def test_another_path_and_back(bench: Bench) -> None:
    """The memory still has the first path when the flow comes over it again; the table doesn't."""
    remember(bench, request(SIDS[:2]))
    leaves(bench, SIDS[:2])
    arrives(bench, request(SIDS[3:5]), "LEARNED")
    leaves(bench, SIDS[3:5])
    arrives(bench, request(SIDS[:2]), "LEARNED")
    leaves(bench, SIDS[:2])


def test_another_path_for_an_answer_that_is_remembered(bench: Bench) -> None:
    arrives(bench, request(SIDS[:2]), "LEARNED")
    leaves(bench, SIDS[:2])
    leaves(bench, SIDS[:2])
    assert remembered(bench) == 1
    arrives(bench, request(SIDS[3:5]), "LEARNED")
    leaves(bench, SIDS[3:5])


def test_a_flow_that_lost_its_entry(bench: Bench) -> None:
    """A flood of its own source takes it: it is no longer known, and learned anew."""
    assert bench.plane.flows is not None
    packet = request(SIDS[:2])
    remember(bench, packet)
    ((mark, _word),) = bench.plane.flows.entries()
    for port in range(1, 500):
        arrives(bench, packet)
        leaves(bench, SIDS[:2])
        bench.run("ingress", request(SIDS[:2], sport=port))
        if mark not in dict(bench.plane.flows.entries()):
            break
    else:
        raise AssertionError("the flow has kept its entry")
    bench.expect("egress", reply(), "NO_FLOW")
    assert "LEARNED" in bench.run("ingress", packet).counted


def test_another_sr_domain(bench: Bench) -> None:
    packet = request(SIDS[:2])
    bench.plane.set_sr_domain(DOMAIN)
    remember(bench, packet)
    bench.plane.set_sr_domain(DOMAIN[:1])
    bench.expect("ingress", packet, "UNTRUSTED")


def test_an_address_that_is_no_longer_ours(bench: Bench) -> None:
    packet = request(SIDS[:2])
    remember(bench, packet)
    bench.local(HOST_C)
    bench.expect("ingress", packet, "NOT_LOCAL")


def test_a_flow_stays_young(bench: Bench) -> None:
    """Half a minute later it is noted in the table that the flow was seen."""
    assert bench.plane.flows is not None
    packet = request(SIDS[:2])
    remember(bench, packet)
    (before,) = bench.plane.flows.entries()
    bench.tick()
    arrives(bench, packet)
    (after,) = bench.plane.flows.entries()
    assert before[0] == after[0]
    assert before[1] != after[1]


def changed(packet: bytes, places: range) -> list[bytes]:
    """The packet with one bit changed, at each of the places."""
    return [
        packet[:at] + bytes([packet[at] ^ bit]) + packet[at + 1 :] for at in places for bit in (1, 2, 128)
    ]


def outcome(bench: Bench, ready: Callable[[], None], direction: str, packet: bytes) -> list[object]:
    """What becomes of a packet, by way of tc and of XDP, where the same flow is known; and of an answer."""
    bench.empty("flows")
    bench.plane.forget()
    ready()
    passed = bench.run_xdp(packet) if direction == "ingress" else ()
    return [passed, bench.run(direction, packet, on_port=True), bench.run("egress", reply())]


@pytest.mark.parametrize("protocol", [p.UDP, p.TCP])
@pytest.mark.parametrize("length", PATHS)
def test_nothing_but_the_same_is_taken_for_it(bench: Bench, length: int, protocol: int) -> None:
    """Packets that differ in one bit of the headers, are cut short, or bear a SYN fare as without it."""
    packet = request(PATHS[length], protocol)
    end = HEADERS + length
    others = [packet, *changed(packet, range(18, end + 14))]
    others += [packet[:cut] for cut in range(HEADERS, end + 30)]
    others += [
        request(PATHS[length], protocol, flags=p.SYN),
        request(PATHS[length], protocol, flags=p.SYN_ACK),
    ]
    others += [request(PATHS[length][:-1], protocol, tlvs=bytes([4, 14, *range(14)]))]

    def known() -> None:
        arrives(bench, packet, "LEARNED")
        arrives(bench, packet)
        arrives(bench, packet)

    def forgotten() -> None:
        known()
        bench.plane.forget()

    known()
    assert remembered(bench) == 1
    for other in others:
        with_memory = outcome(bench, known, "ingress", other)
        without = outcome(bench, forgotten, "ingress", other)
        assert with_memory == without, other.hex()


def test_flows_remembered_at_the_same_place(bench: Bench) -> None:
    """Each place is for a 64th of all flows: among so many others some have this one."""
    packet = request(SIDS[:2])
    shared = 0
    for port in range(PEER + 1, PEER + 300):
        bench.empty("flows")
        bench.plane.forget()
        remember(bench, packet)
        answer = p.ipv6(HOST_B, HOST_A, p.UDP, p.udp(HOST_B, HOST_A, OWN, port))
        bench.expect("egress", answer, "NO_FLOW")
        other = request(SIDS[3:5], sport=port)
        arrives(bench, other, "LEARNED")
        arrives(bench, other)
        assert remembered(bench) == 1
        arrives(bench, other)
        shared += remembered(bench) == 1
        for _ in range(2):
            leaves(bench, SIDS[:2])
            bench.expect("egress", answer, "STEERED", out=steered(answer, [SIDS[4], SIDS[3]]))
            arrives(bench, packet)
            arrives(bench, other)
    assert 0 < shared < 30


def test_a_flow_that_comes_by_once_wipes_nothing(bench: Bench) -> None:
    """Of so many others some share its place."""
    packet = request(SIDS[:2])
    for port in range(PEER + 1, PEER + 300):
        bench.empty("flows")
        bench.plane.forget()
        remember(bench, packet)
        arrives(bench, request(SIDS[:2], sport=port), "LEARNED")
        arrives(bench, request(SIDS[:2], sport=port))
        bench.empty("flows")
        arrives(bench, packet)


@pytest.mark.parametrize("size", [0, 7, 15, 16, 23, 24])
@pytest.mark.parametrize("path", PATHS.values(), ids=map(str, PATHS))
def test_small_datagrams_are_remembered(bench: Bench, size: int, path: list[IPv6Address]) -> None:
    inner = p.udp(HOST_A, HOST_B, PEER, OWN, bytes(size))
    packet = p.ipv6(HOST_A, HOST_B, p.ROUTING, p.srh(p.UDP, [*path, HOST_B], inner, left=0))
    remember(bench, packet)
    bench.empty("flows")
    arrives(bench, packet)
    arrives(bench, request(path))


@pytest.mark.parametrize("tlvs", [0, 8, 16, 24])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 8])
def test_other_srhs_are_not_remembered(bench: Bench, count: int, tlvs: int) -> None:
    """Longer ones, or of a length that no list of SIDs has, are looked at whole each time."""
    padding = bytes([4, tlvs - 2, *range(tlvs - 2)]) if tlvs else b""
    packet = request(SIDS[:count], tlvs=padding)
    arrives(bench, packet, "LEARNED")
    arrives(bench, packet)
    arrives(bench, packet)
    # TLVs may make up for SIDs: all of it is compared, whatever it is.
    assert remembered(bench) == (8 + 16 * (count + 1) + tlvs in PATHS)
    arrives(bench, packet)
    leaves(bench, SIDS[:count])
    bench.empty("flows")
    bench.plane.forget()
    arrives(bench, packet, "LEARNED")


def test_the_next_agent_takes_over_what_is_known(loaded: Bench, namespace: Namespace) -> None:
    """Also from a version that remembered nothing, or in another form; what is remembered begins anew."""
    bench = loaded
    fill_server(bench)
    bench.plane.set_sr_domain(DOMAIN)
    packet = request(SIDS[:2])
    remember(bench, packet)
    left = {name: os.dup(table.fd) for name, table in bench.plane.maps.items()}
    os.close(left.pop("flow_changes"))
    loading = Loading("server", SMALL)
    try:
        taken = loading.result(left)
    finally:
        loading.abandon()
    assert "flows" in taken.inherited
    heir = Bench("server", taken, namespace)
    assert remembered(heir) == 0
    leaves(heir, SIDS[:2])
    heir.plane.set_sr_domain(DOMAIN[:1])
    heir.expect("ingress", packet, "UNTRUSTED")


@pytest.mark.parametrize("protocol", [p.UDP, p.TCP])
def test_no_other_answer_is_taken_for_it(bench: Bench, protocol: int) -> None:
    packet, answer = request(SIDS[:2], protocol), reply(protocol)

    def known() -> None:
        arrives(bench, packet, "LEARNED")
        leaves(bench, SIDS[:2], protocol)
        leaves(bench, SIDS[:2], protocol)

    def forgotten() -> None:
        known()
        bench.plane.forget()

    for other in [answer, *changed(answer, range(20, HEADERS + 14))]:
        with_memory = outcome(bench, known, "egress", other)
        assert with_memory == outcome(bench, forgotten, "egress", other), other.hex()
