"""Packets of every kind: what is not ours passes untouched, what is ours survives whole."""

import os
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrRouting, IPv6ExtHdrSegmentRouting
from scapy.packet import Packet

from hawkwing.dataplane import bpf
from lab.filters import in_front
from lab.network import Lab
from lab.packets import assert_same, path
from lab.wait import PATIENCE, wait_until
from lab.wire import Capture, Filter, udp_port

from .conftest import HAWKWING, Agents, Endpoint
from .onwire import R3, A, B, C, assert_steered
from .test_sizes import config, forget_path_mtu, sids
from .test_steering import BY_ADDRESS, http

UDP_NUMBER = 17
UDP_SEGMENT = 103
ONE_SERVICE = """
services:
  x:
    ipv6_addresses: [{addresses}]
    applications: [{{port: 5000, sid: ["fcbb:bb00:3::2"]}}]
"""


def raw_socket(lab: Lab, host: str) -> socket.socket:
    """Sends whole IPv6 packets out of a host, as they are."""

    def make() -> socket.socket:
        made = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)
        made.setsockopt(socket.IPPROTO_IPV6, 36, 1)  # IPV6_HDRINCL
        return made

    return lab.inside(host, make)


def over(source: str, segments: list[str], left: int = 1, **fields: int) -> Packet:
    """IPv6(source, segments[left]) SRH(segments; SL=left); other fields of the SRH by name."""
    header = IPv6ExtHdrSegmentRouting(addresses=segments, segleft=left, **fields)
    return IPv6(src=source, dst=segments[left]) / header


def send(sender: socket.socket, packet: Packet) -> None:
    """Sends a packet as it is, its destination's way."""
    sender.sendto(bytes(packet), (packet.dst, 0))


@contextmanager
def kernel_route(lab: Lab, host: str, destination: str, via: str, segments: str) -> Iterator[None]:
    """The kernel's own insertion, for packets of any protocol."""
    route = ["ip", "-6", "route", "add", f"{destination}/128", "encap", "seg6", "mode", "inline"]
    route += ["segs", segments, "via", via, "dev", "eth0"]
    lab.execute(host, route)
    try:
        yield
    finally:
        lab.execute(host, ["ip", "-6", "route", "del", f"{destination}/128"])


def test_icmpv6_with_an_srh_survives_stripping(lab: Lab, agents: Agents) -> None:
    agents.server("host-b")
    with kernel_route(lab, "host-a", B, "2001:cafe:a::1", R3):
        lab.execute("host-a", ["ping", "-c2", "-i0.1", "-W1", B])


@pytest.mark.parametrize("protocol", [50, 59, 132, 253])
def test_any_next_header_survives_stripping(lab: Lab, agents: Agents, protocol: int) -> None:
    """ESP, no next header, SCTP, experimental: the stack gets the same bytes behind IPv6."""
    agents.server("host-b")

    def listen() -> socket.socket:
        return socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x86DD))

    body = bytes(range(48))
    receiver = None
    if protocol != 59:
        receiver = lab.inside("host-b", lambda: socket.socket(socket.AF_INET6, socket.SOCK_RAW, protocol))
        receiver.settimeout(PATIENCE)
    with raw_socket(lab, "host-a") as sender:
        send(sender, over(A, [B, R3], nh=protocol) / body)
    if receiver is not None:
        assert receiver.recv(200) == body
        receiver.close()
    status = lab.execute("host-b", [*HAWKWING, "status"]).stdout
    assert "STRIPPED" in status


@contextmanager
def vouching_device(lab: Lab, host: str) -> Iterator[None]:
    """A program ahead of all others says of every packet what a card says that has verified its sum."""
    # bpf_csum_level(skb, BPF_CSUM_LEVEL_INC), return TC_ACT_UNSPEC
    code = bytes.fromhex("b702000001000000 8500000087000000 b7000000ffffffff 9500000000000000")
    program = bpf.load_program("vouch", code)

    try:
        with in_front(lab, host, "ingress", program):
            yield
    finally:
        os.close(program)


