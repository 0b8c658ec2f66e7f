"""The XDP program strips ordinary packets and passes all others on unchanged to the tc program behind it."""

import struct
from ipaddress import IPv6Address
from typing import Any

import pytest

from hawkwing.dataplane import bpf
from hawkwing.dataplane.layout import limits, structures
from hawkwing.dataplane.loader import Capacities
from tests.dataplane import packets as p
from tests.dataplane.bench import Bench, Namespace, with_xdp
from tests.dataplane.packets import aaaa, dns_answer
from tests.dataplane.scene import HOST_A, HOST_B, HOST_C, NAME, ROUTER, SIDS, Host, fill_client, fill_server

XDP_PASS = 2
DOMAIN = ("fcbb:bb00::/32", "fcbb:cc00::/32")
PORT, OWN = 50000, 8888
PATH = SIDS[:2]


@pytest.fixture(scope="module")
def loaded(namespace: Namespace) -> dict[str, Bench]:
    """Both roles with the XDP program, and tc's behind it, which know of it."""
    benches = with_xdp(Capacities(), namespace)
    for bench in benches.values():
        bench.plane.set_xdp(True)
    return benches


@pytest.fixture(params=["client", "server"])
def host(request: pytest.FixtureRequest, loaded: dict[str, Bench]) -> Host:
    """Either role, on host A or B."""
    bench = loaded[request.param]
    client = request.param == "client"
    (fill_client if client else fill_server)(bench)
    return Host(bench, HOST_A, HOST_B) if client else Host(bench, HOST_B, HOST_A)


def segment(host: Host, flags: int = p.ACK, data: bytes = b"data") -> bytes:
    """TCP from the peer."""
    return p.tcp(host.there, host.here, PORT, OWN, data, flags=flags)


def datagram(host: Host, sport: int = PORT, data: bytes = b"data") -> bytes:
    """UDP from the peer."""
    return p.udp(host.there, host.here, sport, OWN, data)


def over(host: Host, protocol: int, body: bytes, path: list[IPv6Address] = PATH, **fields: int) -> bytes:
    """A packet from the peer over a path."""
    header = p.srh(protocol, [*path, host.here], body, **{"left": 0, **fields})  # type: ignore[arg-type]
    return host.arrived(p.ROUTING, header)


def know(host: Host, packet: bytes) -> None:
    """A server learns from the packet."""
    if host.bench.role == "server":
        assert "LEARNED" in host.bench.run("ingress", packet).counted


def check(host: Host, packet: bytes, out: bytes | None = None) -> None:
    """XDP makes `out` of the packet, by default nothing; with tc behind it the packet is as with tc alone."""
    bench = host.bench
    before = bench.tallies()
    verdict, passed = bench.run_xdp(packet)
    assert verdict == XDP_PASS
    assert passed.hex() == (out or packet).hex()
    assert bench.counted(before, "ingress") == ({"STRIPPED": 1} if out else {})
    alone = bench.run("ingress", packet)
    both = bench.run("ingress", passed) if out else alone
    assert (both.verdict, both.packet.hex()) == (alone.verdict, alone.packet.hex())


@pytest.mark.parametrize("count", range(1, 16))
@pytest.mark.parametrize("protocol", [p.TCP, p.UDP])
@pytest.mark.parametrize("domain", [(), DOMAIN], ids=["everyone", "domain"])
def test_every_length_of_path(host: Host, protocol: int, count: int, domain: tuple[str, ...]) -> None:
    host.bench.reset(domain)
    host.bench.local(host.here)
    body = segment(host) if protocol == p.TCP else datagram(host)
    packet = over(host, protocol, body, SIDS[:count])
    know(host, packet)
    check(host, packet, host.arrived(protocol, body))


def test_every_byte(host: Host) -> None:
    body = segment(host, data=bytes(range(256)))
    fields = {"label": 0xABCDE, "traffic_class": 0x2E, "hop_limit": 61}
    header = p.srh(p.TCP, [*PATH, host.here], body, left=0, flags=8, tag=0x1234, tlvs=b"\1\6" + bytes(6))
    packet = p.ipv6(host.there, host.here, p.ROUTING, header, **fields) + b"trailer"
    know(host, packet)
    out = p.ipv6(host.there, host.here, p.TCP, body, **fields) + b"trailer"
    check(host, packet, out)


