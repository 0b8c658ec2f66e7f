"""What becomes of packets, as the RFCs write it: each case is packet in, packet out, in scapy's own words.

Nothing here is made by the helpers that other tests share. Lengths and checksums are scapy's.
"""

import pytest
from scapy.layers.inet import TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    IPv6,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrSegmentRouting,
    PadN,
)
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from tests.dataplane.scene import Host

A, B = "fcbb:cc00:1::a", "fcbb:cc00:2::a"
S1, S2, S3 = "fcbb:bb00:1::2", "fcbb:bb00:2::2", "fcbb:bb00:3::2"
ROUTER = "2001:db8:a1::1"
ETHERNET = Ether(src="02:bb:00:00:00:02", dst="02:bb:00:00:00:02")
"""A server replies to the router that a request came from: the same both ways."""
THERE = IPv6ExtHdrSegmentRouting(addresses=[B, S2, S1], segleft=2)
"""From host A, on the way to S1 and S2."""
BACK = IPv6ExtHdrSegmentRouting(addresses=[A, S1, S2], segleft=2)
"""From host B, on the reverse path."""
HERE_AGAIN = IPv6ExtHdrSegmentRouting(addresses=[A, S1, S2], segleft=0)
"""At host A, once both SIDs have been visited."""
REQUEST, REPLY = UDP(sport=40000, dport=80) / b"hello", UDP(sport=80, dport=40000) / b"hi"
SEGMENT = TCP(sport=40000, dport=80, flags="PA", seq=1, ack=2) / b"GET /"
SYN = TCP(sport=40000, dport=80, flags="S", options=[("MSS", 1220)])
OPTIONS = IPv6ExtHdrHopByHop(options=[PadN(optdata=b"\0\0\0\0")], autopad=0)
FIRST = IPv6ExtHdrFragment(nh=17, offset=0, m=1, id=7) / Raw(bytes(UDP(sport=40000, dport=80, len=1008)))
FLOW = {"fl": 0xABCDE, "tc": 3, "hlim": 64}


def frame(packet: Packet) -> bytes:
    return bytes(ETHERNET / packet)


# in: IPv6(A, B) X   out: IPv6(A, S1) SRH(B, S2, S1; SL=2) X
CLIENT_SENDS = {
    "UDP": (IPv6(src=A, dst=B, **FLOW) / REQUEST, IPv6(src=A, dst=S1, **FLOW) / THERE / REQUEST),
    "TCP": (IPv6(src=A, dst=B, **FLOW) / SEGMENT, IPv6(src=A, dst=S1, **FLOW) / THERE / SEGMENT),
    "SYN": (IPv6(src=A, dst=B, **FLOW) / SYN, IPv6(src=A, dst=S1, **FLOW) / THERE / SYN),
    "Hop-by-Hop options stay in front": (
        IPv6(src=A, dst=B, **FLOW) / OPTIONS / REQUEST,
        IPv6(src=A, dst=S1, **FLOW) / OPTIONS / THERE / REQUEST,
    ),
    "a Fragment header stays behind": (
        IPv6(src=A, dst=B, **FLOW) / FIRST,
        IPv6(src=A, dst=S1, **FLOW) / THERE / FIRST,
    ),
}


def transport(packet: Packet) -> bytes:
    """From the transport header on, its checksum included."""
    whole = IPv6(bytes(packet))
    return bytes(whole[TCP] if TCP in whole else whole[UDP])


@pytest.mark.parametrize(("given", "wanted"), CLIENT_SENDS.values(), ids=CLIENT_SENDS.keys())
def test_a_client_inserts_the_srh(client: Host, given: Packet, wanted: Packet) -> None:
    # A checksum covers the final destination, so it does not change.
    assert transport(given) == transport(wanted)
    client.bench.expect("egress", frame(given), "STEERED", out=frame(wanted))


