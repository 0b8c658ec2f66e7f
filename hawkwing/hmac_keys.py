"""Reads the secrets of `hmac` from their files. No message has a secret in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hawkwing.errors import ConfigError
from hawkwing.pem import folder_of
from hawkwing.srh_hmac import MAX_SECRET, Key
from hawkwing.yaml_lines import Place, dotted

if TYPE_CHECKING:
    from hawkwing.config_models import HmacKey

MAX_KEYS = 8
_OTHERS = 0o007
_LINE_BREAKS = (b"\r\n", b"\n")


def read_keys(entries: Sequence[HmacKey]) -> tuple[Key, ...]:
    """The keys with their secrets, the one that signs first; ConfigError names all unusable files."""
    keys: list[Key] = []
    problems: list[str] = []
    for index, entry in enumerate(entries):
        try:
            keys.append(Key(entry.key_id, _read(entry.secret_file)))
        except ValueError as error:
            problems.append(f"{dotted(_place(index))}: {error}")
    if problems:
        raise ConfigError(problems)
    return tuple(keys)


def key_problems(entries: Sequence[HmacKey], config_file: Path) -> Iterator[tuple[Place, str]]:
    """Errors in the files, each with its place; relative paths are relative to the configuration file."""
    for index, entry in enumerate(entries):
        try:
            _read(entry.beside(folder_of(config_file)).secret_file)
        except ValueError as error:
            yield _place(index), str(error)


def key_warnings(entries: Sequence[HmacKey], config_file: Path) -> Iterator[tuple[Place, str]]:
    """Files that more users than owner and group can use."""
    for index, entry in enumerate(entries):
        path = entry.beside(folder_of(config_file)).secret_file
        try:
            mode = path.stat().st_mode & 0o777
        except OSError:
            # It was there a moment ago.
            continue
        if mode & _OTHERS:
            yield _place(index), f"{path} is open to all users (mode {mode:04o}), use 0640 or 0600"


def _place(index: int) -> Place:
    return ("hmac", index, "secret_file")


def _read(path: Path) -> bytes:
    """The secret; ValueError with a sentence if there is none."""
    most = MAX_SECRET + max(map(len, _LINE_BREAKS))
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror}") from None
    except ValueError:
        raise ValueError(f"{str(path)!a} can't be read: its name has a null character") from None
    for end in _LINE_BREAKS:
        if content.endswith(end):
            content = content.removesuffix(end)
            break
    if not content:
        raise ValueError(f"{path} is empty, a secret is needed")
    if len(content) > MAX_SECRET:
        raise ValueError(f"{path} is too long, a secret has at most {MAX_SECRET} bytes")
    return content
