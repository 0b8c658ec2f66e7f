"""Several paths for one application: each flow has one of them, by flow label and ports."""

from collections import Counter
from collections.abc import Iterator

import pytest

from hawkwing.dataplane.layout import limits
from hawkwing.selections import Contents, spread
from hawkwing.sids import SidList, overhead, srh_length
from tests.dataplane import packets as p
from tests.dataplane.bench import MTU, Bench
from tests.dataplane.model_tables import Selected
from tests.dataplane.packets import steered
from tests.dataplane.scene import GROUP, LOCAL_PORT, PATHLESS, SIDS, STEERED, Host

BUCKETS = 1 << limits()["HW_BUCKET_BITS"]
SEVERAL = 8000
UPPER, LOWER = tuple(SIDS[:2]), tuple(SIDS[4:9])
FLOWS = 10_000


def select(bench: Bench, weights: dict[SidList, int], number: int = 3, port: int = SEVERAL) -> None:
    """Divides a port's flows among these lists."""
    slots = {sids: 100 + index for index, sids in enumerate(weights)}
    for sids, slot in slots.items():
        bench.plane.set_policy(slot, sids)
    buckets = [slots[sids] for sids in spread(weights, BUCKETS)]
    longest = max(overhead(sids) for sids in weights)
    bench.plane.set_selection(number, Contents(buckets, list(slots.values()), len(slots), longest))
    bench.plane.select_route(GROUP, port, (p.TCP, p.UDP), number)


@pytest.fixture
def several(client: Host) -> Iterator[Host]:
    select(client.bench, {UPPER: 1, LOWER: 1})
    yield client
    client.bench.plane.remove_route(GROUP, SEVERAL, (p.TCP, p.UDP))


def as_bytes(sids: SidList) -> tuple[bytes, ...]:
    return tuple(sid.packed for sid in sids)


def sent(host: Host, label: int, sport: int = LOCAL_PORT, **fields: int) -> bytes:
    body = p.udp(host.here, host.there, sport, SEVERAL, b"hello")
    return host.out(p.UDP, body, label=label, **fields)


def path_of(host: Host, packet: bytes) -> SidList:
    """The list that the packet has got."""
    out = host.bench.run("egress", packet).packet
    for sids in (UPPER, LOWER):
        if out == steered(packet, sids):
            return sids
    raise AssertionError(f"neither path: {out.hex()}")


def test_a_flow_keeps_its_path_and_another_label_can_have_another(several: Host) -> None:
    first = path_of(several, sent(several, 0x12345))
    assert {path_of(several, sent(several, 0x12345)) for _ in range(20)} == {first}
    assert {path_of(several, sent(several, label)) for label in range(1, 40)} == {UPPER, LOWER}


def test_without_a_label_the_ports_decide(several: Host) -> None:
    first = path_of(several, sent(several, 0, 5000))
    assert {path_of(several, sent(several, 0, 5000)) for _ in range(20)} == {first}
    assert {path_of(several, sent(several, 0, port)) for port in range(5000, 5040)} == {UPPER, LOWER}


def test_the_traffic_class_does_not_decide(several: Host) -> None:
    for label in range(1, 20):
        plain = path_of(several, sent(several, label))
        assert path_of(several, sent(several, label, traffic_class=0xB8)) == plain


def test_other_ports_have_their_own_path(several: Host) -> None:
    for label in range(20):
        packet = several.out(p.UDP, several.udp(STEERED), label=label)
        several.bench.expect("egress", packet, "STEERED", out=steered(packet, SIDS[:2]))
        packet = several.out(p.UDP, several.udp(PATHLESS), label=label)
        several.bench.expect("egress", packet, "NO_PATH")


@pytest.mark.parametrize("weights", [(1, 1), (1, 2), (1, 9), (3, 5)])
def test_shares_are_right_within_two_percent(client: Host, weights: tuple[int, int]) -> None:
    """Over 10,000 flows, as the model divides them: the programs do it alike for each one tried."""
    lists = dict(zip((UPPER, LOWER), weights, strict=True))
    select(client.bench, lists)
    model = Selected(tuple(as_bytes(sids) for sids in spread(lists, BUCKETS)))
    got: Counter[tuple[bytes, ...]] = Counter()
    for number in range(FLOWS):
        label, sport = number * 7919 % (1 << 20), 1024 + number * 31 % 60_000
        source, target = client.here.packed, client.there.packed
        path = model.of(label, source, target, (sport, SEVERAL), p.UDP)
        got[path] += 1
        if number % 100 == 0:
            assert as_bytes(path_of(client, sent(client, label, sport))) == path
    for sids, weight in lists.items():
        assert abs(got[as_bytes(sids)] / FLOWS - weight / sum(weights)) < 0.02, got


def test_both_fragments_have_the_path_of_their_datagram(several: Host) -> None:
    for number in range(1, 40):
        body = p.udp(several.here, several.there, LOCAL_PORT, SEVERAL, bytes(1000))
        first = p.fragment(p.UDP, body[:512], more=True, identification=number)
        later = p.fragment(p.UDP, body[512:], offset=512, identification=number)
        pieces = [several.out(p.FRAGMENT, piece, label=number) for piece in (first, later)]
        assert len({path_of(several, piece) for piece in pieces}) == 1


def test_the_mss_leaves_room_for_the_longest(several: Host) -> None:
    """The connection may get another path at any time."""
    room = MTU - 60 - srh_length(LOWER)
    for label in range(1, 20):

        def packet(value: int, label: int = label) -> bytes:
            body = several.tcp(SEVERAL, flags=p.SYN, option_bytes=p.mss(value))
            return several.out(p.TCP, body, label=label)

        path = path_of(several, packet(room))
        out = steered(packet(room), path)
        several.bench.expect("egress", packet(1440), "MSS_CLAMPED", "STEERED", out=out, on_port=True)
    answer = p.tcp(
        several.there, several.here, SEVERAL, LOCAL_PORT, flags=p.SYN_ACK, option_bytes=p.mss(1440)
    )
    fits = p.tcp(several.there, several.here, SEVERAL, LOCAL_PORT, flags=p.SYN_ACK, option_bytes=p.mss(room))
    out = several.arrived(p.TCP, fits)
    done = ("NO_ROUTING_HEADER", "MSS_CLAMPED")
    several.bench.expect("ingress", several.arrived(p.TCP, answer), *done, out=out, on_port=True)


def test_a_known_flow_moves_when_the_selection_does(several: Host) -> None:
    """What each CPU remembers of a route is the selection, not the path."""
    packets = [sent(several, label) for label in range(1, 30)]
    assert {path_of(several, packet) for packet in packets} == {UPPER, LOWER}
    select(several.bench, {UPPER: 1}, number=4)
    assert {path_of(several, packet) for packet in packets} == {UPPER}


def test_a_bucket_without_a_path_and_a_selection_that_is_none(client: Host) -> None:
    bench = client.bench
    bench.plane.set_selection(5, Contents([limits()["HW_NO_SLOT"]] * BUCKETS, [], 0, 1))
    bench.plane.select_route(GROUP, SEVERAL, (p.UDP,), 5)
    bench.expect("egress", sent(client, 7), "NO_PATH")
    bench.expect("egress", sent(client, 7), "NO_PATH")
    bench.plane.select_route(GROUP, SEVERAL, (p.UDP,), 1 << 20)
    bench.expect("egress", sent(client, 7), "NO_PATH")
