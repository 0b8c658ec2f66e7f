"""HMAC TLVs on the wire, compared as bytes: scapy reads their length with two bytes."""

import struct
from collections.abc import Iterator, Sequence
from ipaddress import IPv6Address

import pytest
from scapy.layers.inet6 import IPv6, IPv6ExtHdrSegmentRouting
from scapy.packet import Packet, Raw

from hawkwing.srh_hmac import FLAG, LENGTH, Key, digest
from lab.hmac import checking, supported
from lab.network import Lab
from lab.packets import Captured

from .conftest import on_vpp
from .onwire import Expected, Hop, along

KEY = Key(7, b"a secret of the lab")
WRONG = Key(7, b"another secret")
_ROUTING, _SRH_AT, _FLAGS_AT = 43, 40, 5
_TLV = struct.Struct("!BBHI")
_TYPE, _BEHIND_HEADER = 5, 38


@pytest.fixture
def kernels(lab: Lab) -> Lab:
    """The lab; skips where its routers know no HMACs."""
    if on_vpp(lab):
        pytest.skip("VPP has no HMACs")
    if not supported():
        pytest.skip("this kernel has no HMACs (CONFIG_IPV6_SEG6_HMAC)")
    return lab


@pytest.fixture
def requiring(kernels: Lab) -> Iterator[Lab]:
    """The lab; all routers have the key, and drop packets to their SIDs without an HMAC."""
    with checking(kernels, routers(kernels), KEY):
        yield kernels


def routers(lab: Lab) -> list[str]:
    """The names of all routers."""
    return [router.name for router in lab.topology.routers]


def srh_of(packet: Captured) -> bytes:
    """The bytes of the SRH behind the first IPv6 header."""
    raw = packet[IPv6].original
    assert raw[6] == _ROUTING, f"{packet} has no SRH"
    return bytes(raw[_SRH_AT : _SRH_AT + 8 * (raw[_SRH_AT + 1] + 1)])


def assert_signed(packets: Sequence[Captured], key: Key = KEY) -> None:
    """There are packets, and each has flag, TLV and HMAC of this key."""
    assert packets, "nothing was captured"
    for packet in packets:
        srh = srh_of(packet)
        assert srh[_FLAGS_AT] == FLAG, f"{packet}: flags are {srh[_FLAGS_AT]:#x}"
        expected = _tlv(IPv6Address(packet[IPv6].src), srh, key)
        assert srh[-LENGTH:].hex() == expected.hex(), f"{packet} has another TLV"


def assert_not_signed(packets: Sequence[Captured]) -> None:
    """There are packets, and each has an SRH without HMAC."""
    assert packets, "nothing was captured"
    for packet in packets:
        srh = srh_of(packet)
        assert srh[_FLAGS_AT] == 0 and len(srh) == 8 + 16 * (srh[4] + 1), f"{packet} is signed"


def sign(pattern: Packet, key: Key = KEY) -> Packet:
    """The pattern IPv6 / SRH / ... with the HMAC TLV of this key."""
    made = pattern.copy()
    header = made[IPv6ExtHdrSegmentRouting]
    header.hmac = 1
    alone = header.copy()
    alone.remove_payload()
    header.tlv_objects = [Raw(_tlv(IPv6Address(made[IPv6].src), bytes(alone), key))]
    return made


def signed_along(
    way: Sequence[Hop], source: str, segments: list[str], transport: Packet, key: Key = KEY
) -> list[Expected]:
    """Like `along`, signed."""
    return [(link, sign(pattern, key)) for link, pattern in along(way, source, segments, transport)]


def _tlv(source: IPv6Address, srh: bytes, key: Key) -> bytes:
    return _TLV.pack(_TYPE, _BEHIND_HEADER, 0, key.number) + digest(source, srh, key)
