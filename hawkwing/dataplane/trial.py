"""Compiles all programs, or tries them on this kernel: `python -m hawkwing.dataplane.bytecode`."""

import argparse
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from hawkwing.dataplane import bpf, bytecode
from hawkwing.dataplane.bytecode import Bytecode
from hawkwing.dataplane.loader import Capacities, connect, load
from hawkwing.errors import DataplaneError

MOST_INSTRUCTIONS = 100_000
"""Our limit of verified instructions per program (the kernel's limit is a million)."""
_STATISTICS = re.compile(r"^processed (\d+) insns", re.MULTILINE)


class Tried(NamedTuple):
    """The kernel's result for a program; `refused` is empty if it was loaded."""

    role: str
    program: str
    length: int
    verified: int
    refused: str


def try_all(role: str, code: Bytecode) -> Iterator[Tried]:
    """Loads each program with small maps, and unloads it."""
    small = Capacities(policies=8, services=8, routes=8, names=8, flows=64)
    for name in bytecode.programs_of(role):
        length = len(code.programs[name]) // 8
        try:
            loaded = load(role, code, [name], small)
            if name == bytecode.AUTHENTICATE:
                _connect(role, code, small)
        except (DataplaneError, OSError) as error:
            yield Tried(role, name, length, 0, str(error))
            continue
        try:
            maps = {index: loaded.maps[entry.name] for index, entry in enumerate(code.maps)}
            text = bytecode.with_maps(code.programs[name], maps)
            statistics = _STATISTICS.search(bpf.verifier_log(name, text, bpf.kind_of(name), level=4))
        finally:
            loaded.close()
        yield Tried(role, name, length, int(statistics[1]) if statistics else 0, "")


def _connect(role: str, code: Bytecode, capacities: Capacities) -> None:
    """OSError if the programs can't call one another."""
    loaded = load(role, code, bytecode.CALLED, capacities)
    try:
        connect(loaded.programs, bpf.Map(loaded.maps["programs"]))
    finally:
        loaded.close()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m hawkwing.dataplane.bytecode",
        description="Compiles the programs, or loads them on this kernel.",
    )
    parser.add_argument("--compile", action="store_true", help="compile with this machine's BCC")
    parser.add_argument("--output", type=Path, metavar="DIR", help="write what was compiled to DIR")
    parser.add_argument(
        "--ship", action="store_true", help="write what was compiled to the project's own folder"
    )
    parser.add_argument("--trial", action="store_true", help="load every program, and unload it")
    parser.add_argument(
        "--from", dest="folder", type=Path, metavar="DIR", help="bytecode in DIR, not the shipped one"
    )
    parser.add_argument("--json", action="store_true", help="print as JSON")
    return parser


def _code(role: str, arguments: argparse.Namespace) -> Bytecode:
    if arguments.compile:
        from hawkwing.dataplane.compiler import Compiling

        return Compiling(role).result()
    path = (arguments.folder or bytecode.shipped_folder()) / f"{role}.json"
    found = bytecode.read(path)
    if found is None:
        raise DataplaneError(f"{path} is no file of bytecode")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 1 if a program was refused, or exceeds the limit of verified instructions."""
    arguments = _parser().parse_args(argv)
    tried: list[Tried] = []
    compilers = {}
    try:
        for role in bytecode.ROLES:
            code = _code(role, arguments)
            compilers[role] = code.compiler
            for folder in [arguments.output, bytecode.shipped_folder() if arguments.ship else None]:
                if folder is not None:
                    bytecode.write(folder / f"{role}.json", code)
            if arguments.trial:
                tried += try_all(role, code)
    except (DataplaneError, OSError) as error:
        print(f"hawkwing: {error}", file=sys.stderr)
        return 1
    failed = any(one.refused or one.verified > MOST_INSTRUCTIONS for one in tried)
    if arguments.json:
        entries = [one._asdict() for one in tried]
        print(
            json.dumps({"kernel": os.uname().release, "compilers": compilers, "programs": entries}, indent=1)
        )
        return int(failed)
    for one in tried:
        what = f"refused: {one.refused}" if one.refused else f"loads, {one.verified:,} instructions verified"
        print(f"{one.role:<7} {one.program:<17} {one.length:>6,} instructions  {what}")
    print(f"kernel {os.uname().release}, compiled by {', '.join(sorted(set(compilers.values())))}")
    return int(failed)
