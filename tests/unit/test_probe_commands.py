"""`hawkwing paths`, `ping` and `trace`, without a kernel: times, texts, and what they choose."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hawkwing import candidates, paths
from hawkwing.cli import main
from hawkwing.client import Client
from hawkwing.config import Application, Config, Hawkeye, Service
from hawkwing.config_models import CandidatePath
from hawkwing.csid import Block
from hawkwing.dataplane.plane import Count, Health, Traffic
from hawkwing.errors import HawkwingError
from hawkwing.intents import Intent
from hawkwing.probing import chosen, ping, silence, trace
from hawkwing.probing.chosen import Chosen
from hawkwing.probing.prober import Arrival, Event, Failure
from hawkwing.probing.problems import Problem
from hawkwing.probing.rtt import Tally
from hawkwing.probing.run import Lane, Outcome, Pace, Run
from hawkwing.steering import Steering
from tests.unit.test_asking import Plane
from tests.unit.test_explain import LATENCY, OTHER, SID, SOURCE, THERE, steering, stream

A, B = IPv6Address("fcbb:cc00:1::a"), IPv6Address("fcbb:cc00:2::a")
R1, R2, R3 = (IPv6Address(f"fcbb:bb00:{n}::2") for n in (1, 2, 3))
GIVEN = Chosen((R1, R2, R3), A, "given")
NO_ROUTE = Problem(f"no route to {R3}", R2, R3)


# --- sending


class Network:
    """Answers as it is told: what becomes of a probe, by its number. Time passes only while it is waited."""

    def __init__(self, becomes: dict[int, tuple[float, Event | None]]) -> None:
        self._becomes = becomes
        self._coming: list[tuple[float, Event]] = []
        self.now = 100.0
        self.sent: list[tuple[float, int, bytes]] = []
        self.interrupted_at = 1e9

    def send(self, number: int, srh: bytes) -> None:
        self.sent.append((round(self.now - 100.0, 6), number, srh))
        delay, event = self._becomes.get(number, (0.0, None))
        if event is not None:
            self._coming.append((self.now + delay, event))

    def events(self, seconds: float) -> Iterator[Event]:
        end = min([self.now + seconds, *(at for at, _event in self._coming)])
        self.now = max(self.now, end)
        if self.now >= self.interrupted_at:
            raise KeyboardInterrupt
        due = [(at, event) for at, event in self._coming if at <= self.now]
        self._coming = [one for one in self._coming if one not in due]
        for _at, event in due:
            yield event


def run(network: Network, lanes: list[Lane], pace: Pace) -> list[Outcome]:
    told: list[Outcome] = []
    finished = Run(network, lanes, pace, told.append, lambda: network.now).run()
    assert finished is (network.now < network.interrupted_at)
    return told


def test_each_interval_a_probe_and_the_last_one_is_waited_for() -> None:
    network = Network({0: (0.1, Arrival(0, 0.1)), 1: (0.2, Arrival(1, 0.2))})
    lane = Lane(b"x")
    told = run(network, [lane], Pace(3, interval=1.0, wait=0.5))
    assert [(at, number) for at, number, _srh in network.sent] == [(0.0, 0), (1.0, 1), (2.0, 2)]
    assert told == [Outcome(0, 0, 0.1), Outcome(0, 1, 0.2), Outcome(0, 2)]
    assert network.now == pytest.approx(102.5)
    assert (lane.tally.sent, lane.tally.received) == (3, 2)


def test_an_answer_that_is_late_or_comes_twice() -> None:
    late = Network({0: (0.7, Arrival(0, 0.7)), 1: (0.1, Arrival(1, 0.1))})
    lane = Lane(b"x")
    assert run(late, [lane], Pace(2, 1.0, 0.5)) == [Outcome(0, 0), Outcome(0, 1, 0.1)]
    assert (lane.tally.sent, lane.tally.received, lane.tally.duplicates) == (2, 1, 0)
    twice = Network({0: (0.1, Arrival(0, 0.1)), 1: (0.1, Arrival(0, 1.1))})
    lane = Lane(b"x")
    run(twice, [lane], Pace(2, 1.0, 0.5))
    assert (lane.tally.sent, lane.tally.received, lane.tally.duplicates) == (2, 1, 1)


def test_a_failure_ends_the_waiting() -> None:
    network = Network({0: (0.1, Failure(0, NO_ROUTE))})
    lane = Lane(b"x")
    assert run(network, [lane], Pace(1, 1.0, 5.0)) == [Outcome(0, 0, problem=NO_ROUTE)]
    assert network.now == pytest.approx(100.1)
    assert (lane.tally.sent, lane.tally.received, lane.problem) == (1, 0, NO_ROUTE)


def test_the_lanes_share_the_interval() -> None:
    network = Network({n: (0.01, Arrival(n, 0.01)) for n in range(4)})
    lanes = [Lane(b"one"), Lane(b"two")]
    told = run(network, lanes, Pace(2, 1.0, 0.5))
    assert network.sent == [(0.0, 0, b"one"), (0.5, 1, b"two"), (1.0, 2, b"one"), (1.5, 3, b"two")]
    assert [(one.lane, one.number) for one in told] == [(0, 0), (1, 0), (0, 1), (1, 1)]


def test_what_is_on_its_way_at_ctrl_c_does_not_count() -> None:
    network = Network({0: (0.1, Arrival(0, 0.1))})
    network.interrupted_at = 101.2
    lane = Lane(b"x")
    run(network, [lane], Pace(None, 1.0, 10.0))
    assert len(network.sent) == 2
    assert (lane.tally.sent, lane.tally.received) == (1, 1)


# --- texts


def tally(*seconds: float, lost: int = 0) -> Tally:
    made = Tally()
    for one in seconds:
        made.came_back(one)
    for _ in range(lost):
        made.was_lost()
    return made


def test_a_line_for_each_probe() -> None:
    outcomes = [
        Outcome(0, 0, 0.001),
        Outcome(0, 1),
        Outcome(0, 2, problem=NO_ROUTE),
        Outcome(0, 0, 0.5, None, True),
    ]
    assert [ping.line(outcome) for outcome in outcomes] == [
        "seq=1 time=1.000 ms",
        "seq=2 no answer",
        f"seq=3 {R2} reports: no route to {R3}",
        "seq=1 time=500.0 ms (duplicate)",
    ]


def test_the_summary_is_like_pings() -> None:
    assert list(ping.summary(GIVEN, tally(0.001, 0.003, lost=1), 2.5)) == [
        f"--- {R1} > {R2} > {R3} and back ---",
        "3 probes sent, 2 came back, 33.33% loss, time 2500 ms",
        "rtt min/avg/max/mdev = 1.000/2.000/3.000/1.000 ms",
    ]
    assert len(list(ping.summary(GIVEN, tally(lost=1), 2.5))) == 2


def test_ping_as_json() -> None:
    lane = Lane(b"", tally(0.001, lost=1))
    told = ping.report(GIVEN, lane, [Outcome(0, 0, 0.001), Outcome(0, 1, problem=NO_ROUTE)], ["why"])
    assert told["segments"] == [str(sid) for sid in (R1, R2, R3, R2, R1)]
    assert (told["sent"], told["received"], told["loss_percent"], told["reasons"]) == (2, 1, 50.0, ["why"])
    assert told["probes"][0] == {"seq": 1, "rtt_ms": 1.0, "duplicate": False, "problem": None}
    assert told["probes"][1]["problem"]["reporter"] == str(R2)


ALIVE, DEAD = tally(0.001), tally(lost=2)


@pytest.mark.parametrize(
    ("tallies", "problem", "number", "told"),
    [
        ((ALIVE, ALIVE, ALIVE), None, None, "all segments answer; round trips in ms"),
        (
            (ALIVE, tally(0.001, lost=1), ALIVE),
            None,
            None,
            "all segments answer, with loss at segment 2; round trips in ms",
        ),
        (
            (ALIVE, ALIVE, DEAD),
            NO_ROUTE,
            2,
            f"the path fails at segment 3 ({R3}): {R2} reports: no route to {R3}, segment 2 ({R2}) answers",
        ),
        (
            (ALIVE, DEAD, DEAD),
            None,
            1,
            f"the path fails at segment 2 ({R2}): no answer, segment 1 ({R1}) answers; the router is down or "
            f"has no such SID, or the path between {R1} and {R2} is broken",
        ),
        (
            (DEAD, DEAD, DEAD),
            None,
            0,
            f"the path fails at segment 1 ({R1}): no answer; the router is down or has no such SID, "
            f"or the path to {R1} and back is broken",
        ),
        ((tally(), tally(), tally()), None, None, "interrupted before the first answer"),
        ((ALIVE, tally(), tally()), None, None, "interrupted: not all segments were probed"),
    ],
)
def test_what_a_trace_comes_to(
    tallies: tuple[Tally, ...], problem: Problem | None, number: int | None, told: str
) -> None:
    lanes = [Lane(b"", one, problem if one is DEAD else None) for one in tallies]
    failed = trace.first_failed(lanes)
    assert failed == number
    assert trace.verdict(GIVEN, lanes, failed) == told


def test_the_table_has_a_segment_a_line() -> None:
    lanes = [Lane(b"", tally(0.001)), Lane(b"", tally(0.003, 0.005, lost=2)), Lane(b"", DEAD, NO_ROUTE)]
    head, *rows = trace.table(GIVEN, lanes)
    assert head.split() == ["#", "segment", "loss", "last", "avg", "min", "max", "mdev", "adds"]
    assert rows[0].split() == ["1", str(R1), "0%", "1.000", "1.000", "1.000", "1.000", "0.000", "+1.000"]
    assert rows[1].split()[2:] == ["50%", "5.000", "4.000", "3.000", "5.000", "1.000", "+3.000"]
    assert rows[2].split(maxsplit=3)[2:] == ["100%", f"{R2} reports: no route to {R3}"]


def test_trace_as_json() -> None:
    lanes = [Lane(b"", ALIVE), Lane(b"", ALIVE), Lane(b"", DEAD, NO_ROUTE)]
    told = trace.report(GIVEN, lanes, 2, [], [Lane(b"", DEAD)], None)
    assert [one["sid"] for one in told["segments"]] == [str(R1), str(R2), str(R3)]
    assert told["failed_segment"] == 3 and told["segments"][2]["problem"]["active_segment"] == str(R3)
    assert told["ioam"] == {"rtt_ms": None, "hops": [], "problem": trace.NO_IOAM}


# --- why nothing comes back


def agent(*sr_domain: str, role: str = "client") -> dict[str, Any]:
    return {"role": role, "sr_domain": list(sr_domain)}


@pytest.mark.parametrize(
    ("agents", "kernel", "told"),
    [
        ([], True, None),
        ([], False, "no agent runs here, and seg6_enabled is 0"),
        ([agent()], False, None),
        ([agent("fcbb::/16")], False, None),
        ([agent("fcbb:bb00::/32")], False, f"{A} is outside its SR domain (client)"),
        ([agent("fcbb:cc00::/32")], False, f"{R1} is outside its SR domain (client)"),
        ([agent("fcbb:cc00::/32")], True, None),
        ([agent("fcbb:cc00::/32"), agent(role="server")], False, None),
    ],
)
def test_reasons_that_are_certain(agents: list[dict[str, Any]], kernel: bool, told: str | None) -> None:
    found = silence.certain(GIVEN, agents, kernel)
    assert bool(found) is (told is not None)
    assert told is None or told in found[0]


def test_sids_outside_the_default_are_not_accepted() -> None:
    outside = Chosen((IPv6Address("2001:db8::1"),), A, "given")
    assert silence.refusal(outside, []) == "2001:db8::1 is outside its SR domain"


@pytest.mark.parametrize(
    ("everywhere", "link", "loopback", "accepts"),
    [("1", "1", "0", True), ("1", "0", "1", False), ("0", "1", "1", False)],
)
def test_what_the_kernel_accepts(
    tmp_path: Path, everywhere: str, link: str, loopback: str, accepts: bool
) -> None:
    for name, value in (("all", everywhere), ("eth0", link), ("lo", loopback), ("default", "1")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "seg6_enabled").write_text(f"{value}\n")
    assert silence.kernel_accepts(tmp_path) is accepts
    assert not silence.kernel_accepts(tmp_path / "none")


def test_uncertain_reasons_name_the_reverse_path_filter() -> None:
    assert "source is the receiver's own address (uRPF)" in silence.MAY_BE


# --- what an agent answers, and what is made of it


class Counting(Plane):
    """Each path has sent as many packets as its slot's number, of a hundred bytes."""

    csid = (Block(IPv6Network("fd00::/16")),)

    def path_count(self, slot: int) -> Count:
        return Count(slot, 100 * slot)


