"""Containers of compressed SIDs (RFC 9800): packed, unpacked, reversed."""

import random
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path

import pytest

from hawkwing.config import check_config
from hawkwing.csid import MAX_BLOCKS, Block, block_of, pack, unpack
from hawkwing.dataplane.layout import limits
from hawkwing.errors import ConfigError
from tests.csid import back

B32 = Block(IPv6Network("fcbb:bb00::/32"))
B48 = Block(IPv6Network("fcbb:aa00:1::/48"))
B16 = Block(IPv6Network("5f00::/16"))
BLOCKS = [B32, B48, B16]


def sids(*texts: str) -> tuple[IPv6Address, ...]:
    return tuple(map(IPv6Address, texts))


@pytest.mark.parametrize(
    ("address", "csids"),
    [
        ("fcbb:bb00:1::", (1,)),
        ("fcbb:bb00:1:2:3:4:5:6", (1, 2, 3, 4, 5, 6)),
        ("fcbb:bb00:1:2::", (1, 2)),
        ("fcbb:bb00::", ()),
        ("fcbb:bb00:1::2", ()),
        ("fcbb:bb00:0:2::", ()),
        ("fcbb:bb01:1::", ()),
    ],
)
def test_what_is_in_a_container(address: str, csids: tuple[int, ...]) -> None:
    assert B32.csids(IPv6Address(address)) == csids
    if csids:
        assert B32.container(csids) == IPv6Address(address)


@pytest.mark.parametrize("csids", [(), (0,), (1, 0, 2), (1,) * 7, (65536,)])
def test_what_fits_in_none(csids: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"a container of fcbb:bb00::/32 has 1 to 6 C-SIDs from 1 to 65535"):
        B32.container(csids)


@pytest.mark.parametrize(
    ("full", "packed"),
    [
        (("fcbb:bb00:1::", "fcbb:bb00:2::", "fcbb:bb00:4::"), ("fcbb:bb00:1:2:4::",)),
        (tuple(f"fcbb:bb00:{n}::" for n in range(1, 7)), ("fcbb:bb00:1:2:3:4:5:6",)),
        (tuple(f"fcbb:bb00:{n}::" for n in range(1, 8)), ("fcbb:bb00:1:2:3:4:5:6", "fcbb:bb00:7::")),
        (("fcbb:bb00:1::2", "fcbb:bb00:2::2"), ("fcbb:bb00:1::2", "fcbb:bb00:2::2")),
        (
            ("fcbb:bb00:1::", "fcbb:bb00:2::2", "fcbb:bb00:3::", "fcbb:bb00:4::"),
            ("fcbb:bb00:1::", "fcbb:bb00:2::2", "fcbb:bb00:3:4::"),
        ),
        (
            ("fcbb:aa00:1:7::", "fcbb:aa00:1:8::", "fcbb:bb00:1::", "5f00:1::", "5f00:2::"),
            ("fcbb:aa00:1:7:8::", "fcbb:bb00:1::", "5f00:1:2::"),
        ),
        (("2001:db8::1",), ("2001:db8::1",)),
        # Containers that are there already are filled up.
        (("fcbb:bb00:1:2::", "fcbb:bb00:3::"), ("fcbb:bb00:1:2:3::",)),
        (("fcbb:bb00:1:2:3:4::", "fcbb:bb00:5:6:7::"), ("fcbb:bb00:1:2:3:4::", "fcbb:bb00:5:6:7::")),
    ],
)
def test_packing(full: tuple[str, ...], packed: tuple[str, ...]) -> None:
    assert pack(sids(*full), BLOCKS) == sids(*packed)
    assert unpack(pack(sids(*full), BLOCKS), BLOCKS) == unpack(sids(*full), BLOCKS)
    assert pack(sids(*full), []) == sids(*full)


def test_the_way_back() -> None:
    there = sids("fcbb:aa00:1:7::", "fcbb:bb00:1:2:4::", "2001:db8::1")
    assert back(there, BLOCKS) == sids("2001:db8::1", "fcbb:bb00:4:2:1::", "fcbb:aa00:1:7::")
    assert back(there, []) == tuple(reversed(there))


def test_a_csid_of_a_link_has_no_way_back() -> None:
    assert back(sids("fcbb:bb00:1:e001:2::"), BLOCKS) is None
    assert back(sids("fcbb:bb00:1:e001:2::"), [Block(B32.prefix, 0xF000)]) == sids("fcbb:bb00:2:e001:1::")


def test_the_programs_have_room_for_as_many_blocks() -> None:
    assert limits()["HW_MAX_CSID_BLOCKS"] == MAX_BLOCKS


def test_an_address_outside_all_blocks_is_no_container() -> None:
    assert block_of(IPv6Address("fcbb:cc00:1:2::"), BLOCKS) is None
    assert block_of(IPv6Address("fcbb:bb00:1:2::"), []) is None


