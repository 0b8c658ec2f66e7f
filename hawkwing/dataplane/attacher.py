"""Attaching in a process of its own: it starts while programs are loaded, and its memory ends with it."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from hawkwing.errors import DataplaneError

_MOST = 65536
_SECONDS, _TRIES = 4, 3
"""The kernel answers within milliseconds. A process that waits longer is ended, and another one tries."""
_MAX_DESCRIPTORS = 16


class Attacher:
    """One command for a process that is started at once: attach, detach or is_attached."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self._socket, theirs = socket.socketpair()
        command = [sys.executable, "-P", "-m", "hawkwing.dataplane.attacher", str(theirs.fileno())]
        self._process = subprocess.Popen(
            command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        theirs.close()

    def attach(
        self,
        role: str,
        names: Sequence[str],
        hook: str,
        programs: Mapping[str, int],
        former: Collection[int] = (),
    ) -> None:
        """Puts the programs on all of the interfaces, or on none: DataplaneError says why.

        `former` has the ids of programs that an agent before this one may have left.
        """
        request = {"do": "attach", "role": role, "names": list(names), "hook": hook, "ours": list(former)}
        self._ask({**request, "programs": list(programs)}, list(programs.values()))

    def detach(self, role: str, names: Sequence[str], hook: str, ours: Collection[int] = ()) -> None:
        """Takes our programs, which have these ids, off; interfaces that are gone took theirs with them."""
        request = {"do": "detach", "role": role, "names": list(names), "hook": hook, "ours": list(ours)}
        self._ask(request, [])

    def is_attached(self, role: str, interface: str) -> bool:
        """Are filters of this role on the interface, left by an agent before?"""
        return bool(self._ask({"do": "is_attached", "role": role, "names": [interface], "hook": "tc"}, []))

    def abandon(self) -> None:
        """Ends it without a command; after one this does nothing."""
        if self._process.returncode is None:
            self._socket.close()
            self._process.communicate()

    def _ask(self, request: Mapping[str, Any], descriptors: list[int]) -> Any:
        text, errors = self._answer(request, descriptors)
        for _ in range(_TRIES - 1):
            if self._process.returncode != -signal.SIGALRM:
                break
            self._start()
            text, errors = self._answer(request, descriptors)
        if not text:
            raise DataplaneError(
                f"attaching failed: {errors.decode(errors='replace').strip() or 'no answer'}"
            )
        reply = json.loads(text)
        if "error" in reply:
            raise DataplaneError(reply["error"])
        return reply["result"]

    def _answer(self, request: Mapping[str, Any], descriptors: list[int]) -> tuple[bytes, bytes]:
        with self._socket:
            try:
                socket.send_fds(self._socket, [json.dumps(request).encode()], descriptors)
                text = self._socket.recv(_MOST)
            except OSError:
                text = b""
        _out, errors = self._process.communicate()
        return text, errors


def main() -> int:
    """`python -m hawkwing.dataplane.attacher FD`: one command over socket FD."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    from pyroute2 import IPRoute

    from hawkwing.dataplane import attach

    data, descriptors, _flags, _address = socket.recv_fds(channel, _MOST, _MAX_DESCRIPTORS)
    if not data:
        return 0
    request = json.loads(data)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(_SECONDS)
    programs = dict(zip(request.get("programs", ()), descriptors, strict=True))
    result: object = None
    try:
        with IPRoute() as ip:
            if request["do"] == "attach":
                attach.attach_all(
                    ip, request["role"], request["names"], request["hook"], programs, request["ours"]
                )
            elif request["do"] == "detach":
                attach.detach_all(ip, request["role"], request["names"], request["hook"], request["ours"])
            else:
                result = attach.is_attached(ip, request["role"], request["names"][0])
    except DataplaneError as error:
        channel.sendall(json.dumps({"error": str(error)}).encode())
        return 1
    channel.sendall(json.dumps({"result": result}).encode())
    # The answer is given: nobody waits for an interpreter's tidying up.
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
