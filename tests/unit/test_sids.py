"""Segment lists in the order of travel and of the wire, next to scapy's."""

from __future__ import annotations

from ipaddress import IPv6Address

import pytest
from scapy.layers.inet6 import IPv6ExtHdrSegmentRouting

from hawkwing.dataplane.layout import limits
from hawkwing.sids import (
    MAX_ENCAPSULATED,
    MAX_PREFIXES,
    MAX_SIDS,
    Encapsulated,
    most_sids,
    overhead,
    ready_outer,
    ready_srh,
    sids_in_srh,
    srh_length,
    wire_order,
)
from hawkwing.srh_hmac import MAX_SIGNED, with_tlv

SIDS = [IPv6Address(f"fcbb:bb00:{number:x}::2") for number in range(1, MAX_SIDS + 2)]


@pytest.mark.parametrize("count", range(1, MAX_SIDS + 1))
def test_an_srh_is_the_one_of_rfc_8754(count: int) -> None:
    """The destination, set per packet, then the SIDs, the last one first; the first one is active."""
    sids = SIDS[:count]
    wanted = IPv6ExtHdrSegmentRouting(
        nh=0, addresses=["::", *map(str, reversed(sids))], segleft=count, lastentry=count
    )
    made = ready_srh(sids)
    assert made.hex() == bytes(wanted).hex()
    assert len(made) == srh_length(sids)
    assert sids_in_srh(made) == tuple(sids)


@pytest.mark.parametrize("count", range(1, MAX_SIGNED + 1))
def test_a_signed_srh_is_longer(count: int) -> None:
    sids = tuple(SIDS[:count])
    inserted = with_tlv(ready_srh(sids), 7)
    assert srh_length(sids, signed=True) == overhead(sids, signed=True) == len(inserted) <= 256
    assert overhead(sids) == len(ready_srh(sids))
    # An HMAC needs an SRH: of one SID, too.
    outer = ready_outer(sids, SIDS[0])
    reduced = with_tlv(outer[40:], 7) if count > 1 else bytes(8 + 16 + 40)
    assert overhead(Encapsulated(sids), signed=True) == 40 + len(reduced)
    assert overhead(Encapsulated(sids)) == len(outer)


def test_limits_of_lists() -> None:
    plain, encapsulated = tuple(SIDS[:1]), Encapsulated(SIDS[:1])
    assert (most_sids(plain), most_sids(encapsulated)) == (MAX_SIDS, MAX_ENCAPSULATED)
    assert most_sids(plain, signed=True) == most_sids(encapsulated, signed=True) == MAX_SIGNED


def test_what_follows_an_srh_is_not_read() -> None:
    assert sids_in_srh(ready_srh(SIDS[:2]) + SIDS[2].packed) == tuple(SIDS[:2])


def test_the_order_of_the_wire() -> None:
    assert wire_order(SIDS[:3]) == [SIDS[2], SIDS[1], SIDS[0]]


@pytest.mark.parametrize("count", [0, MAX_SIDS + 1])
def test_lists_that_are_none(count: int) -> None:
    with pytest.raises(ValueError, match=rf"^a segment list has 1 to 15 SIDs, not {count}$"):
        ready_srh(SIDS[:count])


def test_limits_are_those_of_the_data_plane() -> None:
    assert limits()["HW_MAX_SEGMENTS"] == MAX_SIDS + 1
    assert limits()["HW_MAX_PREFIXES"] == MAX_PREFIXES
