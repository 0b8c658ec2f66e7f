"""What a configuration needs is counted, not made: too much is refused at its place, whatever it is."""

from __future__ import annotations

import time
from ipaddress import IPv6Address
from pathlib import Path

import pytest

from hawkwing.cli import main
from hawkwing.config import Application, Config, Hawkeye, Service
from hawkwing.config_models import CandidatePath
from hawkwing.desired import Desired, excess, needs_of
from hawkwing.intents import Intent, IntentType
from hawkwing.room import MOST, Room

LATENCY = (Intent(IntentType.LOW_LATENCY),)


def address(number: int) -> IPv6Address:
    return IPv6Address((0x20010DB8 << 96) + number)


def sid(number: int) -> IPv6Address:
    return IPv6Address((0xFCBBBB00 << 96) + (number << 16) + 2)


def file_of(addresses: int = 1, applications: int = 1, lists: int = 1) -> str:
    """A service with so many addresses and applications, which have so many lists between them."""
    lines = ["services:", "  web:", "    ipv6_addresses:"]
    lines += [f"      - {address(n + 1)}" for n in range(addresses)]
    lines += ["    applications:"]
    lines += [f"      - {{port: {n + 1}, sid: [{sid(n % lists + 1)}]}}" for n in range(applications)]
    return "\n".join(lines) + "\n"


def test_what_is_counted() -> None:
    apps = (
        Application(port=80, sid=(sid(1),), intents=LATENCY),
        Application(port=81, sid=(sid(1),)),
        Application(port=82, sid=(sid(2),)),
    )
    services = {
        "a": Service(domain_name="a.example", ipv6_addresses=(address(1), address(2)), applications=apps),
        "b": Service(domain_name="a.example", applications=(Application(port=83, sid=(sid(2),)),)),
    }
    asked = Config(hawkeye=Hawkeye(enabled=True, address=address(9), port=1), services=services)
    assert needs_of(asked) == Room(addresses=2, names=1, applications=10, lists=2, queries=3)
    assert needs_of(Config(services=services)).queries == 0
    assert needs_of(Config()) == Room(), "nothing is asked for, nothing is needed"
    desired = Desired.of(asked)
    assert desired.lists() == {(sid(1),), (sid(2),)}
    assert list(desired.services_at(address(1), {"a.example"})) == ["a", "a", "b"]
    assert desired.application(["a", "b"], 83) == ("b", services["b"].applications[0])
    assert desired.application(["a"], 83) is None


def test_the_same_paths_of_two_applications_are_one_selection() -> None:
    one, other = (
        tuple(CandidatePath(sid=(sid(number),), weight=weight) for number in (1, 2)) for weight in (1, 2)
    )
    apps = tuple(Application(port=80 + at, paths=paths) for at, paths in enumerate((one, one, other)))
    config = Config(services={"a": Service(ipv6_addresses=(address(1),), applications=apps)})
    assert needs_of(config) == Room(addresses=1, applications=3, lists=2, selections=2)


@pytest.mark.parametrize(
    ("room", "found"),
    [
        (Room(3, 1, 3, 3), []),
        (
            Room(2, 1, 3, 3),
            [(("services", "c", "ipv6_addresses"), "the file has 3 IPv6 addresses, at most 2 fit")],
        ),
        (
            Room(3, 1, 2, 3),
            [
                (
                    ("services", "c", "applications"),
                    "the file has 3 applications at addresses and names, at most 2 fit",
                )
            ],
        ),
        (
            Room(3, 1, 3, 1),
            [
                (
                    ("services", "b", "applications", 0, "sid"),
                    "the file has 2 different segment lists, at most 1 fit",
                )
            ],
        ),
    ],
)
def test_too_much_is_said_where_it_becomes_too_much(room: Room, found: list[object]) -> None:
    services = {
        name: Service(ipv6_addresses=(address(n),), applications=(Application(port=1, sid=(sid(n % 2),)),))
        for n, name in enumerate("abc")
    }
    assert excess(Config(services=services), room, "at most {most:,} fit") == found


def test_too_much_is_said_once_and_names_count_once() -> None:
    """At the first place of several; a name of two services is one name."""
    services = {
        name: Service(
            domain_name=f"{domain}.example", applications=(Application(port=ord(name), sid=(sid(1),)),)
        )
        for name, domain in (("a", "x"), ("b", "x"), ("c", "y"), ("d", "z"))
    }
    config = Config(services=services)
    assert needs_of(config).names == 3
    room = Room(addresses=0, names=1, applications=9, lists=1)
    assert excess(config, room, "at most {most:,} fit") == [
        (("services", "c", "domain_name"), "the file has 3 domain names, at most 1 fit")
    ]
    assert excess(config, room._replace(names=3)) == []


@pytest.mark.parametrize(
    ("file", "line", "sentence"),
    [
        (
            file_of(addresses=20, applications=60_000),
            24,
            "services.web.applications: the file has 1,200,000 applications at addresses and names, "
            f"at most {MOST.applications:,} are possible",
        ),
        (
            file_of(addresses=MOST.addresses + 1),
            3,
            f"services.web.ipv6_addresses: the file has {MOST.addresses + 1:,} IPv6 addresses, "
            f"at most {MOST.addresses:,} are possible",
        ),
    ],
)
def test_check_names_file_line_key_and_limit(
    file: str,
    line: int,
    sentence: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("big.yaml").write_text(file)
    assert main(["check", "big.yaml"]) == 1
    assert capsys.readouterr().err == f"big.yaml:{line}: {sentence}\n"


@pytest.mark.parametrize("many", [{"addresses": 100_000}, {"applications": 65_000, "lists": 65_000}])
def test_a_hundred_thousand_addresses_and_65000_lists_are_possible(
    many: dict[str, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "big.yaml"
    path.write_text(file_of(**many))
    begun = time.process_time()
    assert main(["check", str(path)]) == 0, capsys.readouterr().err
    assert time.process_time() - begun < 60


def test_readme_and_reference_have_the_limits() -> None:
    project = Path(__file__).parents[2]
    rows = (project / "docs" / "configuration.md").read_text().splitlines()
    assert f"| different sets of `paths` | {MOST.selections:,} |" in rows
    text = " ".join((project / "README.md").read_text().split())
    assert (
        f"A file can have {MOST.addresses:,} addresses, {MOST.names:,} names, {MOST.lists:,} segment lists, "
        f"and {MOST.applications:,} applications"
    ) in text
