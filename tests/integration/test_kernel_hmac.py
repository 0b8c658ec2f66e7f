"""The kernel's own HMACs, without any agent: what signed paths have to look like, and what routers drop."""

import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from ipaddress import IPv6Address

import pytest
from pyroute2.netlink.exceptions import NetlinkError
from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrSegmentRouting

from hawkwing.srh_hmac import Key, signed, with_tlv
from lab.hmac import IF_PRESENT, IGNORED, REQUIRED, checking, refused, remove_key, set_key
from lab.network import Lab
from lab.wire import Capture, Filter, udp_port

from .conftest import Endpoint, sysctl
from .onwire import R1, R2, R4, R6, UPPER_WAY, A, B, on_links
from .signed import KEY, WRONG, assert_not_signed, assert_signed, kernels, requiring, signed_along, srh_of
from .test_encap import DECAP6, route

__all__ = ["kernels", "requiring"]

PORT = 5000
UPPER = [R1, R2, R4, R6]
SEGMENTS = [B, R6, R4, R2, R1]
IPV6_RTHDR = 57
UDP_NUMBER = 17
BEFORE_VPP1 = ["host-a-site-a", "site-a-vpp1"]


def srh_without_tlv(sids: Sequence[str], following: int = UDP_NUMBER) -> bytes:
    """The SRH of a path to host-b."""
    segments = [B, *sids[::-1]]
    last = len(segments) - 1
    head = struct.pack("!BBBBBBH", following, 2 * len(segments), 4, last, last, 0, 0)
    return head + b"".join(IPv6Address(segment).packed for segment in segments)


@contextmanager
def inserting(lab: Lab, *words: str, mode: str = "inline", sids: Sequence[str] = UPPER) -> Iterator[None]:
    """host-a's kernel puts a path on all packets to host-b; `words` such as "hmac", "7"."""
    gateway = str(lab.topology.host("host-a").interface.peer_address.ip)
    encap = ("encap", "seg6", "mode", mode, "segs", ",".join(sids), *words)
    with route(lab, "host-a", "-6", f"{B}/128", *encap, "via", gateway, "dev", "eth0"):
        yield


@contextmanager
def accepting(lab: Lab, *hosts: str) -> Iterator[None]:
    """The hosts' kernels accept packets with an SRH."""

    def set_both(host: str, value: int) -> None:
        for scope in ("all", "eth0"):
            sysctl(lab, host, f"net/ipv6/conf/{scope}/seg6_enabled", value)

    with ExitStack() as stack:
        for host in hosts:
            set_both(host, 1)
            stack.callback(set_both, host, 0)
        yield


@pytest.fixture
def sender(kernels: Lab, udp: Callable[..., Endpoint]) -> Iterator[Endpoint]:
    """A socket of host-a; host-b receives with and without SRH."""
    with accepting(kernels, "host-b"):
        yield udp("host-a")


def send(capture: Capture, sender: Endpoint) -> None:
    capture.forget()
    sender.socket.sendto(b"hello", (B, PORT))


def test_keys_are_set_replaced_and_removed(kernels: Lab) -> None:
    def shown() -> list[str]:
        lines = kernels.execute("vpp1", ["ip", "sr", "hmac", "show"]).stdout.splitlines()
        return sorted(line for line in lines if line)

    with checking(kernels, ["vpp1"], KEY, Key(8, b"x")):
        assert shown() == [
            f'hmac 7 algo sha256 secret "{KEY.secret.decode()}"',
            'hmac 8 algo sha256 secret "x"',
        ]
        set_key(kernels, "vpp1", WRONG)
        assert shown()[0] == f'hmac 7 algo sha256 secret "{WRONG.secret.decode()}"'
        remove_key(kernels, "vpp1", 7)
        remove_key(kernels, "vpp1", 7)
        assert len(shown()) == 1
    assert shown() == []


def test_a_path_signed_by_the_kernel_passes(
    requiring: Lab, capture: Capture, sender: Endpoint, udp: Callable[..., Endpoint]
) -> None:
    """Over routers, and to a host, that require HMACs; every byte is known."""
    far = udp("host-b", PORT)
    hello = UDP(sport=sender.port, dport=PORT) / b"hello"
    with checking(requiring, ["host-a", "host-b"], KEY), inserting(requiring, "hmac", "7"):
        send(capture, sender)
        assert far.socket.recv(100) == b"hello"
        packets = capture.assert_captured(udp_port(PORT), signed_along(UPPER_WAY, A, SEGMENTS, hello))
    assert_signed(packets)
    assert srh_of(packets[0]) == signed(IPv6Address(A), srh_without_tlv(UPPER), KEY)


@pytest.mark.parametrize("secret", [b"x", bytes(range(64))], ids=["short", "binary"])
def test_secrets_of_all_kinds(kernels: Lab, capture: Capture, sender: Endpoint, secret: bytes) -> None:
    """Also the longest one, with zero bytes."""
    key = Key(0xFFFFFFFE, secret)
    with checking(kernels, ["host-a"], key), inserting(kernels, "hmac", str(key.number)):
        send(capture, sender)
        assert_signed(capture.settled(udp_port(PORT, "host-a-site-a")), key)


