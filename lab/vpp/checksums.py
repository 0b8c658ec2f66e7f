"""Corrects checksums of packets from VPP: a tc program on its routers' devices, shipped as bytecode.

`python -m lab.vpp.checksums` compiles it again (needs BCC), after a change of checksums.c.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hawkwing.dataplane import bpf, tc
from hawkwing.dataplane.netlink import Netlink
from hawkwing.dataplane.source import without_comments

NAME = "pseudo_headers"
SOURCE = Path(__file__).with_suffix(".c")
SHIPPED = Path(__file__).with_suffix(".json")
_PLACE = 1, 1
"""Priority and handle of the filter."""


def source_digest() -> str:
    """The digest of the C source without comments and spacing."""
    return hashlib.sha256(" ".join(without_comments(SOURCE.read_text()).split()).encode()).hexdigest()[:32]


def shipped() -> tuple[str, bytes]:
    """The digest of the source that the bytecode was compiled from, and the bytecode."""
    told = json.loads(SHIPPED.read_text())
    return told["source"], zlib.decompress(base64.b64decode(told["program"]))


@contextmanager
def loaded() -> Iterator[int]:
    """The program's file descriptor; a filter keeps the program."""
    program = bpf.load_program(NAME, shipped()[1])
    try:
        yield program
    finally:
        os.close(program)


def attach(index: int, program: int) -> None:
    """Attaches it on egress to a device of this thread's namespace."""
    with Netlink() as ip:
        tc.add_clsact(ip, index)
        tc.put_filter(ip, index, tc.EGRESS, _PLACE, program, NAME)


def _compile() -> None:
    from hawkwing.dataplane.compiler import module_of

    program = module_of(SOURCE.read_text()).dump_func(NAME.encode())
    text = base64.b64encode(zlib.compress(program, 9)).decode()
    SHIPPED.write_text(json.dumps({"source": source_digest(), "program": text}, indent=1) + "\n")


if __name__ == "__main__":
    _compile()
