"""What the stack and its sockets learn of the MTU: it is kept by destination, not by path."""

import errno
import socket
import struct
from collections.abc import Callable, Iterator

import pytest
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop, IPv6ExtHdrSegmentRouting
from scapy.packet import Packet

from lab.linux.large import forwards_large
from lab.network import Lab
from lab.wait import wait_until
from lab.wire import Capture, Filter

from .conftest import Agents, Endpoint, on_vpp
from .onwire import A, B, assert_steered
from .test_sizes import UDP_NUMBER, forget_path_mtu, route, sids, streams

FITS = 1500 - 48 - 56
"""Bytes of a datagram that fits with two SIDs; a third one takes 16 more."""
MTU_DISCOVER, RECEIVE_ERRORS, DONTFRAG = 23, 25, 62
DONT, WANT, DO, PROBE = range(4)


def two_applications() -> str:
    """Port 5000 of host-b over three SIDs, port 5001 over two."""
    head = f"services:\n  b:\n    ipv6_addresses: [{B}]\n    applications:\n"
    return head + "".join(
        f"      - {{port: {port}, sid: [{', '.join(sids(count))}]}}\n"
        for port, count in ((5000, 3), (5001, 2))
    )


@pytest.fixture
def pair(lab: Lab, agents: Agents, udp: Callable[..., Endpoint]) -> Iterator[tuple[socket.socket, Endpoint]]:
    """A socket in host-a, and one in host-b with port 5001; the stack knows nothing of the way."""
    agents.server("host-b")
    agents.client(two_applications())
    near, far = udp("host-a"), udp("host-b", 5001)
    forget_path_mtu(lab)
    yield near.socket, far
    forget_path_mtu(lab)


def fragments(packets: list[Packet]) -> int:
    """How many of these are fragments."""
    return sum(IPv6ExtHdrFragment in packet for packet in packets)


def test_one_application_changes_nothing_for_another(
    lab: Lab, pair: tuple[socket.socket, Endpoint], udp: Callable[..., Endpoint]
) -> None:
    near, far = pair
    other = udp("host-b", 5000)
    first = [lab.topology.link("host-a", "site-a")]
    with Capture(lab.topology, lab.namespace, first) as capture:
        for number in range(20):
            # Too large with three SIDs: two fragments, and no word to the stack.
            near.sendto(bytes([number]) * 1452, (B, 5000))
            data, peer = other.socket.recvfrom(2000)
            other.socket.sendto(data, peer)
            assert near.recv(2000) == data == bytes([number]) * 1452
        assert_steered(packets := capture.settled(Filter(UDP_NUMBER)))
        assert fragments(packets) == len(packets) == 80
        assert "mtu" not in route(lab, "host-a", B) and "mtu" not in route(lab, "host-b", A)
        for size, pieces in ((FITS, 1), (FITS + 1, 2)):
            capture.forget()
            near.sendto(bytes(size), (B, 5001))
            assert len(far.socket.recv(2000)) == size
            assert_steered(packets := capture.settled(Filter(UDP_NUMBER)))
            assert (len(packets), fragments(packets)) == (pieces, pieces if pieces > 1 else 0)


