"""Addresses learned from DNS answers, over IPv6 and IPv4; only the client looks for them."""

import struct
from ipaddress import IPv4Address, IPv6Address

import pytest

from hawkwing.dataplane.layout import limits
from tests.dataplane import packets as p
from tests.dataplane.packets import aaaa, dns_answer, name, record, steered
from tests.dataplane.scene import DNS, GROUP, HOST_A, HOST_C, NAME, SIDS, Host

A, B, C = (IPv6Address(f"2001:db8:{number}::80") for number in (1, 2, 3))
CNAME = 5
STEPS = limits()["HW_MAX_DNS_STEPS"]


def over_ipv6(message: bytes, sport: int = 53) -> bytes:
    """The message in a datagram from the name server."""
    return p.ipv6(DNS, HOST_A, p.UDP, p.udp(DNS, HOST_A, sport, 41000, message))


def ask(client: Host, message: bytes, **fields: int) -> None:
    """The host asks what the message answers, over IPv6 and over IPv4."""
    query = p.dns_question(message)
    for packet in (query_over_ipv6(query, **fields), query_over_ipv4(query, **fields)):
        client.bench.run("egress", packet)


def query_over_ipv6(query: bytes, sport: int = 41000, server: IPv6Address = DNS) -> bytes:
    """From the host to the name server."""
    return p.ipv6(HOST_A, server, p.UDP, p.udp(HOST_A, server, sport, 53, query))


def query_over_ipv4(query: bytes, sport: int = 41000, server: str = "192.0.2.53") -> bytes:
    """The same over IPv4."""
    datagram = p.udp_unsummed(sport, 53, query)
    return p.ipv4(IPv4Address("192.0.2.1"), IPv4Address(server), p.UDP, datagram)


def over_ipv4(message: bytes, sport: int = 53, **fields: int) -> bytes:
    """The same over IPv4."""
    datagram = p.udp_unsummed(sport, 41000, message)
    return p.ipv4(IPv4Address("192.0.2.53"), IPv4Address("192.0.2.1"), p.UDP, datagram, **fields)


def expect(client: Host, message: bytes, *addresses: IPv6Address, ttl: int = 300) -> None:
    """Both ways the message teaches these addresses, in this order, and no other."""
    learned = ["NAME_LEARNED"] * len(addresses)
    for packet, outcome in ((over_ipv6(message), "NO_ROUTING_HEADER"), (over_ipv4(message), "NOT_IPV6")):
        for address in addresses:
            client.bench.plane.remove_service(address)
        known = client.bench.entries("services")
        ask(client, message)
        client.bench.expect("ingress", packet, outcome, *learned)
        assert client.bench.announced() == [(address, GROUP, ttl) for address in addresses]
        assert [client.bench.service(address) for address in addresses] == [(GROUP, 2)] * len(addresses)
        assert client.bench.entries("services") == known + len(set(addresses))


def test_one_address(client: Host) -> None:
    expect(client, dns_answer(NAME, [aaaa(A)]), A)


def test_an_answer_to_another_host(client: Host) -> None:
    """That a switch mirrors to us, though it is to a question of ours."""
    message = dns_answer(NAME, [aaaa(A)])
    for packet in (over_ipv6(message), over_ipv4(message)):
        ask(client, message)
        client.bench.expect("ingress", bytes.fromhex("02cc00000003") + packet[6:], "OTHER_HOST")
    expect(client, message, A)


def test_the_first_packet_is_steered(client: Host) -> None:
    packet = p.ipv6(HOST_A, A, p.UDP, p.udp(HOST_A, A, 40000, 80))
    client.bench.expect("egress", packet, "NO_SERVICE")
    expect(client, dns_answer(NAME, [aaaa(A)]), A)
    client.bench.expect("egress", packet, "STEERED", out=steered(packet, SIDS[:2]))


def test_several_addresses(client: Host) -> None:
    expect(client, dns_answer(NAME, [aaaa(A), aaaa(B), aaaa(C)]), A, B, C)


@pytest.mark.parametrize("ttl", [0, 1, 0x7FFFFFFF, 0xFFFFFFFF])
def test_ttl(client: Host, ttl: int) -> None:
    expect(client, dns_answer(NAME, [aaaa(A, ttl=ttl)]), A, ttl=ttl)


