"""Captures of single links, taken with `lab.capture --live`, for download."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from lab.capture import find_link
from lab.errors import LabError
from lab.network import PROJECT, Lab
from lab.process import last_words
from lab.wait import patient, wait_until

_STARTED_WITHIN, _ENDED_WITHIN = 60.0, 10.0


def file_of(lab: Lab, link: str) -> Path:
    """The file of a link's capture."""
    return lab.run / "captures" / f"{find_link(lab, link).name}.pcapng"


class Recordings:
    """The running captures, by link."""

    def __init__(self) -> None:
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def links(self) -> frozenset[str]:
        """The links that are being captured."""
        return frozenset(name for name, process in self._running.items() if process.poll() is None)

    def start(self, lab: Lab, link: str) -> None:
        """Starts a capture; returns once both ends of the link are being captured."""
        name = find_link(lab, link).name
        if name in self.links:
            return
        argv = [sys.executable, "-m", "lab", "lab.capture", name, "--live", "--name", lab.name]
        file, said = file_of(lab, name), lab.run / "logs" / f"view-{name}.log"
        with file.open("wb") as output, said.open("wb") as errors:
            process = subprocess.Popen(
                argv,
                cwd=PROJECT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                start_new_session=True,
            )
        try:
            wait_until(
                lambda: file.stat().st_size or process.poll() is not None,
                _STARTED_WITHIN,
                f"the capture of {name}",
            )
            if process.poll() is not None:
                raise LabError(f"the capture of {name} ended: {last_words(said.read_text(errors='replace'))}")
        except BaseException:
            process.kill()
            process.wait()
            raise
        self._running[name] = process

    def stop(self, link: str) -> None:
        """Stops a capture; returns once its file is complete."""
        process = self._running.pop(link, None)
        if process is None:
            return
        process.send_signal(signal.SIGINT)
        try:
            process.wait(patient(_ENDED_WITHIN))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def close(self) -> None:
        """Stops all captures."""
        for name in list(self._running):
            self.stop(name)
