"""Agents that sign their SRHs and verify others': on the wire, with routers that require HMACs."""

import hashlib
import json
import signal
import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrSegmentRouting
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from hawkwing.srh_hmac import FLAG, LENGTH, Key, signed, with_tlv
from lab.hmac import IF_PRESENT, IGNORED, REQUIRED, checking, refused, set_key
from lab.network import Lab
from lab.packets import Captured, assert_packet, assert_same
from lab.process import Process
from lab.wait import patient, wait_until
from lab.wire import Capture, Filter, tcp_port, udp_port

from .conftest import HAWKWING, Agents, Endpoint, said, sysctl
from .onwire import R1, R2, R3, R4, R5, R6, UPPER_WAY, UPPER_WAY_BACK, A, B, C, on_links
from .signed import (
    KEY,
    WRONG,
    assert_not_signed,
    assert_signed,
    kernels,
    requiring,
    routers,
    signed_along,
    srh_of,
)
from .test_csid import BLOCK, of_routers
from .test_encap import DECAP6
from .test_encap import config as encapsulating
from .test_kernel_hmac import BEFORE_VPP1, accepting, decap, inserting, srh_without_tlv
from .test_several_paths import LOWER, PORT, UPPER, Connections, path, sent_by_sockets
from .test_several_paths import config as several
from .test_sizes import forget_path_mtu, streams
from .test_stamp import LOOPBACK, STAMPED, healths, reflect
from .test_steering import http

__all__ = ["decap", "kernels", "requiring"]

NEXT = Key(8, b"the next secret")
THERE, BACK = [B, R6, R4, R2, R1], [A, R1, R2, R4, R6]
HOOKS = pytest.mark.parametrize("hook", ["tc", "xdp-generic"])
ALL_THE_WAY = [link for link, _destination, _left in UPPER_WAY]


def hmac(folder: Path, *keys: Key) -> str:
    """The agent's `hmac` for these keys, with their secrets in files of this folder; empty without keys."""
    folder.mkdir(exist_ok=True)
    entries = []
    for key in keys:
        file = folder / f"secret-{key.number}"
        file.write_bytes(key.secret)
        file.chmod(0o600)
        entries.append(f"{{key_id: {key.number}, secret_file: '{file}'}}")
    if not entries:
        return ""
    return f"hmac: {entries[0] if len(entries) == 1 else '[' + ', '.join(entries) + ']'}\n"


def config(sids: Sequence[str] = UPPER) -> str:
    """TCP and UDP to host-b over these SIDs."""
    listed = ", ".join(f"'{sid}'" for sid in sids)
    text = f"services:\n  b:\n    ipv6_addresses: ['{B}']\n    applications:\n"
    return text + "".join(f"      - {{port: {port}, sid: [{listed}]}}\n" for port in (80, PORT))


class Ends:
    """A client at host-a and a server at host-b, each with its own files of secrets."""

    def __init__(self, agents: Agents, folder: Path) -> None:
        self._agents, self._folder = agents, folder

    def client(self, *keys: Key, text: str = "", options: Sequence[str] = ()) -> Process:
        """The first key signs."""
        return self._agents.client((text or config()) + self.client_hmac(*keys), "host-a", *options)

    def server(self, *keys: Key, options: Sequence[str] = ()) -> Process:
        """The first key signs."""
        file = self._folder / "server.yaml"
        file.write_text(self.server_hmac(*keys) or "{}\n")
        return self._agents.server("host-b", "--config", str(file), *options)

    def client_hmac(self, *keys: Key) -> str:
        """Writes the client's files."""
        return hmac(self._folder / "of-client", *keys)

    def server_hmac(self, *keys: Key) -> str:
        """Writes the server's files."""
        return hmac(self._folder / "of-server", *keys)


@pytest.fixture
def ends(agents: Agents, tmp_path: Path) -> Ends:
    """`ends.client(KEY)` and `ends.server(KEY)`."""
    return Ends(agents, tmp_path)


def status(lab: Lab, host: str = "host-b") -> Any:
    """What the agent of a host tells of itself."""
    (agent,) = json.loads(lab.execute(host, [*HAWKWING, "status", "--json"]).stdout)
    return agent


