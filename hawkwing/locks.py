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
from contextlib import suppress
from pathlib import Path
from typing import IO

_LONGEST_NAME = 100


class Lock:
    """Held until `release` or the end of the process; BlockingIOError if it is taken and `wait` is off."""

    def __init__(self, path: Path, wait: bool = True) -> None:
        self.path = path
        while True:
            self._file = locked_file(path, wait)
            try:
                self._address = _address(path)
                return
            except BlockingIOError:
                # The file was removed, but its process still has the lock.
                self._file.close()
                if not wait:
                    raise
                _wait_for_holder(path)
            except BaseException:
                self._file.close()
                raise

    def write(self, text: str) -> None:
        """Writes text to the file, for other processes."""
        os.ftruncate(self._file.fileno(), 0)
        os.pwrite(self._file.fileno(), text.encode(), 0)

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
    text = str(path.absolute())
    if len(os.fsencode(text)) > _LONGEST_NAME:
        text = hashlib.sha256(os.fsencode(text)).hexdigest()
    return b"\0hawkwing" + os.fsencode(text)


def _address(path: Path) -> socket.socket:
    taken = socket.socket(socket.AF_UNIX)
    try:
        taken.bind(_name(path))
        taken.listen()
    except OSError:
        with socket.socket(socket.AF_UNIX) as asking:
            reached = _reached(asking, path)
            # Other users can take any address, to block us.
            if reached and _peer(asking)[1] not in (0, os.geteuid()):
                return taken
        taken.close()
        raise BlockingIOError(f"{path} is locked") from None
    except BaseException:
        taken.close()
        raise
    return taken


def _reached(asking: socket.socket, path: Path) -> bool:
    try:
        asking.connect(_name(path))
    except OSError:
        return False
    return True


def _peer(asking: socket.socket) -> tuple[int, int]:
    """Process and user at the other end (SO_PEERCRED)."""
    pid, uid, _gid = struct.unpack("=iII", asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
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
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if _is_there(file, path):
                return file
        except BaseException:
            file.close()
            raise
        file.close()


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
