"""Signed SRHs: the HMAC TLV that egress writes, and that ingress wants to see."""

import errno
import os
from collections.abc import Iterator
from ipaddress import IPv6Address

import pytest

from hawkwing.dataplane.layout import limits
from hawkwing.dataplane.loader import Capacities, Loading
from hawkwing.dataplane.plane import DataPlane
from hawkwing.errors import DataplaneError
from hawkwing.sids import Encapsulated
from hawkwing.srh_hmac import LENGTH, MAX_SECRET, MAX_SIGNED, Key
from tests.dataplane import packets as p
from tests.dataplane.bench import MTU
from tests.dataplane.packets import signed, steered
from tests.dataplane.scene import GROUP, HOST_A, HOST_B, HOST_C, SIDS, Host
from tests.dataplane.test_learning import reply, request

PORT = 8200
KEY, OTHER = Key(7, b"correct horse"), Key(0xFEDCBA98, bytes(range(64)))
LENGTHS = range(1, MAX_SIGNED + 1)


def test_the_limits_are_those_of_the_data_plane() -> None:
    found = limits()
    assert (found["HW_MAX_SIGNED"], found["HW_HMAC_TLV"]) == (MAX_SIGNED, LENGTH)
    assert MAX_SECRET == 64


@pytest.fixture
def signing(client: Host) -> Host:
    """A client whose lists are signed."""
    client.bench.plane.set_hmac([KEY])
    return client


@pytest.fixture
def verifying(server: Host) -> Host:
    """A server that knows two keys."""
    server.bench.plane.set_hmac([KEY, OTHER])
    return server


def path(host: Host, sids: list[IPv6Address], slot: int = 300) -> None:
    for protocol in (p.TCP, p.UDP):
        host.bench.route(GROUP, protocol, PORT, slot, sids)


# --- what leaves


@pytest.mark.parametrize("count", LENGTHS)
@pytest.mark.parametrize("key", [KEY, OTHER, Key(1, b"x")])
def test_every_length_of_list(client: Host, count: int, key: Key) -> None:
    client.bench.plane.set_hmac([key])
    path(client, SIDS[:count])
    packet = client.out(p.UDP, client.udp(PORT))
    wanted = signed(steered(packet, SIDS[:count]), key.number, key.secret)
    for _ in range(3):
        client.bench.expect("egress", packet, "STEERED", out=wanted)
    assert client.bench.entries("signatures") == 1


def test_without_a_key_nothing_is_signed(client: Host) -> None:
    path(client, SIDS[:2])
    packet = client.out(p.UDP, client.udp(PORT))
    client.bench.expect("egress", packet, "STEERED", out=steered(packet, SIDS[:2]))
    assert client.bench.entries("signatures") == 0


def test_each_source_and_destination_has_its_own(signing: Host) -> None:
    path(signing, SIDS[:2])
    signing.bench.local(HOST_A, HOST_C)
    signing.bench.plane.add_service(HOST_C, GROUP)
    for source, target in ((HOST_A, HOST_B), (HOST_C, HOST_B), (HOST_A, HOST_C)):
        packet = p.ipv6(source, target, p.UDP, p.udp(source, target, 4000, PORT))
        wanted = signed(steered(packet, SIDS[:2]), KEY.number, KEY.secret)
        for _ in range(2):
            signing.bench.expect("egress", packet, "STEERED", out=wanted)
    assert signing.bench.entries("signatures") == 3


def test_a_slot_with_another_list_has_other_hmacs(signing: Host) -> None:
    packet = signing.out(p.UDP, signing.udp(PORT))
    for sids in (SIDS[:2], SIDS[1:3], SIDS[:5]):
        path(signing, sids)
        wanted = signed(steered(packet, sids), KEY.number, KEY.secret)
        signing.bench.expect("egress", packet, "STEERED", out=wanted)


def test_a_syn_leaves_room_for_it(signing: Host) -> None:
    path(signing, SIDS[:2])

    def syn(value: int) -> bytes:
        return signing.out(p.TCP, signing.tcp(PORT, flags=p.SYN, option_bytes=p.mss(value)))

    clamped = syn(MTU - 60 - 56 - LENGTH)
    wanted = signed(steered(clamped, SIDS[:2]), KEY.number, KEY.secret)
    signing.bench.expect("egress", syn(1440), "STEERED", "MSS_CLAMPED", out=wanted, on_port=True)


def test_behind_a_hop_by_hop_header(signing: Host) -> None:
    path(signing, SIDS[:3])
    options = bytes([p.UDP, 0, 1, 4, 0, 0, 0, 0])
    packet = signing.out(p.HOP_BY_HOP, options + signing.udp(PORT))
    wanted = signed(steered(packet, SIDS[:3], len(options)), KEY.number, KEY.secret, len(options))
    signing.bench.expect("egress", packet, "STEERED", out=wanted)