def counted(lab: Lab, host: str = "host-b") -> dict[str, int]:
    """The packets with an SRH that its agent has accepted, and not accepted for their HMAC."""
    ingress = status(lab, host)["counters"]["ingress"]
    return {
        reason: ingress[reason]["packets"]
        for reason in ("STRIPPED", "HMAC_MISSING", "HMAC_WRONG")
        if reason in ingress
    }


def arrives(end: Endpoint) -> bytes | None:
    """What has arrived; nothing may still be on its way."""
    end.socket.setblocking(False)
    try:
        return end.socket.recv(70000)
    except BlockingIOError:
        return None
    finally:
        end.socket.settimeout(patient(5))


def exchange(capture: Capture, near: Endpoint, far: Endpoint, there: Key, back: Key) -> None:
    """A datagram and its answer: signed by these keys on all links, each byte is known."""
    ping = UDP(sport=near.port, dport=PORT) / b"ping"
    pong = UDP(sport=PORT, dport=near.port) / b"pong"

    def send() -> None:
        near.socket.sendto(b"ping", (B, PORT))
        assert far.socket.recvfrom(100) == (b"ping", (A, near.port, 0, 0))

    def reply() -> None:
        far.socket.sendto(b"pong", (A, near.port))
        assert near.socket.recvfrom(100)[0] == b"pong"

    capture.send_and_expect(send, udp_port(PORT), signed_along(UPPER_WAY, A, THERE, ping, there))
    capture.send_and_expect(reply, udp_port(PORT), signed_along(UPPER_WAY_BACK, B, BACK, pong, back))


# --- there and back


@HOOKS
def test_tcp_and_udp_over_routers_that_require_hmacs(
    requiring: Lab, ends: Ends, capture: Capture, udp: Callable[..., Endpoint], hook: str
) -> None:
    ends.server(KEY, options=["--ingress-hook", hook])
    ends.client(KEY, options=["--ingress-hook", hook])
    exchange(capture, udp("host-a"), udp("host-b", PORT), KEY, KEY)
    capture.forget()
    assert http(requiring, f"http://[{B}]/") == "Hello from host-b\n"
    packets = capture.settled(tcp_port(80))
    requests = [packet for packet in packets if packet[TCP].dport == 80]
    replies = [packet for packet in packets if packet[TCP].sport == 80]
    for seen, way, source, segments, transport in (
        (requests, UPPER_WAY, A, THERE, TCP(dport=80)),
        (replies, UPPER_WAY_BACK, B, BACK, TCP(sport=80)),
    ):
        assert on_links(seen)[: len(way)] == way
        expected = dict(signed_along(way, source, segments, transport))
        for packet in seen:
            assert_packet(packet, expected[packet.link])
    assert_signed(packets)
    assert set(counted(requiring)) == {"STRIPPED"}


@pytest.mark.parametrize(
    "keys", [(), (WRONG,), (Key(9, KEY.secret),)], ids=["none", "wrong secret", "unknown key"]
)
def test_what_the_client_signs_otherwise_is_dropped(
    requiring: Lab, ends: Ends, capture: Capture, udp: Callable[..., Endpoint], keys: tuple[Key, ...]
) -> None:
    """The control: by the first router, which counts it."""
    ends.server(KEY)
    ends.client(*keys)
    near = udp("host-a")
    udp("host-b", PORT)
    before = refused(requiring, "vpp1")
    capture.forget()
    near.socket.sendto(b"ping", (B, PORT))
    packets = capture.settled(udp_port(PORT))
    assert [packet.link for packet in packets] == BEFORE_VPP1
    if keys:
        assert_signed(packets, *keys)
    else:
        assert_not_signed(packets)
    assert refused(requiring, "vpp1") == before + 1
    assert counted(requiring) == {}


def test_what_the_server_does_not_sign_is_dropped(
    requiring: Lab, ends: Ends, capture: Capture, udp: Callable[..., Endpoint]
) -> None:
    """A server without keys accepts signed packets; but its replies do not pass."""
    ends.server()
    ends.client(KEY)
    near, far = udp("host-a"), udp("host-b", PORT)
    near.socket.sendto(b"ping", (B, PORT))
    _data, peer = far.socket.recvfrom(100)
    before = refused(requiring, "vpp6")
    capture.forget()
    far.socket.sendto(b"pong", peer)
    packets = capture.settled(udp_port(PORT))
    assert_not_signed(packets)
    assert [packet.link for packet in packets] == ["site-b-host-b", "vpp6-site-b"]
    assert refused(requiring, "vpp6") == before + 1


