"""Desired paths against real maps: what a configuration, names and answers leave in the data plane."""

import os
import struct
import time
from collections.abc import Iterator
from ipaddress import IPv6Address
from pathlib import Path

import pytest

from hawkwing import explain
from hawkwing.config import Config, load_config
from hawkwing.dataplane.encoding import name_key, policy_bytes, route_key, service_value
from hawkwing.dataplane.layout import limits, structures
from hawkwing.dataplane.loader import Capacities, Loaded, Loading
from hawkwing.dataplane.plane import UNKNOWN, DataPlane, Health
from hawkwing.desired import Desired, needs_of
from hawkwing.labels import Labels
from hawkwing.room import Room
from hawkwing.sids import sids_in_srh
from hawkwing.steering import GRACE, LONGEST_TTL, MOST_ADDRESSES, Steering

SELECTION = limits()["HW_SELECTION"]
SOURCE, ONE, TWO = (IPv6Address(f"fd00::{n}") for n in (1, 0x11, 0x12))
SID_A, SID_B, SID_C = (IPv6Address(f"fcbb:bb00:{n}::2") for n in (1, 2, 3))
NAMED = f"""
hawkeye: {{enabled: true, address: "fd00::9", port: 5001}}
services:
  web:
    domain_name: a.example
    applications:
      - port: 80
        sid: ["{SID_A}"]
        intents: [{{intent: low-latency}}]
      - port: 81
        sid: ["{SID_B}"]
"""


class Clock:
    """Time that stands still until it is moved."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Maps:
    """A client's data plane, its steering, and a reader of both."""

    def __init__(self, capacities: Capacities | None = None, loaded: Loaded | None = None) -> None:
        self.clock = Clock()
        made = loaded or Loading("client", capacities or Capacities()).result()
        self.plane = DataPlane("client", made)
        self.steering = Steering(self.plane, self.clock)

    def paths(self, address: IPv6Address, port: int) -> list[list[IPv6Address]]:
        """The list of each bucket of flows, where an application has several; else none."""
        service = self.plane.maps["services"].get(address.packed) or b""
        (group,) = struct.unpack_from("=I", service)
        (value,) = struct.unpack("=I", self.plane.maps["routes"].get(route_key(group, port, 17)) or b"")
        if not value & SELECTION:
            return []
        raw = self.plane.maps["selections"].get(struct.pack("=I", value & ~SELECTION))
        return [self._list(slot) for slot in structures()["selection"].from_buffer_copy(raw or b"").slots]

    def _list(self, slot: int) -> list[IPv6Address]:
        policy = self.plane.maps["policies"].get(struct.pack("=I", slot)) or b""
        return _sids(policy)

    def path(self, address: IPv6Address, port: int, protocol: int = 17) -> list[IPv6Address] | None:
        """The SIDs that a packet would take; None where it leaves plain."""
        service = self.plane.maps["services"].get(address.packed)
        if service is None:
            return None
        (group,) = struct.unpack_from("=I", service)
        slot = self.plane.maps["routes"].get(route_key(group, port, protocol))
        policy = self.plane.maps["policies"].get(slot) if slot else None
        if policy is None:
            return None
        return _sids(policy) or None

    def entries(self) -> tuple[int, int, int]:
        """How many services, routes and names the maps hold."""
        return tuple(sum(1 for _ in self.plane.maps[n].each_key()) for n in ("services", "routes", "names"))  # type: ignore[return-value]


def _sids(policy: bytes) -> list[IPv6Address]:
    read = structures()["policy"].from_buffer_copy(policy)
    return list(sids_in_srh(bytes(read.srh))) if read.srh_length else []


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    """A client's programs and maps, loaded once; the kernel frees them with their descriptors."""
    if os.geteuid() != 0:
        pytest.skip("loading BPF programs needs root")
    return Loading("client", Capacities()).result()


@pytest.fixture
def maps(loaded: Loaded) -> Iterator[Maps]:
    """A client that has steered nothing yet."""
    made = Maps(loaded=loaded)
    yield made
    for name in ("services", "routes", "names"):
        for key in list(made.plane.maps[name].each_key()):
            made.plane.maps[name].delete(key)


@pytest.fixture
def named(tmp_path: Path) -> Config:
    return configured(tmp_path, NAMED)


def configured(folder: Path, text: str) -> Config:
    file = folder / "c.yaml"
    file.write_text(text)
    return load_config(file)


def test_address_is_withdrawn_after_its_time_but_not_while_the_name_fails(maps: Maps, named: Config) -> None:
    maps.steering.apply(named, SOURCE)
    assert maps.steering.learn("a.example", [ONE], ttl=10)
    assert not maps.steering.learn("a.example", [ONE], ttl=10)
    assert maps.path(ONE, 80) == [SID_A] and maps.path(ONE, 81, protocol=6) == [SID_B]
    maps.clock.now += 10 + GRACE + 1
    assert not maps.steering.expire(lambda _name: False)
    assert maps.path(ONE, 80) == [SID_A]
    assert maps.steering.learn("a.example", [TWO], ttl=10)
    assert maps.steering.expire(lambda _name: True)
    assert maps.path(ONE, 80) is None and maps.path(TWO, 80) == [SID_A]
    assert [query.destination for query in maps.steering.queries()] == [TWO]


