"""Checks of a configuration's values, and the sentences for invalid ones.

A function raises ValueError with a sentence, or returns the value; those called `no_...` return a sentence.
"""

from __future__ import annotations

import difflib
import functools
import ipaddress
import re
import unicodedata
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from pathlib import Path
from typing import Literal

from hawkwing.intents import IntentType
from hawkwing.yaml_mistakes import space_missing

MAX_VALUE = 2**31 - 1  # int32 in the controller's protocol
TRUE_WORDS = ("true", "yes", "on")
FALSE_WORDS = ("false", "no", "off")
_PORT_NAMES = {"http": 80, "https": 443, "ssh": 22, "domain": 53, "dns": 53}
_UNITS = {
    IntentType.LOW_LATENCY: "microseconds",
    IntentType.LOW_JITTER: "microseconds",
    IntentType.LOW_PACKET_LOSS: "percent",
    IntentType.HIGH_BANDWIDTH: "kbit/s",
    IntentType.LOW_BANDWIDTH: "kbit/s",
}
_URL = re.compile(r"[a-z][a-z0-9+.-]*://(?:[^/@]*@)?(\[[^\]]*\]|[^/:]*)", re.IGNORECASE)
_Use = Literal["SID", "service", "client", "controller"]
_ORDINARY = (*range(0x20, 0x40), 0xFC, 0xFD)  # first octet of global unicast and unique local addresses
_PLAIN_NAME = re.compile(r"[a-zA-Z0-9_.-]*[a-zA-Z_-]\.?")
_LINK_LOCAL = {
    "SID": "no router forwards to it",
    "service": "no router forwards to it",
    "client": "the controller needs a global address",
    "controller": "write its global address",
}
_NAME_GIVEN = {
    "SID": "a SID is an IPv6 address",
    "service": "write it under domain_name",
    "client": "write the IPv6 address",
    "controller": "the controller is given by its IPv6 address",
}


def shown(value: object) -> str:
    """A value for an error message."""
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


# --- numbers ---------------------------------------------------------------------------------------


def no_number(value: object, what: str, low: int, high: int) -> str:
    """A sentence if this is not a whole number in the given range."""
    meant = _written_otherwise(value) if isinstance(value, str) else None
    numbers = f"{low} to {high}" if high > low else f"{low}"
    return meant or f"{shown(value)} is not {what}, use {numbers}"


def _written_otherwise(text: str) -> str | None:
    """A sentence for a number that is not plain decimal."""
    if re.fullmatch(r"0|[1-9][0-9]{0,17}", text):
        return f'"{text}" is text, write {text} without quotes'
    if re.fullmatch(r"0[0-9]{1,17}", text):
        return f"{text} has a zero in front, write {int(text)}"
    if re.fullmatch(r"0x[0-9a-f]{1,8}|0o[0-7]{1,11}|0b[01]{1,32}", text, re.IGNORECASE):
        return f"{text} is not decimal, write {int(text, 0)}"
    if re.fullmatch(r"[1-9][0-9]{0,8}(?:[_',][0-9]{3})+", text):
        return f"{text} has separators between its digits, write {re.sub('[^0-9]', '', text)}"
    return None


def one_port(value: object) -> object:
    """Refuses common mistakes for a port, such as names, ranges and lists."""
    if isinstance(value, list):
        raise ValueError("a list is more than one port, write one entry per port")
    if isinstance(value, str):
        _check_port_text(value.strip())
    return not_port_0(value)


def _check_port_text(text: str) -> None:
    number, separator, protocol = text.partition("/")
    if separator and protocol.lower() in ("tcp", "udp"):
        raise ValueError(f"{text}: a port applies to TCP and UDP, write {number}")
    if re.fullmatch(r"[0-9]{1,5}\s*(?:[-,:;.]+|\s|to)\s*[0-9]{0,5}.*", text) and "_" not in text:
        numbers = re.findall(r"[0-9]+", text)
        if len(numbers) > 1 and not re.fullmatch(r"[0-9]+\.[0-9]+", text):
            raise ValueError(f"{text} is more than one port, write one entry per port")
    if text.lower() in ("any", "all", "*"):
        raise ValueError(f"{text} is more than one port, write one entry per port")
    if text.lower() in _PORT_NAMES:
        raise ValueError(f"{text} is a name, write {_PORT_NAMES[text.lower()]}")
    if re.fullmatch(r"[A-Za-z][A-Za-z-]*", text):
        raise ValueError(f"{text} is a name, write the number of the port")


