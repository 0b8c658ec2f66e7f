"""What becomes of packets that arrive: an SRH that ends here is removed, nothing else is touched."""

from ipaddress import IPv4Address, IPv6Address

import pytest

from hawkwing.dataplane.layout import limits
from tests.dataplane import packets as p
from tests.dataplane.scene import DNS, HOST_C, LOCAL_PORT, ROUTER, SIDS, Host

DOMAIN = ("fcbb:bb00::/32", "fcbb:cc00::/32")


def learned(host: Host, reason: str = "LEARNED") -> tuple[str, ...]:
    """What a server counts besides."""
    return (reason,) if host.bench.role == "server" else ()


def datagram(host: Host, sport: int = 50000, data: bytes = b"hello") -> bytes:
    """What the peer sends."""
    return p.udp(host.there, host.here, sport, 8888, data)


def test_every_byte_of_a_stripped_packet(host: Host) -> None:
    inner = datagram(host)
    front = bytes.fromhex("62eabcde")
    addresses = host.there.packed + host.here.packed
    header = bytes([17, 6, 4, 0, 2, 0, 0x12, 0x34]) + host.here.packed + SIDS[1].packed + SIDS[0].packed
    length = (56 + len(inner)).to_bytes(2, "big")
    packet = p.ethernet(0x86DD, front + length + bytes([43, 61]) + addresses + header + inner)
    out = p.ethernet(0x86DD, front + len(inner).to_bytes(2, "big") + bytes([17, 61]) + addresses + inner)
    host.bench.expect("ingress", packet, "STRIPPED", *learned(host), out=out)


@pytest.mark.parametrize("count", range(1, 16))
@pytest.mark.parametrize("protocol", [p.TCP, p.UDP])
def test_one_to_fifteen_sids(host: Host, protocol: int, count: int) -> None:
    body = datagram(host) if protocol == p.UDP else p.tcp(host.there, host.here, 50000, 8888, b"data")
    packet = host.arrived(p.ROUTING, p.srh(protocol, [*SIDS[:count], host.here], body, left=0))
    host.bench.expect("ingress", packet, "STRIPPED", *learned(host), out=host.arrived(protocol, body))


ANYTHING = {
    "ESP": (p.ESP, bytes(range(32))),
    "SCTP": (p.SCTP, p.sctp(0, 0)),
    "no next header": (p.NO_NEXT, b""),
    "no next header, with data": (p.NO_NEXT, b"data"),
    "a later fragment": (p.FRAGMENT, p.fragment(p.UDP, bytes(64), offset=1232)),
    "destination options": (p.DESTINATION, p.options(p.NO_NEXT, b"")),
    "an unknown protocol": (253, b"experiment"),
}


@pytest.mark.parametrize(("kind", "body"), ANYTHING.values(), ids=ANYTHING.keys())
def test_any_next_header_survives(host: Host, kind: int, body: bytes) -> None:
    packet = host.arrived(p.ROUTING, p.srh(kind, [*SIDS[:2], host.here], body, left=0))
    besides = () if kind == p.FRAGMENT else learned(host, "NOTHING_TO_LEARN")
    host.bench.expect("ingress", packet, "STRIPPED", *besides, out=host.arrived(kind, body))


@pytest.mark.parametrize("kind", [4, 41, 143], ids=["IPv4", "IPv6", "Ethernet"])
def test_a_whole_packet_inside_is_the_kernels(host: Host, kind: int) -> None:
    """H.Encaps of a router or host (RFC 8986): without the SRH the kernel would not take it apart."""
    inner = p.ipv6(HOST_C, DNS, p.UDP, bytes(8))[14:]
    packet = host.arrived(p.ROUTING, p.srh(kind, [*SIDS[:2], host.here], inner, left=0))
    host.bench.expect("ingress", packet, "ENCAPSULATED")


