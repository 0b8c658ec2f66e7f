"""The pure parts of the bench: medians and ratios over rounds, rows, JSON, and what is built to be sent."""

import json
from ipaddress import IPv6Address
from math import isnan, nan
from pathlib import Path
from random import Random

import pytest
from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrSegmentRouting
from scapy.layers.l2 import Ether

from hawkwing.config import load_config
from hawkwing.sids import ready_srh
from lab.bench import figures, floor, flows, machine, probes, report, switch, ways
from lab.bench.figures import Series
from lab.bench.traffic import DATAGRAM_PORT, FOREIGN_PORT, PORT
from lab.network import Lab

SIDS = [IPv6Address("fcbb:bb00:3::2"), IPv6Address("fcbb:bb00:6::2")]


def series(**rounds: list[float]) -> Series:
    made = Series("speed", "Gbit/s")
    for way, values in rounds.items():
        for value in values:
            made.add(way, value)
    return made


def test_median_of_rounds() -> None:
    assert series(a=[3, 100, 1]).median("a") == 3
    assert series(a=[1, 2]).median("a") == 1.5
    assert series(a=[nan, 7]).median("a") == 7
    assert isnan(series(a=[1]).median("b"))


def test_ratio_is_taken_within_rounds() -> None:
    """The second round was ten times slower for both ways: that says nothing of either."""
    assert series(a=[9, 0.8, 8], b=[10, 1, 10]).ratio("a", "b") == pytest.approx(0.8)
    assert figures.ratio([9, 18], [10, 20]) == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("above", "below", "expected"),
    [([1, 2], [2, 0], 0.5), ([nan, 1], [1, 4], 0.25), ([3, 4], [6], 0.5), ([0, 1], [1, 2], 0.5)],
)
def test_rounds_that_failed_are_left_out(above: list[float], below: list[float], expected: float) -> None:
    assert figures.ratio(above, below) == expected


def test_no_ratio_without_rounds() -> None:
    assert isnan(figures.ratio([], []))
    assert isnan(series(a=[1]).ratio("a", "b"))


def test_turns_that_lost_processor_time_are_taken_again() -> None:
    """Only turns with the same count before and behind them are believed."""
    stolen = iter([5, 9, 9, 10, 12, 12]).__next__
    assert machine.undisturbed(iter([1.0, 2.0, 3.0]).__next__, stolen) == 3.0
    assert isnan(machine.undisturbed(iter([1.0] * 4).__next__, iter(range(8)).__next__))


def test_stolen_time_is_that_of_the_kernel() -> None:
    before = machine.stolen_seconds()
    assert 0 <= before <= machine.stolen_seconds()


def test_bounds_of_a_median() -> None:
    """Ranks 40 and 61 of a hundred: less than that is in the tails 2.5 times of a hundred each."""
    ratios = [number / 100 for number in range(1, 101)]
    Random(1).shuffle(ratios)
    assert figures.bounds(ratios, [1.0] * 100) == pytest.approx((0.40, 0.61))
    assert figures.bounds(ratios, [0.0, *[1.0] * 99]) != (nan, nan)
    assert all(isnan(end) for end in figures.bounds(ratios[:11], [1.0] * 11))
    measured = series(a=ratios, b=[2.0] * 100)
    assert figures.row(measured, ["b"], [("a", "b")])[-1] == "0.25 (0.20 to 0.30)"


def test_bounds_hold_as_often_as_they_say() -> None:
    """Of medians whose truth is known, about one in twenty lies outside."""
    chance, outside = Random(2), 0
    for _ in range(1000):
        low, high = figures.bounds([chance.random() for _ in range(30)], [1.0] * 30)
        outside += not low <= 0.5 <= high
    assert 10 <= outside <= 75


@pytest.mark.parametrize(
    ("value", "text"),
    [(17.26, "17.3"), (0.9514, "0.951"), (118.4, "118"), (1072.0, "1072"), (3.0, "3"), (nan, "-")],
)
def test_three_digits_are_shown(value: float, text: str) -> None:
    assert figures.shown(value) == text


def test_row() -> None:
    measured = series(kernel=[10, 20, 30], ours=[9, 16, 33])
    assert figures.row(measured, ["kernel", "ours", "absent"], [("ours", "kernel"), ("ours", "absent")]) == [
        *("speed, Gbit/s", "20", "16", "-"),
        *("0.90", "-"),
    ]


@pytest.mark.parametrize(
    ("before", "after", "expected"), [((100, 5), (10_100, 105), 100.0), ((0, 0), (20, 20), 1.0)]
)
def test_nanoseconds_a_run(before: tuple[int, int], after: tuple[int, int], expected: float) -> None:
    assert figures.per_run(before, after) == expected