def test_answers_are_for_their_own_question_only(maps: Maps, named: Config) -> None:
    maps.steering.apply(named, SOURCE)
    maps.steering.learn("a.example", [ONE, TWO], ttl=10)
    first, second = maps.steering.queries()
    maps.steering.set_controller_path(first, (SID_C, SID_B))
    assert maps.path(first.destination, 80) == [SID_C, SID_B]
    assert maps.path(first.destination, 81) == [SID_B]
    assert maps.path(second.destination, 80) == [SID_A]


def test_an_answer_survives_a_reload_that_still_asks(maps: Maps, named: Config, tmp_path: Path) -> None:
    maps.steering.apply(named, SOURCE)
    maps.steering.learn("a.example", [ONE], ttl=10)
    (query,) = maps.steering.queries()
    maps.steering.set_controller_path(query, (SID_C,))
    maps.steering.apply(configured(tmp_path, NAMED.replace("port: 81", "port: 82")), SOURCE)
    assert maps.path(ONE, 80) == [SID_C]
    assert maps.path(ONE, 81) is None and maps.path(ONE, 82) == [SID_B]
    maps.steering.apply(configured(tmp_path, NAMED.replace("low-latency", "low-jitter")), SOURCE)
    assert maps.path(ONE, 80) == [SID_A], "another question has no answer yet"


def test_what_is_gone_from_the_file_is_gone_from_the_maps(maps: Maps, named: Config, tmp_path: Path) -> None:
    maps.steering.apply(named, SOURCE)
    maps.steering.learn("a.example", [ONE, TWO], ttl=10)
    assert maps.entries() == (2, 2 * 2 * 3, 1)
    other = f"services: {{x: {{ipv6_addresses: ['{TWO}'], applications: [{{port: 1, sid: ['{SID_A}']}}]}}}}\n"
    maps.steering.apply(configured(tmp_path, other), None)
    assert maps.entries() == (1, 2, 0)
    assert maps.path(TWO, 1) == [SID_A]
    assert maps.steering.queries() == []


def test_one_address_of_two_services(maps: Maps, tmp_path: Path) -> None:
    text = f"""
services:
  x: {{ipv6_addresses: ["{ONE}"], applications: [{{port: 1, sid: ["{SID_A}"]}}]}}
  y: {{ipv6_addresses: ["{ONE}"], applications: [{{port: 2, sid: ["{SID_B}"]}}]}}
"""
    maps.steering.apply(configured(tmp_path, text), None)
    assert maps.path(ONE, 1) == [SID_A] and maps.path(ONE, 2) == [SID_B]


def test_names_are_known_by_the_number_of_their_group(maps: Maps, named: Config) -> None:
    """What the data plane tells has the number."""
    maps.steering.apply(named, SOURCE)
    (group,) = struct.unpack("=I", maps.plane.maps["names"].get(name_key("a.example")) or b"")
    assert maps.steering.name_of_group(group) == "a.example"
    assert maps.steering.name_of_group(group + 1) is None
    assert list(maps.steering.named_services()) == [("web", "a.example")]
    assert not maps.steering.learn("other.example", [ONE], ttl=10)
    assert not maps.steering.knows(ONE) and maps.steering.learned() == {}
    maps.steering.apply(Config(), None)
    assert maps.steering.name_of_group(group) is None


def test_sources_that_change_are_asked_from(maps: Maps, tmp_path: Path) -> None:
    """Other paths than those of the controller stay as they are, and so do their queries."""
    text = (
        NAMED
        + f"""
  plain:
    ipv6_addresses: ["{TWO}"]
    applications: [{{port: 80, sid: ["{SID_C}"]}}]
"""
    )
    source: list[IPv6Address | None] = [SOURCE]
    asked_for: list[IPv6Address] = []

    def source_of(destination: IPv6Address) -> IPv6Address | None:
        asked_for.append(destination)
        return source[0]

    maps.steering.apply(configured(tmp_path, text), source_of)
    maps.steering.learn("a.example", [ONE], ttl=100)
    (query,) = maps.steering.queries()
    maps.steering.set_controller_path(query, (SID_B,))
    assert maps.steering.query_changes() == ([query], [])
    maps.steering.finish(maps.steering.following_sources())
    assert maps.steering.query_changes() == ([], []) and maps.path(ONE, 80) == [SID_B]
    source[0] = TWO
    asked_for.clear()
    maps.steering.finish(maps.steering.following_sources())
    (other,) = maps.steering.queries()
    assert (other.source, other.destination) == (TWO, ONE)
    assert maps.steering.query_changes() == ([other], [query])
    assert maps.steering.asks(other) and not maps.steering.asks(query)
    assert maps.path(ONE, 80) == [SID_A], "the backup, until there is an answer"
    assert maps.path(TWO, 80) == [SID_C] and asked_for == [ONE]
    source[0] = None
    maps.steering.finish(maps.steering.following_sources())
    assert maps.steering.queries() == [] and maps.path(ONE, 80) == [SID_A]


