"""`hawkwing check`: what is wrong in a configuration file, for people and for programs."""

import re
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from hawkwing.config import Config, load_config, warnings_for
from hawkwing.errors import ConfigError

_STDIN = Path("/dev/stdin")
_STDIN_SHOWN = "stdin"


@dataclass(frozen=True)
class Finding:
    """One error or warning; without a file where it is an environment variable's."""

    severity: str
    file: str | None
    line: int | None
    message: str

    def as_json(self) -> dict[str, object]:
        """The four fields by their names."""
        return asdict(self)


@dataclass(frozen=True)
class Report:
    """All that was found; `config` is there when nothing is an error."""

    file: str
    findings: list[Finding]
    config: Config | None

    @property
    def good(self) -> bool:
        """Can an agent start with it?"""
        return self.config is not None


def check_file(path: Path, environ: Mapping[str, str]) -> Report:
    """Reads the file, or standard input where it is named -."""
    real, shown = (_STDIN, _STDIN_SHOWN) if str(path) == "-" else (path, str(path))
    if real is _STDIN and sys.stdin is None:
        return Report(shown, [Finding("error", shown, None, "is closed, a configuration is needed")], None)
    try:
        config = load_config(real, environ)
    except ConfigError as error:
        return Report(shown, [_finding("error", text, real, shown, None) for text in error.problems], None)
    warnings = [_finding("warning", str(text), real, shown, shown) for text in warnings_for(config)]
    return Report(shown, warnings, config)


def line_of(finding: Finding) -> str:
    """FILE:LINE: message, as editors read it."""
    where = [str(part) for part in (finding.file, finding.line) if part is not None]
    return ": ".join([*([":".join(where)] if where else []), finding.message])


def _finding(severity: str, text: str, path: Path, shown: str, without: str | None) -> Finding:
    """Of `FILE:LINE: message`; `without` is the file of a text that names none."""
    if not text.startswith(f"{path}:"):
        return Finding(severity, without, None, text)
    match = re.fullmatch(r":(?:(\d+):)? ?(.*)", text.removeprefix(str(path)), re.DOTALL)
    assert match is not None
    return Finding(severity, shown, int(match[1]) if match[1] else None, match[2])
