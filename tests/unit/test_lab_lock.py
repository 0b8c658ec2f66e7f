"""One command at a time builds or removes a lab, also when somebody has removed its lock file."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lab.network import Lab, _lock

PROJECT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a lab needs root privileges")


def state_for_others(lab: Lab) -> str:
    """What another process finds."""
    script = "import sys; from lab.network import Lab; print(Lab(sys.argv[1]).state())"
    argv = [sys.executable, "-c", script, lab.name]
    return subprocess.run(argv, cwd=PROJECT, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize("removed", [False, True], ids=["lock file in place", "lock file removed"])
def test_nobody_else_gets_in(removed: bool) -> None:
    lab = Lab(f"lock-{os.getpid()}")
    assert state_for_others(lab) == "down"
    command = [sys.executable, "-m", "lab", "lab.down", "--name", lab.name]
    with lab._locked():
        if removed:
            _lock(lab.name).unlink()
        assert state_for_others(lab) == "starting or ending"
        # That it was asked for didn't let anybody in, either.
        assert state_for_others(lab) == "starting or ending"
        waiting = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    said, _ = waiting.communicate(timeout=60)
    assert (waiting.returncode, said) == (0, f"Lab {lab.name} removed, nothing left over\n")
    assert state_for_others(lab) == "down"
    assert not _lock(lab.name).exists()
