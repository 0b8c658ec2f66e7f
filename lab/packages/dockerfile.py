"""Reads our Dockerfile, for builds without a container builder: ARG defaults and the last stage."""

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
    """`arguments` are the ARG lines before the first stage; the rest belongs to the last stage."""

    arguments: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    volumes: list[str] = field(default_factory=list)
    entry: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)

    def settings(self, version: str) -> dict[str, Any]:
        """The settings for the image's configuration."""
        return {
            "Env": [_PATH],
            "Entrypoint": self.entry,
            "Cmd": self.command,
            "Volumes": {volume: {} for volume in self.volumes},
            "Labels": {**self.labels, VERSION: version},
        }


def read(text: str) -> Dockerfile:
    """Parses the file's text; continued lines belong to RUN and are ignored."""
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
