"""One agent per role and interface, and the folder for state that agents share."""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from hawkwing import ending
from hawkwing.dataplane import tc
from hawkwing.dataplane.netlink import Netlink
from hawkwing.errors import DataplaneError
from hawkwing.locks import Lock, holder_of, locked_file


class AgentRunsError(DataplaneError):
    """Another agent of this role has the interface."""


def runtime_folder(namespace: Path = Path("/proc/self/ns/net")) -> Path:
    """The folder for locks and sockets of the agents in a network namespace; one per namespace."""
    return Path(os.environ.get("HAWKWING_RUN", "/run/hawkwing")) / str(namespace.stat().st_ino)


class Claim:
    """The exclusive claim of a role on an interface; the kernel releases it when the agent ends.

    `key` is the interface's name or index.
    """

    def __init__(self, role: str, interface: str, key: str | int = "") -> None:
        self._path = runtime_folder() / _file_of(role, key or interface)
        try:
            self._lock = Lock(self._path, wait=False)
        except BlockingIOError:
            raise AgentRunsError(
                f"hawkwing {role} already runs on {interface} (PID {self._owner()}); stop that one first"
            ) from None
        except OSError as error:
            raise DataplaneError(f"can't write {self._path}: {error.strerror}") from None
        try:
            self._lock.write(f"{os.getpid()}\n")
        except OSError as error:
            self.release()
            raise DataplaneError(f"can't write {self._path}: {error.strerror}") from None

    def _owner(self) -> int | str:
        return holder_of(self._path) or "unknown"

    def release(self) -> None:
        """Releases the claim and removes its file."""
        self._lock.release()
        with suppress(OSError):
            self._path.parent.rmdir()
            self._path.parent.parent.rmdir()


def _file_of(role: str, key: str | int) -> str:
    return f"{role}.{key}.lock" if isinstance(key, int) else f"{role}-{key}.lock"


class Claims:
    """The claims of an agent: on the names that it was started with, and on the indexes of its interfaces."""

    def __init__(self, role: str) -> None:
        self._role = role
        self._names: list[Claim] = []
        self._links: dict[int, Claim] = {}

    def take_name(self, name: str) -> None:
        """Claims a name for the role; DataplaneError names the agent that has it."""
        self._names.append(Claim(self._role, name))

    def take_link(self, index: int, name: str) -> None:
        """Claims an interface for the role, regardless of its name."""
        if index not in self._links:
            self._links[index] = Claim(self._role, name, index)

    def drop_link(self, index: int) -> None:
        """Releases the claim on an interface."""
        claim = self._links.pop(index, None)
        if claim is not None:
            claim.release()

    def release(self) -> None:
        """Releases all claims."""
        for claim in [*self._links.values(), *self._names]:
            claim.release()
        self._links, self._names = {}, []


def forget_vanished(ip: Netlink) -> None:
    """Removes the lock files of killed agents whose interface is gone."""
    for path in runtime_folder().glob("*.*.lock"):
        # Names of interfaces can have dots, as in client-eth0.100.lock.
        role, number = path.stem.split(".", 1)
        if "-" not in role and number.isdecimal() and tc.link(ip, int(number)) is None:
            with suppress(BlockingIOError, OSError), locked_file(path, wait=False):
                path.unlink(missing_ok=True)


@contextmanager
def claimed(role: str, interfaces: Sequence[str]) -> Iterator[Claims]:
    """Claims a role on all of the interfaces; DataplaneError names an agent that has one of them."""
    claims = Claims(role)
    with ExitStack() as held, Netlink() as ip:
        held.callback(claims.release)
        with ending.shielded():
            # A signal in between would leave a lock file.
            for name in interfaces:
                claims.take_name(name)
                link = tc.link(ip, name=name)
                if link is not None:
                    claims.take_link(link.index, name)
        yield claims
