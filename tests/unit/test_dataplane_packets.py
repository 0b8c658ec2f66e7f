"""scapy's packets and those in plain Python are the same, whatever they are made of."""

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from random import Random
from typing import Any

import pytest

from tests.dataplane import packets, plain

A, B = IPv6Address("fcbb:cc00:1::a"), IPv6Address("fcbb:cc00:2::a")
SIDS = [IPv6Address(f"fcbb:bb00:{number:x}::2") for number in range(1, 16)]
ROUNDS = 40
Arguments = tuple[list[Any], dict[str, Any]]


def a_udp(chance: Random) -> Arguments:
    return [
        A,
        B,
        chance.randrange(65536),
        chance.randrange(65536),
        chance.randbytes(chance.randrange(99)),
    ], {}


def a_tcp(chance: Random) -> Arguments:
    fields = {"flags": chance.randrange(256), "option_bytes": chance.randbytes(chance.randrange(40))}
    offset = chance.choice([None, None, chance.randrange(16)])
    return a_udp(chance)[0], {**fields, "offset": offset}


def an_ipv6(chance: Random) -> Arguments:
    fields = {"label": chance.getrandbits(20), "traffic_class": chance.getrandbits(8)}
    fields |= {"hop_limit": chance.getrandbits(8), "length": chance.choice([None, chance.getrandbits(16)])}
    return [A, B, chance.getrandbits(8), chance.randbytes(30)], fields


def an_ipv4(chance: Random) -> Arguments:
    ends = [IPv4Address(chance.getrandbits(32)), IPv4Address(chance.getrandbits(32))]
    fields = {"offset": chance.getrandbits(16), "ihl": chance.randrange(4, 16)}
    return [*ends, chance.getrandbits(8), chance.randbytes(chance.randrange(99))], fields


def an_srh(chance: Random) -> Arguments:
    fields: dict[str, Any] = {"tlvs": bytes(8 * chance.randrange(3)), "kind": chance.getrandbits(8)}
    fields |= {"flags": chance.getrandbits(8), "tag": chance.getrandbits(16)}
    fields |= {name: chance.choice([None, chance.getrandbits(8)]) for name in ("left", "extent", "last")}
    return [chance.getrandbits(8), SIDS[: chance.randrange(1, 16)], chance.randbytes(30)], fields


def a_fragment(chance: Random) -> Arguments:
    fields = {"offset": 8 * chance.randrange(8192), "more": chance.random() < 0.5}
    return [chance.getrandbits(8), chance.randbytes(30)], {**fields, "identification": chance.getrandbits(32)}


def some_options(chance: Random) -> Arguments:
    extent = chance.choice([None, chance.getrandbits(8)])
    return [chance.getrandbits(8), b"x"], {"size": 8 * chance.randrange(1, 130), "extent": extent}


def an_auth(chance: Random) -> Arguments:
    return [chance.getrandbits(8), b"x"], {"icv": 4 * chance.randrange(17)}


def an_icmp6(chance: Random) -> Arguments:
    kind, code = chance.choice([1, 2, 3, 4, 128, 129, 200]), chance.getrandbits(8)
    return [A, B, kind, code, chance.getrandbits(32), chance.randbytes(chance.randrange(99))], {}


def an_error(chance: Random) -> Arguments:
    arguments, fields = an_ipv6(chance)
    return [B, A, 2, plain.ipv6(*arguments, **fields) + bytes(1300)], {"info": 1400, "code": 1}


def an_answer(chance: Random) -> Arguments:
    question = chance.choice(["wb.hawk.net", "", "A.b", b"\xc0\x0c", b"\x3f" * 400])
    records = [plain.aaaa(A), plain.record(b"\xc0\x0c", 5, b"")][: chance.randrange(3)]
    fields = {"flags": chance.getrandbits(16), "questions": chance.randrange(3), "tail": b"tail"}
    fields |= {"answers": chance.choice([None, 65535]), "kind": chance.getrandbits(16), "family": 3}
    return [question, records], fields


def a_question(chance: Random) -> Arguments:
    arguments, fields = an_answer(chance)
    return [plain.dns_answer(*arguments, **fields)], {"kind": chance.getrandbits(16)}