def test_cname_chain(client: Host) -> None:
    target, edge = name("web.cdn.example"), name("edge.cdn.example")
    records = [
        record(b"\xc0\x0c", CNAME, target),
        record(target, CNAME, edge),
        aaaa(A, owner=edge),
        aaaa(B, owner=edge),
    ]
    expect(client, dns_answer(NAME, records), A, B)


def test_compressed_owners(client: Host) -> None:
    target = b"\x03web\xc0\x0f"
    records = [
        record(b"\xc0\x0c", CNAME, target),
        aaaa(A, owner=b"\xc0\x29"),
        aaaa(B, owner=b"\x03web\xc0\x0f"),
    ]
    expect(client, dns_answer(NAME, records), A, B)


def test_other_records_between(client: Host) -> None:
    records = [
        record(b"\xc0\x0c", 1, bytes([192, 0, 2, 1])),
        aaaa(A),
        record(b"\xc0\x0c", 46, bytes(80)),
        aaaa(B),
        record(b"\xc0\x0c", 16, b""),
        aaaa(C),
    ]
    expect(client, dns_answer(NAME, records), A, B, C)


def test_only_the_answer_section_counts(client: Host) -> None:
    expect(client, dns_answer(NAME, [aaaa(A)], tail=aaaa(B)), A)


@pytest.mark.parametrize("asked", ["WB.HAWK.NET", "wB.hAwK.nEt", "Wb.Hawk.Net"])
def test_any_case(client: Host, asked: str) -> None:
    expect(client, dns_answer(asked, [aaaa(A)]), A)


NAMES = ["x.hawk.net", "a.b-c.d_e.xn--bcher-kva.example", "net", "a." * 100 + "net", ".".join(["a" * 62] * 4)]


@pytest.mark.parametrize("text", NAMES, ids=range(len(NAMES)))
def test_all_kinds_of_names(client: Host, text: str) -> None:
    client.bench.name(text, GROUP)
    expect(client, dns_answer(text, [aaaa(A)]), A)
    expect(client, dns_answer(text.upper(), [aaaa(A)]), A)


def test_characters_beside_the_letters_keep_their_case(client: Host) -> None:
    """`@` and `[` lie beside A and Z; with the bit of lower case they would be other characters."""
    for text, other in (("a@b.net", "a`b.net"), ("a[b.net", "a{b.net")):
        client.bench.name(text, GROUP)
        expect(client, dns_answer(other, [aaaa(A)]))
        expect(client, dns_answer(text, [aaaa(A)]), A)


@pytest.mark.parametrize(
    "asked", ["wc.hawk.net", "b.hawk.net", "www.wb.hawk.net", "wb.hawk.ne", "wbhawk.net", ""]
)
def test_other_names(client: Host, asked: str) -> None:
    expect(client, dns_answer(asked, [aaaa(A)]))


def test_a_dot_inside_a_label_is_no_border(client: Host) -> None:
    expect(client, dns_answer(b"\x0bwb.hawk.net\0", [aaaa(A)]))
    expect(client, dns_answer(b"\x02wb\x08hawk.net\0", [aaaa(A)]))


NOT_ANSWERS = {
    "a query": {"flags": 0x0100},
    "another opcode": {"flags": 0xA180},
    "name error": {"flags": 0x8183},
    "server failure": {"flags": 0x8182},
    "no question": {"questions": 0},
    "two questions": {"questions": 2},
    "no answers": {"answers": 0},
    "asked for A": {"kind": 1},
    "asked for anything": {"kind": 255},
    "another class": {"family": 3},
}


@pytest.mark.parametrize("fields", NOT_ANSWERS.values(), ids=NOT_ANSWERS.keys())
def test_not_an_answer(client: Host, fields: dict[str, int]) -> None:
    expect(client, dns_answer(NAME, [aaaa(A)], **fields))  # type: ignore[arg-type]


def test_not_an_address(client: Host) -> None:
    for other in (record(b"\xc0\x0c", 28, A.packed[:15]), record(b"\xc0\x0c", 28, A.packed + b"\0")):
        expect(client, dns_answer(NAME, [other, aaaa(B)]), B)
    expect(client, dns_answer(NAME, [record(b"\xc0\x0c", 28, A.packed, family=3), aaaa(B)]), B)
    expect(client, dns_answer(NAME, [record(b"\xc0\x0c", 5, A.packed), aaaa(B)]), B)


