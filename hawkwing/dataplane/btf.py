"""Where the kernel stores an IPv6 socket's fragmentation settings, from its type information (BTF).

BTF (the kernel's Documentation/bpf/btf.rst) describes all types of a kernel. This module searches for a few
members by their names, and does not read the rest.
"""

import struct
import sys
from dataclasses import dataclass
from pathlib import Path

_FILE = Path("/sys/kernel/btf/vmlinux")
_MAGIC = 0xEB9F
_HEADER = struct.Struct("=HBBIIIII")
_TYPE = struct.Struct("=III")
_MEMBER = struct.Struct("=III")
_ENUMERATOR = struct.Struct("=Ii")
_STRUCT = 4


@dataclass(frozen=True)
class Field:
    """Bits of a byte in a structure: bytes from its start, position in the byte, and a mask once shifted."""

    at: int
    shift: int
    mask: int


@dataclass(frozen=True)
class SocketFields:
    """`pinet6` is the offset in struct inet_sock of its struct ipv6_pinfo, which has `pmtudisc`.

    `dontfrag` is in the same structure, or since Linux 6.8 in struct inet_sock; None: not found.
    """

    pinet6: int
    pmtudisc: Field
    dontfrag: Field | None = None
    dontfrag_in_socket: bool = False


class Btf:
    """A kernel's types; ValueError if the data is not BTF of this byte order."""

    def __init__(self, data: bytes) -> None:
        if len(data) < _HEADER.size:
            raise ValueError("BTF ends in its header")
        magic, _version, _flags, size, types, type_bytes, strings, string_bytes = _HEADER.unpack_from(data)
        if magic != _MAGIC:
            raise ValueError("not BTF of this byte order")
        self._types = data[size + types : size + types + type_bytes]
        self._strings = data[size + strings : size + strings + string_bytes]

    def member(self, structure: str, name: str) -> tuple[int, int] | None:
        """Bits from the structure's start, and the number of bits of a bit field, otherwise 0."""
        for at, count, bit_fields in self._described(structure):
            wanted = self._names(name)
            for place in range(at, at + count * _MEMBER.size, _MEMBER.size):
                if place + _MEMBER.size > len(self._types):
                    break
                named, _kind, offset = _MEMBER.unpack_from(self._types, place)
                if named in wanted:
                    return (offset & 0xFFFFFF, offset >> 24) if bit_fields else (offset, 0)
        return None

    def enumerator(self, name: str) -> int | None:
        """The value of a constant of an enumeration without a name."""
        for named in self._names(name):
            at = self._types.find(named.to_bytes(4, sys.byteorder))
            while at >= 0:
                value = _ENUMERATOR.unpack_from(self._types, at)[1] if at + 8 <= len(self._types) else -1
                if at % 4 == 0 and 0 <= value < 64:
                    return value
                at = self._types.find(named.to_bytes(4, sys.byteorder), at + 1)
        return None

    def _names(self, name: str) -> set[int]:
        """The offsets of a string, which may exist more than once."""
        wanted, found = b"\0" + name.encode() + b"\0", set()
        at = self._strings.find(wanted)
        while at >= 0:
            found.add(at + 1)
            at = self._strings.find(wanted, at + 1)
        return found

    def _described(self, name: str) -> list[tuple[int, int, bool]]:
        """The offset of each such type's members, their number, and whether some are bit fields."""
        found = []
        for named in self._names(name):
            text = named.to_bytes(4, sys.byteorder)
            at = self._types.find(text)
            while at >= 0:
                if at % 4 == 0 and at + _TYPE.size <= len(self._types):
                    _named, info, _size = _TYPE.unpack_from(self._types, at)
                    if info >> 24 & 0x1F == _STRUCT and info & 0xFFFF:
                        found.append((at + _TYPE.size, info & 0xFFFF, bool(info >> 31)))
                at = self._types.find(text, at + 1)
        return found


def socket_fields(path: Path = _FILE) -> SocketFields | None:
    """The offsets; None if the kernel has no BTF, or no such members in it."""
    try:
        btf = Btf(path.read_bytes())
    except (OSError, ValueError):
        return None
    pinet6, discovery = btf.member("inet_sock", "pinet6"), btf.member("ipv6_pinfo", "pmtudisc")
    if pinet6 is None or discovery is None or sys.byteorder != "little":
        return None
    field = _field(*discovery)
    if field is None:
        return None
    dontfrag, in_socket = btf.member("ipv6_pinfo", "dontfrag"), False
    flags, number = btf.member("inet_sock", "inet_flags"), btf.enumerator("INET_FLAGS_DONTFRAG")
    if dontfrag is None and flags is not None and number is not None:
        dontfrag, in_socket = (flags[0] + number, 1), True
    return SocketFields(pinet6[0] // 8, field, None if dontfrag is None else _field(*dontfrag), in_socket)


def _field(offset: int, bits: int) -> Field | None:
    """The bits within one byte; None if they are in several bytes."""
    shift, bits = offset % 8, bits or 8
    return Field(offset // 8, shift, (1 << bits) - 1) if shift + bits <= 8 else None
