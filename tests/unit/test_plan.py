"""What an agent is to do, from its options and its file; and whether there is room for it."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path

import pytest

from hawkwing.config import Config
from hawkwing.dataplane.interfaces import Asked
from hawkwing.errors import ConfigError, HawkwingError
from hawkwing.plan import Options, Plan, make_plan
from hawkwing.room import MOST, Room
from tests.certificates import make_certificate

SID, OTHER = IPv6Address("fcbb:bb00:1::2"), IPv6Address("fcbb:bb00:2::2")
TEXT = f"""
sr_domain: [fcbb::/16, fd00::/8]
services:
  web:
    domain_name: wb.example
    ipv6_addresses: ["fd00::1", "fd00::2"]
    applications:
      - {{port: 80, sid: ["{SID}"]}}
      - {{port: 81, sid: ["{OTHER}"]}}
"""
DOMAIN = (IPv6Network("fcbb::/16"), IPv6Network("fd00::/8"))
LO = Asked("lo", "lo")
NOTHING = Room()


def test_too_many_interfaces_that_require_an_hmac(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reload is refused as a start is."""
    names = [f"eth{number}" for number in range(5)]
    monkeypatch.setattr("hawkwing.plan.requiring_hmac", lambda _interfaces: names[:4])
    assert make_plan(options(tmp_path))
    monkeypatch.setattr("hawkwing.plan.requiring_hmac", lambda _interfaces: names)
    with pytest.raises(HawkwingError, match="seg6_require_hmac is set on 5 of the interfaces, at most 4"):
        make_plan(options(tmp_path))


def options(folder: Path, text: str | None = TEXT, role: str = "client", *domain: str) -> Options:
    """Those of a command line."""
    file = folder / "hawk.yaml"
    if text is not None:
        file.write_text(text)
    given = tuple(IPv6Network(prefix) for prefix in domain)
    return Options(role, [LO], None if text is None else file, sr_domain=given)


def plan(folder: Path) -> Plan:
    """Of that file."""
    return make_plan(options(folder))


def test_a_clients_plan_is_its_file(tmp_path: Path) -> None:
    made = plan(tmp_path)
    assert made.config.sr_domain == DOMAIN
    assert made.needs == Room(addresses=2, names=1, applications=6, lists=2)
    assert made.desired.lists() == {(SID,), (OTHER,)}
    assert (made.warnings, made.pem) == ([], None)
    assert options(tmp_path).interfaces == ["lo"]


def test_warnings_are_part_of_it(tmp_path: Path) -> None:
    made = make_plan(options(tmp_path, TEXT.replace("fcbb::/16, ", "")))
    (warning,) = made.warnings
    assert "hawk.yaml:2: warning: sr_domain: does not contain the SID fcbb:bb00:1::2" in warning


def test_a_server_takes_the_sr_domain_and_nothing_else(tmp_path: Path) -> None:
    made = make_plan(options(tmp_path, role="server"))
    assert made.config == Config(sr_domain=DOMAIN)
    assert made.needs == NOTHING and made.warnings == ()
    assert make_plan(options(tmp_path, "sr_domain: []\n", "server")).config == Config()


@pytest.mark.parametrize("role", ["client", "server"])
def test_without_a_file_nothing_is_asked_for(tmp_path: Path, role: str) -> None:
    assert make_plan(options(tmp_path, None, role)).config == Config()
    domain = make_plan(options(tmp_path, None, role, "fd00::/8")).config.sr_domain
    assert domain == (IPv6Network("fd00::/8"),)


@pytest.mark.parametrize("role", ["client", "server"])
def test_the_command_line_goes_before_the_file(tmp_path: Path, role: str) -> None:
    made = make_plan(options(tmp_path, TEXT, role, "fd00::/8", "5f00::/16"))
    assert made.config.sr_domain == (IPv6Network("fd00::/8"), IPv6Network("5f00::/16"))


BLOCK = IPv6Network("fcbb:bb00::/32")


@pytest.mark.parametrize("role", ["client", "server"])
def test_blocks_of_the_command_line_take_the_place_of_those_of_the_file(tmp_path: Path, role: str) -> None:
    given = options(tmp_path, f"{TEXT}csid: {{block: 'fdcc::/16'}}\n", role)
    assert [one.block for one in make_plan(given).config.csid] == [IPv6Network("fdcc::/16")]
    made = make_plan(replace(given, csid=(BLOCK,)))
    assert [one.block for one in made.config.csid] == [BLOCK]
    assert [block.prefix for block in made.desired.blocks] == [BLOCK]


