"""`hawkwing paths --measure`: which lists are probed, when, and what is shown of each candidate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from hawkwing import paths, status_schema
from hawkwing.cli import main, parser
from hawkwing.errors import HawkwingError
from hawkwing.probing import lists, measure
from hawkwing.probing.measure import Key, Probers, key_of
from hawkwing.probing.prober import Arrival, Event, Failure
from hawkwing.probing.problems import Problem
from hawkwing.status_model import Paths
from tests.schemas import closed

A, OTHER = IPv6Address("fcbb:cc00:1::a"), IPv6Address("fcbb:cc00:1::b")
B, C = "fcbb:cc00:2::a", "fcbb:cc00:3::a"
UPPER, LOWER = ("fcbb:bb00:1::2", "fcbb:bb00:2::2"), ("fcbb:bb00:1::2", "fcbb:bb00:3::2")
TOO_BIG = Problem("Packet Too Big, the next link carries 1300 bytes", IPv6Address(LOWER[0]), None, 1300)


def at(sids: Sequence[str], address: str = B, pid: int = 1) -> Key:
    """The key of a candidate."""
    return pid, address, tuple(map(IPv6Address, sids))


def candidate(sids: Sequence[str], used: bool = False, origin: str = "backup") -> dict[str, Any]:
    state = "in use" if used else "backup"
    return {"origin": origin, "sids": list(sids), "in_use": used, "state": state}


def binding(address: str, *candidates: dict[str, Any], port: int = 80) -> dict[str, Any]:
    used = next((one for one in candidates if one["in_use"]), None)
    return {
        "service": "web",
        "address": address,
        "port": port,
        "intents": [],
        "origin": used["origin"] if used else "none",
        "sids": used["sids"] if used else [],
        "segments": used["sids"] if used else [],
        "source": None,
        "since": 0.0,
        "why": "so",
        "packets": 0,
        "packets_per_second": None,
        "candidates": list(candidates),
    }


def answer(*bindings: dict[str, Any], pid: int = 1, csid: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    return {
        "interfaces": ["eth0"],
        "pid": pid,
        "problems": [],
        "notes": [],
        "csid": list(csid),
        "bindings": list(bindings),
    }


class Network:
    """All probers of a run: what becomes of a probe, by its source and list; nothing takes time."""

    def __init__(self, becomes: dict[tuple[IPv6Address, bytes], float | Problem]) -> None:
        self._becomes = becomes
        self._coming: list[Event] = []
        self.sent: list[tuple[IPv6Address, bytes]] = []
        self.sources: list[IPv6Address] = []
        self.size = 0

    def __call__(self, sources: Sequence[IPv6Address], size: int) -> Network:
        self.sources, self.size = list(sources), size
        return self

    def send(self, number: int, srh: bytes) -> None:
        one = self.sources[number % len(self.sources)], srh
        self.sent.append(one)
        found = self._becomes.get(one)
        if isinstance(found, Problem):
            self._coming.append(Failure(number, found))
        elif found is not None:
            self._coming.append(Arrival(number, found))

    def events(self, _seconds: float) -> Iterator[Event]:
        coming, self._coming = self._coming, []
        yield from coming

    def close(self) -> None: ...


def srh(sids: Sequence[str]) -> bytes:
    return lists.probe_srh([IPv6Address(sid) for sid in sids])


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Network:
    """The upper path takes 5 ms, a packet is too big for the lower one, and from OTHER nothing comes back."""
    made = Network({(A, srh(UPPER)): 0.005, (A, srh(LOWER)): TOO_BIG})
    monkeypatch.setattr(measure, "Probers", made)
    monkeypatch.setattr(measure, "source_to", lambda there: {B: A, C: OTHER}.get(str(there)))
    monkeypatch.setattr(measure, "INTERVAL", 0.001)
    monkeypatch.setattr(measure, "WAIT", 0.02)
    monkeypatch.setattr(measure.silence, "kernel_accepts", lambda: True)
    monkeypatch.setenv("HAWKWING_RUN", str(tmp_path))
    return made


def test_all_candidates_in_turn(network: Network) -> None:
    asked = answer(binding(B, candidate(UPPER, True, "controller"), candidate(LOWER)))
    found = measure.measure([asked], 3, 56)
    assert network.sent == [(A, srh(UPPER)), (A, srh(LOWER))] * 3 and network.size == 56
    upper, lower = found[at(UPPER)], found[at(LOWER)]
    assert (upper["sent"], upper["received"], upper["loss_percent"], upper["problem"]) == (3, 3, 0.0, None)
    assert upper["rtt_ms"]["avg"] == pytest.approx(5.0)
    assert (lower["sent"], lower["received"], lower["loss_percent"]) == (3, 0, 100.0)
    assert lower["rtt_ms"] is None and lower["problem"]["mtu"] == 1300


def test_a_list_that_several_have_is_probed_once(network: Network) -> None:
    asked = answer(
        binding(B, candidate(UPPER, True)),
        binding(B, candidate(UPPER, True), port=81),
        binding(C, candidate(UPPER, True)),
    )
    found = measure.measure([asked, {**asked, "pid": 2}], 2, 56)
    assert network.sent == [(A, srh(UPPER)), (OTHER, srh(UPPER))] * 2
    assert found[at(UPPER)] == found[at(UPPER, pid=2)] and found[at(UPPER)]["received"] == 2
    assert found[at(UPPER, C)]["problem"]["text"] == "no answer"


def test_no_list_no_probes(network: Network) -> None:
    assert measure.measure([answer(binding(B, candidate(())))], 3, 56) == {}
    assert measure.measure([answer()], 3, 56) == {}
    assert network.sent == []


def test_lists_that_cannot_be_probed(network: Network) -> None:
    one_way = ("fcbb:bb00:1:e001::",)
    block = {"block": "fcbb:bb00::/32", "local": 0xE000}
    asked = answer(
        binding(B, candidate(one_way, True), candidate(UPPER)),
        binding("fcbb:cc00:9::a", candidate(UPPER, True)),
        csid=[block],
    )
    found = measure.measure([asked], 1, 56)
    assert found[at(one_way)]["sent"] == 0
    assert "names a link in one direction" in found[at(one_way)]["problem"]["text"]
    there = found[at(UPPER, "fcbb:cc00:9::a")]
    assert there["problem"]["text"] == "this host has no route and global address to fcbb:cc00:9::a"
    assert found[at(UPPER)]["received"] == 1


def test_what_this_host_drops_is_said(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure.silence, "kernel_accepts", lambda: False)
    found = measure.measure([answer(binding(C, candidate(UPPER, True)))], 1, 56)
    assert found[at(UPPER, C)]["problem"]["text"].startswith("no answer: this host drops packets with an SRH")


# --- what is shown


def told(rtt: Sequence[float] = (), lost: int = 0, problem: Problem | None = None) -> dict[str, Any]:
    from hawkwing.probing.run import Lane

    lane = Lane(b"", problem=problem)
    for seconds in rtt:
        lane.tally.came_back(seconds)
    for _ in range(lost):
        lane.tally.was_lost()
    return measure._told(lane)


@pytest.mark.parametrize(
    ("measured", "shown"),
    [
        (told((0.001, 0.0015, 0.1)), "rtt min/avg/max 1.000/34.17/100.0 ms, 0% loss of 3 probes"),
        (told((0.001,), 2), "rtt min/avg/max 1.000/1.000/1.000 ms, 66.67% loss of 3 probes"),
        (told((), 5, measure.NO_ANSWER), "rtt min/avg/max -, 100% loss of 5 probes: no answer"),
        (
            told((), 5, TOO_BIG),
            f"rtt min/avg/max -, 100% loss of 5 probes: {LOWER[0]} reports: {TOO_BIG.text}",
        ),
        (told(problem=Problem("it names a link")), "rtt min/avg/max -, loss -: it names a link"),
        (None, "rtt min/avg/max -, loss -"),
    ],
)
def test_a_line_for_each_candidate(measured: dict[str, Any] | None, shown: str) -> None:
    key: Key = at(UPPER)
    asked = answer(binding(B, candidate(UPPER, True)))
    found = paths.with_measured([asked], {} if measured is None else {key: measured})
    _head, first, line, why = paths.lines(found)
    assert first.startswith(f"  * configured  {' > '.join(UPPER)}  (in use since ")
    assert (line, why) == (f"{'':<16}{shown}", "    so")


def test_without_the_option_nothing_is_shown_of_it() -> None:
    assert len(list(paths.lines([answer(binding(B, candidate(UPPER, True)))]))) == 3


def test_a_candidate_that_came_meanwhile_is_unknown() -> None:
    asked = answer(binding(B, candidate(LOWER, True)))
    (found,) = paths.with_measured([asked], {at(UPPER): told((0.001,))})
    assert found["bindings"][0]["candidates"][0]["measured"] is None
    assert key_of(asked, asked["bindings"][0], candidate(LOWER)) == at(LOWER)


def test_json_is_as_documented() -> None:
    """Also without the option, and with names."""
    definitions = {model.__name__: status_schema._object(model) for model in status_schema.models(Paths)}
    schema = closed({"definitions": definitions}) | {"$ref": "#/definitions/Paths"}
    plain = answer(binding(B, candidate(UPPER, True), candidate(())), csid=[{"block": "fd::/16", "local": 1}])
    found = {at(UPPER): told((0.001,), 1, TOO_BIG)}
    (with_measure,) = paths.with_measured([plain], found)
    named = answer({**binding(B, {**candidate(UPPER, True), "nodes": ["r1", "r2"]}), "nodes": ["r1", "r2"]})
    for one in (plain, with_measure, named):
        assert [fault.message for fault in Draft7Validator(schema).iter_errors(one)] == []


# --- the command line


@pytest.mark.parametrize(
    ("words", "count"),
    [
        (["wb.hawk.net"], None),
        (["wb.hawk.net", "80", "--measure"], 5),
        (["wb.hawk.net", "--measure", "20"], 20),
        (["--measure=7", "wb.hawk.net", "80"], 7),
    ],
)
def test_how_many_probes(words: list[str], count: int | None) -> None:
    assert parser().parse_args(["paths", *words]).measure == count


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--measure", "wb.hawk.net"],
            "wb.hawk.net is not a number of probes: write DEST before --measure, or --measure=N",
        ),
        (["wb.hawk.net", "--measure=0"], "0 is not a valid number of probes, use 1 to"),
        (["wb.hawk.net", "--measure=²"], "² is not a number of probes"),
    ],
)
def test_no_number_of_probes(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["paths", *words])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_a_size_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["paths", "wb.hawk.net", "--size", "1000"]) == 1
    assert capsys.readouterr().err == "hawkwing: --size needs --measure\n"


def test_a_source_that_is_gone() -> None:
    with pytest.raises(HawkwingError, match=r"^2001:db8::99 is not an address of this host$"):
        Probers([IPv6Address("::1"), IPv6Address("2001:db8::99")], 56)
