"""The stand-in controller as its users meet it: the program, its control socket, its table."""

import json
import queue
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import json_format

from fake_hawkeye.control import Control
from fake_hawkeye.paths import TableError, load_table
from hawkwing.controller import intent_pb2 as pb
from hawkwing.controller.intent_pb2_grpc import IntentControllerStub
from lab.wait import PATIENCE, patient
from lab.wait import wait_until as polled

TABLE = """
- destination: fcbb:cc00:2::a
  intents: [{intent: low-latency}]
  sids: ["fcbb:bb00:1::2", "fcbb:bb00:2::2"]
- destination: fcbb:cc00:2::a
  source: 2001:cafe:c::c
  intents: [{intent: low-latency}]
  sids: ["fcbb:bb00:5::2"]
- destination: fcbb:cc00:2::a
  intents: [{intent: low-latency, max_value: 10}]
  sids: ["fcbb:bb00:3::2"]
- destination: fcbb:cc00:2::a
  intents: [{intent: sfc, functions: [fw]}]
  error: "No SIDs found for service: fw"
"""
LATENCY = [{"intent": "low-latency"}]
ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "fake_hawkeye")


class Program:
    """`python -m fake_hawkeye` on a free port of ::1, ready to be asked; by default it answers from TABLE."""

    def __init__(self, folder: Path, port: int = 0, like: str | None = None, **source: object) -> None:
        self.control_path = folder / "control"
        self.record = folder / "record.jsonl"
        if not source:
            table = folder / "table.yaml"
            table.write_text(TABLE)
            source = {"table": table}
        options = {
            "address": "::1",
            "port": port,
            "record": self.record,
            "control": self.control_path,
            **({"like": like} if like else {}),
            **source,
        }
        self.process = subprocess.Popen(
            [*COMMAND, *(str(part) for name, value in options.items() for part in (f"--{name}", value))],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.first_line = self.process.stdout.readline()
        self.port = int(self.first_line.rpartition(":")[2] or 0)

    def finish(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, float, str]:
        """Ends it; exit status, seconds it took, what it wrote on stderr."""
        begin = time.monotonic()
        self.process.send_signal(number)
        try:
            _, errors = self.process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        return self.process.returncode, time.monotonic() - begin, errors


class Client:
    """One stream to the controller; each wait for a result ends after some seconds."""

    def __init__(self, port: int) -> None:
        self._channel = grpc.insecure_channel(f"[::1]:{port}", [("grpc.use_local_subchannel_pool", 1)])
        self._requests: queue.Queue[pb.PathRequest | None] = queue.Queue()
        self._results = IntentControllerStub(self._channel).GetIntentPath(
            iter(self._requests.get, None), timeout=PATIENCE
        )

    def ask(self, intents: list[dict[str, Any]], source: str = "2001:cafe:a::a") -> None:
        self._requests.put(to_request(intents, source))

    def half_close(self) -> None:
        self._requests.put(None)

    def result(self) -> pb.PathResult:
        return next(self._results)

    def sids(self) -> list[str]:
        return list(self.result().ipv6_sid_addresses)

    def error(self) -> tuple[grpc.StatusCode, str]:
        with pytest.raises(grpc.RpcError) as caught:
            next(self._results)
        return caught.value.code(), caught.value.details()

    def close(self) -> None:
        """Leaves; where the controller has not read the end of the requests, as one that is killed."""
        self._requests.put(None)
        self._results.cancel()
        self._channel.close()


def to_request(intents: list[dict[str, Any]], source: str = "2001:cafe:a::a") -> pb.PathRequest:
    """A request as the messages' own field names make it, independent of the agent's code."""
    return pb.PathRequest(
        ipv6_source_address=source,
        ipv6_destination_address="fcbb:cc00:2::a",
        intents=[
            pb.Intent(
                type="INTENT_TYPE_" + intent["intent"].upper().replace("-", "_"),
                values=[
                    pb.Value(type=pb.VALUE_TYPE_MAX_VALUE, number_value=intent["max_value"], string_value="")
                    for _ in range("max_value" in intent)
                ]
                + [
                    pb.Value(type=pb.VALUE_TYPE_SFC, number_value=0, string_value=function)
                    for function in intent.get("functions", [])
                ],
            )
            for intent in intents
        ],
    )


def wait_until(ready: Callable[[], Any], why: str) -> None:
    """Polls until `ready()` is true; fails with `why` if it never is."""
    polled(ready, PATIENCE, why)


BOTH = (None, "1.0.1")
#: For tests of what 1.0.1 does otherwise: see test_fake_hawkeye_101.
DOCUMENTED = pytest.mark.parametrize("shared", [None], indirect=True)


@pytest.fixture(scope="module", params=BOTH, ids=["documented", "1.0.1"])
def shared(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Program]:
    """A controller for the whole file; its table is the file's at the start of no particular test."""
    program = Program(tmp_path_factory.mktemp("hawkeye"), like=request.param)
    yield program
    program.finish()


@pytest.fixture
def control(shared: Program) -> Iterator[Control]:
    """A control client; afterwards the streams are gone and LATENCY has its first path again."""
    with Control(shared.control_path) as made:
        yield made
        wait_until(lambda: made.sessions() == [], "all streams closed")
        made.clear_faults()
        made.set_path("fcbb:cc00:2::a", LATENCY, ["fcbb:bb00:1::2", "fcbb:bb00:2::2"])


@pytest.fixture
def connect(shared: Program, control: Control) -> Iterator[Callable[[], Client]]:
    """Opens clients, `connect()` each, and closes them before `control` checks for streams."""
    with ExitStack() as stack:

        def make() -> Client:
            client = Client(shared.port)
            stack.callback(client.close)
            return client

        yield make


Connect = Callable[[], Client]


def test_it_says_where_it_listens(shared: Program) -> None:
    assert shared.first_line == f"listening on [::1]:{shared.port}\n"


def test_a_result_repeats_its_request_with_the_path(connect: Connect) -> None:
    client = connect()
    client.ask([{"intent": "low-latency", "max_value": 10}])
    request = to_request([{"intent": "low-latency", "max_value": 10}])
    result = client.result()
    assert result.ipv6_source_address == request.ipv6_source_address
    assert result.ipv6_destination_address == request.ipv6_destination_address
    assert [intent.type for intent in result.intents] == [intent.type for intent in request.intents]
    assert [value.number_value for value in result.intents[0].values] == [10]
    assert list(result.ipv6_sid_addresses) == ["fcbb:bb00:3::2"]


def test_an_entry_for_the_source_goes_first_and_no_entry_is_an_empty_path(connect: Connect) -> None:
    client = connect()
    client.ask(LATENCY, source="2001:cafe:c::c")
    assert client.sids() == ["fcbb:bb00:5::2"]
    client.ask(LATENCY)
    assert client.sids() == ["fcbb:bb00:1::2", "fcbb:bb00:2::2"]
    client.ask([{"intent": "low-latency", "max_value": 11}])
    assert client.sids() == []


@DOCUMENTED
def test_each_client_gets_only_its_own_answers(connect: Connect, control: Control) -> None:
    host_a, host_c = connect(), connect()
    host_a.ask(LATENCY)
    host_c.ask([{"intent": "low-jitter"}])
    assert host_a.sids() == ["fcbb:bb00:1::2", "fcbb:bb00:2::2"]
    assert host_c.sids() == []
    assert control.set_path("fcbb:cc00:2::a", LATENCY, ["fcbb:bb00:4::2"]) == 1
    assert host_a.sids() == ["fcbb:bb00:4::2"]
    host_c.ask([{"intent": "low-latency", "max_value": 10}])
    assert host_c.sids() == ["fcbb:bb00:3::2"]


def test_a_path_for_any_source_is_not_pushed_to_one_that_has_its_own(
    connect: Connect, control: Control
) -> None:
    host_c = connect()
    host_c.ask(LATENCY, source="2001:cafe:c::c")
    assert host_c.sids() == ["fcbb:bb00:5::2"]
    assert control.set_path("fcbb:cc00:2::a", LATENCY, ["fcbb:bb00:4::2"]) == 0


def test_a_half_closed_stream_still_gets_pushes(connect: Connect, control: Control) -> None:
    client = connect()
    client.ask(LATENCY)
    client.sids()
    client.half_close()
    control.set_path("fcbb:cc00:2::a", LATENCY, ["fcbb:bb00:6::2"])
    assert client.sids() == ["fcbb:bb00:6::2"]


def test_sessions_tell_what_each_stream_asked(connect: Connect, control: Control) -> None:
    client = connect()
    client.ask([{"intent": "low-latency", "max_value": 10}])
    client.result()
    (session,) = control.sessions()
    assert session["peer"].startswith("ipv6:[::1]:")
    assert session["asked"] == [
        {
            "source": "2001:cafe:a::a",
            "destination": "fcbb:cc00:2::a",
            "intents": [{"intent": "low-latency", "max_value": 10}],
        }
    ]


def test_every_request_is_recorded(connect: Connect, control: Control, shared: Program) -> None:
    before = len(control.requests())
    client = connect()
    client.ask(LATENCY)
    client.ask([{"intent": "low-jitter"}])
    client.result(), client.result()
    recorded = control.requests()
    assert [note["intents"] for note in recorded[before:]] == [LATENCY, [{"intent": "low-jitter"}]]
    assert abs(recorded[-1]["time"] - time.time()) < 60
    assert recorded[-1]["peer"].startswith("ipv6:[::1]:")
    assert [json.loads(line) for line in shared.record.read_text().splitlines()] == recorded


@DOCUMENTED
def test_all_streams_can_be_ended_with_a_status(connect: Connect, control: Control) -> None:
    clients = [connect(), connect()]
    for client in clients:
        client.ask(LATENCY)
        client.result()
    assert control.end_streams("UNAVAILABLE", "going down") == 2
    assert [client.error() for client in clients] == [(grpc.StatusCode.UNAVAILABLE, "going down")] * 2


def test_a_refusal_ends_the_whole_stream(connect: Connect) -> None:
    client = connect()
    client.ask(LATENCY)
    client.result()
    client.ask([{"intent": "sfc", "functions": ["fw"]}])
    assert client.error() == (grpc.StatusCode.UNKNOWN, "No SIDs found for service: fw")


def test_a_request_that_is_none_ends_the_stream_and_is_recorded(connect: Connect, control: Control) -> None:
    client = connect()
    client.ask(LATENCY, source="10.0.0.1")
    assert client.error()[0] is grpc.StatusCode.UNKNOWN
    assert control.requests()[-1]["source"] == "10.0.0.1"


def test_any_result_can_be_pushed(connect: Connect, control: Control) -> None:
    client = connect()
    client.ask(LATENCY)
    client.result()
    wrong = pb.PathResult(ipv6_source_address="nobody", ipv6_sid_addresses=["10.0.0.1"])
    assert control.raw_push(json_format.MessageToDict(wrong)) == 1
    assert client.result() == wrong


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("no json", "Expecting value"),
        ("[]", "a command is an object with an op out of set, sessions"),
        ('{"op": "dance"}', "a command is an object with an op out of set, sessions"),
        ('{"op": "end_streams", "code": "OK"}', "'OK' is not a gRPC error code"),
        ('{"op": "set", "destination": "10.0.0.1"}', "destination: "),
        ('{"op": "raw_push"}', "result"),
        ('{"op": "raw_push", "result": {"sids": []}}', "sids"),
    ],
)
def test_a_wrong_command_gets_a_sentence_and_the_connection_stays(
    shared: Program, line: str, error: str
) -> None:
    with socket.socket(socket.AF_UNIX) as plain:
        plain.settimeout(5)
        plain.connect(str(shared.control_path))
        file = plain.makefile("rw")
        for text in (line, '{"op": "sessions"}'):
            file.write(text + "\n")
        file.flush()
        refused, fine = json.loads(file.readline()), json.loads(file.readline())
    assert refused["ok"] is False
    assert error in refused["error"]
    assert fine == {"ok": True, "sessions": []}


