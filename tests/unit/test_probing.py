"""Probes along a segment list: what they are made of, and what is read from what comes back."""

from __future__ import annotations

import errno
import statistics
import struct
from ipaddress import IPv6Address, IPv6Network

import pytest
from scapy.layers.inet import UDP
from scapy.layers.inet6 import (
    HBHOptUnknown,
    IPv6,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    IPv6ExtHdrSegmentRouting,
)

from hawkwing.csid import Block
from hawkwing.errors import HawkwingError
from hawkwing.probing import ioam, lists, problems, rtt
from hawkwing.sids import MAX_SIDS

A = "fcbb:cc00:1::a"
SIDS = tuple(IPv6Address(f"fcbb:bb00:{n}::2") for n in (1, 2, 4, 6))
R1, R2, R4, R6 = map(str, SIDS)
TOKEN = b"01234567"


# --- lists


def test_the_turning_point_is_there_once() -> None:
    assert lists.there_and_back(SIDS[:1]) == SIDS[:1]
    assert list(map(str, lists.there_and_back(SIDS))) == [R1, R2, R4, R6, R4, R2, R1]


def test_lists_grow_to_each_segment() -> None:
    assert lists.growing(SIDS[:3]) == [SIDS[:1], SIDS[:2], SIDS[:3]]


@pytest.mark.parametrize("count", [1, 4])
def test_the_srh_is_scapys(count: int) -> None:
    back = [str(sid) for sid in lists.there_and_back(SIDS[:count])]
    expected = IPv6ExtHdrSegmentRouting(nh=0, addresses=["::", *back[::-1]], segleft=len(back))
    assert lists.probe_srh(SIDS[:count]) == bytes(expected)


def test_the_longest_list_fits() -> None:
    srh = lists.probe_srh(SIDS[:1] * MAX_SIDS)
    assert (len(srh), srh[3]) == (8 + 16 * 30, 29)


@pytest.mark.parametrize(("count", "segments"), [(0, 0), (MAX_SIDS + 1, 31)])
def test_no_list_of_another_length(count: int, segments: int) -> None:
    with pytest.raises(HawkwingError, match=rf"^a probe has at most 29 segments .*, not {segments}$"):
        lists.probe_srh(SIDS[:1] * count)


BLOCK = Block(IPv6Network("fcbb:bb00::/32"))
C1, C2, C4, C6 = (IPv6Address(f"fcbb:bb00:{n}::") for n in (1, 2, 4, 6))


def test_compressed_sids_travel_in_containers() -> None:
    found = lists.single([IPv6Address("fcbb:bb00:1:2:4::"), SIDS[3]], [BLOCK])
    assert found == (C1, C2, C4, SIDS[3])
    assert lists.travelled(found, [BLOCK]) == (
        IPv6Address("fcbb:bb00:1:2:4::"),
        SIDS[3],
        IPv6Address("fcbb:bb00:4:2:1::"),
    )
    assert lists.travelled([C1, C2, C4, C6], [BLOCK]) == (IPv6Address("fcbb:bb00:1:2:4:6:4:2"), C1)
    srh = lists.probe_srh([C1, C2], [BLOCK])
    assert srh[24:] == IPv6Address("fcbb:bb00:1:2:1::").packed


def test_no_probe_returns_over_a_link_of_one_direction() -> None:
    with pytest.raises(HawkwingError, match=r"^fcbb:bb00:e001:: names a link in one direction: no probe can"):
        lists.single([IPv6Address("fcbb:bb00:1:e001::")], [BLOCK])
    assert lists.single([IPv6Address("fcbb:bb00:1:e001::")], []) == (IPv6Address("fcbb:bb00:1:e001::"),)


def test_a_payload_is_read_back() -> None:
    data = lists.payload(TOKEN, 7, 1 << 60, 56)
    assert len(data) == 56
    assert lists.read_payload(TOKEN, data) == (7, 1 << 60)
    assert lists.read_payload(TOKEN, data[: lists.LEAST_SIZE]) == (7, 1 << 60)
    assert lists.read_payload(TOKEN, data[: lists.LEAST_SIZE - 1]) is None
    assert lists.read_payload(b"another1", data) is None


def packet(options: bytes, srh: bool = True) -> bytes:
    data = lists.payload(TOKEN, 7, 5, 20)
    behind = UDP(sport=9, dport=9) / data
    if srh:
        behind = IPv6ExtHdrSegmentRouting(addresses=[A, R1], segleft=0) / behind
    body = bytes(IPv6(src=A, dst=A) / behind)[40:]
    chain = bytes([43 if srh else 17]) + options[1:] + body
    return bytes(IPv6(src=A, dst=A, nh=0, plen=len(chain))) + chain


