"""What our Dockerfile says, for building without a program that reads it: ARG defaults and the last stage."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FILE = Path(__file__).resolve().parents[2] / "Dockerfile"
VERSION = "org.opencontainers.image.version"
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass
class Dockerfile:
    """`arguments` are the ARG lines above the first stage; the rest is of the last stage."""

    arguments: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    volumes: list[str] = field(default_factory=list)
    entry: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)

    def settings(self, version: str) -> dict[str, Any]:
        """As the image's configuration has them."""
        return {
            "Env": [_PATH],
            "Entrypoint": self.entry,
            "Cmd": self.command,
            "Volumes": {volume: {} for volume in self.volumes},
            "Labels": {**self.labels, VERSION: version},
        }


def read(text: str) -> Dockerfile:
    """Of the file's text; lines that are continued belong to RUN and are not looked at."""
    found = Dockerfile()
    stages = 0
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        if word == "FROM":
            stages += 1
            found.labels, found.volumes = {}, []
        elif word == "ARG" and not stages:
            name, _, value = rest.partition("=")
            found.arguments[name] = " ".join(shlex.split(value))
        elif word == "LABEL":
            name, _, value = rest.partition("=")
            found.labels[name] = " ".join(shlex.split(value)) if value.startswith('"') else value
        elif word == "VOLUME":
            found.volumes = json.loads(rest)
        elif word == "ENTRYPOINT":
            found.entry = json.loads(rest)
        elif word == "CMD":
            found.command = json.loads(rest)
    return found