def test_the_client_turns_a_wrong_command_into_an_error(control: Control) -> None:
    with pytest.raises(ValueError, match="either sids or an error"):
        control.set_path("fcbb:cc00:2::a", LATENCY)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly_with_streams_and_commands_open(
    tmp_path: Path, number: signal.Signals
) -> None:
    program = Program(tmp_path)
    client = Client(program.port)
    client.ask(LATENCY)
    client.result()
    with Control(program.control_path) as control:
        assert len(control.sessions()) == 1
        status, seconds, errors = program.finish(number)
    client.close()
    assert (status, errors) == (0, "")
    assert seconds < patient(10), "it waited for them"
    assert not program.control_path.exists()


def test_a_taken_port_is_one_sentence(tmp_path: Path, shared: Program) -> None:
    second = Program(tmp_path, shared.port)
    _, errors = second.process.communicate(timeout=PATIENCE)
    assert (second.process.returncode, second.first_line) == (1, "")
    assert errors == f"fake_hawkeye: cannot listen on [::1]:{shared.port}: Address already in use\n"


def test_a_control_socket_in_use_is_left_alone(tmp_path: Path, shared: Program) -> None:
    (tmp_path / "control").symlink_to(shared.control_path)
    second = Program(tmp_path)
    _, errors = second.process.communicate(timeout=PATIENCE)
    assert second.process.returncode == 1
    assert errors.endswith("control: another controller uses this control socket\n")
    with Control(shared.control_path) as control:
        assert control.sessions() == []