def test_what_the_device_has_verified_is_not_verified_again(
    lab: Lab, agents: Agents, udp: Callable[..., Endpoint]
) -> None:
    """A card vouches even for a wrong checksum, and the stack takes its word for it.

    Was its word lost with the SRH, a server would sum up every byte it receives.
    """
    receiver = udp("host-b", 5000)
    wrong = over(A, [B, R3]) / UDP(sport=4000, dport=5000, chksum=0xBAD)
    agents.server("host-b")
    with raw_socket(lab, "host-a") as sender:

        def heard(number: int) -> bool:
            body = b"srh-%d" % number
            send(sender, wrong / body)
            try:
                return receiver.socket.recv(100) == body
            except TimeoutError:
                return False

        with vouching_device(lab, "host-b"):
            # The first teaches, and goes the long way; the others the short one.
            assert [heard(number) for number in range(3)] == [True] * 3
        receiver.socket.settimeout(0.3)
        assert not heard(4)


def test_other_routing_types_and_segments_left_pass_untouched(
    lab: Lab, agents: Agents, capture: Capture
) -> None:
    agents.server("host-b")
    with raw_socket(lab, "host-a") as sender:
        send(sender, IPv6(src=A, dst=B) / IPv6ExtHdrRouting(type=2, addresses=[B]) / UDP())
        send(sender, over(A, [C, B]) / UDP())
    status = lab.execute("host-b", [*HAWKWING, "status"]).stdout
    assert "ROUTING_TYPE" in status and "SEGMENTS_LEFT" in status
    assert "STRIPPED" not in status


def test_forged_lists_are_not_believed(
    lab: Lab, agents: Agents, capture: Capture, udp: Callable[..., Endpoint]
) -> None:
    """From outside the SR domain an SRH is neither removed nor learned from."""
    agents.server(
        "host-b",
        "--sr-domain",
        "fcbb:cc00:1::/48",
        "--sr-domain",
        "fcbb:cc00:2::/48",
        "--sr-domain",
        "fcbb:bb00::/32",
    )
    far = udp("host-b", 5000)
    agents.client(BY_ADDRESS, "host-a")
    near = udp("host-a", 4000)
    near.socket.sendto(b"x", (B, 5000))
    _data, peer = far.socket.recvfrom(10)
    # host-c forges: first as itself, then with host-a's address but a segment outside.
    datagram = UDP(sport=4000, dport=5000)
    with raw_socket(lab, "host-c") as forger:
        send(forger, over(C, [B, R3]) / datagram)
        # The last entry is never visited by the routers, so the list arrives with segments left 0.
        send(forger, over(A, [B, R3, "fcbb:aa00:3::2"]) / datagram)
    status = lab.execute("host-b", [*HAWKWING, "status"]).stdout
    assert "UNTRUSTED" in status
    capture.forget()
    far.socket.sendto(b"y", peer)
    assert near.socket.recvfrom(10)[0] == b"y"
    replies = capture.packets(Filter(UDP_NUMBER, link="site-b-host-b"))
    assert path(replies[0]) == sids(4)[::-1], "the path of the true sender stays"
    assert "learned flows: 1 of" in lab.execute("host-b", [*HAWKWING, "status"]).stdout


DEFAULT = (
    "accepts SRHs whose SIDs are in fc00::/7 or 5f00::/16, from any source; set sr_domain to restrict them"
)


@pytest.mark.parametrize(
    ("prefixes", "said"),
    [
        ([], DEFAULT),
        (["fcbb::/16"], "accepts SRHs whose source and segments are in fcbb::/16"),
        (["::/0"], "accepts SRHs from any source with any SIDs"),
    ],
    ids=["default", "domain", "everything"],
)
def test_who_is_trusted_is_said_in_one_line(lab: Lab, agents: Agents, prefixes: list[str], said: str) -> None:
    options = [word for prefix in prefixes for word in ("--sr-domain", prefix)]
    process = agents.server("host-b", *options)
    assert process.output().count(f"hawkwing: {said}\n") == 1
    assert said in lab.execute("host-b", [*HAWKWING, "status"]).stdout


def test_sids_outside_the_default_are_not_trusted(lab: Lab, agents: Agents, capture: Capture) -> None:
    """A sender anywhere names its own address as the last SID; the replies do not go there."""
    agents.server("host-b")
    with raw_socket(lab, "host-a") as sender:
        send(sender, over(A, [B, "2001:db8:bad::1"], left=0) / UDP(sport=4000, dport=5000) / b"x")
    wait_until(
        lambda: "UNTRUSTED" in lab.execute("host-b", [*HAWKWING, "status"]).stdout,
        5.0,
        "UNTRUSTED to be counted",
    )
    assert "LEARNED" not in lab.execute("host-b", [*HAWKWING, "status"]).stdout


