"""What becomes of packets that leave: client by destination and port, server by learned flow."""

from ipaddress import IPv4Address
from typing import Any

import pytest

from hawkwing.dataplane.encoding import route_key
from hawkwing.dataplane.layout import structures
from tests.dataplane import packets as p
from tests.dataplane.packets import steered
from tests.dataplane.scene import (
    COUNTED,
    GROUP,
    HOST_B,
    HOST_C,
    LOCAL_PORT,
    PATHLESS,
    SIDS,
    STEERED,
    UNKNOWN,
    Host,
)


def test_every_byte_of_a_steered_packet(client: Host) -> None:
    datagram = client.udp()
    sent = client.out(p.UDP, datagram, label=0xABCDE, traffic_class=0x2E, hop_limit=77)
    expected = (
        sent[:14]
        + bytes.fromhex("62eabcde")
        + (len(datagram) + 56).to_bytes(2, "big")
        + bytes([43, 77])
        + client.here.packed
        + SIDS[0].packed
        + bytes([17, 6, 4, 2, 2, 0, 0, 0])
        + client.there.packed
        + SIDS[1].packed
        + SIDS[0].packed
        + datagram
    )
    client.bench.expect("egress", sent, "STEERED", out=expected)


@pytest.mark.parametrize("count", range(1, 16))
@pytest.mark.parametrize("protocol", [p.TCP, p.UDP])
def test_one_to_fifteen_sids(host: Host, protocol: int, count: int) -> None:
    body = host.udp(COUNTED + count) if protocol == p.UDP else host.tcp(COUNTED + count, b"GET /")
    packet = host.out(protocol, body)
    before = host.bench.plane.path_count(host.slot(count))
    host.bench.expect("egress", packet, "STEERED", out=steered(packet, SIDS[:count]))
    after = host.bench.plane.path_count(host.slot(count))
    assert (after.packets - before.packets, after.bytes - before.bytes) == (1, len(packet))


@pytest.mark.parametrize("protocol", [p.TCP, p.UDP])
def test_what_the_host_forwards_is_left_alone(client: Host, protocol: int) -> None:
    """A guest behind the host uses the same service; its replies would come to it, not to us, with an SRH."""
    body = client.udp() if protocol == p.UDP else client.tcp()
    own, guests = client.out(protocol, body), p.ipv6(HOST_C, client.there, protocol, body)
    for _ in range(2):
        client.bench.expect("egress", guests, "NOT_FROM_HOST")
        client.bench.expect("egress", own, "STEERED", out=steered(own, SIDS[:2]))
    client.bench.local(HOST_C)
    client.bench.expect("egress", guests, "STEERED", out=steered(guests, SIDS[:2]))
    client.bench.expect("egress", own, "NOT_FROM_HOST")


def test_empty_datagram(host: Host) -> None:
    packet = host.out(p.UDP, host.udp(data=b""))
    host.bench.expect("egress", packet, "STEERED", out=steered(packet, SIDS[:2]))


def test_payload_length_zero_stays(host: Host) -> None:
    packet = host.out(p.UDP, host.udp(data=bytes(900)), length=0)
    out = bytearray(steered(packet, SIDS[:2]))
    out[18:20] = bytes(2)
    host.bench.expect("egress", packet, "STEERED", out=bytes(out))