def test_a_control_socket_left_by_a_killed_controller_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "control"))
    program = Program(tmp_path)
    with Control(program.control_path) as control:
        assert control.sessions() == []
    assert program.finish()[0] == 0


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("- destination: [", "1: [ is never closed"),
        ("destination: x", "1: Input should be a valid list"),
        ("- destination: 10.0.0.1\n  intents: [{intent: sfc}]\n  sids: []", "1: entry 1, destination: "),
        ("- destination: ::2\n  intents: [{intent: fast}]\n  sids: []", "2: entry 1, intents, 0, intent: "),
        (
            "- destination: ::2\n  intents: [{intent: sfc}]",
            "1: entry 1: an entry has either sids or an error",
        ),
        ("- destination: ::2\n  intents: []\n  sids: []", "2: entry 1, intents: "),
        ("- destination: ::2\n  via: x\n  intents: [{intent: sfc}]\n  sids: []", "2: entry 1, via: "),
        (
            "- &one\n  destination: ::2\n  intents: [{intent: sfc}]\n  sids: []\n- *one",
            "1: entry 2 has the same query as entry 1",
        ),
    ],
)
def test_a_wrong_table_is_one_sentence_with_the_file(tmp_path: Path, text: str, sentence: str) -> None:
    file = tmp_path / "table.yaml"
    file.write_text(text)
    with pytest.raises(TableError) as caught:
        load_table(file)
    assert str(caught.value).startswith(f"{file}:{sentence}")
    assert "\n" not in str(caught.value)


def test_a_missing_table_ends_the_program_with_one_sentence(tmp_path: Path) -> None:
    missing = tmp_path / "none.yaml"
    run = subprocess.run(
        [*COMMAND, "--table", str(missing)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr == f"fake_hawkeye: {missing}: no such file\n"
