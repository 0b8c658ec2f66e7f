"""Finds constructs in bytecode that kernels since 5.15 refuse: a fast alternative to booting them.

No I/O. `faults` reports three kinds: a loop that ends without a jump, which the control-flow check of kernels
before 6.8 regards as endless ("back-edge from insn"), and an instruction or a helper that Linux 5.15 lacks.
"""

import struct
from collections.abc import Iterator

_INSTRUCTION = struct.Struct("<BBhi")
_CLASS_MASK, _LOAD_X, _ALU, _JUMP, _JUMP32, _ALU64 = 0x07, 0x01, 0x04, 0x05, 0x06, 0x07
_LOAD_64 = 0x18
_ALWAYS, _CALL, _EXIT = 0x00, 0x80, 0x90
_MODE_MASK, _SIGNED_LOAD = 0xE0, 0x80
_MOVE, _DIVIDE, _MODULO, _END = 0xB0, 0x30, 0x90, 0xD0
NEWEST_HELPER = 175
"""The highest number of a helper in Linux 5.15: bpf_get_branch_snapshot is 176."""


class _Program:
    """Instructions by number; the second half of a 64-bit load has no number."""

    def __init__(self, code: bytes) -> None:
        self.code = list(_INSTRUCTION.iter_unpack(code))

    def following(self, at: int) -> list[tuple[int, bool]]:
        """The next instructions, in the kernel's order; True if reached by a jump."""
        operation, _registers, offset, _immediate = self.code[at]
        kind, what = operation & _CLASS_MASK, operation & 0xF0
        if operation == _LOAD_64:
            return [(at + 2, False)]
        if kind not in (_JUMP, _JUMP32) or what == _CALL:
            return [(at + 1, False)]
        if what == _EXIT:
            return []
        if what == _ALWAYS:
            return [(at + 1 + offset, True)]
        return [(at + 1, True), (at + 1 + offset, True)]


def _back_edges(program: _Program) -> Iterator[str]:
    """Like the kernel: depth first; an edge back into the current path must be a jump."""
    found, searching, done = {0}, [(0, iter(program.following(0)))], set[int]()
    while searching:
        at, edges = searching[-1]
        for target, jump in edges:
            if target not in found:
                found.add(target)
                searching.append((target, iter(program.following(target))))
                break
            if target not in done and not jump:
                yield f"instruction {at} closes a loop without a jump (before Linux 6.8)"
        else:
            done.add(at)
            searching.pop()


def _newer_instructions(program: _Program) -> Iterator[str]:
    at = 0
    while at < len(program.code):
        operation, registers, offset, immediate = program.code[at]
        kind, what = operation & _CLASS_MASK, operation & 0xF0
        if operation == _LOAD_64:
            at += 1
        elif kind in (_JUMP, _JUMP32) and what == _CALL:
            if registers >> 4 == 0 and immediate > NEWEST_HELPER:
                yield f"instruction {at} calls helper {immediate} (after Linux 5.15)"
        elif kind == _JUMP32 and what == _ALWAYS:
            yield f"instruction {at} is a long jump (Linux 6.6)"
        elif kind == _LOAD_X and operation & _MODE_MASK == _SIGNED_LOAD:
            yield f"instruction {at} loads a signed number (Linux 6.6)"
        elif kind in (_ALU, _ALU64) and offset and what in (_MOVE, _DIVIDE, _MODULO):
            yield f"instruction {at} computes with signed numbers (Linux 6.6)"
        elif kind == _ALU64 and what == _END:
            yield f"instruction {at} swaps bytes without a condition (Linux 6.6)"
        at += 1


def faults(code: bytes) -> list[str]:
    """One sentence for each instruction that a kernel since 5.15 refuses."""
    program = _Program(code)
    return [*_back_edges(program), *_newer_instructions(program)]
