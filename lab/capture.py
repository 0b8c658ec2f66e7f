"""Captures to pcap files in the background: one tcpdump per link."""

import mmap
import os
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.network import Lab, LabError
from lab.process import Process, last_words, stop
from lab.topology import Link

_PREFIX = "capture-"
_FILE_HEADER, _RECORD_HEADER, _LONGEST_PACKET = 24, struct.Struct("=8xII"), 1 << 18
_CAPTURED = re.compile(r"^(\d+) packets? captured$", re.MULTILINE)


@dataclass(frozen=True)
class Ended:
    """A stopped capture; `trouble` is a sentence if its file lacks packets."""

    file: Path
    trouble: str | None


def find_link(lab: Lab, name: str) -> Link:
    """A link by its name, in either order of its nodes."""
    for link in lab.topology.links:
        if name in (link.name, "-".join(reversed(link.nodes))):
            return link
    known = ", ".join(link.name for link in lab.topology.links)
    raise LabError(f"lab {lab.name} has no link {name!r}, it has {known}")


def start(lab: Lab, names: Sequence[str]) -> list[str]:
    """Starts captures on the named links, or on all; returns the files' paths once all are capturing."""
    links = list(dict.fromkeys(find_link(lab, name) for name in names)) or list(lab.topology.links)
    running = lab.processes()
    for link in links:
        if _PREFIX + link.name in running:
            raise LabError(f"{link.name} is already being captured, stop it with './run lab.capture --stop'")
    folder = lab.run / "captures"
    if os.statvfs(folder).f_bavail == 0:
        raise LabError(f"no space is left for captures in {folder}")
    started: list[tuple[Process, str]] = []
    for link in links:
        interface = link.interface(link.nodes[0])
        file = str(folder / f"{link.name}.pcap")
        argv = ["tcpdump", "-i", interface.name, "-w", file, "-U", "--immediate-mode", "-Z", "root"]
        started.append((lab.start(link.nodes[0], _PREFIX + link.name, argv), file))
    for process, _file in started:
        process.wait_for("listening on")
    return [file for _process, file in started]


def stop_all(lab: Lab) -> list[Ended]:
    """Stops the captures; returns all, including those that had ended."""
    alive = lab.processes()
    names = sorted(file.name for file in (lab.run / "pids").iterdir() if file.name.startswith(_PREFIX))
    stop([alive[name] for name in names if name in alive])
    ended = []
    for name in names:
        (lab.run / "pids" / name).unlink(missing_ok=True)
        file = lab.run / "captures" / f"{name.removeprefix(_PREFIX)}.pcap"
        said = (lab.run / "logs" / f"{name}.log").read_text(errors="replace")
        trouble = _trouble(file, said, name in alive)
        ended.append(Ended(file, f"{name.removeprefix(_PREFIX)}: {trouble}" if trouble else None))
    return ended


def _trouble(file: Path, said: str, was_alive: bool) -> str | None:
    """tcpdump continues without a message if it can't write: compares its count with the file."""
    kept = _mend(file)
    match = _CAPTURED.search(said)
    if match is None:
        return f"the capture ended early, {file} has {kept} packets: {last_words(said)}"
    if kept < int(match[1]):
        why = "no space was left" if os.statvfs(file.parent).f_bavail == 0 else "not all could be written"
        return f"{why}, {file} has {kept} of {match[1]} packets"
    return None if was_alive else f"the capture ended early, {file} has {kept} packets"


def _mend(file: Path) -> int:
    """Cuts off an incomplete packet; returns the number of packets."""
    if not file.exists():
        return 0
    count = 0
    with file.open("r+b") as opened:
        size = os.fstat(opened.fileno()).st_size
        position = min(_FILE_HEADER, size)
        if size > _FILE_HEADER:
            with mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
                while position + _RECORD_HEADER.size <= size:
                    kept, _length = _RECORD_HEADER.unpack_from(data, position)
                    after = position + _RECORD_HEADER.size + kept
                    if kept > _LONGEST_PACKET or after > size:
                        break
                    position, count = after, count + 1
        if position < size:
            opened.truncate(position)
    return count
