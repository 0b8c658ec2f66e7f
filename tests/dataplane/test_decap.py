"""What is let through to the SIDs at which the kernel removes the outer header."""

from ipaddress import IPv4Address, IPv6Address

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw

from hawkwing.srh_hmac import Key
from tests.dataplane import packets as p
from tests.dataplane.bench import SHOT, UNSPEC
from tests.dataplane.packets import signed
from tests.dataplane.scene import HOST_A, HOST_B, HOST_C, SIDS, Host

DECAP6, DECAP4 = IPv6Address("fcbb:cc00:2::d6"), IPv6Address("fcbb:cc00:2::d4")
OWN4, OTHER4 = IPv4Address("192.0.2.2"), IPv4Address("192.0.2.9")
TUNNEL = HOST_A
KEY, WRONG = Key(7, b"correct horse"), Key(7, b"wrong")


@pytest.fixture
def decap(server: Host) -> Host:
    """A server with both SIDs and an IPv4 address."""
    # The loopback's address is one of the host's, too.
    server.bench.local(HOST_B, *(IPv6Address(f"::ffff:{one}") for one in (OWN4, "127.0.0.1")))
    server.bench.plane.set_decap([DECAP6, DECAP4])
    return server


def inner4(to: IPv4Address | str) -> bytes:
    return bytes(IP(src="198.51.100.1", dst=str(to)) / UDP(sport=9, dport=53) / Raw(b"data"))


def inner6(to: IPv6Address = HOST_B) -> bytes:
    return bytes(IPv6(src=str(HOST_C), dst=str(to)) / UDP(sport=9, dport=53) / Raw(b"data"))


def outer(sid: IPv6Address, carries: int, inner: bytes, listed: int = 0, **fields: int) -> bytes:
    """The packet at its last SID; `listed` SIDs are in its SRH, none without an SRH."""
    if not listed:
        return p.ipv6(TUNNEL, sid, carries, inner)
    path = [*SIDS[: listed - 1], sid]
    return p.ipv6(TUNNEL, sid, p.ROUTING, p.srh(carries, path, inner, **{"left": 0, **fields}))


def passes(host: Host, packet: bytes, reason: str = "ENCAPSULATED") -> None:
    for _ in range(2):
        host.bench.expect("ingress", packet, reason, verdict=UNSPEC)


def is_dropped(host: Host, packet: bytes, reason: str = "DECAP_FOREIGN") -> None:
    for _ in range(2):
        host.bench.expect("ingress", packet, reason, verdict=SHOT)


@pytest.mark.parametrize("listed", [0, 1, 3, 11])
def test_what_is_for_this_host(decap: Host, listed: int) -> None:
    passes(decap, outer(DECAP4, p.IPV4, inner4(OWN4), listed))
    passes(decap, outer(DECAP6, p.IPV6, inner6(), listed))


@pytest.mark.parametrize("listed", [0, 1, 3])
@pytest.mark.parametrize("to", ["127.0.0.1", "127.0.0.53", "255.255.255.255", "224.0.0.1", "8.8.8.8", OTHER4])
def test_ipv4_for_others(decap: Host, to: IPv4Address | str, listed: int) -> None:
    is_dropped(decap, outer(DECAP4, p.IPV4, inner4(to), listed))


def test_the_control(server: Host) -> None:
    """Without `decap` such packets are none of ours."""
    passes(server, outer(DECAP4, p.IPV4, inner4("127.0.0.1")), "NO_ROUTING_HEADER")
    passes(server, outer(DECAP4, p.IPV4, inner4("127.0.0.1"), 1), "NOT_LOCAL")


@pytest.mark.parametrize("next_header", [p.UDP, p.TCP, p.ICMPV6, p.NO_NEXT, 143])
def test_nothing_else_gets_there(decap: Host, next_header: int) -> None:
    is_dropped(decap, outer(DECAP4, next_header, inner4(OWN4)))
    is_dropped(decap, outer(DECAP6, next_header, inner6(), 2))


