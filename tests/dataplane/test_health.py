"""Probes that come back are noted, and packets leave paths whose probes don't."""

import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from scapy.contrib.stamp import STAMPSessionReflectorTestUnauthenticated, STAMPTestTLV

from hawkwing.dataplane.layout import limits, structures
from hawkwing.selections import Contents
from hawkwing.usage import chosen
from tests.dataplane import packets as p
from tests.dataplane.bench import SHOT, Bench
from tests.dataplane.model_tables import Selected
from tests.dataplane.packets import steered
from tests.dataplane.scene import GROUP, HOST_A, LOCAL_PORT, SIDS, Host

BUCKETS = 1 << limits()["HW_BUCKET_BITS"]
TAG = limits()["HW_PROBE_TAG"]
PORT = 8100
PATHS = {200 + number: SIDS[number : number + 2] for number in range(4)}
BEST, SECOND, THIRD, FOURTH = PATHS
KEY = 0x1122334455667788
STAMP = 862
SECOND_NS = 10**9
SILENCE = 60 * SECOND_NS
"""So long that nothing happens by itself while a test runs."""


def past(ago: float) -> int:
    """The time so many seconds ago; when this machine started, if that was later."""
    return max(time.monotonic_ns() - round(ago * SECOND_NS), 1)


@dataclass
class Scene:
    """A port with two paths of the highest preference and two lower ones, which are probed."""

    host: Host
    bench: Bench = field(init=False)

    def __post_init__(self) -> None:
        self.bench = self.host.bench
        for slot, sids in PATHS.items():
            self.bench.plane.set_policy(slot, sids)
        buckets = [(BEST, SECOND)[bucket % 2] for bucket in range(BUCKETS)]
        contents = Contents(buckets, list(PATHS), active=2, longest=8 + 16 * 3)
        self.bench.plane.set_selection(9, contents)
        self.bench.plane.select_route(GROUP, PORT, (p.TCP, p.UDP), 9)

    def prober(self, beat: float = 0, since: float = 1000, silence: int = SILENCE) -> None:
        """The prober sent last, and began, so many seconds ago."""
        self.bench.plane.set_prober(KEY, *map(past, (beat, since)), silence)

    def seen(self, slot: int, ago: float, **more: int) -> None:
        """The last probe of a path came back so many seconds ago."""
        health = structures()["path_health"]()
        health.seen = past(ago)
        health.received = 1
        for name, value in more.items():
            setattr(health, name, value)
        self.bench.plane.maps["health"].set(struct.pack("=I", slot), bytes(health))

    def health(self, slot: int) -> Any:
        raw = self.bench.plane.maps["health"].get(struct.pack("=I", slot))
        return structures()["path_health"].from_buffer_copy(raw or b"")

    def used(self) -> set[int]:
        """The paths of 40 flows."""
        found = set()
        for label in range(1, 41):
            packet = self.host.out(p.UDP, self.host.udp(PORT), label=label)
            out = self.bench.run("egress", packet).packet
            found |= {slot for slot, sids in PATHS.items() if out == steered(packet, sids)}
        return found

    def probe(self, slot: int = BEST, ago: float = 0.01, key: int = KEY, **fields: Any) -> bytes:
        """A probe that comes back, sent so many seconds ago."""
        sent = time.monotonic_ns() - round(ago * SECOND_NS)
        body = p.udp(HOST_A, HOST_A, 40000, 40000, struct.pack("=QQII", key, sent, slot, 0))
        srh = bytearray(p.srh(p.UDP, [*PATHS[BEST], HOST_A], body, left=fields.pop("left", 0)))
        struct.pack_into("!H", srh, 6, fields.pop("tag", TAG))
        return p.ipv6(HOST_A, HOST_A, p.ROUTING, bytes(srh))

    def reflected(
        self, slot: int = BEST, ago: float = 0.01, key: int = KEY, kept: float = 0, port: int = STAMP
    ) -> bytes:
        """A STAMP reflector's answer, as UDP, to a probe that was sent so many seconds ago."""
        sent = time.monotonic_ns() - round(ago * SECOND_NS)
        probe = struct.pack("=QQII", key, sent, slot, 0)
        begun = 1_700_000_000.25
        answer = bytes(
            STAMPSessionReflectorTestUnauthenticated(
                seq=1,
                ts_rx=begun,
                ts=begun + kept,
                tlv_objects=[STAMPTestTLV(flags=0, type=1, len=len(probe), value=probe)],
            )
        )
        return p.udp(self.host.there, self.host.here, port, 40000, answer)

    def with_srh(self, datagram: bytes, **fields: Any) -> bytes:
        path = [*reversed(PATHS[BEST]), self.host.here]
        return self.host.arrived(
            p.ROUTING, p.srh(p.UDP, path, datagram, left=fields.pop("left", 0), **fields)
        )

    def arrives(self, packet: bytes) -> bool:
        """Runs a probe that comes back; whether it was taken."""
        outcome = self.bench.run("ingress", packet)
        taken = outcome.counted == {"PROBE": 1}
        assert taken is (outcome.verdict == SHOT)
        return taken