def a_record(chance: Random) -> Arguments:
    owner = chance.choice(
        [b"\xc0\x0c", b"\3web\xc0\x0f", plain.name("a.b.example"), b"\0", b"\x3f" * 70, b""]
    )
    fields = {"ttl": chance.getrandbits(32), "family": chance.getrandbits(16)}
    return [owner, chance.getrandbits(16), chance.randbytes(chance.randrange(40))], fields


def an_aaaa(chance: Random) -> Arguments:
    return [chance.choice(SIDS)], {"owner": a_record(chance)[0][0], "ttl": chance.getrandbits(32)}


def an_encapsulated(chance: Random) -> Arguments:
    frame = plain.ipv6(A, B, plain.UDP, plain.udp(A, B, 1, 2), label=chance.getrandbits(20), hop_limit=9)
    if chance.random() < 0.5:
        arguments, fields = an_ipv4(chance)
        frame = plain.ipv4(*arguments, **fields)
    return [frame, SIDS[: chance.randrange(1, 15)], B], {}


def a_steered(chance: Random) -> Arguments:
    ahead = chance.choice([0, 8, 16])
    inner = plain.udp(A, B, 1, 2)
    if ahead:
        frame = plain.ipv6(A, B, plain.HOP_BY_HOP, plain.options(plain.UDP, inner, size=ahead))
    else:
        frame = plain.ipv6(A, B, plain.UDP, inner, label=chance.getrandbits(20))
    return [frame, SIDS[: chance.randrange(1, 16)], ahead], {}


MAKERS: dict[str, Callable[[Random], Arguments]] = {
    "udp": a_udp,
    "tcp": a_tcp,
    "ipv6": an_ipv6,
    "ipv4": an_ipv4,
    "srh": an_srh,
    "fragment": a_fragment,
    "options": some_options,
    "auth": an_auth,
    "icmp6": an_icmp6,
    "icmp6_error": an_error,
    "dns_answer": an_answer,
    "dns_question": a_question,
    "record": a_record,
    "aaaa": an_aaaa,
    "encapsulated": an_encapsulated,
    "steered": a_steered,
    "ethernet": lambda chance: ([chance.getrandbits(16), b"payload"], {"to": b"abcdef"}),
    "mss": lambda chance: ([chance.getrandbits(16)], {}),
    "sctp": lambda chance: ([chance.getrandbits(16), chance.getrandbits(16)], {}),
    "name": lambda chance: ([chance.choice(["", "a", "a.b", "wb.hawk.net", f"{'x' * 63}.net"])], {}),
    "ones_complement": lambda chance: ([chance.randbytes(chance.randrange(99))], {}),
    "pseudo": lambda chance: ([A, B, chance.getrandbits(8), chance.getrandbits(16)], {}),
    "checksum": lambda chance: ([A, B, chance.choice([6, 17, 58]), chance.randbytes(9)], {}),
}


@pytest.mark.parametrize("helper", MAKERS)
def test_both_build_the_same(helper: str) -> None:
    chance = Random(helper)
    for _ in range(ROUNDS):
        arguments, fields = MAKERS[helper](chance)
        theirs = getattr(plain, helper)(*arguments, **fields)
        assert getattr(packets, helper)(*arguments, **fields) == theirs, (arguments, fields)


def test_none_is_forgotten() -> None:
    helpers = {name for name, one in vars(plain).items() if getattr(one, "__module__", "") == plain.__name__}
    assert set(MAKERS) == helpers - {"checksum_holds"}


def test_a_checksum_that_holds() -> None:
    body = packets.udp(A, B, 1, 2)
    assert packets.checksum_holds(A, B, packets.UDP, body)
    assert not packets.checksum_holds(A, B, packets.UDP, body[:-1] + b"x")
    assert not packets.checksum_holds(A, SIDS[0], packets.UDP, body)


def test_what_is_kept_is_not_mixed_up() -> None:
    """Arguments that differ in what equals in Python only by value, and lists that are changed later."""
    path = [SIDS[0], B]
    first = packets.srh(packets.UDP, path, b"")
    path[0] = SIDS[1]
    assert packets.srh(packets.UDP, path, b"") != first
    assert packets.ethernet(1, bytearray(b"x")) == packets.ethernet(1, b"x")  # type: ignore[arg-type]