def answer(made: Any, stream_: Any, destination: object, port: int | None) -> dict[str, Any]:
    return candidates.of_destination(Counting(), made, stream_, str(destination), port)  # type: ignore[arg-type]


def test_all_ports_of_an_address() -> None:
    found = answer(steering(), stream("connected"), THERE, None)
    assert found["notes"] == []
    assert [one["port"] for one in found["bindings"]] == [80, 81, 82]
    assert found["csid"] == [{"block": "fd00::/16", "local": 0xE000}]
    first, second, _third = found["bindings"]
    assert (first["origin"], first["sids"], first["source"]) == ("backup", [str(SID)] * 2, str(SOURCE))
    assert first["packets"] > 0
    assert first["candidates"] == [
        {"origin": "controller", "sids": [], "in_use": False, "state": "it returned no path"},
        {"origin": "backup", "sids": [str(SID)] * 2, "in_use": True, "state": "in use"},
    ]
    assert (second["origin"], second["sids"], second["packets"]) == ("none", [], 0)


def test_the_controllers_path_comes_first() -> None:
    made = steering()
    (query,) = {query for query in made.queries() if query.intents == LATENCY}
    made.set_controller_path(query, (OTHER,))
    (found,) = answer(made, stream("connected"), THERE, 80)["bindings"]
    assert found["why"].startswith("the controller's path for low-latency")
    assert [(one["origin"], one["in_use"], one["state"]) for one in found["candidates"]] == [
        ("controller", True, "in use"),
        ("backup", False, "backup"),
    ]


