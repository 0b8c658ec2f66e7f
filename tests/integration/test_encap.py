"""Encapsulation on the wire: equal to the kernel's, with routers at the far end, with IPv4, of all sizes."""

import hashlib
import json
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrSegmentRouting
from scapy.packet import Packet

from lab.network import Lab
from lab.wait import patient, wait_until
from lab.wire import Capture, Filter

from .conftest import HAWKWING, Agents, Endpoint, checksums_for_vpp, on_vpp, said, sysctl
from .onwire import LOWER_WAY, R1, R2, R3, R4, R5, R6, UPPER_WAY, A, B
from .test_several_paths import black_hole

PORT = 5000
DECAP6, DECAP4, BACK4 = "fcbb:bb00:6::d6", "fcbb:cc00:2::d4", "fcbb:cc00:1::d4"
"""At vpp6 for IPv6, at both hosts for IPv4."""
A4, B4 = "192.0.2.1", "192.0.2.10"
UPPER, LOWER = [R1, R2, R4], [R1, R3, R5, R6]
PATH_MTU = 1400
UDP_SEGMENT = 103


def config(sids: Sequence[str], *, to: str = f"ipv6_addresses: ['{B}']", decap: str = DECAP6) -> str:
    listed = ", ".join(f"'{sid}'" for sid in sids)
    head = f"services:\n  b:\n    {to}\n    mode: encap\n    decap_sid: '{decap}'\n    applications:\n"
    return head + f"      - {{port: {PORT}, sid: [{listed}]}}\n      - {{port: 80, sid: [{listed}]}}\n"


@contextmanager
def route(lab: Lab, node: str, *words: str) -> Iterator[None]:
    """A route for the time of the block; skips where the machine's `ip` does not know such."""
    added = lab.execute(node, ["ip", *words[:1], "route", "add", *words[1:]], check=False)
    if added.returncode:
        pytest.skip(f"ip has no such route: {added.stderr.strip()}")
    try:
        yield
    finally:
        lab.execute(node, ["ip", *words[:1], "route", "del", *words[1:]])


@pytest.fixture
def ends(lab: Lab) -> Iterator[Lab]:
    """vpp6 takes the outer header off and forwards what was in it by its own table."""
    if on_vpp(lab):
        with _decap_of_vpp(lab):
            yield lab
        return
    local = ("encap", "seg6local", "action", "End.DT6", "table", "main", "dev", "site-b")
    with route(lab, "vpp6", "-6", f"{DECAP6}/128", *local):
        yield lab


@contextmanager
def _decap_of_vpp(lab: Lab) -> Iterator[None]:
    kind = lab.kind("vpp6")
    with ExitStack() as stack:
        stack.enter_context(checksums_for_vpp(lab))
        assert kind.execute(f"sr localsid address {DECAP6} behavior end.dt6 0") == (0, "")
        stack.callback(kind.execute, f"sr localsid del address {DECAP6}")
        yield


def gateway(lab: Lab, host: str) -> str:
    return str(lab.topology.host(host).interface.peer_address.ip)


def on_first_link(capture: Capture) -> list[Packet]:
    """What host-a has sent to port 5000, plain or not, from its IPv6 header on."""
    seen = [one for one in capture.settled(Filter(link="host-a-site-a")) if one.sender == "host-a"]
    return [one for one in seen if UDP in one and one[UDP].dport == PORT]


@pytest.mark.parametrize("sids", [[], [R1], UPPER, [*UPPER, R6, R5]], ids=len)
def test_byte_for_byte_as_the_kernel_does(
    ends: Lab, agents: Agents, capture: Capture, udp: Callable[..., Endpoint], sids: list[str]
) -> None:
    sender = udp("host-a").socket
    udp("host-b", PORT)
    segments = ",".join([*sids, DECAP6])
    kernels = ("encap", "seg6", "mode", "encap.red", "segs", segments, "via", gateway(ends, "host-a"))
    sysctl(ends, "host-a", "net/ipv6/conf/eth0/seg6_enabled", 1)
    with route(ends, "host-a", "-6", f"{B}/128", *kernels, "dev", "eth0"):
        sender.sendto(b"hello", (B, PORT))
        (theirs,) = on_first_link(capture)
    agents.client(config(sids) if sids else config([DECAP6]).replace(f"    decap_sid: '{DECAP6}'\n", ""))
    capture.forget()
    sender.sendto(b"hello", (B, PORT))
    (ours,) = on_first_link(capture)
    assert (IPv6ExtHdrSegmentRouting in ours) == bool(sids), "one SID needs no SRH"
    assert bytes(ours[IPv6]) == bytes(theirs[IPv6])


