"""Locks that one process has at a time, with a file that disappears with its lock.

The file alone is not enough: if another program removes it while it is locked, the next process would lock a
new one. So the holder of the lock also has an abstract Unix address (unix(7)): nobody can remove that, the
kernel frees it when its process ends, and it identifies the process.
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
    """Held until `release` or the end of the process; BlockingIOError if it is taken and `wait` is off."""

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
        """Writes text to the file, for other processes."""
        os.ftruncate(self._file.fileno(), 0)
        os.write(self._file.fileno(), text.encode())

    def release(self) -> None:
        """Releases the lock and removes its file."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)
        self._address.close()
        self._file.close()


def holder_of(path: Path) -> int | None:
    """The process that has the lock; None if it is free."""
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
                # Other users can take any address, to block us.
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
            # Never accepted: the connection ends with the process that has the address.
            with suppress(OSError):
                asking.recv(1)


def locked_file(path: Path, wait: bool = True) -> IO[str]:
    """Creates the file if needed, and locks it; BlockingIOError if it is locked and `wait` is off.

    The holder of the lock may remove the file. A process that waited then has the lock of a removed file, and
    tries again with the current file.
    """
    while True:
        try:
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            file = path.open("a+")
        except (FileNotFoundError, FileExistsError):
            if _is_in_the_way(path.parent):
                raise
            # The folder was removed with the previous lock.
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
