"""Mirrors and network settings of this machine's apt: sources.list(5) and apt.conf(5)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_ONE_LINE = re.compile(r"(?P<type>deb|deb-src)\s+(?:\[[^]]*\]\s*)?(?P<uri>\S+)\s+(?P<suite>\S+)(?P<rest>.*)")
_SETTING = re.compile(r'(?P<key>[^\s"]+) "(?P<value>[^"]+)";')
_NETWORK = re.compile(
    r"Acquire::(?:https?::Proxy(?:::.+)?|Check-Valid-Until|Check-Date|Retries|ForceIPv[46])", re.IGNORECASE
)
# Suites are named by codename, in Debian also by status.
_ALIASES = {"debian": {"oldoldstable", "oldstable", "stable", "testing", "unstable", "sid"}}
_FOLDERS = {"debian": {"debian"}, "ubuntu": {"ubuntu", "ubuntu-ports"}}


@dataclass(frozen=True)
class Source:
    """One entry of binary packages."""

    uris: tuple[str, ...]
    suites: tuple[str, ...]
    components: tuple[str, ...]


def parse_list(text: str) -> list[Source]:
    """The entries of a *.list file, one a line."""
    found = []
    for line in text.splitlines():
        match = _ONE_LINE.match(line.partition("#")[0].strip())
        if match and match["type"] == "deb":
            found.append(Source((match["uri"],), (match["suite"],), tuple(match["rest"].split())))
    return found


def parse_deb822(text: str) -> list[Source]:
    """The entries of a *.sources file, one a paragraph."""
    found = []
    for fields in _paragraphs(text):
        if "deb" in fields.get("types", "").split() and fields.get("enabled", "yes").lower() != "no":
            values = (tuple(fields.get(name, "").split()) for name in ("uris", "suites", "components"))
            found.append(Source(*values))
    return found


def _paragraphs(text: str) -> Iterator[dict[str, str]]:
    fields: dict[str, str] = {}
    name = ""
    for line in [*text.splitlines(), ""]:
        if line.startswith("#"):
            continue
        if not line.strip():
            if fields:
                yield fields
            fields, name = {}, ""
        elif line[0] in " \t":
            if name:
                fields[name] += " " + line.strip()
        else:
            name, _, value = line.partition(":")
            name = name.strip().lower()
            fields[name] = value.strip()


def read_sources(folder: Path) -> list[Source]:
    """All entries of an /etc/apt."""
    lists = [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*.list"))]
    found = [entry for file in lists if file.is_file() for entry in parse_list(file.read_text())]
    for file in sorted((folder / "sources.list.d").glob("*.sources")):
        found += parse_deb822(file.read_text())
    return found


def archive(sources: Sequence[Source], family: str, codename: str) -> str | None:
    """The mirror of the machine's own release; ignores repositories of other projects."""
    names = {codename} | _ALIASES.get(family, set())
    candidates = [
        uri.rstrip("/")
        for source in sources
        if "main" in source.components and names & set(source.suites)
        for uri in source.uris
        if uri.startswith(("http://", "https://"))
    ]
    usual = [uri for uri in candidates if uri.rpartition("/")[2] in _FOLDERS[family]]
    return next(iter([*usual, *candidates]), None)


def network_settings(dump: str) -> list[str]:
    """The network settings in `apt-config dump`."""
    matches = (_SETTING.match(line) for line in dump.splitlines())
    return [f'{m["key"]} "{m["value"]}"' for m in matches if m and _NETWORK.fullmatch(m["key"])]
