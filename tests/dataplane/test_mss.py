"""The TCP MSS leaves room for the SRH; the checksum stays right wherever the option stands."""

from ipaddress import IPv6Address

import pytest

from tests.dataplane import packets as p
from tests.dataplane.bench import MTU
from tests.dataplane.packets import steered
from tests.dataplane.scene import COUNTED, DNS, HOST_C, LOCAL_PORT, SIDS, STEERED, UNKNOWN, Host

TIMESTAMP = b"\x08\x0a" + bytes(8)
PERMITTED = b"\x04\x02"
BEFORE = {
    "first": b"",
    "behind one NOP": b"\x01",
    "behind two NOPs": b"\x01\x01",
    "behind SACK permitted": PERMITTED,
    "behind a timestamp": TIMESTAMP,
    "behind an odd option": b"\xfe\x03\x00",
    "last of 40 bytes": b"\x01\x01" + TIMESTAMP * 3 + b"\x01\x01" + PERMITTED,
    "last, behind NOPs": b"\x01" * 36,
}
SRH = 56


def fits(overhead: int) -> int:
    """The largest segment on the port, with IPv6 and TCP headers of 40 and 20 bytes."""
    return MTU - 60 - overhead


@pytest.mark.parametrize("before", BEFORE.values(), ids=BEFORE.keys())
@pytest.mark.parametrize("flags", [p.SYN, p.SYN_ACK])
def test_clamped_on_egress(host: Host, flags: int, before: bytes) -> None:
    def packet(value: int) -> bytes:
        return host.out(p.TCP, host.tcp(flags=flags, option_bytes=before + p.mss(value)))

    out = steered(packet(fits(SRH)), SIDS[:2])
    host.bench.expect("egress", packet(1440), "MSS_CLAMPED", "STEERED", out=out, on_port=True)
    host.bench.expect("egress", packet(65535), "MSS_CLAMPED", "STEERED", out=out, on_port=True)


@pytest.mark.parametrize("value", [1, 536, fits(SRH) - 1, fits(SRH)])
def test_small_enough_on_egress(host: Host, value: int) -> None:
    packet = host.out(p.TCP, host.tcp(flags=p.SYN, option_bytes=p.mss(value)))
    host.bench.expect("egress", packet, "STEERED", out=steered(packet, SIDS[:2]), on_port=True)


@pytest.mark.parametrize("count", [1, 7, 15])
def test_every_length_of_path(host: Host, count: int) -> None:
    def packet(value: int) -> bytes:
        return host.out(p.TCP, host.tcp(COUNTED + count, flags=p.SYN, option_bytes=p.mss(value)))

    out = steered(packet(fits(8 + 16 * (count + 1))), SIDS[:count])
    host.bench.expect("egress", packet(1440), "MSS_CLAMPED", "STEERED", out=out, on_port=True)


OTHERS = {
    "none": b"",
    "behind the end of options": b"\0" + b"\1" * 3 + p.mss(1440),
    "of a wrong length": b"\x02\x03\xff\x01",
    "behind an option of length 0": b"\xfe\0\1\1" + p.mss(1440),
    "behind an option of length 1": b"\xfe\1\1\1" + p.mss(1440),
    "behind an option longer than the header": b"\xfe\x30\1\1" + p.mss(1440),
    "cut off": b"\1\1\x02\x04",
}


@pytest.mark.parametrize("option_bytes", OTHERS.values(), ids=OTHERS.keys())
def test_no_mss_option(host: Host, option_bytes: bytes) -> None:
    packet = host.out(p.TCP, host.tcp(flags=p.SYN, option_bytes=option_bytes))
    host.bench.expect("egress", packet, "STEERED", out=steered(packet, SIDS[:2]), on_port=True)


@pytest.mark.parametrize("offset", [0, 1, 4, 5])
def test_header_without_room_for_options(host: Host, offset: int) -> None:
    body = host.tcp(flags=p.SYN, data=p.mss(1440), offset=offset)
    packet = host.out(p.TCP, body)
    host.bench.expect("egress", packet, "STEERED", out=steered(packet, SIDS[:2]), on_port=True)


def test_only_a_syn_is_clamped(host: Host) -> None:
    packet = host.out(p.TCP, host.tcp(flags=p.ACK, option_bytes=p.mss(1440)))
    host.bench.expect("egress", packet, "STEERED", out=steered(packet, SIDS[:2]), on_port=True)
    host.bench.expect(
        "egress", host.out(p.TCP, host.tcp(UNKNOWN, flags=p.SYN, option_bytes=p.mss(1440))), host.unknown
    )


@pytest.mark.parametrize("size", [8, 64])
def test_syn_behind_options(host: Host, size: int) -> None:
    def packet(kind: int, value: int) -> bytes:
        body = host.tcp(flags=p.SYN, option_bytes=p.mss(value))
        return host.out(kind, p.options(p.TCP, body, size=size))

    for kind, ahead in ((p.HOP_BY_HOP, size), (p.DESTINATION, 0)):
        out = steered(packet(kind, fits(SRH)), SIDS[:2], ahead=ahead)
        host.bench.expect("egress", packet(kind, 1440), "MSS_CLAMPED", "STEERED", out=out, on_port=True)


