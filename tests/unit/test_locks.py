"""Lock files that are removed by whoever has the lock: never two inside, and no file left in the end."""

import gc
import os
import resource
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from hawkwing.dataplane.claim import Claim
from hawkwing.errors import DataplaneError
from hawkwing.locks import Lock, holder_of, locked_file
from lab.wait import PATIENCE, wait_until

T = TypeVar("T")

_SECONDS = 1.0
_PROCESSES = 4


def _inside(folder: Path) -> None:
    """Only one can make a folder; a second one inside the lock fails at it."""
    (folder / "inside").mkdir()
    (folder / "inside").rmdir()


def _take_and_remove(folder: Path) -> None:
    with locked_file(folder / "below" / "lock") as file:
        _inside(folder)
        Path(file.name).unlink()
        # As the agents' folder does, it goes with its last file.
        try:
            (folder / "below").rmdir()
        except OSError:
            return


def _claim_and_release(folder: Path) -> None:
    try:
        claim = Claim("client", "eth0")
    except DataplaneError:
        return
    try:
        _inside(folder)
    finally:
        claim.release()


def test_a_file_in_the_place_of_the_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "folder").write_text("")
    with pytest.raises(FileExistsError):
        locked_file(tmp_path / "folder" / "lock")


@pytest.mark.parametrize("work", [_take_and_remove, _claim_and_release])
def test_never_two_inside(work: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert callable(work)
    monkeypatch.setenv("HAWKWING_RUN", str(tmp_path / "run"))
    end = time.monotonic() + _SECONDS
    children = []
    for _ in range(_PROCESSES):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                while time.monotonic() < end:
                    work(tmp_path)
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * _PROCESSES
    # Who comes while the last one leaves may have made the folder once more.
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == []


def test_claimed_by_another_it_names_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAWKWING_RUN", str(tmp_path / "run"))
    claim = Claim("client", "eth0")
    with pytest.raises(DataplaneError, match=rf"already runs on eth0 \(PID {os.getpid()}\)"):
        Claim("client", "eth0")
    claim.release()
    Claim("client", "eth0").release()
    assert list(tmp_path.iterdir()) == []


def test_a_removed_file_lets_nobody_in(tmp_path: Path) -> None:
    """`rm -r /run/hawkwing` while an agent runs."""
    path = tmp_path / "folder" / "lock"
    assert holder_of(path) is None
    lock = Lock(path)
    path.unlink()
    path.parent.rmdir()
    assert holder_of(path) == os.getpid()
    with pytest.raises(BlockingIOError):
        Lock(path, wait=False)
    lock.release()
    assert holder_of(path) is None
    Lock(path, wait=False).release()
    assert not path.exists()


def test_who_waits_gets_the_lock_of_a_removed_file_when_its_process_ends(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    script = (
        "import sys; from pathlib import Path; from hawkwing.locks import Lock; "
        "lock = Lock(Path(sys.argv[1])); print(flush=True); sys.stdin.read(1)"
    )
    command = [sys.executable, "-c", script, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdin is not None and other.stdout is not None
        other.stdout.readline()
        path.unlink()
        child = os.fork()
        if child == 0:
            Lock(path)
            os._exit(0)
        ended, _ = os.waitpid(child, os.WNOHANG)
        assert ended == 0
        other.kill()
        assert os.waitpid(child, 0)[1] == 0


LONGEST = 99
"""Bytes of a path that is an address as it stands: 108 less those that say whose it is."""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path, for paths of any length in it."""
    with tempfile.TemporaryDirectory(dir="/tmp") as made:
        yield Path(made)


def path_of(folder: Path, length: int) -> Path:
    path = folder / "x".ljust(length - len(os.fsencode(folder)) - 1, "x")
    assert len(os.fsencode(path)) == length
    return path


@pytest.mark.parametrize("length", [LONGEST - 1, LONGEST, LONGEST + 1, LONGEST + 2, 200])
def test_a_path_of_any_length_has_an_address(folder: Path, length: int) -> None:
    """The kernel takes so many bytes of an address; a longer path has a shorter name of its own."""
    path = path_of(folder, length)
    lock = Lock(path, wait=False)
    path.unlink()
    assert holder_of(path) == os.getpid()
    with pytest.raises(BlockingIOError):
        Lock(path, wait=False)
    # Another path of that length is another lock.
    Lock(path.with_name(path.name[:-1] + "y"), wait=False).release()
    lock.release()
    assert holder_of(path) is None


def test_the_list_of_sockets_shows_whose_an_address_is(folder: Path) -> None:
    path = path_of(folder, LONGEST)
    lock = Lock(path, wait=False)
    assert f" @hawkwing{path}\n" in Path("/proc/net/unix").read_text()
    lock.release()


def test_a_relative_path_is_the_same_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lock = Lock(Path("lock"), wait=False)
    Path("lock").unlink()
    assert holder_of(tmp_path / "lock") == os.getpid()
    with pytest.raises(BlockingIOError):
        Lock(tmp_path / "lock", wait=False)
    lock.release()


def test_without_a_descriptor_for_its_address_nothing_is_left_open(tmp_path: Path) -> None:
    path, limits = tmp_path / "lock", resource.getrlimit(resource.RLIMIT_NOFILE)
    gc.collect()
    first_free = os.dup(0)
    os.close(first_free)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", ResourceWarning)
        # One for the file, none for the socket.
        resource.setrlimit(resource.RLIMIT_NOFILE, (first_free + 1, limits[1]))
        try:
            with pytest.raises(OSError, match="Too many open files"):
                Lock(path, wait=False)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        gc.collect()
    assert [str(one.message) for one in told] == []
    Lock(path, wait=False).release()


def test_others_cannot_keep_root_out_by_taking_the_address(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: to be another user as well")
    path = tmp_path / "lock"
    ready, told = socket.socketpair()
    child = os.fork()
    if child == 0:
        os.setuid(65534)
        taken = socket.socket(socket.AF_UNIX)
        taken.bind(b"\0hawkwing" + os.fsencode(path))
        taken.listen()
        told.send(b".")
        told.recv(1)
        os._exit(0)
    assert ready.recv(1) == b"."
    lock = Lock(path, wait=False)
    with pytest.raises(BlockingIOError):
        Lock(path, wait=False)
    lock.release()
    ready.send(b".")
    os.waitpid(child, 0)


def test_what_root_has_nobody_else_takes(folder: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: to be another user as well")
    path = folder / "lock"
    folder.chmod(0o777)
    lock = Lock(path, wait=False)
    path.unlink()
    with pytest.raises(BlockingIOError):
        Lock(path, wait=False)
    path.unlink()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setuid(65534)
            Lock(path, wait=False)
        except BlockingIOError:
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    lock.release()


def test_a_folder_that_cannot_be_written_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HAWKWING_RUN", str(tmp_path / "file" / "run"))
    with pytest.raises(DataplaneError, match=r"^can't write .*/client-eth0.lock: Not a directory$"):
        Claim("client", "eth0")


def test_what_others_find_in_the_file_is_the_last_text(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "lock")
    lock.write("a long text\n")
    lock.write("short\n")
    assert (tmp_path / "lock").read_text() == "short\n"
    lock.release()


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_a_lock_leaves_no_descriptor(tmp_path: Path) -> None:
    """Each is closed by itself: where only the interpreter closes one, it warns."""
    path, before = tmp_path / "folder" / "lock", descriptors()
    gc.collect()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", ResourceWarning)
        lock = Lock(path)
        held = descriptors()
        assert held > before and holder_of(path) == os.getpid()
        for _ in range(3):
            with pytest.raises(BlockingIOError):
                Lock(path, wait=False)
        path.unlink()
        for _ in range(3):
            with pytest.raises(BlockingIOError, match=f"^{path} is locked$"):
                Lock(path, wait=False)
        assert descriptors() == held
        lock.release()
        assert descriptors() == before
        del lock
        gc.collect()
    assert [str(one.message) for one in told] == []
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755


@contextmanager
def waiting_for(take: Callable[[Path], T], path: Path) -> Iterator[list[T]]:
    """Another thread takes it; while it waits, the list of what it got is empty."""
    got: list[T] = []
    thread = threading.Thread(target=lambda: got.append(take(path)))
    thread.start()
    try:
        yield got
    finally:
        thread.join(PATIENCE)
        assert not thread.is_alive()


def waits_for_file(path: Path) -> bool:
    """Whether somebody waits for the lock of this file, as the kernel tells it."""
    inode = f":{path.stat().st_ino}"
    return any("->" in line and inode in line for line in Path("/proc/locks").read_text().splitlines())


def test_a_lock_is_waited_for_unless_it_is_not_wanted(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    lock = Lock(path)
    with waiting_for(Lock, path) as got:
        wait_until(lambda: waits_for_file(path), PATIENCE, "somebody to wait")
        assert got == []
        lock.release()
    got[0].release()
    assert not path.exists()


def state(thread: threading.Thread) -> str:
    """R: it runs, or would if there were a processor for it; S: it sleeps."""
    return Path(f"/proc/self/task/{thread.native_id}/stat").read_text().rpartition(") ")[2][0]


def test_whoever_has_a_removed_file_is_waited_for_asleep(tmp_path: Path) -> None:
    path, before = tmp_path / "lock", set(threading.enumerate())
    lock = Lock(path)
    path.unlink()
    gc.collect()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", ResourceWarning)
        with waiting_for(Lock, path) as got:
            wait_until(path.exists, PATIENCE, "the other's file")
            (other,) = set(threading.enumerate()) - before
            wait_until(lambda: state(other) == "S", PATIENCE, "it to sleep")
            states = set()
            for _ in range(50):
                time.sleep(0.002)
                states.add(state(other))
            assert states == {"S"} and got == []
            lock.release()
        assert holder_of(path) == os.getpid()
        got[0].release()
        gc.collect()
    assert [str(one.message) for one in told] == [] and not path.exists()


def test_who_waited_for_a_file_that_is_gone_takes_the_one_that_is_there(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    first = locked_file(path)
    with waiting_for(locked_file, path) as got:
        wait_until(lambda: waits_for_file(path), PATIENCE, "somebody to wait")
        path.unlink()
        first.close()
    with got[0] as file:
        assert os.path.samestat(os.fstat(file.fileno()), path.stat())
        with pytest.raises(BlockingIOError):
            locked_file(path, wait=False)


def test_a_folder_that_is_missing_for_a_moment_is_waited_for(tmp_path: Path) -> None:
    """Whoever releases the last lock removes it: here it comes back only later."""
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    with waiting_for(locked_file, tmp_path / "link" / "lock") as got:
        assert got == []
        (tmp_path / "folder").mkdir()
    with got[0]:
        assert (tmp_path / "folder" / "lock").exists()
