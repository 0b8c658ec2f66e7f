"""Encapsulation (H.Encaps.Red, RFC 8986): the outer header, sizes, IPv4, errors about the outer packet."""

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPerror
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6PacketTooBig,
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrSegmentRouting,
)
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from hawkwing.dataplane.next_hop import ASK, NextHop
from hawkwing.selections import Contents
from hawkwing.sids import MAX_ENCAPSULATED, Encapsulated, overhead
from tests.dataplane import packets as p
from tests.dataplane.bench import MTU, REDIRECT
from tests.dataplane.packets import steered
from tests.dataplane.scene import GROUP, HOST_A, HOST_B, LOCAL_PORT, OWN_IPV4, ROUTER, SIDS, UNKNOWN, Host

TUNNEL = IPv6Address("fcbb:cc00:1::1")
"""The source of outer headers."""
OWN4, PEER4, OTHER4 = IPv4Address("192.0.2.1"), IPv4Address("192.0.2.10"), IPv4Address("192.0.2.11")
FIRST, BASE = 7000, 300
"""Port and slot of a path with no SID; the paths with more follow."""
TWO = FIRST + 2


@pytest.fixture
def encap(client: Host) -> Iterator[Host]:
    plane = client.bench.plane
    plane.outer_source = lambda _segment: TUNNEL
    plane.set_ipv4_services(True)
    plane.add_service(IPv6Address(f"::ffff:{PEER4}"), GROUP)
    client.bench.local(HOST_A, OWN_IPV4)
    for count in range(1, MAX_ENCAPSULATED + 1):
        for protocol in (p.TCP, p.UDP):
            client.bench.route(GROUP, protocol, FIRST + count, BASE + count, Encapsulated(SIDS[:count]))
        client.bench.set_next_hop(BASE + count, NextHop(p.MAC_HERE, client.bench.namespace.port))
    yield client
    plane.set_ipv4_services(False)
    plane.outer_source = lambda _segment: None


def outer(sids: Sequence[IPv6Address], inner: Packet) -> Packet:
    """The packet around this one, as RFC 8986 and Linux make it."""
    kind = 41 if isinstance(inner, IPv6) else 4
    fields = {"tc": inner.tc, "fl": inner.fl, "hlim": inner.hlim} if kind == 41 else {"hlim": 64}
    header = IPv6(src=str(TUNNEL), dst=str(sids[0]), **fields)
    if len(sids) == 1:
        header.nh = kind
        return header / inner
    listed = [str(sid) for sid in reversed(sids[1:])]
    srh = IPv6ExtHdrSegmentRouting(addresses=listed, segleft=len(listed), lastentry=len(listed) - 1, nh=kind)
    return header / srh / inner


def framed(packet: Packet) -> bytes:
    kind = p.ETHERTYPE_IPV4 if isinstance(packet, IP) else p.ETHERTYPE_IPV6
    return p.ethernet(kind, bytes(packet))


def tcp6(port: int, data: bytes = b"GET /", **fields: int) -> Packet:
    return IPv6(src=str(HOST_A), dst=str(HOST_B), **fields) / TCP(sport=LOCAL_PORT, dport=port) / Raw(data)


def tcp4(port: int, data: bytes = b"GET /", flags: str = "A", to: IPv4Address = PEER4) -> Packet:
    segment = TCP(sport=LOCAL_PORT, dport=port, flags=flags)
    return IP(src=str(OWN4), dst=str(to), id=77, flags="DF", tos=0x28) / segment / Raw(data)


def udp4(port: int, data: bytes) -> Packet:
    return IP(src=str(OWN4), dst=str(PEER4), id=78) / UDP(sport=LOCAL_PORT, dport=port) / Raw(data)


@pytest.mark.parametrize("count", range(1, MAX_ENCAPSULATED + 1))
def test_every_byte_with_one_to_fourteen_sids(encap: Host, count: int) -> None:
    port = FIRST + count
    for inner in (
        tcp6(port, tc=0x2E, fl=0xABCDE, hlim=77),
        IPv6(src=str(HOST_A), dst=str(HOST_B)) / UDP(sport=LOCAL_PORT, dport=port) / Raw(b"hello"),
        tcp4(port),
        udp4(port, b"hello"),
    ):
        # The second one takes the fast path.
        for _ in range(2):
            encap.bench.expect(
                "egress", framed(inner), "STEERED", out=framed(outer(SIDS[:count], inner)), on_port=True
            )