@pytest.mark.parametrize("srh", [True, False])
def test_a_packet_that_came_back(srh: bool) -> None:
    option = ioam.option(5, 2)
    found = lists.read_packet(packet(option, srh))
    assert found is not None
    options, data = found
    assert options[1:] == option[1:]
    assert lists.read_payload(TOKEN, data) == (7, 5)


def test_packets_of_others() -> None:
    whole = packet(ioam.option(5, 2))
    plain = bytes(IPv6(src=A, dst=A) / UDP(sport=9, dport=9) / b"text")
    routed = bytes(IPv6(src=A, dst=A) / IPv6ExtHdrRouting() / UDP(sport=9, dport=9) / b"text")
    assert [lists.read_packet(other) for other in (b"", plain, routed)] == [None] * 3
    for end in (41, 60, len(ioam.option(5, 2)) + 44):
        assert lists.read_packet(whole[:end]) is None


# --- errors


def error(origin: int, kind: int, code: int, info: int = 0, number: int = 113) -> bytes:
    """As the kernel hands it over: struct sock_extended_err, and a socket address."""
    head = struct.pack("=IBBBBII", number, origin, kind, code, 0, info, 0)
    return head + struct.pack("=HHI", 10, 0, 0) + IPv6Address(R2).packed + bytes(4)


@pytest.mark.parametrize(
    ("kind", "code", "info", "told"),
    [
        (1, 0, 0, f"no route to {R4}"),
        (1, 1, 0, f"a filter forbids packets to {R4}"),
        (1, 3, 0, f"{R4} is not reachable on its link"),
        (2, 0, 1400, "Packet Too Big, the next link carries 1400 bytes"),
        (3, 0, 0, f"hop limit exceeded on the way to {R4}: a loop, or a path of too many hops"),
        (4, 0, 43, "parameter problem: erroneous header field at byte 43"),
        (4, 2, 44, "parameter problem: unrecognized option at byte 44"),
        (4, 4, 0, "parameter problem: SR upper-layer header error"),
        (9, 5, 0, "ICMPv6 error, type 9 code 5"),
    ],
)
def test_an_icmpv6_error_in_words(kind: int, code: int, info: int, told: str) -> None:
    problem = problems.read_error(error(3, kind, code, info), SIDS[2])
    assert str(problem) == f"{R2} reports: {told}"
    assert problem.as_json() == {
        "text": told,
        "reporter": R2,
        "active_segment": R4,
        "mtu": 1400 if kind == 2 else None,
    }


def test_an_error_that_an_agent_has_taken_the_srh_out_of() -> None:
    """The MTU in it was lowered by the SRH's length; the active segment is not known."""
    assert problems.read_error(error(3, 2, 0, 1300), None, hidden=100).mtu == 1400
    told = problems.read_error(error(3, 1, 0), None, hidden=100).text
    assert told == "no route to the next segment, or back to this host"


def test_what_this_host_refuses() -> None:
    assert str(problems.local(errno.ENETUNREACH, SIDS[0])) == f"this host has no route to {R1}"
    assert str(problems.local(errno.EMSGSIZE, None)) == "the probe is larger than the interface's MTU"
    told = problems.read_error(error(1, 0, 0, 1500, errno.EMSGSIZE), SIDS[0])
    assert str(told) == "the probe is larger than the interface's MTU of 1500 bytes"
    assert str(problems.local(errno.ENOBUFS, None)) == "No buffer space available"


# --- round trips


def test_statistics_are_those_of_ping() -> None:
    times = [0.010, 0.020, 0.060]
    tally = rtt.Tally()
    for seconds in times:
        tally.came_back(seconds)
    tally.was_lost()
    assert (tally.sent, tally.received, tally.lost, tally.loss) == (4, 3, 1, 25.0)
    assert (tally.low, tally.high, tally.last) == (0.010, 0.060, 0.060)
    assert tally.mean == pytest.approx(statistics.mean(times))
    assert tally.deviation == pytest.approx(statistics.pstdev(times))
    assert tally.as_json()["rtt_ms"]["max"] == 60.0


def test_statistics_of_nothing() -> None:
    tally = rtt.Tally()
    assert (tally.loss, tally.mean, tally.deviation) == (0.0, 0.0, 0.0)
    tally.was_lost()
    assert tally.as_json() == {
        "sent": 1,
        "received": 0,
        "duplicates": 0,
        "loss_percent": 100.0,
        "rtt_ms": None,
    }


def test_equal_times_deviate_by_nothing() -> None:
    tally = rtt.Tally()
    for _ in range(7):
        tally.came_back(0.1)
    assert tally.deviation == pytest.approx(0, abs=1e-8)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.000123, "0.123"), (0.0123, "12.30"), (0.123, "123.0"), (1.5, "1500")]
)
def test_times_are_short(seconds: float, text: str) -> None:
    assert rtt.shown(seconds) == text


# --- IOAM

