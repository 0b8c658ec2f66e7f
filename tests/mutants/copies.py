"""Copies of the tree, and a worker in each of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
_LEFT_OUT = (".*", "__pycache__", "*.egg-info", "dist", "build")
_ALSO = (".ci", ".dockerignore", ".gitignore", ".gitattributes")


class WorkerDiedError(Exception):
    """A worker has ended; its message has what it said last."""


class Copy:
    """A copy of the tree in `folder`, whose worker runs tests in it; the working tree is only read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

        def ignored(_folder: str, names: list[str]) -> set[str]:
            return shutil.ignore_patterns(*_LEFT_OUT)(_folder, names) - set(_ALSO)

        shutil.copytree(PROJECT, folder, ignore=ignored, symlinks=True)
        # Without the copy in front, an installed package would be found: that of the working tree.
        environment = {
            **os.environ,
            "PYTHONPATH": str(folder),
            "HAWKWING_CACHE": str(folder / ".compiled"),
            "HAWKWING_CWD": str(folder),
        }
        self._errors = (folder / ".worker").open("w+")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.mutants.worker"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    def do(self, job: dict[str, Any]) -> dict[str, Any]:
        """The result of a job, see `worker`."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(job) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self._errors.seek(0)
            raise WorkerDiedError(self._errors.read()[-1000:] or "it was killed")
        result: dict[str, Any] = json.loads(line)
        return result

    def close(self) -> None:
        """Ends the worker and what it has started, and removes the copy."""
        self._process.terminate()
        self._process.wait()
        self._errors.close()
        shutil.rmtree(self.folder, ignore_errors=True)
