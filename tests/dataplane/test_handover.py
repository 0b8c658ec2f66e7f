"""What a server's successor takes over: maps of programs that still run, if both mean the same by them."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from hawkwing import handover
from hawkwing.dataplane import bpf
from hawkwing.dataplane.claim import runtime_folder
from hawkwing.dataplane.source import meaning, source_folder
from tests.dataplane.scene import Host


@pytest.fixture
def note(server: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a server on eth0 has written down of its programs."""
    monkeypatch.setenv("HAWKWING_RUN", str(tmp_path))
    runtime_folder().mkdir()
    handover.note_programs("server", "eth0", server.bench.plane.programs)
    return runtime_folder() / "server-eth0.programs"


def taken_over() -> dict[str, int]:
    """Identifiers of maps by name."""
    found = handover.running_maps("server", "eth0")
    numbers = {name: bpf.map_info(fd).id for name, fd in found.items()}
    for fd in found.values():
        os.close(fd)
    return numbers


def test_the_maps_of_the_same_version(server: Host, note: Path, caplog: pytest.LogCaptureFixture) -> None:
    maps = server.bench.plane.maps
    assert taken_over().items() >= {name: maps[name].info.id for name in ("flows", "paths")}.items()
    assert not caplog.records


def test_not_those_of_another_version(note: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its tables may have the same form and hold something else."""
    written = json.loads(note.read_text())
    note.write_text(json.dumps({**written, "meaning": "another"}))
    assert taken_over() == {}
    assert "a different version" in caplog.text


@pytest.mark.parametrize("text", ["", "[1, 2]", "{}", "null"])
def test_not_those_of_a_note_that_says_nothing(note: Path, text: str) -> None:
    note.write_text(text)
    assert taken_over() == {}


@pytest.mark.parametrize(
    ("name", "change", "same"),
    [
        ("types.h", lambda text: text.replace("/* secrets", "/* the secrets"), True),
        ("types.h", lambda text: text.replace("\t", "    "), True),
        ("types.h", lambda text: text.replace("HW_SLOT_BITS 20", "HW_SLOT_BITS 21"), False),
        ("types.h", lambda text: text.replace("__u32 slot;", "__u32 place;"), False),
        ("lib/flows.h", lambda text: text.replace("FLOW_PAIR(4, local[0]", "FLOW_PAIR(4, local[1]"), False),
        ("egress.h", lambda text: text.replace("likely", ""), True),
    ],
)
def test_versions_differ_in_what_their_maps_mean(
    tmp_path: Path, name: str, change: Callable[[str], str], same: bool
) -> None:
    folder = tmp_path / "bpf"
    shutil.copytree(source_folder(), folder)
    text = (folder / name).read_text()
    assert change(text) != text
    (folder / name).write_text(change(text))
    assert (meaning(folder) == meaning()) is same
