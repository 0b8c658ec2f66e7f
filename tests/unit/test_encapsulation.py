"""Encapsulation: lists of their own kind, the outer header, the keys of the configuration, what is told."""

from ipaddress import IPv4Address, IPv6Address, IPv6Network
from pathlib import Path

import pytest
from scapy.layers.inet6 import IPv6, IPv6ExtHdrSegmentRouting

from hawkwing.config import load_config
from hawkwing.csid import Block, pack
from hawkwing.dataplane.encoding import policy_bytes
from hawkwing.dataplane.layout import structures
from hawkwing.desired import Desired
from hawkwing.errors import ConfigError, HawkwingError
from hawkwing.probing.chosen import from_answers
from hawkwing.probing.lists import before_decap
from hawkwing.selections import Candidate
from hawkwing.sids import MAX_ENCAPSULATED, Encapsulated, alike, overhead, ready_outer
from hawkwing.target import address_of, address_text, place_text

SIDS = tuple(IPv6Address(f"fcbb:bb00:{number}::2") for number in range(1, 16))
DECAP, OWN = IPv6Address("fcbb:bb00:6::d6"), IPv6Address("fcbb:cc00:1::a")
SERVICE = """\
services:
  b:
    ipv6_addresses: ["fcbb:cc00:2::a"]
    ipv4_addresses: [192.0.2.10]
    mode: encap
    decap_sid: fcbb:bb00:6::d6
    applications:
      - {port: 80, sid: [fcbb:bb00:1::2, fcbb:bb00:2::2]}
      - {port: 81, decap_sid: fcbb:bb00:5::d6, sid: [fcbb:bb00:1::2]}
"""


def test_a_list_for_encapsulation_is_another_path() -> None:
    plain, other = SIDS[:2], Encapsulated(SIDS[:2])
    assert plain != other and other != plain and other == Encapsulated(SIDS[:2])
    assert len({plain: 1, other: 2, Encapsulated(plain): 3}) == 2
    assert alike(other, SIDS[:1]) == Encapsulated(SIDS[:1]) and alike(plain, SIDS[:1]) == SIDS[:1]


def test_it_stays_one_when_it_is_packed() -> None:
    block = Block(IPv6Network("fcbb:bb00::/32"))
    sids = Encapsulated(IPv6Address(f"fcbb:bb00:{number}::") for number in (1, 2, 6))
    assert pack(sids, [block]) == Encapsulated([IPv6Address("fcbb:bb00:1:2:6::")])
    assert pack(sids, []) == sids
    assert pack(tuple(sids), [block]) == (IPv6Address("fcbb:bb00:1:2:6::"),)


@pytest.mark.parametrize("count", range(1, MAX_ENCAPSULATED + 1))
def test_the_outer_header(count: int) -> None:
    listed = [str(sid) for sid in SIDS[:count]]
    expected = IPv6(src=str(OWN), dst=listed[0], hlim=64, nh=41 if count == 1 else 43, plen=0)
    if count > 1:
        expected /= IPv6ExtHdrSegmentRouting(
            addresses=listed[:0:-1], segleft=count - 1, lastentry=count - 2, nh=41
        )
    found = ready_outer(SIDS[:count], OWN)
    assert found == bytes(expected)
    assert len(found) == overhead(Encapsulated(SIDS[:count]))
    policy = structures()["policy"].from_buffer_copy(policy_bytes(Encapsulated(SIDS[:count]), None, OWN))
    assert (policy.encapsulates, policy.srh_length) == (1, len(found))
    assert bytes(policy.srh)[: len(found)] == found and bytes(policy.first_segment) == SIDS[0].packed


def test_limits_of_the_outer_header() -> None:
    for count in (0, MAX_ENCAPSULATED + 1):
        with pytest.raises(ValueError, match="1 to 14 SIDs"):
            ready_outer(SIDS[:count], OWN)
    nobody = structures()["policy"].from_buffer_copy(policy_bytes(Encapsulated(SIDS[:2])))
    assert nobody.srh_length == 0, "without a source there is no path"
    plain = structures()["policy"].from_buffer_copy(policy_bytes(SIDS[:2]))
    assert (plain.encapsulates, plain.srh_length) == (0, 56)


