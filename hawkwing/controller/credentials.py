"""TLS towards the controller: the files are read and checked before they are used."""

import ssl
from pathlib import Path

import grpc

from hawkwing.config import Tls
from hawkwing.errors import ControllerError


def read(tls: Tls) -> grpc.ChannelCredentials:
    """Channel credentials of the configured files (PEM); ControllerError names the file that is wrong."""
    authority = _read(tls.ca, "ca")
    certificate = _read(tls.certificate, "certificate")
    key = _read(tls.key, "key")
    _check(tls)
    return grpc.ssl_channel_credentials(authority, key, certificate)


def _read(path: Path | None, what: str) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise ControllerError(f"hawkeye.tls.{what}: {path} can't be read: {error.strerror}") from None


def _check(tls: Tls) -> None:
    """Python's own TLS reads the files first: gRPC would only say much later that something is wrong."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if tls.ca is not None:
        try:
            context.load_verify_locations(tls.ca)
        except ssl.SSLError:
            raise ControllerError(f"hawkeye.tls.ca: {tls.ca} has no certificate in PEM form") from None
    if tls.certificate is not None and tls.key is not None:
        try:
            context.load_cert_chain(tls.certificate, tls.key, password=lambda: "")
        except ssl.SSLError:
            raise ControllerError(
                f"hawkeye.tls: {tls.certificate} and {tls.key} are not a certificate and its key in PEM form"
            ) from None
