"""What a value of a configuration may be: each function returns it, or raises ValueError with a sentence."""

from __future__ import annotations

import difflib
import functools
import ipaddress
import re
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from pathlib import Path

from hawkwing.intents import IntentType

MAX_VALUE = 2**31 - 1  # int32 in the controller's protocol
_INTENT_TYPES = {kind.value: kind for kind in IntentType}


def shown(value: object) -> str:
    """A value as a sentence has it."""
    if not isinstance(value, str):
        if isinstance(value, bool):
            return "true" if value else "false"
        if value is None:
            return "nothing"
        if isinstance(value, dict):
            return "a mapping"
        if isinstance(value, (list, tuple)):
            return "a list"
    text = str(value)
    text = text if text.isprintable() and text.strip() else ascii(text)
    return text if len(text) <= 80 else text[:77] + "..."


def whole_number(what: str, low: int, high: int) -> Callable[[object], int]:
    def parse(value: object) -> int:
        if isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value):
            raise ValueError(f'"{value}" is read as text, write {int(value)} without quotes')
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"{shown(value)} is not {what}, use {low} to {high}")
        return value

    return parse


def read_flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{shown(value)} is neither true nor false")
    return value


def read_text(value: object) -> str:
    if isinstance(value, (bool, int)):
        raise ValueError(f"{shown(value)} is not read as text, put it in quotes")
    if not isinstance(value, str):
        raise ValueError(f"must be text, but here is {shown(value)}")
    if not value.strip():
        raise ValueError("is empty")
    if not value.isprintable():
        raise ValueError(f"{shown(value)} has characters that can't be printed")
    return value


def read_address(value: object, loopback: bool = False) -> IPv6Address:
    if isinstance(value, dict) and len(value) == 1 and str(next(iter(value))).endswith(":"):
        raise ValueError("an address that ends in :: must be in quotes, YAML takes it for a key")
    return _address(shown(value), loopback)


@functools.cache
def _address(text: str, loopback: bool) -> IPv6Address:
    if "%" in text:
        raise ValueError(f"{text} has a zone (the part from %), write the address without it")
    try:
        address = IPv6Address(text)
    except ValueError:
        raise ValueError(_why_no_ipv6_address(text)) from None
    for wrong, kind in (
        (address.ipv4_mapped is not None, "an IPv4 address in IPv6 form"),
        (address.is_multicast, "a multicast address"),
        (address.is_unspecified, "the unspecified address"),
        (address.is_loopback and not loopback, "the loopback address"),
    ):
        if wrong:
            raise ValueError(f"{text} is {kind}, which can't be used here")
    return address


def _why_no_ipv6_address(text: str) -> str:
    try:
        IPv4Address(text)
    except ValueError:
        hint = ", write the address without a prefix length" if "/" in text else ""
        return f"{text} is not an IPv6 address{hint}"
    return f"{text} is an IPv4 address, only IPv6 can be used"


def read_controller_address(value: object) -> IPv6Address:
    return read_address(value, loopback=True)  # a controller may well run on this host


def read_file_name(value: object) -> Path:
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{shown(value)} is not the name of a file")
    return Path(value)


def read_prefix(value: object) -> IPv6Network:
    text = shown(value)
    if isinstance(value, IPv6Network):
        return value
    try:
        network = ipaddress.ip_network(text, strict=False)
        if not isinstance(value, str) or "%" in text:
            raise ValueError
    except ValueError:
        raise ValueError(f"{text} is not an IPv6 prefix such as fcbb:bb00::/32") from None
    if not isinstance(network, IPv6Network):
        raise ValueError(f"{text} is an IPv4 prefix, only IPv6 can be used")
    if IPv6Address(text.partition("/")[0]) != network.network_address:
        raise ValueError(f"{text} has bits set beyond its length, the prefix is {network}")
    return network


def read_domain(value: object) -> str:
    """The name as it is on the wire: lower case, no dot at the end, non-ASCII letters as xn--."""
    return _domain(read_text(value))


@functools.cache
def _domain(text: str) -> str:
    try:
        ipaddress.ip_address(text.removesuffix("."))
    except ValueError:
        pass
    else:
        raise ValueError(f"{text} is an address and not a name, put IPv6 addresses under ipv6_addresses")
    name = text
    if not text.isascii():
        # The standard library knows the older IDNA only, which reads these four differently.
        if len(text) > 253 or re.search("[ßς\u200c\u200d]", text):
            raise ValueError(f"{shown(text)} can't be turned into a DNS name, write its xn-- form")
        try:
            name = text.encode("idna").decode("ascii")
        except UnicodeError:
            raise ValueError(f"{shown(text)} can't be turned into a DNS name") from None
    name = name.lower().removesuffix(".")
    if len(name) > 253:
        raise ValueError(f"{shown(text)} is {len(name)} characters long, a DNS name has at most 253")
    for label in name.split("."):
        if not label:
            raise ValueError(f"{shown(text)} is not a DNS name, it has nothing between two dots or at an end")
        if len(label) > 63:
            raise ValueError(
                f"{shown(label)} is {len(label)} characters long, a part of a name has at most 63"
            )
        if wrong := re.search(r"[^a-z0-9_-]", label):
            raise ValueError(f"{shown(text)} is not a DNS name, it has the character {wrong[0]!r} in it")
    return name


def read_intent_type(value: object) -> IntentType:
    if isinstance(value, IntentType):
        return value
    kind = _INTENT_TYPES.get(value) if isinstance(value, str) else None
    if kind is None:
        raise ValueError(f"{shown(value)} is not an intent{did_you_mean(str(value), list(_INTENT_TYPES))}")
    return kind


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """What to put behind the sentence that says a word is unknown."""
    close = difflib.get_close_matches(word.lower(), known, n=1)
    return f", did you mean {close[0]}?" if close else f", use one of {', '.join(known)}"


def forget_what_was_read() -> None:
    """Lets go of addresses and names, which are remembered because each is looked at more than once."""
    _address.cache_clear()
    _domain.cache_clear()


read_port = whole_number("a port", 0, 65535)
read_controller_port = whole_number("a port of a controller", 1, 65535)
read_flex_algo = whole_number("a Flex-Algorithm", 1, 255)
read_intent_value = whole_number("a value for an intent", 0, MAX_VALUE)