def test_larger_datagrams_are_cut_to_fit_by_the_stack(lab: Lab, pair: tuple[socket.socket, Endpoint]) -> None:
    """It cuts them anyway: told once, into as few pieces as can be."""
    near, far = pair
    first = [lab.topology.link("host-a", "site-a")]
    near.connect((B, 5001))
    with Capture(lab.topology, lab.namespace, first) as capture:
        counts = []
        for _ in range(3):
            capture.forget()
            near.send(bytes(14000))
            assert len(far.socket.recv(20000)) == 14000
            assert_steered(packets := capture.settled(Filter(UDP_NUMBER)))
            counts.append(len(packets))
    assert "mtu 1444" in route(lab, "host-a", B)
    assert counts[0] > counts[1] == counts[2] == -(-14008 // (1444 - 48)), counts


@pytest.mark.parametrize("option", [(MTU_DISCOVER, DO), (MTU_DISCOVER, PROBE), (DONTFRAG, 1)])
def test_a_socket_that_forbids_fragments_finds_the_size(
    lab: Lab, pair: tuple[socket.socket, Endpoint], option: tuple[int, int]
) -> None:
    """As QUIC does (RFC 9000, section 14.3; RFC 8899): what doesn't fit as a whole doesn't arrive."""
    near, far = pair
    near.setsockopt(socket.IPPROTO_IPV6, *option)
    near.setsockopt(socket.IPPROTO_IPV6, RECEIVE_ERRORS, 1)
    near.connect((B, 5001))
    far.socket.settimeout(0.3)
    first = [lab.topology.link("host-a", "site-a")]

    def arrives(size: int) -> bool:
        try:
            near.send(bytes(size))
            return len(far.socket.recv(2000)) == size
        except TimeoutError:
            return False
        except OSError as error:
            assert error.errno == errno.EMSGSIZE
            return False

    with Capture(lab.topology, lab.namespace, first) as capture:
        assert not arrives(1452)
        low, high = 1200, 1453
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if arrives(middle) or arrives(middle) else (low, middle)
        assert low == FITS
        assert_steered(packets := capture.settled(Filter(UDP_NUMBER)))
        assert fragments(packets) == 0
    told = near.recvmsg(2000, 512, socket.MSG_ERRQUEUE)[1]
    (number, _origin, _type, _code, _pad, size) = struct.unpack_from("=IBBBBI", told[0][2])
    assert (number, size) == (errno.EMSGSIZE, 1444)


@pytest.mark.parametrize("value", [DONT, WANT])
def test_others_lose_nothing(pair: tuple[socket.socket, Endpoint], value: int) -> None:
    near, far = pair
    near.setsockopt(socket.IPPROTO_IPV6, MTU_DISCOVER, value)
    near.connect((B, 5001))
    for size in (1452, FITS + 1, FITS, 1452):
        near.send(bytes(size))
        assert len(far.socket.recv(2000)) == size


def jumbo(packet: Packet) -> int | None:
    """What its Jumbo Payload option says, if it has one."""
    header = packet.getlayer(IPv6ExtHdrHopByHop)
    found = [one.jumboplen for one in header.options if one.otype == 0xC2] if header is not None else []
    return found[0] if found else None


def test_jumbograms_of_tcp_segmentation(lab: Lab, agents: Agents) -> None:
    """BIG TCP: packets of more than 65,535 bytes between stack and device; all that they carry arrives."""
    if on_vpp(lab) or not forwards_large():
        pytest.skip("these routers forward no large packets with an SRH")
    most = "gso_max_size 150000 gro_max_size 150000"
    if lab.execute("host-a", ["sh", "-c", f"ip link set eth0 {most}"], check=False).returncode:
        pytest.skip("this kernel or this ip has no BIG TCP")
    try:
        agents.server("host-b")
        agents.client(two_applications().replace("5001", "80"))
        with Capture(lab.topology, lab.namespace, [lab.topology.link("host-a", "site-a")]) as capture:
            streams(lab, 3_000_000)
            sent = capture.settled(Filter(6))
        assert_steered(sent)
        large = [packet for packet in sent if packet.length - 14 - 40 > 65535]
        if not large:
            pytest.skip("this kernel made no packet of more than 65,535 bytes")
        for packet in large:
            assert packet[IPv6].plen == 0 and IPv6ExtHdrSegmentRouting in packet
            if jumbo(packet) is not None:
                assert jumbo(packet) == packet.length - 14 - 40
    finally:
        lab.execute("host-a", ["sh", "-c", "ip link set eth0 gso_max_size 65536 gro_max_size 65536"])


def test_the_stack_is_told_again_after_it_forgot(lab: Lab, pair: tuple[socket.socket, Endpoint]) -> None:
    near, far = pair
    near.setsockopt(socket.IPPROTO_IPV6, MTU_DISCOVER, DO)
    for _ in range(2):
        near.sendto(bytes(1452), (B, 5001))
        wait_until(lambda: "mtu 1444" in route(lab, "host-a", B), 5.0, "the stack to know the path's MTU")
        near.sendto(bytes(FITS), (B, 5001))
        assert len(far.socket.recv(2000)) == FITS
        forget_path_mtu(lab)
