"""TLS credentials for the controller; the files are checked first."""

import grpc

from hawkwing.config import Tls
from hawkwing.errors import ControllerError
from hawkwing.pem import pem_problems


def read(tls: Tls) -> grpc.ChannelCredentials:
    """Channel credentials of the configured files (PEM); ControllerError names the file that is wrong."""
    for name, problem in pem_problems(tls):
        raise ControllerError(f"hawkeye.tls.{name}: {problem}")
    try:
        authority, key, certificate = (
            path.read_bytes() if path else None for path in (tls.ca, tls.key, tls.certificate)
        )
    except OSError as error:
        raise ControllerError(f"hawkeye.tls: {error.filename} can't be read: {error.strerror}") from None
    return grpc.ssl_channel_credentials(authority, key, certificate)