@pytest.fixture
def scene(client: Host) -> Iterator[Scene]:
    yield Scene(client)
    client.bench.plane.set_prober(0, 0, 0, 0)
    client.bench.plane.set_stamp_port(0)


def test_without_a_prober_nothing_is_dead(scene: Scene) -> None:
    assert scene.used() == {BEST, SECOND}
    scene.seen(BEST, 1000)
    assert scene.used() == {BEST, SECOND}


def test_a_silent_path_is_left_for_one_of_its_preference(scene: Scene) -> None:
    scene.prober()
    for slot in PATHS:
        scene.seen(slot, 1)
    assert scene.used() == {BEST, SECOND}
    scene.seen(BEST, 61)
    assert scene.used() == {SECOND}
    scene.seen(BEST, 30)
    assert scene.used() == {BEST, SECOND}


def test_then_for_the_next_preference_in_order(scene: Scene) -> None:
    scene.prober()
    scene.seen(FOURTH, 1)
    assert scene.used() == {FOURTH}
    scene.seen(THIRD, 1)
    assert scene.used() == {THIRD}
    scene.seen(SECOND, 1)
    assert scene.used() == {SECOND}


def test_the_last_one_is_never_left(scene: Scene) -> None:
    scene.prober()
    for slot in PATHS:
        scene.seen(slot, 500)
    assert scene.used() == {BEST, SECOND}


def test_a_prober_that_has_stopped_makes_nothing_dead(scene: Scene) -> None:
    scene.prober(beat=61)
    scene.seen(BEST, 100)
    scene.seen(SECOND, 1)
    assert scene.used() == {BEST, SECOND}
    scene.prober(beat=30)
    assert scene.used() == {SECOND}


def test_after_a_pause_probes_have_their_round_trip_to_come_back(scene: Scene) -> None:
    for slot in PATHS:
        scene.seen(slot, 100, round_trip=10 * SECOND_NS)
    scene.seen(SECOND, 1)
    scene.prober(since=65)
    assert scene.used() == {BEST, SECOND}
    scene.prober(since=75)
    assert scene.used() == {SECOND}


