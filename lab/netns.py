"""Named network namespaces under /run/netns, as in ip-netns(8)."""

import ctypes
import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

FOLDER = Path("/run/netns")
_CLONE_NEWNET = 0x40000000
_MS_BIND = 4096
_MNT_DETACH = 2
_libc = ctypes.CDLL(None, use_errno=True)
T = TypeVar("T")


def _check(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def path(name: str) -> Path:
    """The path of a namespace."""
    return FOLDER / name


def exists(name: str) -> bool:
    """True for a namespace, not for the empty file that a killed process left."""
    try:
        return path(name).stat().st_dev != FOLDER.stat().st_dev
    except FileNotFoundError:
        return False


def in_thread(work: Callable[[], T]) -> T:
    """Runs `work` in its own thread, because a namespace belongs to a thread."""
    outcome: list[T] = []
    failure: list[BaseException] = []

    def body() -> None:
        try:
            outcome.append(work())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]


def enter(name: str) -> None:
    """Moves the calling thread into the namespace."""
    fd = os.open(path(name), os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_libc.setns(fd, _CLONE_NEWNET), f"can't enter namespace {name}")
    finally:
        os.close(fd)


def run_inside(name: str, work: Callable[[], T]) -> T:
    """The result of `work`, run by a thread in the namespace; sockets it opens stay there."""

    def body() -> T:
        enter(name)
        return work()

    return in_thread(body)


def create(name: str) -> None:
    """Creates a namespace; FileExistsError where the name is in use."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    path(name).touch(exist_ok=False)

    def body() -> None:
        _check(
            _libc.unshare(_CLONE_NEWNET), "can't create a network namespace (CONFIG_NET_NS, root privileges)"
        )
        source = f"/proc/self/task/{threading.get_native_id()}/ns/net"
        mounted = _libc.mount(source.encode(), str(path(name)).encode(), b"none", _MS_BIND, None)
        _check(mounted, "can't mount a network namespace")

    try:
        in_thread(body)
    except OSError:
        path(name).unlink()
        raise


def remove(name: str) -> None:
    """Removes the name; the namespace ends with its last process. A missing one is no error."""
    while _libc.umount2(str(path(name)).encode(), _MNT_DETACH) == 0:
        pass
    if ctypes.get_errno() not in (errno.EINVAL, errno.ENOENT):
        _check(-1, f"can't remove namespace {name}")
    path(name).unlink(missing_ok=True)


@contextmanager
def held(name: str) -> Iterator[int]:
    """A file descriptor of the namespace."""
    fd = os.open(path(name), os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)
