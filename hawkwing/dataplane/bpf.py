"""The bpf(2) system call: maps, program information, test runs. Only this module calls it.

All calls raise OSError with the kernel's errno.
"""

import ctypes
import os
import platform
import struct
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache, partial
from typing import NamedTuple

_MAP_LOOKUP, _MAP_UPDATE, _MAP_DELETE, _MAP_NEXT = 1, 2, 3, 4
_PROG_TEST_RUN, _PROG_ID_TO_FD, _MAP_ID_TO_FD, _OBJECT_INFO = 10, 13, 14, 15
_MAP_CREATE, _PROG_LOAD, _PROG_QUERY = 0, 5, 16
_NUMBERS = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "s390x": 351, "ppc64le": 361}

SCHED_CLS, XDP = 3, 6
TCX_INGRESS, TCX_EGRESS = 46, 47
BPF_ANY, BPF_NOEXIST, BPF_EXIST = 0, 1, 2
_LOG_ROOM = 16 << 20
PERCPU_TYPES = frozenset({5, 6, 10, 21})

_libc = ctypes.CDLL(None, use_errno=True)


@lru_cache(maxsize=1)
def _number() -> int:
    number = _NUMBERS.get(platform.machine())
    if number is None:
        raise OSError(38, f"bpf(2) is not known for {platform.machine()}")
    return number


def _bpf(command: int, attributes: "ctypes.Array[ctypes.c_char]") -> int:
    return _checked(_libc.syscall(_number(), command, attributes, len(attributes)))


def _checked(result: int) -> int:
    if result < 0:
        errno = ctypes.get_errno()
        raise OSError(errno, os.strerror(errno))
    return result


@lru_cache(maxsize=256)
def _array(size: int) -> "type[ctypes.Array[ctypes.c_char]]":
    """Cached, because only a full collection would free a type."""
    return ctypes.c_char * size


def _buffer(data: bytes) -> "ctypes.Array[ctypes.c_char]":
    return _array(len(data)).from_buffer_copy(data) if data else _array(1)()


def _element(map_fd: int, key: int, value: int, flags: int = 0) -> "ctypes.Array[ctypes.c_char]":
    return _buffer(struct.pack("=IxxxxQQQ", map_fd, key, value, flags))


class MapInfo(NamedTuple):
    """The kernel's information about a map."""

    type: int
    id: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int
    name: str


class ProgramInfo(NamedTuple):
    """The kernel's information about a program; run_time in nanoseconds (with kernel.bpf_stats_enabled)."""

    type: int
    id: int
    name: str
    map_ids: tuple[int, ...]
    run_time: int
    run_count: int


def map_info(fd: int) -> MapInfo:
    """Type, sizes and name of the map behind `fd`."""
    info = _buffer(bytes(80))
    _bpf(_OBJECT_INFO, _buffer(struct.pack("=IIQ", fd, len(info), ctypes.addressof(info))))
    kind, number, key, value, entries, flags, name = struct.unpack_from("=6I16s", info)
    return MapInfo(kind, number, key, value, entries, flags, name.rstrip(b"\0").decode())


def program_info(fd: int) -> ProgramInfo:
    """Type, name, maps and statistics of the program behind `fd`."""
    maps = (ctypes.c_uint32 * 64)()
    info = _buffer(bytes(232))
    struct.pack_into("=IQ", info, 52, len(maps), ctypes.addressof(maps))
    _bpf(_OBJECT_INFO, _buffer(struct.pack("=IIQ", fd, len(info), ctypes.addressof(info))))
    kind, number = struct.unpack_from("=II", info)
    (count,) = struct.unpack_from("=I", info, 52)
    name = info.raw[64:80].rstrip(b"\0").decode()
    run_time, run_count = struct.unpack_from("=QQ", info, 192)
    return ProgramInfo(kind, number, name, tuple(maps[:count]), run_time, run_count)


def create_map(like: MapInfo) -> int:
    """A new map of the same kind and size; the id is ignored."""
    attributes = struct.pack(
        "=7I16s",
        like.type,
        like.key_size,
        like.value_size,
        like.max_entries,
        like.flags,
        0,
        0,
        like.name.encode()[:15],
    )
    return _bpf(_MAP_CREATE, _buffer(attributes))


def kind_of(name: str) -> int:
    """The type of one of our programs, by its name."""
    return XDP if name.endswith("_xdp") else SCHED_CLS


def load_program(name: str, code: bytes, kind: int = SCHED_CLS) -> int:
    """Makes the kernel verify and load a program."""
    return _load(name, code, kind, 0, _buffer(b""))


def verifier_log(name: str, code: bytes, kind: int = SCHED_CLS, level: int = 1) -> str:
    """The verifier's log for a program, which is then unloaded; only the end of a long log.

    Level 1: each step; level 4: only the statistics.
    """
    room = _buffer(bytes(_LOG_ROOM))
    with suppress(OSError):
        os.close(_load(name, code, kind, level, room))
    return room.value.decode(errors="replace")


def _load(name: str, code: bytes, kind: int, level: int, log: "ctypes.Array[ctypes.c_char]") -> int:
    instructions, licence = _buffer(code), _buffer(b"GPL\0")
    attributes = struct.pack(
        "=IIQQIIQII16s",
        kind,
        len(code) // 8,
        ctypes.addressof(instructions),
        ctypes.addressof(licence),
        level,
        len(log) if level else 0,
        ctypes.addressof(log) if level else 0,
        0,
        0,
        name.encode()[:15],
    )
    return _bpf(_PROG_LOAD, _buffer(attributes))


def program_by_id(number: int) -> int:
    """A new file descriptor of the program with this id."""
    return _bpf(_PROG_ID_TO_FD, _buffer(struct.pack("=III", number, 0, 0)))


