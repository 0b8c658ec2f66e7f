"""Writes constraints.txt: the versions of all Python packages for builds and tests of this project.

`python -m lab.lock` keeps versions within the ranges of pyproject.toml; `--upgrade` uses newer ones.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

_PROJECT = Path(__file__).resolve().parent.parent
_HEAD = """\
# What the project is built and tested with; pyproject.toml has the ranges for users.
# Written by `python -m lab.lock` (--upgrade: with newer versions).
"""
_BUILD_TOOLS = ("hatchling", "editables")  # pip uses them for builds, not at run time
_NOT_OURS = ("hawkwing", "pip")


def locked(freeze: str) -> str:
    """The file's text, from what `pip freeze --all` prints."""
    pins = [line for line in freeze.splitlines() if "==" in line and line.partition("==")[0] not in _NOT_OURS]
    return _HEAD + "\n".join(sorted(pins, key=str.lower)) + "\n"


def main(upgrade: bool) -> int:
    """Resolves, in an environment without this machine's packages, and writes the file."""
    file = _PROJECT / "constraints.txt"
    kept = [] if upgrade or not file.exists() else ["-c", str(file)]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [f"{folder}/bin/python", "-m", "pip"]
        wanted = [f"{_PROJECT}[lab,lint,view,browser,kubernetes]", *_BUILD_TOOLS]
        subprocess.run([*pip, "install", "-q", *kept, *wanted], check=True)
        done = subprocess.run([*pip, "freeze", "--all"], check=True, capture_output=True, text=True)
    file.write_text(locked(done.stdout))
    return 0


if __name__ == "__main__":
    sys.exit(main("--upgrade" in sys.argv[1:]))
