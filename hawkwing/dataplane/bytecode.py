"""The programs as bytecode, in files: those that the project ships, and those compiled on this host.

A file has all programs of one role and a digest of their sources. Map references in the code are indexes into
the list of maps; the size of most maps is set when they are created (loader.py). The kernel verifies all
bytecode when it is loaded, regardless of its origin.
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
"""A server's program that is not attached: the agent runs it to remove old flows."""
SEND_PROBES = "send_probes"
"""A client's program that is not attached: the agent runs it to send probes."""
AUTHENTICATE = "authenticate"
"""The program that the others call to sign a packet or to verify its HMAC; loaded with the first key."""
UNATTACHED = frozenset({SWEEP, SEND_PROBES, AUTHENTICATE})

_LOAD_64 = 0x18
_PSEUDO_MAP_FD = 1
_CALL, _MOVE_NUMBER = 0x85, 0xB7
_PROBE_READ_KERNEL = 113
_MOST_CACHED = 8
_INSTRUCTION = struct.Struct("<BBhi")


@dataclass(frozen=True)
class Bytecode:
    """All programs of a role; `source` is the digest of their sources."""

    source: str
    compiler: str
    maps: list[bpf.MapInfo]
    programs: dict[str, bytes]


def programs_of(role: str) -> tuple[str, ...]:
    """All programs of a role."""
    return (*PROGRAMS, SWEEP if role == "server" else SEND_PROBES, AUTHENTICATE)


def wanted(role: str, raw_links: bool, xdp: bool) -> tuple[str, ...]:
    """A role's programs that are needed for these kinds of links and hook."""
    return tuple(
        name
        for name in programs_of(role)
        if name.endswith("_ethernet")
        or (name in UNATTACHED and name != AUTHENTICATE)
        or (raw_links and name.endswith("_raw"))
        or (xdp and name.endswith("_xdp"))
    )


def source_digest(folder: Path | None = None) -> str:
    """The digest of the C sources without comments and spacing; the same sources give the same programs."""
    words = without_comments(flattened(folder=folder, marks=False)).split()
    return hashlib.sha256(" ".join(words).encode()).hexdigest()[:32]


def _instructions(program: bytes) -> Iterator[tuple[int, tuple[int, int, int, int]]]:
    """The position of each instruction, and its operation, registers, offset and immediate value."""
    position = 0
    while position < len(program):
        instruction = _INSTRUCTION.unpack_from(program, position)
        yield position, instruction
        position += 16 if instruction[0] == _LOAD_64 else 8


def with_maps(program: bytes, replace: Mapping[int, int]) -> bytes:
    """The program with `replace[number]` instead of the number of each map."""
    code = bytearray(program)
    for position, (operation, registers, offset, immediate) in _instructions(program):
        if operation == _LOAD_64 and registers >> 4 == _PSEUDO_MAP_FD:
            _INSTRUCTION.pack_into(code, position, operation, registers, offset, replace[immediate])
    return bytes(code)


def without_kernel_reads(program: bytes) -> bytes:
    """The program with failing reads of kernel memory, for a kernel in lockdown mode."""
    code = bytearray(program)
    for position, (operation, registers, _offset, immediate) in _instructions(program):
        if operation == _CALL and registers >> 4 == 0 and immediate == _PROBE_READ_KERNEL:
            _INSTRUCTION.pack_into(code, position, _MOVE_NUMBER, 0, 0, -1)
    return bytes(code)


def dumps(code: Bytecode) -> str:
    """The programs as JSON, one per line."""
    maps = [entry._replace(id=0) for entry in code.maps]
    programs = {
        name: base64.b64encode(zlib.compress(text, 9)).decode() for name, text in code.programs.items()
    }
    return json.dumps(
        {"source": code.source, "compiler": code.compiler, "maps": maps, "programs": programs}, indent=0
    )


def loads(text: str) -> Bytecode | None:
    """Reads the output of `dumps`; None if something is missing or invalid."""
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
    """ValueError or TypeError if it is not a program."""
    *numbers, name = entry
    if not isinstance(name, str) or any(type(number) is not int or number < 0 for number in numbers):
        raise ValueError(entry)
    return bpf.MapInfo(*numbers, name)  # type: ignore[arg-type, call-arg]


def read(path: Path) -> Bytecode | None:
    """The content of a file; None if it can't be read or is incomplete."""
    try:
        return loads(path.read_text())
    except (OSError, ValueError):
        return None


def write(path: Path, code: Bytecode) -> None:
    """Writes a file atomically; OSError if it fails."""
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
    """The file next to the C sources."""
    return source_folder() / "bytecode"


def shipped(role: str) -> Bytecode | None:
    """The project's bytecode, if it was made from the present sources and for this byte order."""
    if sys.byteorder != "little":
        return None
    found = read(shipped_folder() / f"{role}.json")
    return found if found is not None and found.source == source_digest() else None


def cache_folder() -> Path:
    """The folder for programs that were compiled on this host."""
    return Path(os.environ.get("HAWKWING_CACHE", "/var/cache/hawkwing"))


def _cache_file(role: str) -> Path:
    return cache_folder() / f"{role}-{source_digest()}.json"


def cached(role: str) -> Bytecode | None:
    """The programs compiled on this host from these sources; None if the file was changed.

    Only files that no other user than root, or our own, can write are used.
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
    """The first line of a cached file, which depends on role and content."""
    return f"{role} {hashlib.sha256(text.encode()).hexdigest()}"


def keep(role: str, code: Bytecode) -> None:
    """Writes it to the cache, which keeps the latest few; if it can't be written, this only costs time."""
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