def test_flood_of_flows_costs_others_nothing(lab: Lab, agents: Agents, udp: Callable[..., Endpoint]) -> None:
    agents.server("host-b", "--flows", "1000")
    agents.client(BY_ADDRESS, "host-a")
    near, far = udp("host-a", 4000), udp("host-b", 5000)
    near.socket.sendto(b"x", (B, 5000))
    _data, peer = far.socket.recvfrom(10)
    # To a port where nobody listens, so that only the table is flooded.
    one = bytes(over(C, [B, R3]) / UDP(sport=0, dport=5009, chksum=1))
    with raw_socket(lab, "host-c") as flooder:
        for port in range(1024, 9024):
            flooder.sendto(one[:-8] + port.to_bytes(2, "big") + one[-6:], (R3, 0))
    assert "FLOW_REPLACED" in lab.execute("host-b", [*HAWKWING, "status"]).stdout
    # A flow that comes during the flood finds room too.
    late = udp("host-a", 4001)
    late.socket.sendto(b"x", (B, 5000))
    _data, late_peer = far.socket.recvfrom(10)
    with Capture(lab.topology, lab.namespace, [lab.topology.link("site-b", "host-b")]) as capture:
        for endpoint, address in ((near, peer), (late, late_peer)):
            far.socket.sendto(b"y", address)
            assert endpoint.socket.recvfrom(10)[0] == b"y"
        replies = capture.packets(udp_port(5000))
    assert len(replies) == 2
    assert_steered(replies)


def test_udp_segmentation_offload_is_carried(
    lab: Lab, agents: Agents, capture: Capture, udp: Callable[..., Endpoint]
) -> None:
    """What QUIC senders use: one call, many datagrams, all with the SRH."""
    agents.server("host-b")
    agents.client(config(sids(2)))
    near, far = udp("host-a"), udp("host-b", 5000)
    near.socket.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1300)
    data = bytes(i % 251 for i in range(1300 * 20))
    capture.forget()
    near.socket.sendto(data, (B, 5000))
    got = b"".join(far.socket.recvfrom(2000)[0] for _ in range(20))
    assert got == data
    assert_steered(capture.packets(Filter(UDP_NUMBER)))


def test_segments_too_large_for_the_path_are_told(
    lab: Lab, agents: Agents, capture: Capture, udp: Callable[..., Endpoint]
) -> None:
    """Segments that don't fit any more can't be cut: the sender gets the Packet Too Big it asked for."""
    agents.server("host-b")
    agents.client(config(sids(2)))
    near, far = udp("host-a"), udp("host-b", 5000)
    forget_path_mtu(lab)
    near.socket.connect((B, 5000))
    near.socket.setsockopt(socket.IPPROTO_IPV6, 25, 1)  # IPV6_RECVERR
    near.socket.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1452)
    near.socket.send(bytes(1452 * 4))
    with pytest.raises(OSError, match="too long"):
        near.socket.recv(10)
    near.socket.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1300)
    near.socket.send(bytes(1300 * 4))
    assert len(far.socket.recvfrom(2000)[0]) == 1300


def test_connection_older_than_the_agent_goes_on(lab: Lab, agents: Agents) -> None:
    """Its MSS knows nothing of the SRH: a full segment is refused with a Packet Too Big, then cut."""
    forget_path_mtu(lab)
    listener = Endpoint(lab, "host-b", socket.SOCK_STREAM, 5000)
    near = Endpoint(lab, "host-a", socket.SOCK_STREAM)
    listener.socket.listen()
    near.socket.connect((B, 5000))
    far, _peer = listener.socket.accept()
    far.settimeout(PATIENCE)
    agents.server("host-b")
    agents.client(config(sids(4)))
    near.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        for size in (1428, 300000):
            near.socket.sendall(bytes(size))
            got = 0
            while got < size:
                got += len(far.recv(65536))
        assert "TOO_BIG:" in lab.execute("host-a", [*HAWKWING, "status"]).stdout
    finally:
        for opened in (near.socket, far, listener.socket):
            opened.close()
        forget_path_mtu(lab)


