"""The state that a restarted agent takes over from its predecessor, also after a kill.

A client saves the addresses of its names and the controller's last valid paths in a small file. A server's
learned flows are in its maps, which the next agent finds through the attached programs.
"""

import asyncio
import json
import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv6Address
from pathlib import Path

from hawkwing import notify
from hawkwing.dataplane import attach, bpf
from hawkwing.dataplane.bytecode import ROLES
from hawkwing.dataplane.claim import runtime_folder
from hawkwing.dataplane.source import meaning
from hawkwing.errors import DataplaneError
from hawkwing.files import RunFile
from hawkwing.intents import Intent, IntentType, PathQuery
from hawkwing.sids import SidList
from hawkwing.steering import Steering
from hawkwing.tasks import Supervisor

log = logging.getLogger(__name__)
_INHERITED_TTL = 60.0
_KERNEL_NAME = 15  # the kernel truncates map names
_AT_ONCE = 10
_PAUSE = 0.1
_REST = 4  # seconds of pause for each second of writing


def _file(role: str, interface: str) -> Path:
    return runtime_folder() / f"{role}-{interface}.state"


def _programs_file(role: str, interface: str) -> Path:
    return runtime_folder() / f"{role}-{interface}.programs"


def tidy(role: str, interface: str) -> None:
    """Discards saved state if the filters are no longer attached: it is out of date."""
    left = _file(role, interface).exists() or _programs_file(role, interface).exists()
    if left and not attach.left_behind(role, interface):
        discard(role, interface)


class Note:
    """Which programs are attached, and a digest of their maps' layout, for the next agent.

    It is written before the programs are attached, because an agent may be killed meanwhile.
    """

    def __init__(self, role: str, interface: str) -> None:
        self._path = _programs_file(role, interface)
        #: The ids of the programs that the previous agent has recorded.
        self.former = noted_programs(role, interface)
        self._before = RunFile(self._path).read()

    def announce(self, programs: Iterable[int]) -> None:
        """Records programs that are about to replace the former ones."""
        self._write(json.dumps({"meaning": meaning(), "programs": list(programs), "former": self.former}))

    def confirm(self, programs: Iterable[int]) -> None:
        """Records that these programs are attached, and no others."""
        self._write(json.dumps({"meaning": meaning(), "programs": list(programs)}))

    def take_back(self) -> None:
        """Restores the previous agent's record: the new programs were not attached."""
        if self._before is None:
            RunFile(self._path).remove()
        else:
            self._write(self._before)

    def _write(self, text: str) -> None:
        RunFile(self._path).write(text)


def programs_of_others(role: str) -> set[int]:
    """The ids of programs that agents of the other role have recorded, on any interface."""
    folder = runtime_folder()
    noted: set[int] = set()
    for other in ROLES:
        if other != role:
            for path in folder.glob(f"{other}-*.programs"):
                noted.update(noted_programs(other, path.name[len(other) + 1 : -len(".programs")]))
    return noted


def noted_programs(role: str, interface: str) -> list[int]:
    """The ids of all programs that an agent has recorded; none without a record."""
    try:
        note = json.loads(_programs_file(role, interface).read_text())
        numbers = [*note["programs"], *note.get("former", ())]
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return []
    return [number for number in numbers if isinstance(number, int)]


def running_maps(role: str, interface: str) -> dict[str, int]:
    """The maps of a server's programs that are still attached, by name; a client starts with new ones."""
    if role != "server":
        return {}
    maps: dict[str, int] = {}
    stored = {name[:_KERNEL_NAME]: fd for name, fd in notify.stored().items()}
    try:
        note = json.loads(_programs_file(role, interface).read_text())
        if note["meaning"] != meaning():
            log.warning("the previous agent had a different version: flows are learned again")
            _close(stored)
            return {}
        if stored:
            return stored
        for program in [bpf.program_by_id(number) for number in note["programs"]]:
            for number in bpf.program_info(program).map_ids:
                fd = bpf.map_by_id(number)
                name = bpf.map_info(fd).name
                if name in maps:
                    os.close(fd)
                else:
                    maps[name] = fd
            os.close(program)
    except PermissionError:
        log.warning("taking over the previous agent's flows needs CAP_SYS_ADMIN: flows are learned again")
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        # No file: no filters were kept. No such program: its filter was removed.
        _close(stored)
    return maps