def generation(maps: Maps) -> int:
    """Rises when the programs have to look up anew what they remember."""
    settings = structures()["settings"].from_buffer_copy(maps.plane.maps["settings"].get(bytes(4)) or b"")
    return int(settings.generation)


def test_a_whole_configuration_is_one_change_for_the_programs(maps: Maps, named: Config) -> None:
    before = generation(maps)
    maps.steering.apply(named, SOURCE)
    assert generation(maps) == before + 1
    maps.steering.apply(named, SOURCE)
    assert generation(maps) == before + 1, "nothing has changed"


def test_without_a_configuration_there_is_nothing_to_steer(maps: Maps) -> None:
    assert maps.steering.names == [] and list(maps.steering.named_services()) == []
    assert not maps.steering.learn("a.example", [ONE], ttl=10)
    assert maps.steering.queries() == [] and list(maps.steering.bindings()) == []
    assert maps.steering.paths_left_out == 0


def test_an_address_stays_half_a_minute_longer_than_its_answer_and_at_most_five_minutes_and_a_half(
    maps: Maps, named: Config
) -> None:
    maps.steering.apply(named, SOURCE)
    for ttl, kept in ((10, 40), (299, 329), (4000, 330)):
        maps.steering.learn("a.example", [ONE], ttl=ttl)
        maps.clock.now += kept
        assert not maps.steering.expire(lambda _name: True) and maps.path(ONE, 80) == [SID_A]
        maps.clock.now += 1
        assert maps.steering.expire(lambda _name: True) and maps.path(ONE, 80) is None


def test_a_change_is_made_in_steps_and_seen_at_its_end(maps: Maps, named: Config) -> None:
    """As long as it goes on the programs may use what they remember; then they look up anew."""
    steps = maps.steering.applying(Desired.of(named), lambda _: SOURCE)
    turns, before = 1, generation(maps)
    while not maps.steering.finish(steps, seconds=-1):
        assert generation(maps) <= before + turns
        turns += 1
    assert turns > 2 and generation(maps) > before
    assert maps.entries() == (0, 4, 1)
    assert maps.steering.finish(iter(()))


def test_what_names_and_lists_take_now(maps: Maps, named: Config, tmp_path: Path) -> None:
    maps.steering.apply(named, SOURCE)
    assert maps.steering.needs_of_names(Desired.of(named)) == Room()
    maps.steering.learn("a.example", [ONE, TWO], ttl=10)
    assert maps.steering.needs_of_names(Desired.of(named)) == Room(addresses=2, applications=4)
    more = configured(tmp_path, NAMED + "      - {port: 82, sid: [fcbb::1]}\n")
    assert maps.steering.needs_of_names(Desired.of(more)) == Room(addresses=2, applications=6)
    other = configured(tmp_path, NAMED.replace("a.example", "b.example"))
    assert maps.steering.needs_of_names(Desired.of(other)) == Room()
    assert maps.steering.lists_in_use() == [(SID_A,), (SID_B,)]


@pytest.mark.parametrize("routes", [2, 3])
def test_a_route_that_finds_no_room_leaves_nothing(tmp_path: Path, routes: int) -> None:
    """Both protocols or none, and the slot of its list is free again."""
    if os.geteuid() != 0:
        pytest.skip("loading BPF programs needs root")
    maps = Maps(Capacities(routes=routes, policies=3))
    text = f"services: {{x: {{ipv6_addresses: ['{ONE}'], applications: [{{port: 1, sid: ['{SID_A}']}}]}}}}\n"
    maps.steering.apply(configured(tmp_path, text), None)
    assert maps.entries() == (1, 2, 0)
    with pytest.raises(OSError, match="Argument list too long"):
        maps.steering.apply(
            configured(tmp_path, text.replace("port: 1", f"port: 2, sid: ['{SID_B}']}}, {{port: 1")), None
        )
    assert maps.entries() == (1, 2, 0) and maps.path(ONE, 1) == [SID_A]
    assert maps.steering.lists_in_use() == [(SID_A,)]


