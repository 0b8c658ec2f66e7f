"""The shipped bytecode: of these very sources, whole, and without what kernels since 5.15 refuse."""

import json
import os
import shutil
import stat
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hawkwing.dataplane import bytecode, source
from hawkwing.dataplane.bytecode import PROGRAMS, ROLES, Bytecode
from hawkwing.dataplane.source import flattened, meaning, source_folder
from hawkwing.errors import DataplaneError
from lab.old_kernels import faults

MOVE, EXIT = b"\xb7\0\0\0\0\0\0\0", b"\x95\0\0\0\0\0\0\0"


def instruction(operation: int, registers: int = 0, offset: int = 0, immediate: int = 0) -> bytes:
    return struct.pack("<BBhi", operation, registers, offset, immediate)


@pytest.fixture(params=ROLES)
def shipped(request: pytest.FixtureRequest) -> Bytecode:
    found = bytecode.shipped(request.param)
    assert found is not None, (
        "bpf/bytecode is older than the C sources: `python -m hawkwing.dataplane.bytecode --compile --ship`"
    )
    return found


def test_all_programs_are_shipped(shipped: Bytecode) -> None:
    assert set(shipped.programs) in tuple(
        {*PROGRAMS, "authenticate", one} for one in ("send_probes", "sweep")
    )
    assert bytecode.loads(bytecode.dumps(shipped)) == shipped


def test_old_kernels_take_what_is_shipped(shipped: Bytecode) -> None:
    assert all(faults(code) == [] for code in shipped.programs.values())


def test_a_loop_closed_by_falling_through() -> None:
    """Entered in its middle: 0 jumps to 3, whose condition goes back to 1; 2 falls through to 3."""
    jump, back = instruction(0x05, 0, 2), instruction(0x55, 0, -3)
    assert faults(jump + MOVE + MOVE + back + EXIT) == [
        "instruction 2 closes a loop without a jump (before Linux 6.8)"
    ]
    assert faults(MOVE + MOVE + instruction(0x55, 0, -2) + EXIT) == []


def test_the_halves_of_a_long_load_are_one_instruction() -> None:
    assert faults(instruction(0x18) + instruction(0, 0, 0, 0x85) + EXIT) == []


@pytest.mark.parametrize(
    ("code", "what"),
    [
        (instruction(0x85, 0, 0, 176), "calls helper 176"),
        (instruction(0x06, 0, 0, 0), "is a long jump"),
        (instruction(0x91, 0, 0, 0), "loads a signed number"),
        (instruction(0xBF, 0, 8, 0), "computes with signed numbers"),
        (instruction(0x3F, 0, 1, 0), "computes with signed numbers"),
        (instruction(0xD7, 0, 0, 16), "swaps bytes without a condition"),
    ],
)
def test_what_came_after_5_15(code: bytes, what: str) -> None:
    (fault,) = faults(code + EXIT)
    assert fault.startswith(f"instruction 0 {what}")


@pytest.mark.parametrize(
    "code",
    [
        instruction(0x85, 0, 0, 175),
        instruction(0x85, 0x10, 0, 1000),
        instruction(0xBF, 0, 0, 0),
        instruction(0xDC, 0, 0, 16),
        instruction(0x71, 0, 8, 0),
    ],
    ids=["helper", "function", "move", "swap", "load"],
)
def test_what_was_there_before(code: bytes) -> None:
    assert faults(code + EXIT) == []


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (lambda text: text.replace("HawkWing's data plane", "Our data plane"), True),
        (lambda text: text.replace("\t", "  "), True),
        (lambda text: text.replace("ETH_HLEN", "14"), False),
    ],
    ids=["comments", "spaces", "code"],
)
def test_bytecode_is_of_its_sources(tmp_path: Path, change, same: bool) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    folder = tmp_path / "bpf"
    shutil.copytree(source_folder(), folder)
    text = (folder / "hawkwing.c").read_text()
    assert change(text) != text
    (folder / "hawkwing.c").write_text(change(text))
    assert (bytecode.source_digest(folder) == bytecode.source_digest()) is same


