"""Ways back of their own: in the configuration, in lists, and as bytes."""

from ipaddress import IPv6Address, IPv6Network
from pathlib import Path

import pytest

from hawkwing.config import load_config
from hawkwing.config_models import Application
from hawkwing.csid import Block, pack
from hawkwing.dataplane.encoding import policy_bytes, way_back
from hawkwing.dataplane.layout import limits, structures
from hawkwing.errors import ConfigError
from hawkwing.sids import MAX_WAY_BACK, Returning, alike, back_of

SIDS = tuple(IPv6Address(f"fcbb:bb00:{number:x}::2") for number in range(1, 15))
CSIDS = tuple(IPv6Address(f"fcbb:bb00:{number:x}::") for number in range(1, 15))
A, B, C = SIDS[:2], SIDS[2:4], SIDS[4:5]
FILE = """
services:
  web:
    ipv6_addresses: ["fcbb:cc00:2::a"]
    applications:
      - port: 80
        sid: ["fcbb:bb00:1::2", "fcbb:bb00:2::2"]
        return_sid: ["fcbb:bb00:3::2", "fcbb:bb00:4::2"]
      - port: 81
        return_sid: ["fcbb:bb00:3::2", "fcbb:bb00:4::2"]
        paths:
          - {sid: ["fcbb:bb00:1::2", "fcbb:bb00:2::2"]}
          - {sid: ["fcbb:bb00:5::2"], return_sid: ["fcbb:bb00:1::2", "fcbb:bb00:2::2"]}
      - {port: 82, sid: ["fcbb:bb00:1::2", "fcbb:bb00:2::2"]}
"""


@pytest.fixture
def applications(tmp_path: Path) -> dict[int, Application]:
    file = tmp_path / "config.yaml"
    file.write_text(FILE)
    return {one.port: one for one in load_config(file).services["web"].applications}


def test_a_list_with_a_way_back_is_another_list() -> None:
    assert Returning(A, B) == Returning(A, B) and hash(Returning(A, B)) == hash(Returning(A, B))
    assert Returning(A, B) != A and Returning(A, B) != A
    assert Returning(A, B) != Returning(A, C) != Returning(B, C)
    assert len({A, Returning(A, B), Returning(A, C)}) == 3
    assert back_of(Returning(A, B)) == B and back_of(A) == ()
    assert alike(Returning(A, B), C) == Returning(C, B)


def test_both_ways_are_packed() -> None:
    block = Block(IPv6Network("fcbb:bb00::/32"))
    packed = pack(Returning(CSIDS[:3], CSIDS[5:7]), [block])
    assert packed == Returning([IPv6Address("fcbb:bb00:1:2:3::")], [IPv6Address("fcbb:bb00:6:7::")])


def test_paths_have_their_own_or_that_of_the_application(applications: dict[int, Application]) -> None:
    assert [one.sids for one in applications[80].candidates] == [Returning(A, B)]
    assert [one.sids for one in applications[81].candidates] == [Returning(A, B), Returning(C, A)]
    assert [one.sids for one in applications[82].candidates] == [A]


def test_the_controllers_way_back_comes_first(applications: dict[int, Application]) -> None:
    assert applications[80].as_sent(C) == Returning(C, B)
    assert applications[80].as_sent(C, A) == Returning(C, A)
    assert applications[82].as_sent(C) == C and applications[82].as_sent(C, A) == Returning(C, A)
    assert applications[80].as_sent(()) == ()


@pytest.mark.parametrize("count", [1, 2, MAX_WAY_BACK])
def test_the_header(count: int) -> None:
    made = structures()["way_back"].from_buffer_copy(way_back(SIDS[:count]))
    header = bytes(made.header)[: made.length]
    assert len(header) == 8 + 16 * count == 8 * (header[1] + 1)
    assert header[2:8] == bytes([0x1E, 4 + 16 * count]) + b"HW" + bytes([1, count])
    assert header[8:] == b"".join(sid.packed for sid in reversed(SIDS[:count]))
    policy = structures()["policy"].from_buffer_copy(policy_bytes(Returning(A, SIDS[:count])))
    assert policy.tells and not structures()["policy"].from_buffer_copy(policy_bytes(A)).tells


def test_the_limit_is_that_of_the_data_plane() -> None:
    assert limits()["HW_MAX_WAY_BACK"] == MAX_WAY_BACK
    for count in (0, MAX_WAY_BACK + 1):
        with pytest.raises(ValueError, match=f"not {count}"):
            way_back(SIDS[:count])


MISTAKES = {
    "mode: encap, port: 80, sid: ['fcbb::1'], return_sid: ['fcbb::2']": (
        "return_sid: is valid with mode: insert only"
    ),
    "mode: encap, port: 80, paths: [{sid: ['fcbb::1'], return_sid: ['fcbb::2']}]": (
        "paths[0].return_sid: is valid with mode: insert only"
    ),
    "port: 80, sid: ['fcbb::1'], return_intents: [{intent: low-latency}]": "return_intents: need intents",
    "port: 80, sid: ['fcbb::1'], return_sid: ['ff02::1']": "return_sid[0]: ",
    f"port: 80, sid: ['fcbb::1'], return_sid: [{', '.join(['fcbb::1'] * 13)}]": "return_sid: has 13",
    "port: 80, sid: ['fcbb::1'], return_sid: word": "return_sid: ",
}


@pytest.mark.parametrize(("application", "problem"), MISTAKES.items())
def test_mistakes(tmp_path: Path, application: str, problem: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(
        f"services: {{web: {{ipv6_addresses: ['fcbb::a'], applications: [{{{application}}}]}}}}\n"
    )
    with pytest.raises(ConfigError) as raised:
        load_config(file)
    assert problem in str(raised.value)