def test_both_fragments_are_signed(signing: Host) -> None:
    path(signing, SIDS[:2])
    packet = signing.out(p.UDP, signing.udp(PORT, bytes(1400)))
    before = signing.bench.tallies()
    outcome = signing.bench.run("egress", packet, on_port=True)
    (first,) = signing.bench.namespace.do(lambda: signing.bench.namespace.sent(1))
    assert signing.bench.counted(before, "egress") == {"SPLIT": 1}
    srh = signed(steered(packet, SIDS[:2]), KEY.number, KEY.secret)[54 : 54 + 56 + 40]
    for piece in (first, outcome.packet):
        assert piece[54] == p.ROUTING or piece[14 + 6] == p.ROUTING
        assert piece[55 : 54 + 96] == srh[1:] and piece[54] == p.FRAGMENT


@pytest.mark.parametrize("count", [1, 2, 12])
def test_an_outer_header_is_signed(signing: Host, count: int) -> None:
    plane = signing.bench.plane
    plane.outer_source = lambda _sid: HOST_A
    path(signing, Encapsulated(SIDS[:count]))  # type: ignore[arg-type]
    packet = signing.out(p.UDP, signing.udp(PORT))
    listed = SIDS[1:count] or SIDS[:1]
    inner = packet[14:]
    srh = p.srh(p.IPV6, listed, inner, left=count - 1)
    outer = p.ipv6(HOST_A, SIDS[0], p.ROUTING, srh)
    signing.bench.expect("egress", packet, "STEERED", out=signed(outer, KEY.number, KEY.secret))
    assert signing.bench.entries("signatures") == 0


def test_without_the_program_that_signs_a_packet_leaves_as_it_was(either: Host) -> None:
    """An agent that is killed leaves its programs, which then can't call one another."""
    sids = SIDS[:2]
    if either.bench.role == "client":
        path(either, sids)
    else:
        arrived = arriving(either, sids[::-1], port=PORT)
        either.bench.run("ingress", signed(arrived, KEY.number, KEY.secret))
    packet = either.out(p.UDP, p.udp(either.here, either.there, 9001, PORT))
    programs = either.bench.plane.maps["programs"]
    kept = either.bench.plane.programs["authenticate"]
    programs.delete(bytes(4))
    unknown = signed(arriving(either, SIDS[4:6]), KEY.number, KEY.secret)
    try:
        either.bench.expect("egress", packet, "NOT_SIGNED")
        either.bench.expect("ingress", unknown, "HMAC_MISSING")
    finally:
        programs.set(bytes(4), kept.to_bytes(4, "little"))
    wanted = signed(steered(packet, sids), KEY.number, KEY.secret)
    either.bench.expect("egress", packet, "STEERED", out=wanted)
    assert "STRIPPED" in either.bench.run("ingress", unknown).counted


def test_after_a_quarter_of_an_hour_as_at_first(signing: Host) -> None:
    path(signing, SIDS[:2])
    packet = signing.out(p.UDP, signing.udp(PORT))
    wanted = signed(steered(packet, SIDS[:2]), KEY.number, KEY.secret)
    for _ in range(32):
        signing.bench.tick()
    signing.bench.expect("egress", packet, "STEERED", out=wanted)


def test_until_a_path_is_written_again_it_has_the_old_key(signing: Host) -> None:
    plane = signing.bench.plane
    path(signing, SIDS[:2])
    packet = signing.out(p.UDP, signing.udp(PORT))
    plane.set_hmac([OTHER])
    old, new = (signed(steered(packet, SIDS[:2]), one.number, one.secret) for one in (KEY, OTHER))
    assert plane.is_key_new
    signing.bench.expect("egress", packet, "STEERED", out=old)
    plane.sign_policy(300, SIDS[:2])
    signing.bench.expect("egress", packet, "STEERED", out=new)
    plane.remove_old_keys()
    assert not plane.is_key_new and signing.bench.entries("hmac_keys") == 1


def test_a_path_whose_key_is_gone(signing: Host) -> None:
    path(signing, SIDS[:2])
    signing.bench.plane.set_hmac([OTHER])
    signing.bench.plane.remove_old_keys()
    packet = signing.out(p.UDP, signing.udp(PORT))
    signing.bench.expect("egress", packet, "NOT_SIGNED")


