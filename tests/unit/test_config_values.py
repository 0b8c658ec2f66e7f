"""What a value of a configuration may be, function by function: limits, and what is meant instead."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from typing import Any

import pytest

from hawkwing import config_values as values
from hawkwing.intents import IntentType

MORE_PORTS = "is more than one port, write one entry per port"
QUOTES = "an address that ends in :: must be in quotes, YAML reads it as a key"
MORE_NAMES = "is more than one name, write one service per name"


def said(read: Callable[..., object], *given: Any) -> str:
    """Why it is refused."""
    with pytest.raises(ValueError) as caught:
        read(*given)
    return str(caught.value)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (True, "true"),
        (False, "false"),
        (None, "nothing"),
        ({}, "a mapping"),
        ([1], "a list"),
        ((), "a list"),
        (5, "5"),
        ("é", "é"),
        ("a\tb", "'a\\tb'"),
        ("  ", "'  '"),
        ("", "''"),
        ("x" * 80, "x" * 80),
        ("x" * 81, "x" * 77 + "..."),
    ],
)
def test_how_a_value_is_shown(value: object, shown: str) -> None:
    assert values.shown(value) == shown


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("0", '"0" is text, write 0 without quotes'),
        ("7" * 18, f'"{"7" * 18}" is text, write {"7" * 18} without quotes'),
        ("7" * 19, f"{'7' * 19} is not a port, use 1 to 65535"),
        ("007", "007 has a zero in front, write 7"),
        ("0" * 18, f"{'0' * 18} has a zero in front, write 0"),
        ("0" * 19, f"{'0' * 19} is not a port, use 1 to 65535"),
        ("0XfF", "0XfF is not decimal, write 255"),
        ("0xFFFFFFFF", "0xFFFFFFFF is not decimal, write 4294967295"),
        ("0xFFFFFFFFF", "0xFFFFFFFFF is not a port, use 1 to 65535"),
        ("0o17", "0o17 is not decimal, write 15"),
        ("0b101", "0b101 is not decimal, write 5"),
        ("1_000", "1_000 has separators between its digits, write 1000"),
        ("1'000,000", "1'000,000 has separators between its digits, write 1000000"),
        ("1,00", "1,00 is not a port, use 1 to 65535"),
        (None, "nothing is not a port, use 1 to 65535"),
    ],
)
def test_numbers_in_another_form(text: object, sentence: str) -> None:
    assert values.no_number(text, "a port", 1, 65535) == sentence


def test_where_only_one_number_is_possible_it_is_told_alone() -> None:
    assert values.no_number("x", "a known length", 16, 16) == "x is not a known length, use 16"
    assert values.no_number("x", "a number", 16, 17) == "x is not a number, use 16 to 17"


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ([80], f"a list {MORE_PORTS}"),
        ("80/tcp", "80/tcp: a port applies to TCP and UDP, write 80"),
        ("80/UDP", "80/UDP: a port applies to TCP and UDP, write 80"),
        *(
            (text, f"{text} {MORE_PORTS}")
            for text in ("80-90", "80,443", "80 443", "80 to 90", "80:90", "80;90")
        ),
        *((text, f"{text} {MORE_PORTS}") for text in ("80 - 90", "80, 443, 8080", "80..90", "80.90.100")),
        *((text, f"{text} {MORE_PORTS}") for text in ("any", "ALL", "*")),
        (" 80-90 ", f"80-90 {MORE_PORTS}"),
        ("http", "http is a name, write 80"),
        ("HTTPS", "HTTPS is a name, write 443"),
        ("ssh", "ssh is a name, write 22"),
        ("domain", "domain is a name, write 53"),
        ("dns", "dns is a name, write 53"),
        ("smtp", "smtp is a name, write the number of the port"),
        ("X-a", "X-a is a name, write the number of the port"),
        (0, "0 is not a port a packet can have, use 1 to 65535"),
    ],
)
def test_what_people_write_for_ports(written: object, sentence: str) -> None:
    assert said(values.one_port, written) == sentence


@pytest.mark.parametrize("written", [80, False, "80", "80.5", "80-", "80_90", "80/sctp", "a1", "123456-7"])
def test_what_the_limits_of_a_port_are_left_to(written: object) -> None:
    assert values.one_port(written) is written


@pytest.mark.parametrize(
    ("kind", "unit"),
    [
        (IntentType.LOW_LATENCY, " of microseconds"),
        (IntentType.LOW_JITTER, " of microseconds"),
        (IntentType.LOW_PACKET_LOSS, " of percent"),
        (IntentType.HIGH_BANDWIDTH, " of kbit/s"),
        (IntentType.LOW_BANDWIDTH, " of kbit/s"),
        (IntentType.SFC, ""),
        (None, ""),
    ],
)
def test_limits_of_intents_have_no_unit(kind: IntentType | None, unit: str) -> None:
    for text in ("20ms", "1.5", "-5", "+5", ".5", "2 0"):
        assert said(values.no_unit, text, kind) == f"{text} must be a whole number{unit}, no unit"
    for text in ("20", "0x5", "007", "ms", "", 5):
        assert values.no_unit(text, kind) is text


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        *((word, f'"{word}" is text, write true without quotes') for word in ("Yes", "on", "TRUE")),
        *((word, f'"{word}" is text, write false without quotes') for word in ("no", "OFF", "false")),
        ("maybe", "maybe is neither true nor false"),
        (1, "1 is neither true nor false"),
    ],
)
def test_flags(value: object, sentence: str) -> None:
    assert values.no_flag(value) == sentence


def test_text_and_names_of_files() -> None:
    assert values.no_text(True) == "true is not text, put it in quotes"
    assert values.no_text(5) == "5 is not text, put it in quotes"
    assert values.no_text([]) == "must be text, but here is a list"
    assert said(values.printable, " ") == "is empty"
    assert said(values.printable, "a\tb") == "'a\\tb' has characters that can't be printed"
    assert values.printable("a b") == "a b"
    for wrong in ("", " ", None, 5):
        assert said(values.file_name, wrong) == f"{values.shown(wrong)} is not the name of a file"
    assert values.file_name("a") == "a" and values.file_name(Path("a")) == Path("a")
    assert said(values.one_name, ["a"]) == "must be one name, not a list: write one service per name"
    assert values.one_name("a") == "a"


# --- names

A, B = "x" * 63, "y" * 63
LONGEST = f"{A}.{B}.{A}.{'z' * 61}"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("WB.Hawk.net.", "wb.hawk.net"),
        ("a_b.-c", "a_b.-c"),
        ("1.2.a", "1.2.a"),
        ("bücher.Example", "xn--bcher-kva.example"),
        ("日本.example.", "xn--wgv71a.example"),
        (f"a.{A}", f"a.{A}"),
        (LONGEST, LONGEST),
        (f"{LONGEST}.", LONGEST),
    ],
)
def test_names_are_read_as_dns_has_them(text: str, name: str) -> None:
    assert values.read_domain(text) == name


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("http://wb.hawk.net/x", "{} is a URL, write the name only: wb.hawk.net"),
        ("HTTPS://u@wb:80/", "{} is a URL, write the name only: wb"),
        ("http://[fcbb::1]:80/", "{} is a URL, write the name only: [fcbb::1]"),
        *(
            (text, "{} is an address, not a name: write IPv6 addresses under ipv6_addresses")
            for text in ("fcbb::1", "[fcbb::1]", "10.0.0.1", "10.0.0.1.")
        ),
        ("*.hawk.net", "{} has a wildcard: wildcards are not supported, write one service per name"),
        *((text, f"{{}} {MORE_NAMES}") for text in ("a.b, c.d", "a.b c.d", "a.b;c.d", "a,b")),
        ("wb:80", "{} has a port in it, write 80 as the port of an application"),
        ("wb.hawk.net:x", "{} is not a DNS name, it has the character ':' in it"),
        ("wb/path", "{} has a path in it, write the name only: wb"),
        ("a..b", "{} is not a DNS name, a part of it is empty"),
        (".", "{} is not a DNS name, a part of it is empty"),
        (",a", "{} is not a DNS name, it has the character ',' in it"),
        ("a.b@c", "{} is not a DNS name, it has the character '@' in it"),
        ("a‿b.example", "{} is not a DNS name, it has the character '‿' in it"),
        ("é☃.example", "{} is not a DNS name, it has the character '☃' in it"),
        ("straße.example", "{} can't be turned into a DNS name, write its xn-- form"),
        ("ü" * 64 + ".example", "{} can't be turned into a DNS name"),
        (f"a.{A}x", f"{A}x is 64 characters long, a part of a name has at most 63"),
    ],
)
def test_what_is_no_name(text: str, sentence: str) -> None:
    assert said(values.read_domain, text) == sentence.format(text)


def test_names_have_an_end() -> None:
    assert said(values.read_domain, f"{LONGEST}z") == (
        f"{LONGEST[:77]}... is 254 characters long, a DNS name has at most 253"
    )
    label = "b" * 50 + "."
    assert said(values.read_domain, "é" + "a" * 48 + "." + label * 3 + "b" * 50).endswith(
        "is 260 characters long, a DNS name has at most 253"
    )
    assert said(values.read_domain, "é" * 254).endswith(
        "can't be turned into a DNS name, write its xn-- form"
    )


# --- addresses

READERS = {
    "SID": values.read_sid,
    "service": values.read_service_address,
    "client": values.read_client_address,
    "controller": values.read_controller_address,
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ("fcbb::1%eth0", "fcbb::1%eth0 has a zone ID, write the address without it"),
        ("::", ":: is the unspecified address, which can't be used here"),
        ("ff02::1", "ff02::1 is a multicast address, which can't be used here"),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.1 is an IPv4 address in IPv6 form, which can't be used here"),
        ("10.0.0.1", "10.0.0.1 is an IPv4 address, only IPv6 can be used"),
        ("10.0.0.1/8", "10.0.0.1/8 is an IPv4 address, only IPv6 can be used"),
        ("[fcbb::1]", "write fcbb::1 without brackets"),
        ("a::1, a::2", "a::1, a::2 is more than one address, write each as an entry of its own"),
        ("a::1;a::2", "a::1;a::2 is more than one address, write each as an entry of its own"),
        ("fcbb::1/64", "fcbb::1/64 has a prefix length, write the address without it"),
        ("fcbb:::1", "fcbb:::1 is not an IPv6 address"),
        ("1.2.3", "1.2.3 is not an IPv6 address"),
        ({"fcbb:": None}, QUOTES),
        ({"a:": 1, "b:": 2}, "a mapping is not an IPv6 address"),
        ({"a": 1}, "a mapping is not an IPv6 address"),
        (["fcbb::1"], "write fcbb::1 without brackets"),
        (["a", "b"], "a list is not an IPv6 address"),
        ([5], "a list is not an IPv6 address"),
        (None, "is empty, an IPv6 address is needed"),
        (5, "5 is not an IPv6 address"),
    ],
)
def test_no_address_anywhere(read: Callable[[object], object], written: object, sentence: str) -> None:
    if read is READERS["service"] and written == "10.0.0.1":
        sentence = "10.0.0.1 is an IPv4 address: write it under ipv4_addresses, with mode: encap"
    assert said(read, written) == sentence


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@pytest.mark.parametrize("text", ["fcbb::1", "2001:db8::1", "3fff::1", "fd00::1", "4000::1", "fec0::1"])
def test_addresses_that_any_use_takes(read: Callable[[object], object], text: str) -> None:
    assert read(text) == IPv6Address(text)
    assert read(IPv6Address(text)) == IPv6Address(text)


@pytest.mark.parametrize(
    ("use", "link_local", "name", "with_port", "url"),
    [
        (
            "SID",
            "no router forwards to it",
            "a SID is an IPv6 address",
            "write fcbb::1 without brackets and port",
            "write the address only",
        ),
        (
            "service",
            "no router forwards to it",
            "write it under domain_name",
            "write fcbb::1 without brackets and port",
            "write the address only",
        ),
        (
            "client",
            "the controller needs a global address",
            "write the IPv6 address",
            "write fcbb::1 without brackets and port",
            "write the address only",
        ),
        (
            "controller",
            "write its global address",
            "the controller is given by its IPv6 address",
            "[fcbb::1]:80 has a port in it: write fcbb::1 here and 80 under port",
            "write address and port apart",
        ),
    ],
)
def test_what_depends_on_the_use_of_an_address(
    use: str, link_local: str, name: str, with_port: str, url: str
) -> None:
    read = READERS[use]
    for text in ("fe80::1", "fe80::1%eth0"):
        assert said(read, text) == f"{text} is link-local: {link_local}"
    for text in ("wb.hawk.net", "router1", "a-b.c."):
        assert said(read, text) == f"{text} is a name: {name}"
    assert said(read, "[fcbb::1]:80") == with_port
    assert said(read, "http://[fcbb::1]/") == f"http://[fcbb::1]/ is a URL: {url}"
    if use == "controller":
        assert read("::1") == IPv6Address("::1")
    else:
        assert said(read, "::1") == "::1 is the loopback address, which can't be used here"


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ("fcbb::1/16", "fcbb::1/16 has bits set beyond its length, the prefix is fcbb::/16"),
        ("fcbb::", "fcbb:: has no prefix length, write fcbb::/16"),
        ("fcbb:0:0:1::", "fcbb:0:0:1:: has no prefix length, write fcbb:0:0:1::/64"),
        ("::", ":: has no prefix length, write ::/16"),
        ("1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8 has no prefix length, write 1:2:3:4:5:6:7:8/128"),
        ("10.0.0.0/8", "10.0.0.0/8 is an IPv4 prefix, only IPv6 can be used"),
        ({"fcbb:": None}, QUOTES),
        *(
            (value, f"{values.shown(value)} is not an IPv6 prefix such as fcbb:bb00::/32")
            for value in ("x", "fe80::%eth0/64", ["a"], 5, "fcbb::/129", None)
        ),
    ],
)
def test_no_prefix(written: object, sentence: str) -> None:
    assert said(values.read_prefix, written) == sentence


def test_prefixes() -> None:
    for text in ("fcbb::/16", "::/0", "fcbb::1/128"):
        assert values.read_prefix(text) == values.read_prefix(IPv6Network(text)) == IPv6Network(text)


def test_what_was_read_is_remembered_until_it_is_let_go_of() -> None:
    """A large file has the same names and SIDs again and again; an agent that runs needs none of it."""
    name, sid = values.read_domain("Remembered.Example"), values.read_sid("fcbb::77")
    assert values.read_domain("Remembered.Example") is name and values.read_sid("fcbb::77") is sid
    values.forget_values()
    again = values.read_domain("Remembered.Example"), values.read_sid("fcbb::77")
    assert again == (name, sid) and again[0] is not name and again[1] is not sid


# --- words


def test_words_that_were_meant() -> None:
    for text in ("low latency", "low_latency", "lowlatency", "Low-Latency"):
        assert values.no_intent(text) == f"{text} is not an intent, did you mean low-latency?"
    assert values.no_intent("xyz").startswith(
        "xyz is not an intent, use one of high-bandwidth, low-bandwidth, "
    )
    assert values.no_intent(["a"]) == "a list is more than one intent, write one entry per intent"
    assert values.close_match("DOMAIN NAME", ["x", "domain_name"]) == "domain_name"
    assert values.did_you_mean("zzz", ["port", "sid"]) == ", use one of port, sid"


@pytest.mark.parametrize(
    ("value", "example", "sentence"),
    [
        ({"a": 1}, "fcbb::1", "must be a list: each entry starts with `- `"),
        ({"-a": 1, "b": 2}, "fcbb::1", "a space is missing after -"),
        (5, "fcbb::1", "must be a list, for example `- fcbb::1`"),
        ("a:b", "fcbb::1", "a space is missing after a:"),
        ("-a", "fcbb::1", "a space is missing after -"),
        ("fcbb::1,fcbb::2", "fcbb::1", "must be a list, write [fcbb::1, fcbb::2]"),
        ("a b; c", "fw", "must be a list, write [a, b, c]"),
        ("a b", "port: 80", "must be a list, for example `- port: 80`"),
    ],
)
def test_where_a_list_is_needed(value: object, example: str, sentence: str) -> None:
    assert values.as_list(value, example) == sentence