def test_all_sizes_pass(requiring: Lab, ends: Ends, udp: Callable[..., Endpoint]) -> None:
    """The TLV needs room as well: around the MTU less an SRH of four SIDs with it, and fragments."""
    ends.server(KEY)
    ends.client(KEY)
    near, far = udp("host-a"), udp("host-b", PORT)
    links = [requiring.topology.link("host-a", "site-a"), requiring.topology.link("site-b", "host-b")]
    with Capture(requiring.topology, requiring.namespace, links) as capture:
        for size in (1, 1323, 1324, 1325, 1364, 1365, 1452, 1453, 9000):
            forget_path_mtu(requiring)
            data = hashlib.shake_128(str(size).encode()).digest(size)
            near.socket.sendto(data, (B, PORT))
            there, peer = far.socket.recvfrom(70000)
            far.socket.sendto(data, peer)
            assert (there, near.socket.recv(70000)) == (data, data)
        assert_signed(capture.settled(Filter(17)))
    streams(requiring, 3_000_000)


# --- what the server verifies


@pytest.mark.parametrize("kernel_accepts", [False, True], ids=["kernel drops", "kernel accepts"])
@pytest.mark.parametrize(
    ("clients", "servers", "reason"),
    [
        ([KEY], [WRONG], "HMAC_WRONG"),
        ([KEY], [NEXT], "HMAC_MISSING"),
        ([], [KEY], "HMAC_MISSING"),
        ([KEY], [KEY], "STRIPPED"),
        ([KEY], [], "STRIPPED"),
    ],
    ids=["wrong secret", "unknown key", "unsigned", "right", "no keys"],
)
def test_the_server_leaves_what_it_can_not_verify_to_the_kernel(
    kernels: Lab,
    ends: Ends,
    capture: Capture,
    udp: Callable[..., Endpoint],
    clients: list[Key],
    servers: list[Key],
    reason: str,
    kernel_accepts: bool,
) -> None:
    """It learns nothing from it: replies are plain. Routers ignore HMACs here."""
    ends.server(*servers)
    ends.client(*clients)
    near, far = udp("host-a"), udp("host-b", PORT)
    with ExitStack() as stack:
        stack.enter_context(checking(kernels, routers(kernels), policy=IGNORED))
        if kernel_accepts:
            stack.enter_context(accepting(kernels, "host-b"))
            stack.enter_context(checking(kernels, ["host-b"], KEY, policy=IF_PRESENT))
        capture.forget()
        near.socket.sendto(b"ping", (B, PORT))
        assert [packet.link for packet in capture.settled(udp_port(PORT))] == ALL_THE_WAY
        wait_until(lambda: counted(kernels).get(reason), 5, "the packet to be counted")
        assert counted(kernels) == {reason: 1}
        stripped = reason == "STRIPPED"
        assert (arrives(far) == b"ping") is (stripped or kernel_accepts)
        assert status(kernels)["flows"]["count"] == stripped
        capture.forget()
        far.socket.sendto(b"pong", (A, near.port))
        (reply,) = capture.settled(udp_port(PORT, "site-b-host-b"))
        assert (IPv6ExtHdrSegmentRouting in reply) is stripped
        if stripped and servers:
            assert_signed([reply])


@pytest.mark.parametrize(
    ("also", "reason"),
    [([NEXT], "STRIPPED"), ([], "HMAC_MISSING"), ([Key(NEXT.number, WRONG.secret)], "HMAC_WRONG")],
    ids=["right", "unknown key", "wrong secret"],
)
def test_the_client_verifies_replies(
    kernels: Lab, ends: Ends, capture: Capture, udp: Callable[..., Endpoint], also: list[Key], reason: str
) -> None:
    """What it does not accept is refused by the host's kernel."""
    ends.server(NEXT, KEY)
    ends.client(KEY, *also)
    near, far = udp("host-a"), udp("host-b", PORT)
    with checking(kernels, routers(kernels), policy=IGNORED):
        near.socket.sendto(b"ping", (B, PORT))
        _data, peer = far.socket.recvfrom(100)
        capture.forget()
        far.socket.sendto(b"pong", peer)
        assert_signed(capture.settled(udp_port(PORT)), NEXT)
        wait_until(lambda: counted(kernels, "host-a").get(reason), 5, "the reply to be counted")
        assert counted(kernels, "host-a") == {reason: 1}
        assert (arrives(near) == b"pong") is (reason == "STRIPPED")