def test_after_a_quarter_of_an_hour_as_at_first(encap: Host) -> None:
    """The agent has cleared the path MTUs by then, and nothing besides."""
    packet = framed(tcp6(TWO))
    before = encap.bench.run("egress", packet, on_port=True)
    for _ in range(32):
        encap.bench.tick()
    assert encap.bench.run("egress", packet, on_port=True) == before and before.counted == {"STEERED": 1}


def test_insertion_is_as_before(encap: Host) -> None:
    """The control: other ports of the same service, and IPv4 that is no service's."""
    packet = encap.out(p.TCP, encap.tcp())
    encap.bench.expect("egress", packet, "STEERED", out=steered(packet, SIDS[:2]), on_port=True)
    encap.bench.expect("egress", framed(tcp4(TWO, to=OTHER4)), "NOT_IPV6", on_port=True)
    encap.bench.expect("egress", framed(tcp4(UNKNOWN)), "NO_APPLICATION", on_port=True)
    # Only encapsulation carries IPv4: port 80 has a path for insertion.
    encap.bench.expect("egress", framed(tcp4(80)), "NO_PATH", on_port=True)
    encap.bench.local(HOST_A)
    encap.bench.expect("egress", framed(tcp4(TWO)), "NOT_FROM_HOST", on_port=True)
    encap.bench.plane.set_ipv4_services(False)
    encap.bench.expect("egress", framed(tcp4(TWO)), "NOT_IPV6", on_port=True)


def test_ipv4_goes_to_the_next_hop_of_the_first_segment(encap: Host) -> None:
    """The kernel has looked up that of IPv4, which says nothing of the first segment's: it is asked again."""
    inner = tcp4(TWO)
    out = framed(outer(SIDS[:2], inner))
    for next_hop in (NextHop(ASK, 0), NextHop(bytes.fromhex("02aa00000001"), encap.bench.namespace.port)):
        encap.bench.set_next_hop(BASE + 2, next_hop)
        encap.bench.expect(
            "egress", framed(inner), "STEERED", "NEXT_HOP", out=out, verdict=REDIRECT, on_port=True
        )
    # No route to it on our interfaces, as on the port of a bridge: the kernel would find none.
    encap.bench.set_next_hop(BASE + 2, None)
    encap.bench.expect("egress", framed(inner), "STEERED", out=out, on_port=True)


def test_without_a_source_packets_are_left_alone(encap: Host) -> None:
    encap.bench.plane.outer_source = lambda _segment: None
    encap.bench.plane.renew_source(BASE + 2, Encapsulated(SIDS[:2]))
    for inner in (tcp6(TWO), tcp4(TWO)):
        encap.bench.expect("egress", framed(inner), "NO_PATH", on_port=True)


@pytest.mark.parametrize("count", [1, 2, 14])
def test_just_fits(encap: Host, count: int) -> None:
    port, room = FIRST + count, MTU - overhead(Encapsulated(SIDS[:count]))
    for inner in (tcp6(port, bytes(room - 60)), tcp4(port, bytes(room - 40))):
        out = framed(outer(SIDS[:count], inner))
        assert len(out) == 14 + MTU
        encap.bench.expect("egress", framed(inner), "STEERED", out=out, on_port=True)


@pytest.mark.parametrize("count", [1, 2, 14])
def test_the_sender_of_ipv6_is_told(encap: Host, count: int) -> None:
    port, room = FIRST + count, MTU - overhead(Encapsulated(SIDS[:count]))
    for transport in (TCP(sport=LOCAL_PORT, dport=port), UDP(sport=LOCAL_PORT, dport=port)):
        inner = IPv6(src=str(HOST_A), dst=str(HOST_B)) / transport
        inner = inner / Raw(bytes(max(room, 1280) + 1 - len(inner)))
        quoted = bytes(inner)[:136]
        told = (
            IPv6(src=str(HOST_B), dst=str(HOST_A), hlim=255)
            / ICMPv6PacketTooBig(mtu=max(room, 1280))
            / Raw(quoted)
        )
        encap.bench.expect(
            "egress", framed(inner), "TOO_BIG", out=framed(told), verdict=REDIRECT, on_port=True
        )


