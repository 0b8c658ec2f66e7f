"""Classic BPF for packet sockets: the frames with an SRH.

    Ethernet, up to two VLAN tags in the frame | IPv6 | Hop-by-Hop, Destination Options (any two) | SRH

Fragments are included: their SRH is before the Fragment header.
"""

import struct
from collections.abc import Iterable
from typing import NamedTuple

Program = bytes
"""Instructions (struct sock_filter), one after the other."""
_ACCEPT, _REJECT = "accept", "reject"
_LOAD_HALF, _LOAD_BYTE, _LOAD_BYTE_X = 0x28, 0x30, 0x50
_LOAD_X, _STORE, _LOAD_STORED = 0x01, 0x02, 0x60
_ADD, _ADD_X, _SHIFT_LEFT, _AND, _TO_X = 0x04, 0x0C, 0x64, 0x54, 0x07
_JUMP, _JUMP_IF_EQUAL, _RETURN = 0x05, 0x15, 0x06
_WHOLE = 0xFFFFFFFF
_IPV6, _TAGS = 0x86DD, (0x8100, 0x88A8)
_HOP_BY_HOP, _ROUTING, _DESTINATION = 0, 43, 60
_SRH = 4
_NEXT_HEADER, _AFTER_IPV6 = 6, 40
_MOST_TAGS, _MOST_OPTIONS = 2, 2


class _Step(NamedTuple):
    """An instruction; a comparison continues at `then` if it is equal, otherwise with the next one."""

    code: int
    value: int = 0
    then: str = ""
    label: str = ""


def with_srh(ethernet: bool = True) -> Program:
    """Accepts frames with an SRH; without `ethernet`, packets that begin with their IP header."""
    steps = [*(_behind_ethernet() if ethernet else _of_ip()), *_routing_header()]
    return _assembled([*steps, _Step(_RETURN, 0, label=_REJECT), _Step(_RETURN, _WHOLE, label=_ACCEPT)])


def _behind_ethernet() -> Iterable[_Step]:
    """Sets X to the position of the IPv6 header."""
    for tags in range(_MOST_TAGS + 1):
        yield _Step(_LOAD_HALF, 12 + 4 * tags, label=f"type {tags}")
        yield _Step(_JUMP_IF_EQUAL, _IPV6, f"ipv6 {tags}")
        if tags < _MOST_TAGS:
            for tag in _TAGS:
                yield _Step(_JUMP_IF_EQUAL, tag, f"type {tags + 1}")
        yield _Step(_JUMP, then=_REJECT)
    for tags in range(_MOST_TAGS + 1):
        yield _Step(_LOAD_X, 14 + 4 * tags, label=f"ipv6 {tags}")
        yield _Step(_JUMP, then="headers")


def _of_ip() -> Iterable[_Step]:
    yield _Step(_LOAD_X, 0)
    yield _Step(_LOAD_BYTE, 0)
    yield _Step(_AND, 0xF0)
    yield _Step(_JUMP_IF_EQUAL, 0x60, "headers")
    yield _Step(_JUMP, then=_REJECT)


def _routing_header() -> Iterable[_Step]:
    """Parses from the IPv6 header at X on; adds the length of skipped headers to X."""
    yield _Step(_LOAD_BYTE_X, _NEXT_HEADER, label="headers")
    for skipped in range(_MOST_OPTIONS + 1):
        yield _Step(_JUMP_IF_EQUAL, _ROUTING, "routing")
        if skipped == _MOST_OPTIONS:
            break
        yield _Step(_JUMP_IF_EQUAL, _HOP_BY_HOP, f"skip {skipped}")
        yield _Step(_JUMP_IF_EQUAL, _DESTINATION, f"skip {skipped}")
        yield _Step(_JUMP, then=_REJECT)
        yield _Step(_LOAD_BYTE_X, _AFTER_IPV6, label=f"skip {skipped}")
        yield _Step(_STORE, 0)
        yield _Step(_LOAD_BYTE_X, _AFTER_IPV6 + 1)
        yield _Step(_ADD, 1)
        yield _Step(_SHIFT_LEFT, 3)
        yield _Step(_ADD_X)
        yield _Step(_TO_X)
        yield _Step(_LOAD_STORED, 0)
    yield _Step(_JUMP, then=_REJECT)
    yield _Step(_LOAD_BYTE_X, _AFTER_IPV6 + 2, label="routing")
    yield _Step(_JUMP_IF_EQUAL, _SRH, _ACCEPT)


def _assembled(steps: list[_Step]) -> Program:
    at = {step.label: number for number, step in enumerate(steps) if step.label}
    code = []
    for number, step in enumerate(steps):
        further = at[step.then] - number - 1 if step.then else 0
        if step.code == _JUMP:
            code.append(struct.pack("=HBBI", step.code, 0, 0, further))
        else:
            code.append(struct.pack("=HBBI", step.code, further, 0, step.value))
    return b"".join(code)