def not_port_0(value: object) -> object:
    if value == 0 and not isinstance(value, bool):
        raise ValueError("0 is not a port a packet can have, use 1 to 65535")
    return value


def no_unit(value: object, kind: IntentType | None = None) -> object:
    """Refuses a limit of an intent with a unit or a fraction; `kind` is the intent's kind, if known."""
    if isinstance(value, str) and _written_otherwise(value) is None and re.match(r"[-+]?[0-9.]", value):
        unit = _UNITS.get(kind) if kind else None
        if not re.fullmatch(r"[0-9]+", value):
            raise ValueError(f"{shown(value)} must be a whole number{f' of {unit}' if unit else ''}, no unit")
    return value


def no_flag(value: object) -> str:
    """A sentence if this is neither true nor false."""
    if isinstance(value, str):
        for words, meant in ((TRUE_WORDS, "true"), (FALSE_WORDS, "false")):
            if value.lower() in words:
                return f'"{value}" is text, write {meant} without quotes'
    return f"{shown(value)} is neither true nor false"


# --- text ------------------------------------------------------------------------------------------


def no_text(value: object) -> str:
    """A sentence if this is not text."""
    if isinstance(value, (bool, int)):
        return f"{shown(value)} is not text, put it in quotes"
    return f"must be text, but here is {shown(value)}"


def printable(value: str) -> str:
    if not value.strip():
        raise ValueError("is empty")
    if not value.isprintable():
        raise ValueError(f"{shown(value)} has characters that can't be printed")
    return value


def file_name(value: object) -> object:
    if not isinstance(value, Path) and (not isinstance(value, str) or not value.strip()):
        raise ValueError(f"{shown(value)} is not the name of a file")
    return value


def secret_file_name(value: object) -> object:
    """Like `file_name`, but does not show the value: it may be the secret itself."""
    try:
        return file_name(value)
    except ValueError:
        raise ValueError("must be the name of a file that has the secret in it") from None


def one_name(value: object) -> object:
    if isinstance(value, list):
        raise ValueError("must be one name, not a list: write one service per name")
    return value


@functools.cache
def read_domain(text: str) -> str:
    """The name as on the wire: lower case, no dot at the end, non-ASCII letters as xn--."""
    if not _PLAIN_NAME.fullmatch(text) and (found := _misplaced_in_a_name(text)):
        raise ValueError(found)
    name = text
    if not text.isascii():
        # The standard library supports only the older IDNA, which converts these four differently.
        if len(text) > 253 or re.search("[ßς\u200c\u200d]", text):
            raise ValueError(f"{shown(text)} can't be turned into a DNS name, write its xn-- form")
        for character in text:
            if not character.isascii() and unicodedata.category(character)[0] not in "LMN":
                raise ValueError(f"{shown(text)} is not a DNS name, it has the character {character!r} in it")
        try:
            name = text.encode("idna").decode("ascii")
        except UnicodeError:
            raise ValueError(f"{shown(text)} can't be turned into a DNS name") from None
    name = name.lower().removesuffix(".")
    if len(name) > 253:
        raise ValueError(f"{shown(text)} is {len(name)} characters long, a DNS name has at most 253")
    for label in name.split("."):
        if not label:
            raise ValueError(f"{shown(text)} is not a DNS name, a part of it is empty")
        if len(label) > 63:
            raise ValueError(
                f"{shown(label)} is {len(label)} characters long, a part of a name has at most 63"
            )
        if wrong := re.search(r"[^a-z0-9_-]", label):
            raise ValueError(f"{shown(text)} is not a DNS name, it has the character {wrong[0]!r} in it")
    return name


