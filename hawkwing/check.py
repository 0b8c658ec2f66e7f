"""`hawkwing check`: errors and warnings in a configuration file, as text or for programs."""

import re
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from hawkwing.config import Config, check_config
from hawkwing.errors import ConfigError

_STDIN = Path("/dev/stdin")
_STDIN_SHOWN = "stdin"


@dataclass(frozen=True)
class Finding:
    """One error or warning; without a file if it comes from an environment variable."""

    severity: str
    file: str | None
    line: int | None
    message: str

    def as_json(self) -> dict[str, object]:
        """The four fields as a mapping."""
        return asdict(self)


@dataclass(frozen=True)
class Report:
    """All errors and warnings; `config` is set if there is no error."""

    file: str
    findings: list[Finding]
    config: Config | None

    @property
    def good(self) -> bool:
        """Whether an agent can start with it."""
        return self.config is not None


def check_file(path: Path, environ: Mapping[str, str]) -> Report:
    """Reads the file, or standard input if it is called -."""
    real, shown = (_STDIN, _STDIN_SHOWN) if str(path) == "-" else (path, str(path))
    if real is _STDIN and sys.stdin is None:
        return Report(shown, [Finding("error", shown, None, "is closed, a configuration is needed")], None)
    try:
        config, warnings = check_config(real, environ)
    except ConfigError as error:
        return Report(shown, [_finding("error", text, real, shown) for text in error.problems], None)
    return Report(shown, [_finding("warning", text, real, shown) for text in warnings], config)


def line_of(finding: Finding) -> str:
    """`FILE:LINE: message`, as editors read it."""
    where = ":".join(str(part) for part in (finding.file, finding.line) if part is not None)
    warning = ["warning"] if finding.severity == "warning" else []
    return ": ".join([*([where] if where else []), *warning, finding.message])


def _finding(severity: str, text: str, path: Path, shown: str) -> Finding:
    """Parses a line `FILE:LINE: message`, or one without a file."""
    if not text.startswith(f"{path}:"):
        return Finding(severity, None, None, text.removeprefix("warning: "))
    match = re.fullmatch(r":(?:(\d+):)? ?(.*)", text.removeprefix(str(path)), re.DOTALL)
    assert match is not None
    return Finding(severity, shown, int(match[1]) if match[1] else None, match[2].removeprefix("warning: "))
