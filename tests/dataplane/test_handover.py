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
from hawkwing.dataplane.loader import fitting
from hawkwing.dataplane.source import meaning, source_folder
from tests.dataplane.scene import Host


@pytest.fixture
def note(server: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a server on eth0 has written down of its programs."""
    monkeypatch.setenv("HAWKWING_RUN", str(tmp_path))
    runtime_folder().mkdir()
    handover.Note("server", "eth0").confirm(server.bench.plane.program_ids())
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


def test_the_room_for_one_packet_is_not_taken_over(server: Host) -> None:
    """What is in there means something else in another version, and a flag there could stop all steering."""
    maps = server.bench.plane.maps
    wanted = [table.info._replace(name=name) for name, table in maps.items()]
    before = {name[:15]: table.fd for name, table in maps.items()}
    found = fitting(wanted, before)
    assert "scratches" not in found and {"flows", "paths", "policies", "free_slots"} <= set(found)
    larger = [one._replace(value_size=one.value_size + (one.name == "scratches")) for one in wanted]
    assert fitting(larger, before) == found
    assert fitting([one._replace(value_size=one.value_size + 8) for one in wanted], before) == {}


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


def test_a_note_that_is_taken_back_is_what_it_was(note: Path) -> None:
    """An agent that could not attach leaves the running programs' note."""
    before = note.read_text()
    new = handover.Note("server", "eth0")
    new.announce([1, 2])
    assert set(handover.noted_programs("server", "eth0")) == {1, 2, *new.former}
    new.take_back()
    assert note.read_text() == before
    assert new.former == handover.noted_programs("server", "eth0") != []


def test_a_note_that_was_not_there_is_none_again(note: Path) -> None:
    note.unlink()
    new = handover.Note("server", "eth0")
    new.announce([1])
    assert handover.noted_programs("server", "eth0") == [1]
    new.take_back()
    assert not note.exists() and not list(note.parent.glob("*.new"))


def test_programs_of_the_other_role(note: Path) -> None:
    noted = set(handover.noted_programs("server", "eth0"))
    assert handover.programs_of_others("client") == noted and noted
    assert handover.programs_of_others("server") == set()