class Probed(Counting):
    """Probes return on each path in the milliseconds of its slot's number, and TCP loses as many segments."""

    def health(self, slot: int, _now: int) -> Health:
        return Health("alive", 100 + slot, slot / 1000, slot / 2000)

    def traffic(self, slot: int) -> Traffic:
        return Traffic(slot / 500, 125.0 * slot, 1000 * slot, slot)


def with_paths(*intents: Intent) -> Steering:
    several = (
        CandidatePath(name="upper", sid=(R1, R2), preference=200, weight=2),
        CandidatePath(sid=(R3,), preference=200),
        CandidatePath(sid=(R1,)),
    )
    application = Application(port=80, paths=several, intents=intents)
    web = Service(ipv6_addresses=(THERE,), applications=(application,))
    made = Steering(Probed())  # type: ignore[arg-type]
    made.apply(Config(hawkeye=Hawkeye(enabled=True, address=OTHER, port=1), services={"web": web}), SOURCE)
    return made


def candidates_of(made: Steering) -> list[Any]:
    plane: Any = Probed()
    (binding,) = candidates.of_destination(plane, made, stream("connected"), str(THERE), 80)["bindings"]
    return list(binding["candidates"])


def test_of_several_paths_there_is_more_to_tell() -> None:
    def figures(slot: int | None) -> dict[str, Any]:
        known = slot is not None
        health = {
            "state": "alive" if known else "unknown",
            "probes_received": 100 + slot if known else 0,
            "rtt_ms": slot,
            "jitter_ms": slot / 2 if known else None,
            "loss_percent": None,
        }
        tcp = {
            "rtt_ms": 2 * slot if known else None,
            "rate_kbps": slot,
            "acknowledged_bytes": 1000 * (slot or 0),
            "retransmitted_segments": slot or 0,
        }
        return {"packets": slot or 0, "health": health, "tcp": tcp}

    made = with_paths()
    slots = [made.slot_of_path(sids) for sids in ((R1, R2), (R3,), (R1,))]
    assert slots[2] is None
    keys = ("sids", "in_use", "state", "share_percent", "preference", "weight")
    rows = (
        ([str(R1), str(R2)], True, "in use", 66.4, 200, 2),
        ([str(R3)], True, "in use", 33.6, 200, 1),
        ([str(R1)], False, "lower preference", 0.0, 100, 1),
    )
    expected = [
        {"origin": "backup", **dict(zip(keys, row, strict=True)), **figures(slot)}
        for row, slot in zip(rows, slots, strict=True)
    ]
    assert candidates_of(made) == [{**expected[0], "name": "upper"}, *expected[1:]]


