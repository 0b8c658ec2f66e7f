"""Both ends of the control socket, each against a wrong other end."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import socket
import stat
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from hawkwing import control
from hawkwing.control import ControlServer, answers, ask
from hawkwing.dataplane.claim import runtime_folder
from hawkwing.errors import ConfigError, HawkwingError
from hawkwing.tasks import in_thread


def serving(path: Path, handlers: Mapping[str, Any], work: Callable[[], Any], **more: Any) -> Any:
    """What `work` returns, in a thread, while these handlers answer."""

    async def main() -> Any:
        server = ControlServer(path, handlers, **more)
        await server.start()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600  # noqa: ASYNC240
        try:
            return await in_thread(work)
        finally:
            server.close()

    try:
        return asyncio.run(main())
    finally:
        assert not path.exists()


def raw(path: Path, data: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(path))
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while piece := connection.recv(65536):
            received += piece
        return received


@pytest.mark.parametrize(
    "data",
    [
        b"\n",
        b"garbage\n",
        b"\xff\xfe\x00\n",
        b"[]\n",
        b"null\n",
        b'"status"\n',
        b"{}\n",
        b'{"ask": "nothing"}\n',
        b'{"ask": ["status"]}\n',
        b'{"ask": {"a": 1}}\n',
        b"[" * 20_000 + b"\n",
        b'{"ask": ' + b"[" * 20_000 + b"\n",
    ],
)
def test_garbage_gets_one_sentence(tmp_path: Path, data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "agent.sock"
    answer = serving(path, {"status": lambda _request: "well"}, lambda: raw(path, data))
    assert json.loads(answer) == {"error": "unknown request (different version?)"}
    assert not caplog.messages


def test_a_question_may_have_64_kib(tmp_path: Path) -> None:
    path, question = tmp_path / "agent.sock", {"ask": "echo", "more": "x" * 65_000}
    assert serving(path, {"echo": lambda request: request}, lambda: ask(path, question)) == question


@pytest.mark.parametrize("data", [b"", b"x" * 100_000, b"x" * 100_000 + b"\n"])
def test_no_line_gets_no_answer(tmp_path: Path, data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "agent.sock"

    def work() -> bytes:
        try:
            return raw(path, data)
        except (BrokenPipeError, ConnectionResetError):
            return b""

    assert serving(path, {}, work) == b""
    assert not caplog.messages


def test_one_that_says_nothing_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "_TIMEOUT", 0.1)
    path = tmp_path / "agent.sock"

    def work() -> bytes:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(str(path))
            return connection.recv(10)

    assert serving(path, {}, work) == b""


def test_what_a_handler_fails_with_is_told_and_noted(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    noted: list[tuple[str, str]] = []

    def status(_request: object) -> str:
        raise ZeroDivisionError("division by zero")

    def work() -> str:
        with pytest.raises(HawkwingError) as caught:
            ask(path, {"ask": "status"})
        return str(caught.value)

    found = serving(
        path, {"status": status}, work, failed=lambda name, error: noted.append((name, str(error)))
    )
    assert found == "the agent failed: ZeroDivisionError: division by zero"
    assert noted == [("request status", "division by zero")]


def test_an_answer_may_take_longer_than_a_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "_TIMEOUT", 0.3)
    monkeypatch.setattr(control, "_SIGN_OF_LIFE", 0.05)
    path = tmp_path / "agent.sock"

    async def reload(_request: object) -> list[str]:
        await asyncio.sleep(1.0)
        return ["  done", "\n"]

    assert serving(path, {"reload": reload}, lambda: ask(path, {"ask": "reload"})) == ["  done", "\n"]


def test_large_answers(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    large = {
        "bindings": [f"binding {number}" for number in range(200_001)],
        "few": list(range(1000)),
        "none": {},
        "nested": {"list": [[1, 2]] * 1001, "text": "x"},
    }
    assert serving(path, {"status": lambda _request: large}, lambda: ask(path, {"ask": "status"})) == large


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (b"", "the agent has stopped"),
        (b"   ", "the agent has stopped"),
        (b"garbage\n", "the answer at {path} is not an agent's"),
        (b"[1]\n", "the answer at {path} is not an agent's"),
        (b"3\n", "the answer at {path} is not an agent's"),
        (b"{}\n", "the answer at {path} is not an agent's"),
        (b"\xff\n", "the answer at {path} is not an agent's"),
        (b"[" * 20_000 + b"\n", "the answer at {path} is not an agent's"),
        (b'{"error": "one sentence"}\n', "one sentence"),
    ],
)
def test_something_else_behind_the_socket(tmp_path: Path, answer: bytes, sentence: str) -> None:
    path = tmp_path / "agent.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(HawkwingError) as caught:
            ask(path, {"ask": "status"})
        thread.join()
    assert str(caught.value) == sentence.format(path=path)


def test_several_agents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "runtime_folder", lambda: tmp_path)
    path = tmp_path / "client-eth0.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "server-eth0.sock"))
    found = serving(
        path,
        {"status": lambda _request: "well"},
        lambda: [(one.stem, answer) for one, answer in answers({"ask": "status"}, ("client", "server"))],
    )
    assert found == [("client-eth0", "well"), ("server-eth0", None)]
    assert [path for path, _ in answers({"ask": "status"}, ("client",))] == []


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "none" / "agent.sock"

    async def start() -> None:
        await ControlServer(path, {}).start()

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", ResourceWarning)
        with pytest.raises(HawkwingError, match=f"^can't listen on {path}: No such file or directory$"):
            asyncio.run(start())
        gc.collect()
    assert [str(one.message) for one in told] == [], "a socket is left to the interpreter"


def test_each_role_and_interface_has_its_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAWKWING_RUN", str(tmp_path))
    path = control.socket_path("client", "eth0.100")
    assert path == runtime_folder() / "client-eth0.100.sock"
    assert control.sockets() == []
    path.parent.mkdir()
    path.touch()
    assert control.sockets() == [path]


def test_an_agent_that_cannot_be_asked_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "runtime_folder", lambda: tmp_path)
    path = tmp_path / "client-eth0.sock"
    path.symlink_to(path)
    with pytest.raises(HawkwingError) as caught:
        list(answers({"ask": "status"}, ("client",)))
    assert str(caught.value) == f"can't ask the agent at {path}: Too many levels of symbolic links"
    path.unlink()
    monkeypatch.setattr(control, "_TIMEOUT", 0.1)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen()
        with pytest.raises(HawkwingError) as caught:
            list(answers({"ask": "status"}, ("client",)))
    assert str(caught.value) == f"can't ask the agent at {path}: timed out"


def test_errors_of_a_file_come_as_lines(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"

    def reload(_request: object) -> str:
        raise ConfigError(["a.yaml:1: one", "a.yaml:2: two"])

    def work() -> list[str]:
        with pytest.raises(ConfigError) as caught:
            ask(path, {"ask": "reload"})
        return caught.value.problems

    begun = time.monotonic()
    assert serving(path, {"reload": reload}, work) == ["a.yaml:1: one", "a.yaml:2: two"]
    assert time.monotonic() - begun < 5


def test_spaces_of_an_answer_are_not_signs_of_life(tmp_path: Path) -> None:
    """Wherever the pieces end in which it comes: here after 64 KiB."""
    path, text = tmp_path / "agent.sock", " " * 300_000

    def agent() -> None:
        with listener.accept()[0] as connection:
            connection.recv(65536)
            for piece in (b" ", b"  ", json.dumps({"answer": text}).encode() + b"\n"):
                connection.sendall(piece)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=agent)
        thread.start()
        answer = ask(path, {"ask": "status"})
        thread.join()
    assert answer == text


def test_question_and_answer_are_a_line_each(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    answer = serving(path, {"status": lambda _request: "well"}, lambda: raw(path, b'{"ask": "status"}\n'))
    assert answer == b'{"answer": "well"}\n'


@pytest.mark.parametrize("size", [0, 1, 499, 500, 501, 1000, 1001])
def test_an_answer_is_the_same_behind_the_socket(tmp_path: Path, size: int) -> None:
    path, listed = tmp_path / "agent.sock", list(range(size))
    for answer in (listed, {"a": listed, "b": {}}, {"a": {"b": listed}}, {}, None, True, "é"):
        served = serving(path, {"ask": lambda _request, it=answer: it}, lambda: ask(path, {"ask": "ask"}))
        assert served == answer


def test_an_answer_without_an_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "_MOST", 1 << 20)
    path = tmp_path / "agent.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            with listener.accept()[0] as connection, suppress(OSError):
                while True:
                    connection.sendall(b"x" * 10_000)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(HawkwingError, match="is not an agent's"):
            ask(path, {"ask": "status"})
        thread.join(10)
        assert not thread.is_alive(), "it is not read any more"


def test_an_answer_may_have_256_mib() -> None:
    """And not much more, whatever is sent."""
    ours, theirs = socket.socketpair()
    piece = bytes(1 << 20)

    def serve() -> None:
        with suppress(OSError):
            while True:
                theirs.sendall(piece)

    thread = threading.Thread(target=serve)
    thread.start()
    with theirs:
        with ours:
            read = sum(map(len, control._received(ours)))
        thread.join()
    assert 256 <= read / (1 << 20) < 257


def test_the_socket_of_a_killed_agent_is_not_in_the_way(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert serving(path, {"status": lambda _request: "well"}, lambda: ask(path, {"ask": "status"})) == "well"


def test_signs_of_life_come_in_time() -> None:
    assert control._SIGN_OF_LIFE < control._TIMEOUT / 2


def test_after_its_end_nobody_gets_in(tmp_path: Path) -> None:
    """Not by another name of the socket either."""
    path, other = tmp_path / "agent.sock", tmp_path / "other.sock"

    async def work() -> None:
        server = ControlServer(path, {})
        await server.start()
        os.link(path, other)
        server.close()
        server.close()
        await asyncio.sleep(0)

    asyncio.run(work())
    with socket.socket(socket.AF_UNIX) as connection, pytest.raises(ConnectionRefusedError):
        connection.connect(str(other))
    ControlServer(path, {}).close()