@pytest.mark.parametrize("count", [1, 2, 14])
def test_the_sender_of_ipv4_is_told(encap: Host, count: int) -> None:
    port, room = FIRST + count, MTU - overhead(Encapsulated(SIDS[:count]))
    for inner in (tcp4(port, bytes(room - 40 + 1)), udp4(port, bytes(room - 28 + 1))):
        told = (
            IP(src=str(PEER4), dst=str(OWN4), ttl=64, id=0)
            / ICMP(type=3, code=4, nexthopmtu=room)
            / Raw(bytes(inner)[:68])
        )
        encap.bench.expect(
            "egress", framed(inner), "TOO_BIG", out=framed(told), verdict=REDIRECT, on_port=True
        )


@pytest.mark.parametrize("count", [1, 2, 14])
def test_the_mss_leaves_room(encap: Host, count: int) -> None:
    port, less = FIRST + count, overhead(Encapsulated(SIDS[:count]))
    options = [("MSS", 1460), ("SAckOK", b"")]
    for inner, fits in (
        (IPv6(src=str(HOST_A), dst=str(HOST_B)), MTU - 60 - less),
        (IP(src=str(OWN4), dst=str(PEER4), id=1), MTU - 40 - less),
    ):
        syn = inner / TCP(sport=LOCAL_PORT, dport=port, flags="S", options=options)
        clamped = inner / TCP(sport=LOCAL_PORT, dport=port, flags="S", options=[("MSS", fits), options[1]])
        out = framed(outer(SIDS[:count], clamped))
        encap.bench.expect("egress", framed(syn), "MSS_CLAMPED", "STEERED", out=out, on_port=True)
        there, here = (inner.dst, inner.src)
        answer = inner.copy()
        answer.src, answer.dst = there, here
        came = answer / TCP(sport=port, dport=LOCAL_PORT, flags="SA", options=options)
        taken = answer / TCP(sport=port, dport=LOCAL_PORT, flags="SA", options=[("MSS", fits), options[1]])
        reason = "NO_ROUTING_HEADER" if isinstance(inner, IPv6) else "NOT_IPV6"
        encap.bench.expect("ingress", framed(came), "MSS_CLAMPED", reason, out=framed(taken), on_port=True)


@pytest.mark.parametrize("count", [1, 2, 14])
@pytest.mark.parametrize("kind", [1, 2, 3])
def test_errors_of_routers_about_ipv6(encap: Host, count: int, kind: int) -> None:
    inner = tcp6(FIRST + count, bytes(600))
    less = overhead(Encapsulated(SIDS[:count]))

    def error(quoted: Packet, mtu: int) -> Packet:
        said = {1: ICMPv6DestUnreach(), 2: ICMPv6PacketTooBig(mtu=mtu), 3: ICMPv6TimeExceeded()}[kind]
        return IPv6(src=str(ROUTER), dst=str(TUNNEL)) / said / Raw(bytes(quoted))

    encap.bench.expect(
        "ingress",
        framed(error(outer(SIDS[:count], inner), 1400)),
        "ERROR_RESTORED",
        "NO_ROUTING_HEADER",
        out=framed(error(inner, max(1280, 1400 - less))),
    )