def test_a_path_of_the_controller_beside_several() -> None:
    made = with_paths(*LATENCY)
    (query,) = made.queries()
    missing, *_paths = candidates_of(made)
    assert missing == {"origin": "controller", "sids": [], "in_use": False, "state": "it returned no path"}
    made.set_controller_path(query, (OTHER,))
    first, *others = candidates_of(made)
    assert (first["origin"], first["in_use"], first["share_percent"]) == ("controller", True, 100.0)
    assert not {"preference", "weight", "name"} & first.keys()
    assert [one["state"] for one in others] == ["backup"] * 3


@pytest.mark.parametrize(
    ("destination", "port", "told"),
    [
        (
            THERE,
            1,
            f"packets to [{THERE}]:1 are sent without an SRH: no application of the service has port 1",
        ),
        (OTHER, None, f"packets to {OTHER} are sent without an SRH: destination matches no service"),
        (OTHER, 80, f"packets to [{OTHER}]:80 are sent without an SRH: destination matches no service"),
        ("b.example", None, "packets to b.example are sent without an SRH: no service has this name"),
        ("a.example", 82, "a.example is configured, but has not been resolved yet"),
    ],
)
def test_destinations_without_a_path(destination: object, port: int | None, told: str) -> None:
    found = answer(steering(), None, destination, port)
    assert (found["bindings"], found["notes"]) == ([], [told])
    blocks = [] if isinstance(destination, str) else [{"block": "fd00::/16", "local": 0xE000}]
    assert found["csid"] == blocks