@pytest.mark.parametrize("flags", [0, 0x01, 0x04, p.ACK, 0x18, 0x11, 0xFD])
def test_segments_without_syn(host: Host, flags: int) -> None:
    body = segment(host, flags)
    know(host, over(host, p.TCP, body))
    check(host, over(host, p.TCP, body), host.arrived(p.TCP, body))


@pytest.mark.parametrize("flags", [p.SYN, p.SYN_ACK, 0xFF])
def test_syn_goes_up(host: Host, flags: int) -> None:
    know(host, over(host, p.TCP, segment(host)))
    check(host, over(host, p.TCP, segment(host, flags)))


def test_a_flow_that_comes_plain_ends(host: Host) -> None:
    """Only the XDP program can tell it from what it has stripped: tc's leaves the flow alone."""
    if host.bench.role == "client":
        return
    packet, plain = over(host, p.UDP, datagram(host)), host.arrived(p.UDP, datagram(host))
    know(host, packet)
    host.bench.expect("ingress", plain, "NO_ROUTING_HEADER")
    check(host, packet, plain)
    before = host.bench.tallies()
    assert host.bench.run_xdp(plain) == (XDP_PASS, plain)
    assert host.bench.counted(before, "ingress") == {"FLOW_ENDED": 1}
    assert host.bench.flows() == 0
    check(host, packet)


def test_name_servers_answers_go_up(host: Host) -> None:
    packet = over(host, p.UDP, datagram(host, 53, dns_answer(NAME, [aaaa(HOST_C)])))
    know(host, packet)
    check(host, packet)


def test_other_protocols_go_up(host: Host) -> None:
    body = p.icmp6(host.there, host.here, 128, 0, 1, b"ping")
    others = {
        p.ICMPV6: body,
        p.SCTP: p.sctp(PORT, OWN),
        p.ESP: bytes(40),
        p.NO_NEXT: b"",
        p.FRAGMENT: p.fragment(p.UDP, datagram(host), more=True),
        p.DESTINATION: p.options(p.UDP, datagram(host)),
        p.ROUTING: p.srh(p.UDP, [SIDS[5], host.here], datagram(host), left=0),
    }
    for protocol, inner in others.items():
        packet = over(host, protocol, inner)
        host.bench.run("ingress", packet)
        check(host, packet)


def test_without_an_srh(host: Host) -> None:
    check(host, host.arrived(p.UDP, datagram(host)))
    check(host, p.ethernet(0x0806, bytes(46)))
    check(host, p.ethernet(0x0800, over(host, p.UDP, datagram(host))[14:]))
    for kind in (p.HOP_BY_HOP, p.DESTINATION):
        inner = p.srh(p.UDP, [*PATH, host.here], datagram(host), left=0)
        packet = host.arrived(kind, p.options(p.ROUTING, inner))
        host.bench.run("ingress", packet)
        check(host, packet)


WRONG = [
    *({"left": left} for left in (1, 2, 255)),
    *({"kind": kind} for kind in (0, 1, 2, 3, 5)),
    *({"extent": extent} for extent in (0, 1, 4, 20, 255)),
    *({"last": last} for last in (3, 16, 255)),
]


@pytest.mark.parametrize("fields", WRONG, ids=str)
def test_wrong_headers_go_up(host: Host, fields: dict[str, int]) -> None:
    know(host, over(host, p.UDP, datagram(host)))
    check(host, over(host, p.UDP, datagram(host), PATH, **fields))


@pytest.mark.parametrize("length", [0, 1, 55])
def test_payload_lengths_that_end_before(host: Host, length: int) -> None:
    """0 stands for a jumbogram, which tc knows how to treat."""
    know(host, over(host, p.UDP, datagram(host)))
    packet = bytearray(over(host, p.UDP, datagram(host)))
    packet[18:20] = length.to_bytes(2, "big")
    check(host, bytes(packet))


def test_cut_off_everywhere(host: Host) -> None:
    """With eight bytes of UDP, or fourteen of TCP, enough is there."""
    for protocol, body, enough in ((p.UDP, datagram(host), 8), (p.TCP, segment(host), 14)):
        whole = over(host, protocol, body)
        know(host, whole)
        for size in range(54, len(whole) + 1):
            kept = size - 54 - 56
            out = host.arrived(protocol, body, length=len(body))[: 54 + kept] if kept >= enough else None
            check(host, whole[:size], out)


