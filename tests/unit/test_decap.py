"""Decapsulation: which rules and routes are wanted, what changes, whose tables they are in; and its words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from hawkwing import decap, decap_slot
from hawkwing.addresses import HostAddress
from hawkwing.config import Config
from hawkwing.config_models import Decap
from hawkwing.dataplane.interfaces import Asked as Interface
from hawkwing.dataplane.local_sids import Found, LocalSids
from hawkwing.decap import Asked, Entry, Host, Route, Rule, asked_of, changes, slot, slot_of, wanted
from hawkwing.errors import ConfigError, DataplaneError, HawkwingError
from hawkwing.plan import Options, make_plan
from tests.unit.mistakes import Row, lines, said_of, sid
from tests.unit.test_status import told

SID6, SID4, OWN, OTHER = (IPv6Address(f"fcbb:cc00:2::{end}") for end in ("d6", "d4", "a", "b"))
DOMAIN = (IPv6Network("fcbb::/16"), IPv6Network("fd00::/8"))
BOTH = Asked({"ipv6": SID6, "ipv4": SID4}, DOMAIN)
TABLES = slot(0)
TENTATIVE = 0x40
ADDRESSES = [
    HostAddress(IPv6Address("::1"), "lo", False),
    HostAddress(OWN, "lo", True),
    HostAddress(OTHER, "eth1", True),
    HostAddress(IPv6Address("fcbb:cc00:2::c"), "eth1", True, TENTATIVE),
    HostAddress(IPv6Address("fe80::1"), "eth0", False),
    HostAddress(IPv6Address("fe80::2"), "eth1", False),
    # That one is down.
    HostAddress(IPv6Address("fcbb:cc00:2::d"), "eth2", True),
]
HOST = Host(
    ADDRESSES,
    [IPv4Address("192.0.2.10"), IPv4Address("127.0.0.1"), IPv4Address("192.0.2.9")],
    {"lo": 1, "eth0": 2, "eth1": 3},
    ["eth0"],
)
OF_SID6 = {Rule(SID6, prefix, TABLES.sids) for prefix in (*DOMAIN, None)}
OF_SID4 = {Rule(SID4, prefix, TABLES.sids) for prefix in (*DOMAIN, None)}
OWN_ROUTES = {Route(TABLES.own, OWN, 1, None), Route(TABLES.own, OTHER, 3, None)}


def only(*versions: decap.Version) -> Asked:
    return replace(BOTH, sids={version: BOTH.sids[version] for version in versions})


def test_no_table_is_in_two_slots() -> None:
    tables = [table for number in range(decap.MOST_SLOTS) for table in slot(number)]
    assert len(set(tables)) == 2 * decap.MOST_SLOTS
    assert [slot_of(table) for table in tables] == [n for n in range(decap.MOST_SLOTS) for _ in range(2)]
    assert slot_of(tables[0] - 1) is slot_of(tables[-1] + 1) is slot_of(254) is slot_of(0) is None


def test_rules_and_routes_of_both_sids() -> None:
    found = wanted(BOTH, HOST, TABLES)
    routes = {Route(TABLES.sids, SID6, 2, TABLES.own), Route(TABLES.sids, SID4, 2, IPv4Address("192.0.2.9"))}
    assert found.entries == OF_SID6 | OF_SID4 | OWN_ROUTES | routes
    assert found.problems == {}


def test_inner_addresses_are_global_and_never_in_the_table_of_the_sids() -> None:
    """Otherwise ::1 could be reached, and a SID in a second outer header."""
    entries = wanted(BOTH, HOST, TABLES).entries
    routes = [one for one in entries if isinstance(one, Route)]
    assert {one.address for one in routes if one.table == TABLES.own} == {OWN, OTHER}
    assert {one.address for one in routes if one.table == TABLES.sids} == {SID6, SID4}


@pytest.mark.parametrize(
    ("interfaces", "addresses", "link"),
    [
        (["eth1", "eth0"], ADDRESSES, 3),
        (["eth0"], ADDRESSES[:4], 3),
        (["eth2"], [*ADDRESSES, HostAddress(OTHER, "eth2", True)], 2),
        (["eth7"], ADDRESSES, 2),
        (["eth0"], ADDRESSES[:2], None),
        ([], [], None),
    ],
)
def test_the_interface_of_routes_needs_ipv6(
    interfaces: list[str], addresses: list[HostAddress], link: int | None
) -> None:
    """Without such an address the kernel refuses them, and on the loopback interface always."""
    assert replace(HOST, interfaces=interfaces, addresses=addresses).link() == link


@pytest.mark.parametrize(
    ("host", "problems", "routes"),
    [
        (replace(HOST, ipv4=[IPv4Address("127.0.0.1")]), {SID4: "this host has no IPv4 address"}, {SID6}),
        (
            replace(HOST, addresses=[*ADDRESSES, HostAddress(SID6, "eth0", True)]),
            {SID6: "it is an address of this host"},
            {SID6, SID4},
        ),
        (
            replace(HOST, addresses=ADDRESSES[:2]),
            dict.fromkeys((SID6, SID4), "no interface that is up has an IPv6 address"),
            set(),
        ),
    ],
)
def test_what_a_host_lacks(host: Host, problems: dict[IPv6Address, str], routes: set[IPv6Address]) -> None:
    """Packets to the SID are dropped then, and do not take another route."""
    found = wanted(BOTH, host, TABLES)
    assert found.problems == problems
    assert {one for one in found.entries if isinstance(one, Rule)} == OF_SID6 | OF_SID4
    there = [one for one in found.entries if isinstance(one, Route) and one.table == TABLES.sids]
    assert {one.address for one in there} == routes


def test_a_first_time_and_the_end() -> None:
    """A packet that finds a rule is to find its route, too."""
    found = wanted(BOTH, HOST, TABLES)
    first = changes(found, [])
    assert set(first.add) == found.entries and first.remove == []
    kinds = [isinstance(one, Rule) or one.table for one in first.add]
    assert kinds == [TABLES.own] * 2 + [TABLES.sids] * 2 + [True] * 6
    assert changes(found, first.add) == ([], [])
    end = changes(decap.Wanted(), found.entries)
    assert end.add == [] and set(end.remove) == found.entries
    assert [isinstance(one, Rule) or one.table for one in end.remove] == kinds[::-1]


def differences(before: Asked, after: Asked, host: Host = HOST) -> tuple[set[Entry], set[Entry]]:
    steps = changes(wanted(after, host, TABLES), wanted(before, HOST, TABLES).entries)
    return set(steps.add), set(steps.remove)


def test_only_what_differs_changes() -> None:
    route6, route4 = (
        Route(TABLES.sids, SID6, 2, TABLES.own),
        Route(TABLES.sids, SID4, 2, IPv4Address("192.0.2.9")),
    )
    assert differences(BOTH, BOTH) == (set(), set())
    assert differences(only("ipv6"), BOTH) == (OF_SID4 | {route4}, set())
    assert differences(BOTH, only("ipv4")) == (set(), OF_SID6 | OWN_ROUTES | {route6})
    wider = replace(BOTH, domain=(DOMAIN[0], IPv6Network("2001:db8::/32")))
    assert differences(BOTH, wider) == (
        {Rule(sid, wider.domain[1], TABLES.sids) for sid in (SID6, SID4)},
        {Rule(sid, DOMAIN[1], TABLES.sids) for sid in (SID6, SID4)},
    )


def test_a_route_to_the_same_address_is_replaced() -> None:
    """Not removed: that would remove the new one."""
    moved = replace(HOST, ipv4=[IPv4Address("192.0.2.10")])
    new = Route(TABLES.sids, SID4, 2, IPv4Address("192.0.2.10"))
    assert differences(only("ipv4"), only("ipv4"), moved) == ({new}, set())
    added, removed = differences(only("ipv6"), replace(BOTH, sids={"ipv4": SID6}))
    assert added == {Route(TABLES.sids, SID6, 2, IPv4Address("192.0.2.9"))}
    assert removed == OWN_ROUTES


def test_which_entries_a_sid_needs() -> None:
    entries = wanted(BOTH, HOST, TABLES).entries
    of6 = {one for one in entries if decap.concerns(SID6, "ipv6", one, TABLES)}
    of4 = {one for one in entries if decap.concerns(SID4, "ipv4", one, TABLES)}
    assert of6 == OF_SID6 | OWN_ROUTES | {Route(TABLES.sids, SID6, 2, TABLES.own)}
    assert of6 | of4 == entries and not of6 & of4


def test_from_a_configuration() -> None:
    assert asked_of(Config(sr_domain=DOMAIN)) is None
    assert asked_of(Config(sr_domain=DOMAIN, decap=Decap(ipv6=SID6, ipv4=SID4))) == BOTH
    assert asked_of(Config(sr_domain=DOMAIN, decap=Decap(ipv4=SID4))) == only("ipv4")


# --- the tables of an agent


class Kernel:
    """What is there, and the slots that others use."""

    def __init__(self, taken: Iterable[int] = (), entries: Iterable[Entry] = ()) -> None:
        self._taken, self.entries = set(taken), list(entries)

    def is_taken(self, number: int) -> bool:
        return number in self._taken

    def found(self) -> Found:
        return Found(self.entries, {})

    def remove(self, one: Entry) -> None:
        self.entries.remove(one)


def as_kernel(made: Kernel) -> LocalSids:
    return cast(LocalSids, made)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    # As in a real one, the claim of the agent is there.
    (folder / "server-eth0.lock").touch()
    monkeypatch.setattr("hawkwing.decap_slot.runtime_folder", lambda: folder)
    return folder


def test_an_agent_keeps_its_slot_and_others_get_another(run: Path) -> None:
    kernel = as_kernel(Kernel(taken=[0]))
    one, two = (decap_slot.take(kernel, name) for name in ("eth0", "eth1.5"))
    one.lock.release()
    assert (one.number, two.number, decap_slot.take(kernel, "eth0").number) == (1, 2, 1)
    assert decap_slot.recorded() == {"eth0": 1, "eth1.5": 2}
    (run / "server-eth2.decap").write_text("17")
    (run / "server-eth3.decap").write_text("none")
    assert decap_slot.recorded() == {"eth0": 1, "eth1.5": 2}


def test_no_free_slot(run: Path) -> None:
    kernel = as_kernel(Kernel(taken=range(1, decap.MOST_SLOTS)))
    assert decap_slot.take(kernel, "eth0").number == 0
    with pytest.raises(DataplaneError, match="all routing tables from 169000 to 169031 are in use"):
        decap_slot.take(kernel, "eth1")


def entries_in(number: int) -> list[Entry]:
    tables = slot(number)
    return [Rule(SID6, None, tables.sids), Route(tables.own, OWN, 1, None)]


def test_only_those_of_the_agent_are_removed(run: Path) -> None:
    kernel = Kernel(entries=entries_in(0) + entries_in(1))
    assert not decap_slot.clean_up(as_kernel(kernel), "eth0"), "it has no record"
    held = [decap_slot.take(as_kernel(kernel), name) for name in ("eth0", "eth1")]
    assert [one.number for one in held] == [0, 1]
    assert not decap_slot.clean_up(as_kernel(kernel), "eth0"), "it runs"
    held[0].lock.release()
    assert decap_slot.clean_up(as_kernel(kernel), "eth0")
    assert kernel.entries == entries_in(1) and decap_slot.recorded() == {"eth1": 1}
    decap_slot.give_back(as_kernel(kernel), "eth1", held[1])
    assert (kernel.entries, decap_slot.recorded()) == ([], {})
    assert sorted(path.name for path in run.iterdir()) == ["server-eth0.lock"]


def test_those_without_a_record_are_removed(run: Path) -> None:
    kernel = Kernel(entries=entries_in(0) + entries_in(1) + entries_in(4))
    held = [decap_slot.take(as_kernel(kernel), name) for name in ("eth0", "eth1")]
    for path in run.iterdir():
        path.unlink()
    (run / "server-eth0.decap").write_text("0\n")
    assert decap_slot.tidy(as_kernel(kernel))
    assert kernel.entries == entries_in(0) + entries_in(1), "of one with a record, and of one that runs"
    assert not decap_slot.tidy(as_kernel(kernel))
    assert decap_slot.take(as_kernel(kernel), "eth2").number == 2
    for one in held:
        one.lock.release()


# --- words

FILE = f"sr_domain: [fcbb::/16]\ndecap: {{ipv6: '{SID6}', ipv4: '{SID4}'}}\n"
MISTAKES = [
    Row(
        "outside the domain",
        sid("[fcbb::1]") + lines("sr_domain: [fcbb::/16]", "decap:", "  ipv6: fcbb::d6", "  ipv4: fdcc::d4"),
        ["10: decap.ipv4: fdcc::d4 is outside the SR domain"],
        sid("[fcbb::1]") + lines("sr_domain: [fcbb::/16]", "decap:", "  ipv6: fcbb::d6", "  ipv4: fcbb::d4"),
    ),
    Row(
        "one SID for both",
        sid("[fcbb::1]") + "sr_domain: [fcbb::/16]\ndecap: {ipv6: fcbb::d6, ipv4: fcbb:0::d6}\n",
        ["8: decap.ipv4: fcbb::d6 is already the SID of ipv6, use another one"],
        sid("[fcbb::1]") + "sr_domain: [fcbb::/16]\ndecap: {ipv4: fcbb::d4}\n",
    ),
    Row(
        "a domain with an error",
        sid("[fcbb::1]") + "sr_domain: [fcbb::/16, 'fd00::']\ndecap: {ipv6: fd00::d6}\n",
        ["7: sr_domain[1]: fd00:: has no prefix length, write fd00::/16"],
        sid("[fcbb::1]") + "sr_domain: [fcbb::/16, 'fd00::/8']\ndecap: {ipv6: fd00::d6}\n",
    ),
]


@pytest.mark.parametrize("row", MISTAKES, ids=lambda row: row.what)
def test_mistakes(tmp_path: Path, row: Row) -> None:
    file = tmp_path / "hawk.yaml"
    assert said_of(file, row.wrong) == [f"{file}:{one}" for one in row.said]
    assert said_of(file, row.right) == []


def options(folder: Path, *domain: str, role: str = "server") -> Options:
    file = folder / "hawk.yaml"
    file.write_text(FILE)
    given = tuple(IPv6Network(prefix) for prefix in domain)
    return Options(cast(Any, role), [Interface("lo", "lo")], file, sr_domain=given)


def test_a_server_takes_it(tmp_path: Path) -> None:
    plan = make_plan(options(tmp_path))
    assert asked_of(plan.config) == replace(BOTH, domain=DOMAIN[:1])


def test_the_domain_of_the_command_line_has_to_fit(tmp_path: Path) -> None:
    asked = asked_of(make_plan(options(tmp_path, "fcbb:cc00::/32")).config)
    assert asked is not None and asked.domain == (IPv6Network("fcbb:cc00::/32"),)
    with pytest.raises(HawkwingError) as caught:
        make_plan(options(tmp_path, "fd00::/8"))
    assert str(caught.value) == f"decap.ipv6: {SID6} is outside the SR domain"


def test_a_sid_is_no_address_of_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hawkwing.plan.host_addresses", lambda: [SimpleNamespace(address=SID4)])
    with pytest.raises(ConfigError) as caught:
        make_plan(options(tmp_path))
    (line,) = caught.value.problems
    assert line.endswith(
        f"hawk.yaml:2: decap.ipv4: {SID4} is an address of this host, use a SID that no interface has"
    )


def test_what_status_tells() -> None:
    sid = {"sid": str(SID6), "carries": "ipv6", "behavior": "End.DT6", "packets": 7, "errors": 0}
    works = sid | {"installed": True, "problem": ""}
    refused = sid | {"sid": str(SID4), "carries": "ipv4", "behavior": "End.DX4"}
    refused |= {"installed": False, "problem": "its rule is missing"}
    shown: dict[str, Any] = {"sources": ["fcbb::/16", "fd00::/8"], "restored": 0, "sids": [works, refused]}
    assert told(decap=shown)[2:] == [
        f"  decapsulates IPv6 packets to {SID6} (End.DT6) from sources in fcbb::/16 or fd00::/8: 7 packets",
        f"  not decapsulated: IPv4 packets to {SID4} (End.DX4): its rule is missing",
    ]
    shown |= {"restored": 2, "sids": [works | {"errors": 3}]}
    first, second = told(decap=shown)[2:]
    assert first.endswith(": 7 packets, 3 dropped")
    assert second == "  rules or routes for decapsulation were missing 2 times, and set again"
