"""Lock files that disappear with their lock, and still let in one at a time."""

import fcntl
import os
import stat
from pathlib import Path
from typing import IO


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