def test_not_for_us(host: Host) -> None:
    header = p.srh(p.UDP, [*PATH, HOST_C], p.udp(host.there, HOST_C, PORT, OWN), left=0)
    check(host, p.ipv6(host.there, HOST_C, p.ROUTING, header))
    header = p.srh(p.UDP, [*PATH, HOST_C], datagram(host), left=0)
    check(host, host.arrived(p.ROUTING, header))


def test_lists_longer_than_a_path(host: Host) -> None:
    for segments in (limits()["HW_MAX_SEGMENTS"] + 1, 32, 60):
        packet = over(host, p.UDP, datagram(host), (SIDS * 5)[: segments - 1])
        host.bench.run("ingress", packet)
        check(host, packet)


@pytest.mark.parametrize("place", [0, 1, 2, 7, 14])
def test_a_segment_outside_the_domain(host: Host, place: int) -> None:
    host.bench.reset(DOMAIN)
    host.bench.local(host.here)
    path = list(SIDS)
    path[place] = ROUTER
    check(host, over(host, p.UDP, datagram(host), path))


def test_a_source_outside_the_domain(host: Host) -> None:
    host.bench.reset(DOMAIN)
    host.bench.local(host.here)
    header = p.srh(p.UDP, [*PATH, host.here], p.udp(ROUTER, host.here, PORT, OWN), left=0)
    check(host, p.ipv6(ROUTER, host.here, p.ROUTING, header))


def test_no_sids(host: Host) -> None:
    """A client has nothing to learn from any list; a server's tc program counts this one."""
    body = datagram(host)
    packet = over(host, p.UDP, body, [])
    host.bench.run("ingress", packet)
    check(host, packet, host.arrived(p.UDP, body) if host.bench.role == "client" else None)


def test_a_server_strips_known_flows_only(loaded: dict[str, Bench]) -> None:
    fill_server(loaded["server"])
    host = Host(loaded["server"], HOST_B, HOST_A)
    first, changed = over(host, p.UDP, datagram(host)), over(host, p.UDP, datagram(host), SIDS[:3])
    out = host.arrived(p.UDP, datagram(host))
    check(host, first)
    check(host, first, out)
    other = over(host, p.UDP, datagram(host, PORT + 1))
    check(host, other)
    check(host, over(host, p.UDP, datagram(host), [SIDS[1], SIDS[0]]))
    check(host, changed)
    check(host, changed, out)
    check(host, first)
    assert host.bench.way_back(HOST_A, HOST_B, p.UDP, PORT, OWN) == [SIDS[1], SIDS[0]]
    assert host.bench.flows() == 2


@pytest.mark.parametrize("next_header", [p.NO_NEXT, p.ESP, p.UDP])
def test_what_only_looks_like_an_srh(host: Host, next_header: int) -> None:
    body = datagram(host, data=bytes(60))
    header = p.srh(p.UDP, [*PATH, host.here], body, left=0)
    packet, out = over(host, p.UDP, body), host.arrived(p.UDP, body)
    know(host, packet)
    for _ in range(2):
        check(host, packet, out)
    check(host, host.arrived(next_header, header))


def epochs(bench: Bench) -> list[int]:
    """When the flows were last seen."""
    table, kind, found = bench.plane.maps["flows"], structures()["flow_bucket"], []
    for index in range(table.info.max_entries):
        bucket: Any = kind.from_buffer_copy(table.get(struct.pack("=I", index)) or b"")
        found += [
            word >> limits()["HW_SLOT_BITS"] & 255
            for mark, word in zip(bucket.marks, bucket.words, strict=True)
            if mark
        ]
    return found


def test_flows_stay_young(loaded: dict[str, Bench]) -> None:
    """In each epoch one packet of a flow goes up to tc, which checks the flow anew and notes its use."""
    fill_server(loaded["server"])
    host = Host(loaded["server"], HOST_B, HOST_A)
    packet = over(host, p.UDP, datagram(host))
    know(host, packet)
    (learned,) = epochs(host.bench)
    for _ in range(3):
        host.bench.tick()
    assert epochs(host.bench) == [learned]
    assert bpf.test_run(host.bench.plane.programs["ingress_xdp"], packet).packet == packet
    host.bench.run("ingress", packet)
    assert epochs(host.bench) == [(learned + 3) % 256]
    assert len(bpf.test_run(host.bench.plane.programs["ingress_xdp"], packet).packet) < len(packet)
