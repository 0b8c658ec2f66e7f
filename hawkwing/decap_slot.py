"""The slot of a server for decapsulation: its two tables.

A file records it for the next agent on the interface, and for `hawkwing detach`. It is written before any
rule or route, and removed after the last one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

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


def take(kernel: LocalSids, interface: str) -> int:
    """The slot of the previous agent on an interface, or a free one, which is recorded; DataplaneError."""
    with _alone():
        used = recorded()
        if interface in used:
            return used[interface]
        for number in range(MOST_SLOTS):
            if number not in used.values() and not kernel.is_taken(number):
                RunFile(_file(interface)).write(f"{number}\n")
                return number
    first, last = slot(0).sids, slot(MOST_SLOTS - 1).own
    raise DataplaneError(
        f"decap: all routing tables from {first} to {last} are in use; "
        "hawkwing detach frees those of stopped agents"
    )


def release(kernel: LocalSids, interface: str) -> bool:
    """Removes all rules and routes of the agent on an interface, which does not run; False: it had none."""
    number = recorded().get(interface)
    if number is None:
        return False
    clear(kernel, number)
    RunFile(_file(interface)).remove()
    return True


def tidy(kernel: LocalSids) -> bool:
    """Removes rules and routes of killed agents whose records are gone; False: there are none."""
    lost = kernel.found().slots()
    if not lost:
        return False
    with _alone():
        lost -= set(recorded().values())
        for number in lost:
            clear(kernel, number)
    return bool(lost)


def clear(kernel: LocalSids, number: int) -> None:
    """Removes all rules and routes of a slot; RefusedError if the kernel refuses."""
    for one in changes(Wanted(), kernel.found().of(slot(number))).remove:
        kernel.remove(one)


def _file(interface: str) -> Path:
    return runtime_folder() / f"{_ROLE}{interface}{_ENDING}"


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
