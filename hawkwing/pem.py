"""Checks the PEM files for TLS with the controller."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hawkwing.errors import ControllerError

if TYPE_CHECKING:
    from hawkwing.config_models import Tls


class Contents(NamedTuple):
    """The content of the files; equal content means equal credentials."""

    ca: bytes | None
    certificate: bytes | None
    key: bytes | None


def read_contents(tls: Tls) -> Contents:
    """Reads and checks the files; ControllerError names an invalid one."""
    for name, problem in pem_problems(tls):
        raise ControllerError(f"hawkeye.tls.{name}: {problem}")
    try:
        return Contents(*(path.read_bytes() if path else None for path in (tls.ca, tls.certificate, tls.key)))
    except OSError as error:
        raise ControllerError(f"hawkeye.tls: {error.filename} can't be read: {error.strerror}") from None


def folder_of(config_file: Path) -> Path:
    """The folder for relative paths of a configuration: that of the file, or of the symbolic link to it."""
    return Path.cwd() if config_file == Path("/dev/stdin") else config_file.absolute().parent


def pem_problems(tls: Tls | None, config_file: Path | None = None) -> Iterator[tuple[str, str]]:
    """Errors in the files, each with its key; relative paths are relative to the configuration file.

    Python's own TLS reads them: gRPC reports such errors only much later.
    """
    if tls is None:
        return
    import ssl  # needs time and memory: imported only for TLS

    if config_file is not None:
        tls = tls.beside(folder_of(config_file))
    readable = set()
    for key, path in tls:
        if path is None:
            continue
        try:
            path.read_bytes()
        except OSError as error:
            yield key, f"{path} can't be read: {error.strerror}"
        else:
            readable.add(key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for key in ("ca", "certificate"):
        if key in readable:
            try:
                context.load_verify_locations(getattr(tls, key))
            except ssl.SSLError:
                readable.discard(key)
                yield key, f"{getattr(tls, key)} has no certificate in PEM form"
    if {"certificate", "key"} <= readable:
        yield from _pair_problems(tls)


def _pair_problems(tls: Tls) -> Iterator[tuple[str, str]]:
    import ssl

    assert tls.certificate is not None
    asked = []

    def password() -> str:
        asked.append(True)
        return ""

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(tls.certificate, tls.key, password)
    except ssl.SSLError as error:
        if asked:
            yield "key", f"{tls.key} is encrypted with a password, store the key without one"
        elif error.reason == "KEY_VALUES_MISMATCH":
            yield "key", f"{tls.key} is not the key of {tls.certificate}"
        else:
            yield "key", f"{tls.key} has no private key in PEM form"
