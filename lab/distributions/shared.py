"""The cache folder, used by one run at a time."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.network import LabError


@contextmanager
def claimed_cache(cache: Path) -> Iterator[None]:
    """Creates and locks the folder; LabError if another run uses it."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LabError(
                f"another run uses {cache}, wait for it or set another folder with --cache"
            ) from None
        yield
