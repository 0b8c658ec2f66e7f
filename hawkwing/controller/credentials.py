"""TLS credentials for the controller, read from the files for each connection."""

import logging

import grpc

from hawkwing.config import Tls
from hawkwing.errors import ControllerError
from hawkwing.pem import Contents, read_contents

log = logging.getLogger("hawkwing")


def read(tls: Tls) -> grpc.ChannelCredentials:
    """Channel credentials of the configured files (PEM); ControllerError names an invalid file."""
    return made_of(read_contents(tls))


def made_of(contents: Contents) -> grpc.ChannelCredentials:
    """Channel credentials from the content of the files."""
    return grpc.ssl_channel_credentials(contents.ca, contents.key, contents.certificate)


class Renewed:
    """Credentials that are read again for each connection, to use renewed certificates.

    If the files can't be used, for example because they are incomplete, the previous credentials stay in use.
    """

    def __init__(self, tls: Tls, contents: Contents) -> None:
        self._tls = tls
        self._told = ""
        self.contents = contents

    def __call__(self) -> grpc.ChannelCredentials:
        """The credentials for the next connection."""
        try:
            contents = read_contents(self._tls)
        except ControllerError as error:
            if str(error) != self._told:
                log.warning("%s; the previous credentials are still used", error)
            self._told = str(error)
        else:
            self._told = ""
            if contents != self.contents:
                log.info("hawkeye.tls: the files have changed, using the new ones")
            self.contents = contents
        return made_of(self.contents)
