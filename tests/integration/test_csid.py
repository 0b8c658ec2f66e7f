"""Compressed SIDs (RFC 9800) on the wire: containers there and back over the kernel's NEXT-C-SID."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from scapy.layers.inet import TCP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrSegmentRouting

from lab.network import Lab
from lab.packets import Captured
from lab.wire import Capture, Filter

from .conftest import HAWKWING, Agents, Endpoint, on_vpp
from .onwire import UPPER_WAY, A, B
from .test_sizes import forget_path_mtu, streams
from .test_steering import http

BLOCK = "fcbb:bb00::/32"
TCP_NUMBER, UDP_NUMBER = 6, 17
UPPER = [link for link, _destination, _left in UPPER_WAY]


@pytest.fixture(autouse=True)
def containers(lab: Lab) -> None:
    """Skips where the routers know no compressed SIDs."""
    if on_vpp(lab):
        return
    routes = lab.execute("vpp1", ["ip", "-6", "route", "show", "fcbb:bb00:1::/48"]).stdout
    if "next-csid" not in routes:
        pytest.skip("this kernel, or this iproute2, has no NEXT-C-SID")


def config(sids: list[str], port: int = 80, csid: str = f"{{block: '{BLOCK}'}}") -> str:
    """One service at host-b over these SIDs."""
    listed = ", ".join(f"'{sid}'" for sid in sids)
    text = f"services:\n  b:\n    ipv6_addresses: ['{B}']\n"
    text += f"    applications: [{{port: {port}, sid: [{listed}]}}]\n"
    return text + (f"csid: {csid}\n" if csid else "")


def of_routers(*numbers: int) -> list[str]:
    """A C-SID each, as a full SID."""
    return [f"fcbb:bb00:{number}::" for number in numbers]


def seen(packets: list[Captured], source: str) -> list[tuple[str, str, int]]:
    """Link, destination and segments left of the first packet that this host sent."""
    mine = [packet for packet in packets if packet[IPv6].src == source]
    first: dict[str, tuple[str, str, int]] = {}
    for packet in mine:
        header = packet[IPv6ExtHdrSegmentRouting]
        first.setdefault(packet.link, (packet.link, packet[IPv6].dst, header.segleft))
    return list(first.values())


def test_a_container_there_and_back(lab: Lab, agents: Agents, capture: Capture) -> None:
    agents.server("host-b", "--csid", BLOCK)
    agents.client(config(of_routers(1, 2, 4, 6)))
    capture.forget()
    http(lab, f"http://[{B}]/")
    packets = capture.settled(Filter(TCP_NUMBER))
    assert all(IPv6ExtHdrSegmentRouting in packet for packet in packets)
    there = ["1:2:4:6::", "1:2:4:6::", "2:4:6::", "4:6::", "6::"]
    assert seen(packets, A) == [
        *((link, f"fcbb:bb00:{rest}", 1) for link, rest in zip(UPPER, there, strict=False)),
        ("vpp6-site-b", B, 0),
        ("site-b-host-b", B, 0),
    ]
    back = ["6:4:2:1::", "6:4:2:1::", "4:2:1::", "2:1::", "1::"]
    assert seen(packets, B) == [
        *((link, f"fcbb:bb00:{rest}", 1) for link, rest in zip(UPPER[::-1], back, strict=False)),
        ("site-a-vpp1", A, 0),
        ("host-a-site-a", A, 0),
    ]
    lists = {tuple(packet[IPv6ExtHdrSegmentRouting].addresses) for packet in packets}
    assert lists == {(B, "fcbb:bb00:1:2:4:6::"), (A, "fcbb:bb00:6:4:2:1::")}
    # 40 bytes instead of 8 + 16 * 5.
    assert {packet[IPv6ExtHdrSegmentRouting].len for packet in packets} == {4}
    told = json.loads(lab.execute("host-b", [*HAWKWING, "status", "--json"]).stdout)[0]
    (path,) = told["paths"]
    assert path["sids"] == [f"fcbb:bb00:{number}::" for number in (6, 4, 2, 1)]
    assert path["segments"] == ["fcbb:bb00:6:4:2:1::"] and told["csid_blocks"] == [BLOCK]


def test_without_the_option_the_reply_wanders(lab: Lab, agents: Agents, capture: Capture) -> None:
    """The control: the container is then one segment, and comes back in its old order."""
    agents.server("host-b")
    agents.client(config(of_routers(1, 2, 4, 6)))
    capture.forget()
    http(lab, f"http://[{B}]/")
    back = [packet for packet in capture.settled(Filter(TCP_NUMBER)) if packet[IPv6].src == B]
    assert {packet[IPv6ExtHdrSegmentRouting].addresses[1] for packet in back} == {"fcbb:bb00:1:2:4:6::"}


def test_full_sids_and_containers_in_one_list(lab: Lab, agents: Agents, capture: Capture) -> None:
    """Site routers are of another block; one SID has more than a C-SID."""
    agents.server("host-b", "--csid", BLOCK)
    sids = ["fcbb:aa00:1::2", *of_routers(1, 3), "fcbb:bb00:5::2", *of_routers(6), "fcbb:aa00:2::2"]
    agents.client(config(sids))
    capture.forget()
    http(lab, f"http://[{B}]/")
    packets = capture.settled(Filter(TCP_NUMBER))
    there = ["fcbb:aa00:1::2", "fcbb:bb00:1:3::", "fcbb:bb00:5::2", "fcbb:bb00:6::", "fcbb:aa00:2::2"]
    back = ["fcbb:aa00:2::2", "fcbb:bb00:6::", "fcbb:bb00:5::2", "fcbb:bb00:3:1::", "fcbb:aa00:1::2"]
    lists = {tuple(packet[IPv6ExtHdrSegmentRouting].addresses) for packet in packets}
    assert lists == {(B, *there[::-1]), (A, *back[::-1])}


@pytest.mark.parametrize("size", [1, 1396, 1412, 1413, 1452, 9000])
def test_datagrams_of_all_sizes(lab: Lab, agents: Agents, udp: Callable[..., Endpoint], size: int) -> None:
    agents.server("host-b", "--csid", BLOCK)
    agents.client(config(of_routers(1, 2, 4, 6), 5000))
    forget_path_mtu(lab)
    near, far = udp("host-a"), udp("host-b", 5000)
    ends = [lab.topology.link("host-a", "site-a"), lab.topology.link("site-b", "host-b")]
    with Capture(lab.topology, lab.namespace, ends) as capture:
        for _ in range(3):
            near.socket.sendto(bytes(size), (B, 5000))
            data, peer = far.socket.recvfrom(70000)
            far.socket.sendto(data, peer)
            assert near.socket.recv(70000) == bytes(size)
        packets = capture.settled(Filter(UDP_NUMBER))
    assert packets and all(IPv6ExtHdrSegmentRouting in packet for packet in packets)


def test_streams_both_ways(lab: Lab, agents: Agents) -> None:
    agents.server("host-b", "--csid", BLOCK)
    agents.client(config(of_routers(1, 2, 4, 6)))
    streams(lab, 3_000_000)


def test_a_reload_brings_containers_and_takes_them_away(
    lab: Lab, agents: Agents, capture: Capture, tmp_path: Path
) -> None:
    server = agents.server("host-b", "--csid", BLOCK)
    agents.client(config(of_routers(1, 2, 4, 6), csid=""))

    def first_list() -> list[str]:
        capture.forget()
        http(lab, f"http://[{B}]/")
        packets = capture.settled(Filter(TCP_NUMBER, link="host-a-site-a"))
        syn = next(packet for packet in packets if packet[TCP].flags == "S")
        return list(syn[IPv6ExtHdrSegmentRouting].addresses[1:])

    full = [f"fcbb:bb00:{number}::" for number in (6, 4, 2, 1)]
    assert first_list() == full
    (file,) = tmp_path.glob("host-a-*.yaml")
    for csid, expected in ((f"[{{block: '{BLOCK}', length: 16}}]", ["fcbb:bb00:1:2:4:6::"]), ("", full)):
        file.write_text(config(of_routers(1, 2, 4, 6), csid=csid))
        lab.execute("host-a", [*HAWKWING, "reload"])
        assert first_list() == expected
    assert server.poll() is None