@pytest.mark.parametrize("request_", [{}, {"destination": 1}, {"destination": "a", "port": "²"}])
def test_a_request_that_nobody_should_send(request_: dict[str, Any]) -> None:
    with pytest.raises(HawkwingError, match="a destination and a port are needed"):
        Client.paths(SimpleNamespace(), request_)  # type: ignore[arg-type]


def sample(at: float, packets: int, sids: tuple[str, ...] = ("fd00::1",), pid: int = 1) -> paths.Sample:
    binding = {
        "service": "web",
        "address": str(B),
        "port": 80,
        "sids": list(sids),
        "packets": packets,
        "origin": "backup",
        "why": "the configured sid; no controller is asked",
        "since": 0.0,
        "candidates": [{"origin": "backup", "sids": list(sids), "in_use": True, "state": "in use"}],
    }
    told = {
        "interfaces": ["eth0"],
        "pid": pid,
        "problems": [],
        "notes": [],
        "csid": [],
        "bindings": [binding],
    }
    return paths.Sample(at, [told])


@pytest.mark.parametrize(
    ("before", "after", "rate"),
    [
        (sample(1.0, 10), sample(3.0, 20), 5.0),
        (sample(1.0, 10), sample(3.0, 4), 2.0),
        (sample(1.0, 10, ("fd00::2",)), sample(3.0, 20), None),
        (sample(1.0, 10, pid=2), sample(3.0, 20), None),
        (sample(1.0, 0, ()), sample(3.0, 0, ()), None),
    ],
)
def test_packets_per_second(before: paths.Sample, after: paths.Sample, rate: float | None) -> None:
    ((binding,),) = (one["bindings"] for one in paths.with_rates(before, after))
    assert binding["packets_per_second"] == rate


