"""Client and server on each kind of interface: TCP and UDP of all sizes both ways, the SRH on the wire."""

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from ipaddress import IPv6Address

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment, IPv6ExtHdrSegmentRouting

from lab.packets import assert_packet
from lab.wait import wait_until
from lab.wire import Filter, Frame

from .kinds import KINDS
from .network import ENCAP_PORT, FAR, NEAR, OTHER_PORT, ROUTER, SRH, Line, Network, inner, shape

TRANSPORTS = {6: TCP, 17: UDP}
STREAM_SIZES = [1, 100, 1200, 1400, 1500, 9000, 65000, 1_000_000]
#: Where agents are: on the interface that packets leave by, or below that.
ABOVE, BELOW = "above", "below"
each_kind = pytest.mark.parametrize(
    ("place", "name"),
    [
        pytest.param(place, kind.name, id=f"{kind.name}, {place}")
        for place in (ABOVE, BELOW)
        for kind in KINDS
        if place == ABOVE or kind.below
    ],
)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """Links of all kinds."""
    with ExitStack() as stack:
        made = Network(KINDS, stack, tmp_path_factory.mktemp("links"))
        stack.callback(made.kill)
        yield made
        made.stop()


@pytest.fixture(scope="module")
def control(network: Network) -> dict[str, str]:
    """By kind, what went wrong before there were agents; empty where all arrived, and nothing had an SRH."""
    assert not any(network.filters(host) for host in (NEAR, FAR))
    return {name: _seen_without_agents(network, line) for name, line in network.lines.items()}


def _seen_without_agents(network: Network, line: Line) -> str:
    for host in (NEAR, FAR):
        try:
            wait_until(partial(network.reaches_router, line, host), 3.0, "an answer")
        except TimeoutError:
            return f"{host} does not reach its router"
    with network.taps(line) as frames:
        if lost := network.echo(line, [1, 1200, 9000]):
            return f"datagrams of {lost} bytes were lost"
        network.stream(line, [1, 65000])
        seen = ours(line, frames())
    if {frame.link for frame in seen} != {NEAR, FAR}:
        return "packets did not pass the link"
    return "there was an SRH" if any(is_steered(frame) for frame in seen) else ""


@pytest.fixture
def line(place: str, name: str, network: Network, control: dict[str, str]) -> Line:
    """The link of a kind, with agents at either end, which are there for all kinds."""
    if name in network.missing:
        pytest.skip(network.missing[name])
    assert not control[name]
    network.start(below=place == BELOW)
    return network.lines[name]


def ours(line: Line, frames: list[Frame]) -> list[Frame]:
    """Those with TCP or UDP between the hosts, or a part of it."""
    sources = {IPv6Address(address).packed for address in (line.near, line.far)}
    return [one for one in frames if one.ipv6[8:24] in sources and one.transport[0] in TRANSPORTS]


is_steered = Filter(steered=True)
"""Does a frame's IPv6 header say that a routing header follows?"""


FRAGMENT, TAG = 44, 16 + 5
"""The number of the Fragment header; where the SRH's tag is behind an address, without the next header."""


def pattern(line: Line, source: str, link: str) -> IPv6:
    """IPv6(source, segment) SRH(destination, second SID, first SID; SL=2), or SL=0 where it arrives."""
    sids = (line.first, line.second) if source == line.near else (line.second, line.first)
    destination = line.far if source == line.near else line.near
    arrives = (source == line.near) == (link == FAR)
    srh = IPv6ExtHdrSegmentRouting(addresses=[destination, *sids[::-1]], segleft=0 if arrives else 2)
    return IPv6(src=source, dst=destination if arrives else sids[0]) / srh


def assert_all_steered(line: Line, frames: list[Frame], most: int) -> None:
    """All have the SRH of their path, byte for byte; no datagram is larger than the MTU (`most`)."""
    seen = ours(line, frames)
    assert {(frame.link, frame.ipv6[8:24]) for frame in seen} == {
        (link, IPv6Address(source).packed) for link in (NEAR, FAR) for source in (line.near, line.far)
    }
    without = [str(frame.packet) for frame in seen if not is_steered(frame)]
    assert not without, f"{len(without)} of {len(seen)} packets had no SRH: {without[0]}"
    for source in (line.near, line.far):
        for link in (NEAR, FAR):
            expected = pattern(line, source, link)
            head = bytes(expected)
            found = [f for f in seen if f.link == link and f.ipv6[8:24] == head[8:24]]
            for frame in found:
                # All but the next header, and the SRH's.
                given = bytearray(frame.ipv6[24:40] + frame.ipv6[41 : 40 + SRH])
                if frame.ipv6[40] == FRAGMENT:
                    # A driver that fills in checksums has written into the tag (bpf/lib/split.h).
                    given[TAG : TAG + 2] = bytes(2)
                assert given == head[24:40] + head[41 : 40 + SRH], frame.packet
                assert int.from_bytes(frame.ipv6[4:6], "big") + 54 == frame.length, frame.packet
                if frame.transport[0] == 17:
                    assert frame.length - 14 <= most, f"larger than the MTU: {frame.packet}"
            for frame in (found[0], found[-1]):
                whole = len(frame.data) == frame.length
                if whole and IPv6ExtHdrFragment not in frame.packet:
                    assert_packet(frame.packet, expected / TRANSPORTS[frame.transport[0]]())


def sizes(mtu: int) -> list[int]:
    """Around every edge: the MTU with and without an SRH, two fragments, the largest."""
    whole = mtu - 48
    return [1, 1000, whole - SRH, whole - SRH + 1, whole, whole + 1, 9000, 65000]


