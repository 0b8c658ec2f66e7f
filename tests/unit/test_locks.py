"""Lock files that are removed by whoever has the lock: never two inside, and no file left in the end."""

import os
import time
from pathlib import Path

import pytest

from hawkwing.dataplane.claim import Claim
from hawkwing.errors import DataplaneError
from hawkwing.locks import locked_file

_SECONDS = 1.0
_PROCESSES = 4


def _inside(folder: Path) -> None:
    """Only one can make a folder; a second one inside the lock fails at it."""
    (folder / "inside").mkdir()
    (folder / "inside").rmdir()


def _take_and_remove(folder: Path) -> None:
    with locked_file(folder / "below" / "lock") as file:
        _inside(folder)
        Path(file.name).unlink()
        # As the agents' folder does, it goes with its last file.
        try:
            (folder / "below").rmdir()
        except OSError:
            return


def _claim_and_release(folder: Path) -> None:
    try:
        claim = Claim("client", "eth0")
    except DataplaneError:
        return
    try:
        _inside(folder)
    finally:
        claim.release()


def test_a_file_in_the_place_of_the_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "folder").write_text("")
    with pytest.raises(FileExistsError):
        locked_file(tmp_path / "folder" / "lock")


@pytest.mark.parametrize("work", [_take_and_remove, _claim_and_release])
def test_never_two_inside(work: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert callable(work)
    monkeypatch.setenv("HAWKWING_RUN", str(tmp_path / "run"))
    end = time.monotonic() + _SECONDS
    children = []
    for _ in range(_PROCESSES):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                while time.monotonic() < end:
                    work(tmp_path)
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * _PROCESSES
    assert list(tmp_path.iterdir()) == []


def test_claimed_by_another_it_names_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAWKWING_RUN", str(tmp_path / "run"))
    claim = Claim("client", "eth0")
    with pytest.raises(DataplaneError, match=rf"already runs on eth0 \(process {os.getpid()}\)"):
        Claim("client", "eth0")
    claim.release()
    Claim("client", "eth0").release()
    assert list(tmp_path.iterdir()) == []