@pytest.mark.parametrize("count", [1, 2, 14])
@pytest.mark.parametrize("kind", [1, 2, 3])
def test_errors_of_routers_about_ipv4(encap: Host, count: int, kind: int) -> None:
    inner = tcp4(FIRST + count, bytes(600))
    less = overhead(Encapsulated(SIDS[:count]))
    said = {1: ICMPv6DestUnreach(), 2: ICMPv6PacketTooBig(mtu=1400), 3: ICMPv6TimeExceeded()}[kind]
    error = IPv6(src=str(ROUTER), dst=str(TUNNEL)) / said / Raw(bytes(outer(SIDS[:count], inner)))
    told = {1: (3, 1, 0), 2: (3, 4, 1400 - less), 3: (11, 0, 0)}[kind]
    outcome = encap.bench.run("ingress", framed(error), complete=False)
    assert outcome.counted == {"ERROR_RESTORED": 1, "NO_ROUTING_HEADER": 1}
    frame = Ether(outcome.packet)
    assert (frame[IP].src, frame[IP].dst, frame[IP].ttl) == (str(PEER4), str(OWN4), 64)
    assert (frame[ICMP].type, frame[ICMP].code) == told[:2]
    assert bytes(frame[ICMP])[6:8] == told[2].to_bytes(2, "big")
    assert bytes(frame[IPerror]) == bytes(inner)[:28]
    for layer in (IP, ICMP):
        sent = frame[layer].chksum
        del frame[layer].chksum
        assert Ether(bytes(frame))[layer].chksum == sent


@pytest.mark.parametrize(("mtu", "told"), [(1280, 1216), (65599, 65535), (65600, 65535), (2**32 - 1, 65535)])
def test_an_mtu_that_ipv4_has_no_room_for(encap: Host, mtu: int, told: int) -> None:
    """The field has 32 bits in ICMPv6, and 16 in ICMP: what does not fit must not become a small one."""
    inner = tcp4(TWO, bytes(600))
    less = overhead(Encapsulated(SIDS[:2]))
    assert less == 64
    quoted = Raw(bytes(outer(SIDS[:2], inner)))
    error = IPv6(src=str(ROUTER), dst=str(TUNNEL)) / ICMPv6PacketTooBig(mtu=mtu) / quoted
    outcome = encap.bench.run("ingress", framed(error), complete=False)
    assert Ether(outcome.packet)[ICMP].nexthopmtu == told


def test_errors_about_others(encap: Host) -> None:
    """No service's, not from here, or of a port without an application."""
    for inner in (
        tcp4(TWO, bytes(600), to=OTHER4),
        tcp4(UNKNOWN, bytes(600)),
        IP(src=str(OTHER4), dst=str(PEER4)) / TCP(sport=1, dport=TWO) / Raw(bytes(600)),
        IPv6(src=str(HOST_A), dst=str(ROUTER)) / TCP(sport=1, dport=TWO) / Raw(bytes(600)),
    ):
        quoted = Raw(bytes(outer(SIDS[:2], inner)))
        error = IPv6(src=str(ROUTER), dst=str(TUNNEL)) / ICMPv6PacketTooBig(mtu=1400) / quoted
        encap.bench.expect("ingress", framed(error), "NO_ROUTING_HEADER")


def test_fragments_of_ipv4_follow_the_first_one(encap: Host) -> None:
    whole = udp4(TWO, bytes(range(200)))
    body = bytes(whole)[20:]
    first = IP(src=str(OWN4), dst=str(PEER4), id=9, proto=17, flags="MF") / Raw(body[:80])
    second = IP(src=str(OWN4), dst=str(PEER4), id=9, proto=17, frag=10) / Raw(body[80:])
    encap.bench.expect("egress", framed(second), "LOST_FRAGMENT", on_port=True)
    for fragment in (first, second):
        out = framed(outer(SIDS[:2], fragment))
        encap.bench.expect("egress", framed(fragment), "STEERED", out=out, on_port=True)


def test_several_paths_share_the_flows_of_ipv4(encap: Host) -> None:
    slots = [BASE + 2, BASE + 3]
    longest = overhead(Encapsulated(SIDS[:3]))
    encap.bench.plane.set_selection(5, Contents(slots * 64, slots, active=2, longest=longest))
    encap.bench.plane.select_route(GROUP, 7900, (p.TCP, p.UDP), 5)
    lengths = set()
    for port in range(1000, 1040):
        inner = IP(src=str(OWN4), dst=str(PEER4)) / UDP(sport=port, dport=7900) / Raw(b"x")
        once, again = (encap.bench.run("egress", framed(inner), on_port=True).packet for _ in range(2))
        assert once == again
        lengths.add(len(once) - len(framed(inner)))
    assert lengths == {overhead(Encapsulated(SIDS[:2])), longest}