def test_a_longer_secret_is_refused(kernels: Lab) -> None:
    with pytest.raises(NetlinkError):
        set_key(kernels, "host-a", Key(7, bytes(65)))


def test_an_unsigned_path_is_dropped(requiring: Lab, capture: Capture, sender: Endpoint) -> None:
    """By the first router with a SID, which counts it."""
    before = refused(requiring, "vpp1")
    with inserting(requiring):
        send(capture, sender)
        packets = capture.settled(udp_port(PORT))
    assert [packet.link for packet in packets] == BEFORE_VPP1
    assert_not_signed(packets)
    assert refused(requiring, "vpp1") == before + 1


def test_plain_packets_are_forwarded(
    requiring: Lab, capture: Capture, sender: Endpoint, udp: Callable[..., Endpoint]
) -> None:
    """The policy is about packets to SIDs."""
    far = udp("host-b", PORT)
    send(capture, sender)
    assert far.socket.recv(100) == b"hello"


@pytest.mark.parametrize(
    ("policy", "routers_key", "passes"),
    [
        (REQUIRED, KEY, True),
        (REQUIRED, WRONG, False),
        (REQUIRED, None, False),
        (IF_PRESENT, KEY, True),
        (IF_PRESENT, WRONG, False),
        (IF_PRESENT, None, False),
        (IGNORED, WRONG, True),
        (IGNORED, None, True),
    ],
)
def test_policies_and_keys(
    kernels: Lab, capture: Capture, sender: Endpoint, policy: int, routers_key: Key | None, passes: bool
) -> None:
    """Of one router, for a signed packet; the others ignore HMACs."""
    keys = [routers_key] if routers_key else []
    before = refused(kernels, "vpp1")
    with (
        checking(kernels, ["vpp2", "vpp4", "vpp6"], policy=IGNORED),
        checking(kernels, ["vpp1"], *keys, policy=policy),
        checking(kernels, ["host-a"], KEY),
        inserting(kernels, "hmac", "7"),
    ):
        send(capture, sender)
        links = [packet.link for packet in capture.settled(udp_port(PORT))]
    assert links == ([link for link, _, _ in UPPER_WAY] if passes else BEFORE_VPP1)
    assert refused(kernels, "vpp1") == before + (not passes)


@pytest.mark.parametrize("host_requires", [True, False])
def test_the_destination_checks_as_well(
    kernels: Lab, capture: Capture, sender: Endpoint, udp: Callable[..., Endpoint], host_requires: bool
) -> None:
    far = udp("host-b", PORT)
    far.socket.settimeout(0.3)
    received = True
    with (
        checking(kernels, ["host-b"], KEY, policy=REQUIRED if host_requires else IF_PRESENT),
        inserting(kernels),
    ):
        send(capture, sender)
        assert [packet.link for packet in capture.settled(udp_port(PORT))] == [
            link for link, _, _ in UPPER_WAY
        ]
        try:
            far.socket.recv(100)
        except TimeoutError:
            received = False
    assert received is not host_requires


@pytest.mark.parametrize("scope", ["all", "default", "lo", "vpp2"])
def test_only_the_receiving_interface_counts(
    kernels: Lab, capture: Capture, sender: Endpoint, scope: str
) -> None:
    """The kernel does not even look at conf.all."""
    name = f"net/ipv6/conf/{scope}/seg6_require_hmac"
    sysctl(kernels, "vpp1", name, 1)
    try:
        with inserting(kernels):
            send(capture, sender)
            packets = capture.settled(udp_port(PORT))
    finally:
        sysctl(kernels, "vpp1", name, 0)
    assert on_links(packets) == UPPER_WAY


def test_without_its_key_the_kernel_sends_nothing(kernels: Lab, capture: Capture, sender: Endpoint) -> None:
    with inserting(kernels, "hmac", "7"):
        capture.forget()
        with pytest.raises(FileNotFoundError):
            sender.socket.sendto(b"hello", (B, PORT))
        capture.assert_nothing_captured(udp_port(PORT))


# --- encapsulation


@pytest.fixture
def decap(requiring: Lab) -> Iterator[Lab]:
    """vpp6 removes outer headers, and counts what it drops."""
    local = ("encap", "seg6local", "action", "End.DT6", "table", "main", "count", "dev", "site-b")
    with route(requiring, "vpp6", "-6", f"{DECAP6}/128", *local):
        yield requiring