def test_not_ipv6(host: Host) -> None:
    host.bench.expect("egress", p.ethernet(0x0806, bytes(46)), "NOT_IPV6")
    host.bench.expect(
        "egress", p.ipv4(IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2"), 17, bytes(20)), "NOT_IPV6"
    )


def test_another_destination(host: Host) -> None:
    packet = p.ipv6(host.here, HOST_C, p.UDP, p.udp(host.here, HOST_C, LOCAL_PORT, STEERED))
    host.bench.expect("egress", packet, "NO_SERVICE" if host.bench.role == "client" else "NO_FLOW")


def test_unknown_port(host: Host) -> None:
    host.bench.expect("egress", host.out(p.UDP, host.udp(UNKNOWN)), host.unknown)
    host.bench.expect("egress", host.out(p.TCP, host.tcp(UNKNOWN)), host.unknown)


def test_protocols_without_ports(host: Host) -> None:
    body = p.icmp6(host.here, host.there, 128, 0, 1, b"ping")
    host.bench.expect("egress", host.out(p.ICMPV6, body), host.unknown)
    host.bench.expect("egress", host.out(p.SCTP, p.sctp(LOCAL_PORT, STEERED)), host.unknown)
    host.bench.expect("egress", host.out(p.ESP, bytes(40)), host.unknown)
    host.bench.expect("egress", host.out(p.NO_NEXT, b""), host.unknown)


def test_no_path_at_present(host: Host) -> None:
    host.bench.expect("egress", host.out(p.UDP, host.udp(PATHLESS)), "NO_PATH")


def test_the_servers_flow_is_the_whole_five_tuple(server: Host) -> None:
    ends = (server.there, server.here, p.UDP)
    server.bench.learn(*ends, 1000, 2000, SIDS[:3])

    def packet(sport: int, dport: int, protocol: int = p.UDP) -> bytes:
        build = p.udp if protocol == p.UDP else p.tcp
        return server.out(protocol, build(server.here, server.there, sport, dport))

    known = packet(2000, 1000)
    server.bench.expect("egress", known, "STEERED", out=steered(known, SIDS[:3]))
    for other in (packet(2001, 1000), packet(2000, 1001), packet(1000, 2000), packet(2000, 1000, p.TCP)):
        server.bench.expect("egress", other, "NO_FLOW")
    elsewhere = p.ipv6(HOST_C, server.there, p.UDP, p.udp(HOST_C, server.there, 2000, 1000))
    server.bench.expect("egress", elsewhere, "NO_FLOW")


def test_routing_headers_are_left_alone(host: Host) -> None:
    inner = host.udp()
    for body in (p.srh(p.UDP, [SIDS[0], host.there], inner), p.srh(p.UDP, [host.there], inner, kind=0)):
        host.bench.expect("egress", host.out(p.ROUTING, body), "HAS_ROUTING_HEADER")
        behind = host.out(p.HOP_BY_HOP, p.options(p.ROUTING, body))
        host.bench.expect("egress", behind, "HAS_ROUTING_HEADER")
        behind = host.out(p.DESTINATION, p.options(p.ROUTING, body))
        host.bench.expect("egress", behind, "HAS_ROUTING_HEADER")


@pytest.mark.parametrize("size", [8, 16, 64])
def test_hop_by_hop_options_stay_first(host: Host, size: int) -> None:
    packet = host.out(p.HOP_BY_HOP, p.options(p.UDP, host.udp(), size=size))
    host.bench.expect("egress", packet, "STEERED", out=steered(packet, SIDS[:2], ahead=size))


def test_long_hop_by_hop_options(host: Host) -> None:
    packet = host.out(p.HOP_BY_HOP, p.options(p.UDP, host.udp(), size=72))
    host.bench.expect("egress", packet, "EXTENSION_CHAIN")


@pytest.mark.parametrize("size", [8, 16, 64])
def test_the_length_of_a_jumbogram(host: Host, size: int) -> None:
    """RFC 2675: in the IPv6 header it is 0."""

    def of(length: int | None) -> bytes:
        return host.out(p.HOP_BY_HOP, p.options(p.TCP, host.tcp(), size=size, jumbo=length), length=0)

    packet, out = of(70000), steered(of(70000 + 56), SIDS[:2], ahead=size)
    host.bench.expect("egress", packet, "STEERED", out=out[:18] + bytes(2) + out[20:])
    host.bench.expect("egress", of(None), "EXTENSION_CHAIN")


def test_a_jumbo_option_without_need_stays(host: Host) -> None:
    packet = host.out(p.HOP_BY_HOP, p.options(p.TCP, host.tcp(), jumbo=70000))
    host.bench.expect("egress", packet, "STEERED", out=steered(packet, SIDS[:2], ahead=8))


def test_hop_by_hop_options_in_second_place(host: Host) -> None:
    packet = host.out(p.DESTINATION, p.options(p.HOP_BY_HOP, p.options(p.UDP, host.udp())))
    host.bench.expect("egress", packet, "EXTENSION_CHAIN")


@pytest.mark.parametrize("size", [8, 24, 1024])
def test_destination_options_go_behind_the_srh(host: Host, size: int) -> None:
    packet = host.out(p.DESTINATION, p.options(p.UDP, host.udp(), size=size))
    host.bench.expect("egress", packet, "STEERED", out=steered(packet, SIDS[:2]))


@pytest.mark.parametrize("icv", [4, 12, 20])
def test_authentication_header(host: Host, icv: int) -> None:
    packet = host.out(p.AUTH, p.auth(p.TCP, host.tcp(), icv=icv))
    host.bench.expect("egress", packet, "STEERED", out=steered(packet, SIDS[:2]))


def test_all_extension_headers_together(host: Host) -> None:
    body = p.fragment(p.AUTH, p.auth(p.DESTINATION, p.options(p.UDP, host.udp())))
    body = p.options(p.DESTINATION, p.options(p.FRAGMENT, body))
    packet = host.out(p.HOP_BY_HOP, body)
    host.bench.expect("egress", packet, "STEERED", out=steered(packet, SIDS[:2], ahead=8))


@pytest.mark.parametrize("count", [1, 5, 6, 7, 12])
def test_number_of_extension_headers(host: Host, count: int) -> None:
    body, kind = host.udp(), p.UDP
    for _ in range(count):
        body, kind = p.options(kind, body), p.DESTINATION
    packet = host.out(kind, body)
    if count > 6:
        host.bench.expect("egress", packet, "EXTENSION_CHAIN")
    else:
        host.bench.expect("egress", packet, "STEERED", out=steered(packet, SIDS[:2]))


@pytest.mark.parametrize("kind", [p.UDP, p.TCP, p.SCTP])
def test_packet_ends_inside_the_transport_header(host: Host, kind: int) -> None:
    for size in range(4):
        host.bench.expect("egress", host.out(kind, host.udp()[:size]), "TRUNCATED")


@pytest.mark.parametrize("kind", [p.HOP_BY_HOP, p.DESTINATION, p.FRAGMENT, p.AUTH])
def test_packet_ends_inside_an_extension_header(host: Host, kind: int) -> None:
    whole = bytes([p.UDP, 0]) + bytes(6)
    for size in range(8):
        host.bench.expect("egress", host.out(kind, whole[:size]), "TRUNCATED")
    host.bench.expect("egress", host.out(kind, whole), "TRUNCATED")


def test_extension_header_points_behind_the_packet(host: Host) -> None:
    packet = host.out(p.DESTINATION, p.options(p.UDP, host.udp(), size=16, extent=200))
    host.bench.expect("egress", packet, "TRUNCATED")


def test_fragments_follow_their_first(host: Host) -> None:
    datagram = host.udp(data=bytes(range(256)) * 8)
    first = host.out(p.FRAGMENT, p.fragment(p.UDP, datagram[:1000], more=True, identification=9))
    later = host.out(p.FRAGMENT, p.fragment(p.UDP, datagram[1000:], offset=1000, identification=9))
    host.bench.expect("egress", later, "LOST_FRAGMENT")
    host.bench.expect("egress", first, "STEERED", out=steered(first, SIDS[:2]))
    host.bench.expect("egress", later, "STEERED", out=steered(later, SIDS[:2]))
    other = host.out(p.FRAGMENT, p.fragment(p.UDP, datagram[1000:], offset=1000, identification=10))
    host.bench.expect("egress", other, "LOST_FRAGMENT")


def test_fragments_behind_hop_by_hop_options(host: Host) -> None:
    datagram = host.udp(data=bytes(1000))
    parts = [
        p.fragment(p.UDP, datagram[:800], more=True, identification=11),
        p.fragment(p.UDP, datagram[800:], offset=800, identification=11),
    ]
    for part in parts:
        packet = host.out(p.HOP_BY_HOP, p.options(p.FRAGMENT, part))
        host.bench.expect("egress", packet, "STEERED", out=steered(packet, SIDS[:2], ahead=8))


def test_fragments_of_a_datagram_that_is_not_ours(host: Host) -> None:
    datagram = host.udp(UNKNOWN, bytes(1000))
    first = host.out(p.FRAGMENT, p.fragment(p.UDP, datagram[:800], more=True, identification=12))
    later = host.out(p.FRAGMENT, p.fragment(p.UDP, datagram[800:], offset=800, identification=12))
    host.bench.expect("egress", first, host.unknown)
    host.bench.expect("egress", later, "LOST_FRAGMENT")


def test_first_fragment_without_ports(host: Host) -> None:
    first = host.out(p.FRAGMENT, p.fragment(p.UDP, b"\x9c\x40", more=True))
    host.bench.expect("egress", first, "TRUNCATED")


def test_later_fragment_may_be_short(host: Host) -> None:
    datagram = host.udp(data=bytes(80))
    first = host.out(p.FRAGMENT, p.fragment(p.UDP, datagram[:80], more=True, identification=13))
    last = host.out(p.FRAGMENT, p.fragment(p.UDP, b"x", offset=80, identification=13))
    host.bench.expect("egress", first, "STEERED", out=steered(first, SIDS[:2]))
    host.bench.expect("egress", last, "STEERED", out=steered(last, SIDS[:2]))


def test_room_refused_by_the_kernel(host: Host) -> None:
    """A test run's GSO packet has no GSO type: the kernel refuses to change its length."""
    packet = host.out(p.UDP, host.udp(data=bytes(1000)))
    host.bench.expect("egress", packet, "NO_ROOM", verdict=2, gso_size=500)


def test_a_remembered_route_is_forgotten_with_each_change(client: Host) -> None:
    """The first packet to a destination and port is looked up; what was found holds until it changes."""
    bench, packet = client.bench, client.out(p.UDP, client.udp())
    two, three = steered(packet, SIDS[:2]), steered(packet, SIDS[:3])
    bench.plane.forget()
    assert recalled(client) == 0
    for _ in range(2):
        bench.expect("egress", packet, "STEERED", out=two)
        assert recalled(client) == 1
    # Behind the agent's back: the memory is asked, not the table.
    bench.plane.maps["routes"].delete(route_key(GROUP, STEERED, p.UDP))
    bench.expect("egress", packet, "STEERED", out=two)
    bench.plane.forget()
    bench.expect("egress", packet, "NO_APPLICATION")
    bench.plane.set_route(GROUP, STEERED, [p.UDP], client.slot(2))
    bench.expect("egress", packet, "STEERED", out=two)
    bench.plane.set_route(GROUP, STEERED, [p.UDP], client.slot(3))
    bench.expect("egress", packet, "STEERED", out=three)
    bench.plane.remove_route(GROUP, STEERED, [p.UDP])
    bench.expect("egress", packet, "NO_APPLICATION")
    bench.plane.set_route(GROUP, STEERED, [p.UDP], client.slot(3))
    bench.expect("egress", packet, "STEERED", out=three)
    bench.plane.add_service(HOST_B, GROUP + 1)
    bench.expect("egress", packet, "NO_APPLICATION")
    bench.plane.remove_service(HOST_B)
    bench.expect("egress", packet, "NO_SERVICE")


def recalled(client: Host) -> int:
    """How many routes the client remembers, since it was last made to forget."""
    maps, kinds = client.bench.plane.maps, structures()
    now: Any = kinds["settings"].from_buffer_copy(maps["settings"].get(bytes(4)) or b"")
    routes = client.bench.remembered("cached_routes", "cached_route")
    return sum(route.generation == now.generation for route in routes)


def test_an_agents_change_counts_at_once(client: Host) -> None:
    packet = client.out(p.UDP, client.udp())
    client.bench.plane.set_policy(1, SIDS[3:6])
    client.bench.expect("egress", packet, "STEERED", out=steered(packet, SIDS[3:6]))
    client.bench.plane.set_policy(1, [])
    client.bench.expect("egress", packet, "NO_PATH")
    client.bench.plane.remove_service(HOST_B)
    client.bench.expect("egress", packet, "NO_SERVICE")