def test_an_interface_that_requires_an_hmac(host: Host) -> None:
    """seg6_require_hmac is the host's policy: the kernel verifies, and drops."""
    bench = host.bench
    packet = host.arrived(p.ROUTING, p.srh(p.UDP, [*SIDS[:2], host.here], datagram(host), left=0))
    bench.expect("ingress", packet, "STRIPPED", *learned(host), out=host.arrived(p.UDP, datagram(host)))
    try:
        bench.plane.set_hmac_links([77, bench.namespace.port])
        bench.expect("ingress", packet, "HMAC_REQUIRED", on_port=True)
        bench.plane.set_hmac_links([77])
        assert "STRIPPED" in bench.run("ingress", packet, on_port=True).counted
    finally:
        bench.plane.set_hmac_links([])


def test_icmpv6_survives(host: Host) -> None:
    body = p.icmp6(host.there, host.here, 128, 0, 0x00010001, b"ping")
    packet = host.arrived(p.ROUTING, p.srh(p.ICMPV6, [*SIDS[:2], host.here], body, left=0))
    besides = learned(host, "NOTHING_TO_LEARN")
    host.bench.expect("ingress", packet, "STRIPPED", *besides, out=host.arrived(p.ICMPV6, body))


def test_first_fragment(host: Host) -> None:
    body = p.fragment(p.UDP, datagram(host, data=bytes(400))[:200], more=True)
    packet = host.arrived(p.ROUTING, p.srh(p.FRAGMENT, [*SIDS[:2], host.here], body, left=0))
    host.bench.expect("ingress", packet, "STRIPPED", *learned(host), out=host.arrived(p.FRAGMENT, body))


@pytest.mark.parametrize("size", [8, 16, 64])
def test_behind_hop_by_hop_options(host: Host, size: int) -> None:
    inner = datagram(host)
    routing = p.srh(p.UDP, [*SIDS[:2], host.here], inner, left=0)
    packet = host.arrived(p.HOP_BY_HOP, p.options(p.ROUTING, routing, size=size))
    out = host.arrived(p.HOP_BY_HOP, p.options(p.UDP, inner, size=size))
    host.bench.expect("ingress", packet, "STRIPPED", *learned(host), out=out)


def test_the_length_of_a_jumbogram(host: Host) -> None:
    """RFC 2675: in the IPv6 header it is 0."""
    inner = datagram(host)
    routing = p.srh(p.UDP, [*SIDS[:2], host.here], inner, left=0)

    def of(length: int | None) -> bytes:
        return host.arrived(p.HOP_BY_HOP, p.options(p.ROUTING, routing, jumbo=length), length=0)

    host.bench.expect("ingress", of(None), "EXTENSION_CHAIN")
    host.bench.expect("ingress", of(63), "SRH_MALFORMED")
    out = host.arrived(p.HOP_BY_HOP, p.options(p.UDP, inner, jumbo=70000 - 56), length=0)
    host.bench.expect("ingress", of(70000), "STRIPPED", *learned(host), out=out)


def test_behind_long_hop_by_hop_options(host: Host) -> None:
    routing = p.srh(p.UDP, [*SIDS[:2], host.here], datagram(host), left=0)
    packet = host.arrived(p.HOP_BY_HOP, p.options(p.ROUTING, routing, size=72))
    host.bench.expect("ingress", packet, "EXTENSION_CHAIN")


def test_behind_destination_options(host: Host) -> None:
    """RFC 8200, section 4.1, allows them before a routing header; ours never have them there."""
    routing = p.srh(p.UDP, [*SIDS[:2], host.here], datagram(host), left=0)
    for size in (8, 64, 72):
        packet = host.arrived(p.DESTINATION, p.options(p.ROUTING, routing, size=size))
        host.bench.expect("ingress", packet, "EXTENSION_CHAIN")


@pytest.mark.parametrize(
    "tlvs", [b"\1\6" + bytes(6), b"\4\2\0\0" + bytes(4), bytes(8), b"\5\x26" + bytes(38)]
)
def test_tlvs(host: Host, tlvs: bytes) -> None:
    inner = datagram(host)
    packet = host.arrived(p.ROUTING, p.srh(p.UDP, [*SIDS[:2], host.here], inner, left=0, tlvs=tlvs, flags=8))
    host.bench.expect("ingress", packet, "STRIPPED", *learned(host), out=host.arrived(p.UDP, inner))
    if host.bench.role == "server":
        found = host.bench.way_back(host.there, host.here, p.UDP, 50000, 8888)
        assert found == [SIDS[1], SIDS[0]]


