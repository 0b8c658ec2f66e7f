"""What a service manager hears: real datagrams at a real socket."""

import asyncio
import fcntl
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from hawkwing import notify


class Manager:
    """The service manager's end."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.socket.bind(str(path))

    def heard(self) -> list[dict[str, str]]:
        """All messages so far, each as a mapping."""
        messages = []
        with suppress(BlockingIOError):
            while True:
                lines = self.socket.recv(4096).decode().splitlines()
                messages.append(dict(line.split("=", 1) for line in lines))
        return messages

    def heard_one(self) -> tuple[str, list[int]]:
        """The next message, and the files that came with it."""
        text, files, _flags, _address = socket.recv_fds(self.socket, 4096, 4)
        return text.decode(), files


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    """One that is listening."""
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    listening = Manager(tmp_path / "notify")
    yield listening
    listening.socket.close()


def test_ready_and_stopping(manager: Manager) -> None:
    notify.ready("client on eth0")
    notify.stopping()
    assert manager.heard() == [
        {"READY": "1", "STATUS": "client on eth0"},
        {"STOPPING": "1", "STATUS": "stopping"},
    ]


@pytest.mark.parametrize("fails", [False, True])
def test_a_reload_ends_also_where_it_fails(manager: Manager, fails: bool) -> None:
    with suppress(ValueError), notify.reloading():
        if fails:
            raise ValueError
    begun, ended = manager.heard()
    assert begun["RELOADING"] == "1"
    assert 0 <= time.clock_gettime(time.CLOCK_MONOTONIC) - int(begun["MONOTONIC_USEC"]) / 1e6 < 60
    assert ended == {"READY": "1"}


def test_an_abstract_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"hawkwing-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{name}")
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        notify.send("READY=1")
        assert manager.recv(100) == b"READY=1"


def test_without_a_manager_or_where_it_has_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify.ready("client on eth0")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    notify.ready("client on eth0")


def test_signs_of_life_come_from_the_event_loop(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "30000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))

    async def live() -> list[dict[str, str]]:
        task = asyncio.create_task(notify.watchdog())
        heard: list[dict[str, str]] = []
        while len(heard) < 3:
            await asyncio.sleep(0.001)
            heard += manager.heard()
        task.cancel()
        return heard

    assert asyncio.run(asyncio.wait_for(live(), 60))[:3] == [{"WATCHDOG": "1"}] * 3


def test_three_signs_of_life_come_in_the_time_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "6000000")
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)
        raise asyncio.CancelledError

    monkeypatch.setattr(asyncio, "sleep", sleep)
    with suppress(asyncio.CancelledError):
        asyncio.run(notify.watchdog())
    assert waited == [2.0]


@pytest.mark.parametrize(
    ("usec", "pid", "seconds"),
    [("30000000", None, 30.0), ("30000000", "1", None), ("", None, None), ("0", None, None)],
)
def test_who_wants_signs_of_life(
    monkeypatch: pytest.MonkeyPatch, usec: str, pid: str | None, seconds: float | None
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    monkeypatch.setenv("WATCHDOG_PID", pid or str(os.getpid()))
    assert notify.watchdog_seconds() == seconds


def test_files_are_given_to_the_manager(tmp_path: Path, manager: Manager) -> None:
    with (tmp_path / "some").open("w+") as file:
        file.write("content")
        file.flush()
        notify.store({"flows": file.fileno()})
        assert manager.heard_one() == ("FDSTOREREMOVE=1\nFDNAME=flows", [])
        text, (descriptor,) = manager.heard_one()
    assert text == "FDSTORE=1\nFDNAME=flows\nFDPOLL=0"
    assert os.pread(descriptor, 10, 0) == b"content"
    os.close(descriptor)


def test_files_come_back_from_the_manager(tmp_path: Path) -> None:
    """In a process of its own, as the manager starts it."""
    (tmp_path / "some").write_text("content")
    script = """
import os, sys
from hawkwing import notify
file = os.open(sys.argv[1], os.O_RDONLY)
os.dup2(file, 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="flows")
found = notify.stored()
print(os.read(found["flows"], 10), os.get_inheritable(3), notify.stored(), "LISTEN_FDS" in os.environ)
"""
    command = [sys.executable, "-c", script, str(tmp_path / "some")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "b'content' False {} False\n"


def test_files_of_another_process_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_PID", "1")
    monkeypatch.setenv("LISTEN_FDNAMES", "flows")
    assert notify.stored() == {}


def test_files_of_the_agent_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a number on, in the order of their names; for this process, once, and not for its children."""
    (tmp_path / "file").touch()
    first = 200
    with (tmp_path / "file").open() as file:
        # One after the other: others may be open in between.
        files = [fcntl.fcntl(file, fcntl.F_DUPFD, first + number) for number in range(3)]
    assert files == [first, first + 1, first + 2]
    monkeypatch.setattr(notify, "_FIRST_STORED", first)
    for variable, value in (("PID", os.getpid() + 1), ("FDS", 3), ("FDNAMES", "flows::paths")):
        monkeypatch.setenv(f"LISTEN_{variable}", str(value))
    for descriptor in files:
        os.set_inheritable(descriptor, True)
    assert notify.stored() == {} and os.get_inheritable(first)
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    assert notify.stored() == {"flows": first, "paths": first + 2}
    assert [os.get_inheritable(descriptor) for descriptor in files] == [False, True, False]
    assert not [name for name in os.environ if name.startswith("LISTEN_")]
    assert notify.stored() == {}
    for descriptor in files:
        os.close(descriptor)
