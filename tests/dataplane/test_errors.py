"""ICMPv6 errors about packets that we gave an SRH reach the stack as if it had not been there."""

import struct

import pytest

from tests.dataplane import packets as p
from tests.dataplane.packets import steered
from tests.dataplane.scene import HOST_C, LOCAL_PORT, ROUTER, SIDS, UNKNOWN, Host

RESTORED = ("ERROR_RESTORED", "NO_ROUTING_HEADER")
KINDS = {"unreachable": 1, "too big": 2, "time exceeded": 3, "parameter problem": 4}


def error(host: Host, kind: int, quoted: bytes, info: int = 0, code: int = 0) -> bytes:
    """A router's error about `quoted`."""
    return p.icmp6_error(ROUTER, host.here, kind, quoted, info, code)


def restored(host: Host, kind: int, packet: bytes, cut: int, info: int = 0, code: int = 0) -> bytes:
    """The same error about the packet as the stack had sent it, of which `cut` bytes were quoted."""
    return error(host, kind, packet[: 14 + cut], info, code)


@pytest.mark.parametrize("count", [1, 2, 6, 15])
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_the_srh_is_taken_out_of_the_quote(host: Host, kind: int, count: int) -> None:
    sent = host.out(p.UDP, host.udp(data=bytes(range(200))))
    quoted = steered(sent, SIDS[:count])
    info = 1400 if kind == p.ICMP6_TOO_BIG else 0
    less = max(1280, 1400 - (24 + 16 * count)) if info else 0
    out = restored(host, kind, sent, 2000, less, 3)
    host.bench.expect("ingress", error(host, kind, quoted, info, 3), *RESTORED, out=out)


@pytest.mark.parametrize("left", [0, 1, 2])
def test_wherever_the_error_arose(host: Host, left: int) -> None:
    """Routers on the way have lowered segments left and the hop limit, and changed the destination."""
    sent = host.out(p.TCP, host.tcp(data=bytes(300)), hop_limit=3)
    path = [*SIDS[:2], host.there]
    body = p.srh(p.TCP, path, host.tcp(data=bytes(300)), left=left)
    quoted = p.ipv6(host.here, path[2 - left], p.ROUTING, body, hop_limit=3)
    out = restored(host, 3, sent, 2000)
    host.bench.expect("ingress", error(host, 3, quoted), *RESTORED, out=out)


@pytest.mark.parametrize("mtu", [0, 68, 1279])
def test_less_than_every_link_carries(host: Host, mtu: int) -> None:
    """No router can say that (RFC 8200, section 5): the stack decides about the packet as it came."""
    sent = host.out(p.TCP, host.tcp(data=bytes(1300)))
    host.bench.expect("ingress", error(host, 2, steered(sent, SIDS[:2]), mtu), "NO_ROUTING_HEADER")


def test_about_nobodys_packet(host: Host) -> None:
    """Neither a binding's nor a known flow's: of an address that is no service, or a port without a flow."""
    elsewhere = p.ipv6(host.here, HOST_C, p.UDP, p.udp(host.here, HOST_C, LOCAL_PORT, UNKNOWN, bytes(99)))
    host.bench.expect("ingress", error(host, 2, steered(elsewhere, SIDS[:2]), 1400), "NO_ROUTING_HEADER")


@pytest.mark.parametrize("mtu", [1280, 1300, 1335, 1336, 1337, 1400, 9000, 65535, 0xFFFFFFFF])
def test_the_mtu_less_the_srh(host: Host, mtu: int) -> None:
    sent = host.out(p.TCP, host.tcp(data=bytes(1300)))
    packet = error(host, 2, steered(sent, SIDS[:2]), mtu)
    out = restored(host, 2, sent, 1232 - 56, max(1280, mtu - 56))
    host.bench.expect("ingress", packet, *RESTORED, out=out)