def test_interface_without_ethernet(lab: Lab, agents: Agents) -> None:
    """A tun device has no link-layer header; the same programs work there."""
    script = (
        "ip tuntap add hwtun mode tun && ip link set hwtun up && ip addr add fd00:7::1/64 dev hwtun nodad"
    )
    if lab.execute("host-c", ["sh", "-c", script], check=False).returncode:
        pytest.skip("no tun devices here (CONFIG_TUN)")
    try:
        import fcntl

        def open_tun() -> int:
            fd = os.open("/dev/net/tun", os.O_RDWR)
            fcntl.ioctl(
                fd, 0x400454CA, struct.pack("16sH22x", b"hwtun", 0x1001)
            )  # TUNSETIFF, IFF_TUN | IFF_NO_PI
            return fd

        tun = lab.inside("host-c", open_tun)
        file = lab.run / "tun.yaml"
        file.write_text(ONE_SERVICE.format(addresses="'fd00:7::2'"))
        process = lab.start(
            "host-c", "tun-client", [*HAWKWING, "client", "-i", "hwtun", "--config", str(file)]
        )
        process.wait_for("ready: ")

        def send() -> None:
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as s:
                s.sendto(b"x", ("fd00:7::2", 5000))

        lab.inside("host-c", send)
        seen = b""
        while seen[6:7] != b"\x2b":
            seen = os.read(tun, 2000)
        pattern = IPv6(src="fd00:7::1", dst=R3, fl=IPv6(seen).fl)
        pattern /= IPv6ExtHdrSegmentRouting(addresses=["fd00:7::2", R3], segleft=1)
        datagram = UDP(sport=IPv6(seen)[UDP].sport, dport=5000) / b"x"
        assert_same(seen, bytes(pattern / datagram), IPv6)
        assert process.stop() == 0
        os.close(tun)
    finally:
        lab.execute("host-c", ["ip", "link", "del", "hwtun"])


def test_jumbo_frames(lab: Lab, agents: Agents, udp: Callable[..., Endpoint]) -> None:
    hops = [("host-a", "site-a"), ("site-a", "vpp1"), ("vpp1", "vpp3"), ("vpp3", "vpp5"), ("vpp5", "vpp6")]
    hops += [("vpp6", "site-b"), ("site-b", "host-b")]
    ends = [*hops, *((there, here) for here, there in hops)]
    for end in ends:
        lab.set_mtu(*end, 9000)
    try:
        agents.server("host-b")
        agents.client(config(sids(4)) + "      - port: 80\n        sid: [" + ", ".join(sids(4)) + "]\n")
        near, far = udp("host-a"), udp("host-b", 5000)
        for size in (8000, 8863, 8864, 8865, 8952, 20000):
            forget_path_mtu(lab)
            near.socket.sendto(bytes(size), (B, 5000))
            data, peer = far.socket.recvfrom(70000)
            assert len(data) == size
            far.socket.sendto(data, peer)
            assert len(near.socket.recvfrom(70000)[0]) == size
        assert http(lab, "http://[fcbb:cc00:2::a]/") == "Hello from host-b\n"
        result = lab.execute(
            "host-a", ["sh", "-c", "curl -sS -m 10 http://[fcbb:cc00:2::a]/bytes/5000000 | wc -c"]
        )
        assert result.stdout.strip() == "5000000"
    finally:
        for end in ends:
            lab.set_mtu(*end, 1500)
        forget_path_mtu(lab)


def test_several_interfaces(lab: Lab, agents: Agents) -> None:
    """Packets are steered on whichever of them they leave."""
    script = "ip link add second type veth peer name second2; "
    script += "ip link set second up && ip link set second2 up; "
    script += "ip -6 route add fd00:8::/64 dev second; "
    script += "ip -6 neigh add fd00:8::2 lladdr 02:00:00:00:00:02 dev second"
    lab.execute("host-c", ["sh", "-c", script])
    try:
        file = lab.run / "two.yaml"
        file.write_text(ONE_SERVICE.format(addresses=f"'fd00:8::2', '{B}'"))
        argv = [*HAWKWING, "client", "-i", "eth0", "-i", "second", "--config", str(file)]
        process = lab.start("host-c", "two-client", argv)
        process.wait_for("ready: ")

        def send() -> None:
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as s:
                s.sendto(b"x", ("fd00:8::2", 5000))
                s.sendto(b"x", (B, 5000))

        lab.inside("host-c", send)
        status = lab.execute("host-c", [*HAWKWING, "status", "--json"]).stdout
        import json

        assert json.loads(status)[0]["counters"]["egress"]["STEERED"]["packets"] == 2
        assert process.stop() == 0
    finally:
        lab.execute("host-c", ["ip", "link", "del", "second"])
