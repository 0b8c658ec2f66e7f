"""Locks that one process has at a time, with a file that disappears with its lock.

The file alone is not enough: somebody may remove it while it is locked, and the next process would lock a new
one. So whoever has the lock has an abstract Unix address, too (unix(7)): nobody can remove that, the kernel
frees it when its process ends, and it tells the process.
"""

import fcntl
import hashlib
import os
import socket
import stat
import struct
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO

_FAMILY = b"\0hawkwing"
_LONGEST_ADDRESS = 108
"""Bytes in struct sockaddr_un."""
_CREDENTIALS = struct.Struct("=iII")


class Lock:
    """Taken until `release` or the end of the process; BlockingIOError if it is taken and `wait` is off."""

    def __init__(self, path: Path, wait: bool = True) -> None:
        self.path = path
        while True:
            with ExitStack() as undone:
                self._file = undone.enter_context(locked_file(path, wait))
                try:
                    self._address = _address(path)
                    undone.pop_all()
                    return
                except BlockingIOError:
                    # The file was removed, but its process still has the lock.
                    if not wait:
                        raise
            _wait_for_holder(path)

    def write(self, text: str) -> None:
        """What others find in the file."""
        os.ftruncate(self._file.fileno(), 0)
        os.write(self._file.fileno(), text.encode())

    def release(self) -> None:
        """Gives the lock back and removes its file."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)
        self._address.close()
        self._file.close()


def holder_of(path: Path) -> int | None:
    """The process that has the lock; None where nobody has it."""
    with socket.socket(socket.AF_UNIX) as asking:
        return _peer(asking)[0] if _reached(asking, path) else None


def _name(path: Path) -> bytes:
    name = os.fsencode(path.absolute())
    if len(_FAMILY) + len(name) > _LONGEST_ADDRESS:
        name = hashlib.sha256(name).hexdigest().encode()
    return _FAMILY + name


def _address(path: Path) -> socket.socket:
    with ExitStack() as undone:
        taken = undone.enter_context(socket.socket(socket.AF_UNIX))
        try:
            taken.bind(_name(path))
            taken.listen()
        except OSError:
            with socket.socket(socket.AF_UNIX) as asking:
                # Others may take any address, to keep us out.
                if not _reached(asking, path) or _peer(asking)[1] in (0, os.geteuid()):
                    raise BlockingIOError(f"{path} is locked") from None
        undone.pop_all()
        return taken


def _reached(asking: socket.socket, path: Path) -> bool:
    try:
        asking.connect(_name(path))
    except OSError:
        return False
    return True


def _peer(asking: socket.socket) -> tuple[int, int]:
    """Process and user at the other end (SO_PEERCRED)."""
    told = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _gid = _CREDENTIALS.unpack(told)
    return pid, uid


def _wait_for_holder(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as asking:
        if _reached(asking, path):
            # Nobody accepts it: it ends with the process that has the address.
            with suppress(OSError):
                asking.recv(1)


def locked_file(path: Path, wait: bool = True) -> IO[str]:
    """The file, made where it is missing and locked; BlockingIOError if another has it and `wait` is off.

    Whoever has the lock may remove the file. Who waited for it then has the lock of a file that nobody
    finds any more, and tries again with the one that is there.
    """
    while True:
        try:
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            file = path.open("a+")
        except (FileNotFoundError, FileExistsError):
            if _is_in_the_way(path.parent):
                raise
            # The folder has gone with the lock before, in between.
            continue
        with ExitStack() as undone:
            undone.enter_context(file)
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if _is_there(file, path):
                undone.pop_all()
                return file


def _is_in_the_way(folder: Path) -> bool:
    try:
        return not stat.S_ISDIR(folder.stat().st_mode)
    except FileNotFoundError:
        return False


def _is_there(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