@pytest.mark.parametrize("mtu", [1280, 1335, 1336, 1500])
@pytest.mark.parametrize("protocol", [p.TCP, p.UDP])
def test_a_path_that_carries_less_than_1280_and_the_srh(host: Host, mtu: int, protocol: int) -> None:
    """The stack goes on sending 1280: they are cut in two, or go without an SRH, as on a link like that."""

    def of(length: int) -> bytes:
        body = host.udp(data=bytes(length - 48)) if protocol == p.UDP else host.tcp(data=bytes(length - 60))
        return host.out(protocol, body)

    whole = of(1280)
    for _ in range(2):
        host.bench.expect("egress", whole, "STEERED", out=steered(whole, SIDS[:2]), on_port=True)
    assert host.bench.run("ingress", error(host, 2, steered(whole, SIDS[:2]), mtu), on_port=True).counted
    fits = of(mtu - 56) if mtu < 1336 else whole
    host.bench.expect("egress", fits, "STEERED", out=steered(fits, SIDS[:2]), on_port=True)
    if mtu >= 1336:
        return
    host.bench.namespace.sent(0)
    outcome = host.bench.run("egress", whole, on_port=True)
    if protocol == p.TCP:
        assert outcome.counted == {"TOO_BIG_PLAIN": 1} and outcome.packet == whole
        return
    assert outcome.counted == {"SPLIT": 1}
    assert max(map(len, [*host.bench.namespace.sent(1), outcome.packet])) == 14 + 1280
    # Other paths are of other routers; and after some minutes the path may carry more again.
    other = host.out(p.UDP, host.udp(5003, bytes(1232)))
    host.bench.expect("egress", other, "STEERED", out=steered(other, SIDS[:3]), on_port=True)
    host.bench.plane.next_hops.forget_path_mtus()
    host.bench.expect("egress", whole, "STEERED", out=steered(whole, SIDS[:2]), on_port=True)


def test_the_second_fragment_of_ours_in_the_quote(host: Host) -> None:
    """It has no ports: whose it is is known by its identification."""
    whole = host.out(p.UDP, host.udp(data=bytes(1280 - 48)))
    host.bench.expect("egress", whole, "STEERED", out=steered(whole, SIDS[:2]), on_port=True)
    large = host.out(p.UDP, host.udp(data=bytes(1452)))
    outcome = host.bench.run("egress", large, on_port=True)
    assert outcome.counted == {"SPLIT": 1}
    number = int.from_bytes(outcome.packet[54 + 56 + 4 : 54 + 56 + 8], "big")
    host.bench.namespace.sent(1)
    told = error(host, 2, outcome.packet, 1280)
    unknown = outcome.packet[: 54 + 56 + 4] + (number ^ 1).to_bytes(4, "big") + outcome.packet[54 + 56 + 8 :]
    host.bench.run("ingress", error(host, 2, unknown, 1280), on_port=True)
    host.bench.expect("egress", whole, "STEERED", out=steered(whole, SIDS[:2]), on_port=True)
    host.bench.namespace.sent(0)
    assert host.bench.run("ingress", told, on_port=True).counted["ERROR_RESTORED"] == 1
    assert host.bench.run("egress", whole, on_port=True).counted == {"SPLIT": 1}
    host.bench.namespace.sent(1)


@pytest.mark.parametrize("kept", [8, 9, 15, 16, 100, 101])
def test_short_quotes(host: Host, kept: int) -> None:
    sent = host.out(p.UDP, host.udp(data=bytes(200)))
    packet = error(host, 1, steered(sent, SIDS[:2])[: 14 + 40 + 56 + kept])
    out = restored(host, 1, sent, 40 + kept)
    host.bench.expect("ingress", packet, *RESTORED, out=out)


@pytest.mark.parametrize(("offset", "more"), [(0, True), (1184, False)])
def test_a_fragment_in_the_quote(host: Host, offset: int, more: bool) -> None:
    """A later fragment has no ports: a server can't tell whose it is, and hears of the first one, too."""
    body = p.fragment(p.UDP, host.udp(data=bytes(192)), offset=offset, more=more, identification=77)
    sent = host.out(p.FRAGMENT, body)
    out = restored(host, 2, sent, 2000, 1344)
    packet = error(host, 2, steered(sent, SIDS[:2]), 1400)
    if host.bench.role == "server" and offset:
        host.bench.expect("ingress", packet, "NO_ROUTING_HEADER")
    else:
        host.bench.expect("ingress", packet, *RESTORED, out=out)


def test_tlvs_in_the_quote(host: Host) -> None:
    sent = host.out(p.UDP, host.udp())
    body = p.srh(p.UDP, [*SIDS[:2], host.there], host.udp(), tlvs=b"\1\6" + bytes(6))
    quoted = p.ipv6(host.here, SIDS[0], p.ROUTING, body)
    out = restored(host, 2, sent, 2000, 1500 - 64)
    host.bench.expect("ingress", error(host, 2, quoted, 1500), *RESTORED, out=out)


@pytest.mark.parametrize("size", [8, 64])
def test_hop_by_hop_options_in_the_quote(host: Host, size: int) -> None:
    """We put the SRH behind them; the error about such a packet is about ours, too."""
    sent = host.out(p.HOP_BY_HOP, p.options(p.UDP, host.udp(), size=size))
    packet = error(host, 2, steered(sent, SIDS[:2], ahead=size), 1400)
    out = restored(host, 2, sent, 2000, 1344)
    host.bench.expect("ingress", packet, *RESTORED, out=out)


