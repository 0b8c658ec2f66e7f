"""One agent a role and interface, and the folder where agents keep what the others must know."""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from hawkwing import ending
from hawkwing.errors import DataplaneError
from hawkwing.locks import locked_file


class AgentRunsError(DataplaneError):
    """Another agent of this role has the interface."""


def runtime_folder(namespace: Path = Path("/proc/self/ns/net")) -> Path:
    """Where the agents of a network namespace keep their locks and sockets: one folder a namespace."""
    return Path(os.environ.get("HAWKWING_RUN", "/run/hawkwing")) / str(namespace.stat().st_ino)


@contextmanager
def claimed(role: str, interfaces: Sequence[str]) -> Iterator[None]:
    """Makes us the one agent of a role on all of the interfaces; DataplaneError names another one."""
    with ExitStack() as held:
        with ending.shielded():
            # A signal in between would leave a lock file behind.
            for name in interfaces:
                held.callback(Claim(role, name).release)
        yield


class Claim:
    """The right to be the one agent of a role on an interface; the kernel takes it back from the dead."""

    def __init__(self, role: str, interface: str) -> None:
        self._path = runtime_folder() / f"{role}-{interface}.lock"
        try:
            self._file = locked_file(self._path, wait=False)
        except BlockingIOError:
            raise AgentRunsError(
                f"hawkwing {role} already runs on {interface} (process {self._owner()}); stop that one first"
            ) from None
        self._file.truncate(0)
        self._file.write(f"{os.getpid()}\n")
        self._file.flush()

    def _owner(self) -> str:
        with suppress(OSError):
            return self._path.read_text().strip() or "unknown"
        return "unknown"

    def release(self) -> None:
        """Gives the right back and removes its file."""
        self._path.unlink(missing_ok=True)
        self._file.close()
        with suppress(OSError):
            self._path.parent.rmdir()
            self._path.parent.parent.rmdir()
