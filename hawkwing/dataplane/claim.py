"""One agent a role and interface, and the folder where agents keep what the others must know."""

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
    """Where the agents of a network namespace keep their locks and sockets: one folder a namespace."""
    return Path(os.environ.get("HAWKWING_RUN", "/run/hawkwing")) / str(namespace.stat().st_ino)


class Claim:
    """The right to be the one agent of a role on an interface; the kernel takes it back from the dead.

    `key` is the interface's name or index.
    """

    def __init__(self, role: str, interface: str, key: str | int = "") -> None:
        self._path = runtime_folder() / _file_of(role, key or interface)
        try:
            self._lock = Lock(self._path, wait=False)
        except BlockingIOError:
            raise AgentRunsError(
                f"hawkwing {role} already runs on {interface} (process {self._owner()}); stop that one first"
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
        """Gives the right back and removes its file."""
        self._lock.release()
        with suppress(OSError):
            self._path.parent.rmdir()
            self._path.parent.parent.rmdir()


def _file_of(role: str, key: str | int) -> str:
    return f"{role}.{key}.lock" if isinstance(key, int) else f"{role}-{key}.lock"


class Claims:
    """An agent's: the names that it was started with, and the interfaces, by index, that it is on."""

    def __init__(self, role: str) -> None:
        self._role = role
        self._names: list[Claim] = []
        self._links: dict[int, Claim] = {}

    def take_name(self, name: str) -> None:
        """No other agent of the role may be asked for this name; DataplaneError names the one that was."""
        self._names.append(Claim(self._role, name))

    def take_link(self, index: int, name: str) -> None:
        """No other agent of the role may be on this interface, whatever its name."""
        if index not in self._links:
            self._links[index] = Claim(self._role, name, index)

    def drop_link(self, index: int) -> None:
        """It may be another one's."""
        claim = self._links.pop(index, None)
        if claim is not None:
            claim.release()

    def release(self) -> None:
        """All of them."""
        for claim in [*self._links.values(), *self._names]:
            claim.release()
        self._links, self._names = {}, []


def forget_vanished(ip: Netlink) -> None:
    """Removes the lock files of killed agents whose interface is gone."""
    for path in runtime_folder().glob("*.*.lock"):
        # Names of interfaces may have dots, too, as in client-eth0.100.lock.
        role, number = path.stem.split(".", 1)
        if "-" not in role and number.isdecimal() and tc.link(ip, int(number)) is None:
            with suppress(BlockingIOError, OSError), locked_file(path, wait=False):
                path.unlink(missing_ok=True)


@contextmanager
def claimed(role: str, interfaces: Sequence[str]) -> Iterator[Claims]:
    """Makes us the one agent of a role on all of the interfaces; DataplaneError names another one."""
    claims = Claims(role)
    with ExitStack() as held, Netlink() as ip:
        held.callback(claims.release)
        with ending.shielded():
            # A signal in between would leave a lock file behind.
            for name in interfaces:
                claims.take_name(name)
                link = tc.link(ip, name=name)
                if link is not None:
                    claims.take_link(link.index, name)
        yield claims