def test_cut_off_everywhere(client: Host) -> None:
    message = dns_answer(
        NAME, [record(b"\xc0\x0c", CNAME, name("x.net")), aaaa(A), aaaa(B, owner=name("x.net"))]
    )
    ends = {len(message): [A, B]}
    after_first = len(message) - len(aaaa(B, owner=name("x.net")))
    for size in range(len(message) + 1):
        known = ends.get(size, [A] if size >= after_first else [])
        expect(client, message[:size], *known)


def test_more_answers_announced_than_there(client: Host) -> None:
    expect(client, dns_answer(NAME, [aaaa(A)], answers=65535), A)


def test_many_answers(client: Host) -> None:
    addresses = [IPv6Address(int(A) + number) for number in range(30)]
    expect(client, dns_answer(NAME, [aaaa(address) for address in addresses]), *addresses[:24])


def test_long_messages(client: Host) -> None:
    """What is read ends at 2,047 bytes; a record that begins before and ends behind is not believed."""
    for size, addresses in ((1500, (A, B)), (1950, (A, B)), (1951, (A,)), (3000, (A,))):
        records = [aaaa(A), record(b"\xc0\x0c", 16, bytes(size)), aaaa(B)]
        message = dns_answer(NAME, records)
        expect(client, message, *addresses)


HOSTILE = {
    "a name that points at itself": [aaaa(A, owner=b"\xc0\x1d")],
    "a name that points behind the message": [aaaa(A, owner=b"\xff\xff")],
    "two names that point at each other": [aaaa(A, owner=b"\xc0\x39"), aaaa(B, owner=b"\xc0\x1d")],
}


@pytest.mark.parametrize("records", HOSTILE.values(), ids=HOSTILE.keys())
def test_owners_are_stepped_over_not_followed(client: Host, records: list[bytes]) -> None:
    expect(client, dns_answer(NAME, records), *[A, B][: len(records)])


def test_hostile_names(client: Host) -> None:
    expect(client, dns_answer(b"\xc0\x0c", [aaaa(A)]))
    expect(client, dns_answer(b"\x3f" * 400, [aaaa(A)]))
    expect(client, dns_answer(b"a" * 300 + b"\0", [aaaa(A)]))
    expect(client, dns_answer(NAME, [aaaa(A, owner=b"\x3f" * 64 * 5)]))
    expect(client, dns_answer(NAME, [record(b"\xc0\x0c", 5, b"")[:-2] + b"\xff\xff", aaaa(A)]))


@pytest.mark.parametrize("kind", [0x40, 0x80])
def test_reserved_label_types(client: Host, kind: int) -> None:
    """RFC 1035, section 4.1.4: 01 and 10 are reserved; nobody knows how long such a label is."""
    owner = bytes([kind | 1]) + bytes(kind | 1) + b"\0"
    expect(client, dns_answer(NAME, [aaaa(A, owner=owner)]))


@pytest.mark.parametrize("labels", [0, 1, 20, STEPS - 4, STEPS - 3, STEPS - 2, STEPS - 1, STEPS, 127])
@pytest.mark.parametrize("end", [b"\0", b"\xc0\x0c"], ids=["root", "pointer"])
def test_owners_of_many_labels(client: Host, labels: int, end: bytes) -> None:
    """A label is a step, and so is what ends a name with the record behind it; so many steps are made."""
    message = dns_answer(NAME, [aaaa(B), aaaa(A, owner=b"\x01a" * labels + end), aaaa(C)])
    steps = {B: 1, A: 1 + labels + 1, C: 1 + labels + 1 + 1}
    expect(client, message, *[address for address, step in steps.items() if step <= STEPS])


def test_what_the_agent_has_set_stays(client: Host) -> None:
    client.bench.plane.add_service(A, 3)
    ask(client, dns_answer(NAME, [aaaa(A)]))
    client.bench.expect(
        "ingress", over_ipv6(dns_answer(NAME, [aaaa(A)])), "NO_ROUTING_HEADER", "NAME_LEARNED"
    )
    assert client.bench.service(A) == (3, 1)
    assert client.bench.announced() == [(A, GROUP, 300)]