def test_the_far_end_needs_no_agent(
    ends: Lab, agents: Agents, capture: Capture, udp: Callable[..., Endpoint]
) -> None:
    """By the upper branch to vpp6, from there as it was; the answer as host-b's own routes say."""
    here, there = udp("host-a").socket, udp("host-b", PORT).socket
    agents.client(config(UPPER))
    capture.forget()
    here.sendto(b"hello", (B, PORT))
    data, address = there.recvfrom(100)
    assert data == b"hello" and address[0] == A
    there.sendto(b"answer", address)
    assert here.recv(100) == b"answer"
    seen = [one for one in capture.settled(Filter()) if UDP in one and one[UDP].dport == PORT]
    links = [link for link, _destination, _left in UPPER_WAY]
    assert [one.link for one in seen] == links
    for one, (link, destination, left) in zip(seen, UPPER_WAY, strict=True):
        inner = one[IPv6:2] if link not in ("vpp6-site-b", "site-b-host-b") else one[IPv6]
        assert (inner.src, inner.dst) == (A, B)
        if link in ("vpp6-site-b", "site-b-host-b"):
            assert IPv6ExtHdrSegmentRouting not in one
            continue
        expected = DECAP6 if destination == R6 else destination
        assert (one[IPv6].src, one[IPv6].dst) == (A, expected)
        srh = one[IPv6ExtHdrSegmentRouting]
        assert srh.addresses == [DECAP6, R4, R2] and srh.segleft == left - 1
    answers = [one for one in capture.packets() if UDP in one and one[UDP].sport == PORT]
    assert answers and not any(IPv6ExtHdrSegmentRouting in one for one in answers)
    assert "encapsulated" in said(ends, "explain", B, str(PORT))
    assert "2 probes sent, 2 came back" in said(ends, "ping", B, str(PORT), "--count", "2")
    assert ", encapsulated" in said(ends, "status")


def test_other_ports_are_left_alone(
    ends: Lab, agents: Agents, capture: Capture, udp: Callable[..., Endpoint]
) -> None:
    """The control."""
    sender = udp("host-a").socket
    agents.client(config(UPPER))
    capture.forget()
    sender.sendto(b"hello", (B, PORT + 1))
    seen = [one for one in capture.settled(Filter()) if UDP in one and one[IPv6].src == A]
    assert seen and all((one[IPv6].dst, one[UDP].dport) == (B, PORT + 1) for one in seen)


@contextmanager
def ipv4_addresses(lab: Lab) -> Iterator[None]:
    """IPv4 addresses at both hosts."""
    with ExitStack() as stack:
        for host, own in (("host-a", A4), ("host-b", B4)):
            lab.execute(host, ["ip", "addr", "add", f"{own}/32", "dev", "lo"])
            stack.callback(lab.execute, host, ["ip", "addr", "del", f"{own}/32", "dev", "lo"])
        yield


@contextmanager
def ipv4(lab: Lab) -> Iterator[None]:
    """IPv4 addresses and routes at both hosts, and at host-b a way back: the routers know no IPv4."""
    with ipv4_addresses(lab), ExitStack() as stack:
        for host, own, other in (("host-a", A4, B4), ("host-b", B4, A4)):
            sid = BACK4 if host == "host-a" else DECAP4
            decap = ("encap", "seg6local", "action", "End.DX4", "nh4", own, "dev", "eth0")
            stack.enter_context(route(lab, host, "-6", f"{sid}/128", *decap))
            sysctl(lab, host, "net/ipv6/conf/eth0/seg6_enabled", 1)
            if host == "host-a":
                via = ("via", "inet6", gateway(lab, host))
                stack.enter_context(route(lab, host, "-4", f"{other}/32", *via, "dev", "eth0", "src", own))
        back = ("encap", "seg6", "mode", "encap", "segs", f"{R6},{R4},{BACK4}", "dev", "eth0", "src", B4)
        sysctl(lab, "host-b", "net/ipv6/conf/all/seg6_enabled", 1)
        stack.enter_context(route(lab, "host-b", "-4", f"{A4}/32", *back))
        yield