def test_two_keys(requiring: Lab, ends: Ends, capture: Capture, udp: Callable[..., Endpoint]) -> None:
    """While a key is replaced: a client that signs with the old one, and a server that does with the new."""
    ends.server(NEXT, KEY)
    ends.client(KEY, NEXT)
    near, far = udp("host-a"), udp("host-b", PORT)
    with checking(requiring, routers(requiring), NEXT):
        exchange(capture, near, far, KEY, NEXT)
    assert counted(requiring) == {"STRIPPED": 1}


# --- the kernel as the client


@pytest.mark.parametrize("keys", [(KEY,), ()], ids=["signing", "not signing"])
def test_a_client_without_an_agent(
    requiring: Lab, ends: Ends, capture: Capture, udp: Callable[..., Endpoint], keys: tuple[Key, ...]
) -> None:
    """Its kernel signs what it sends, and requires that replies are signed; without that they don't pass."""
    ends.server(*keys)
    near, far = udp("host-a"), udp("host-b", PORT)
    with (
        accepting(requiring, "host-a"),
        checking(requiring, ["host-a"], KEY, policy=REQUIRED),
        inserting(requiring, "hmac", str(KEY.number)),
    ):
        if keys:
            exchange(capture, near, far, KEY, KEY)
            return
        near.socket.sendto(b"ping", (B, PORT))
        _data, peer = far.socket.recvfrom(100)
        before = refused(requiring, "vpp6")
        far.socket.sendto(b"pong", peer)
        wait_until(lambda: refused(requiring, "vpp6") == before + 1, 5, "vpp6 to drop the reply")
        assert arrives(near) is None


# --- encapsulation


@pytest.mark.parametrize("sids", [[], [R1], [R1, R2, R4]], ids=len)
def test_encapsulated_as_the_kernel_does(
    decap: Lab, ends: Ends, capture: Capture, udp: Callable[..., Endpoint], sids: list[str]
) -> None:
    """Byte for byte, up to a router that removes the outer header and requires the HMAC."""
    near, far = udp("host-a"), udp("host-b", PORT)

    def sent() -> Captured:
        capture.forget()
        near.socket.sendto(b"ping", (B, PORT))
        assert far.socket.recv(100) == b"ping"
        (inner,) = capture.settled(Filter(link="vpp6-site-b"))
        assert IPv6ExtHdrSegmentRouting not in inner
        (outer,) = capture.packets(Filter(link="host-a-site-a"))
        return outer

    words = ("hmac", str(KEY.number))
    with (
        checking(decap, ["host-a"], KEY),
        inserting(decap, *words, mode="encap.red", sids=[*sids, DECAP6]),
    ):
        kernels_own = sent()
    ends.client(KEY, text=encapsulated(sids))
    ours = sent()
    assert_signed([ours])
    assert_same(ours[IPv6].original, kernels_own[IPv6].original, IPv6)


@pytest.mark.parametrize("sids", [[], [R1, R2, R4]], ids=len)
def test_encapsulated_with_a_wrong_secret(
    decap: Lab, ends: Ends, capture: Capture, udp: Callable[..., Endpoint], sids: list[str]
) -> None:
    """The control: the first SID drops it, which is that of the last router if there are no others."""
    near = udp("host-a")
    router = "vpp1" if sids else "vpp6"
    before = refused(decap, router)
    ends.client(WRONG, text=encapsulated(sids))
    capture.forget()
    near.socket.sendto(b"ping", (B, PORT))
    assert_signed(capture.settled(Filter(link="host-a-site-a")), WRONG)
    assert capture.count(Filter(link="vpp6-site-b")) == 0
    assert refused(decap, router) == before + 1


def encapsulated(sids: list[str]) -> str:
    """A configuration: to host-b over these SIDs, and the one that removes the outer header."""
    if sids:
        return encapsulating(sids)
    return encapsulating([DECAP6]).replace(f"    decap_sid: '{DECAP6}'\n", "")


# --- containers (RFC 9800)