def test_heard_again(client: Host) -> None:
    packet = over_ipv6(dns_answer(NAME, [aaaa(A)]))
    for _ in range(3):
        ask(client, dns_answer(NAME, [aaaa(A)]))
        client.bench.expect("ingress", packet, "NO_ROUTING_HEADER", "NAME_LEARNED")
        assert client.bench.announced() == [(A, GROUP, 300)]


def test_two_names(client: Host) -> None:
    client.bench.name("wc.hawk.net", 9)
    ask(client, dns_answer(NAME, []))
    client.bench.expect(
        "ingress", over_ipv6(dns_answer(NAME, [aaaa(A)])), "NO_ROUTING_HEADER", "NAME_LEARNED"
    )
    other = over_ipv6(dns_answer("wc.hawk.net", [aaaa(B)]))
    ask(client, dns_answer("wc.hawk.net", []))
    client.bench.expect("ingress", other, "NO_ROUTING_HEADER", "NAME_LEARNED")
    assert (client.bench.service(A), client.bench.service(B)) == ((GROUP, 2), (9, 2))


def test_an_answer_that_came_with_an_srh(client: Host) -> None:
    datagram = p.udp(DNS, HOST_A, 53, 41000, dns_answer(NAME, [aaaa(A)]))
    packet = p.ipv6(DNS, HOST_A, p.ROUTING, p.srh(p.UDP, [*SIDS[:2], HOST_A], datagram, left=0))
    out = p.ipv6(DNS, HOST_A, p.UDP, datagram)
    ask(client, dns_answer(NAME, []))
    client.bench.expect("ingress", packet, "STRIPPED", "NAME_LEARNED", out=out)
    assert client.bench.service(A) == (GROUP, 2)


def test_not_from_port_53(client: Host) -> None:
    message = dns_answer(NAME, [aaaa(A)])
    ask(client, message)
    client.bench.expect("ingress", over_ipv6(message, 5353), "NO_ROUTING_HEADER")
    client.bench.expect("ingress", over_ipv4(message, 5353), "NOT_IPV6")


def test_udp_length(client: Host) -> None:
    """A datagram that says it is longer than the packet, or shorter than its header, is nobody's."""
    message = dns_answer(NAME, [aaaa(A)])
    ask(client, message)
    for size in (0, 7, 8, 20, len(message) + 9, 0xFFFF):
        packet = bytearray(over_ipv6(message))
        packet[58:60] = struct.pack("!H", size)
        client.bench.expect("ingress", bytes(packet), "NO_ROUTING_HEADER")


def test_udp_length_below_its_header_in_a_long_packet(client: Host) -> None:
    ask(client, dns_answer(NAME, []))
    packet = bytearray(over_ipv6(dns_answer(NAME, [aaaa(A)], tail=bytes(2500))))
    packet[58:60] = struct.pack("!H", 7)
    client.bench.expect("ingress", bytes(packet), "NO_ROUTING_HEADER")


def test_ipv4_options_and_fragments(client: Host) -> None:
    message = dns_answer(NAME, [aaaa(A)])
    for fields in ({"ihl": 15}, {"offset": 0x4000}):
        ask(client, message)
        client.bench.expect("ingress", over_ipv4(message, **fields), "NOT_IPV6", "NAME_LEARNED")
    ask(client, message)
    for offset in (0x2000, 0x0001, 0x1FFF, 0x00B9):
        client.bench.expect("ingress", over_ipv4(message, offset=offset), "NOT_IPV6")


def test_a_server_does_not_listen(server: Host) -> None:
    message = dns_answer(NAME, [aaaa(A)])
    server.bench.expect("ingress", over_ipv6(message), "NO_ROUTING_HEADER")
    server.bench.expect("ingress", over_ipv4(message), "NOT_IPV6")


def test_an_answer_that_nobody_asked_for(client: Host) -> None:
    """Anybody can send one from port 53; it has to fit the question in everything."""
    message = dns_answer(NAME, [aaaa(A)])
    ignored = ("ingress", over_ipv6(message), "NO_ROUTING_HEADER")
    client.bench.expect(*ignored)
    for fields in ({"sport": 41001}, {"server": HOST_C}):
        client.bench.run("egress", query_over_ipv6(p.dns_question(message), **fields))  # type: ignore[arg-type]
        client.bench.expect(*ignored)
    for query in (
        p.dns_question(b"\x42\x43" + message[2:]),
        p.dns_question(message, kind=1),
        p.dns_question(dns_answer("wc.hawk.net", [])),
        p.dns_question(message)[:-6],
        message,
    ):
        client.bench.run("egress", query_over_ipv6(query))
        client.bench.expect(*ignored)
    client.bench.run("egress", query_over_ipv4(p.dns_question(message)))
    client.bench.expect(*ignored)
    assert client.bench.service(A) is None
    ask(client, message)
    client.bench.expect(*ignored, "NAME_LEARNED")
    assert client.bench.service(A) == (GROUP, 2)