def test_a_name_has_so_many_addresses_and_no_more(
    maps: Maps, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What the data plane has learned beyond that is taken from it again: it knows what the agent knows."""
    maps.steering.apply(configured(tmp_path, NAMED), SOURCE)
    many = [IPv6Address(f"2001:db8::{number:x}") for number in range(1, MOST_ADDRESSES + 11)]
    for address in many:
        maps.plane.maps["services"].set(address.packed, service_value(1, origin=2))
        maps.steering.learn("a.example", [address], 60.0)
    assert maps.entries()[0] == MOST_ADDRESSES
    assert set(maps.steering.learned()["a.example"]) == set(many[:MOST_ADDRESSES])
    assert maps.steering.left_out == {"a.example": 10}
    told = [message for message in caplog.messages if "are not steered" in message]
    assert told == [
        f"packets to {many[MOST_ADDRESSES]} (a.example) are not steered: the name already has 64 addresses"
    ]


def test_no_room_for_an_address(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A full table changes nothing for those that are in it, and nothing is half done."""
    if os.geteuid() != 0:
        pytest.skip("loading BPF programs needs root")
    maps = Maps(Capacities(services=2))
    maps.steering.apply(configured(tmp_path, NAMED), SOURCE)
    assert maps.steering.learn("a.example", [ONE, TWO], 60.0)
    routes = maps.entries()[1]
    assert not maps.steering.learn("a.example", [IPv6Address("fd00::13")], 60.0)
    assert maps.steering.learned()["a.example"] == [ONE, TWO]
    assert maps.entries()[:2] == (2, routes)
    assert not maps.steering.knows(IPv6Address("fd00::13"))
    told = [message for message in caplog.messages if "are not steered" in message]
    assert told == [
        "packets to fd00::13 (a.example) are not steered: "
        "the data plane's tables have no room (Argument list too long)"
    ]
    maps.clock.now += 50
    assert not maps.steering.learn("a.example", [IPv6Address("fd00::13"), ONE], 60.0)
    assert maps.steering.left_out == {"a.example": 2} and len(caplog.messages) == len(set(caplog.messages))
    maps.clock.now += 50
    assert maps.steering.expire(lambda _name: True)
    assert maps.steering.learned()["a.example"] == [ONE], "what there was room for is good for longer"
    maps.steering.learn("a.example", [TWO], 60.0)
    assert [query.destination for query in maps.steering.queries()] == [ONE, TWO]
    assert maps.path(ONE, 80) == [SID_A]


def test_where_a_controllers_path_finds_no_room_all_that_need_it_keep_their_own(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("loading BPF programs needs root")
    maps = Maps(Capacities(policies=3))
    text = NAMED.replace(f'sid: ["{SID_B}"]', f'sid: ["{SID_B}"]\n        intents: [{{intent: low-latency}}]')
    maps.steering.apply(configured(tmp_path, text), SOURCE)
    maps.steering.learn("a.example", [ONE], 60.0)
    (query,) = maps.steering.queries()
    maps.steering.set_controller_path(query, (SID_C,))
    assert maps.steering.paths_left_out == 2
    assert [binding.origin for binding in maps.steering.bindings_at(ONE)] == ["backup", "backup"]
    assert maps.path(ONE, 80) == [SID_A] and maps.path(ONE, 81) == [SID_B]


def test_a_path_is_as_old_as_its_last_change(maps: Maps, named: Config, tmp_path: Path) -> None:
    maps.steering.apply(named, SOURCE)
    maps.steering.learn("a.example", [ONE], 60.0)
    (query,) = maps.steering.queries()
    binding = maps.steering.binding(ONE, 80)
    assert binding is not None
    binding.since = 0.0
    maps.steering.set_controller_path(query, (SID_C,))
    assert abs(binding.since - time.time()) < 60
    binding.since = 0.0
    maps.steering.set_controller_path(query, (SID_C,))
    maps.steering.apply(named, SOURCE)
    assert binding.since == 0.0, "the same path"
    maps.steering.apply(configured(tmp_path, NAMED.replace(str(SID_A), str(SID_B))), SOURCE)
    after = maps.steering.binding(ONE, 80)
    assert after is not None and after.application.sid == (SID_B,)
    assert (after.path, after.since) == ((SID_C,), 0.0), "only its backup is another one"
    maps.steering.apply(configured(tmp_path, NAMED.replace("low-latency", "low-jitter")), SOURCE)
    other = maps.steering.binding(ONE, 80)
    assert other is not None and abs(other.since - time.time()) < 60


def test_other_sids_and_another_service_take_over(maps: Maps, tmp_path: Path) -> None:
    text = f"services: {{x: {{ipv6_addresses: ['{ONE}'], applications: [{{port: 1, sid: ['{SID_A}']}}]}}}}\n"
    maps.steering.apply(configured(tmp_path, text), None)
    maps.steering.apply(configured(tmp_path, text.replace(str(SID_A), str(SID_B))), None)
    assert maps.path(ONE, 1) == [SID_B] and maps.steering.lists_in_use() == [(SID_B,)]
    maps.steering.apply(configured(tmp_path, text.replace("{x:", "{y:")), None)
    binding = maps.steering.binding(ONE, 1)
    assert binding is not None and binding.service == "y"
    assert maps.path(ONE, 1) == [SID_A]


def test_without_a_controller_nothing_is_asked_any_more(maps: Maps, named: Config) -> None:
    maps.steering.apply(named, SOURCE)
    maps.steering.learn("a.example", [ONE], 60.0)
    (query,) = maps.steering.queries()
    maps.steering.set_controller_path(query, (SID_C,))
    maps.steering.apply(named, None)
    assert maps.steering.queries() == [] and maps.path(ONE, 80) == [SID_A]
    assert (SID_C,) not in maps.steering.lists_in_use()


def test_what_there_is_at_an_address(maps: Maps, named: Config) -> None:
    maps.steering.apply(named, SOURCE)
    maps.steering.learn("a.example", [ONE], 60.0)
    assert [binding.application.port for binding in maps.steering.bindings_at(ONE)] == [80, 81]
    assert maps.steering.bindings_at(TWO) == [] and maps.steering.binding(TWO, 80) is None
    assert maps.steering.binding(ONE, 82) is None
    assert maps.steering.knows(ONE) and not maps.steering.knows(TWO)


def test_no_answer_is_good_for_longer_than_names_are_asked(maps: Maps, tmp_path: Path) -> None:
    maps.steering.apply(configured(tmp_path, NAMED), SOURCE)
    maps.steering.learn("a.example", [ONE], float(0x7FFFFFFF))
    maps.clock.now += LONGEST_TTL + GRACE - 1
    assert not maps.steering.expire(lambda _name: True)
    maps.clock.now += 2
    assert maps.steering.expire(lambda _name: True)
    assert maps.path(ONE, 80) is None


def test_no_room_for_a_path_of_the_controller(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The application keeps the path that it has."""
    if os.geteuid() != 0:
        pytest.skip("loading BPF programs needs root")
    maps = Maps(Capacities(policies=3))
    maps.steering.apply(configured(tmp_path, NAMED), SOURCE)
    maps.steering.learn("a.example", [ONE, TWO], 60.0)
    for count, query in enumerate(maps.steering.queries(), 1):
        maps.steering.set_controller_path(query, (SID_C,))
        assert caplog.text.count("restart to make room") == 1, f"told at the first, not after {count}"
    assert maps.path(ONE, 80) == maps.path(TWO, 80) == [SID_A]
    binding = maps.steering.binding(ONE, 80)
    assert binding is not None and binding.origin == "backup"
    assert maps.steering.paths_left_out == 2
    told = [message for message in caplog.messages if "restart to make room" in message]
    assert told == [
        "a path from the controller is not used, restart to make room: "
        "more than 2 different segment lists are in use"
    ]


def test_names_and_answers_may_come_between_the_steps_of_a_change(
    maps: Maps, named: Config, tmp_path: Path
) -> None:
    """Whatever the order, the end is the same as without steps."""
    maps.steering.apply(named, SOURCE)
    maps.steering.learn("a.example", [ONE], 60.0)
    (query,) = maps.steering.queries()
    text = (
        NAMED.replace("port: 81", "port: 82")
        + f"""
  more:
    ipv6_addresses: ["{TWO}", "fd00::99"]
    applications: [{{port: 90, sid: ["{SID_B}"]}}, {{port: 91, sid: ["{SID_C}"]}}]
"""
    )
    count = sum(1 for _ in maps.steering.applying(Desired.of(configured(tmp_path, text)), lambda _: SOURCE))
    for stop in range(count):
        maps.steering.apply(named, SOURCE)
        steps = maps.steering.applying(Desired.of(configured(tmp_path, text)), lambda _: SOURCE)
        for _ in range(stop):
            next(steps)
        maps.steering.learn("a.example", [ONE, TWO], 60.0)
        maps.steering.set_controller_path(query, (SID_C, SID_A))
        maps.clock.now += 60 + GRACE + 1
        maps.steering.learn("a.example", [ONE], 60.0)
        maps.steering.expire(lambda _: True)
        maps.steering.finish(steps)
        assert maps.path(ONE, 80) == [SID_C, SID_A] and maps.path(ONE, 82) == [SID_B]
        assert maps.path(ONE, 81) is None
        assert maps.path(TWO, 90) == [SID_B] and maps.path(TWO, 91) == [SID_C]
        assert maps.path(TWO, 80) is None
        assert maps.entries() == (3, 2 * (2 + 2 + 4), 1)
        assert maps.steering.queries() == [query]


def test_a_name_that_goes_between_the_steps_of_a_change_stays_away(maps: Maps, named: Config) -> None:
    """A second reload while the first one is still under way: the first one puts nothing back."""
    count = sum(1 for _ in maps.steering.applying(Desired.of(named), lambda _: SOURCE))
    for stop in range(1, count + 1):
        maps.steering.apply(Config(), None)
        steps = maps.steering.applying(Desired.of(named), lambda _: SOURCE)
        for _ in range(stop):
            next(steps)
        maps.steering.apply(Config(), None)
        maps.steering.finish(steps)
        assert maps.steering.names == [] and maps.entries() == (0, 0, 0)


def test_an_address_comes_back_after_a_change_that_was_taken_back(maps: Maps, tmp_path: Path) -> None:
    """It has two names, and one of them goes while the change is under way."""
    text = NAMED.replace(
        "services:",
        f"""services:
  mail:
    domain_name: b.example
    applications: [{{port: 25, sid: ["{SID_C}"]}}]""",
    )
    both = configured(tmp_path, text)
    maps.steering.apply(both, SOURCE)
    maps.steering.learn("b.example", [ONE], 10.0)
    maps.steering.learn("a.example", [ONE], 60.0)
    next(maps.steering.applying(Desired(), None))
    maps.clock.now += 10 + GRACE + 1
    assert maps.steering.expire(lambda _: True)
    assert maps.path(ONE, 80) is None and maps.path(ONE, 25) is None
    maps.steering.apply(both, SOURCE)
    assert maps.path(ONE, 80) == [SID_A] and maps.path(ONE, 25) is None


def several(*paths: str, more: str = "") -> str:
    """A service with these paths."""
    return (
        f"services:\n  web:\n    domain_name: a.example\n    ipv6_addresses: [{ONE}]\n{more}"
        f"    applications: [{{port: 80, paths: [{', '.join(paths)}]}}]\n"
    )


UPPER = f"{{name: upper, sid: [{SID_A}, {SID_B}], weight: 3}}"
LOWER = f"{{name: lower, sid: [{SID_C}]}}"


def test_flows_are_divided_by_weight(maps: Maps, tmp_path: Path) -> None:
    maps.steering.apply(configured(tmp_path, several(UPPER, LOWER)), None)
    listed = maps.paths(ONE, 80)
    assert (listed.count([SID_A, SID_B]), listed.count([SID_C]), len(listed)) == (96, 32, 128)
    # Also for addresses that the data plane learns by name.
    assert maps.steering.learn("a.example", [TWO], ttl=10)
    assert maps.paths(TWO, 80) == listed


def test_explain_tells_all_paths_with_their_shares(
    maps: Maps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    maps.steering.apply(configured(tmp_path, several(UPPER, LOWER)), None)
    begin = f"packets to [{ONE}]:80 (service web) use {SID_A} > {SID_B} (75 %) or {SID_C} (25 %) by flow"
    end = ": selected from 2 configured paths; no controller is asked"
    assert explain.sentence(maps.steering, None, str(ONE), 80) == begin + end
    named = explain.sentence(maps.steering, None, str(ONE), 80, Labels({SID_C: "vpp3"}))
    assert " or vpp3 (25 %) by flow" in named
    monkeypatch.setattr(maps.plane, "health", lambda _slot, _now: Health("dead", 0, None))
    poor = explain.sentence(maps.steering, None, str(ONE), 80)
    assert poor == f"{begin}, though no probe returns on any path{end}"


def test_other_weights_move_as_few_as_they_can(maps: Maps, tmp_path: Path) -> None:
    maps.steering.apply(configured(tmp_path, several(UPPER, LOWER)), None)
    before = maps.paths(ONE, 80)
    maps.steering.apply(configured(tmp_path, several(UPPER, LOWER.replace("}", ", weight: 3}"))), None)
    after = maps.paths(ONE, 80)
    assert after.count([SID_C]) == 64
    assert sum(one != other for one, other in zip(before, after, strict=True)) == 32


def test_the_highest_preference_that_can_be_reached(maps: Maps, tmp_path: Path) -> None:
    best = f"{{sid: [{SID_B}], preference: 200}}"
    maps.steering.apply(configured(tmp_path, several(UPPER, best, LOWER)), None)
    assert maps.paths(ONE, 80) == [] and maps.path(ONE, 80) == [SID_B]
    (binding,) = maps.steering.bindings()
    since = binding.since

    def settle(*unreachable: IPv6Address) -> None:
        maps.steering.reachable = lambda sids: sids[0] not in unreachable
        maps.steering.finish(maps.steering.following_reachability())

    settle(SID_B)
    assert len(maps.paths(ONE, 80)) == 128 and binding.since > since
    settle(SID_B, SID_A)
    assert maps.paths(ONE, 80) == [] and maps.path(ONE, 80) == [SID_C]
    settle(SID_A, SID_B, SID_C)
    assert maps.path(ONE, 80) == [SID_B]
    settle()
    assert maps.path(ONE, 80) == [SID_B] and maps.steering.lists_in_use() == [(SID_B,)]


def test_a_path_of_the_controller_is_used_before_all(maps: Maps, tmp_path: Path) -> None:
    text = several(UPPER, LOWER).replace("80,", "80, intents: [{intent: low-latency}],")
    text = 'hawkeye: {enabled: true, address: "fd00::9", port: 5001}\n' + text
    maps.steering.apply(configured(tmp_path, text), SOURCE)
    assert len(maps.paths(ONE, 80)) == 128
    (query,) = maps.steering.queries()
    maps.steering.set_controller_path(query, (SID_C, SID_B))
    # The others stand by, because what is measured of them counts.
    assert maps.paths(ONE, 80) == [[SID_C, SID_B]] * 128


class Latencies:
    """Round trips of probes that a test makes up, in milliseconds, by segment list."""

    def __init__(self, maps: Maps, monkeypatch: pytest.MonkeyPatch) -> None:
        self._maps = maps
        self.of: dict[tuple[IPv6Address, ...], float] = {}
        monkeypatch.setattr(maps.plane, "health", self._health)

    def _health(self, slot: int, _now: int) -> Health:
        known = {self._maps.steering.slot_of_path(sids): rtt for sids, rtt in self.of.items()}
        return Health("alive", 9, known[slot] / 1000) if slot in known else UNKNOWN

    def look(self, times: int = 1, silent: bool = False) -> bool:
        steering = self._maps.steering
        changed = [steering.look_at_paths({}, silent) for _ in range(times)]
        assert steering.finish(steering.following_reachability())
        return any(changed)


LIMITED = "80, intents: [{intent: low-latency, max_value: 20000}],"


def test_the_path_that_fits_an_intent_is_used_and_explained(
    maps: Maps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = several(UPPER, LOWER, more="").replace("80,", LIMITED) + "probes: {}\n"
    maps.steering.apply(configured(tmp_path, text), None)
    assert len(set(map(tuple, maps.paths(ONE, 80)))) == 2, "nothing is measured yet"
    latencies = Latencies(maps, monkeypatch)
    latencies.of = {(SID_A, SID_B): 30, (SID_C,): 10}
    assert latencies.look()
    assert maps.paths(ONE, 80) == [[SID_C]] * 128
    assert explain.sentence(maps.steering, None, str(ONE), 80) == (
        f"packets to [{ONE}]:80 (service web) use {SID_C} (100 %) by flow: selected from 2 configured paths "
        "for low-latency(max 20000): measured latency of 5 ms (upper: 15 ms); no controller is asked"
    )
    latencies.of = {(SID_A, SID_B): 30, (SID_C,): 50}
    assert latencies.look(3)
    assert maps.paths(ONE, 80) == [[SID_A, SID_B]] * 128
    assert "lower is not used: its latency of 25 ms exceeds 20 ms; no controller" in explain.sentence(
        maps.steering, None, str(ONE), 80
    )


def test_the_path_of_a_silent_controller_is_left_at_its_limit(
    maps: Maps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = 'hawkeye: {enabled: true, address: "fd00::9", port: 5001}\nprobes: {}\n'
    maps.steering.apply(configured(tmp_path, text + several(UPPER, LOWER).replace("80,", LIMITED)), SOURCE)
    (query,) = maps.steering.queries()
    maps.steering.set_controller_path(query, (SID_C, SID_B))
    latencies = Latencies(maps, monkeypatch)
    latencies.of = {(SID_A, SID_B): 20, (SID_C,): 30, (SID_C, SID_B): 70}
    latencies.look(4)
    (binding,) = maps.steering.bindings()
    assert maps.paths(ONE, 80) == [[SID_C, SID_B]] * 128 and maps.steering.reason(binding) == ""
    assert latencies.look(3, silent=True)
    assert maps.paths(ONE, 80) == [[SID_A, SID_B]] * 128
    reason = "the controller's path is not used: its latency of 35 ms exceeds 20 ms"
    assert (binding.origin, maps.steering.reason(binding)) == ("backup", reason)
    assert reason in explain.sentence(maps.steering, None, str(ONE), 80)
    assert latencies.look(), "the controller is back"
    assert maps.paths(ONE, 80) == [[SID_C, SID_B]] * 128 and binding.origin == "controller"


def test_changes_of_the_lists_to_probe_are_counted(maps: Maps, named: Config, tmp_path: Path) -> None:
    maps.steering.apply(configured(tmp_path, several(UPPER)), None)
    before = maps.steering.selection_changes
    maps.steering.apply(configured(tmp_path, several(UPPER, LOWER)), None)
    assert maps.steering.selection_changes > before
    assert set(maps.steering.probed_lists()) == {(SID_A, SID_B), (SID_C,)}
    before = maps.steering.selection_changes
    maps.steering.apply(configured(tmp_path, several(UPPER, LOWER)), None)
    assert maps.steering.selection_changes == before


def test_each_list_to_probe_leads_to_a_destination(maps: Maps, tmp_path: Path) -> None:
    both = several(UPPER, LOWER).replace(f"[{ONE}]", f"[{ONE}, {TWO}]")
    alone = f"  one:\n    ipv6_addresses: [fd00::99]\n    applications: [{{port: 1, sid: ['{SID_B}']}}]\n"
    maps.steering.apply(configured(tmp_path, both + alone), None)
    assert maps.steering.list_destinations() == {(SID_A, SID_B): ONE, (SID_C,): ONE}


def test_what_is_not_configured_any_more_leaves_nothing(maps: Maps, tmp_path: Path) -> None:
    maps.steering.apply(configured(tmp_path, several(UPPER, LOWER)), None)
    maps.steering.apply(configured(tmp_path, several(UPPER)), None)
    assert maps.paths(ONE, 80) == [] and maps.path(ONE, 80) == [SID_A, SID_B]
    assert maps.steering.lists_in_use() == [(SID_A, SID_B)]
    maps.steering.apply(Config(), None)
    assert maps.steering.lists_in_use() == [] and maps.entries() == (0, 0, 0)


def test_a_reload_with_more_sets_of_paths_than_there_is_room_for(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("loading BPF programs needs root")
    needs = needs_of(configured(tmp_path, several(UPPER, LOWER)))
    assert (needs.lists, needs.selections) == (2, 1)
    assert Capacities().with_room_for(Room(selections=50)).selections == 128


def test_outer_headers_have_the_present_address(maps: Maps, tmp_path: Path) -> None:
    """Without an address there is no path; the kernel's choice may be another one later."""
    text = f"services:\n  a:\n    ipv6_addresses: ['{ONE}']\n    mode: encap\n    applications:\n"
    text += f"      - {{port: 80, sid: ['{SID_A}', '{SID_B}']}}\n"
    maps.steering.apply(configured(tmp_path, text), None)
    (sids,) = maps.steering.lists_in_use()
    slot = struct.pack("=I", maps.steering.slot_of_path(sids))

    def policy() -> bytes:
        maps.steering.finish(maps.steering.following_outer_sources())
        return maps.plane.maps["policies"].get(slot) or b""

    assert policy() == policy_bytes(sids)
    for source in (SOURCE, TWO):
        maps.plane.outer_source = {SID_A: source}.get
        assert policy() == policy_bytes(sids, None, source)


# --- ways back

RETURNING = NAMED.replace(
    "intents: [{intent: low-latency}]",
    "intents: [{intent: low-latency}]\n        return_intents: [{intent: high-bandwidth}]",
)


def way_back(maps: Maps, address: IPv6Address, port: int) -> list[IPv6Address]:
    """The way back that packets to a port tell, in travel order."""
    service = maps.plane.maps["services"].get(address.packed) or b""
    (group,) = struct.unpack_from("=I", service)
    slot = maps.plane.maps["routes"].get(route_key(group, port, 17)) or b""
    policy = structures()["policy"].from_buffer_copy(maps.plane.maps["policies"].get(slot) or b"")
    raw = maps.plane.maps["ways_back"].get(slot)
    assert bool(policy.tells) is (raw is not None)
    if raw is None:
        return []
    header = bytes(structures()["way_back"].from_buffer_copy(raw).header)
    return [IPv6Address(header[8 + 16 * n : 24 + 16 * n]) for n in range(header[7])][::-1]


def test_a_way_back_of_the_controller(maps: Maps, tmp_path: Path) -> None:
    steering = maps.steering
    steering.apply(configured(tmp_path, RETURNING), SOURCE)
    steering.learn("a.example", [ONE], 60.0)
    there, back = steering.queries()
    assert (back.source, back.destination) == (ONE, SOURCE) and there.intents != back.intents
    steering.set_controller_path(back, (SID_C, SID_B))
    assert maps.path(ONE, 80) == [SID_A] and way_back(maps, ONE, 80) == []
    steering.set_controller_path(there, (SID_B,))
    assert maps.path(ONE, 80) == [SID_B] and way_back(maps, ONE, 80) == [SID_C, SID_B]
    # The same list there as that of the other port, which tells nothing.
    assert maps.path(ONE, 81) == [SID_B] and way_back(maps, ONE, 81) == []
    told = explain.sentence(steering, None, str(ONE), 80)
    assert f"and tell the server the way back {SID_C}, {SID_B}" in told or "way back" in told
    assert "way back" not in explain.sentence(steering, None, str(ONE), 81)
    steering.set_controller_path(back, (SID_C,))
    assert maps.path(ONE, 80) == [SID_B] and way_back(maps, ONE, 80) == [SID_C]
    # The file asks for none any more.
    steering.apply(configured(tmp_path, NAMED), SOURCE)
    assert steering.queries() == [there]
    assert maps.path(ONE, 80) == [SID_B] and way_back(maps, ONE, 80) == []
    # And again: the answer is kept for a while.
    steering.apply(configured(tmp_path, RETURNING), SOURCE)
    assert maps.path(ONE, 80) == [SID_B] and way_back(maps, ONE, 80) == [SID_C]


def test_a_configured_way_back_until_the_controllers_comes(maps: Maps, tmp_path: Path) -> None:
    steering = maps.steering
    text = RETURNING.replace(
        "        return_intents", f'        return_sid: ["{SID_B}"]\n        return_intents'
    )
    steering.apply(configured(tmp_path, text), SOURCE)
    steering.learn("a.example", [ONE], 60.0)
    assert maps.path(ONE, 80) == [SID_A] and way_back(maps, ONE, 80) == [SID_B]
    there, back = steering.queries()
    steering.set_controller_path(there, (SID_C, SID_A))
    assert maps.path(ONE, 80) == [SID_C, SID_A] and way_back(maps, ONE, 80) == [SID_B]
    steering.set_controller_path(back, (SID_A, SID_C))
    assert maps.path(ONE, 80) == [SID_C, SID_A] and way_back(maps, ONE, 80) == [SID_A, SID_C]


@pytest.mark.parametrize("count", [12, 13])
def test_a_way_back_has_twelve_sids_at_most(maps: Maps, tmp_path: Path, count: int) -> None:
    steering = maps.steering
    steering.apply(configured(tmp_path, RETURNING), SOURCE)
    steering.learn("a.example", [ONE], 60.0)
    there, back = steering.queries()
    steering.set_controller_path(there, (SID_B,))
    refused = steering.refusal(back, (SID_C,) * count)
    assert refused == ("" if count == 12 else "the way back has 13 SIDs, at most 12 are possible")


def test_a_way_back_that_containers_made_short_enough(maps: Maps, tmp_path: Path) -> None:
    """Without them it is not told; the way there stays."""
    steering = maps.steering
    text = RETURNING + "csid: {block: 'fcbb:bb00::/32'}\n"
    steering.apply(configured(tmp_path, text), SOURCE)
    steering.learn("a.example", [ONE], 60.0)
    there, back = steering.queries()
    long = tuple(IPv6Address(f"fcbb:bb00:{n}::") for n in range(1, 14))
    assert steering.refusal(back, long) == ""
    steering.set_controller_path(there, (SID_B,))
    steering.set_controller_path(back, long)
    assert len(way_back(maps, ONE, 80)) == 3
    steering.apply(configured(tmp_path, RETURNING), SOURCE)
    assert maps.path(ONE, 80) == [SID_B] and way_back(maps, ONE, 80) == []
