"""The slot of a server for decapsulation: its two tables.

A file records it for the next agent on the interface, and for `hawkwing detach`. It is written before any
rule or route, and removed after the last one. A lock shows whether the agent still runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from hawkwing.dataplane.claim import runtime_folder
from hawkwing.dataplane.local_sids import LocalSids
from hawkwing.decap import MOST_SLOTS, Wanted, changes, slot
from hawkwing.errors import DataplaneError
from hawkwing.files import RunFile
from hawkwing.locks import Lock

_ROLE, _ENDING = "server-", ".decap"


def recorded() -> dict[str, int]:
    """The slots of running, stopped and killed agents, by their first interface."""
    found: dict[str, int] = {}
    for path in sorted(runtime_folder().glob(f"{_ROLE}*{_ENDING}")):
        text = (RunFile(path).read() or "").strip()
        if text.isdecimal() and int(text) < MOST_SLOTS:
            found[path.name.removeprefix(_ROLE).removesuffix(_ENDING)] = int(text)
    return found


class Held(NamedTuple):
    """The slot of this process, until its lock is released."""

    number: int
    lock: Lock


def take(kernel: LocalSids, interface: str) -> Held:
    """Locks the slot of the previous agent on an interface, or a free one, and records it; DataplaneError."""
    with _alone():
        used = recorded()
        former = [used[interface]] if interface in used else []
        for number in (*former, *(one for one in range(MOST_SLOTS) if one not in used.values())):
            if number not in former and kernel.is_taken(number):
                continue
            lock = _locked(number)
            if lock is not None:
                RunFile(_file(interface)).write(f"{number}\n")
                return Held(number, lock)
    first, last = slot(0).sids, slot(MOST_SLOTS - 1).own
    raise DataplaneError(
        f"decap: all routing tables from {first} to {last} are in use; "
        "hawkwing detach frees those of stopped agents"
    )


def give_back(kernel: LocalSids, interface: str, held: Held) -> None:
    """Removes all rules and routes of this process, and its record."""
    try:
        clear(kernel, held.number)
        RunFile(_file(interface)).remove()
    finally:
        held.lock.release()


def clean_up(kernel: LocalSids, interface: str) -> bool:
    """Does the same for the last agent on an interface, which does not run; False: it had no slot."""
    number = recorded().get(interface)
    lock = _locked(number) if number is not None else None
    if number is None or lock is None:
        return False
    give_back(kernel, interface, Held(number, lock))
    return True


def tidy(kernel: LocalSids) -> bool:
    """Removes rules and routes of killed agents whose records are gone; False: there are none."""
    lost = kernel.found().slots()
    cleared = False
    if lost:
        with _alone():
            for number in lost - set(recorded().values()):
                lock = _locked(number)
                if lock is not None:
                    clear(kernel, number)
                    lock.release()
                    cleared = True
    return cleared


def clear(kernel: LocalSids, number: int) -> None:
    """Removes all rules and routes of a slot; RefusedError if the kernel refuses."""
    for one in changes(Wanted(), kernel.found().of(slot(number))).remove:
        kernel.remove(one)


def _file(interface: str) -> Path:
    return runtime_folder() / f"{_ROLE}{interface}{_ENDING}"


def _locked(number: int) -> Lock | None:
    """The lock of a slot, even if somebody has removed its file; None: another agent has it."""
    try:
        return Lock(runtime_folder() / f"decap-{number}.lock", wait=False)
    except BlockingIOError:
        return None


@contextmanager
def _alone() -> Iterator[None]:
    """One process at a time, so that two agents do not take the same slot."""
    try:
        lock = Lock(runtime_folder() / "decap.lock")
    except OSError as error:
        raise DataplaneError(f"can't write {runtime_folder()}/decap.lock: {error.strerror}") from None
    try:
        yield
    finally:
        lock.release()
        for folder in (runtime_folder(), runtime_folder().parent):
            with suppress(OSError):
                folder.rmdir()