def ipv4_config(sids: Sequence[str]) -> str:
    return config(sids, to=f"ipv4_addresses: ['{B4}']", decap=DECAP4)


def test_a_service_of_ipv4(ends: Lab, agents: Agents, capture: Capture) -> None:
    with ipv4(ends), ExitStack() as stack:
        here, there = (
            stack.enter_context(ends.inside(host, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)))
            for host in ("host-a", "host-b")
        )
        for one, address in ((here, (A4, 0)), (there, (B4, PORT))):
            one.settimeout(patient(5))
            one.bind(address)
        agents.client(ipv4_config(UPPER))
        capture.forget()
        here.sendto(b"hello", (B4, PORT))
        data, address = there.recvfrom(100)
        there.sendto(b"answer", address)
        assert (data, here.recv(100)) == (b"hello", b"answer")
        seen = [one for one in capture.settled(Filter()) if UDP in one and one[UDP].dport == PORT]
        assert [one.link for one in seen] == [link for link, _destination, _left in UPPER_WAY]
        for one in seen:
            assert (one[IP].src, one[IP].dst, one[IP].ttl) == (A4, B4, 64), "no router has seen it"
            assert one[IPv6].src == A
            srh = one[IPv6ExtHdrSegmentRouting]
            assert srh.addresses == [DECAP4, R4, R2] and srh.nh == 4
        (binding,) = [
            one for one in json.loads(said(ends, "status", "--json"))[0]["bindings"] if one["port"] == PORT
        ]
        assert (binding["address"], binding["mode"]) == (B4, "encap")
        assert f"packets to {B4}:{PORT} (service b) use" in said(ends, "explain", B4, str(PORT))


SIZES = [1, 1200, 1300, 1372, 1400, 1452, 1460, 2000, 9000, 60000]


@contextmanager
def narrow(lab: Lab, mtu: int) -> Iterator[None]:
    """A link inside the path carries less than the hosts' links."""
    both = (("vpp2", "vpp4"), ("vpp4", "vpp2"))
    for end in both:
        lab.set_mtu(*end, mtu)
    try:
        yield
    finally:
        for end in both:
            lab.set_mtu(*end, 1500)
        for host in ("host-a", "host-b"):
            for family in ("-6", "-4"):
                lab.execute(host, ["ip", family, "route", "flush", "cache"])


@pytest.mark.parametrize("mtu", [1500, PATH_MTU])
@pytest.mark.parametrize("family", [socket.AF_INET6, socket.AF_INET], ids=["ipv6", "ipv4"])
def test_all_sizes(ends: Lab, agents: Agents, capture: Capture, family: int, mtu: int) -> None:
    """Datagrams arrive once the stack knows the path MTU, and streams whatever it knows."""
    here, there = (A, B) if family == socket.AF_INET6 else (A4, B4)
    with ExitStack() as stack:
        stack.enter_context(narrow(ends, mtu))
        if family == socket.AF_INET:
            stack.enter_context(ipv4(ends))
            agents.client(ipv4_config(UPPER))
        else:
            agents.client(config(UPPER))

        def made(host: str, kind: int, address: str, port: int) -> socket.socket:
            def make() -> socket.socket:
                one = socket.socket(family, kind)
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                one.settimeout(patient(2))
                one.bind((address, port))
                return one

            return stack.enter_context(ends.inside(host, make))

        receiver, sender = (
            made("host-b", socket.SOCK_DGRAM, there, PORT),
            made("host-a", socket.SOCK_DGRAM, here, 0),
        )
        for size in SIZES:
            _until_it_arrives(sender, receiver, (there, PORT), size)
        if not on_vpp(ends):
            # No kernel cuts these behind an SRH or an outer header where the device can't sum.
            sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1000)
            sender.sendto(bytes(range(250)) * 20, (there, PORT))
            assert [len(receiver.recv(65535)) for _ in range(5)] == [1000] * 5
        listening = made("host-b", socket.SOCK_STREAM, there, PORT)
        listening.listen()
        connecting = made("host-a", socket.SOCK_STREAM, here, 0)
        connecting.settimeout(patient(20))
        connecting.connect((there, PORT))
        accepted = stack.enter_context(listening.accept()[0])
        accepted.settimeout(patient(20))
        sent = bytes(range(256)) * 4096
        _exchange(connecting, accepted, sent)
    packets = [one for one in capture.packets() if one.link == "vpp1-vpp2" and one[IPv6].src == A]
    assert packets and all(IPv6ExtHdrSegmentRouting in one for one in packets)


