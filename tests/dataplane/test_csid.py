"""Compressed SIDs (RFC 9800): what a server answers to lists with containers."""

from collections.abc import Iterator
from ipaddress import IPv6Address, IPv6Network

import pytest

from hawkwing.csid import Block
from tests import csid
from tests.dataplane import packets as p
from tests.dataplane.packets import steered
from tests.dataplane.scene import HOST_A, HOST_B, Host
from tests.dataplane.test_learning import learn, reply, request

BLOCK = Block(IPv6Network("fcbb:bb00::/32"))
SHORT, LONG = Block(IPv6Network("5f00::/16")), Block(IPv6Network("fcbb:cc00:77::/48"), 0xF000)


def addresses(*texts: str) -> list[IPv6Address]:
    return [IPv6Address(text) for text in texts]


@pytest.fixture
def packed(server: Host) -> Iterator[Host]:
    """A server that knows three blocks."""
    server.bench.plane.set_csid([BLOCK, SHORT, LONG])
    yield server
    server.bench.plane.set_csid([])


LISTS = [
    (["fcbb:bb00:1:2:4:6::"], ["fcbb:bb00:6:4:2:1::"]),
    (["fcbb:bb00:1::"], ["fcbb:bb00:1::"]),
    (["fcbb:bb00:1:2:3:4:5:6"], ["fcbb:bb00:6:5:4:3:2:1"]),
    (["fcbb:bb00:1:2:3:4:5:6", "fcbb:bb00:7:8::"], ["fcbb:bb00:8:7::", "fcbb:bb00:6:5:4:3:2:1"]),
    (
        ["fcbb:aa00:1::2", "fcbb:bb00:1:2::", "fcbb:aa00:2::2"],
        ["fcbb:aa00:2::2", "fcbb:bb00:2:1::", "fcbb:aa00:1::2"],
    ),
    (["5f00:1:2:3:4:5:6:7", "5f00:8:9::"], ["5f00:9:8::", "5f00:7:6:5:4:3:2:1"]),
    (["fcbb:cc00:77:1:e001::"], ["fcbb:cc00:77:e001:1::"]),
    # No containers: a gap, another block, the block alone.
    (["fcbb:bb00:1::2", "fcbb:bb00:0:2::"], ["fcbb:bb00:0:2::", "fcbb:bb00:1::2"]),
    (["fcbb:bb00:1:0:2::", "fcbb:bb01:1:2::"], ["fcbb:bb01:1:2::", "fcbb:bb00:1:0:2::"]),
    (["fcbb:bb00::"], ["fcbb:bb00::"]),
    (
        [f"fcbb:bb00:{n:x}:{n + 1:x}::" for n in range(1, 16)],
        [f"fcbb:bb00:{n + 1:x}:{n:x}::" for n in range(15, 0, -1)],
    ),
]


@pytest.mark.parametrize(("there", "back"), LISTS)
def test_the_way_back(packed: Host, there: list[str], back: list[str]) -> None:
    assert csid.back(addresses(*there), [BLOCK, SHORT, LONG]) == tuple(addresses(*back))
    packet = request(addresses(*there))
    learn(packed, packet, "LEARNED")
    answer = reply()
    packed.bench.expect("egress", answer, "STEERED", out=steered(answer, addresses(*back)))
    # Known, and after the second one in the flow cache, too: the very same packet is not learned again.
    for _ in range(3):
        learn(packed, packet)
    packed.bench.expect("egress", answer, "STEERED", out=steered(answer, addresses(*back)))


def test_without_a_block_there_are_no_containers(server: Host) -> None:
    there = addresses("fcbb:bb00:1:2:4::", "fcbb:bb00:6::")
    learn(server, request(there), "LEARNED")
    answer = reply()
    server.bench.expect("egress", answer, "STEERED", out=steered(answer, there[::-1]))


def test_a_block_that_comes_later_counts_for_flows_that_are_known(server: Host) -> None:
    packet, answer = request(addresses("fcbb:bb00:1:2::")), reply()
    learn(server, packet, "LEARNED")
    for _ in range(3):
        learn(server, packet)
    server.bench.plane.set_csid([BLOCK])
    learn(server, packet, "LEARNED")
    out = steered(answer, addresses("fcbb:bb00:2:1::"))
    server.bench.expect("egress", answer, "STEERED", out=out)
    server.bench.plane.set_csid([])
    learn(server, packet, "LEARNED")
    server.bench.expect("egress", answer, "STEERED", out=steered(answer, addresses("fcbb:bb00:1:2::")))


def test_a_flow_whose_containers_change_their_order(packed: Host) -> None:
    one, other = request(addresses("fcbb:bb00:1:2::")), request(addresses("fcbb:bb00:2:1::"))
    answer = reply()
    for packet, back in ((one, "fcbb:bb00:2:1::"), (other, "fcbb:bb00:1:2::"), (one, "fcbb:bb00:2:1::")):
        learn(packed, packet, "LEARNED")
        for _ in range(3):
            learn(packed, packet)
        packed.bench.expect("egress", answer, "STEERED", out=steered(answer, addresses(back)))


@pytest.mark.parametrize("container", ["fcbb:bb00:1:e000:2::", "fcbb:bb00:ffff::", "fcbb:cc00:77:1:f000::"])
def test_csids_of_links_have_no_way_back(packed: Host, container: str) -> None:
    packet = request(addresses("fcbb:bb00:1::", container))
    learn(packed, packet, "ONE_WAY_SID")
    packed.bench.expect("egress", reply(), "NO_FLOW")


def test_a_csid_below_those_of_links(packed: Host) -> None:
    learn(packed, request(addresses("fcbb:bb00:dfff:1::")), "LEARNED")
    answer = reply()
    out = steered(answer, addresses("fcbb:bb00:1:dfff::"))
    packed.bench.expect("egress", answer, "STEERED", out=out)


def test_each_byte_of_the_reply(packed: Host) -> None:
    """in: IPv6(A, B) SRH(B, C; SL=0), C of four C-SIDs   out: IPv6(B, C') SRH(A, C'; SL=1), C' reversed."""
    learn(packed, request(addresses("fcbb:bb00:1:2:4:6::"), p.TCP), "LEARNED")
    answer = reply(p.TCP)
    sent = packed.bench.run("egress", answer).packet
    container = bytes.fromhex("fcbbbb00000600040002000100000000")
    length = int.from_bytes(answer[18:20], "big") + 40
    assert sent == (
        answer[:18]
        + length.to_bytes(2, "big")
        + bytes([p.ROUTING])
        + answer[21:22]
        + HOST_B.packed
        + container
        + bytes([p.TCP, 4, 4, 1, 1, 0, 0, 0])
        + HOST_A.packed
        + container
        + answer[54:]
    )