def map_by_id(number: int) -> int:
    """A new file descriptor of the map with this id."""
    return _bpf(_MAP_ID_TO_FD, _buffer(struct.pack("=III", number, 0, 0)))


def programs_on(interface: int, hook: int, most: int = 64) -> list[int]:
    """The ids of the programs on a hook (TCX_*) of an interface, in order; none if the kernel lacks it."""
    numbers = (ctypes.c_uint32 * most)()
    attributes = _buffer(struct.pack("=IIIIQI36x", interface, hook, 0, 0, ctypes.addressof(numbers), most))
    try:
        _bpf(_PROG_QUERY, attributes)
    except OSError:
        # Before Linux 6.6 there is no such hook; an interface may be gone.
        return []
    (count,) = struct.unpack_from("=I", attributes, 24)
    return list(numbers[: min(count, most)])


def possible_cpus() -> int:
    """The number of values in an element of a per-CPU map."""
    with open("/sys/devices/system/cpu/possible") as file:  # noqa: PTH123
        last = file.read().strip().split(",")[-1].split("-")[-1]
    return int(last) + 1


class Map:
    """A map by file descriptor, which it owns. Keys and values are bytes as in the C structures."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.info = map_info(fd)
        copies = possible_cpus() if self.info.type in PERCPU_TYPES else 1
        self._stride = (self.info.value_size + 7) // 8 * 8 if copies > 1 else self.info.value_size
        self._length = self._stride * copies

    def close(self) -> None:
        """Closes the descriptor; the map exists as long as a program uses it."""
        os.close(self.fd)

    def get(self, key: bytes) -> bytes | None:
        """The value (of a per-CPU map: all CPUs' values, one after the other), or None."""
        k, v = _buffer(key), _buffer(bytes(self._length))
        try:
            _bpf(_MAP_LOOKUP, _element(self.fd, ctypes.addressof(k), ctypes.addressof(v)))
        except FileNotFoundError:
            return None
        return v.raw

    def values_per_cpu(self, key: bytes) -> list[bytes]:
        """One value per CPU; empty if there is no element."""
        raw = self.get(key)
        if raw is None:
            return []
        size = self.info.value_size
        return [raw[at : at + size] for at in range(0, len(raw), self._stride)]

    def set(self, key: bytes, value: bytes, flags: int = BPF_ANY) -> None:
        """Writes one element; in hash maps, other CPUs see either the old value or the new one."""
        k, v = _buffer(key), _buffer(value)
        _bpf(_MAP_UPDATE, _element(self.fd, ctypes.addressof(k), ctypes.addressof(v), flags))

    def push(self, value: bytes) -> None:
        """Puts a value on a stack or queue map."""
        v = _buffer(value)
        _bpf(_MAP_UPDATE, _element(self.fd, 0, ctypes.addressof(v)))

    def delete(self, key: bytes) -> None:
        """Removes one element, if it exists."""
        k = _buffer(key)
        try:
            _bpf(_MAP_DELETE, _element(self.fd, ctypes.addressof(k), 0))
        except FileNotFoundError:
            return

    def each_key(self) -> Iterator[bytes]:
        """The keys; an element that is added or removed at the same time may be missed."""
        current = None
        following = _buffer(bytes(self.info.key_size))
        while True:
            try:
                address = 0 if current is None else ctypes.addressof(current)
                _bpf(_MAP_NEXT, _element(self.fd, address, ctypes.addressof(following)))
            except FileNotFoundError:
                return
            current = _buffer(following.raw)
            yield following.raw


class RunResult(NamedTuple):
    """The result of a program for a packet; duration in nanoseconds per run."""

    verdict: int
    packet: bytes
    duration: int


def test_run(fd: int, packet: bytes, context: bytes = b"", repeat: int = 1) -> RunResult:
    """Runs the program on a packet without any interface (BPF_PROG_TEST_RUN)."""
    data_in, data_out = _buffer(packet), _buffer(bytes(len(packet) + 4096))
    context_in = _buffer(context)
    attributes = _buffer(
        struct.pack(
            "=IIIIQQIIIIQQII8x",
            fd,
            0,
            len(packet),
            len(data_out),
            ctypes.addressof(data_in),
            ctypes.addressof(data_out),
            repeat,
            0,
            len(context),
            0,
            ctypes.addressof(context_in) if context else 0,
            0,
            0,
            0,
        )
    )
    _bpf(_PROG_TEST_RUN, attributes)
    _fd, verdict, _in, size, _d, _o, _repeat, duration = struct.unpack_from("=IIIIQQII", attributes)
    return RunResult(ctypes.c_int32(verdict).value, data_out.raw[:size], duration)


class Runner:
    """Runs a program often, on a packet of its own that is changed in place."""

    def __init__(self, fd: int, length: int) -> None:
        self.packet = _buffer(bytes(length))
        address = ctypes.addressof(self.packet)
        self._attributes = _buffer(struct.pack("=IIIIQQII32x", fd, 0, length, 0, address, 0, 1, 0))
        # Views and converted arguments: what is prepared once costs nothing in each round.
        self._words = memoryview(self._attributes).cast("B").cast("I")
        self._call = partial(
            _libc.syscall,
            *map(ctypes.c_long, (_number(), _PROG_TEST_RUN)),
            ctypes.byref(self._attributes),
            ctypes.c_long(len(self._attributes)),
        )

    def run(self) -> int:
        """The program's return value, unsigned."""
        # The kernel writes the packet's length here, and takes it for a limit of the next one.
        self._words[3] = 0
        _checked(self._call())
        return self._words[1]
