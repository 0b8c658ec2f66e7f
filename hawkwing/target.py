"""The destination of a packet, as given to `explain`, `paths`, `ping` and `trace`.

ADDRESS PORT, [ADDRESS]:PORT, NAME PORT, NAME:PORT

In Python an IPv4 address is IPv4-mapped (::ffff:a.b.c.d); in text it is a.b.c.d.
"""

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address

from hawkwing.config_values import printable, read_domain, shown
from hawkwing.errors import HawkwingError

_BRACKETS = re.compile(r"\[(?P<address>[^\[\]]*)\](?::(?P<port>.*))?")


def address_text(address: IPv6Address) -> str:
    """An address, or the IPv4 address that is mapped in it."""
    return str(address.ipv4_mapped or address)


def address_of(text: str) -> IPv6Address:
    """The address of a text; one of IPv4 mapped. ValueError if it is none."""
    return IPv6Address(text if ":" in text else f"::ffff:{IPv4Address(text)}")


def place_text(address: str, port: int) -> str:
    """Address and port; those of IPv6 need brackets."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def read_target(words: Sequence[str], command: str = "explain") -> tuple[str, int]:
    """Destination (an address, or a name as in DNS) and port; HawkwingError if they are invalid."""
    destination, port = read_destination(words)
    if port is None:
        example = f"[{destination}]:80" if ":" in destination else f"{destination} 80"
        raise HawkwingError(f"the port is missing, for example: hawkwing {command} {example}")
    return destination, port


def read_destination(words: Sequence[str]) -> tuple[str, int | None]:
    """The same, with an optional port."""
    text, *rest = (word.strip() for word in words)
    brackets = _BRACKETS.fullmatch(text)
    if brackets:
        destination, port = brackets["address"], brackets["port"]
    elif text.count(":") == 1 and "//" not in text:
        destination, port = text.split(":")
    else:
        destination, port = text, None
    if rest:
        if port is not None:
            raise HawkwingError(f"{shown(text)} has a port already: leave out {shown(rest[0])}")
        port = rest[0]
    destination = _address(destination) if brackets or ":" in destination else _name(destination)
    return destination, None if port is None else _port(port)


def _address(text: str) -> str:
    if "//" in text:
        return _name(text)
    if "%" in text:
        raise HawkwingError(f"{shown(text)} has a zone ID (the part from %): write the address without it")
    if "/" in text:
        raise HawkwingError(f"{shown(text)} is a prefix: write one address, without its length")
    try:
        return address_text(IPv6Address(text))
    except ValueError:
        raise HawkwingError(f"{shown(text)} is not an IPv6 address") from None


def _name(text: str) -> str:
    if "//" in text:
        raise HawkwingError(f"{shown(text)} is a URL: write the name or address only, and the port")
    try:
        return str(IPv4Address(text))
    except ValueError:
        pass
    if not text:
        raise HawkwingError("the destination is empty: write an IPv6 address or a name")
    try:
        return read_domain(printable(text))
    except ValueError as error:
        raise HawkwingError(f"not an IPv6 address, and {error}") from None


def _port(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) > 65535:
        raise HawkwingError(f"{shown(text)} is not a port, use 0 to 65535")
    return int(text)