def test_a_program_that_hardly_ran_has_no_figure() -> None:
    assert isnan(figures.per_run((0, 0), (19_000, 19)))
    assert isnan(figures.per_run((5, 5), (5, 5)))


def test_json_has_every_round_and_no_nan() -> None:
    results = report.Results(quick=True, links=["a-b"], flows_known={"1,000 flows": 1000})
    measured = Series("TCP, 1 stream", "Gbit/s")
    for way, value in zip(switch.WAYS, (20.123456, 16, 15, nan), strict=True):
        measured.add(way, value)
    results.throughput = [measured]
    told = json.loads(report.as_json(results, {"kernel": "6"}, 12.34))
    (one,) = told["throughput"]
    assert one["rounds"] == {
        "unsteered": [20.12],
        "kernel seg6": [16.0],
        "wired floor": [15.0],
        "HawkWing": [None],
    }
    assert one["median"]["HawkWing"] is None
    assert one["ratio"]["wired floor/kernel seg6"] == pytest.approx(0.9375, abs=0.0001)
    assert one["ratio"]["HawkWing/kernel seg6"] is None
    assert one["ratio_95"]["wired floor/kernel seg6"] == [None, None]
    assert (told["environment"], told["lasted_s"], told["quick"]) == ({"kernel": "6"}, 12.3, True)


def test_environment_names_the_machine() -> None:
    machine = report.environment()
    assert all(machine[key] for key in ("date", "kernel", "processor", "cores", "memory_gb", "python"))


TITLES = {
    "throughput": "Throughput",
    "encapsulation": "Encapsulation",
    "programs": "HawkWing's programs",
    "floor": "Compared with the floor",
    "hooks": "Ingress hooks",
    "flows": "Learned flows",
    "starts": "Start",
    "scale": "Scale",
    "pushes": "Pushed paths",
    "probes": "Probes",
    "memory": "Memory",
    "routers": "Kinds of routers",
}


@pytest.mark.parametrize("part", TITLES)
def test_a_table_is_shown_for_what_was_measured_only(part: str, capsys: pytest.CaptureFixture[str]) -> None:
    results = report.Results(quick=True)
    assert not results.measured
    setattr(results, part, [Series("some", "s")])
    assert results.measured
    report.show(results, {"kernel": "6"}, report.terminal())
    printed = capsys.readouterr().out
    assert [title for title in TITLES.values() if f"\n{title} " in printed] == [TITLES[part]]


@pytest.mark.parametrize(("way", "lists"), [(probes.IDLE, 104), (probes.SHARED, 8), (probes.DIFFERENT, 104)])
def test_what_is_probed(way: str, lists: int, tmp_path: Path) -> None:
    file = tmp_path / "probes.yaml"
    file.write_text(probes.configuration(way))
    config = load_config(file)
    applications = [app for service in config.services.values() for app in service.applications]
    paths = [path.sid for app in applications for path in app.paths]
    assert len(paths) == probes.PATHS and len(set(paths)) == lists
    assert (config.probes is None) == (way == probes.IDLE)


def test_the_floor_writes_the_same_srh() -> None:
    destination = IPv6Address("fcbb:cc00:2::a")
    text = floor.source_text(SIDS, destination)
    srh = ready_srh(SIDS)[:8] + destination.packed + ready_srh(SIDS)[24:]
    for number in range(7):
        word = int.from_bytes(srh[8 * number : 8 * number + 8], "little")
        assert text.count(f"srh[{number}] = {word:#x}ULL;") == 2
    assert "@" not in text


def test_packets_of_learned_flows() -> None:
    arrived, left = Ether(flows.arriving(SIDS)), Ether(flows.leaving())
    near, far = arrived[IPv6].dst, arrived[IPv6].src
    srh = arrived[IPv6ExtHdrSegmentRouting]
    assert srh.addresses == [near, *map(str, reversed(SIDS))]
    assert (srh.segleft, srh.lastentry) == (0, 2)
    assert (left[IPv6].src, left[IPv6].dst) == (near, far)
    assert (left[UDP].sport, left[UDP].dport) == (arrived[UDP].dport, arrived[UDP].sport)
    assert left[IPv6].plen == 8 + 64
    assert arrived[IPv6].plen == left[IPv6].plen + 56


@pytest.mark.parametrize("with_controller", [False, True])
def test_the_clients_configuration_is_a_right_one(tmp_path: Path, with_controller: bool) -> None:
    file = tmp_path / "client.yaml"
    file.write_text(ways.configuration(Lab("bench"), with_controller))
    config = load_config(file, {}, require_services=True)
    (service,) = config.services.values()
    ports = {application.port for application in service.applications}
    assert ports == {PORT, DATAGRAM_PORT}
    assert FOREIGN_PORT not in ports
    assert all(list(application.sid) == SIDS for application in service.applications)
    assert config.hawkeye.enabled == with_controller