@pytest.mark.parametrize("keys", [(KEY,), ()], ids=["signed", "unsigned"])
def test_containers(requiring: Lab, ends: Ends, capture: Capture, keys: tuple[Key, ...]) -> None:
    """There and back. Where a container ends, an unsigned one is dropped."""
    if "next-csid" not in requiring.execute("vpp1", ["ip", "-6", "route", "show", "fcbb:bb00:1::/48"]).stdout:
        pytest.skip("this kernel, or this iproute2, has no NEXT-C-SID")
    ends.server(KEY, options=["--csid", BLOCK])
    ends.client(*keys, text=config(of_routers(1, 2, 4, 6)) + f"csid: {{block: '{BLOCK}'}}\n")
    capture.forget()
    if keys:
        http(requiring, f"http://[{B}]/")
        packets = capture.settled(tcp_port(80))
        assert_signed(packets)
        lists = {tuple(packet[IPv6ExtHdrSegmentRouting].addresses) for packet in packets}
        assert lists == {(B, "fcbb:bb00:1:2:4:6::"), (A, "fcbb:bb00:6:4:2:1::")}
        return
    before = refused(requiring, "vpp6")
    requiring.execute("host-a", ["curl", "-s", "-m", "0.5", f"http://[{B}]/"], check=False)
    packets = capture.settled(tcp_port(80))
    assert_not_signed(packets)
    assert {packet.link for packet in packets} == set(ALL_THE_WAY[:5])
    assert refused(requiring, "vpp6") > before


# --- probes


PATHS = several(path(UPPER, preference=200, name="upper"), path(LOWER, name="lower"))


def test_probes_return_over_routers_that_require_hmacs(requiring: Lab, ends: Ends, capture: Capture) -> None:
    """Those of sockets as well as those of the data plane."""
    ends.client(KEY, text=PATHS + LOOPBACK)
    wait_until(lambda: states(requiring) == {"upper": "alive", "lower": "alive"}, 10, "both paths to live")
    assert "round trip" in said(requiring, "paths", B, str(PORT))
    before = sent_by_sockets(requiring)
    capture.forget()
    wait_until(lambda: sent_by_sockets(requiring) >= before + 4, 30, "two probes of each socket")
    seen = capture.settled(Filter(17, link="host-a-site-a"))
    assert len([packet for packet in seen if packet.sender == "host-a"]) > 20
    assert len([packet for packet in seen if packet[IPv6].dst == A]) > 20
    assert_signed(seen)
    assert states(requiring) == {"upper": "alive", "lower": "alive"}


ASKING = {
    "ping": ["ping", B, str(PORT), "-c", "2", "-i", "0.2"],
    "ping --sid": ["ping", "--sid", ",".join(UPPER), "-c", "2", "-i", "0.2"],
    "trace": ["trace", B, str(PORT), "-c", "2", "-i", "0.2"],
    "paths": ["paths", B, str(PORT), "--measure"],
}