def test_lists_of_all_kinds() -> None:
    """There and back again is where it began; the SIDs are the same ones in reverse order."""
    chance = random.Random(9800)
    for _ in range(2000):
        full = tuple(
            chance.choice(
                [
                    IPv6Address(f"fcbb:bb00:{chance.randrange(1, 0xE000):x}::"),
                    IPv6Address(f"fcbb:aa00:1:{chance.randrange(1, 0xE000):x}::"),
                    IPv6Address(f"2001:db8::{chance.randrange(1, 9)}"),
                ]
            )
            for _ in range(chance.randrange(1, 30))
        )
        packed = pack(full, BLOCKS)
        reverse = back(packed, BLOCKS)
        assert reverse is not None and back(reverse, BLOCKS) == packed
        assert unpack(reverse, BLOCKS) == full[::-1]
        assert len(reverse) == len(packed) == len(pack(reverse, BLOCKS))


HEAD = "services: {b: {ipv6_addresses: ['fd00::a'], applications: [{port: 80, sid: ['fcbb:bb00:1::']}]}}\n"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "csid: {block: 'fcbb::/24'}",
            "3: csid[0].block: fcbb::/24 has 24 bits, a block of C-SIDs has 16, 32 or 48",
        ),
        (
            "csid: {block: 'fcbb::/16', length: 32}",
            "3: csid[0].length: 32 is not a known length of C-SIDs, use 16",
        ),
        (
            "csid: {block: 'fcbb::/16', local: 12}",
            "3: csid[0].local: 12 is not a first C-SID of links, use 32768 to 65535",
        ),
        (
            "csid: [{block: 'fcbb::/16'}, {block: 'fcbb:bb00::/32'}]",
            "3: csid[1].block: fcbb:bb00::/32 overlaps with the block fcbb::/16",
        ),
        (
            "sr_domain: ['fcbb:bb00:1::/48', 'fcbb:cc00::/32']\ncsid: {block: 'fcbb:bb00::/32'}",
            "4: csid[0].block: fcbb:bb00::/32 is not inside the SR domain, which has to contain the whole "
            "block",
        ),
        ("csid: {blok: 'fcbb::/16'}", "3: csid[0].blok: is not a known key, did you mean block?"),
        ("csid: {length: 16}", "3: csid[0].block: is missing"),
        (
            "csid: [" + ", ".join(f"{{block: '{n:x}::/16'}}" for n in range(0x2001, 0x2006)) + "]",
            "3: csid: has 5 blocks, at most 4 are possible",
        ),
    ],
)
def test_mistakes(tmp_path: Path, text: str, sentence: str) -> None:
    file = tmp_path / "hawk.yaml"
    file.write_text(f"# Compressed SIDs\n{HEAD}{text}\n")
    with pytest.raises(ConfigError) as raised:
        check_config(file, {})
    assert raised.value.problems == [f"{file}:{sentence}"]


def test_one_block_or_several(tmp_path: Path) -> None:
    file = tmp_path / "hawk.yaml"
    block = "{block: 'fcbb:bb00::/32', length: 16, local: 61440}"
    for text in (f"csid: {block}", f"csid: [{block}]"):
        file.write_text(f"{HEAD}{text}\n")
        config, _warnings = check_config(file, {})
        assert [one.read for one in config.csid] == [Block(B32.prefix, 0xF000)]


def test_each_block_is_looked_at(tmp_path: Path) -> None:
    file = tmp_path / "hawk.yaml"
    file.write_text(
        f"{HEAD}sr_domain: ['fcbb::/16', 'fc00::/16']\n"
        "csid: [{block: 1}, {block: 'fcbb:bb00::/32'}, {block: 'fd00::/16'}, {block: 'fc00::/32'}]\n"
    )
    with pytest.raises(ConfigError) as raised:
        check_config(file, {})
    outside = "fd00::/16 is not inside the SR domain, which has to contain the whole block"
    assert sorted(raised.value.problems) == [
        f"{file}:3: csid[0].block: 1 is not an IPv6 prefix such as fcbb:bb00::/32",
        f"{file}:3: csid[2].block: {outside}",
    ]


@pytest.mark.parametrize(
    ("prefix", "is_block"),
    [
        ("fcbb::/16", True),
        ("fcbb:bb00::/32", True),
        ("fcbb:bb00:1::/48", True),
        ("fcbb::/17", False),
        ("fcbb:bb00::/33", False),
        ("fcbb:bb00:1::/49", False),
        ("fcbb:bb00:1:1::/64", False),
    ],
)
def test_blocks_have_16_32_or_48_bits(tmp_path: Path, prefix: str, is_block: bool) -> None:
    file = tmp_path / "hawk.yaml"
    file.write_text(f"{HEAD}csid: {{block: '{prefix}'}}\n")
    try:
        config, _ = check_config(file, {})
    except ConfigError as error:
        assert not is_block and "a block of C-SIDs has 16, 32 or 48" in error.problems[0]
    else:
        assert is_block and config.csid[0].read == Block(IPv6Network(prefix), 0xE000)