def _until_it_arrives(sender: socket.socket, receiver: socket.socket, to: tuple[str, int], size: int) -> None:
    """The first one of a size may tell the stack what the path carries."""
    data = hashlib.shake_128(str(size).encode()).digest(size)
    for _ in range(5):
        try:
            sender.sendto(data, to)
        except OSError:
            continue
        try:
            assert receiver.recv(65535) == data
        except TimeoutError:
            continue
        return
    raise AssertionError(f"no datagram of {size} bytes has arrived")


def _exchange(one: socket.socket, other: socket.socket, data: bytes) -> None:
    """A mebibyte to the other end; half of it is in flight at any time at most."""
    step = 65536
    for at in range(0, len(data), step):
        one.sendall(data[at : at + step])
        got = b""
        while len(got) < step:
            got += other.recv(step - len(got))
        assert got == data[at : at + step]


def test_probes_find_a_dead_path(
    ends: Lab, agents: Agents, capture: Capture, udp: Callable[..., Endpoint]
) -> None:
    """They return before the SID that removes the outer header."""
    if on_vpp(ends):
        pytest.skip("VPP's routers have no black holes here")
    paths = ", ".join(
        f"{{sid: [{', '.join(repr(sid) for sid in sids)}], preference: {preference}}}"
        for sids, preference in (([*UPPER, R6], 200), (LOWER, 100))
    )
    text = f"services:\n  b:\n    ipv6_addresses: ['{B}']\n    mode: encap\n    decap_sid: '{DECAP6}'\n"
    text += f"    applications:\n      - port: {PORT}\n        paths: [{paths}]\nprobes: {{interval: 20}}\n"
    sender = udp("host-a").socket
    udp("host-b", PORT)
    agents.client(text)

    def way() -> list[str]:
        capture.forget()
        sender.sendto(b"hello", (B, PORT))
        return [one.link for one in capture.settled(Filter()) if UDP in one and one[UDP].dport == PORT]

    upper, lower = ([link for link, _destination, _left in one] for one in (UPPER_WAY, LOWER_WAY))
    wait_until(lambda: way() == upper, 10, "the upper path")
    with black_hole(ends, "vpp4", R4):
        wait_until(lambda: way() == lower, 10, "the lower path")
    wait_until(lambda: way() == upper, 10, "the upper path again")


def test_reload_changes_the_mode(
    ends: Lab, agents: Agents, capture: Capture, udp: Callable[..., Endpoint], tmp_path: Path
) -> None:
    sender = udp("host-a").socket
    udp("host-b", PORT)
    agents.server("host-b")
    agents.client(
        config([*UPPER, R6]).replace("mode: encap", "mode: insert").replace("    decap_sid", "    x-d")
    )
    file = tmp_path / "host-a-1.yaml"

    def srh() -> list[str]:
        capture.forget()
        sender.sendto(b"hello", (B, PORT))
        (packet,) = on_first_link(capture)
        return list(packet[IPv6ExtHdrSegmentRouting].addresses)

    assert srh() == [B, R6, R4, R2, R1]
    file.write_text(config(UPPER))
    ends.execute("host-a", [*HAWKWING, "reload"])
    assert srh() == [DECAP6, R4, R2]