@pytest.mark.parametrize("command", ASKING.values(), ids=ASKING.keys())
def test_what_ping_trace_and_paths_send_is_signed(
    requiring: Lab, ends: Ends, capture: Capture, command: list[str]
) -> None:
    client = ends.client(KEY, text=PATHS)
    capture.forget()
    done = requiring.execute("host-a", [*HAWKWING, *command], check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert_signed(
        [one for one in capture.settled(Filter(17, link="host-a-site-a")) if one.sender == "host-a"]
    )
    # The control: nobody has the key then.
    client.stop()
    before = refused(requiring, "vpp1")
    done = requiring.execute("host-a", [*HAWKWING, *ASKING["ping --sid"]], check=False)
    assert done.returncode == 1 and refused(requiring, "vpp1") == before + 2


def test_probes_of_stamp_are_signed(requiring: Lab, ends: Ends, agents: Agents, tmp_path: Path) -> None:
    """And their answers, which take the reverse path."""
    reflect(agents, tmp_path, ends.server_hmac(KEY))
    ends.client(KEY, text=PATHS + STAMPED)
    wait_until(lambda: states(requiring) == {"upper": "alive", "lower": "alive"}, 10, "both paths to live")


def test_probes_with_a_wrong_secret_do_not_return(requiring: Lab, ends: Ends) -> None:
    """The control."""
    before = refused(requiring, "vpp1")
    ends.client(WRONG, text=PATHS + LOOPBACK)
    wait_until(lambda: refused(requiring, "vpp1") > before + 20, 30, "vpp1 to drop probes")
    assert "alive" not in states(requiring).values()


def states(lab: Lab) -> dict[str, object]:
    """The state of each path."""
    return {name: health["state"] for name, health in healths(lab).items()}


# --- changes


def test_reload_with_another_secret(
    requiring: Lab, ends: Ends, capture: Capture, udp: Callable[..., Endpoint]
) -> None:
    """Known flows and connections go on, signed anew."""
    ends.server(KEY)
    ends.client(KEY)
    near, far = udp("host-a"), udp("host-b", PORT)
    new = Key(KEY.number, b"what comes after it")
    with ExitStack() as stack:
        connections = Connections(requiring, stack, 1)
        exchange(capture, near, far, KEY, KEY)
        assert connections.echo(patient(5)) == connections.pairs.keys()

        ends.client_hmac(new)
        requiring.execute("host-a", [*HAWKWING, "reload"])
        before = refused(requiring, "vpp1")
        near.socket.sendto(b"too early", (B, PORT))
        wait_until(lambda: refused(requiring, "vpp1") == before + 1, 5, "vpp1 to drop it")

        ends.server_hmac(new)
        requiring.execute("host-b", [*HAWKWING, "reload"])
        for router in routers(requiring):
            set_key(requiring, router, new)
        # The server has learned this flow before.
        capture.forget()
        far.socket.sendto(b"pong", (A, near.port))
        assert near.socket.recv(100) == b"pong"
        assert_signed(capture.settled(udp_port(PORT)), new)
        exchange(capture, near, far, new, new)
        capture.forget()
        assert connections.echo(patient(5)) == connections.pairs.keys()
        assert_signed(capture.settled(tcp_port(PORT)), new)


def test_reload_begins_and_ends_to_sign(
    kernels: Lab, ends: Ends, capture: Capture, udp: Callable[..., Endpoint], tmp_path: Path
) -> None:
    """`hmac` is added to a client's configuration, and removed again."""
    ends.client()
    near, _far = udp("host-a"), udp("host-b", PORT)
    (file,) = tmp_path.glob("host-a-*.yaml")

    def sent() -> list[Captured]:
        capture.forget()
        near.socket.sendto(b"ping", (B, PORT))
        return capture.settled(udp_port(PORT, "host-a-site-a"))

    assert_not_signed(sent())
    file.write_text(config() + ends.client_hmac(KEY))
    kernels.execute("host-a", [*HAWKWING, "reload"])
    assert_signed(sent())
    file.write_text(config())
    kernels.execute("host-a", [*HAWKWING, "reload"])
    assert_not_signed(sent())


def test_killed_agents_leave_connections_signed(requiring: Lab, ends: Ends, capture: Capture) -> None:
    """Their filters stay, with the HMACs in them; new connections to the port are signed, too."""
    server, client = ends.server(KEY), ends.client(KEY)
    try:
        with ExitStack() as stack:
            connections = Connections(requiring, stack, 2)
            assert connections.echo(patient(5)) == connections.pairs.keys()
            for agent in (client, server):
                agent.signal(signal.SIGKILL)
                agent.wait()
            capture.forget()
            assert connections.echo(patient(5)) == connections.pairs.keys()
            assert_signed(capture.settled(tcp_port(PORT)))
        capture.forget()
        assert http(requiring, f"http://[{B}]/") == "Hello from host-b\n"
        assert_signed(capture.settled(tcp_port(80)))
    finally:
        for host in ("host-a", "host-b"):
            requiring.execute(host, [*HAWKWING, "detach"])


# --- what the kernel does


def test_a_kernel_that_accepts_srhs_is_told_of(kernels: Lab, ends: Ends) -> None:
    names = [f"net/ipv6/conf/{name}/seg6_enabled" for name in ("all", "eth0")]
    for name in names:
        sysctl(kernels, "host-b", name, 1)
    try:
        server = ends.server(KEY)
        text = "eth0: the kernel accepts SRHs without a valid HMAC, too"
        server.wait_for(text)
        assert text in kernels.execute("host-b", [*HAWKWING, "status"]).stdout
        sysctl(kernels, "host-b", "net/ipv6/conf/eth0/seg6_require_hmac", REQUIRED)
        kernels.execute("host-b", [*HAWKWING, "reload", "server"])
        assert text not in kernels.execute("host-b", [*HAWKWING, "status"]).stdout
    finally:
        sysctl(kernels, "host-b", "net/ipv6/conf/eth0/seg6_require_hmac", 0)
        for name in names:
            sysctl(kernels, "host-b", name, 0)


# --- what others send


def inject(lab: Lab, packet: bytes) -> None:
    """Sends a packet to host-b on its link, as its router would."""
    interface = lab.topology.link("site-b", "host-b").interface("site-b")
    header = Ether(src=interface.hardware_address, dst=interface.peer_hardware_address, type=0x86DD)
    frame = bytes(header) + packet

    def send() -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as link:
            link.bind((interface.name, 0))
            link.send(frame)

    lab.inside("site-b", send)


def steered(source: str, srh: bytes, port: int) -> bytes:
    """A datagram to host-b at the end of its path, with this SRH; its checksum is right."""
    transport = bytes(IPv6(src=source, dst=B) / UDP(sport=port, dport=PORT) / b"forged")[40:]
    return bytes(IPv6(src=source, dst=B, nh=43, hlim=58) / Raw(srh + transport))


def at_its_end(srh: bytes) -> bytes:
    """The same with no segments left."""
    return srh[:3] + b"\0" + srh[4:]


@HOOKS
def test_an_hmac_is_good_for_its_list_and_source_only(
    kernels: Lab, ends: Ends, capture: Capture, udp: Callable[..., Endpoint], hook: str
) -> None:
    """A packet captured before is sent again, with changes."""
    ends.server(KEY, options=["--ingress-hook", hook])
    ends.client(KEY)
    near, far = udp("host-a"), udp("host-b", PORT)
    with checking(kernels, routers(kernels), policy=IGNORED):
        capture.forget()
        near.socket.sendto(b"ping", (B, PORT))
        assert far.socket.recv(100) == b"ping"
        (seen,) = capture.settled(udp_port(PORT, "site-b-host-b"))
    srh = srh_of(seen)
    tlv = srh[-LENGTH:]
    assert srh == at_its_end(signed(IPv6Address(A), srh_without_tlv(UPPER), KEY))

    # The control. An HMAC has no time and no number, so an old packet is as good as a new one.
    inject(kernels, steered(A, srh, 40000))
    assert far.socket.recv(100) == b"forged"
    flows = status(kernels)["flows"]["count"]
    assert flows == 2

    def other(sids: Sequence[str]) -> bytes:
        return at_its_end(with_tlv(srh_without_tlv(sids), KEY.number)[:-LENGTH] + tlv)

    def changed_from(before: dict[str, int]) -> Callable[[], bool]:
        return lambda: counted(kernels) != before

    unsigned = at_its_end(srh_without_tlv(UPPER))
    cases = {
        "another list": (A, other([R1, R3, R5, R6]), "HMAC_WRONG"),
        "a shorter list": (A, other([R2, R4, R6]), "HMAC_WRONG"),
        "another order": (A, other(UPPER[::-1]), "HMAC_WRONG"),
        "another source": (C, srh, "HMAC_WRONG"),
        "another flag": (A, srh[:5] + bytes([FLAG | 0x20]) + srh[6:], "HMAC_WRONG"),
        "no HMAC in the TLV": (A, srh[:-32] + bytes(32), "HMAC_WRONG"),
        "half of the HMAC": (A, srh[:-16] + bytes(16), "HMAC_WRONG"),
        "the last byte": (A, srh[:-1] + bytes([srh[-1] ^ 1]), "HMAC_WRONG"),
        "an unknown key": (A, srh[:-36] + (9).to_bytes(4, "big") + srh[-32:], "HMAC_MISSING"),
        "no flag": (A, srh[:5] + b"\0" + srh[6:], "HMAC_MISSING"),
        "no TLV": (A, unsigned[:5] + bytes([FLAG]) + unsigned[6:], "HMAC_MISSING"),
        "not signed": (A, unsigned, "HMAC_MISSING"),
    }
    for port, (name, (source, forged, reason)) in enumerate(cases.items(), 40001):
        before = counted(kernels)
        inject(kernels, steered(source, forged, port))
        wait_until(changed_from(before), 5, f"{name} to be counted")
        assert counted(kernels) == {**before, reason: before.get(reason, 0) + 1}, name
        assert arrives(far) is None, name
    assert status(kernels)["flows"]["count"] == flows