@pytest.mark.parametrize("before, after", [([], [KEY]), ([KEY], []), ([KEY], [OTHER]), ([], [])])
def test_a_path_written_again(client: Host, before: list[Key], after: list[Key]) -> None:
    """Of two paths, the one that is written again is changed, as a whole."""
    plane = client.bench.plane
    plane.set_hmac(before)
    path(client, SIDS[:2])
    plane.set_hmac(after)
    plane.sign_policy(300, SIDS[:2])
    packet = client.out(p.UDP, client.udp(PORT))
    wanted = steered(packet, SIDS[:2])
    if after:
        wanted = signed(wanted, after[0].number, after[0].secret)
    client.bench.expect("egress", packet, "STEERED", out=wanted)


def test_a_key_that_the_kernel_refuses(client: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing has changed then, and the next attempt is complete."""
    plane = client.bench.plane
    path(client, SIDS[:2])
    program = plane.programs.pop("authenticate", None)

    def refused(*_args: object) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    with monkeypatch.context() as patch:
        patch.setattr("hawkwing.dataplane.plane.connect", refused)
        with pytest.raises(DataplaneError, match="programs call one another: Cannot allocate memory"):
            plane.set_hmac([KEY])
    assert plane.hmac == () and "authenticate" not in plane.programs
    if program is not None:
        os.close(program)
    plane.set_hmac([KEY])
    plane.sign_policy(300, SIDS[:2])
    packet = client.out(p.UDP, client.udp(PORT))
    wanted = signed(steered(packet, SIDS[:2]), KEY.number, KEY.secret)
    client.bench.expect("egress", packet, "STEERED", out=wanted)


# --- what arrives


@pytest.fixture(params=["client", "server"])
def either(request: pytest.FixtureRequest) -> Iterator[Host]:
    """Both roles verify."""
    found: Host = request.getfixturevalue(request.param)
    found.bench.plane.set_hmac([KEY, OTHER])
    yield found


def arriving(host: Host, sids: list[IPv6Address], port: int = 9000, **fields: int) -> bytes:
    body = p.udp(host.there, host.here, port, 9001, b"data")
    return host.arrived(p.ROUTING, p.srh(p.UDP, [*sids, host.here], body, left=0, **fields))  # type: ignore[arg-type]


def learned(host: Host) -> tuple[str, ...]:
    return ("STRIPPED", "LEARNED") if host.bench.role == "server" else ("STRIPPED",)


@pytest.mark.parametrize("count", range(1, 16))
@pytest.mark.parametrize("key", [KEY, OTHER])
def test_a_valid_hmac_of_every_length(either: Host, count: int, key: Key) -> None:
    packet = signed(arriving(either, SIDS[:count]), key.number, key.secret)
    plain = either.arrived(p.UDP, p.udp(either.there, either.here, 9000, 9001, b"data"))
    known: tuple[str, ...] = learned(either)
    if either.bench.role == "server" and count > MAX_SIGNED:
        known = ("STRIPPED", "LIST_TOO_LONG")
    either.bench.expect("ingress", packet, *known, out=plain)
    assert either.bench.entries("verified") == 1
    again = known if "LIST_TOO_LONG" in known else ("STRIPPED",)
    either.bench.expect("ingress", packet, *again, out=plain)
    assert either.bench.entries("verified") == 1


def test_an_srh_without_an_hmac_is_left_to_the_kernel(either: Host) -> None:
    either.bench.expect("ingress", arriving(either, SIDS[:2]), "HMAC_MISSING")
    either.bench.expect("ingress", arriving(either, SIDS[:2], flags=8), "HMAC_MISSING")


@pytest.mark.parametrize(
    "key, reason", [(Key(7, b"wrong"), "HMAC_WRONG"), (Key(9, KEY.secret), "HMAC_MISSING")]
)
def test_another_secret_or_an_unknown_key(either: Host, key: Key, reason: str) -> None:
    packet = signed(arriving(either, SIDS[:2]), key.number, key.secret)
    for _ in range(2):
        either.bench.expect("ingress", packet, reason)
    assert either.bench.entries("verified") == 0


def test_a_known_hmac_does_for_nothing_else(either: Host) -> None:
    """Each byte that the HMAC covers is changed in turn, after the packet was verified and kept."""
    packet = signed(arriving(either, SIDS[:2]), KEY.number, KEY.secret)
    assert "STRIPPED" in either.bench.run("ingress", packet).counted
    srh = 54
    places = {
        "source": 14 + 23,
        "flags": srh + 5,
        "last SID": srh + 8 + 16 + 15,
        "first SID": srh + 8 + 32 + 15,
        "code": srh + 96 - 1,
    }
    for what, at in places.items():
        forged = bytearray(packet)
        forged[at] ^= 4
        outcome = either.bench.run("ingress", bytes(forged))
        assert outcome.counted == {"HMAC_WRONG": 1}, what
    number = bytearray(packet)
    number[srh + 56 + 7] ^= 4
    assert either.bench.run("ingress", bytes(number)).counted == {"HMAC_MISSING": 1}
    assert either.bench.run("ingress", packet).counted == {"STRIPPED": 1}


def test_the_tag_is_not_covered(either: Host) -> None:
    packet = signed(arriving(either, SIDS[:2], tag=99), KEY.number, KEY.secret)
    assert "STRIPPED" in either.bench.run("ingress", packet).counted


def test_a_reply_is_signed(verifying: Host) -> None:
    verifying.bench.run("ingress", signed(request(SIDS[:3]), OTHER.number, OTHER.secret))
    answer = reply()
    wanted = signed(steered(answer, SIDS[:3][::-1]), KEY.number, KEY.secret)
    for _ in range(3):
        verifying.bench.expect("egress", answer, "STEERED", out=wanted)


def test_what_is_not_verified_teaches_nothing(verifying: Host) -> None:
    verifying.bench.expect("ingress", request(SIDS[:3]), "HMAC_MISSING")
    verifying.bench.expect("ingress", signed(request(SIDS[:3]), 7, b"wrong"), "HMAC_WRONG")
    verifying.bench.expect("egress", reply(), "NO_FLOW")


def test_a_known_flow_is_verified_all_the_same(verifying: Host) -> None:
    packet = signed(request(SIDS[:3]), KEY.number, KEY.secret)
    for _ in range(4):
        assert "STRIPPED" in verifying.bench.run("ingress", packet).counted
    verifying.bench.expect("ingress", request(SIDS[:3]), "HMAC_MISSING")
    verifying.bench.expect("ingress", signed(request(SIDS[:3]), 7, b"wrong"), "HMAC_WRONG")


def test_with_a_key_the_host_need_not_verify(verifying: Host) -> None:
    plane = verifying.bench.plane
    plane.set_hmac_links([verifying.bench.namespace.port])
    packet = signed(request(SIDS[:3]), KEY.number, KEY.secret)
    try:
        outcome = verifying.bench.run("ingress", packet, on_port=True)
        assert outcome.counted == {"STRIPPED": 1, "LEARNED": 1}
    finally:
        plane.set_hmac_links([])


def test_another_secret_of_the_same_key(verifying: Host) -> None:
    packet = signed(request(SIDS[:3]), KEY.number, KEY.secret)
    assert "STRIPPED" in verifying.bench.run("ingress", packet).counted
    changed = Key(KEY.number, b"battery staple")
    verifying.bench.plane.set_hmac([changed])
    verifying.bench.expect("ingress", packet, "HMAC_WRONG")
    answer = reply()
    wanted = signed(steered(answer, SIDS[:3][::-1]), changed.number, changed.secret)
    verifying.bench.expect("egress", answer, "STEERED", out=wanted)


# --- who comes next


def successor(server: Host, keys: list[Key]) -> DataPlane:
    """The next agent's data plane, with the maps of this one, whose programs still run."""
    inherited = {name[:15]: os.dup(table.fd) for name, table in server.bench.plane.maps.items()}
    loading = Loading("server", Capacities())
    loaded = loading.result(inherited)
    loading.abandon()
    assert "settings" in loaded.inherited
    return DataPlane("server", loaded, server.bench.plane.sr_domain, hmac=keys)


def test_the_next_agent_leaves_no_gap(verifying: Host) -> None:
    """What it has not set yet is as the previous one left it."""
    verifying.bench.plane.set_decap([HOST_C])
    verifying.bench.plane.set_hmac_links([verifying.bench.namespace.port])
    made = successor(verifying, [KEY])
    verifying.bench.expect("ingress", request(SIDS[:3]), "HMAC_MISSING")
    assert made.decap == (HOST_C,) and made.hmac_links == (verifying.bench.namespace.port,)
    verifying.bench.plane.set_hmac_links([])


@pytest.mark.parametrize("by_reload", [True, False], ids=["reload", "next agent"])
def test_with_the_first_key_unsigned_paths_are_forgotten(server: Host, by_reload: bool) -> None:
    server.bench.run("ingress", request(SIDS[:3]))
    assert server.bench.run("egress", reply()).counted == {"STEERED": 1}
    if by_reload:
        server.bench.plane.set_hmac([KEY])
        server.bench.expect("egress", reply(), "NO_FLOW")
    else:
        # Its own programs run from then on; each CPU of these may have the flow in its cache.
        successor(server, [KEY])
    assert server.bench.flows() == 0


def test_with_the_next_key_signed_paths_stay(verifying: Host) -> None:
    verifying.bench.run("ingress", signed(request(SIDS[:3]), KEY.number, KEY.secret))
    verifying.bench.plane.set_hmac([OTHER, KEY])
    answer = reply()
    wanted = signed(steered(answer, SIDS[:3][::-1]), KEY.number, KEY.secret)
    verifying.bench.expect("egress", answer, "STEERED", out=wanted)