@pytest.mark.parametrize("before", BEFORE.values(), ids=BEFORE.keys())
@pytest.mark.parametrize("count", [1, 3, 15])
def test_clamped_when_it_arrives_with_an_srh(host: Host, count: int, before: bytes) -> None:
    def body(value: int) -> bytes:
        options = before + p.mss(value)
        return p.tcp(host.there, host.here, 50000, 8888, flags=p.SYN, option_bytes=options)

    path = [*SIDS[:count], host.here]
    packet = host.arrived(p.ROUTING, p.srh(p.TCP, path, body(1440), left=0))
    out = host.arrived(p.TCP, body(fits(8 + 16 * (count + 1))))
    learned = ["LEARNED"] if host.bench.role == "server" else []
    host.bench.expect("ingress", packet, "STRIPPED", "MSS_CLAMPED", *learned, out=out, on_port=True)
    again = host.arrived(p.ROUTING, p.srh(p.TCP, path, body(100), left=0))
    host.bench.expect("ingress", again, "STRIPPED", out=host.arrived(p.TCP, body(100)), on_port=True)


def test_a_syn_with_much_data_is_clamped_too(host: Host) -> None:
    """TCP Fast Open: the device or GRO may have made one packet of several."""

    def body(value: int) -> bytes:
        return p.tcp(host.there, host.here, 50000, 8888, bytes(MTU), flags=p.SYN, option_bytes=p.mss(value))

    packet = host.arrived(p.ROUTING, p.srh(p.TCP, [SIDS[0], host.here], body(1440), left=0))
    learned = ["LEARNED"] if host.bench.role == "server" else []
    out = host.arrived(p.TCP, body(fits(40)))
    host.bench.expect("ingress", packet, "STRIPPED", "MSS_CLAMPED", *learned, out=out, on_port=True)


def test_a_services_answer_is_clamped_without_an_srh(client: Host) -> None:
    def packet(sport: int, value: int, by: IPv6Address = client.there) -> bytes:
        body = p.tcp(by, client.here, sport, LOCAL_PORT, flags=p.SYN_ACK, option_bytes=p.mss(value))
        return p.ipv6(by, client.here, p.TCP, body)

    bench = client.bench
    done = ("NO_ROUTING_HEADER", "MSS_CLAMPED")
    bench.expect("ingress", packet(STEERED, 1440), *done, out=packet(STEERED, fits(SRH)), on_port=True)
    wide, narrow = packet(COUNTED + 15, 1440), packet(COUNTED + 15, fits(264))
    bench.expect("ingress", wide, *done, out=narrow, on_port=True)
    bench.expect("ingress", packet(STEERED, fits(SRH)), "NO_ROUTING_HEADER", on_port=True)
    bench.expect("ingress", packet(UNKNOWN, 1440), "NO_ROUTING_HEADER", on_port=True)
    bench.expect("ingress", packet(STEERED, 1440, HOST_C), "NO_ROUTING_HEADER", on_port=True)


def test_the_longer_of_both_paths_counts(client: Host) -> None:
    def body(sport: int, value: int) -> bytes:
        return p.tcp(client.there, client.here, sport, LOCAL_PORT, flags=p.SYN_ACK, option_bytes=p.mss(value))

    for there, back in ((2, 9), (9, 2), (4, 4)):
        port, path = COUNTED + there, [*SIDS[:back], client.here]
        packet = client.arrived(p.ROUTING, p.srh(p.TCP, path, body(port, 1440), left=0))
        out = client.arrived(p.TCP, body(port, fits(24 + 16 * max(there, back))))
        client.bench.expect("ingress", packet, "STRIPPED", "MSS_CLAMPED", out=out, on_port=True)


def test_a_server_leaves_plain_connections_alone(server: Host) -> None:
    body = p.tcp(server.there, server.here, 50000, 80, flags=p.SYN, option_bytes=p.mss(1440))
    server.bench.expect("ingress", server.arrived(p.TCP, body), "NO_ROUTING_HEADER", on_port=True)


def test_wide_links_need_no_clamping(host: Host) -> None:
    packet = host.out(p.TCP, host.tcp(flags=p.SYN, option_bytes=p.mss(65000)))
    host.bench.expect("egress", packet, "STEERED", out=steered(packet, SIDS[:2]))


def test_wrong_checksums_stay_wrong(host: Host) -> None:
    def packet(value: int) -> bytes:
        body = bytearray(host.tcp(flags=p.SYN, option_bytes=p.mss(value)))
        body[16:18] = bytes([body[16] ^ 0x10, body[17]])
        return host.out(p.TCP, bytes(body))

    result = host.bench.run("egress", packet(1440), on_port=True)
    inner = result.packet[14 + 40 + SRH :]
    assert result.counted == {"MSS_CLAMPED": 1, "STEERED": 1}
    assert not p.checksum_holds(host.here, host.there, p.TCP, inner)


def test_a_name_servers_syn_is_nobodys(client: Host) -> None:
    body = p.tcp(DNS, client.here, 53, LOCAL_PORT, flags=p.SYN_ACK, option_bytes=p.mss(1440))
    packet = p.ipv6(DNS, client.here, p.TCP, body)
    client.bench.expect("ingress", packet, "NO_ROUTING_HEADER", on_port=True)