@each_kind
def test_datagrams(network: Network, line: Line) -> None:
    """Not one is lost, also where the stack knows nothing of the path's MTU."""
    mtu = network.mtu(line)
    with network.taps(line) as frames:
        for size in sizes(mtu):
            network.forget_path_mtu()
            assert network.echo(line, [size]) == []
            assert_all_steered(line, frames(), mtu)


@each_kind
def test_streams(network: Network, line: Line) -> None:
    network.forget_path_mtu()
    with network.taps(line) as frames:
        network.stream(line, STREAM_SIZES)
        assert_all_steered(line, frames(), network.mtu(line))


@each_kind
def test_what_has_no_path_has_no_srh(network: Network, line: Line) -> None:
    with network.taps(line) as frames:
        assert network.echo(line, [1, 1200, 9000], OTHER_PORT) == []
        network.stream(line, [1, 65000], OTHER_PORT)
        seen = ours(line, frames())
    assert seen and not any(is_steered(frame) for frame in seen)


@each_kind
def test_the_frame_on_the_veth(network: Network, line: Line) -> None:
    """Tag, tunnel or none: around the packet with its SRH is what the kind of link puts there."""
    with network.taps(line, upper=False) as frames:
        assert network.echo(line, [100]) == []
        seen = frames()
    steered = [frame.packet for frame in seen if IPv6ExtHdrSegmentRouting in frame.packet]
    if not line.kind.around:
        assert seen and not steered, "WireGuard encrypts"
        return
    expected = [*line.kind.around, IPv6, IPv6ExtHdrSegmentRouting, UDP]
    assert [shape(packet, UDP)[1:] for packet in steered] == [expected[1:]] * 4
    assert {inner(packet).src for packet in steered} == {line.near, line.far}


# --- encapsulated


OUTER = 40 + 8 + 2 * 16
"""Of two SIDs and the one of decapsulation."""
versions = pytest.mark.parametrize("version", [6, 4])


@pytest.fixture
def carried(network: Network, line: Line, version: int) -> int:
    """The version of IP to be encapsulated; skips where a link does not carry that, for the way back."""
    if version == 4 and network.echo(line, [1], OTHER_PORT, 4):
        pytest.skip(f"{line} does not carry IPv4 here")
    return version


def assert_encapsulated(line: Line, frames: list[Frame], version: int, most: int) -> None:
    """On both links, with the list; none to the port is plain, and no datagram is larger than the MTU."""
    listed = [line.decap[version], line.second]
    for link, target, left in ((NEAR, line.first, 2), (FAR, line.decap[version], 0)):
        sent = [
            frame for frame in frames if frame.link == link and frame.sender == (NEAR if left else ROUTER)
        ]
        to_port = [
            frame
            for frame in sent
            for kind in (TCP, UDP)
            if kind in frame.packet and frame.packet[kind].dport == ENCAP_PORT
        ]
        assert to_port
        for frame in to_port:
            outer, srh = frame.packet[IPv6], frame.packet[IPv6ExtHdrSegmentRouting]
            assert (outer.src, outer.dst) == (line.near, target), frame.packet
            assert (srh.addresses, srh.segleft, srh.nh) == (listed, left, 41 if version == 6 else 4)
            assert isinstance(srh.payload, IPv6 if version == 6 else IP)
            assert UDP not in frame.packet or outer.plen + 40 <= most, frame.packet


@versions
@each_kind
def test_encapsulated_datagrams(network: Network, line: Line, carried: int) -> None:
    """Those that fit are never lost; of larger ones the first is, and its sender told."""
    mtu, header = network.mtu(line), 48 if carried == 6 else 28
    fits = mtu - header - OUTER
    network.forget_path_mtu()
    with network.taps(line, every=True) as frames:
        assert network.echo(line, [1, 1000], OTHER_PORT, carried) == []
        plain = [frame.packet for frame in frames()]
        assert any(UDP in packet for packet in plain)
        assert not any(IPv6ExtHdrSegmentRouting in packet for packet in plain)
        assert network.echo(line, [1, 1000, fits], ENCAP_PORT, carried) == []
        network.send(line, fits + 1, ENCAP_PORT, carried)
        assert network.echo(line, [fits + 1, 9000, 60000], ENCAP_PORT, carried) == []
        assert_encapsulated(line, frames(), carried, mtu)


@versions
@each_kind
def test_encapsulated_streams(network: Network, line: Line, carried: int) -> None:
    network.forget_path_mtu()
    with network.taps(line, every=True) as frames:
        network.stream(line, STREAM_SIZES, ENCAP_PORT, carried)
        assert_encapsulated(line, frames(), carried, network.mtu(line))


@pytest.mark.parametrize(("place", "name"), [(place, "bond") for place in (ABOVE, BELOW)])
def test_a_bond_goes_on_with_its_other_port(network: Network, line: Line) -> None:
    names = line.names(NEAR, NEAR)
    for port in (names["lower"], names["second"]):
        network.sh(NEAR, f"ip link set {port} down")
        wait_until(partial(uses_another_port, network, line, port), 5, f"the bond to leave {port}")
        with network.taps(line) as frames:
            assert network.echo(line, [100, 1400]) == []
            assert_all_steered(line, frames(), network.mtu(line))
        network.sh(NEAR, f"ip link set {port} up")
        wait_until(partial(is_up, network, port), 5, f"{port} to be up")


def uses_another_port(network: Network, line: Line, port: str) -> bool:
    """Has the bond of `near` another active port?"""
    shown = network.sh(NEAR, f"ip -d link show dev {line.names(NEAR, NEAR)['upper']}")
    active = shown.split("active_slave ")[1].split()[0] if "active_slave " in shown else ""
    return active not in ("", port)


def is_up(network: Network, port: str) -> bool:
    """Has it a carrier?"""
    return "state UP" in network.sh(NEAR, f"ip link show dev {port}")