def _misplaced_in_a_name(text: str) -> str | None:
    if url := _URL.match(text):
        return f"{shown(text)} is a URL, write the name only: {url[1]}"
    try:
        ipaddress.ip_address(text.removesuffix(".").strip("[]"))
    except ValueError:
        pass
    else:
        return f"{text} is an address, not a name: write IPv6 addresses under ipv6_addresses"
    if "*" in text:
        return f"{shown(text)} has a wildcard: wildcards are not supported, write one service per name"
    if re.search(r"[^,;\s][,;\s]+[^,;\s]", text):
        return f"{shown(text)} is more than one name, write one service per name"
    if found := re.fullmatch(r"([^:/]+):([0-9]+)", text):
        return f"{shown(text)} has a port in it, write {found[2]} as the port of an application"
    if found := re.fullmatch(r"([^:/]+)/.*", text):
        return f"{shown(text)} has a path in it, write the name only: {found[1]}"
    return None


# --- addresses -------------------------------------------------------------------------------------


def read_sid(value: object) -> IPv6Address:
    return _read_address(value, "SID")


def read_service_address(value: object) -> IPv6Address:
    return _read_address(value, "service")


def read_ipv4_address(value: object) -> IPv4Address:
    """An address of a service; none that no packet to another host has."""
    if not isinstance(value, (str, IPv4Address)):
        raise ValueError(f"{shown(value)} is not an IPv4 address")
    try:
        address = IPv4Address(str(value))
    except ValueError:
        hint = ": write IPv6 addresses under ipv6_addresses" if ":" in str(value) else ""
        raise ValueError(f"{shown(value)} is not an IPv4 address{hint}") from None
    for flag, what in (
        (address.is_unspecified, "the unspecified address"),
        (address.is_loopback, "a loopback address"),
        (address.is_multicast, "a multicast address"),
        (address.is_link_local, "a link-local address"),
        (int(address) == 0xFFFFFFFF, "the broadcast address"),
    ):
        if flag:
            raise ValueError(f"{address} is {what}, it can't be the address of a service")
    return address


def one_mode(value: object) -> object:
    """How packets get a segment list."""
    if value in ("insert", "encap"):
        return value
    raise ValueError(f"{shown(value)} is not a known mode, use insert or encap")


def read_client_address(value: object) -> IPv6Address:
    return _read_address(value, "client")


def read_controller_address(value: object) -> IPv6Address:
    """The controller may run on this host: the loopback address is allowed."""
    return _read_address(value, "controller")


def _read_address(value: object, use: _Use) -> IPv6Address:
    if isinstance(value, (str, IPv6Address)):
        return _address(str(value), use)
    if _ends_in_colons(value):
        raise ValueError("an address that ends in :: must be in quotes, YAML reads it as a key")
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str):
        raise ValueError(f"write {shown(value[0])} without brackets")
    if value is None:
        raise ValueError("is empty, an IPv6 address is needed")
    raise ValueError(f"{shown(value)} is not an IPv6 address")


@functools.cache
def _address(text: str, use: _Use) -> IPv6Address:
    bare, percent, _zone = text.partition("%")
    try:
        address = IPv6Address(bare)
    except ValueError:
        raise ValueError(_why_no_ipv6_address(shown(text), use)) from None
    if not percent and address.packed[0] in _ORDINARY:
        return address
    text = shown(text)
    if address.is_link_local:
        raise ValueError(f"{text} is link-local: {_LINK_LOCAL[use]}")
    if percent:
        raise ValueError(f"{text} has a zone ID, write the address without it")
    for wrong, kind in (
        (address.ipv4_mapped is not None, "an IPv4 address in IPv6 form"),
        (address.is_multicast, "a multicast address"),
        (address.is_unspecified, "the unspecified address"),
        (address.is_loopback and use != "controller", "the loopback address"),
    ):
        if wrong:
            raise ValueError(f"{text} is {kind}, which can't be used here")
    return address


def _ends_in_colons(value: object) -> bool:
    return isinstance(value, dict) and len(value) == 1 and str(next(iter(value))).endswith(":")


