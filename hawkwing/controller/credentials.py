"""TLS credentials for the controller: of the files as they are when a connection is made."""

import logging

import grpc

from hawkwing.config import Tls
from hawkwing.errors import ControllerError
from hawkwing.pem import Contents, read_contents

log = logging.getLogger("hawkwing")


def read(tls: Tls) -> grpc.ChannelCredentials:
    """Channel credentials of the configured files (PEM); ControllerError names the file that is wrong."""
    return made_of(read_contents(tls))


def made_of(contents: Contents) -> grpc.ChannelCredentials:
    """Channel credentials of what the files hold."""
    return grpc.ssl_channel_credentials(contents.ca, contents.key, contents.certificate)


class Renewed:
    """Credentials that are read again for each connection, so that renewed certificates are used.

    While the files can't be used, half written perhaps, those before are used.
    """

    def __init__(self, tls: Tls, contents: Contents) -> None:
        self._tls = tls
        self._told = ""
        self.contents = contents

    def __call__(self) -> grpc.ChannelCredentials:
        """For the next connection."""
        try:
            contents = read_contents(self._tls)
        except ControllerError as error:
            if str(error) != self._told:
                log.warning("%s; the credentials before are used", error)
            self._told = str(error)
        else:
            self._told = ""
            if contents != self.contents:
                log.info("hawkeye.tls: the files have changed, the new ones are used")
            self.contents = contents
        return made_of(self.contents)
