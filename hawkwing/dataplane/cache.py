"""What BCC has compiled once need not be compiled again: bytecode in a file named after its sources.

The key covers the flattened sources, the flags and the machine; the kernel verifies the bytecode anew in
any case. A cache that can't be read or written only costs time.
"""

import base64
import hashlib
import json
import os
import platform
import struct
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hawkwing.dataplane import bpf

_LOAD_64 = 0x18
_PSEUDO_MAP_FD = 1
_MOST = 16
_INSTRUCTION = struct.Struct("<BBhi")
_MEMORIES = frozenset({"recalled_flows", "flow_changes"})
"""What programs only remember: made anew each time, and so no hindrance when a version changes their form."""


@dataclass(frozen=True)
class Compiled:
    """Programs whose map references are indexes into `maps`."""

    maps: list[bpf.MapInfo]
    programs: dict[str, bytes]


def folder() -> Path:
    """Where the compiled programs are kept."""
    return Path(os.environ.get("HAWKWING_CACHE", "/var/cache/hawkwing"))


def key(*parts: str) -> str:
    """A name for what these sources and flags give on this machine."""
    return hashlib.sha256("\0".join([platform.machine(), *parts]).encode()).hexdigest()[:32]


def symbolic(program: bytes, map_fds: dict[int, int]) -> bytes:
    """The program with `map_fds[descriptor]` in place of each map's descriptor."""
    return _with_maps(program, map_fds)


def _with_maps(program: bytes, replace: dict[int, int]) -> bytes:
    code = bytearray(program)
    position = 0
    while position < len(code):
        operation, registers, offset, immediate = _INSTRUCTION.unpack_from(code, position)
        if operation == _LOAD_64:
            if registers >> 4 == _PSEUDO_MAP_FD:
                _INSTRUCTION.pack_into(code, position, operation, registers, offset, replace[immediate])
            position += 8
        position += 8
    return bytes(code)


def read(name: str) -> Compiled | None:
    """What is kept under this key, if anything that can be read."""
    try:
        data = json.loads((folder() / name).read_text())
        maps = [bpf.MapInfo(*entry) for entry in data["maps"]]
        programs = {k: base64.b64decode(v) for k, v in data["programs"].items()}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Compiled(maps, programs)


def write(name: str, compiled: Compiled) -> None:
    """Keeps it, whole or not at all, beside the latest few others."""
    text = json.dumps(
        {
            "maps": compiled.maps,
            "programs": {k: base64.b64encode(v).decode() for k, v in compiled.programs.items()},
        }
    )
    try:
        folder().mkdir(mode=0o700, parents=True, exist_ok=True)
        kept = sorted(folder().iterdir(), key=lambda path: path.stat().st_mtime)
        for old in kept[: 1 - _MOST]:
            old.unlink(missing_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=folder(), delete=False) as file:
            file.write(text)
        Path(file.name).rename(folder() / name)
    except OSError:
        return


def fitting(compiled: Compiled, inherited: Mapping[str, int]) -> dict[str, int]:
    """The inherited maps, if each map that these programs need to go on is among them in the same form."""
    wanted = {
        entry.name: entry._replace(id=0, name="") for entry in compiled.maps if entry.name not in _MEMORIES
    }
    kernel_names = {name[:15]: name for name in wanted}
    found = {kernel_names[name]: fd for name, fd in inherited.items() if name in kernel_names}
    same = all(bpf.map_info(fd)._replace(id=0, name="") == wanted[name] for name, fd in found.items())
    return found if same and set(found) == set(wanted) else {}


def load(compiled: Compiled, existing: Mapping[str, int]) -> tuple[dict[str, int], dict[str, int]]:
    """Makes the maps that don't exist and loads the programs; descriptors by name. OSError says why not."""
    maps: list[int] = []
    programs: dict[str, int] = {}
    try:
        for entry in compiled.maps:
            maps.append(existing[entry.name] if entry.name in existing else bpf.create_map(entry))
        for name, code in compiled.programs.items():
            programs[name] = bpf.load_program(
                name,
                _with_maps(code, dict(enumerate(maps))),
                bpf.XDP if name.endswith("_xdp") else bpf.SCHED_CLS,
            )
    except OSError:
        for fd in [*maps, *programs.values()]:
            if fd not in existing.values():
                os.close(fd)
        raise
    return programs, {entry.name: fd for entry, fd in zip(compiled.maps, maps, strict=True)}