def test_blocks_and_domain_of_the_command_line_have_to_fit(tmp_path: Path) -> None:
    given = replace(options(tmp_path, None, "server", "fd00::/8"), csid=(BLOCK,))
    with pytest.raises(HawkwingError) as told:
        make_plan(given)
    assert str(told.value) == (
        "csid: fcbb:bb00::/32 is not inside the SR domain, which has to contain the whole block"
    )


@pytest.mark.parametrize("enabled", [True, False])
def test_files_for_tls_are_beside_the_configuration_and_read_where_a_controller_is_asked(
    tmp_path: Path, enabled: bool
) -> None:
    make_certificate(tmp_path, "ca")
    hawkeye = (
        f"hawkeye: {{enabled: {str(enabled).lower()}, address: 'fd00::9', port: 5001, tls: {{ca: ca.pem}}}}\n"
    )
    made = make_plan(options(tmp_path, hawkeye + TEXT))
    assert made.config.hawkeye.tls is not None and made.config.hawkeye.tls.ca == tmp_path / "ca.pem"
    assert (made.pem is not None) == enabled
    if made.pem is not None:
        assert made.pem.ca == (tmp_path / "ca.pem").read_bytes()


def test_so_many_prefixes_and_no_more(tmp_path: Path) -> None:
    domain = [f"fd{number:02}::/16" for number in range(9)]
    assert len(make_plan(options(tmp_path, None, "server", *domain[:8])).config.sr_domain) == 8
    with pytest.raises(HawkwingError) as caught:
        make_plan(options(tmp_path, None, "server", *domain))
    assert str(caught.value) == "--sr-domain is given 9 times, at most 8 prefixes are possible"


def refusals(
    folder: Path, room: Room, learned: Room = NOTHING, used: tuple[IPv6Address, ...] = ()
) -> list[str]:
    """What is said of a reload with this file."""
    try:
        fitting = plan(folder).fitting(room, learned, [(sid,) for sid in used])
    except ConfigError as error:
        return [line.removeprefix(f"{folder}/") for line in error.problems]
    assert fitting.desired.lists() == {(SID,), (OTHER,)}
    return []


def too_much(line: int, key: str, what: str, most: int) -> str:
    """The sentence."""
    return (
        f"hawk.yaml:{line}: {key}: the file has {what}, "
        f"the running agent has room for {most}: restart it to get larger tables"
    )


def test_a_reload_needs_room_for_all(tmp_path: Path) -> None:
    needs = Room(addresses=2, names=1, applications=6, lists=2)
    assert refusals(tmp_path, needs) == refusals(tmp_path, MOST) == []
    assert refusals(tmp_path, needs._replace(addresses=1)) == [
        too_much(6, "services.web.ipv6_addresses", "2 IPv6 addresses", 1)
    ]
    assert refusals(tmp_path, needs._replace(applications=5)) == [
        too_much(7, "services.web.applications", "6 applications at addresses and names", 5)
    ]
    more = "  more:\n    domain_name: m.example\n    applications: [{port: 80, sid: [fcbb::1]}]\n"
    made = make_plan(options(tmp_path, TEXT + more))
    with pytest.raises(ConfigError) as caught:
        made.fitting(made.needs._replace(names=1), NOTHING, ())
    (line,) = caught.value.problems
    assert line.endswith(too_much(11, "services.more.domain_name", "2 domain names", 1))


def test_what_was_learned_takes_room_too(tmp_path: Path) -> None:
    room = Room(addresses=5, names=1, applications=16, lists=2)
    assert refusals(tmp_path, room, Room(addresses=3, applications=10)) == []
    assert len(refusals(tmp_path, room, Room(addresses=4, applications=10))) == 1
    assert len(refusals(tmp_path, room, Room(addresses=3, applications=11))) == 1
    # More than there was: less than nothing is left.
    (line,) = refusals(tmp_path, room, Room(addresses=9))
    assert "the running agent has room for 0:" in line


def test_while_paths_change_there_are_the_old_and_the_new_ones(tmp_path: Path) -> None:
    room = Room(addresses=2, names=1, applications=6, lists=4)
    old = [IPv6Address(f"fcbb:bb00:{number}::2") for number in (3, 4, 5)]
    assert refusals(tmp_path, room, used=(SID, OTHER)) == []
    assert refusals(tmp_path, room, used=(SID, *old[:2])) == []
    assert refusals(tmp_path, room, used=(SID, *old)) == [
        too_much(9, "services.web.applications[1].sid", "2 different segment lists", 1)
    ]


def test_a_plan_that_fits_keeps_nothing_of_the_text(tmp_path: Path) -> None:
    made = plan(tmp_path)
    assert made._reading is not None
    assert made.fitting(MOST, NOTHING, ())._reading is None
    # Of a server, or without a file, nothing can be too much.
    assert Plan.of(Config()).fitting(NOTHING, NOTHING, ()).config == Config()
