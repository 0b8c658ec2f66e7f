"""The host's own addresses, and their changes."""

import asyncio
import re
import socket
from collections.abc import Callable
from ipaddress import IPv6Address
from pathlib import Path
from typing import NamedTuple

from hawkwing.errors import DataplaneError

_TABLE = Path("/proc/self/net/if_inet6")
_IPV4_ROUTES = Path("/proc/self/net/fib_trie")
_IPV4_LOCAL = re.compile(r"\|-- (\d+\.\d+\.\d+\.\d+)\n\s+/32 host LOCAL")
_GLOBAL_SCOPE = 0
_RTMGRP_IPV4_IFADDR, _RTMGRP_IPV6_IFADDR = 0x10, 0x100


class HostAddress(NamedTuple):
    """An address and its interface."""

    address: IPv6Address
    interface: str
    is_global: bool


def parse_table(text: str) -> list[HostAddress]:
    """Parses /proc/net/if_inet6."""
    found = []
    for line in text.splitlines():
        digits, _index, _length, scope, _flags, name = line.split()
        found.append(HostAddress(IPv6Address(int(digits, 16)), name, int(scope, 16) == _GLOBAL_SCOPE))
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


def all_addresses() -> set[IPv6Address]:
    """All addresses of this network namespace, those of IPv4 mapped."""
    found = {entry.address for entry in host_addresses()}
    try:
        return found | mapped_ipv4(_IPV4_ROUTES.read_text())
    except OSError:
        # A kernel without IPv4.
        return found


def source_address(interface: str) -> IPv6Address | None:
    """The first global address of an interface, for requests to the controller; None if it has none yet."""
    found = (one.address for one in host_addresses() if one.interface == interface and one.is_global)
    return next(found, None)


def watch(changed: Callable[[], None]) -> Callable[[], None]:
    """Calls `changed` in the running loop when an address is added or removed; the result stops this."""
    listener = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
    listener.bind((0, _RTMGRP_IPV4_IFADDR | _RTMGRP_IPV6_IFADDR))
    loop = asyncio.get_running_loop()

    def drain() -> None:
        try:
            while listener.recv(65536):
                pass
        except BlockingIOError:
            pass
        except OSError:
            # ENOBUFS: messages were lost, which means that something has changed.
            pass
        changed()

    loop.add_reader(listener, drain)

    def stop() -> None:
        loop.remove_reader(listener)
        listener.close()

    return stop
