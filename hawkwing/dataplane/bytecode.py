"""The programs as bytecode, in files: what the project ships, and what was compiled here.

A file holds all programs of one role and names the sources that it was made from. Map references in the code
are indexes into the list of maps; how many entries most maps have is decided when they are made (loader.py).
The kernel verifies all bytecode when it is loaded, wherever it comes from.
"""

import base64
import hashlib
import json
import os
import stat
import struct
import sys
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hawkwing.dataplane import bpf
from hawkwing.dataplane.source import flattened, source_folder, without_comments

ROLES = ("client", "server")
PROGRAMS = ("egress_ethernet", "ingress_ethernet", "egress_raw", "ingress_raw", "ingress_xdp")
SWEEP = "sweep"
"""A server's program that is on no interface: the agent runs it to remove old flows."""

_LOAD_64 = 0x18
_PSEUDO_MAP_FD = 1
_CALL, _MOVE_NUMBER = 0x85, 0xB7
_PROBE_READ_KERNEL = 113
_MOST_CACHED = 8
_INSTRUCTION = struct.Struct("<BBhi")


@dataclass(frozen=True)
class Bytecode:
    """All programs of a role; `source` is the digest of what they were compiled from."""

    source: str
    compiler: str
    maps: list[bpf.MapInfo]
    programs: dict[str, bytes]


def programs_of(role: str) -> tuple[str, ...]:
    """All programs of a role."""
    return (*PROGRAMS, SWEEP) if role == "server" else PROGRAMS


def wanted(role: str, raw_links: bool, xdp: bool) -> tuple[str, ...]:
    """A role's programs that are needed for these kinds of links and hook."""
    return tuple(
        name
        for name in programs_of(role)
        if name.endswith("_ethernet")
        or name == SWEEP
        or (raw_links and name.endswith("_raw"))
        or (xdp and name.endswith("_xdp"))
    )


def source_digest(folder: Path | None = None) -> str:
    """Of the C sources without comments and spacing; the same sources give the same programs."""
    words = without_comments(flattened(folder=folder, marks=False)).split()
    return hashlib.sha256(" ".join(words).encode()).hexdigest()[:32]


def _instructions(program: bytes) -> Iterator[tuple[int, tuple[int, int, int, int]]]:
    """Where each instruction is, and its operation, registers, offset and immediate value."""
    position = 0
    while position < len(program):
        instruction = _INSTRUCTION.unpack_from(program, position)
        yield position, instruction
        position += 16 if instruction[0] == _LOAD_64 else 8


def with_maps(program: bytes, replace: Mapping[int, int]) -> bytes:
    """The program with `replace[number]` in place of the number of each map it refers to."""
    code = bytearray(program)
    for position, (operation, registers, offset, immediate) in _instructions(program):
        if operation == _LOAD_64 and registers >> 4 == _PSEUDO_MAP_FD:
            _INSTRUCTION.pack_into(code, position, operation, registers, offset, replace[immediate])
    return bytes(code)


def without_kernel_reads(program: bytes) -> bytes:
    """The program with each reading of the kernel's memory failing: for a kernel in lockdown mode."""
    code = bytearray(program)
    for position, (operation, registers, _offset, immediate) in _instructions(program):
        if operation == _CALL and registers >> 4 == 0 and immediate == _PROBE_READ_KERNEL:
            _INSTRUCTION.pack_into(code, position, _MOVE_NUMBER, 0, 0, -1)
    return bytes(code)


def dumps(code: Bytecode) -> str:
    """As JSON, one program a line."""
    maps = [entry._replace(id=0) for entry in code.maps]
    programs = {
        name: base64.b64encode(zlib.compress(text, 9)).decode() for name, text in code.programs.items()
    }
    return json.dumps(
        {"source": code.source, "compiler": code.compiler, "maps": maps, "programs": programs}, indent=0
    )


def loads(text: str) -> Bytecode | None:
    """What `dumps` made; None where something is missing or wrong."""
    try:
        data = json.loads(text)
        maps = [_map_info(entry) for entry in data["maps"]]
        found = data["programs"].items()
        programs = {name: zlib.decompress(base64.b64decode(text)) for name, text in found}
        source, compiler = data["source"], data["compiler"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, zlib.error):
        return None
    whole = all(text and len(text) % _INSTRUCTION.size == 0 for text in programs.values())
    if not programs.keys() >= set(PROGRAMS) or not whole or not isinstance(compiler, str):
        return None
    return Bytecode(source, compiler, maps, programs)


def _map_info(entry: Sequence[object]) -> bpf.MapInfo:
    """ValueError or TypeError where it isn't one."""
    *numbers, name = entry
    if not isinstance(name, str) or any(type(number) is not int or number < 0 for number in numbers):
        raise ValueError(entry)
    return bpf.MapInfo(*numbers, name)  # type: ignore[arg-type, call-arg]


def read(path: Path) -> Bytecode | None:
    """What a file holds, if it can be read and is whole."""
    try:
        return loads(path.read_text())
    except (OSError, ValueError):
        return None


def write(path: Path, code: Bytecode) -> None:
    """Whole or not at all; OSError says why not."""
    _write(path, dumps(code))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
        try:
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            Path(file.name).rename(path)
        except OSError:
            Path(file.name).unlink(missing_ok=True)
            raise


def shipped_folder() -> Path:
    """Beside the C sources."""
    return source_folder() / "bytecode"


def shipped(role: str) -> Bytecode | None:
    """What the project brings, if it was made from the sources that are here and for this byte order."""
    if sys.byteorder != "little":
        return None
    found = read(shipped_folder() / f"{role}.json")
    return found if found is not None and found.source == source_digest() else None


def cache_folder() -> Path:
    """Where programs that were compiled here are kept."""
    return Path(os.environ.get("HAWKWING_CACHE", "/var/cache/hawkwing"))


def _cache_file(role: str) -> Path:
    return cache_folder() / f"{role}-{source_digest()}.json"


def cached(role: str) -> Bytecode | None:
    """What was compiled here from these sources; None where the file is not just as it was written.

    Only files that nobody but root, or the user we are, can write are used.
    """
    try:
        descriptor = os.open(_cache_file(role), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor) as file:
            info = os.fstat(file.fileno())
            if not stat.S_ISREG(info.st_mode) or info.st_uid not in (0, os.geteuid()) or info.st_mode & 0o022:
                return None
            head, _, text = file.read().partition("\n")
    except (OSError, ValueError):
        return None
    if head != _seal(role, text):
        return None
    found = loads(text)
    return found if found is not None and found.source == source_digest() else None


def _seal(role: str, text: str) -> str:
    """The first line of a cached file: one of another role, or a changed one, has another."""
    return f"{role} {hashlib.sha256(text.encode()).hexdigest()}"


def keep(role: str, code: Bytecode) -> None:
    """Puts it into the cache, beside the latest few others; a cache that can't be written costs only time."""
    try:
        text = dumps(code)
        _write(_cache_file(role), f"{_seal(role, text)}\n{text}")
        files = sorted(cache_folder().glob("*.json"), key=lambda path: path.stat().st_mtime)
        for old in files[:-_MOST_CACHED]:
            old.unlink(missing_ok=True)
    except OSError:
        return


if __name__ == "__main__":
    from hawkwing.dataplane.trial import main

    sys.exit(main())