def test_a_probe_is_taken_and_measured(scene: Scene) -> None:
    scene.prober()
    begun = time.monotonic_ns()
    assert scene.arrives(scene.probe(ago=0.5))
    first = scene.health(BEST)
    assert begun <= first.seen <= time.monotonic_ns()
    assert first.received == 1 and 0 <= first.round_trip - SECOND_NS // 2 <= first.seen - begun
    begun = time.monotonic_ns()
    assert scene.arrives(scene.probe(ago=0.1))
    second = scene.health(BEST)
    # An eighth of what is new, and what it takes to send it.
    expected = (7 * first.round_trip + SECOND_NS // 10) // 8
    assert second.received == 2 and -10 <= second.round_trip - expected <= second.seen - begun
    assert scene.health(SECOND).received == 0


def test_one_that_was_sent_before_the_last_proves_nothing(scene: Scene) -> None:
    scene.prober()
    probe = scene.probe()
    assert scene.arrives(probe)
    seen = scene.health(BEST).seen
    for old in (probe, scene.probe(ago=1), scene.probe(ago=-5), scene.probe(ago=11)):
        assert scene.arrives(old)
    assert (scene.health(BEST).received, scene.health(BEST).seen) == (1, seen)


@pytest.mark.parametrize("field", ["key", "tag", "left"])
def test_what_is_none_of_ours_is_treated_as_ever(scene: Scene, field: str) -> None:
    scene.prober()
    wrong = {"key": KEY + 1, "tag": TAG + 1, "left": 1}[field]
    assert not scene.arrives(scene.probe(**{field: wrong}))
    assert scene.health(BEST).received == 0
    scene.bench.plane.set_prober(KEY, 0, 0, 0)
    assert not scene.arrives(scene.probe())


def test_it_ends_here(scene: Scene) -> None:
    scene.prober()
    scene.bench.expect("ingress", scene.probe(), "PROBE", verdict=SHOT)


def test_a_slot_that_is_none(scene: Scene) -> None:
    scene.prober()
    assert scene.arrives(scene.probe(slot=1 << 24))


@pytest.mark.parametrize("tag, reason", [(TAG, "HAS_ROUTING_HEADER"), (TAG + 1, "NO_SERVICE")])
def test_a_probe_leaves_as_it_is(scene: Scene, tag: int, reason: str) -> None:
    """The first one is recognised at once, the second one is anybody's."""
    probe = scene.probe(tag=tag, left=2)
    outcome = scene.bench.run("egress", probe)
    assert outcome.packet == probe and outcome.counted == {reason: 1}


def test_a_path_returns_after_five_probes_in_a_row(scene: Scene) -> None:
    scene.prober()
    scene.seen(SECOND, 1)
    scene.seen(BEST, 100)
    for number in range(5):
        assert scene.used() == {SECOND}, f"after {number} probes"
        scene.arrives(scene.probe(ago=0.01))
    assert scene.used() == {BEST, SECOND}


def test_a_gap_in_between_begins_anew(scene: Scene) -> None:
    scene.prober()
    scene.seen(BEST, 100, needed=5, good=4)
    scene.seen(SECOND, 1)
    for _ in range(4):
        scene.arrives(scene.probe())
        assert scene.used() == {SECOND}
    scene.arrives(scene.probe())
    assert scene.used() == {BEST, SECOND}


def test_a_path_that_dies_again_soon_has_to_prove_itself_for_longer(scene: Scene) -> None:
    scene.prober()

    def probes_needed(recovered: float, good: int) -> int:
        now = time.monotonic_ns()
        scene.seen(BEST, 100, recovered=now - round(recovered * SECOND_NS), good=good)
        scene.arrives(scene.probe())
        return int(scene.health(BEST).needed)

    assert probes_needed(101, 5) == 5
    assert probes_needed(1, 5) == 10
    assert probes_needed(1, 10) == 20
    assert probes_needed(1, 320) == 320


def test_a_path_that_is_not_probed_never_counts_as_dead(scene: Scene) -> None:
    scene.prober()
    scene.bench.plane.set_probed(BEST, False)
    scene.seen(SECOND, 100)
    assert scene.used() == {BEST}
    scene.bench.plane.set_probed(BEST, True)
    assert scene.used() == {BEST, SECOND}


def test_what_the_agent_says_of_it(scene: Scene) -> None:
    plane = scene.bench.plane

    def state(slot: int) -> str:
        return plane.health(slot, time.monotonic_ns()).state

    assert state(BEST) == "unknown"
    scene.prober(since=1)
    assert state(BEST) == "unknown"
    scene.arrives(scene.probe())
    assert state(BEST) == "alive" and plane.health(BEST, time.monotonic_ns()).received == 1
    scene.prober()
    scene.seen(BEST, 100)
    assert state(BEST) == "dead"
    scene.seen(BEST, 1, needed=5)
    assert state(BEST) == "dead"
    scene.prober(beat=100)
    assert state(BEST) == "unknown"


def own_probe(here: Any, tag: int, left: int = 0) -> bytes:
    """A probe of a client on this host, with a server's program before the client's."""
    body = p.udp(here, here, 40000, 40000, bytes(24))
    srh = bytearray(p.srh(p.UDP, [*SIDS[:2], here], body, left=left))
    struct.pack_into("!H", srh, 6, tag)
    return p.ipv6(here, here, p.ROUTING, bytes(srh))


def test_a_server_leaves_probes_to_the_client(server: Host) -> None:
    server.bench.expect("ingress", own_probe(server.here, TAG), "PROBE")
    server.bench.expect("ingress", own_probe(server.here, TAG, left=1), "SEGMENTS_LEFT")


def test_a_server_learns_nothing_from_what_this_host_sends_to_itself(server: Host) -> None:
    """Probes of `hawkwing ping` lose their SRH, so that the kernel delivers them."""
    body = p.udp(server.here, server.here, 40000, 40000, bytes(24))
    out = p.ipv6(server.here, server.here, p.UDP, body)
    server.bench.expect("ingress", own_probe(server.here, 0), "STRIPPED", "NOTHING_TO_LEARN", out=out)


@pytest.mark.parametrize(
    "dead", [(), (BEST,), (SECOND,), (BEST, SECOND), (BEST, THIRD), (BEST, SECOND, THIRD), tuple(PATHS)]
)
def test_what_the_agent_says_of_shares_is_what_the_programs_do(scene: Scene, dead: tuple[int, ...]) -> None:
    scene.prober()
    for slot in PATHS:
        scene.seen(slot, 100 if slot in dead else 1)
    lists = [tuple(sids) for sids in PATHS.values()]
    buckets = [lists[bucket % 2] for bucket in range(BUCKETS)]
    numbers = Selected(tuple((bytes([bucket]),) for bucket in range(BUCKETS)))
    host = scene.host
    for label in range(1, 60):
        packet = host.out(p.UDP, host.udp(PORT), label=label)
        ends = host.here.packed, host.there.packed, (LOCAL_PORT, PORT)
        ((number,),) = (path[0] for path in [numbers.of(label, *ends, p.UDP)])
        (sids,) = chosen({number: buckets[number]}, lists, 2, {tuple(PATHS[slot]) for slot in dead})
        assert scene.bench.run("egress", packet).packet == steered(packet, sids)


# --- probes that a STAMP reflector answers


@pytest.fixture
def stamped(scene: Scene) -> Scene:
    scene.prober()
    scene.bench.plane.set_stamp_port(STAMP)
    return scene


def test_a_reflected_probe_is_noted(stamped: Scene) -> None:
    """With the SRH of the way back, and from a server without a path."""
    for number, packet in enumerate(
        (stamped.with_srh(stamped.reflected()), stamped.host.arrived(p.UDP, stamped.reflected(ago=0.005))), 1
    ):
        assert stamped.arrives(packet)
        assert stamped.health(BEST).received == number
        assert 0.001 < stamped.health(BEST).last / SECOND_NS < 10


def test_the_reflectors_time_does_not_count(stamped: Scene) -> None:
    assert stamped.arrives(stamped.with_srh(stamped.reflected(ago=5, kept=0.75)))
    taken = stamped.health(BEST).last / SECOND_NS
    assert 4.25 <= taken < 4.75
    # Clocks that make no sense.
    for kept in (-0.5, 3):
        assert stamped.arrives(stamped.with_srh(stamped.reflected(slot=SECOND, ago=4.9, kept=kept)))
        assert stamped.health(SECOND).last / SECOND_NS >= 4.9
        stamped.bench.plane.set_probed(SECOND, True)


def test_what_is_no_answer_to_a_probe_goes_on(stamped: Scene) -> None:
    """To the stack: others on this host may measure, too."""
    datagram = stamped.reflected()
    for packet in (
        stamped.host.arrived(p.UDP, stamped.reflected(port=STAMP + 1)),
        stamped.host.arrived(p.UDP, stamped.reflected(key=KEY + 1)),
        stamped.host.arrived(p.UDP, datagram[:-1]),
        stamped.host.arrived(p.TCP, stamped.host.tcp()),
    ):
        outcome = stamped.bench.run("ingress", packet)
        assert outcome.counted == {"NO_ROUTING_HEADER": 1} and outcome.packet == packet
    strange = stamped.reflected(key=KEY + 1)
    stamped.bench.expect(
        "ingress", stamped.with_srh(strange), "STRIPPED", out=stamped.host.arrived(p.UDP, strange)
    )
    stamped.bench.expect("ingress", stamped.with_srh(datagram, left=1), "SEGMENTS_LEFT")
    assert stamped.health(BEST).received == 0


def test_without_a_port_no_answer_is_taken(scene: Scene) -> None:
    scene.prober()
    datagram = scene.reflected()
    scene.bench.expect(
        "ingress", scene.with_srh(datagram), "STRIPPED", out=scene.host.arrived(p.UDP, datagram)
    )
    scene.bench.plane.set_stamp_port(STAMP)
    assert scene.arrives(scene.with_srh(datagram))
