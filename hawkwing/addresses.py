"""The host's own addresses, and their changes."""

import asyncio
import re
import socket
from collections.abc import Callable, Iterable
from ipaddress import IPv6Address
from pathlib import Path
from typing import NamedTuple

from hawkwing.dataplane.netlink import Listener
from hawkwing.errors import DataplaneError

_TABLE = Path("/proc/self/net/if_inet6")
_IPV4_ROUTES = Path("/proc/self/net/fib_trie")
_IPV4_LOCAL = re.compile(r"\|-- (\d+\.\d+\.\d+\.\d+)\n\s+/32 host LOCAL")
_GLOBAL_SCOPE = 0
_RTMGRP_IPV4_IFADDR, _RTMGRP_IPV6_IFADDR = 0x10, 0x100


_TEMPORARY, _DAD_FAILED, _DEPRECATED, _TENTATIVE = 0x01, 0x08, 0x20, 0x40
_NO_PORT = 9


class HostAddress(NamedTuple):
    """An address and its interface; `flags` are IFA_F_..."""

    address: IPv6Address
    interface: str
    is_global: bool
    flags: int = 0

    @property
    def is_usable(self) -> bool:
        """Whether duplicate address detection has found no other host with it."""
        return not self.flags & (_TENTATIVE | _DAD_FAILED)


def parse_table(text: str) -> list[HostAddress]:
    """Parses /proc/net/if_inet6."""
    found = []
    for line in text.splitlines():
        digits, _index, _length, scope, flags, name = line.split()
        is_global = int(scope, 16) == _GLOBAL_SCOPE
        found.append(HostAddress(IPv6Address(int(digits, 16)), name, is_global, int(flags, 16)))
    return found


def host_addresses() -> list[HostAddress]:
    """All IPv6 addresses of this network namespace."""
    try:
        return parse_table(_TABLE.read_text())
    except FileNotFoundError:
        raise DataplaneError("this kernel has no IPv6 (CONFIG_IPV6), or IPv6 is disabled") from None


def mapped_ipv4(text: str) -> set[IPv6Address]:
    """The host's IPv4 addresses in a text of /proc/net/fib_trie, IPv4-mapped (RFC 4291, section 2.5.5.2)."""
    return {IPv6Address(f"::ffff:{address}") for address in _IPV4_LOCAL.findall(text)}


def host_ipv4() -> set[IPv6Address]:
    """All IPv4 addresses of this network namespace, IPv4-mapped."""
    try:
        return mapped_ipv4(_IPV4_ROUTES.read_text())
    except OSError:
        # A kernel without IPv4.
        return set()


def all_addresses() -> set[IPv6Address]:
    """All addresses of this network namespace, those of IPv4 mapped."""
    return {entry.address for entry in host_addresses()} | host_ipv4()


def preferred_address(found: Iterable[HostAddress], interface: str) -> IPv6Address | None:
    """A global address of an interface; those that are permanent and not deprecated first."""
    usable = [
        entry for entry in found if entry.interface == interface and entry.is_global and entry.is_usable
    ]
    order = sorted(usable, key=lambda e: (e.flags & _DEPRECATED, e.flags & _TEMPORARY, e.address))
    return order[0].address if order else None


def source_to(destination: IPv6Address) -> IPv6Address | None:
    """The source address that the kernel selects for a destination; None without a global one.

    Connects a UDP socket, which sends nothing.
    """
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((str(destination), _NO_PORT))
        except OSError:
            return None
        source = IPv6Address(probe.getsockname()[0].partition("%")[0])
    return None if source.is_link_local or source.is_loopback or source.is_unspecified else source


class Sources:
    """Source addresses for requests about packets that leave through an interface."""

    def __init__(self, interface: Callable[[], str]) -> None:
        self._interface = interface

    def usual(self) -> IPv6Address | None:
        """The interface's own address."""
        return preferred_address(host_addresses(), self._interface())

    def of(self, destination: IPv6Address) -> IPv6Address | None:
        """The address selected by the kernel; without a route, the interface's own."""
        return source_to(destination) or self.usual()


def watch(changed: Callable[[], None]) -> Callable[[], None]:
    """Calls `changed` in the running loop when an address is added or removed; call the result to stop."""
    listener = Listener(_RTMGRP_IPV4_IFADDR | _RTMGRP_IPV6_IFADDR)
    loop = asyncio.get_running_loop()

    def drain() -> None:
        # The content does not matter, nor if messages were lost: something has changed.
        for _change in listener.changes():
            pass
        changed()

    loop.add_reader(listener, drain)

    def stop() -> None:
        loop.remove_reader(listener)
        listener.close()

    return stop
