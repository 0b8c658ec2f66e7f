"""The stand-in controller with a topology: computed answers, pushes after changes, and faults on purpose."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml

from fake_hawkeye.control import Control
from lab.wait import PATIENCE
from tests.unit.test_fake_hawkeye import BOTH, LATENCY, Client, Program, wait_until

HAWK = Path(__file__).parents[2] / "lab" / "hawk.yaml"
FIREWALL = [{"intent": "sfc", "functions": ["firewall"]}]
BANDWIDTH = [{"intent": "high-bandwidth"}]
NEVER = 3600
SITE_B = "fcbb:aa00:2::2"
FAST = [*(f"fcbb:bb00:{number}::2" for number in (1, 2, 4, 6)), SITE_B]
WIDE = [*(f"fcbb:bb00:{number}::2" for number in (1, 3, 5, 6)), SITE_B]
AT_2 = [*FAST[:2], "fcbb:bb00:2::f", *FAST[2:]]
AT_5 = [*WIDE[:3], "fcbb:bb00:5::f", *WIDE[3:]]


def write_topology(folder: Path) -> Path:
    """The development network with a firewall on either branch."""
    document = yaml.safe_load(HAWK.read_text())
    for number in (2, 5):
        node = document["nodes"][f"vpp{number}"]
        node.setdefault("service_sids", {})["firewall"] = f"fcbb:bb00:{number}::f"
    file = folder / "topology.yaml"
    file.write_text(yaml.safe_dump(document))
    return file


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Program]]:
    """`start(batch=..)`: a controller with the topology; it is ended afterwards, if it still runs."""
    programs = []

    def run(**options: object) -> Program:
        programs.append(Program(tmp_path, topology=write_topology(tmp_path), **options))
        return programs[-1]

    yield run
    for program in programs:
        program.finish()


DOCUMENTED = pytest.mark.parametrize("program", [None], indirect=True)


@pytest.fixture(scope="module", params=BOTH, ids=["documented", "1.0.1"])
def program(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Program]:
    """A controller for the whole file that recalculates only when told to."""
    folder = tmp_path_factory.mktemp("hawkeye")
    made = Program(folder, like=request.param, topology=write_topology(folder), batch=NEVER)
    yield made
    made.finish()


@pytest.fixture
def control(program: Program) -> Iterator[Control]:
    """A control client of `program`; afterwards its network is as before, and it serves honestly."""
    with Control(program.control_path) as made:
        before = made.network()
        yield made
        made.clear_faults()
        wait_until(lambda: made.sessions() == [], "all streams closed")
        made.clear_faults()
        after = made.network()
        for name, metrics in before["links"].items():
            if after["links"][name] != metrics:
                made.set_link(name, **metrics)
        for one in after["services"]:
            if one not in before["services"]:
                made.set_service(one["service"], one["router"], not one["healthy"])
        made.recalculate()
        assert made.network() == before


@pytest.fixture
def connect(program: Program, control: Control) -> Iterator[Callable[[], Client]]:
    """`connect()` opens a client of `program`; they are closed before `control` restores it."""
    with ExitStack() as stack:

        def make() -> Client:
            client = Client(program.port)
            stack.callback(client.close)
            return client

        yield make


Connect = Callable[[], Client]


def asked(client: Client, intents: list[dict[str, Any]]) -> list[str]:
    client.ask(intents)
    return client.sids()


# --- sessions and pushes


def test_answers_are_computed(connect: Connect) -> None:
    client = connect()
    assert asked(client, LATENCY) == FAST
    assert asked(client, BANDWIDTH) == WIDE
    assert asked(client, FIREWALL) == AT_2


def test_changes_that_come_together_make_one_push(start: Callable[..., Program]) -> None:
    program = start(batch=0.2)
    client = Client(program.port)
    assert asked(client, LATENCY) == FAST
    begin = time.monotonic()
    with Control(program.control_path) as control:
        control.set_link("vpp2-vpp1", up=False)
        control.set_link("vpp1-vpp2", up=True, latency=90000)
        assert client.sids() == WIDE
        assert time.monotonic() - begin > 0.19
        assert control.recalculate() == 0
    client.close()


def test_a_push_needs_a_better_path_or_a_broken_one(connect: Connect, control: Control) -> None:
    client = connect()
    assert asked(client, LATENCY) == FAST
    # 1500 and 1200 to the sites; fast 2000 + 3000 + 2500 = 10200 in all, wide 6000 + 9000 + 7500 = 25200
    control.set_link("vpp2-vpp4", latency=20700)
    # 27900 now, and nine tenths are 25110
    assert control.recalculate() == 0
    control.set_link("vpp2-vpp4", latency=20900)
    assert control.recalculate() == 1
    assert client.sids() == WIDE
    assert control.recalculate() == 0
    control.set_link("vpp5-vpp6", up=False)
    assert control.recalculate() == 1
    assert client.sids() == FAST


@DOCUMENTED
def test_every_stream_gets_the_pushes_for_what_it_asked(connect: Connect, control: Control) -> None:
    clients = [connect(), connect()]
    for client in clients:
        assert asked(client, LATENCY) == FAST
    other = connect()
    assert asked(other, BANDWIDTH) == WIDE
    control.set_link("vpp1-vpp2", up=False)
    assert control.recalculate() == 2
    assert [client.sids() for client in clients] == [WIDE, WIDE]


@DOCUMENTED
def test_an_identical_request_gets_the_stored_result(connect: Connect, control: Control) -> None:
    first = connect()
    assert asked(first, LATENCY) == FAST
    control.set_link("vpp1-vpp2", up=False)
    second = connect()
    assert asked(second, LATENCY) == FAST
    for client in (first, second):
        client.close()
    wait_until(lambda: control.sessions() == [], "all streams closed")
    assert asked(connect(), LATENCY) == WIDE


def test_a_sick_service_moves_the_path_to_another(connect: Connect, control: Control) -> None:
    client = connect()
    assert asked(client, FIREWALL) == AT_2
    control.set_service("firewall", "vpp2", False)
    assert control.recalculate() == 1
    assert client.sids() == AT_5
    control.set_service("firewall", "vpp2", True)
    assert control.recalculate() == 0
    control.set_service("firewall", "vpp2", False)
    control.set_service("firewall", "vpp5", False)
    assert control.recalculate() == 1
    code, text = client.error()
    assert code is grpc.StatusCode.UNKNOWN
    assert text.endswith("No SIDs found for service: firewall")


@DOCUMENTED
def test_a_lost_path_ends_the_whole_stream(connect: Connect, control: Control) -> None:
    client = connect()
    assert asked(client, LATENCY) == FAST
    assert asked(client, BANDWIDTH) == WIDE
    control.set_link("site-a-vpp1", up=False)
    assert control.recalculate() == 2
    sentence = "No path found from node site-a to node site-b"
    assert client.error() == (grpc.StatusCode.UNKNOWN, sentence)
    again = connect()
    again.ask(LATENCY)
    assert again.error() == (grpc.StatusCode.UNKNOWN, sentence)


def test_what_hawkeye_refuses_ends_the_stream(connect: Connect) -> None:
    client = connect()
    client.ask([{"intent": "low-bandwidth", "max_value": 10}])
    code, text = client.error()
    assert code is grpc.StatusCode.UNKNOWN
    assert text.startswith("Max value is only allowed for")


def test_entries_of_the_table_go_first(start: Callable[..., Program]) -> None:
    program = start()
    client = Client(program.port)
    assert asked(client, LATENCY) == FAST
    with Control(program.control_path) as control:
        assert control.set_path("fcbb:cc00:2::a", LATENCY, ["fcbb:bb00:9::2"]) == 1
        assert client.sids() == ["fcbb:bb00:9::2"]
        control.set_link("vpp1-vpp2", up=False)
        assert control.recalculate() == 0
    assert asked(client, BANDWIDTH) == WIDE
    client.close()


def test_the_network_can_be_looked_at(control: Control) -> None:
    control.set_link("vpp1-vpp2", loss=0.5, jitter=3)
    control.set_service("firewall", "vpp5", False)
    network = control.network()
    assert network["links"]["vpp1-vpp2"] == {
        "igp": 10,
        "latency": 2000,
        "bandwidth": 100000,
        "loss": 0.5,
        "jitter": 3,
        "utilization": 0,
        "up": True,
    }
    sick = {"service": "firewall", "router": "vpp5", "sid": "fcbb:bb00:5::f", "healthy": False}
    assert [one for one in network["services"] if one["service"] == "firewall" and not one["healthy"]] == [
        sick
    ]


def test_wrong_changes_are_sentences(control: Control) -> None:
    with pytest.raises(ValueError, match="unknown link 'vpp1-vpp9'"):
        control.set_link("vpp1-vpp9", up=False)
    with pytest.raises(ValueError, match="bandwidth: "):
        control.set_link("vpp1-vpp2", bandwidth=0)
    with pytest.raises(ValueError, match="unknown service 'firewall' at 'vpp1'"):
        control.set_service("firewall", "vpp1", False)


def test_without_a_topology_there_are_no_links(tmp_path: Path) -> None:
    program = Program(tmp_path)
    with (
        Control(program.control_path) as control,
        pytest.raises(ValueError, match="no topology, it only uses its table"),
    ):
        control.set_link("vpp1-vpp2", up=False)
    program.finish()


# --- faults


def test_answers_go_wrong_once_and_in_order(connect: Connect, control: Control) -> None:
    client = connect()
    control.fault("wrong", sids=["fcbb:bb00:9::2"])
    control.fault("empty")
    control.fault("stranger", address="2001:db8::5")
    control.fault("twice")
    assert asked(client, LATENCY) == ["fcbb:bb00:9::2"]
    assert asked(client, LATENCY) == []
    client.ask(LATENCY)
    result = client.result()
    assert (result.ipv6_destination_address, list(result.ipv6_sid_addresses)) == ("2001:db8::5", FAST)
    client.ask(LATENCY)
    assert [client.sids(), client.sids()] == [FAST, FAST]
    assert asked(client, BANDWIDTH) == WIDE


def test_an_answer_can_be_late_and_others_overtake_it(connect: Connect, control: Control) -> None:
    client = connect()
    control.fault("late", seconds=0.2)
    begin = time.monotonic()
    client.ask(LATENCY)
    client.ask(BANDWIDTH)
    assert [client.sids(), client.sids()] == [WIDE, FAST]
    assert time.monotonic() - begin > 0.19


def test_an_answer_can_never_come_but_pushes_do(connect: Connect, control: Control) -> None:
    client = connect()
    control.fault("never", times=2)
    client.ask(LATENCY)
    client.ask(LATENCY)
    assert asked(client, BANDWIDTH) == WIDE
    control.set_link("vpp1-vpp2", up=False)
    assert control.recalculate() == 1
    assert client.sids() == WIDE


def test_a_fault_can_wait_for_a_destination(connect: Connect, control: Control) -> None:
    client = connect()
    control.fault("empty", destination="fcbb:cc00:3::a")
    control.fault("wrong", destination="fcbb:cc00:2:0::a", sids=["fcbb:bb00:9::2"])
    assert asked(client, LATENCY) == ["fcbb:bb00:9::2"]
    assert asked(client, LATENCY) == FAST


@DOCUMENTED
@pytest.mark.parametrize("code", ["OK", "UNAVAILABLE"])
def test_a_stream_can_end_instead_of_an_answer(connect: Connect, control: Control, code: str) -> None:
    client, other = connect(), connect()
    assert asked(other, BANDWIDTH) == WIDE
    control.fault("end", code=code, message="enough")
    client.ask(LATENCY)
    if code == "OK":
        with pytest.raises(StopIteration):
            client.result()
    else:
        assert client.error() == (grpc.StatusCode.UNAVAILABLE, "enough")
    assert asked(other, LATENCY) == FAST


def test_goaway_lets_open_streams_finish_and_takes_new_ones(start: Callable[..., Program]) -> None:
    program = start(batch=NEVER)
    old = Client(program.port)
    assert asked(old, LATENCY) == FAST
    with Control(program.control_path) as control:
        control.go_away(grace=NEVER)
        new = Client(program.port)
        assert asked(new, LATENCY) == FAST
        control.set_link("vpp1-vpp2", up=False)
        assert control.recalculate() == 2
    assert [old.sids(), new.sids()] == [WIDE, WIDE]
    assert program.finish()[0] == 0
    old.close()
    new.close()


@DOCUMENTED
def test_goaway_without_grace_breaks_off_the_streams(connect: Connect, control: Control) -> None:
    old = connect()
    assert asked(old, LATENCY) == FAST
    control.go_away()
    assert old.error()[0] in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN)
    assert asked(connect(), LATENCY) == FAST


@DOCUMENTED
def test_it_can_refuse_until_told_otherwise(connect: Connect, control: Control) -> None:
    old = connect()
    assert asked(old, LATENCY) == FAST
    control.refuse()
    assert old.error()[0] in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN)
    refused = connect()
    refused.ask(LATENCY)
    assert refused.error()[0] is grpc.StatusCode.UNAVAILABLE
    control.clear_faults()
    assert asked(connect(), LATENCY) == FAST


@DOCUMENTED
def test_it_can_refuse_for_a_while(connect: Connect, control: Control) -> None:
    control.refuse(seconds=0.05)

    def served() -> bool:
        client = connect()
        client.ask(LATENCY)
        try:
            return client.sids() == FAST
        except grpc.RpcError:
            return False

    wait_until(served, "connections taken again")


def test_clearing_forgets_faults(connect: Connect, control: Control) -> None:
    control.fault("never", times=9)
    control.clear_faults()
    assert asked(connect(), LATENCY) == FAST


def test_it_can_die_and_be_started_again(start: Callable[..., Program]) -> None:
    program = start()
    client = Client(program.port)
    assert asked(client, LATENCY) == FAST
    with Control(program.control_path) as control:
        control.die()
    assert program.process.wait(timeout=PATIENCE) == -signal.SIGKILL
    assert client.error()[0] is grpc.StatusCode.UNAVAILABLE
    client.close()
    again = start(port=program.port)
    fresh = Client(again.port)
    assert asked(fresh, LATENCY) == FAST
    fresh.close()


@pytest.mark.parametrize(
    ("details", "error"),
    [
        ({"fault": "late"}, "seconds are required with the fault late"),
        ({"fault": "empty", "sids": []}, "sids are required with the fault wrong"),
        ({"fault": "end", "code": "BROKEN"}, "'BROKEN' is not a gRPC status code"),
        ({"fault": "dance"}, "fault: "),
    ],
)
def test_a_wrong_fault_is_a_sentence(control: Control, details: dict[str, Any], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        control.fault(**details)


def test_a_wrong_topology_is_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text("name: x\nnodes: {}\nlinks: []\n")
    program = Program(tmp_path, topology=file)
    _, errors = program.process.communicate(timeout=PATIENCE)
    assert program.process.returncode == 1
    assert errors == f"fake_hawkeye: {file}:2: nodes: is empty\n"


def test_it_needs_a_source_of_paths(tmp_path: Path) -> None:
    program = Program(tmp_path, batch=0)
    _, errors = program.process.communicate(timeout=PATIENCE)
    assert program.process.returncode == 2
    assert errors.endswith("--topology or --table is required\n")
