"""docs/architecture.md names every file of the data plane, and the numbers are those of the sources."""

from __future__ import annotations

from pathlib import Path

from hawkwing.agent import _EPOCH
from hawkwing.dataplane.layout import limits
from hawkwing.dataplane.plane import _MTU_TICKS

PROJECT = Path(__file__).parents[2]
PAGE = " ".join((PROJECT / "docs" / "architecture.md").read_text().split())


def test_each_file_of_the_data_plane_is_named() -> None:
    missing = [file.name for file in sorted((PROJECT / "bpf").glob("*.[ch]")) if f"`{file.name}`" not in PAGE]
    assert not missing


def test_each_module_of_the_agent_is_named() -> None:
    row = PAGE.split("| `hawkwing/` |")[1].split("| `fake_hawkeye/` |")[0]
    modules = {file.stem for file in (PROJECT / "hawkwing").glob("[a-z]*.py")}
    assert not [name for name in sorted(modules) if f"`{name}`" not in row]


def test_numbers_of_the_packet_path() -> None:
    assert f"more than {limits()['HW_MAX_SPLIT']:,} bytes" in PAGE
    assert _EPOCH * _MTU_TICKS == 8 * 60
    assert f"every eight minutes ({_MTU_TICKS} epochs)" in PAGE
