"""The HMAC TLV of an SRH, read by scapy."""

import hashlib
import hmac
from ipaddress import IPv6Address

from scapy.layers.inet6 import IPv6ExtHdrSegmentRouting, IPv6ExtHdrSegmentRoutingTLVHMAC

from hawkwing.sids import ready_srh
from hawkwing.srh_hmac import FLAG, LENGTH, Key, digest, signed, with_tlv

SIDS = tuple(IPv6Address(f"fcbb:bb00:{number}::1") for number in (1, 2, 3))
SOURCE, OTHER = IPv6Address("fcbb:aa00:a::1"), IPv6Address("fcbb:aa00:a::2")
KEY = Key(7, b"correct horse")


def test_the_tlv_is_the_last_one_and_the_srh_says_so() -> None:
    plain = ready_srh(SIDS)
    read = IPv6ExtHdrSegmentRouting(signed(SOURCE, plain, KEY))
    assert read.len == len(plain) // 8 - 1 + LENGTH // 8 and read.lastentry == 3
    assert bytes(read)[5] == FLAG and read.hmac == 1
    (tlv,) = read.tlv_objects
    # Its length is a field of two bytes to scapy.
    assert isinstance(tlv, IPv6ExtHdrSegmentRoutingTLVHMAC) and not read.payload
    assert bytes(tlv)[:8] == bytes([5, 38, 0, 0, 0, 0, 0, 7])
    assert with_tlv(plain, 7)[:-32] == signed(SOURCE, plain, KEY)[:-32] and not any(with_tlv(plain, 7)[-32:])


def test_the_hmac_covers_source_last_entry_flags_key_and_segments() -> None:
    srh = signed(SOURCE, ready_srh(SIDS), KEY)
    covered = SOURCE.packed + bytes([3, FLAG]) + (7).to_bytes(4, "big") + srh[8 : 8 + 64]
    assert srh[-32:] == hmac.new(b"correct horse", covered, hashlib.sha256).digest()


def test_what_is_covered_changes_the_hmac_and_nothing_else_does() -> None:
    srh = signed(SOURCE, ready_srh(SIDS), KEY)
    assert digest(SOURCE, srh, KEY) == srh[-32:]
    assert digest(OTHER, srh, KEY) != srh[-32:]
    assert digest(SOURCE, srh, Key(8, KEY.secret)) != srh[-32:]
    assert digest(SOURCE, srh, Key(7, b"another")) != srh[-32:]
    for at in range(8, 8 + 64):
        assert digest(SOURCE, srh[:at] + bytes([srh[at] ^ 1]) + srh[at + 1 :], KEY) != srh[-32:]
    for at in (0, 1, 3, 6, 7):
        assert digest(SOURCE, srh[:at] + bytes([srh[at] ^ 1]) + srh[at + 1 :], KEY) == srh[-32:]


def test_a_key_does_not_show_its_secret() -> None:
    assert "horse" not in repr(KEY)