#: What came back from kernel routers with the IDs 1, 2, 4 and 6, over them and back; room for nine nodes.
FROM_KERNEL = bytes.fromhex(
    "2b130100319a0000007b2008f0000000"
    "0000000000000000000000000000000000000000000000000000000000000000"
    "38000001ffffffff6b07bc94000dab7039000002ffffffff6b07bc94000dab6d"
    "3a000004ffffffff6b07bc94000dab683b000006ffffffff6b07bc94000dab5b"
    "3c000004ffffffff6b07bc94000dab4d3d000002ffffffff6b07bc94000dab3e"
    "3e000001ffffffff6b07bc94000dab2b"
)
#: The same with room for three.
FULL = bytes.fromhex(
    "2b070100313a0000007b2400f0000000"
    "3c000004ffffffff6b07bc930009b7433d000002ffffffff6b07bc930009b7203e000001ffffffff6b07bc930009b70d"
)


@pytest.mark.parametrize("nodes", [1, 9, 15])
def test_the_option_is_what_the_kernel_takes(nodes: int) -> None:
    header = ioam.option(123, nodes)
    assert len(header) == 16 + 16 * nodes and header[1] == len(header) // 8 - 1
    read = IPv6ExtHdrHopByHop(header)
    option = next(one for one in read.options if isinstance(one, HBHOptUnknown))
    assert (option.otype, option.optlen) == (0x31, 10 + 16 * nodes)
    assert header[8:16] == struct.pack("!HHI", 123, 4 << 11 | 4 * nodes, 0xF0000000)
    assert ioam.read(header) == ioam.Trace(123, ())


@pytest.mark.parametrize(("namespace", "nodes"), [(0, 0), (0, 16), (65536, 1), (-1, 1)])
def test_no_option_of_another_size(namespace: int, nodes: int) -> None:
    with pytest.raises(ValueError, match="room for 1 to 15 nodes"):
        ioam.option(namespace, nodes)


def test_nodes_are_in_travel_order() -> None:
    trace = ioam.read(FROM_KERNEL)
    assert trace is not None
    assert (trace.namespace, trace.overflow) == (123, False)
    assert [node.node for node in trace.nodes] == [1, 2, 4, 6, 4, 2, 1]
    assert [node.hop_limit for node in trace.nodes] == [62, 61, 60, 59, 58, 57, 56]
    assert ioam.ways(trace.nodes) == ["there"] * 4 + ["back"] * 3
    assert trace.nodes[0] == ioam.Node(62, 1, None, None, 0x6B07BC94 + 0xDAB2B / 1e6)
    told = ioam.as_json(trace)["hops"]
    assert told[0]["delay_ms"] is None
    assert told[1]["delay_ms"] == pytest.approx((0xDAB3E - 0xDAB2B) / 1000)


def test_more_hops_than_room() -> None:
    trace = ioam.read(FULL)
    assert trace is not None and trace.overflow
    assert [node.node for node in trace.nodes] == [1, 2, 4]
    assert ioam.ways(trace.nodes) == ["", "", ""]
    assert ioam.lines(trace)[-1] == "  more hops than the 15 that the option has room for"


def test_clocks_of_another_format_give_no_delays() -> None:
    changed = FULL.replace(bytes.fromhex("0009b720"), bytes.fromhex("f009b720"))
    trace = ioam.read(changed)
    assert trace is not None
    assert [hop["delay_ms"] for hop in ioam.as_json(trace)["hops"]] == [None, None, None]


@pytest.mark.parametrize(
    "header",
    [
        b"",
        bytes.fromhex("2b00010400000000"),
        FROM_KERNEL[:100],
        FROM_KERNEL.replace(b"\xf0\0\0\0", b"\xf8\0\0\0", 1),
        FROM_KERNEL[:7] + b"\x01" + FROM_KERNEL[8:],
        FROM_KERNEL[:10] + b"\x20\x7f" + FROM_KERNEL[12:],
        FROM_KERNEL[:10] + b"\x20\x09" + FROM_KERNEL[12:],
        FROM_KERNEL[:10] + b"\x18\x08" + FROM_KERNEL[12:],
    ],
)
def test_options_of_another_form(header: bytes) -> None:
    assert ioam.read(header) is None


def test_padding_before_the_option() -> None:
    moved = FULL[:2] + bytes.fromhex("00000000") + FULL[4:]
    trace = ioam.read(moved)
    assert trace is not None and len(trace.nodes) == 3


def test_hops_as_a_table() -> None:
    trace = ioam.read(FROM_KERNEL)
    assert trace is not None
    head, names, first, *_ = ioam.lines(trace)
    assert head == "IOAM namespace 123: 7 hops, by the clocks of the routers"
    assert names.split() == ["way", "node", "from", "to", "hop", "limit", "time", "delay"]
    assert first.split()[:5] == ["there", "1", "-", "-", "62"]
    assert first.split()[5].endswith(".895787") and first.split()[6] == "-"
