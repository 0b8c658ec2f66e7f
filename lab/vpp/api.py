"""A connection to the binary API of one VPP instance, through the library vpp-papi."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from vpp_papi import VPPApiClient, VppEnum

from lab.wait import wait_until

#: The parts of the API that the lab uses; reading all of them takes 0.1 s each time.
_FILES = (
    "memclnt",
    "vlib",
    "vpe",
    "interface",
    "ip",
    "ip_neighbor",
    "ip6_nd",
    "sr",
    "af_packet",
)
_CLIENT_NAME = "hawkwing-lab"
_DECODING = threading.Lock()
_LISTENING = "00010000"


class VppError(RuntimeError):
    """VPP refused a request, or did not answer."""


def enum(name: str) -> Any:
    """An enumeration of the API, such as vl_api_rx_mode_t; available after the first connection."""
    return getattr(VppEnum, name)


class _Client(VPPApiClient):  # type: ignore[misc]
    """A client that decodes one message at a time.

    All connections share the library's types, which store whether to convert: with two threads at once a
    prefix came unconverted.
    """

    def decode_incoming_msg(self, *arguments: Any, **options: Any) -> Any:
        """As in the library; does not wait for VPP."""
        with _DECODING:
            return super().decode_incoming_msg(*arguments, **options)


class Api:
    """Calls by name: `api.call("sw_interface_set_flags", sw_if_index=1, flags=1)`. A context manager."""

    def __init__(self, path: Path, folder: Path) -> None:
        self._socket = path
        #: Known interface numbers by name.
        self.interface_numbers: dict[str, int] = {}
        files = [file for name in _FILES for file in sorted(folder.rglob(f"{name}.api.json"))]
        self._client = _Client(apifiles=[str(file) for file in files], server_address=str(path))
        try:
            self._client.connect(_CLIENT_NAME)
        except OSError as error:
            raise VppError(f"VPP at {path} does not answer: {error.strerror or error}") from error

    def call(self, message: str, **fields: Any) -> Any:
        """The reply to a request; VppError with VPP's error number if it refuses."""
        reply = self.ask(message, **fields)
        if getattr(reply, "retval", 0) < 0:
            raise VppError(f"VPP at {self._socket} refused {message}: error {reply.retval}")
        return reply

    def dump(self, message: str, **fields: Any) -> list[Any]:
        """All entries of a dump request."""
        found = self.ask(message, **fields)
        # Newer messages also return the end of the list.
        return list(found[1]) if isinstance(found, tuple) and not hasattr(found, "_fields") else list(found)

    def ask(self, message: str, **fields: Any) -> Any:
        """The reply, also if it is an error."""
        function: Callable[..., Any] | None = getattr(self._client.api, message, None)
        if function is None:
            raise VppError(f"this version of VPP has no message {message} ({self._socket})")
        try:
            return function(**fields)
        except (OSError, VPPApiClient.VPPIOError) as error:
            raise VppError(f"VPP at {self._socket} did not answer {message}: {error}") from error

    def has(self, message: str) -> bool:
        """True if this version of VPP has the message."""
        return hasattr(self._client.api, message)

    def close(self) -> None:
        """Closes the connection."""
        self._client.disconnect()

    def __enter__(self) -> Api:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.close()


def wait_for_api(path: Path, ended: Callable[[], str | None], timeout: float) -> None:
    """Waits until an instance in this network namespace listens; VppError if `ended` says why not."""

    def listening() -> bool:
        why = ended()
        if why is not None:
            raise VppError(why)
        return _listens(path)

    wait_until(listening, timeout, f"VPP to listen at {path}")


def _listens(path: Path) -> bool:
    """The socket's file exists a moment before VPP listens."""
    lines = Path("/proc/thread-self/net/unix").read_text().splitlines()[1:]
    return any(line.endswith(f" {path}") and line.split()[3] == _LISTENING for line in lines)
