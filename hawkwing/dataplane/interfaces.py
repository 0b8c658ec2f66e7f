"""A first look at interfaces, before anything heavy is imported."""

import fcntl
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from hawkwing.dataplane import refusal
from hawkwing.errors import DataplaneError

WITH_ETHERNET_HEADER = frozenset({1, 772})
"""ARPHRD_ETHER and ARPHRD_LOOPBACK."""
_SIOCGIFHWADDR = 0x8927


def check_interfaces(names: Sequence[str]) -> bool:
    """A quick word for what can't work; True where one of them has no Ethernet header."""
    missing = refusal.needs_capabilities()
    if missing:
        raise DataplaneError(missing)
    for name in names:
        try:
            socket.if_nametoindex(name)
        except OSError:
            raise DataplaneError(f"there is no interface {name!r} here") from None
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as any_socket:
        return any(_link_type(any_socket, name) not in WITH_ETHERNET_HEADER for name in names)


def ethernet_links(names: Sequence[str]) -> list[int]:
    """The indexes of those interfaces that are there and have an Ethernet header."""
    found = []
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as any_socket:
        for name in names:
            with suppress(OSError):
                if _link_type(any_socket, name) in WITH_ETHERNET_HEADER:
                    found.append(socket.if_nametoindex(name))
    return found


def requiring_hmac(names: Sequence[str], sysctls: Path = Path("/proc/sys/net/ipv6/conf")) -> list[str]:
    """The interfaces on which the kernel accepts SRHs with a valid HMAC only (seg6_require_hmac = 1)."""
    found = []
    for name in names:
        try:
            if int((sysctls / name / "seg6_require_hmac").read_text()) > 0:
                found.append(name)
        except (OSError, ValueError):
            # No such interface any more, or a kernel without SRv6: it accepts no SRH at all.
            continue
    return found


def _link_type(any_socket: socket.socket, name: str) -> int:
    """ARPHRD_* of an interface (netdevice(7), SIOCGIFHWADDR)."""
    reply = fcntl.ioctl(any_socket, _SIOCGIFHWADDR, struct.pack("16s24x", name.encode()))
    return int(struct.unpack_from("=H", reply, 16)[0])