def broken(text: str) -> list[str]:
    """Files that hold nothing that could be loaded."""
    return ["", "[]", "null", "{}", "[" * 20_000, text[:-200], text.replace('"programs"', '"program"')]


def test_a_broken_file_in_the_cache_counts_as_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAWKWING_CACHE", str(tmp_path))
    code = bytecode.shipped("client")
    assert code is not None
    bytecode.keep("client", code)
    (file,) = tmp_path.iterdir()
    assert bytecode.cached("client") == code
    for text in broken(bytecode.dumps(code)):
        file.write_text(text)
        assert bytecode.cached("client") is None
    file.write_bytes(b"\xff\xfe")
    assert bytecode.cached("client") is None


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: another owner")
def test_a_file_of_somebody_else_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAWKWING_CACHE", str(tmp_path))
    code = bytecode.shipped("client")
    assert code is not None
    bytecode.keep("client", code)
    (file,) = tmp_path.iterdir()
    os.chown(file, 12345, 12345)
    assert bytecode.cached("client") is None


def test_the_cache_keeps_the_latest_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAWKWING_CACHE", str(tmp_path))
    code = bytecode.shipped("client")
    assert code is not None
    for number in range(20):
        file = tmp_path / f"client-{number}.json"
        file.write_text("old")
        os.utime(file, (number, number))
    bytecode.keep("client", code)
    assert len(list(tmp_path.iterdir())) == 8
    assert bytecode.cached("client") == code


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data["maps"][0].__setitem__(0, "1"),
        lambda data: data["maps"][0].__setitem__(0, -1),
        lambda data: data["maps"][0].__setitem__(6, 3),
        lambda data: data["maps"][0].append(0),
        lambda data: data["maps"].__setitem__(0, None),
        lambda data: data.__setitem__("maps", {}.__class__()) or data["programs"].clear(),
        lambda data: data.__setitem__("programs", []),
        lambda data: data["programs"].__setitem__("egress_raw", 3),
        lambda data: data["programs"].__setitem__("egress_raw", "eJwDAAAAAAE="),
        lambda data: data.__setitem__("compiler", None),
    ],
)
def test_values_of_a_wrong_type_count_as_none(change: Callable[[Any], object]) -> None:
    code = bytecode.shipped("client")
    assert code is not None
    data = json.loads(bytecode.dumps(code))
    change(data)
    assert bytecode.loads(json.dumps(data)) is None


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what was compiled here for both roles."""
    monkeypatch.setenv("HAWKWING_CACHE", str(tmp_path))
    for role in ROLES:
        code = bytecode.shipped(role)
        assert code is not None
        bytecode.keep(role, code)
        assert bytecode.cached(role) == code
    return tmp_path


def test_swapped_files_count_as_none(cache: Path) -> None:
    one, other = sorted(cache.iterdir())
    text = one.read_text()
    one.write_text(other.read_text())
    other.write_text(text)
    assert [bytecode.cached(role) for role in ROLES] == [None, None]


def test_a_changed_byte_counts_as_none(cache: Path) -> None:
    (file,) = cache.glob("client-*")
    text = file.read_text()
    file.write_text(text.replace('"BCC 0', '"BCC 1'))
    assert file.read_text() != text
    assert bytecode.cached("client") is None


@pytest.mark.parametrize("what", ["folder", "pipe", "link", "writable"])
def test_other_kinds_of_files_count_as_none(cache: Path, what: str) -> None:
    (file,) = cache.glob("client-*")
    text = file.read_text()
    if what == "writable":
        file.chmod(0o666)
    else:
        file.unlink()
    if what == "folder":
        file.mkdir()
    elif what == "pipe":
        os.mkfifo(file)
    elif what == "link":
        (cache / "real").write_text(text)
        file.symlink_to(cache / "real")
    assert bytecode.cached("client") is None


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    code = bytecode.shipped("client")
    assert code is not None
    file = tmp_path / "new" / "client.json"
    bytecode.write(file, code)
    assert bytecode.read(file) == code and stat.S_IMODE(file.stat().st_mode) == 0o644
    file.unlink()
    file.mkdir()
    with pytest.raises(OSError, match="directory"):
        bytecode.write(file, code)
    assert list(file.parent.iterdir()) == [file]
    assert bytecode.read(file) is None


def test_what_is_needed_for_links_and_hooks() -> None:
    plain = ("egress_ethernet", "ingress_ethernet")
    assert bytecode.wanted("client", False, False) == (*plain, "send_probes")
    assert bytecode.wanted("server", False, False) == (*plain, "sweep")
    assert bytecode.wanted("client", True, False) == (
        *plain,
        "egress_raw",
        "ingress_raw",
        "send_probes",
    )
    assert bytecode.wanted("client", False, True) == (*plain, "ingress_xdp", "send_probes")


def test_errors_of_the_compiler_name_the_right_line() -> None:
    lines = flattened().splitlines()
    source = (source_folder() / "trust.h").read_text().splitlines()
    begin = lines.index('#line 1 "trust.h"')
    assert lines[begin + 1 : begin + 1 + len(source)] == source
    mark = next(line for line in lines[begin + len(source) :] if line.startswith("#line"))
    number = (source_folder() / "hawkwing.c").read_text().splitlines().index('#include "trust.h"') + 1
    assert mark == f'#line {number + 1} "hawkwing.c"'


def test_the_meaning_of_maps_is_that_of_their_sources(tmp_path: Path) -> None:
    folder = tmp_path / "bpf"
    shutil.copytree(source_folder(), folder)
    before = meaning(folder)
    assert before == meaning() and len(before) == 16
    for name in ("types.h", "reasons.h", "maps.h", "lib/flows.h"):
        text = (folder / name).read_text()
        (folder / name).write_text(text + "/* more words */ \t\n")
        assert meaning(folder) == before
        (folder / name).write_text(text + "int more;\n")
        assert meaning(folder) != before
        (folder / name).write_text(text)
    (folder / "egress.h").write_text("")
    assert meaning(folder) == before


def test_programs_that_do_not_read_the_kernels_memory() -> None:
    """Each call of bpf_probe_read_kernel (113) becomes "r0 = -1"; all else stays as it is."""
    read, other = instruction(0x85, 0, 0, 113), instruction(0x85, 0, 0, 112)
    local, number = instruction(0x85, 0x10, 0, 113), instruction(0x18, 1, 0, 113)
    second_half = instruction(0x85, 0, 0, 113)
    code = MOVE + read + other + number + second_half + local + read + EXIT
    failed = instruction(0xB7, 0, 0, -1)
    expected = MOVE + failed + other + number + second_half + local + failed + EXIT
    assert bytecode.without_kernel_reads(code) == expected


def test_sources_that_are_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "__file__", str(tmp_path / "hawkwing" / "dataplane" / "source.py"))
    with pytest.raises(DataplaneError) as told:
        source.source_folder.__wrapped__()
    assert str(told.value) == (
        f"the C sources of the data plane are missing: no bpf/hawkwing.c near {tmp_path / 'hawkwing'}"
    )
    (tmp_path / "bpf").mkdir()
    (tmp_path / "bpf" / "hawkwing.c").touch()
    assert source.source_folder.__wrapped__() == tmp_path / "bpf"


def test_only_numbers_of_maps_are_replaced() -> None:
    """Numbers that are loaded stay: the registers tell which of the two it is."""

    def with_numbers(first: int, second: int) -> bytes:
        number = instruction(0x18, 0x03, 0, 7) + instruction(0, 0, 0, 9)
        others = number + instruction(0xB7, 0x13, 0, 7)
        maps = [instruction(0x18, 0x12, 5, at) + instruction(0, 0, 0, 0) for at in (first, second)]
        return MOVE + maps[0] + others + maps[1] + EXIT

    assert bytecode.with_maps(with_numbers(7, 8), {7: 70, 8: 80}) == with_numbers(70, 80)


def test_where_programs_of_this_host_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HAWKWING_CACHE", raising=False)
    assert bytecode.cache_folder() == Path("/var/cache/hawkwing")
    monkeypatch.setenv("HAWKWING_CACHE", "/elsewhere")
    assert bytecode.cache_folder() == Path("/elsewhere")
