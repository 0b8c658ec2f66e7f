"""Files in /run: written atomically, readable by root only."""

import os
from pathlib import Path

from hawkwing.errors import DataplaneError

_MODE = 0o600


class RunFile:
    """A file from one process for the next; DataplaneError with one sentence if writing fails."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def exists(self) -> bool:
        """Whether the file exists."""
        return self.path.exists()

    def read(self) -> str | None:
        """Its text; None if it can't be read."""
        try:
            return self.path.read_text()
        except (OSError, ValueError):
            return None

    def write(self, text: str) -> None:
        """Writes the text atomically."""
        temporary = self._temporary
        try:
            with os.fdopen(
                os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, _MODE), "w"
            ) as file:
                os.fchmod(file.fileno(), _MODE)
                file.write(text)
            temporary.replace(self.path)
        except OSError as error:
            _remove(temporary)
            raise DataplaneError(f"can't write {self.path}: {error.strerror}") from None

    def remove(self) -> None:
        """Removes the file, if it exists, and temporary files of killed processes."""
        _remove(self.path)
        _remove(self._temporary)

    @property
    def _temporary(self) -> Path:
        return self.path.with_name(f"{self.path.name}.new")


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise DataplaneError(f"can't remove {path}: {error.strerror}") from None
