"""Files in /run are written whole or not at all."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import pytest

from hawkwing.errors import DataplaneError
from hawkwing.files import RunFile


def test_text_and_mode(tmp_path: Path) -> None:
    file = RunFile(tmp_path / "client-eth0.state")
    assert file.read() is None and not file.exists()
    file.write("one")
    file.write("two")
    assert file.read() == "two" and stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [file.path]
    file.remove()
    file.remove()
    assert not file.exists()


def test_what_a_killed_process_left_readable_is_not_readable_any_more(tmp_path: Path) -> None:
    (tmp_path / "x.new").touch(mode=0o644)
    file = RunFile(tmp_path / "x")
    file.write("one")
    assert file.read() == "one" and stat.S_IMODE(file.path.stat().st_mode) == 0o600


def test_what_is_no_text_is_as_good_as_nothing(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\xff\xfe")
    assert RunFile(tmp_path / "x").read() is None
    assert RunFile(tmp_path).read() is None


def test_a_link_in_the_way_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "x.new").symlink_to(tmp_path / "victim")
    with pytest.raises(DataplaneError, match="can't write"):
        RunFile(tmp_path / "x").write("text")
    assert (tmp_path / "victim").read_text() == "mine"


def test_a_full_file_system_leaves_the_old_text(tmp_path: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "none", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs root: to mount a small file system")
    try:
        file = RunFile(tmp_path / "x")
        file.write("old")
        with pytest.raises(DataplaneError, match=f"^can't write {file.path}: No space left on device$"):
            file.write("x" * 100_000)
        assert file.read() == "old" and list(tmp_path.iterdir()) == [file.path]
        subprocess.run(["mount", "-o", "remount,ro", str(tmp_path)], check=True)
        with pytest.raises(DataplaneError, match=r"Read-only file system$"):
            file.write("new")
        with pytest.raises(DataplaneError, match=f"^can't remove {file.path}: Read-only file system$"):
            file.remove()
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_what_was_half_written_goes_with_the_file(tmp_path: Path) -> None:
    """Its writer was killed."""
    file = RunFile(tmp_path / "client-eth0.state")
    file.write("whole")
    (tmp_path / "client-eth0.state.new").write_text("ha")
    file.remove()
    assert list(tmp_path.iterdir()) == []
