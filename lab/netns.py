"""Named network namespaces under /run/netns, as in ip-netns(8).

A namespace can have a mark of its owner: the alias of its loopback interface.
"""

import ctypes
import errno
import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from pyroute2 import IPRoute

FOLDER = Path("/run/netns")
_CLONE_NEWNET = 0x40000000
_MS_BIND, _MS_REC, _MS_SHARED = 1 << 12, 1 << 14, 1 << 20
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


def _share_folder() -> None:
    """Makes /run/netns a shared mount, as the first `ip netns add` does.

    If it is done later, it hides the existing namespaces, which then can't be removed. With a shared mount,
    a removed namespace also disappears from the mount namespaces of other processes.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    with _held_folder() as folder:
        fcntl.flock(folder, fcntl.LOCK_EX)
        name = str(FOLDER).encode()
        if _libc.mount(b"none", name, b"none", _MS_SHARED | _MS_REC, None) == 0:
            return
        if ctypes.get_errno() != errno.EINVAL:
            _check(-1, f"can't share {FOLDER}")
        _check(_libc.mount(name, name, b"none", _MS_BIND | _MS_REC, None), f"can't make {FOLDER} a mount")
        _check(_libc.mount(b"none", name, b"none", _MS_SHARED | _MS_REC, None), f"can't share {FOLDER}")


@contextmanager
def _held_folder() -> Iterator[int]:
    """A file descriptor of /run/netns; ip(8) locks it, too, while it does the same."""
    fd = os.open(FOLDER, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def create(name: str, mark: str = "") -> None:
    """Creates a namespace; FileExistsError if the name is in use by a live one."""
    _share_folder()
    if path(name).exists() and not exists(name):
        # The file of a killed `up`, with no namespace.
        path(name).unlink(missing_ok=True)
    path(name).touch(exist_ok=False)

    def body() -> None:
        _check(
            _libc.unshare(_CLONE_NEWNET), "can't create a network namespace (CONFIG_NET_NS, root privileges)"
        )
        if mark:
            # Before it has a name, so that every named namespace has its mark.
            with IPRoute() as ip:
                ip.link("set", index=1, ifalias=mark)
        source = f"/proc/self/task/{threading.get_native_id()}/ns/net"
        mounted = _libc.mount(source.encode(), str(path(name)).encode(), b"none", _MS_BIND, None)
        _check(mounted, "can't mount a network namespace")

    try:
        in_thread(body)
    except BaseException:
        path(name).unlink()
        raise


def marked(mark: str, prefix: str = "") -> list[str]:
    """The namespaces with this mark, of those whose names begin with `prefix`."""
    return [name for name in names(prefix) if mark_of(name) == mark]


def names(prefix: str = "") -> list[str]:
    """All live namespaces with names."""
    if not FOLDER.exists():
        return []
    return sorted(
        file.name for file in FOLDER.iterdir() if file.name.startswith(prefix) and exists(file.name)
    )


def mark_of(name: str) -> str:
    """The namespace's mark; empty if it has none, or is gone."""

    def read() -> str:
        with IPRoute() as ip:
            (loopback,) = ip.get_links(1)
            return loopback.get_attr("IFLA_IFALIAS") or ""

    try:
        return run_inside(name, read)
    except OSError:
        return ""


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
