"""Finds the C sources, and merges them into one text: BCC rewrites map access in its main file only."""

import hashlib
import re
from functools import cache
from pathlib import Path

from hawkwing.errors import DataplaneError

_MEANING = ("types.h", "reasons.h", "maps.h", "lib/flows.h")
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_INCLUDE = re.compile(r'\s*#include "(?P<file>[^"]+)"')


@cache
def source_folder() -> Path:
    """The folder of the C sources: inside an installed package, or next to it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "bpf", package.parent / "bpf"):
        if (folder / "hawkwing.c").is_file():
            return folder
    raise DataplaneError(f"the C sources of the data plane are missing: no bpf/hawkwing.c near {package}")


def without_comments(text: str) -> str:
    """C with a space for each comment."""
    return _COMMENT.sub(" ", text)


def meaning(folder: Path | None = None) -> str:
    """The digest of the map layouts: versions with the same digest can share maps."""
    folder = folder or source_folder()
    texts = [without_comments((folder / name).read_text()).split() for name in _MEANING]
    return hashlib.sha256("\0".join(" ".join(words) for words in texts).encode()).hexdigest()[:16]


def flattened(name: str = "hawkwing.c", folder: Path | None = None, marks: bool = True) -> str:
    """`name` with our own includes inserted, and #line marks for error messages."""
    return "\n".join(_flatten(folder or source_folder(), name, marks)) + "\n"


def _flatten(folder: Path, name: str, marks: bool) -> list[str]:
    lines = [f'#line 1 "{name}"'] if marks else []
    for number, line in enumerate((folder / name).read_text().splitlines(), 1):
        match = _INCLUDE.match(line)
        if match:
            lines += _flatten(folder, match["file"], marks)
            if marks:
                lines.append(f'#line {number + 1} "{name}"')
        else:
            lines.append(line)
    return lines