def test_applications_have_the_mode_of_their_service(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(SERVICE)
    service = load_config(file).services["b"]
    assert service.addresses == (IPv6Address("fcbb:cc00:2::a"), IPv6Address("::ffff:192.0.2.10"))
    one, other = service.applications
    assert one.candidates == (Candidate(Encapsulated([*SIDS[:2], DECAP])),)
    assert other.candidates == (Candidate(Encapsulated([SIDS[0], IPv6Address("fcbb:bb00:5::d6")])),)
    assert one.as_sent(SIDS[:1]) == Encapsulated([SIDS[0], DECAP]) and one.as_sent(()) == ()
    assert Desired.of(load_config(file)).has_ipv4

    file.write_text(
        SERVICE.replace("    ipv4_addresses: [192.0.2.10]\n", "").replace("mode: encap", "mode: insert")
    )
    with pytest.raises(ConfigError, match="decap_sid: is valid with mode: encap only"):
        load_config(file)
    file.write_text(
        SERVICE.replace("81,", "81, mode: insert,")
        .replace("decap_sid: fcbb:bb00:5::d6, ", "")
        .replace("    ipv4_addresses: [192.0.2.10]\n", "")
    )
    one, other = load_config(file).services["b"].applications
    assert isinstance(one.candidates[0].sids, Encapsulated)
    assert other.candidates[0].sids == SIDS[:1] and not isinstance(other.candidates[0].sids, Encapsulated)
    assert not Desired.of(load_config(file)).has_ipv4


IPV4 = "services.b.ipv4_addresses[0]: "
MISTAKES = {
    ("mode: encap", "mode: tunnel"): "5: services.b.mode: tunnel is not a known mode, use insert or encap",
    ("192.0.2.10", "192.0.2.256"): f"4: {IPV4}192.0.2.256 is not an IPv4 address",
    ("192.0.2.10", "127.0.0.1"): f"4: {IPV4}127.0.0.1 is a loopback address, it can't be the address of a "
    "service",
    ("[192.0.2.10]", '["fd00::1"]'): f"4: {IPV4}fd00::1 is not an IPv4 address: write IPv6 addresses under "
    "ipv6_addresses",
    ("port: 80,", "port: 80, mode: insert,"): "4: services.b.ipv4_addresses: need mode: encap, which the "
    "application with port 80 lacks",
    ("sid: [fcbb:bb00:1::2]}", f"sid: [{', '.join(map(str, SIDS[:14]))}]}}"): "9: services.b.applications[1]."
    "sid: has 14 SIDs and decap_sid, at most 14 SIDs fit with mode: encap",
}


@pytest.mark.parametrize(("change", "told"), MISTAKES.items())
def test_a_mistake_is_one_sentence(tmp_path: Path, change: tuple[str, str], told: str) -> None:
    file = tmp_path / "c.yaml"
    assert change[0] in SERVICE
    file.write_text(SERVICE.replace(*change))
    with pytest.raises(ConfigError) as raised:
        load_config(file)
    assert str(raised.value) == f"{file}:{told}"


def test_two_services_with_one_ipv4_address(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(
        SERVICE + SERVICE.removeprefix("services:\n").replace("  b:", "  c:").replace("2::a", "3::a")
    )
    with pytest.raises(ConfigError, match=r"192\.0\.2\.10 with port 80 is already in the service b"):
        load_config(file)


def test_addresses_as_text() -> None:
    mapped = IPv6Address("::ffff:192.0.2.10")
    assert address_text(mapped) == "192.0.2.10" and address_of("192.0.2.10") == mapped
    assert address_text(OWN) == str(OWN) and address_of(str(OWN)) == OWN
    assert place_text("192.0.2.10", 80) == "192.0.2.10:80" and place_text(str(OWN), 80) == f"[{OWN}]:80"
    with pytest.raises(ValueError, match="wb"):
        address_of("wb.hawk.net")
    assert IPv4Address("192.0.2.10") == mapped.ipv4_mapped


def test_probes_end_before_the_last_sid() -> None:
    block = Block(IPv6Network("fcbb:bb00::/32"))
    assert before_decap(Encapsulated([*SIDS[:2], DECAP]), ()) == SIDS[:2]
    container = IPv6Address("fcbb:bb00:1:2:6::")
    single = [IPv6Address(f"fcbb:bb00:{number}::") for number in (1, 2)]
    assert before_decap(Encapsulated([container]), [block]) == tuple(single)
    with pytest.raises(HawkwingError, match="the only SID removes the outer header"):
        before_decap(Encapsulated([DECAP]), ())
    binding = {
        "address": "192.0.2.10", "port": 80, "sids": [str(sid) for sid in (*SIDS[:2], DECAP)],
        "mode": "encap", "origin": "backup", "why": "the configured sid", "nodes": ["r1", "r2", "d"],
    }  # fmt: skip
    chosen = from_answers([{"bindings": [binding], "problems": [], "csid": [], "notes": []}], OWN)
    assert (chosen.sids, chosen.nodes, chosen.destination) == (SIDS[:2], ("r1", "r2"), "192.0.2.10:80")