# in: IPv6(B, A) SRH(A, S1, S2; SL=0) X   out: IPv6(B, A) X
CLIENT_RECEIVES = {
    "UDP": (IPv6(src=B, dst=A, hlim=57) / HERE_AGAIN / REPLY, IPv6(src=B, dst=A, hlim=57) / REPLY),
    "ICMPv6": (
        IPv6(src=B, dst=A, hlim=57) / HERE_AGAIN / ICMPv6EchoRequest(id=1, seq=2, data=b"x"),
        IPv6(src=B, dst=A, hlim=57) / ICMPv6EchoRequest(id=1, seq=2, data=b"x"),
    ),
    "with Hop-by-Hop options": (
        IPv6(src=B, dst=A, hlim=57) / OPTIONS / HERE_AGAIN / REPLY,
        IPv6(src=B, dst=A, hlim=57) / OPTIONS / REPLY,
    ),
}


@pytest.mark.parametrize(("given", "wanted"), CLIENT_RECEIVES.values(), ids=CLIENT_RECEIVES.keys())
def test_a_client_removes_the_srh(client: Host, given: Packet, wanted: Packet) -> None:
    client.bench.expect("ingress", frame(given), "STRIPPED", out=frame(wanted))


@pytest.mark.parametrize(
    "given",
    [
        IPv6(src=B, dst=A) / REPLY,
        IPv6(src=B, dst=A) / OPTIONS / REPLY,
    ],
    ids=["UDP", "with options"],
)
def test_a_client_leaves_others_alone(client: Host, given: Packet) -> None:
    client.bench.expect("ingress", frame(given), "NO_ROUTING_HEADER")


def test_a_server_learns_the_path_and_replies_in_reverse(server: Host) -> None:
    """in: IPv6(A, B) SRH(B, S2, S1; SL=0)   its reply: IPv6(B, S2) SRH(A, S1, S2; SL=2)."""
    arrived = (
        IPv6(src=A, dst=B, hlim=60) / IPv6ExtHdrSegmentRouting(addresses=[B, S2, S1], segleft=0) / REQUEST
    )
    stripped = IPv6(src=A, dst=B, hlim=60) / REQUEST
    server.bench.expect("ingress", frame(arrived), "STRIPPED", "LEARNED", out=frame(stripped))
    reply = IPv6(src=B, dst=A, **FLOW) / REPLY
    steered = IPv6(src=B, dst=S2, **FLOW) / BACK / REPLY
    server.bench.expect("egress", frame(reply), "STEERED", out=frame(steered))
    other = IPv6(src=B, dst=A, **FLOW) / UDP(sport=81, dport=40000) / b"hi"
    server.bench.expect("egress", frame(other), "NO_FLOW")


def test_the_quote_of_an_error_is_as_the_stack_sent_it(client: Host) -> None:
    """RFC 8754, section 5.4. in: PTB(1400) of IPv6(A, S1) SRH X   out: PTB(1400 - 56) of IPv6(A, B) X."""
    sent, quoted = CLIENT_SENDS["TCP"]
    told = IPv6(src=ROUTER, dst=A) / ICMPv6PacketTooBig(mtu=1400) / Raw(bytes(quoted))
    wanted = IPv6(src=ROUTER, dst=A) / ICMPv6PacketTooBig(mtu=1400 - len(THERE)) / Raw(bytes(sent))
    client.bench.expect("ingress", frame(told), "ERROR_RESTORED", "NO_ROUTING_HEADER", out=frame(wanted))


UNTOUCHED = {
    "another segment is left": (
        IPv6(src=B, dst=A) / IPv6ExtHdrSegmentRouting(addresses=[S3, A], segleft=1) / REPLY,
        "SEGMENTS_LEFT",
    ),
    "another routing type": (
        IPv6(src=B, dst=A) / IPv6ExtHdrSegmentRouting(type=3, addresses=[A, S1], segleft=0) / REPLY,
        "ROUTING_TYPE",
    ),
}


@pytest.mark.parametrize(("given", "reason"), UNTOUCHED.values(), ids=UNTOUCHED.keys())
def test_what_is_not_ours_is_left_alone(client: Host, given: Packet, reason: str) -> None:
    client.bench.expect("ingress", frame(given), reason)