def test_one_answer_to_a_question(client: Host) -> None:
    ask(client, dns_answer(NAME, []))
    client.bench.expect(
        "ingress", over_ipv6(dns_answer(NAME, [aaaa(A)])), "NO_ROUTING_HEADER", "NAME_LEARNED"
    )
    client.bench.expect("ingress", over_ipv6(dns_answer(NAME, [aaaa(B)])), "NO_ROUTING_HEADER")


def test_an_answer_that_comes_late(client: Host) -> None:
    """After ten seconds nobody waits any more. The question's time is set back here instead of waiting."""
    message = dns_answer(NAME, [aaaa(A)])
    questions = client.bench.plane.maps["questions"]
    for seconds, learned in ((9, True), (11, False)):
        client.bench.run("egress", query_over_ipv6(p.dns_question(message)))
        (key,) = questions.each_key()
        sent, group = struct.unpack("=QQ", questions.get(key) or b"")
        questions.set(key, struct.pack("=QQ", sent - seconds * 10**9, group))
        besides = ["NAME_LEARNED"] if learned else []
        client.bench.expect("ingress", over_ipv6(message), "NO_ROUTING_HEADER", *besides)
        questions.delete(key)


def test_a_guests_question_teaches_nothing(client: Host) -> None:
    """Its answer comes by this host, and is nothing that the host has asked for."""
    message = dns_answer(NAME, [aaaa(A)])
    query = p.ipv6(HOST_C, DNS, p.UDP, p.udp(HOST_C, DNS, 41000, 53, p.dns_question(message)))
    client.bench.run("egress", query)
    answer = p.ipv6(DNS, HOST_C, p.UDP, p.udp(DNS, HOST_C, 53, 41000, message))
    client.bench.expect("ingress", answer, "NO_ROUTING_HEADER")


NEVER = ["::", "::1", "::ffff:192.0.2.7", "::192.0.2.7", "fe80::1", "febf::1", "ff02::1", "ff0e::1"]


@pytest.mark.parametrize("address", [*NEVER, str(HOST_A)])
def test_addresses_that_no_service_has(client: Host, address: str) -> None:
    """Nothing is learned that a configuration may not have, nor an address of this host; the rest is."""
    expect(client, dns_answer(NAME, [aaaa(IPv6Address(address)), aaaa(B)]), B)


def test_a_full_table_is_told(client: Host) -> None:
    """What doesn't fit is counted; the agent hears of it, and finds no room either."""
    bench = client.bench
    room = bench.plane.maps["services"].info.max_entries
    filler = [IPv6Address(f"2001:db8:ffff::{number:x}") for number in range(room - bench.entries("services"))]
    for address in filler:
        bench.plane.maps["services"].set(address.packed, struct.pack("=II", 1, 1))
    try:
        ask(client, dns_answer(NAME, []))
        bench.expect("ingress", over_ipv6(dns_answer(NAME, [aaaa(A)])), "NO_ROUTING_HEADER", "NAME_LOST")
        assert bench.service(A) is None
        assert bench.announced() == [(A, GROUP, 300)]
    finally:
        for address in filler:
            bench.plane.maps["services"].delete(address.packed)


def test_a_ring_that_the_agent_does_not_read(client: Host) -> None:
    """What the agent can't hear of, the kernel doesn't learn."""
    bench = client.bench
    message = dns_answer(NAME, [aaaa(A)])
    for fitted in range(4000):  # noqa: B007
        bench.plane.remove_service(A)
        ask(client, message)
        if "NAME_LOST" in bench.run("ingress", over_ipv6(message)).counted:
            assert bench.service(A) is None
            break
    else:
        raise AssertionError(f"{fitted} records fitted")
    assert len(bench.announced()) == fitted
    expect(client, message, A)