@pytest.mark.parametrize("owned", range(7))
def test_any_of_the_hosts_addresses(host: Host, owned: int) -> None:
    """Some addresses are compared at once, others looked up; none is the unspecified one."""
    others = [IPv6Address(f"fd00::{number:x}") for number in range(owned)]
    host.bench.local(*others)

    def packet(target: IPv6Address) -> tuple[bytes, bytes]:
        inner = p.udp(host.there, target, 50000, 8888)
        header = p.srh(p.UDP, [*SIDS[:2], target], inner, left=0)
        return p.ipv6(host.there, target, p.ROUTING, header), p.ipv6(host.there, target, p.UDP, inner)

    for target in others:
        arriving, out = packet(target)
        host.bench.expect("ingress", arriving, "STRIPPED", *learned(host), out=out)
        host.bench.expect("ingress", arriving, "STRIPPED", out=out)
    for target in (host.here, IPv6Address("::")):
        host.bench.expect("ingress", packet(target)[0], "NOT_LOCAL")
    host.bench.local()
    for target in others:
        host.bench.expect("ingress", packet(target)[0], "NOT_LOCAL")


def test_no_sids(host: Host) -> None:
    inner = datagram(host)
    packet = host.arrived(p.ROUTING, p.srh(p.UDP, [host.here], inner, left=0))
    besides = learned(host, "NOTHING_TO_LEARN")
    host.bench.expect("ingress", packet, "STRIPPED", *besides, out=host.arrived(p.UDP, inner))


def test_payload_length_zero_stays(host: Host) -> None:
    inner = datagram(host)
    packet = host.arrived(p.ROUTING, p.srh(p.UDP, [*SIDS[:2], host.here], inner, left=0), length=0)
    out = host.arrived(p.UDP, inner, length=0)
    host.bench.expect("ingress", packet, "STRIPPED", *learned(host), out=out)


def test_nothing_but_an_srh(host: Host) -> None:
    packet = host.arrived(p.ROUTING, p.srh(p.NO_NEXT, [*SIDS[:2], host.here], b"", left=0))
    besides = learned(host, "NOTHING_TO_LEARN")
    host.bench.expect("ingress", packet, "STRIPPED", *besides, out=host.arrived(p.NO_NEXT, b""))


@pytest.mark.parametrize("kind", [0, 1, 2, 3, 5, 253])
def test_other_routing_types(host: Host, kind: int) -> None:
    body = p.srh(p.UDP, [*SIDS[:2], host.here], datagram(host), left=0, kind=kind)
    host.bench.expect("ingress", host.arrived(p.ROUTING, body), "ROUTING_TYPE")


@pytest.mark.parametrize("left", [1, 2, 3, 255])
def test_segments_left(host: Host, left: int) -> None:
    body = p.srh(p.UDP, [*SIDS[:2], host.here], datagram(host), left=left)
    host.bench.expect("ingress", host.arrived(p.ROUTING, body), "SEGMENTS_LEFT")


MALFORMED = {
    "no room for one segment": {"extent": 0},
    "half a segment": {"extent": 1},
    "list longer than the header": {"extent": 4},
    "last entry too high": {"last": 3},
    "last entry far too high": {"last": 255},
    "longer than the packet": {"extent": 20},
    "much longer than the packet": {"extent": 255},
}


