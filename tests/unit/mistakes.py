"""Wrong configuration files: rows of a table, and the pieces that they are made of."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from hawkwing.config import check_config
from hawkwing.errors import ConfigError

# Lines 1 to 4; an application begins on line 5.
HEAD = """services:
  web:
    domain_name: wb.hawk.net
    applications:
"""
APP = "services.web.applications[0]"


class Row(NamedTuple):
    """`wrong` is the file, `said` what stands behind `hawk.yaml:`, `right` the file as it should be."""

    what: str
    wrong: str
    said: list[str]
    right: str


def lines(*written: str) -> str:
    return "\n".join(written) + "\n"


def app(*written: str) -> str:
    """The lines of one application, from line 5 on."""
    return HEAD + "      - " + "\n        ".join(written) + "\n"


def name(written: str) -> str:
    return HEAD.replace("wb.hawk.net", written) + "      - {port: 80, sid: [fcbb::1]}\n"


def port(written: str) -> str:
    return app(f"port: {written}", "sid: [fcbb::1]")


def sid(written: str) -> str:
    return app("port: 80", f"sid: {written}")


def intents(*written: str) -> str:
    """The intents of one application, from line 8 on."""
    return app("port: 80", "sid: [fcbb::1]", "intents:", *[f"  {line}" for line in written])


def hawkeye(*written: str) -> str:
    """The keys of the controller, from line 2 on; line 1 and the end are right."""
    return lines("hawkeye:", *[f"  {line}" for line in written]) + sid("[fcbb::1]")


def said_of(file: Path, text: str | bytes) -> list[str]:
    """All errors, or else all warnings."""
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    try:
        return check_config(file)[1]
    except ConfigError as error:
        return error.problems
