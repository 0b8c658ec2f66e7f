"""Why a probe failed: ICMPv6 errors from the kernel (IPV6_RECVERR) as text. No I/O."""

import errno
import os
import struct
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Any

# linux/errqueue.h: errno, origin, type, code, padding, info, data; behind it the address of the reporter.
_EXTENDED = struct.Struct("=IBBBBII")
_REPORTER = slice(_EXTENDED.size + 8, _EXTENDED.size + 24)
_LOCAL, _ICMPV6 = 1, 3
_UNREACHABLE, _TOO_BIG, _TIME_EXCEEDED, _PARAMETER = 1, 2, 3, 4

_TEXTS = {
    (_UNREACHABLE, 0): "no route to {active}",
    (_UNREACHABLE, 1): "a filter forbids packets to {active}",
    (_UNREACHABLE, 2): "{active} is beyond the scope of the source address",
    (_UNREACHABLE, 3): "{active} is not reachable on its link",
    (_UNREACHABLE, 4): "nothing listens on the port",
    (_UNREACHABLE, 5): "a policy refuses the source address",
    (_UNREACHABLE, 6): "its route to {active} rejects packets",
    (_UNREACHABLE, 7): "error in the SRH",
    (_TIME_EXCEEDED, 0): "hop limit exceeded on the way to {active}: a loop, or a path of too many hops",
    (_TIME_EXCEEDED, 1): "fragments were not reassembled in time",
    (_PARAMETER, 0): "parameter problem: erroneous header field at byte {info}",
    (_PARAMETER, 1): "parameter problem: unrecognized next header at byte {info}",
    (_PARAMETER, 2): "parameter problem: unrecognized option at byte {info}",
    (_PARAMETER, 3): "parameter problem: incomplete header chain in the first fragment",
    (_PARAMETER, 4): "parameter problem: SR upper-layer header error",
}
_HERE = {
    errno.ENETUNREACH: "this host has no route to {active}",
    errno.EHOSTUNREACH: "this host can't reach {active}",
    errno.EACCES: "a route or rule of this host forbids packets to {active}",
    errno.EPERM: "a firewall of this host forbids it",
    errno.EADDRNOTAVAIL: "the source address is not (any more) an address of this host",
}


@dataclass(frozen=True)
class Problem:
    """A failure of one probe.

    `reporter` sent the ICMPv6 error (None: this host), `active` was the active segment.
    """

    text: str
    reporter: IPv6Address | None = None
    active: IPv6Address | None = None
    mtu: int | None = None

    def __str__(self) -> str:
        return f"{self.reporter} reports: {self.text}" if self.reporter is not None else self.text

    def as_json(self) -> dict[str, Any]:
        """For --json."""
        return {
            "text": self.text,
            "reporter": str(self.reporter) if self.reporter is not None else None,
            "active_segment": str(self.active) if self.active is not None else None,
            "mtu": self.mtu,
        }


def read_error(data: bytes, active: IPv6Address | None, hidden: int = 0) -> Problem:
    """The problem from an error of IPV6_RECVERR and the destination of the quoted packet.

    Without an `active` segment, a server's agent has removed the SRH of `hidden` bytes from the error.
    """
    number, origin, kind, code, _padding, info, _more = _EXTENDED.unpack_from(data)
    if origin != _ICMPV6:
        return local(number, active, info)
    reporter = IPv6Address(data[_REPORTER])
    if kind == _TOO_BIG:
        info += hidden if active is None else 0
        return Problem(f"Packet Too Big, the next link carries {info} bytes", reporter, active, info)
    text = _TEXTS.get((kind, code), "ICMPv6 error, type {kind} code {code}")
    where = active if active is not None else "the next segment, or back to this host"
    return Problem(text.format(active=where, info=info, kind=kind, code=code), reporter, active)


def local(number: int, active: IPv6Address | None, mtu: int = 0) -> Problem:
    """The problem if the local kernel refuses a probe; `number` is an errno."""
    if number == errno.EMSGSIZE:
        told = f" of {mtu} bytes" if mtu else ""
        return Problem(f"the probe is larger than the interface's MTU{told}", None, active, mtu or None)
    where = active if active is not None else "the first segment"
    return Problem(_HERE.get(number, os.strerror(number)).format(active=where), None, active)