@pytest.mark.parametrize("kind", [p.HOP_BY_HOP, p.DESTINATION, p.FRAGMENT])
def test_headers_that_hide_what_is_inside(decap: Host, kind: int) -> None:
    header = bytes([p.IPV4, 0, 1, 4, 0, 0, 0, 0]) if kind != p.FRAGMENT else bytes([p.IPV4, *bytes(7)])
    is_dropped(decap, p.ipv6(TUNNEL, DECAP4, kind, header + inner4(OWN4)))
    is_dropped(decap, p.ipv6(TUNNEL, DECAP4, p.ROUTING, p.srh(kind, [DECAP4], header + inner4(OWN4), left=0)))


@pytest.mark.parametrize("fields", [{"left": 1}, {"kind": 3}])
def test_srhs_that_do_not_end_here(decap: Host, fields: dict[str, int]) -> None:
    is_dropped(decap, outer(DECAP4, p.IPV4, inner4(OWN4), 2, **fields))


def test_an_srh_longer_than_the_packet(decap: Host) -> None:
    packet = bytearray(outer(DECAP4, p.IPV4, inner4(OWN4), 2))
    packet[55] = 100
    is_dropped(decap, bytes(packet))


# --- with HMACs


@pytest.fixture
def keyed(decap: Host) -> Host:
    decap.bench.plane.set_hmac([KEY])
    return decap


@pytest.mark.parametrize("listed", [1, 2, 5, 11])
def test_a_valid_hmac(keyed: Host, listed: int) -> None:
    passes(keyed, signed(outer(DECAP4, p.IPV4, inner4(OWN4), listed), KEY.number, KEY.secret))
    passes(keyed, signed(outer(DECAP6, p.IPV6, inner6(), listed), KEY.number, KEY.secret))
    is_dropped(keyed, signed(outer(DECAP4, p.IPV4, inner4("127.0.0.1"), listed), KEY.number, KEY.secret))


@pytest.mark.parametrize("listed", [1, 2, 5])
def test_without_a_valid_one_the_kernel_gets_nothing(keyed: Host, listed: int) -> None:
    plain = outer(DECAP6, p.IPV6, inner6(), listed)
    is_dropped(keyed, plain, "DECAP_UNSIGNED")
    is_dropped(keyed, signed(plain, WRONG.number, WRONG.secret), "DECAP_UNSIGNED")
    is_dropped(keyed, signed(plain, 9, KEY.secret), "DECAP_UNSIGNED")
    is_dropped(keyed, outer(DECAP6, p.IPV6, inner6()), "DECAP_UNSIGNED")


def test_without_the_program_that_verifies(keyed: Host) -> None:
    packet = signed(outer(DECAP6, p.IPV6, inner6(), 2), KEY.number, KEY.secret)
    programs = keyed.bench.plane.maps["programs"]
    kept = keyed.bench.plane.programs["authenticate"]
    programs.delete(bytes(4))
    try:
        is_dropped(keyed, packet, "DECAP_UNSIGNED")
    finally:
        programs.set(bytes(4), kept.to_bytes(4, "little"))
    passes(keyed, packet)


def test_packets_to_other_addresses_are_left_to_the_kernel(keyed: Host) -> None:
    """A wrong HMAC there drops nothing, also after one to a SID."""
    is_dropped(keyed, signed(outer(DECAP6, p.IPV6, inner6(), 2), 7, b"wrong"), "DECAP_UNSIGNED")
    body = p.udp(HOST_A, HOST_B, 9000, 9001, b"data")
    packet = p.ipv6(HOST_A, HOST_B, p.ROUTING, p.srh(p.UDP, [*SIDS[:2], HOST_B], body, left=0))
    passes(keyed, signed(packet, 7, b"wrong"), "HMAC_WRONG")