@pytest.mark.parametrize("sids", [[], [R1], [R1, R2, R4]], ids=len)
@pytest.mark.parametrize("mode", ["encap", "encap.red"])
def test_encapsulated_by_the_kernel(
    decap: Lab, capture: Capture, sender: Endpoint, udp: Callable[..., Endpoint], mode: str, sids: list[str]
) -> None:
    """A signed reduced header has an SRH even for a single SID, for the TLV; it has the last SID then."""
    far = udp("host-b", PORT)
    listed = [*sids, DECAP6]
    with checking(decap, ["host-a"], KEY), inserting(decap, "hmac", "7", mode=mode, sids=listed):
        send(capture, sender)
        assert far.socket.recv(100) == b"hello"
        (outer,) = capture.settled(Filter(link="host-a-site-a"))
        (inner,) = capture.settled(Filter(link="vpp6-site-b"))
    assert_signed([outer])
    expected = listed[::-1] if mode == "encap" or not sids else listed[:0:-1]
    assert outer[IPv6ExtHdrSegmentRouting].addresses == expected
    assert outer[IPv6].dst == listed[0]
    assert IPv6ExtHdrSegmentRouting not in inner


@pytest.mark.parametrize("sids", [[], [R1], [R1, R2, R4]], ids=len)
def test_encapsulated_without_an_hmac(
    decap: Lab, capture: Capture, sender: Endpoint, udp: Callable[..., Endpoint], sids: list[str]
) -> None:
    """Dropped by the first SID; but a packet without any SRH passes, even to End.DT6."""
    far = udp("host-b", PORT)
    router = "vpp1" if sids else "vpp6"
    before = refused(decap, router)
    with inserting(decap, mode="encap.red", sids=[*sids, DECAP6]):
        send(capture, sender)
        (outer,) = capture.settled(Filter(link="host-a-site-a"))
        arrived = capture.count(Filter(link="vpp6-site-b"))
    assert (IPv6ExtHdrSegmentRouting in outer) == bool(sids)
    if sids:
        assert (arrived, refused(decap, router)) == (0, before + 1)
    else:
        assert far.socket.recv(100) == b"hello"
        assert (arrived, refused(decap, router)) == (1, before)


def test_the_router_that_removes_the_header_checks_it(decap: Lab, capture: Capture, sender: Endpoint) -> None:
    before = refused(decap, "vpp6")
    with (
        checking(decap, ["host-a"], WRONG),
        inserting(decap, "hmac", "7", mode="encap.red", sids=[DECAP6]),
    ):
        send(capture, sender)
        (outer,) = capture.settled(Filter(link="host-a-site-a"))
        assert capture.count(Filter(link="vpp6-site-b")) == 0
    assert_signed([outer], WRONG)
    assert refused(decap, "vpp6") == before + 1


# --- containers (RFC 9800)


@pytest.mark.parametrize(
    ("key", "last"), [(KEY, "site-b-host-b"), (WRONG, "vpp4-vpp6")], ids=["right", "wrong"]
)
def test_a_container_is_checked_where_it_ends(
    requiring: Lab, capture: Capture, sender: Endpoint, key: Key, last: str
) -> None:
    """The kernel shifts the C-SIDs of the destination without a look at the SRH."""
    if "next-csid" not in requiring.execute("vpp1", ["ip", "-6", "route", "show", "fcbb:bb00:1::/48"]).stdout:
        pytest.skip("this kernel, or this iproute2, has no NEXT-C-SID")
    with (
        checking(requiring, ["host-a"], key),
        inserting(requiring, "hmac", "7", sids=["fcbb:bb00:1:2:4:6::"]),
    ):
        send(capture, sender)
        packets = capture.settled(udp_port(PORT))
    assert_signed(packets, key)
    assert packets[-1].link == last


# --- sockets with an SRH of their own


@pytest.mark.parametrize("kernels_key", [KEY, None], ids=["key", "no-key"])
def test_sockets_with_an_hmac_tlv(
    kernels: Lab, capture: Capture, sender: Endpoint, kernels_key: Key | None
) -> None:
    """A kernel with the key signs them; one without leaves their bytes as they are."""
    given = bytearray(with_tlv(srh_without_tlv(UPPER), KEY.number))
    given[-32:] = bytes(range(32))
    keys = [kernels_key] if kernels_key else []
    with checking(kernels, ["host-a"], *keys, policy=IF_PRESENT):
        sender.socket.setsockopt(socket.IPPROTO_IPV6, IPV6_RTHDR, bytes(given))
        send(capture, sender)
        packets = capture.settled(udp_port(PORT, "host-a-site-a"))
    if kernels_key:
        assert_signed(packets)
    else:
        assert srh_of(packets[0])[-32:] == bytes(range(32))


@pytest.mark.parametrize("policy", [IF_PRESENT, REQUIRED])
def test_a_tlv_without_its_flag_is_none(
    kernels: Lab, capture: Capture, sender: Endpoint, policy: int
) -> None:
    """The kernel looks at the flag first: such a packet counts as unsigned."""
    srh = bytearray(with_tlv(srh_without_tlv(UPPER), KEY.number))
    srh[5] = 0
    with checking(kernels, ["vpp1"], KEY, policy=policy):
        sender.socket.setsockopt(socket.IPPROTO_IPV6, IPV6_RTHDR, bytes(srh))
        send(capture, sender)
        links = [packet.link for packet in capture.settled(udp_port(PORT))]
    assert links == (BEFORE_VPP1 if policy == REQUIRED else [link for link, _, _ in UPPER_WAY])