@pytest.mark.parametrize("fields", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_lengths(host: Host, fields: dict[str, int]) -> None:
    body = p.srh(p.UDP, [*SIDS[:2], host.here], datagram(host), left=0, **fields)  # type: ignore[arg-type]
    host.bench.expect("ingress", host.arrived(p.ROUTING, body), "SRH_MALFORMED")


@pytest.mark.parametrize("length", [1, 8, 55])
def test_payload_length_ends_inside_the_srh(host: Host, length: int) -> None:
    body = p.srh(p.UDP, [*SIDS[:2], host.here], datagram(host), left=0)
    host.bench.expect("ingress", host.arrived(p.ROUTING, body, length=length), "SRH_MALFORMED")


def test_first_segment_is_not_the_destination(host: Host) -> None:
    body = p.srh(p.UDP, [*SIDS[:2], HOST_C], datagram(host), left=0)
    host.bench.expect("ingress", host.arrived(p.ROUTING, body), "SRH_MALFORMED")


def test_cut_off_everywhere(host: Host) -> None:
    body = p.srh(p.UDP, [*SIDS[:2], host.here], datagram(host), left=0)
    for size in range(56):
        packet = host.arrived(p.ROUTING, body[:size])
        host.bench.expect("ingress", packet, "TRUNCATED" if size < 8 else "SRH_MALFORMED")


def test_cut_off_behind_hop_by_hop_options(host: Host) -> None:
    body = p.options(p.ROUTING, p.srh(p.UDP, [*SIDS[:2], host.here], datagram(host), left=0))
    for size in range(16):
        host.bench.expect("ingress", host.arrived(p.HOP_BY_HOP, body[:size]), "TRUNCATED")


def test_not_an_address_of_this_host(host: Host) -> None:
    body = p.srh(p.UDP, [*SIDS[:2], HOST_C], p.udp(host.there, HOST_C, 50000, 8888), left=0)
    host.bench.expect("ingress", p.ipv6(host.there, HOST_C, p.ROUTING, body), "NOT_LOCAL")


def test_an_address_that_was_taken_away(host: Host) -> None:
    body = p.srh(p.UDP, [*SIDS[:2], host.here], datagram(host), left=0)
    host.bench.local(HOST_C)
    host.bench.expect("ingress", host.arrived(p.ROUTING, body), "NOT_LOCAL")


def test_without_a_routing_header(host: Host) -> None:
    host.bench.expect("ingress", host.arrived(p.UDP, datagram(host)), "NO_ROUTING_HEADER")
    body = p.tcp(host.there, host.here, 50000, 8888)
    host.bench.expect("ingress", host.arrived(p.TCP, body), "NO_ROUTING_HEADER")
    host.bench.expect("ingress", host.arrived(p.NO_NEXT, b""), "NO_ROUTING_HEADER")
    behind = host.arrived(p.HOP_BY_HOP, p.options(p.UDP, datagram(host)))
    host.bench.expect("ingress", behind, "NO_ROUTING_HEADER")
    tunnel = p.srh(p.UDP, [*SIDS[:2], host.here], datagram(host), left=0)
    inner = host.arrived(p.ROUTING, tunnel)[14:]
    host.bench.expect("ingress", host.arrived(41, inner), "NO_ROUTING_HEADER")


def test_frames_for_another_host(host: Host) -> None:
    """A switch floods or mirrors them: nothing is changed or learned, also of a known flow."""
    away = bytes.fromhex("02cc00000003")
    inner = datagram(host)
    steered = host.arrived(p.ROUTING, p.srh(p.UDP, [*SIDS[:2], host.here], inner, left=0))
    plain = host.arrived(p.UDP, inner)
    for besides in (learned(host), ()):
        for packet in (steered, plain):
            host.bench.expect("ingress", away + packet[6:], "OTHER_HOST")
        # The control: a server learns from the first one, and has not forgotten it the second time.
        host.bench.expect("ingress", steered, "STRIPPED", *besides, out=plain)


def test_frames_for_an_interface_upon_ours(host: Host) -> None:
    """A macvlan, for one, has a link-layer address of its own."""
    away = bytes.fromhex("02cc00000003")
    inner = datagram(host)
    steered = host.arrived(p.ROUTING, p.srh(p.UDP, [*SIDS[:2], host.here], inner, left=0))
    host.bench.plane.set_shared(True)
    try:
        out = away + host.arrived(p.UDP, inner)[6:]
        host.bench.expect("ingress", away + steered[6:], "STRIPPED", *learned(host), out=out)
    finally:
        host.bench.plane.set_shared(False)


def test_not_ipv6(host: Host) -> None:
    host.bench.expect("ingress", p.ethernet(0x0806, bytes(46)), "NOT_IPV6")
    host.bench.expect(
        "ingress", p.ipv4(IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2"), 6, bytes(20)), "NOT_IPV6"
    )


def test_everyone_inside_the_domain(host: Host) -> None:
    host.bench.reset(DOMAIN)
    host.bench.local(host.here)
    inner = datagram(host)
    packet = host.arrived(p.ROUTING, p.srh(p.UDP, [*SIDS[:2], host.here], inner, left=0))
    host.bench.expect("ingress", packet, "STRIPPED", *learned(host), out=host.arrived(p.UDP, inner))


@pytest.mark.parametrize("segments", [16, 17, 31, 32, 33, 61, 127])
@pytest.mark.parametrize("domain", [(), DOMAIN], ids=["everyone", "domain"])
def test_long_lists(host: Host, domain: tuple[str, ...], segments: int) -> None:
    """With a domain a list longer than can be checked is not believed; without one every length is."""
    host.bench.reset(domain)
    host.bench.local(host.here)
    inner = datagram(host)
    path = [*(SIDS * 9)[: segments - 1], host.here]
    packet = host.arrived(p.ROUTING, p.srh(p.UDP, path, inner, left=0))
    if domain and segments > limits()["HW_MAX_LIST"]:
        host.bench.expect("ingress", packet, "UNTRUSTED")
        return
    besides = learned(host, "LEARNED" if segments <= limits()["HW_MAX_SEGMENTS"] else "LIST_TOO_LONG")
    host.bench.expect("ingress", packet, "STRIPPED", *besides, out=host.arrived(p.UDP, inner))


@pytest.mark.parametrize("place", range(16))
def test_a_segment_outside_the_domain(host: Host, place: int) -> None:
    host.bench.reset(DOMAIN)
    path = [*SIDS, host.here]
    path[place] = ROUTER
    here = path[-1]
    host.bench.local(here)
    body = p.srh(p.UDP, path, p.udp(host.there, here, 50000, 8888), left=0)
    host.bench.expect("ingress", p.ipv6(host.there, here, p.ROUTING, body), "UNTRUSTED")


def test_a_source_outside_the_domain(host: Host) -> None:
    host.bench.reset(DOMAIN)
    host.bench.local(host.here)
    body = p.srh(p.UDP, [*SIDS[:2], host.here], p.udp(ROUTER, host.here, 50000, 8888), left=0)
    host.bench.expect("ingress", p.ipv6(ROUTER, host.here, p.ROUTING, body), "UNTRUSTED")


def test_prefixes_of_any_length(host: Host) -> None:
    inner = p.udp(ROUTER, host.here, LOCAL_PORT, 9)
    packet = p.ipv6(ROUTER, host.here, p.ROUTING, p.srh(p.UDP, [SIDS[0], host.here], inner, left=0))
    stripped = p.ipv6(ROUTER, host.here, p.UDP, inner)
    fixed = [f"{SIDS[0]}/128", f"{host.here}/128"]
    for prefix in ("2001:db8:a1::/127", "2001:db8:80::/41", "2001:db8::/32", "::/0"):
        host.bench.reset([*fixed, prefix])
        host.bench.local(host.here)
        host.bench.expect("ingress", packet, "STRIPPED", *learned(host), out=stripped)
    for prefix in ("2001:db8:a1::/128", "2001:db8:a0::/48", "2001:db8::/41"):
        host.bench.reset([*fixed, prefix])
        host.bench.local(host.here)
        host.bench.expect("ingress", packet, "UNTRUSTED")


def test_refused_by_the_kernel(host: Host) -> None:
    """A test run's GSO packet has no GSO type: the kernel refuses to change its length."""
    body = p.srh(p.UDP, [*SIDS[:2], host.here], datagram(host, data=bytes(900)), left=0)
    packet = host.arrived(p.ROUTING, body)
    host.bench.expect("ingress", packet, "NOT_STRIPPED", *learned(host), gso_size=400)
