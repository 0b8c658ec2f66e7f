"""A way back of its own: a client's packets tell it, a server uses it instead of the reverse list."""

import struct
import time
from collections.abc import Callable, Sequence
from ipaddress import IPv6Address, IPv6Network
from typing import Any

import pytest

from hawkwing.dataplane.bpf import Map
from hawkwing.dataplane.layout import limits, structures
from hawkwing.dataplane.loader import Capacities
from hawkwing.sids import Returning
from hawkwing.srh_hmac import Key
from tests.dataplane import packets as p
from tests.dataplane.bench import MTU, Bench, Namespace, with_xdp
from tests.dataplane.packets import signed, steered
from tests.dataplane.scene import GROUP, HOST_A, HOST_B, SIDS, Host, fill_client
from tests.dataplane.test_errors import error
from tests.dataplane.test_learning import OWN, PEER, body, reply

PORT, SLOT = 8300, 400
THERE, BACK = SIDS[:2], [SIDS[7], SIDS[4], SIDS[9]]
KEY = Key(7, b"correct horse")
TAG = limits()["HW_WAY_BACK_TAG"]
AT_ONCE = limits()["HW_TOLD_AT_ONCE"]


def header(back: list[IPv6Address], next_header: int) -> bytes:
    """The Destination Options header; segments as in the reply's SRH behind segment[0]."""
    listed = b"".join(sid.packed for sid in reversed(back))
    fixed = bytes([next_header, len(listed) // 8, 0x1E, 4 + len(listed)]) + b"HW" + bytes([1, len(back)])
    return fixed + listed


def telling(frame: bytes, back: list[IPv6Address]) -> bytes:
    """The frame with the header behind IPv6, before it is steered."""
    made = header(back, frame[20])
    (length,) = struct.unpack_from("!H", frame, 18)
    head = frame[:18] + struct.pack("!H", length + len(made)) + bytes([p.DESTINATION]) + frame[21:54]
    return head + made + frame[54:]


# --- the client


@pytest.fixture
def tells(client: Host) -> Host:
    for protocol in (p.TCP, p.UDP):
        client.bench.route(GROUP, protocol, PORT, SLOT, Returning(THERE, BACK))
    return client


@pytest.mark.parametrize("count", [1, 2, 5, 12])
def test_the_first_packets_tell_it(client: Host, count: int) -> None:
    back = SIDS[-count:]
    client.bench.route(GROUP, p.UDP, PORT, SLOT, Returning(THERE, back))
    packet = client.out(p.UDP, client.udp(PORT))
    for _ in range(AT_ONCE):
        client.bench.expect(
            "egress", packet, "STEERED", "WAY_BACK_TOLD", out=steered(telling(packet, back), THERE)
        )
    for _ in range(5):
        client.bench.expect("egress", packet, "STEERED", out=steered(packet, THERE))


def test_each_flow_tells_it(tells: Host) -> None:
    for port in range(6000, 6010):
        packet = tells.out(p.UDP, p.udp(HOST_A, HOST_B, port, PORT, b"hello"))
        wanted = steered(telling(packet, BACK), THERE)
        tells.bench.expect("egress", packet, "STEERED", "WAY_BACK_TOLD", out=wanted)


def only(table: Map, name: str) -> tuple[bytes, Any]:
    """The only entry of a table: its key, and its value as such a structure."""
    (key,) = table.each_key()
    return key, structures()[name].from_buffer_copy(table.get(key) or b"")


def test_after_a_second_it_is_told_again(tells: Host) -> None:
    packet = tells.out(p.UDP, tells.udp(PORT))
    for _ in range(AT_ONCE + 1):
        outcome = tells.bench.run("egress", packet)
    assert outcome.counted == {"STEERED": 1}
    table = tells.bench.plane.maps["tellings"]
    key, told = only(table, "telling")
    assert told.count == AT_ONCE
    told.due -= 1_100_000_000
    table.set(key, bytes(told))
    assert tells.bench.run("egress", packet).counted == {"STEERED": 1, "WAY_BACK_TOLD": 1}
    assert tells.bench.run("egress", packet).counted == {"STEERED": 1}


def over_it(tells: Host, protocol: int) -> bytes:
    """A reply of the flow over the way back that it has told."""
    make = tells.tcp if protocol == p.TCP else tells.udp
    sent = make(PORT)
    data = sent[2:4] + sent[:2] + sent[4:]
    return tells.arrived(p.ROUTING, p.srh(protocol, [*BACK, tells.here], data, left=0, tag=TAG))


def test_each_syn_tells_it(tells: Host) -> None:
    syn = tells.out(p.TCP, tells.tcp(PORT, flags=p.SYN))
    for _ in range(AT_ONCE + 3):
        tells.bench.expect(
            "egress", syn, "STEERED", "WAY_BACK_TOLD", out=steered(telling(syn, BACK), THERE), on_port=True
        )
        tells.bench.run("ingress", over_it(tells, p.TCP))


def test_after_two_syns_in_vain_the_connection_does_not_tell_it(tells: Host) -> None:
    """Something on the path may drop packets with Destination Options."""
    syn = tells.out(p.TCP, tells.tcp(PORT, flags=p.SYN))
    for _ in range(limits()["HW_TOLD_IN_VAIN"]):
        assert tells.bench.run("egress", syn, on_port=True).counted == {"STEERED": 1, "WAY_BACK_TOLD": 1}
    for _ in range(3):
        tells.bench.expect("egress", syn, "STEERED", out=steered(syn, THERE), on_port=True)
    data = tells.out(p.TCP, tells.tcp(PORT, bytes(100)))
    for _ in range(3):
        tells.bench.expect("egress", data, "STEERED", out=steered(data, THERE), on_port=True)
    # Other connections tell it, and this one's ports do in a connection of later.
    other = tells.out(p.TCP, p.tcp(tells.here, tells.there, 6001, PORT, flags=p.SYN))
    assert "WAY_BACK_TOLD" in tells.bench.run("egress", other, on_port=True).counted
    table = tells.bench.plane.maps["tellings"]
    for key in list(table.each_key()):
        telling_ = structures()["telling"].from_buffer_copy(table.get(key) or b"")
        telling_.last -= 65_000_000_000
        telling_.due -= 65_000_000_000
        table.set(key, bytes(telling_))
    assert "WAY_BACK_TOLD" in tells.bench.run("egress", syn, on_port=True).counted
    assert "WAY_BACK_TOLD" in tells.bench.run("egress", data, on_port=True).counted


def test_what_would_not_fit_does_not_tell(tells: Host) -> None:
    """It is tried again a hundredth of a second later: until then packets take the fast path."""
    packet = tells.out(p.UDP, tells.udp(PORT, bytes(1500 - 40 - 8 - 56)))
    small = tells.out(p.UDP, tells.udp(PORT))
    tells.bench.expect("egress", packet, "STEERED", out=steered(packet, THERE), on_port=True)
    table = tells.bench.plane.maps["tellings"]
    key, tried = only(table, "telling")
    assert tried.count == 0 and 0 < tried.due - time.monotonic_ns() + 1_000_000_000 <= 1_010_000_000
    tried.due += 5_000_000_000
    table.set(key, bytes(tried))
    tells.bench.expect("egress", small, "STEERED", out=steered(small, THERE), on_port=True)
    tried.due -= 10_000_000_000
    table.set(key, bytes(tried))
    wanted = steered(telling(small, BACK), THERE)
    tells.bench.expect("egress", small, "STEERED", "WAY_BACK_TOLD", out=wanted, on_port=True)


def told_and_used(host: Host) -> tuple[int, int]:
    """Packets that have told the way back of the path, and replies over it."""
    _slot, way = only(host.bench.plane.maps["ways_back"], "way_back")
    now = time.monotonic_ns()
    for number, last in ((way.told, way.last_told), (way.used, way.last_used)):
        assert (now - 60_000_000_000 < last <= now) if number else last == 0
    return way.told, way.used


@pytest.fixture(scope="module")
def with_xdp_too(namespace: Namespace) -> Bench:
    """A client with the XDP program, and tc's behind it."""
    bench = with_xdp(Capacities(), namespace, ["client"])["client"]
    bench.plane.set_xdp(True)
    return bench


def check_counts(
    client: Host, protocol: int, arrives: Callable[[bytes], bool], keys: Sequence[Key] = ()
) -> None:
    """`arrives`: was a reply counted as one over the way back? For the path only the first one is."""
    client.bench.plane.set_hmac(keys)
    client.bench.route(GROUP, protocol, PORT, SLOT, Returning(THERE, BACK))
    packet = client.out(protocol, (client.tcp if protocol == p.TCP else client.udp)(PORT))
    answer = over_it(client, protocol)
    for key in keys:
        answer = signed(answer, key.number, key.secret)
    assert told_and_used(client) == (0, 0)
    assert arrives(answer)
    assert told_and_used(client) == (0, 0)
    for number in range(1, AT_ONCE + 1):
        assert "WAY_BACK_TOLD" in client.bench.run("egress", packet).counted
        for _ in range(3):
            assert arrives(answer)
        assert told_and_used(client) == (number, number)


@pytest.mark.parametrize("keys", [[], [KEY]], ids=["fast", "slowly"])
@pytest.mark.parametrize("protocol", [p.UDP, p.TCP])
def test_what_was_told_and_used_is_counted_by_path(client: Host, protocol: int, keys: list[Key]) -> None:
    """With an HMAC replies take the slow path."""
    check_counts(
        client, protocol, lambda one: "WAY_BACK_USED" in client.bench.run("ingress", one).counted, keys
    )


@pytest.mark.parametrize("protocol", [p.UDP, p.TCP])
def test_xdp_counts_what_was_used_by_path(with_xdp_too: Bench, protocol: int) -> None:
    fill_client(with_xdp_too)

    def arrives(answer: bytes) -> bool:
        before = with_xdp_too.tallies()
        assert len(with_xdp_too.run_xdp(answer)[1]) < len(answer)
        return "WAY_BACK_USED" in with_xdp_too.counted(before, "ingress")

    check_counts(Host(with_xdp_too, HOST_A, HOST_B), protocol, arrives)


@pytest.mark.parametrize("carries", [1500, 1400, 1393, 1392, 1391, 1350, 1337, 1336])
def test_what_a_router_carries(tells: Host, carries: int) -> None:
    """Whatever the stack may send after the router's error fits, with what tells the way back, too."""
    head = 8 + 16 * (len(THERE) + 1)
    options = len(header(BACK, p.UDP))
    large = tells.out(p.UDP, tells.udp(PORT, bytes(carries - 40 - 8 - head - options + 1)))
    sent = tells.bench.run("egress", large, on_port=True).packet
    got = tells.bench.run("ingress", error(tells, p.ICMP6_TOO_BIG, sent[: 14 + 1232], carries), on_port=True)
    assert got.counted["ERROR_RESTORED"] == 1
    (mtu,) = struct.unpack_from("!I", got.packet, 14 + 40 + 4)
    assert mtu == max(1280, carries - head - options)
    for size in (mtu, 1280):
        for port in range(6000, 6003):
            data = p.udp(tells.here, tells.there, port, PORT, bytes(size - 48))
            outcome = tells.bench.run("egress", tells.out(p.UDP, data), on_port=True)
            assert outcome.counted["STEERED"] == 1 and len(outcome.packet) - 14 <= carries
            assert ("WAY_BACK_TOLD" in outcome.counted) is (size + head + options <= carries)


def test_a_router_that_carries_1280_is_heard(tells: Host) -> None:
    """Its error quotes a packet that told the way back."""
    whole = tells.out(p.UDP, tells.udp(PORT, bytes(1280 - 48)))
    sent = tells.bench.run("egress", whole, on_port=True)
    assert "WAY_BACK_TOLD" in sent.counted
    message = error(tells, p.ICMP6_TOO_BIG, sent.packet[: 14 + 1232], 1280)
    assert tells.bench.run("ingress", message, on_port=True).counted["ERROR_RESTORED"] == 1
    again = tells.out(p.UDP, p.udp(tells.here, tells.there, 6001, PORT, bytes(1280 - 48)))
    assert "SPLIT" in tells.bench.run("egress", again, on_port=True).counted


def test_a_bundle_tells_it(tells: Host) -> None:
    """Each of the segments that the device makes of it has the header."""
    data = tells.out(p.TCP, tells.tcp(PORT, bytes(3000)))
    (counted, left) = tells.bench.send_bundle(data, 14 + 40 + 20, 1000)
    assert counted == {"STEERED": 1, "WAY_BACK_TOLD": 1}
    assert left is not None and left[0] == 1000
    assert left[1][54:200] == steered(telling(data, BACK), THERE)[54:200]


def test_segments_leave_room_to_tell_it(tells: Host) -> None:
    """The peer's SYN says how large they may be; the own one leaves room for the reply's SRH only."""

    def arriving(value: int) -> bytes:
        segment = p.tcp(tells.there, tells.here, PORT, 4000, flags=p.SYN_ACK, option_bytes=p.mss(value))
        return tells.arrived(p.TCP, segment)

    room = MTU - 60 - 56 - len(header(BACK, p.TCP))
    tells.bench.expect(
        "ingress", arriving(1440), "NO_ROUTING_HEADER", "MSS_CLAMPED", out=arriving(room), on_port=True
    )
    outcome = tells.bench.run(
        "egress", tells.out(p.TCP, tells.tcp(PORT, flags=p.SYN, option_bytes=p.mss(1440))), on_port=True
    )
    clamped = tells.out(p.TCP, tells.tcp(PORT, flags=p.SYN, option_bytes=p.mss(MTU - 60 - 56)))
    assert outcome.packet == steered(telling(clamped, BACK), THERE)


def test_other_lists_tell_nothing(tells: Host) -> None:
    tells.bench.route(GROUP, p.UDP, PORT + 1, SLOT + 1, THERE)
    packet = tells.out(p.UDP, tells.udp(PORT + 1))
    tells.bench.expect("egress", packet, "STEERED", out=steered(packet, THERE))
    # The slot has another list now.
    tells.bench.route(GROUP, p.UDP, PORT, SLOT, THERE)
    packet = tells.out(p.UDP, tells.udp(PORT))
    tells.bench.expect("egress", packet, "STEERED", out=steered(packet, THERE))


def test_with_an_hmac(tells: Host) -> None:
    tells.bench.plane.set_hmac([KEY])
    tells.bench.route(GROUP, p.UDP, PORT, SLOT, Returning(THERE, BACK))
    packet = tells.out(p.UDP, tells.udp(PORT))
    wanted = signed(steered(telling(packet, BACK), THERE), KEY.number, KEY.secret)
    tells.bench.expect("egress", packet, "STEERED", "WAY_BACK_TOLD", out=wanted)


@pytest.mark.parametrize("hooked", [False, True], ids=["tc", "slowly"])
@pytest.mark.parametrize("tag", [0, TAG, TAG + 1])
def test_a_reply_over_it_is_counted(client: Host, tag: int, hooked: bool) -> None:
    """A DNS answer takes the slow path."""
    data = p.udp(client.there, client.here, 53 if hooked else 9000, 9001, b"data")
    packet = client.arrived(p.ROUTING, p.srh(p.UDP, [*BACK, client.here], data, left=0, tag=tag))
    used = ["WAY_BACK_USED"] if tag == TAG else []
    client.bench.expect("ingress", packet, "STRIPPED", *used, out=client.arrived(p.UDP, data))


# --- the server


def told(
    back: list[IPv6Address], protocol: int = p.UDP, there: list[IPv6Address] = THERE, extra: bytes = b""
) -> bytes:
    """A request whose packet tells a way back."""
    inner = body(protocol, HOST_A)
    path = [*there, HOST_B]
    made = extra or header(back, protocol)
    return p.ipv6(HOST_A, HOST_B, p.ROUTING, p.srh(p.DESTINATION, path, made + inner, left=0))


def plain(there: list[IPv6Address] = THERE, protocol: int = p.UDP) -> bytes:
    """A later packet of the flow."""
    return p.ipv6(
        HOST_A, HOST_B, p.ROUTING, p.srh(protocol, [*there, HOST_B], body(protocol, HOST_A), left=0)
    )


def tagged(frame: bytes) -> bytes:
    """The steered frame with the tag that says that it takes the way back which was told."""
    return frame[:60] + struct.pack("!H", TAG) + frame[62:]


def answered(server: Host, way: list[IPv6Address], protocol: int = p.UDP) -> None:
    answer = reply(protocol)
    server.bench.expect("egress", answer, "STEERED", out=tagged(steered(answer, way)))


def answered_by_reverse_list(server: Host) -> None:
    answer = reply()
    server.bench.expect("egress", answer, "STEERED", out=steered(answer, THERE[::-1]))


@pytest.mark.parametrize("count", [1, 2, 5, 12])
@pytest.mark.parametrize("protocol", [p.UDP, p.TCP])
def test_the_server_uses_it(server: Host, protocol: int, count: int) -> None:
    back = SIDS[-count:]
    stripped = p.ipv6(HOST_A, HOST_B, protocol, body(protocol, HOST_A))
    server.bench.expect("ingress", told(back, protocol), "STRIPPED", "LEARNED", "WAY_BACK_TOLD", out=stripped)
    answered(server, back, protocol)
    # Packets that do not tell it change nothing.
    for _ in range(3):
        server.bench.expect("ingress", plain(protocol=protocol), "STRIPPED", out=stripped)
        answered(server, back, protocol)


def test_another_one_is_used_at_once(server: Host) -> None:
    server.bench.run("ingress", told(BACK))
    server.bench.expect(
        "ingress",
        told(BACK[:1]),
        *("STRIPPED", "LEARNED", "WAY_BACK_TOLD"),
        out=p.ipv6(HOST_A, HOST_B, p.UDP, body(p.UDP, HOST_A)),
    )
    answered(server, BACK[:1])


def test_what_is_not_told_any_more_is_not_used_any_more(server: Host) -> None:
    server.bench.run("ingress", told(BACK))
    server.bench.set_told(lambda then: then - (6_000_000_000 >> 20) if then else 0)
    outcome = server.bench.run("ingress", plain())
    assert outcome.counted == {"STRIPPED": 1, "LEARNED": 1}
    answered_by_reverse_list(server)


def test_it_is_believed_inside_the_sr_domain_only(server: Host) -> None:
    server.bench.plane.set_sr_domain([IPv6Network(one) for one in ("fcbb:bb00::/32", "fcbb:cc00::/32")])
    server.bench.expect(
        "ingress",
        told([*BACK, IPv6Address("2001:db8::1")]),
        *("STRIPPED", "LEARNED", "WAY_BACK_REFUSED"),
        out=p.ipv6(HOST_A, HOST_B, p.UDP, body(p.UDP, HOST_A)),
    )
    answered_by_reverse_list(server)


@pytest.mark.parametrize(
    "change",
    [(2, 0x1F), (3, 5), (4, 0), (6, 2), (7, 2), (7, 0), (1, 200)],
    ids=["option", "its length", "magic", "version", "count", "none", "length"],
)
def test_other_options_are_left_alone(server: Host, change: tuple[int, int]) -> None:
    made = bytearray(header(BACK, p.UDP))
    made[change[0]] = change[1]
    outcome = server.bench.run("ingress", told(BACK, extra=bytes(made)))
    assert "WAY_BACK_TOLD" not in outcome.counted
    assert outcome.packet[20] == p.DESTINATION or outcome.counted == {"STRIPPED": 1, "NOTHING_TO_LEARN": 1}


def test_its_reply_is_signed(server: Host) -> None:
    server.bench.plane.set_hmac([KEY])
    server.bench.run("ingress", signed(told(BACK), KEY.number, KEY.secret))
    answer = reply()
    wanted = signed(tagged(steered(answer, BACK)), KEY.number, KEY.secret)
    server.bench.expect("egress", answer, "STEERED", out=wanted)


def test_with_another_key_the_reverse_list_is_signed(server: Host) -> None:
    """Until it is told again: the told one has an HMAC of the old key, which may be gone."""
    new = Key(8, b"another")
    server.bench.plane.set_hmac([KEY])
    server.bench.run("ingress", signed(told(BACK), KEY.number, KEY.secret))
    server.bench.plane.set_hmac([new])
    server.bench.run("ingress", signed(plain(), new.number, new.secret))
    answer = reply()
    wanted = signed(steered(answer, THERE[::-1]), new.number, new.secret)
    server.bench.expect("egress", answer, "STEERED", out=wanted)
    server.bench.run("ingress", signed(told(BACK), new.number, new.secret))
    wanted = signed(tagged(steered(answer, BACK)), new.number, new.secret)
    server.bench.expect("egress", answer, "STEERED", out=wanted)


def test_many_flows_keep_theirs(server: Host) -> None:
    """As many as there is room for in the flow table."""
    inner = [p.udp(HOST_A, HOST_B, port, OWN, b"x") for port in range(10_000, 16_000)]

    def arrive(frames: list[bytes]) -> dict[str, int]:
        before = server.bench.tallies()
        server.bench.namespace.do(lambda: [server.bench.run_here("ingress", frame) for frame in frames])
        return server.bench.counted(before, "ingress")

    def framed(kind: int, ahead: bytes = b"") -> list[bytes]:
        lists = (p.srh(kind, [*THERE, HOST_B], ahead + data, left=0) for data in inner)
        return [p.ipv6(HOST_A, HOST_B, p.ROUTING, one) for one in lists]

    first = arrive(framed(p.DESTINATION, header(BACK, p.UDP)))
    assert first["LEARNED"] == first["WAY_BACK_TOLD"] == len(inner)
    # However long that took, and the next packets take.
    later = time.monotonic_ns() + 600_000_000_000 >> 20
    server.bench.set_told(lambda then: later if then else 0)
    assert arrive(framed(p.UDP)) == {"STRIPPED": len(inner)}


def test_another_flow_at_its_place_has_told_nothing(server: Host) -> None:
    server.bench.run("ingress", told(BACK))
    server.bench.empty("flows")
    server.bench.set_told(lambda _then: max(1, time.monotonic_ns() >> 20))
    times = server.bench.plane.maps["told_flows"]
    assert server.bench.run("ingress", plain()).counted == {"STRIPPED": 1, "LEARNED": 1}
    answered_by_reverse_list(server)
    ways = [entry for key in times.each_key() if 0 in struct.unpack("=8I", entry := times.get(key) or b"")]
    assert len(ways) == 1 and struct.unpack("=8I", ways[0]).count(0) == 1


def test_what_there_is_no_room_for_is_not_counted_as_told(server: Host) -> None:
    server.bench.plane.set_hmac([KEY])
    long = SIDS[: limits()["HW_MAX_SIGNED"] + 1]
    outcome = server.bench.run("ingress", signed(told(BACK, there=long), KEY.number, KEY.secret))
    assert "WAY_BACK_TOLD" not in outcome.counted


def test_the_syn_is_clamped(server: Host) -> None:
    """By its SRH, although a header was in front of it."""
    syn = p.tcp(HOST_A, HOST_B, PEER, OWN, flags=p.SYN, option_bytes=p.mss(1440))
    made = header(BACK, p.TCP) + syn
    frame = p.ipv6(HOST_A, HOST_B, p.ROUTING, p.srh(p.DESTINATION, [*THERE, HOST_B], made, left=0))
    outcome = server.bench.run("ingress", frame, on_port=True)
    assert outcome.counted == {"STRIPPED": 1, "LEARNED": 1, "WAY_BACK_TOLD": 1, "MSS_CLAMPED": 1}