def _close(maps: Mapping[str, int]) -> None:
    for descriptor in maps.values():
        os.close(descriptor)


class Saver:
    """Saves a client's state for its successor, in the background."""

    def __init__(self, steering: Steering, interface: str, tasks: Supervisor) -> None:
        self._steering = steering
        self._tasks = tasks
        self._file = _file("client", interface)
        self._unsaved = False
        self._task: asyncio.Task[None] | None = None

    def soon(self) -> None:
        """Saves soon: the first change at once, later ones combined."""
        self._unsaved = True
        if self._task is None or self._task.done():
            self._task = self._tasks.once("saving learned addresses and paths", self._save_while_unsaved())

    def close(self) -> None:
        """Saves for the last time."""
        if self._task is not None:
            self._task.cancel()
        self._write("".join(_state(self._steering)))

    async def _save_while_unsaved(self) -> None:
        while self._unsaved:
            self._unsaved = False
            begun = time.monotonic()
            pieces = []
            for number, piece in enumerate(_state(self._steering)):
                pieces.append(piece)
                if number % _AT_ONCE == 0:
                    # Each time it writes the whole state: the application of paths must not wait for it.
                    await asyncio.sleep(0)
            self._write("".join(pieces))
            await asyncio.sleep(max(_PAUSE, _REST * (time.monotonic() - begun)))

    def _write(self, text: str) -> None:
        try:
            RunFile(self._file).write(text)
        except DataplaneError as error:
            log.warning("learned addresses are not saved for a restart: %s", error)


def _state(steering: Steering) -> Iterator[str]:
    """The file's text in pieces, each of which takes little time."""
    yield '{"names": {'
    comma = ""
    for name, found in steering.learned().items():
        yield f"{comma}{json.dumps(name)}: {json.dumps([str(address) for address in found])}"
        comma = ", "
    yield '}, "answers": ['
    comma = ""
    for query, sids in steering.answers():
        yield comma + json.dumps(_answer(query, sids))
        comma = ", "
    yield "]}"


def _answer(query: PathQuery, sids: SidList) -> dict[str, object]:
    return {
        "source": str(query.source),
        "destination": str(query.destination),
        "intents": [_intent_fields(intent) for intent in query.intents],
        "sids": [str(sid) for sid in sids],
    }


def restore(steering: Steering, interface: str) -> None:
    """Takes over the previous agent's state, except for entries that are no longer configured."""
    try:
        state = json.loads(_file("client", interface).read_text())
        answers = [
            (_query(entry), tuple(IPv6Address(s) for s in entry["sids"])) for entry in state["answers"]
        ]
        names = {name: [IPv6Address(a) for a in found] for name, found in state["names"].items()}
    except FileNotFoundError:
        return
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        log.warning("the state of the previous agent can't be read and is ignored")
        return
    for name, found in names.items():
        steering.learn(name, found, _INHERITED_TTL)
    asked = set(steering.queries())
    for query, sids in answers:
        if query in asked and sids:
            steering.set_controller_path(query, sids)


def discard(role: str, interface: str) -> None:
    """Removes the saved state."""
    for path in (_file(role, interface), _programs_file(role, interface)):
        try:
            RunFile(path).remove()
        except DataplaneError as error:
            # The filters must be removed in any case.
            log.warning("%s", error)


def _intent_fields(intent: Intent) -> list[object]:
    return [
        intent.type.value,
        intent.min_value,
        intent.max_value,
        list(intent.functions),
        intent.flex_algo_number,
    ]


def _query(entry: dict[str, object]) -> PathQuery:
    listed = entry["intents"]
    assert isinstance(listed, list)
    intents = tuple(
        Intent(IntentType(kind), low, high, tuple(chain), algo) for kind, low, high, chain, algo in listed
    )
    return PathQuery(IPv6Address(str(entry["source"])), IPv6Address(str(entry["destination"])), intents)