def test_an_error_that_arrives_with_an_srh(host: Host) -> None:
    sent = host.out(p.UDP, host.udp())
    inner = error(host, 1, steered(sent, SIDS[:2]))
    body = p.srh(p.ICMPV6, [SIDS[3], host.here], inner[54:], left=0)
    packet = p.ipv6(ROUTER, host.here, p.ROUTING, body)
    result = host.bench.run("ingress", packet)
    assert {"STRIPPED", "ERROR_RESTORED"} <= set(result.counted)
    assert result.packet == restored(host, 1, sent, 2000)


def test_a_wrong_checksum_stays_wrong(host: Host) -> None:
    sent = host.out(p.UDP, host.udp())
    packet = bytearray(error(host, 1, steered(sent, SIDS[:2])))
    packet[56] ^= 1
    result = host.bench.run("ingress", bytes(packet))
    assert not p.checksum_holds(ROUTER, host.here, p.ICMPV6, result.packet[54:])


def untouched(host: Host, packet: bytes) -> None:
    """An error that is not about a packet of ours."""
    host.bench.expect("ingress", packet, "NO_ROUTING_HEADER")


def test_no_srh_in_the_quote(host: Host) -> None:
    for kind in KINDS.values():
        untouched(host, error(host, kind, host.out(p.UDP, host.udp()), 1400))
    body = p.options(p.UDP, host.udp())
    untouched(host, error(host, 1, host.out(p.DESTINATION, body)))


@pytest.mark.parametrize("kind", [0, 5, 100, 127, 128, 129, 134, 136])
def test_other_messages(host: Host, kind: int) -> None:
    untouched(host, error(host, kind, steered(host.out(p.UDP, host.udp()), SIDS[:2])))


def test_somebody_elses_packet(host: Host) -> None:
    sent = p.ipv6(HOST_C, host.there, p.UDP, p.udp(HOST_C, host.there, 1, 2))
    untouched(host, error(host, 1, steered(sent, SIDS[:2])))


def test_other_routing_types_in_the_quote(host: Host) -> None:
    for kind in (0, 2, 3):
        body = p.srh(p.UDP, [*SIDS[:2], host.there], host.udp(data=bytes(100)), kind=kind)
        untouched(host, error(host, 1, host.out(p.ROUTING, body)))


@pytest.mark.parametrize("fields", [{"extent": 0}, {"extent": 4}, {"extent": 60}, {"last": 3}, {"last": 255}])
def test_malformed_srh_in_the_quote(host: Host, fields: dict[str, int]) -> None:
    body = p.srh(p.UDP, [*SIDS[:2], host.there], host.udp(data=bytes(100)), **fields)  # type: ignore[arg-type]
    untouched(host, error(host, 1, p.ipv6(host.here, SIDS[0], p.ROUTING, body)))


@pytest.mark.parametrize("length", [1, 8, 55])
def test_quoted_payload_length_ends_inside_its_srh(host: Host, length: int) -> None:
    body = p.srh(p.UDP, [*SIDS[:2], host.there], host.udp(data=bytes(100)))
    untouched(host, error(host, 1, p.ipv6(host.here, SIDS[0], p.ROUTING, body, length=length)))


def test_quoted_payload_length_zero_stays(host: Host) -> None:
    """A jumbogram (BIG TCP) has none; neither has the packet without its SRH."""
    sent = host.out(p.TCP, host.tcp(data=bytes(300)), length=0)
    body = p.srh(p.TCP, [*SIDS[:2], host.there], host.tcp(data=bytes(300)))
    quoted = p.ipv6(host.here, SIDS[0], p.ROUTING, body, length=0)
    host.bench.expect("ingress", error(host, 3, quoted), *RESTORED, out=restored(host, 3, sent, 2000))


def test_cut_off_everywhere(host: Host) -> None:
    whole = steered(host.out(p.UDP, host.udp()), SIDS[:2])
    for size in range(40 + 56 + 8):
        untouched(host, error(host, 1, whole[: 14 + size]))
    for size in range(8):
        untouched(host, p.ipv6(ROUTER, host.here, p.ICMPV6, struct.pack("!BBHI", 1, 0, 0, 0)[:size]))


def test_outer_payload_length_ends_inside_the_quote(host: Host) -> None:
    packet = bytearray(error(host, 1, steered(host.out(p.UDP, host.udp()), SIDS[:2])))
    packet[18:20] = struct.pack("!H", 100)
    untouched(host, bytes(packet))