def _why_no_ipv6_address(text: str, use: _Use) -> str:
    if _URL.match(text):
        apart = "write address and port apart" if use == "controller" else "write the address only"
        return f"{text} is a URL: {apart}"
    if bracketed := re.fullmatch(r"\[([0-9A-Fa-f:.]+)\](?::([0-9]+))?", text):
        if bracketed[2] and use == "controller":
            return f"{text} has a port in it: write {bracketed[1]} here and {bracketed[2]} under port"
        return f"write {bracketed[1]} without brackets{' and port' if bracketed[2] else ''}"
    if re.search(r"[^,;\s][,;\s]+[^,;\s]", text):
        return f"{text} is more than one address, write each as an entry of its own"
    address, slash, _length = text.partition("/")
    try:
        IPv4Address(address)
    except ValueError:
        if slash:
            return f"{text} has a prefix length, write the address without it"
        if re.fullmatch(r"[\w-]+(?:\.[\w-]+)*\.?", text) and re.search("[A-Za-z]", text):
            return f"{text} is a name: {_NAME_GIVEN[use]}"
        return f"{text} is not an IPv6 address"
    if use == "service" and not slash:
        return f"{text} is an IPv4 address: write it under ipv4_addresses, with mode: encap"
    return f"{text} is an IPv4 address, only IPv6 can be used"


def read_prefix(value: object) -> IPv6Network:
    text = shown(value)
    if isinstance(value, IPv6Network):
        return value
    if _ends_in_colons(value):
        raise ValueError("an address that ends in :: must be in quotes, YAML reads it as a key")
    try:
        network = ipaddress.ip_network(text, strict=False)
        if not isinstance(value, str) or "%" in text:
            raise ValueError
    except ValueError:
        raise ValueError(f"{text} is not an IPv6 prefix such as fcbb:bb00::/32") from None
    if not isinstance(network, IPv6Network):
        raise ValueError(f"{text} is an IPv4 prefix, only IPv6 can be used")
    if "/" not in text:
        raise ValueError(f"{text} has no prefix length, write {text}/{_length_of(network.network_address)}")
    if IPv6Address(text.partition("/")[0]) != network.network_address:
        raise ValueError(f"{text} has bits set beyond its length, the prefix is {network}")
    return network


def _length_of(address: IPv6Address) -> int:
    """The length of the shortest prefix of whole 16-bit groups that has this address."""
    groups = address.exploded.split(":")
    while len(groups) > 1 and groups[-1] == "0000":
        groups.pop()
    return 16 * len(groups)


# --- words -----------------------------------------------------------------------------------------


def no_intent(value: object) -> str:
    """A sentence if this is not a kind of intent."""
    if isinstance(value, list):
        return "a list is more than one intent, write one entry per intent"
    return f"{shown(value)} is not an intent{did_you_mean(str(value), [kind.value for kind in IntentType])}"


def close_match(word: str, known: Sequence[str]) -> str | None:
    """The known word that was probably meant, or None."""
    close = difflib.get_close_matches(word.lower().replace(" ", "_"), known)
    return close[0] if close else None


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """The end of a sentence about an unknown word: a suggestion, or all known words."""
    meant = close_match(word, known)
    return f", did you mean {meant}?" if meant else f", use one of {', '.join(known)}"


def as_list(value: object, example: str) -> str:
    """A sentence for a value that must be a list; `example` is an entry."""
    if isinstance(value, dict):
        if any(str(key).startswith("-") for key in value):
            return "a space is missing after -"
        return "must be a list: each entry starts with `- `"
    if not isinstance(value, str):
        return f"must be a list, for example `- {example}`"
    if found := space_missing(value):
        return found
    if ":" in example and " " in example:
        return f"must be a list, for example `- {example}`"
    entries = ", ".join(re.split(r"[,;\s]+", shown(value)))
    return f"must be a list, write [{entries}]"


def forget_values() -> None:
    """Clears the cache of addresses and names; each is read more than once."""
    _address.cache_clear()
    read_domain.cache_clear()
