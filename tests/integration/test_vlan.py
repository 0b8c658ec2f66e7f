"""Frames with a VLAN tag (IEEE 802.1Q): steered, stripped and learned from like all others.

tc programs tag and untag, next to ours on the hosts and at the routers' ends of their links: the kernel's
own VLAN devices do the same with an skb, and aren't on every machine.
"""

import json
import os
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from functools import partial

import pytest
from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1Q

from hawkwing.dataplane import bpf
from lab.filters import behind, in_front, put_on, take_off
from lab.network import Lab
from lab.packets import Captured, layers, path
from lab.wire import Capture, Filter, tcp_port

from .conftest import HAWKWING, Agents, Endpoint, on_vpp
from .onwire import A, assert_each, assert_steered
from .test_sizes import config, forget_path_mtu, sids

VLAN = 100
UDP_NUMBER = 17
HOSTS = {"host-a": "site-a", "host-b": "site-b"}
_TPID, _VLAN_PUSH, _VLAN_POP = 0x8100, 18, 19
_VLAN_PRESENT = 20


def program(name: str, has_tag: int, helper: int, *arguments: int) -> int:
    """Calls a helper with packets that have a tag, or have none, and lets all go on; its descriptor."""
    read, skip, load, call, leave = 0x61, 0x55, 0xB7, 0x85, 0x95
    calling = [(load, number, 0, value) for number, value in enumerate(arguments, 2)]
    calling.append((call, 0, 0, helper))
    code = [(read, 0x12, _VLAN_PRESENT, 0), (skip, 2, len(calling), has_tag), *calling]
    code += [(load, 0, 0, -1), (leave, 0, 0, 0)]
    return bpf.load_program(name, b"".join(struct.pack("=BBhi", *one) for one in code))


@contextmanager
def tagged(lab: Lab, host: str, router: str) -> Iterator[None]:
    """All frames between a host with an agent and its router are tagged, as our programs see them too."""
    push = program("push", 0, _VLAN_PUSH, socket.htons(_TPID), VLAN)
    pop = program("pop", 1, _VLAN_POP)
    interface = lab.topology.nodes[router].interface_to(host).name
    with ExitStack() as stack:
        stack.callback(os.close, push)
        stack.callback(os.close, pop)
        lab.inside(router, partial(put_on, {"egress": push, "ingress": pop}, interface))
        stack.callback(lab.inside, router, partial(take_off, interface))
        stack.enter_context(in_front(lab, host, "egress", push))
        stack.enter_context(behind(lab, host, "ingress", pop))
        yield


@pytest.fixture
def trunk(lab: Lab, agents: Agents) -> Iterator[Capture]:
    """Client and server with tagged links; captures on these, from the first tagged frame on."""
    if on_vpp(lab):
        pytest.skip("VPP takes frames from a packet socket, which has them before a tc program untags them")
    agents.server("host-b")
    agents.client(config(sids(3), 80))
    links = [lab.topology.link(host, router) for host, router in HOSTS.items()]
    with ExitStack() as stack:
        for host, router in HOSTS.items():
            stack.enter_context(tagged(lab, host, router))
        yield stack.enter_context(closing(Capture(lab.topology, lab.namespace, links)))


def counted(lab: Lab, host: str, direction: str, reason: str) -> int:
    """Packets that an agent has counted."""
    agent = json.loads(lab.execute(host, [*HAWKWING, "status", "--json"]).stdout)[0]
    return int(agent["counters"][direction].get(reason, {"packets": 0})["packets"])


def assert_tagged(packets: list[Captured], sids: list[str]) -> None:
    """All of them are tagged and have the SRH of the path, those of host-b in reverse."""
    assert_steered(packets)
    for packet in packets:
        assert [type(layer) for layer in layers(packet)][:3] == [Captured, Dot1Q, IPv6], packet
        assert packet[Dot1Q].vlan == VLAN, packet
        assert path(packet) == (sids if packet[IPv6].src == A else sids[::-1]), packet


@pytest.mark.parametrize("size", [1, 1300, 1404, 1452, 20000])
def test_tagged_datagrams(lab: Lab, trunk: Capture, udp: Callable[..., Endpoint], size: int) -> None:
    near, far = udp("host-a"), udp("host-b", 5000)
    forget_path_mtu(lab)
    data = bytes(number % 251 for number in range(size))
    for _ in range(3):
        near.socket.sendto(data, (str(far.address), 5000))
        got, peer = far.socket.recvfrom(70000)
        assert got == data
        far.socket.sendto(data, peer)
        assert near.socket.recvfrom(70000)[0] == data
    assert_tagged(trunk.packets(Filter(UDP_NUMBER)), sids(3))
    assert counted(lab, "host-b", "ingress", "STRIPPED") >= 3
    assert counted(lab, "host-a", "ingress", "STRIPPED") >= 3


def test_tagged_streams(lab: Lab, trunk: Capture) -> None:
    """Segmentation offload with a tag beside it: some of them have not been cut yet."""
    result = lab.execute(
        "host-a", ["sh", "-c", "curl -sS -m 20 http://[fcbb:cc00:2::a]/bytes/3000000 | wc -c"]
    )
    assert result.stdout.strip() == "3000000"
    frames = trunk.frames(tcp_port(80))
    assert any(frame.length > 1518 for frame in frames)
    assert trunk.count(replace(tcp_port(80), steered=False)) == 0
    # The beginning and the end: there are thousands of them.
    assert_tagged([frame.packet for frame in (*frames[:100], *frames[-100:])], sids(3))


def test_without_a_path_there_is_only_the_tag(lab: Lab, trunk: Capture, udp: Callable[..., Endpoint]) -> None:
    near, far = udp("host-a"), udp("host-b", 5001)
    near.socket.sendto(b"x", (str(far.address), 5001))
    assert far.socket.recvfrom(10)[0] == b"x"
    packets = trunk.settled(Filter(UDP_NUMBER))
    assert [packet[Dot1Q].vlan for packet in packets] == [VLAN] * 2
    assert_each(packets, IPv6(src=A, dst=str(far.address)) / UDP(sport=near.port, dport=5001) / b"x")
