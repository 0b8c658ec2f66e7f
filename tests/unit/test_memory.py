"""What the machine and control groups leave, and a table that doesn't fit."""

from pathlib import Path

import pytest

from hawkwing.dataplane.memory import available, require_room, require_room_for_tables
from hawkwing.errors import DataplaneError

MEGABYTE = 1 << 20


def machine(folder: Path, group: str, kilobytes: int = 1 << 20) -> Path:
    proc = folder / "proc"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text(f"MemTotal: 9999999 kB\nMemAvailable:   {kilobytes} kB\n")
    (proc / "self/cgroup").write_text(group)
    return proc


def limited(folder: Path, names: tuple[str, str], limit: str, used: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in zip(names, (limit, str(used)), strict=True):
        (folder / name).write_text(value + "\n")


SECOND = ("memory.max", "memory.current")
FIRST = ("memory.limit_in_bytes", "memory.usage_in_bytes")


def test_without_limits_the_machine_counts(tmp_path: Path) -> None:
    proc = machine(tmp_path, "0::/\n", 2048)
    assert available(proc, tmp_path / "none") == 2 * MEGABYTE


@pytest.mark.parametrize("where", ["a", "a/b"])
def test_the_narrowest_group_above_us_counts(tmp_path: Path, where: str) -> None:
    groups = tmp_path / "cgroup"
    limited(groups / "a", SECOND, "max", 7)
    limited(groups / "a/b", SECOND, "max", 7)
    limited(groups / where, SECOND, str(100 * MEGABYTE), 30 * MEGABYTE)
    assert available(machine(tmp_path, "0::/a/b\n"), groups) == 70 * MEGABYTE


def test_first_version_of_control_groups(tmp_path: Path) -> None:
    groups = tmp_path / "cgroup"
    limited(groups / "memory/a", FIRST, str(10 * MEGABYTE), 20 * MEGABYTE)
    limited(groups / "cpu/a", FIRST, "1", 0)
    assert available(machine(tmp_path, "4:cpu:/a\n3:memory:/a\n0::/a\n"), groups) == 0
    (tmp_path / "other").mkdir()
    assert available(machine(tmp_path / "other", "4:cpu:/a\n3:memory:/\n0::/a\n"), groups) == 1 << 30


def test_controllers_that_share_a_hierarchy_and_names_with_colons(tmp_path: Path) -> None:
    groups = tmp_path / "cgroup"
    limited(groups / "memory/a:b", FIRST, str(10 * MEGABYTE), MEGABYTE)
    assert available(machine(tmp_path, "4:cpu:/\n3:hugetlb,memory:/a:b\n"), groups) == 9 * MEGABYTE


def test_what_lies_above_the_groups_is_no_group(tmp_path: Path) -> None:
    groups = tmp_path / "cgroup"
    limited(groups, SECOND, str(50 * MEGABYTE), 0)
    limited(tmp_path, SECOND, "1", 0)
    assert available(machine(tmp_path, "0::/a\n"), groups) == 50 * MEGABYTE


def test_where_nothing_is_known_there_is_no_limit(tmp_path: Path) -> None:
    proc = machine(tmp_path, "0::/\n")
    (proc / "meminfo").write_text("MemTotal: 9999999 kB\n")
    assert available(proc, tmp_path / "none") >= 1 << 62
    assert available() < 1 << 50, "this machine's own files"


def test_a_table_that_does_not_fit_is_told_in_one_sentence() -> None:
    require_room(1000, MEGABYTE, MEGABYTE)
    with pytest.raises(DataplaneError) as told:
        require_room(67_000_000, 4_000_000_000, 250_000_000)
    sentence = "a table for 67,000,000 flows takes 4,000 MB of the kernel's memory, and 250 MB are available"
    assert str(told.value) == f"{sentence}: use a smaller --flows"


def test_tables_that_do_not_fit_are_told_in_one_sentence() -> None:
    require_room_for_tables(MEGABYTE, MEGABYTE)
    with pytest.raises(DataplaneError) as told:
        require_room_for_tables(1_234_567_890, 250_000_000)
    assert str(told.value) == (
        "the tables for this configuration take 1,235 MB of the kernel's memory, and 250 MB are available"
    )