def test_paths_as_text() -> None:
    (told,) = paths.with_rates(sample(1.0, 10), sample(3.0, 20))
    told["bindings"][0]["candidates"].insert(
        0, {"origin": "controller", "sids": [], "in_use": False, "state": "it is not connected"}
    )
    told["problems"] = ["warning: this"]
    shown = list(paths.lines([told]))
    assert shown[:3] == [
        "warning: this",
        f"[{B}]:80 (service web)",
        "    controller  (not in use: it is not connected)",
    ]
    assert shown[3].startswith("  * configured  fd00::1  (in use since ") and shown[3].endswith(
        ", 5.0 packets/s)"
    )
    assert shown[4:] == ["    the configured sid; no controller is asked"]
    assert next(iter(paths.lines([told, told]))) == "client on eth0"


def test_a_path_is_chosen_by_its_destination() -> None:
    two = [*sample(1.0, 1).answers, *sample(1.0, 1, ("fd00::2",)).answers]
    found = chosen.from_answers(two, A)
    assert (found.sids, found.source, found.destination) == ((IPv6Address("fd00::1"),), A, f"[{B}]:80")
    assert found.notes == (f"other paths are not probed: [{B}]:80; name the address",)
    (first, *_others) = two
    binding = {**first["bindings"][0], "sids": ["fd00:1:2::"]}
    block = {"block": "fd00::/16", "local": 0xE000}
    compressed = chosen.from_answers([{**first, "csid": [block], "bindings": [binding]}], A)
    assert list(map(str, compressed.sids)) == ["fd00:1::", "fd00:2::"]
    assert compressed.blocks == (Block(IPv6Network("fd00::/16")),)
    with pytest.raises(
        HawkwingError, match=rf"^packets to \[{B}\]:80 are sent without an SRH: the configured"
    ):
        chosen.from_answers(sample(1.0, 0, ()).answers, A)


# --- the command line


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["ping"],
            "give a destination and a port, or a list with --sid, for example: hawkwing ping wb.hawk.net 80",
        ),
        (["trace", "wb.hawk.net"], "the port is missing, for example: hawkwing trace wb.hawk.net 80"),
        (["ping", "wb.hawk.net", "80", "--sid", "fd00::1"], "give a destination or --sid, not both"),
        (
            ["ping", "--sid", "fd00::1", "--source", "2001:db8::99"],
            "2001:db8::99 is not an address of this host",
        ),
        (
            ["ping", "wb.hawk.net", "80", "--csid", "fcbb:bb00::/32"],
            "--csid needs --sid: with a destination the blocks of its client are used",
        ),
    ],
)
def test_wrong_words(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 1
    assert capsys.readouterr().err == f"hawkwing: {told}\n"


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("--sid", "fd00::1,,fd00::2", "'fd00::1,,fd00::2' has an empty SID: write A,B,C"),
        ("--sid", ",".join(["fd00::1"] * 16), "a segment list has at most 15 SIDs, not 16"),
        ("--sid", "fe80::1", "fe80::1 is link-local"),
        ("--source", "x", "x is not an IPv6 address"),
        ("-i", "0", "0 is not a valid time, use 0.001 to 3600 seconds"),
        ("-W", "-1", "-1 is not a valid time"),
        ("-W", "nan", "nan is not a valid time"),
        ("-c", "0", "0 is not a valid number of probes, use 1 to"),
        ("-c", "²", "² is not a valid number of probes"),
        ("--size", "5", "5 is not a valid size, use 20 to 65000"),
    ],
)
def test_wrong_options(option: str, value: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["ping", option, value])
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


def test_an_ioam_namespace_has_16_bits(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["trace", "--ioam-namespace", "65536"])
    assert "65536 is not a valid namespace ID, use 0 to 65535" in capsys.readouterr().err


def test_services_of_several_names_share_nothing() -> None:
    """Two services with one address: the first one's application has the port."""
    apps = (Application(port=80, sid=(SID,)),)
    made = steering(enabled=False)
    made.apply(
        Config(
            hawkeye=Hawkeye(),
            services={
                "one": Service(ipv6_addresses=(THERE,), applications=apps),
                "two": Service(ipv6_addresses=(THERE,), applications=(Application(port=81, sid=(OTHER,)),)),
            },
        ),
        None,
    )
    found = answer(made, None, THERE, None)["bindings"]
    assert [(one["service"], one["port"], one["sids"]) for one in found] == [
        ("one", 80, [str(SID)]),
        ("two", 81, [str(OTHER)]),
    ]
