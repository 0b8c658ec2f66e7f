"""Definitions that C and Python share, read from bpf/types.h and bpf/reasons.h."""

import ctypes
import re
from functools import cache
from typing import Any, NamedTuple

from hawkwing.dataplane.source import source_folder, without_comments

_DEFINE = re.compile(r"^#define (HW_\w+) (0x[0-9a-f]+|\d+)\s*$", re.MULTILINE)
_STRUCT = re.compile(r"^struct (\w+) \{\n(.*?)^\};", re.MULTILINE | re.DOTALL)
_MEMBER = re.compile(r"\s*(?:struct )?(\w+) (\w+)(?:\[(\d+)\])?;")
_REASON = re.compile(r'X\((\w+), (\w+), "([^"]+)"\)')
_WORDS: dict[str, Any] = {
    "__u8": ctypes.c_uint8,
    "__u16": ctypes.c_uint16,
    "__u32": ctypes.c_uint32,
    "__u64": ctypes.c_uint64,
}


class Reason(NamedTuple):
    """An outcome of a packet; `kind` is ok, info, unchanged or drop."""

    number: int
    name: str
    kind: str
    text: str


@cache
def limits() -> dict[str, int]:
    """The `#define HW_...` numbers, by name."""
    return {name: int(value, 0) for name, value in _DEFINE.findall((source_folder() / "types.h").read_text())}


@cache
def structures() -> dict[str, type[ctypes.Structure]]:
    """The structures as ctypes classes, by name; multi-byte members in host byte order."""
    found: dict[str, Any] = dict(_WORDS)
    result: dict[str, type[ctypes.Structure]] = {}
    for name, body in _STRUCT.findall((source_folder() / "types.h").read_text()):
        fields = []
        for kind, member, count in _MEMBER.findall(without_comments(body)):
            fields.append((member, found[kind] * int(count) if count else found[kind]))
        found[name] = result[name] = type(name, (ctypes.Structure,), {"_fields_": fields})
    return result


@cache
def reasons() -> tuple[Reason, ...]:
    """All reasons, in the order of the counters."""
    found = _REASON.findall((source_folder() / "reasons.h").read_text())
    return tuple(Reason(number, *entry) for number, entry in enumerate(found))
