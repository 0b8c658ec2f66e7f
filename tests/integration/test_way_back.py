"""A way back of its own on the wire: there by the upper branch, back by the lower one."""

import hashlib
import itertools
import json
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import TCP, UDP
from scapy.layers.inet6 import HBHOptUnknown, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrSegmentRouting
from scapy.packet import Packet

from fake_hawkeye.control import Control
from lab.network import Lab
from lab.packets import Captured, assert_packet, path
from lab.wait import patient, wait_until
from lab.wire import Capture, Filter, tcp_port, udp_port

from .conftest import HAWKWING, Agents, Endpoint, on_vpp, sysctl
from .onwire import (
    LOWER_WAY_BACK,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    UPPER_WAY,
    UPPER_WAY_BACK,
    A,
    B,
    Expected,
    along,
    assert_not_steered,
    on_links,
)
from .signed import KEY, assert_signed, kernels, requiring, signed_along
from .test_controller import hawkeye
from .test_csid import BLOCK, of_routers
from .test_hmac import Ends, ends
from .test_several_paths import Connections
from .test_sizes import forget_path_mtu, inner_mtu, streams
from .test_steering import http

__all__ = ["ends", "hawkeye", "kernels", "requiring"]

TCP_NUMBER, UDP_NUMBER, ICMPV6 = 6, 17, 58
OPTION, TAG = 0x1E, 0x4858
AT_ONCE = 3
PORT = 5000
THERE, BACK, REVERSE = [R1, R2, R4, R6], [R6, R5, R3, R1], [R6, R4, R2, R1]
LOWER_LINKS = [link for link, _destination, _left in LOWER_WAY_BACK]
UPPER_LINKS = [link for link, _destination, _left in UPPER_WAY_BACK]
HOOKS = pytest.mark.parametrize("hook", ["tc", "xdp-generic"])


def listed(sids: Sequence[str]) -> str:
    return "[" + ", ".join(f"'{sid}'" for sid in sids) + "]"


def config(
    back: Sequence[str] = BACK,
    there: Sequence[str] = THERE,
    ports: Sequence[int] = (80, PORT),
    more: str = "",
) -> str:
    """TCP and UDP to host-b over these SIDs, and the way back; empty: none is told."""
    told = f", return_sid: {listed(back)}" if back else ""
    text = f"services:\n  b:\n    ipv6_addresses: ['{B}']\n    applications:\n"
    return text + "".join(f"      - {{port: {port}, sid: {listed(there)}{told}}}\n" for port in ports) + more


def option(back: Sequence[str] = BACK) -> Packet:
    """The Destination Options header that tells this way back."""
    sids = b"".join(IPv6Address(sid).packed for sid in reversed(back))
    data = b"HW" + bytes([1, len(back)]) + sids
    return IPv6ExtHdrDestOpt(autopad=0, options=[HBHOptUnknown(otype=OPTION, optdata=data)])


def way_told(packet: Packet) -> list[str]:
    """The way back that a packet tells, in travel order; empty if it has no option."""
    header = packet.getlayer(IPv6ExtHdrDestOpt)
    if header is None:
        return []
    (one,) = header.options
    data = bytes(one.optdata)
    assert one.otype == OPTION and data[:3] == b"HW\1" and len(data) == 4 + 16 * data[3], packet
    sids = [str(IPv6Address(data[at : at + 16])) for at in range(4, len(data), 16)]
    return sids[::-1]


def tag(packet: Packet) -> int:
    return int(packet[IPv6ExtHdrSegmentRouting].tag)


def tagged(expected: list[Expected]) -> list[Expected]:
    """With the tag of replies over a way back that was told."""
    for _link, pattern in expected:
        pattern[IPv6ExtHdrSegmentRouting].tag = TAG
    return expected


def counters(lab: Lab, host: str, direction: str) -> dict[str, int]:
    """The packets counted by a host's agent, by reason."""
    (agent,) = json.loads(lab.execute(host, [*HAWKWING, "status", "--json"]).stdout)
    found = agent["counters"][direction].items()
    return {reason: one["packets"] for reason, one in found if reason != "NO_ROUTING_HEADER"}


def status_text(lab: Lab) -> str:
    """The client's."""
    return lab.execute("host-a", [*HAWKWING, "status"]).stdout


def fetch(lab: Lab, size: int) -> None:
    """So many bytes over HTTP from host-b."""
    curl = ["curl", "-sS", "-m", f"{patient(5):g}", "-o", "/dev/null", "-w", "%{size_download}"]
    assert lab.execute("host-a", [*curl, f"http://[{B}]/bytes/{size}"]).stdout == str(size)


@dataclass(frozen=True)
class Seen:
    """A datagram and its answer."""

    told: list[str]
    """The way back that the datagram told; empty if it told none."""
    back: list[str]
    """The SIDs of the answer; empty if it had no SRH."""
    tag: int
    links: list[str]
    """Those that the answer crossed."""


OVER_LOWER = (BACK, TAG, LOWER_LINKS)
OVER_UPPER = (REVERSE, 0, UPPER_LINKS)


def way(seen: Seen) -> tuple[list[str], int, list[str]]:
    """That of the answer."""
    return seen.back, seen.tag, seen.links


def exchange(capture: Capture, near: Endpoint, far: Endpoint) -> Seen:
    """A datagram and its answer: all links agree."""
    capture.forget()
    near.socket.sendto(b"ping", (B, PORT))
    data, peer = far.socket.recvfrom(100)
    assert data == b"ping"
    far.socket.sendto(b"pong", peer)
    assert near.socket.recv(100) == b"pong"
    packets = [
        one for one in capture.settled(udp_port(PORT)) if near.port in (one[UDP].sport, one[UDP].dport)
    ]
    pings = [packet for packet in packets if packet[UDP].dport == PORT]
    pongs = [packet for packet in packets if packet[UDP].sport == PORT]
    assert [packet.link for packet in pings] == [link for link, _destination, _left in UPPER_WAY]
    (told,) = {tuple(way_told(packet)) for packet in pings}
    assert not any(way_told(packet) for packet in pongs)
    (back,) = {tuple(path(packet)) for packet in pongs}
    (number,) = {tag(packet) if back else 0 for packet in pongs}
    return Seen(list(told), list(back), number, [packet.link for packet in pongs])


def settle(capture: Capture, near: Endpoint, far: Endpoint) -> None:
    """The first packets of this flow have told the way back."""
    for _ in range(AT_ONCE):
        assert exchange(capture, near, far).told


def reload(lab: Lab, host: str = "host-a") -> None:
    lab.execute(host, [*HAWKWING, "reload"])


# --- there and back


@HOOKS
def test_tcp(lab: Lab, agents: Agents, capture: Capture, hook: str) -> None:
    """The SYN and the next two packets tell it; each reply takes it, the SYN-ACK first."""
    agents.server("host-b", "--ingress-hook", hook)
    agents.client(config(), "host-a", "--ingress-hook", hook)
    capture.forget()
    fetch(lab, 100)
    packets = capture.settled(tcp_port(80))
    requests = [packet for packet in packets if packet[TCP].dport == 80]
    replies = [packet for packet in packets if packet[TCP].sport == 80]
    assert on_links(requests)[: len(UPPER_WAY)] == UPPER_WAY
    assert on_links(replies)[: len(LOWER_WAY_BACK)] == LOWER_WAY_BACK
    assert requests[0][TCP].flags == "S" and replies[0][TCP].flags == "SA"
    assert len(requests) % 7 == 0 and len(replies) % 7 == 0
    for link, _destination, _left in UPPER_WAY:
        told = [bool(way_told(packet)) for packet in requests if packet.link == link]
        assert told == [True] * AT_ONCE + [False] * (len(told) - AT_ONCE) and not told[-1]
    plain = dict(along(UPPER_WAY, A, [B, *THERE[::-1]], TCP(dport=80)))
    telling = dict(along(UPPER_WAY, A, [B, *THERE[::-1]], option() / TCP(dport=80)))
    for packet in requests:
        assert_packet(packet, (telling if way_told(packet) else plain)[packet.link])
    back = dict(tagged(along(LOWER_WAY_BACK, B, [A, *BACK[::-1]], TCP(sport=80))))
    for packet in replies:
        assert_packet(packet, back[packet.link])
    arrived = counters(lab, "host-b", "ingress")
    assert arrived["WAY_BACK_TOLD"] == AT_ONCE and arrived["STRIPPED"] == len(requests) / 7
    assert counters(lab, "host-a", "egress")["WAY_BACK_TOLD"] == AT_ONCE
    assert counters(lab, "host-a", "ingress")["WAY_BACK_USED"] == len(replies) / 7


@HOOKS
def test_udp(lab: Lab, agents: Agents, capture: Capture, udp: Callable[..., Endpoint], hook: str) -> None:
    agents.server("host-b", "--ingress-hook", hook)
    agents.client(config(), "host-a", "--ingress-hook", hook)
    near, far = udp("host-a"), udp("host-b", PORT)
    ping = UDP(sport=near.port, dport=PORT) / b"ping"
    pong = UDP(sport=PORT, dport=near.port) / b"pong"

    def there() -> None:
        near.socket.sendto(b"ping", (B, PORT))
        assert far.socket.recvfrom(100) == (b"ping", (A, near.port, 0, 0))

    def back() -> None:
        far.socket.sendto(b"pong", (A, near.port))
        assert near.socket.recvfrom(100)[0] == b"pong"

    segments = [B, *THERE[::-1]]
    capture.send_and_expect(there, udp_port(PORT), along(UPPER_WAY, A, segments, option() / ping))
    expected = tagged(along(LOWER_WAY_BACK, B, [A, *BACK[::-1]], pong))
    capture.send_and_expect(back, udp_port(PORT), expected)
    assert counters(lab, "host-b", "ingress") == {"STRIPPED": 1, "LEARNED": 1, "WAY_BACK_TOLD": 1}
    assert counters(lab, "host-a", "ingress") == {"STRIPPED": 1, "WAY_BACK_USED": 1}


def test_without_one_the_reverse_list_is_used(
    lab: Lab, agents: Agents, capture: Capture, udp: Callable[..., Endpoint]
) -> None:
    """The control: no option, no tag."""
    agents.server("host-b")
    agents.client(config(()))
    near, far = udp("host-a"), udp("host-b", PORT)
    for _ in range(AT_ONCE + 1):
        seen = exchange(capture, near, far)
        assert not seen.told and way(seen) == OVER_UPPER
    capture.forget()
    http(lab, f"http://[{B}]/")
    packets = capture.settled(tcp_port(80))
    assert not any(way_told(packet) or tag(packet) for packet in packets)
    replies = [packet for packet in packets if packet[TCP].sport == 80]
    assert on_links(replies)[: len(UPPER_WAY_BACK)] == UPPER_WAY_BACK
    for host in ("host-a", "host-b"):
        for direction in ("egress", "ingress"):
            assert not [one for one in counters(lab, host, direction) if one.startswith("WAY_BACK")]


def test_each_of_several_paths_has_its_own(
    lab: Lab, agents: Agents, capture: Capture, udp: Callable[..., Endpoint]
) -> None:
    """The path's `return_sid` comes before that of the application."""
    agents.server("host-b")
    text = config(ports=()).replace("applications:\n", "applications:\n      - ")
    paths = f"[{{sid: {listed(THERE)}, return_sid: {listed(BACK)}}}, {{sid: {listed(BACK[::-1])}}}]"
    agents.client(text + f"{{port: {PORT}, return_sid: {listed(REVERSE)}, paths: {paths}}}\n")
    far = udp("host-b", PORT)
    used = set()
    for _ in range(30):
        near = udp("host-a")
        capture.forget()
        near.socket.sendto(b"ping", (B, PORT))
        _data, peer = far.socket.recvfrom(100)
        far.socket.sendto(b"pong", peer)
        near.socket.recv(100)
        there, back = capture.settled(udp_port(PORT, "site-b-host-b"))
        assert way_told(there) == path(back)
        used.add((tuple(path(there)), tuple(path(back))))
    assert used == {(tuple(THERE), tuple(BACK)), (tuple(BACK[::-1]), tuple(REVERSE))}


# --- when it is told


def test_the_first_three_datagrams_tell_it_then_one_a_second(
    agents: Agents, capture: Capture, udp: Callable[..., Endpoint]
) -> None:
    agents.server("host-b")
    agents.client(config())
    near, far = udp("host-a"), udp("host-b", PORT)
    capture.forget()
    for _ in range(AT_ONCE + 3):
        near.socket.sendto(b"ping", (B, PORT))
        far.socket.recv(100)
    sent = capture.settled(udp_port(PORT, "host-a-site-a"))
    assert [bool(way_told(packet)) for packet in sent] == [True] * AT_ONCE + [False] * 3
    # The reply is one to a datagram that did not tell it.
    far.socket.sendto(b"pong", (A, near.port))
    assert near.socket.recv(100) == b"pong"
    replies = [packet for packet in capture.settled(udp_port(PORT)) if packet[UDP].sport == PORT]
    assert on_links(replies) == LOWER_WAY_BACK and {tag(packet) for packet in replies} == {TAG}

    time.sleep(1.05)
    seen = exchange(capture, near, far)
    assert seen.told == BACK and way(seen) == OVER_LOWER

    # And so on: between two that tell it is a second.
    capture.forget()
    begun = time.monotonic()
    while time.monotonic() - begun < 4:
        near.socket.sendto(b"ping", (B, PORT))
        far.socket.recv(100)
        time.sleep(0.02)
    sent = capture.settled(udp_port(PORT, "host-a-site-a"))
    times = [float(packet.time) for packet in sent if way_told(packet)]
    assert 2 <= len(times) <= 4
    assert all(later - earlier > 0.99 for earlier, later in itertools.pairwise(times))


def test_it_is_used_for_a_flow_of_which_the_server_knew_another(
    lab: Lab, agents: Agents, capture: Capture, udp: Callable[..., Endpoint], tmp_path: Path
) -> None:
    """A reload begins to tell it; the server has cached this flow with the reverse list."""
    agents.server("host-b")
    agents.client(config(()))
    near, far = udp("host-a"), udp("host-b", PORT)
    for _ in range(5):
        assert way(exchange(capture, near, far)) == OVER_UPPER
    rewrite(lab, tmp_path, config())
    for number in range(6):
        seen = exchange(capture, near, far)
        assert bool(seen.told) is (number < AT_ONCE) and way(seen) == OVER_LOWER


# --- whom the server believes


@pytest.mark.parametrize("missing", [[5], [3, 5], [3]], ids=str)
def test_outside_the_sr_domain_it_is_not_believed(
    lab: Lab, agents: Agents, capture: Capture, udp: Callable[..., Endpoint], missing: list[int]
) -> None:
    prefixes = ["fcbb:cc00::/32", *(f"fcbb:bb00:{n}::/48" for n in range(1, 7) if n not in missing)]
    agents.server("host-b", *(word for prefix in prefixes for word in ("--sr-domain", prefix)))
    agents.client(config())
    near, far = udp("host-a"), udp("host-b", PORT)
    for number in range(1, AT_ONCE + 1):
        seen = exchange(capture, near, far)
        assert seen.told == BACK and way(seen) == OVER_UPPER
        arrived = counters(lab, "host-b", "ingress")
        assert arrived == {"STRIPPED": number, "LEARNED": 1, "WAY_BACK_REFUSED": number}
    for _ in range(3):
        assert http(lab, f"http://[{B}]/") == "Hello from host-b\n"
    assert "WAY_BACK_USED" not in counters(lab, "host-a", "ingress")
    assert "but no reply has used it" in status_text(lab)


# --- what is said of it, and probes


def said(lab: Lab, *command: str) -> str:
    return lab.execute("host-a", [*HAWKWING, *command]).stdout


def test_what_is_said(lab: Lab, agents: Agents) -> None:
    agents.server("host-b")
    agents.client(config())
    way = f"tell the server the way back {' > '.join(BACK)}"
    assert f"{way} (no packet has told it yet)" in said(lab, "explain", B, "80")
    assert http(lab, f"http://[{B}]/") == "Hello from host-b\n"
    assert f"{way} (replies use it)" in said(lab, "explain", B, "80")
    (agent,) = json.loads(said(lab, "status", "--json"))
    for binding in agent["bindings"]:
        # Applications with the same path share the counters.
        used = binding["return_use"]
        assert used["packets"] == AT_ONCE and 1 <= used["replies"] <= AT_ONCE and used["problem"] == ""
    assert f"{' > '.join(THERE)}, back over {' > '.join(BACK)}  (in use" in said(lab, "paths", B, "80")
    learned = lab.execute("host-b", [*HAWKWING, "status"]).stdout
    assert f"learned path {' > '.join(BACK)}, told by a client: " in learned


PROBES = Filter(UDP_NUMBER)


def probed(capture: Capture) -> list[tuple[str, int]]:
    """Links that probes crossed, and how many segments were left there."""
    return [(one.link, one[IPv6ExtHdrSegmentRouting].segleft) for one in capture.settled(PROBES)]


def test_ping_returns_over_it(lab: Lab, agents: Agents, capture: Capture) -> None:
    agents.client(config())
    capture.forget()
    told = said(lab, "ping", B, "80", "-c", "1")
    assert f"ping {' > '.join(THERE)} and back over {' > '.join(BACK)}, " in told and " 0% loss" in told
    packets = capture.settled(PROBES)
    listed = [A, *[*THERE, *BACK][::-1]]
    assert packets and all(one[IPv6ExtHdrSegmentRouting].addresses == listed for one in packets)
    links = [one.link for one in packets]
    # It turns at the last SID, which is two links away from host-b.
    assert links == [link for link, _destination, _left in UPPER_WAY][:-2] + LOWER_LINKS[2:]
    # Without one it returns as it came.
    rewritten = said(lab, "ping", "--sid", ",".join(THERE), "-c", "1")
    assert f"ping {' > '.join(THERE)} and back, " in rewritten


def test_trace_says_that_it_does_not(lab: Lab, agents: Agents) -> None:
    agents.client(config())
    told = said(lab, "trace", B, "80", "-c", "1")
    assert f"return over the reverse list, and not back over {' > '.join(BACK)}" in told
    assert all(sid in told for sid in THERE)


def test_probes_return_over_it(lab: Lab, agents: Agents, capture: Capture) -> None:
    """A dead way back makes a path as useless as a dead way there."""
    paths = f"{{sid: {listed(THERE)}, return_sid: {listed(BACK)}}}, {{sid: {listed(BACK[::-1])}}}"
    text = f"services:\n  b:\n    ipv6_addresses: ['{B}']\n    applications:\n"
    agents.client(text + f"      - {{port: {PORT}, paths: [{paths}]}}\nprobes: {{interval: 20}}\n")
    wait_until(lambda: capture.count(Filter(link="host-a-site-a")) > 20, 10, "probes")
    seen = [one for one in capture.packets() if one.link == "host-a-site-a"]
    lists = {tuple(one[IPv6ExtHdrSegmentRouting].addresses[:0:-1]) for one in seen}
    there = BACK[::-1]
    assert lists == {(*THERE, *BACK), (*there, *there[-2::-1])}
    measured = json.loads(said(lab, "paths", B, str(PORT), "--measure=2", "--json"))[0]["bindings"][0]
    assert [one["measured"]["received"] for one in measured["candidates"]] == [2, 2]
    assert [one.get("return_sids") for one in measured["candidates"]] == [BACK, None]


# --- reload


def rewrite(lab: Lab, folder: Path, text: str) -> None:
    """Another configuration for the client."""
    (file,) = folder.glob("host-a-*.yaml")
    file.write_text(text)
    reload(lab)


def test_reload_takes_it_away(
    lab: Lab, agents: Agents, capture: Capture, udp: Callable[..., Endpoint], tmp_path: Path
) -> None:
    """Replies of a known flow return to the reverse list, some seconds after the last that told it."""
    agents.server("host-b")
    agents.client(config())
    near, far = udp("host-a"), udp("host-b", PORT)
    settle(capture, near, far)
    rewrite(lab, tmp_path, config(()))
    begun = time.monotonic()
    while way(seen := exchange(capture, near, far)) != OVER_UPPER:
        assert not seen.told and way(seen) == OVER_LOWER
        assert time.monotonic() - begun < patient(6)
        time.sleep(0.05)
    assert time.monotonic() - begun > 3
    assert way(exchange(capture, near, far)) == OVER_UPPER


def test_reload_takes_it_away_from_one_application_of_two(
    lab: Lab, agents: Agents, capture: Capture, udp: Callable[..., Endpoint], tmp_path: Path
) -> None:
    """What another flow tells is no news of this one."""
    agents.server("host-b")
    agents.client(config(ports=(PORT, PORT + 1)))
    near, far, other, far_other = udp("host-a"), udp("host-b", PORT), udp("host-a"), udp("host-b", PORT + 1)
    settle(capture, near, far)
    text = config(ports=(PORT + 1,))
    rewrite(lab, tmp_path, text + f"      - {{port: {PORT}, sid: {listed(THERE)}}}\n")

    def returned() -> bool:
        other.socket.sendto(b"ping", (B, PORT + 1))
        far_other.socket.recv(100)
        return way(exchange(capture, near, far)) == OVER_UPPER

    wait_until(returned, 8, "the replies to return to the reverse list", pause=0.1)


@pytest.mark.parametrize("back", [[R6, R5], [R6, R4, R5, R3, R1], [R5]], ids=len)
def test_reload_changes_it(
    lab: Lab,
    agents: Agents,
    capture: Capture,
    udp: Callable[..., Endpoint],
    tmp_path: Path,
    back: list[str],
) -> None:
    agents.server("host-b")
    agents.client(config())
    near, far = udp("host-a"), udp("host-b", PORT)
    settle(capture, near, far)
    rewrite(lab, tmp_path, config(back))
    begun = time.monotonic()

    def changed() -> bool:
        seen = exchange(capture, near, far)
        assert seen.told in ([], back) and seen.back in (BACK, back) and seen.tag == TAG
        return seen.back == back

    wait_until(changed, 3, "the replies to take another way", pause=0.05)
    assert time.monotonic() - begun < patient(2)


# --- the server comes again


@pytest.mark.parametrize("how", ["stopped", "killed", "stopped and then killed"])
def test_a_new_server_is_told_it(
    lab: Lab, agents: Agents, capture: Capture, udp: Callable[..., Endpoint], how: str
) -> None:
    server = agents.server("host-b")
    agents.client(config())
    near, far = udp("host-a"), udp("host-b", PORT)
    settle(capture, near, far)
    if how != "killed":
        server.stop()
        server = agents.server("host-b")
    if how != "stopped":
        server.signal(signal.SIGKILL)
        server.wait()
        assert way(exchange(capture, near, far)) in (OVER_LOWER, OVER_UPPER)
        agents.server("host-b")
    begun = time.monotonic()
    wait_until(lambda: way(exchange(capture, near, far)) == OVER_LOWER, 3, "its way back", pause=0.05)
    assert time.monotonic() - begun < patient(1.5)


def test_a_killed_client_goes_on_telling_it(
    agents: Agents, capture: Capture, udp: Callable[..., Endpoint]
) -> None:
    """Its filters stay; the next client takes over."""
    agents.server("host-b")
    client = agents.client(config())
    near, far = udp("host-a"), udp("host-b", PORT)
    settle(capture, near, far)
    client.signal(signal.SIGKILL)
    client.wait()
    time.sleep(1.05)
    seen = exchange(capture, near, far)
    assert seen.told == BACK and way(seen) == OVER_LOWER
    agents.client(config())
    time.sleep(1.05)
    seen = exchange(capture, near, far)
    assert seen.told == BACK and way(seen) == OVER_LOWER


# --- containers (RFC 9800)


@pytest.mark.parametrize("options", [("--csid", BLOCK), ()], ids=["csid", "no csid"])
def test_containers(
    lab: Lab, agents: Agents, capture: Capture, udp: Callable[..., Endpoint], options: tuple[str, ...]
) -> None:
    """There and back. A container that is told needs not to be reversed, so any server can use it."""
    if not on_vpp(lab):
        routes = lab.execute("vpp1", ["ip", "-6", "route", "show", "fcbb:bb00:1::/48"]).stdout
        if "next-csid" not in routes:
            pytest.skip("this kernel, or this iproute2, has no NEXT-C-SID")
    agents.server("host-b", *options)
    csid = f"csid: {{block: '{BLOCK}'}}\n"
    agents.client(config(of_routers(6, 5, 3, 1), of_routers(1, 2, 4, 6), more=csid))
    capture.forget()
    assert http(lab, f"http://[{B}]/") == "Hello from host-b\n"
    packets = capture.settled(tcp_port(80))
    assert {tuple(way_told(packet)) for packet in packets} == {(), ("fcbb:bb00:6:5:3:1::",)}
    lists = {tuple(packet[IPv6ExtHdrSegmentRouting].addresses) for packet in packets}
    assert lists == {(B, "fcbb:bb00:1:2:4:6::"), (A, "fcbb:bb00:6:5:3:1::")}
    replies = [packet for packet in packets if packet[IPv6].src == B]
    assert [packet.link for packet in replies][:7] == LOWER_LINKS
    near, far = udp("host-a"), udp("host-b", PORT)
    for number in range(AT_ONCE + 2):
        seen = exchange(capture, near, far)
        assert bool(seen.told) is (number < AT_ONCE)
        assert way(seen) == (["fcbb:bb00:6:5:3:1::"], TAG, LOWER_LINKS)


# --- HMACs


@HOOKS
def test_with_hmacs(
    requiring: Lab, ends: Ends, capture: Capture, udp: Callable[..., Endpoint], hook: str
) -> None:
    """All routers require them, there and back."""
    ends.server(KEY, options=["--ingress-hook", hook])
    ends.client(KEY, text=config(), options=["--ingress-hook", hook])
    near, far = udp("host-a"), udp("host-b", PORT)
    ping = UDP(sport=near.port, dport=PORT) / b"ping"
    pong = UDP(sport=PORT, dport=near.port) / b"pong"

    def there() -> None:
        near.socket.sendto(b"ping", (B, PORT))
        assert far.socket.recvfrom(100) == (b"ping", (A, near.port, 0, 0))

    def back() -> None:
        far.socket.sendto(b"pong", (A, near.port))
        assert near.socket.recvfrom(100)[0] == b"pong"

    for number in range(AT_ONCE + 2):
        transport = option() / ping if number < AT_ONCE else ping
        expected = signed_along(UPPER_WAY, A, [B, *THERE[::-1]], transport)
        capture.send_and_expect(there, udp_port(PORT), expected)
        expected = tagged(signed_along(LOWER_WAY_BACK, B, [A, *BACK[::-1]], pong))
        capture.send_and_expect(back, udp_port(PORT), expected)
    capture.forget()
    assert http(requiring, f"http://[{B}]/") == "Hello from host-b\n"
    packets = capture.settled(tcp_port(80))
    assert_signed(packets)
    replies = [packet for packet in packets if packet[TCP].sport == 80]
    assert on_links(replies)[: len(LOWER_WAY_BACK)] == LOWER_WAY_BACK
    streams(requiring, 3_000_000)
    assert set(counters(requiring, "host-b", "ingress")) >= {"STRIPPED", "WAY_BACK_TOLD"}
    wrong = [one for one in counters(requiring, "host-b", "ingress") if one.startswith("HMAC")]
    assert wrong == []


# --- the controller

INTENTS = [{"intent": "low-latency"}]
RETURNING = [{"intent": "high-bandwidth"}]


def asking(back: Sequence[str] = ()) -> str:
    """The controller is asked for the way there and for the way back."""
    configured = f"return_sid: {listed(back)}, " if back else ""
    return (
        'hawkeye: {enabled: true, address: "fcbb:cc00:5::f", port: 5001}\n'
        f"client_ipv6_address: {A}\n"
        f"services:\n  b:\n    ipv6_addresses: ['{B}']\n    applications:\n"
        f"      - {{port: {PORT}, sid: {listed(THERE)}, {configured}"
        "intents: [{intent: low-latency}], return_intents: [{intent: high-bandwidth}]}\n"
    )


def asked(control: Control) -> list[tuple[str, str, str]]:
    """Source, destination and intent of each request."""
    return [(one["source"], one["destination"], one["intents"][0]["intent"]) for one in control.requests()]


def binding(lab: Lab) -> Any:
    """The application, as the client tells."""
    (agent,) = json.loads(lab.execute("host-a", [*HAWKWING, "status", "--json"]).stdout)
    (one,) = agent["bindings"]
    return one


def test_the_controllers_way_back(
    lab: Lab, agents: Agents, capture: Capture, udp: Callable[..., Endpoint], hawkeye: Control
) -> None:
    agents.server("host-b")
    agents.client(asking([R5]))
    near, far = udp("host-a"), udp("host-b", PORT)
    wait_until(lambda: len(hawkeye.requests()) == 2, 5, "both requests")
    assert sorted(asked(hawkeye)) == [(A, B, "low-latency"), (B, A, "high-bandwidth")]

    def until(back: list[str], why: str) -> None:
        def used() -> bool:
            seen = exchange(capture, near, far)
            assert seen.tag == TAG
            return seen.back == back

        wait_until(used, 3, why, pause=0.05)

    # Without an answer, what is configured; the way there may be answered already.
    assert exchange(capture, near, far).back == [R5]
    hawkeye.set_path(B, INTENTS, THERE, source=A)
    wait_until(lambda: binding(lab)["origin"] == "controller", 5, "the way there")
    assert binding(lab)["return_sids"] == [R5]
    until([R5], "the configured way back")

    hawkeye.set_path(A, RETURNING, BACK, source=B)
    wait_until(lambda: binding(lab)["return_sids"] == BACK, 5, "the way back")
    until(BACK, "the controller's way back")
    assert way(exchange(capture, near, far)) == OVER_LOWER
    told = lab.execute("host-a", [*HAWKWING, "status"]).stdout
    assert f"back over {', '.join(BACK)}" in told or f"back over {' > '.join(BACK)}" in told, told
    explained = lab.execute("host-a", [*HAWKWING, "explain", B, str(PORT)]).stdout
    assert "tell the server the way back" in explained and R5 in explained, explained

    hawkeye.set_path(A, RETURNING, [R6, R5], source=B)
    until([R6, R5], "another way back")
    # The way there changes, and this one stays.
    hawkeye.set_path(B, INTENTS, [R2, R6], source=A)
    wait_until(lambda: binding(lab)["sids"] == [R2, R6], 5, "another way there")
    assert binding(lab)["return_sids"] == [R6, R5]


def test_without_return_sid_the_reverse_list_until_the_answer(
    lab: Lab, agents: Agents, capture: Capture, udp: Callable[..., Endpoint], hawkeye: Control
) -> None:
    """The way back is answered first: without the controller's way there it is not told."""
    agents.server("host-b")
    agents.client(asking())
    near, far = udp("host-a"), udp("host-b", PORT)
    wait_until(lambda: len(hawkeye.requests()) == 2, 5, "both requests")
    hawkeye.set_path(A, RETURNING, BACK, source=B)
    for _ in range(3):
        seen = exchange(capture, near, far)
        assert not seen.told and way(seen) == OVER_UPPER
    hawkeye.set_path(B, INTENTS, THERE, source=A)
    wait_until(lambda: way(exchange(capture, near, far)) == OVER_LOWER, 5, "the way back", pause=0.05)


def controller(lab: Lab) -> Any:
    """The counters of the client's connection to it."""
    (agent,) = json.loads(lab.execute("host-a", [*HAWKWING, "status", "--json"]).stdout)
    return agent["controller"]["counters"]


def test_a_way_back_with_too_many_sids_is_not_used(lab: Lab, agents: Agents, hawkeye: Control) -> None:
    agents.server("host-b")
    agents.client(asking([R5]))
    wait_until(lambda: len(hawkeye.requests()) == 2, 5, "both requests")
    hawkeye.set_path(B, INTENTS, THERE, source=A)
    wait_until(lambda: binding(lab)["origin"] == "controller", 5, "the way there")
    hawkeye.set_path(A, RETURNING, [R6, R5] * 6 + [R3], source=B)
    wait_until(lambda: controller(lab)["malformed"] == 1, 5, "the refusal")
    assert binding(lab)["return_sids"] == [R5]
    hawkeye.set_path(A, RETURNING, [R6, R5] * 6, source=B)
    wait_until(lambda: binding(lab)["return_sids"] == [R6, R5] * 6, 5, "the longest one")


def test_a_reload_takes_the_controllers_way_back_away(
    lab: Lab, agents: Agents, hawkeye: Control, tmp_path: Path
) -> None:
    agents.client(asking())
    hawkeye.set_path(B, INTENTS, THERE, source=A)
    hawkeye.set_path(A, RETURNING, BACK, source=B)
    wait_until(lambda: binding(lab).get("return_sids") == BACK, 5, "the way back")
    rewrite(lab, tmp_path, asking().replace(", return_intents: [{intent: high-bandwidth}]", ""))
    assert binding(lab)["origin"] == "controller" and "return_sids" not in binding(lab)
    rewrite(lab, tmp_path, asking())
    wait_until(lambda: binding(lab).get("return_sids") == BACK, 5, "the way back again")


# --- without an agent at the other end


@contextmanager
def accepting(lab: Lab) -> Iterator[None]:
    """The kernel of host-b takes SRHs; its agent is not there."""
    for scope in ("all", "eth0"):
        sysctl(lab, "host-b", f"net/ipv6/conf/{scope}/seg6_enabled", 1)
    try:
        yield
    finally:
        for scope in ("all", "eth0"):
            sysctl(lab, "host-b", f"net/ipv6/conf/{scope}/seg6_enabled", 0)


def test_a_kernel_ignores_it(
    lab: Lab, agents: Agents, capture: Capture, udp: Callable[..., Endpoint]
) -> None:
    """Its SRv6 passes on the rest of the packet, and its stack skips the option."""
    agents.client(config())
    near, far = udp("host-a"), udp("host-b", PORT)
    with accepting(lab):
        capture.forget()
        assert http(lab, f"http://[{B}]/") == "Hello from host-b\n"
        arrived = [
            packet for packet in capture.settled(tcp_port(80, "site-b-host-b")) if packet[TCP].dport == 80
        ]
        assert [bool(way_told(packet)) for packet in arrived[:AT_ONCE]] == [True] * AT_ONCE
        assert_not_steered(capture.settled(Filter(TCP_NUMBER, destination=A)))
        for _ in range(AT_ONCE + 1):
            seen = exchange(capture, near, far)
            assert seen.back == []
        streams(lab, 1_000_000)


# --- sizes

LONG = [R6, R5, R3, R5, R6, R4, R2, R4, R6, R5, R3, R1]
SIZES = [1, 1000, 1231, 1232, 1233, 1300, 1307, 1308, 1309, 1379, 1380, 1381]
SIZES += [1412, 1452, 1453, 2900, 9000, 65000]


@pytest.mark.parametrize("back", [BACK, [R5], LONG], ids=len)
def test_datagrams_of_all_sizes(
    lab: Lab, agents: Agents, udp: Callable[..., Endpoint], back: list[str]
) -> None:
    """Nothing is lost: what would not fit with the option does not tell it."""
    agents.server("host-b")
    agents.client(config(back))
    far = udp("host-b", PORT)
    links = [lab.topology.link("host-a", "site-a"), lab.topology.link("site-b", "host-b")]
    lost = []
    with Capture(lab.topology, lab.namespace, links) as capture:
        for size in SIZES:
            forget_path_mtu(lab)
            near = udp("host-a")
            data = hashlib.shake_128(str(size).encode()).digest(size)
            for number in range(AT_ONCE + 1):
                try:
                    near.socket.sendto(data, (B, PORT))
                    there, peer = far.socket.recvfrom(70000)
                    far.socket.sendto(there, peer)
                    assert (there, near.socket.recv(70000)) == (data, data)
                except TimeoutError:
                    lost.append((size, number))
        packets = capture.packets(Filter(UDP_NUMBER))
        assert packets and all(IPv6ExtHdrSegmentRouting in packet for packet in packets)
        assert max(packet.length - 14 for packet in packets) <= 1500
    assert lost == []


def test_status_says_that_no_packet_had_room(
    lab: Lab, agents: Agents, capture: Capture, udp: Callable[..., Endpoint]
) -> None:
    agents.server("host-b")
    agents.client(config())
    forget_path_mtu(lab)
    near, far = udp("host-a"), udp("host-b", PORT)
    for _ in range(11):
        near.socket.sendto(bytes(1372), (B, PORT))
        assert far.socket.recvfrom(2000)[0] == bytes(1372)
    packets = capture.settled(udp_port(PORT))
    assert len(packets) == 11 * len(UPPER_WAY) and not any(map(way_told, packets))
    assert "no packet has told the way back" in status_text(lab)
    exchange(capture, near, far)
    assert "warning" not in status_text(lab)


@pytest.mark.parametrize("back", [BACK, [R5], LONG], ids=len)
def test_streams(lab: Lab, agents: Agents, back: list[str]) -> None:
    agents.server("host-b")
    agents.client(config(back))
    forget_path_mtu(lab)
    streams(lab, 5_000_000)
    links = [lab.topology.link("host-a", "site-a"), lab.topology.link("site-b", "host-b")]
    with Capture(lab.topology, lab.namespace, links) as capture:
        fetch(lab, 200_000)
        packets = capture.settled(tcp_port(80))
    assert all(IPv6ExtHdrSegmentRouting in packet for packet in packets)
    assert_nothing_twice([packet for packet in packets if packet.link == "site-b-host-b"])
    while counters(lab, "host-a", "egress")["WAY_BACK_TOLD"] <= 10:
        fetch(lab, 100)
    assert "warning" not in status_text(lab)


def assert_nothing_twice(packets: Sequence[Captured]) -> None:
    """No data was sent again: each part of it is on the link once."""
    data = [packet for packet in packets if packet[TCP].sport == 80 and len(packet[TCP].payload)]
    numbers = [packet[TCP].seq for packet in data]
    assert numbers and len(numbers) == len(set(numbers))


@pytest.mark.parametrize("back", [BACK, [R5], LONG], ids=len)
def test_what_the_server_may_send_leaves_room_for_the_way_back(
    lab: Lab, agents: Agents, capture: Capture, back: list[str]
) -> None:
    """The MSS that its socket has, without large packets: what it sends then fits with its SRH."""
    agents.server("host-b")
    agents.client(config(back))
    forget_path_mtu(lab)
    with ExitStack() as stack:
        connections = Connections(lab, stack, 1)
        ((near, far),) = connections.pairs.values()
        # Timestamps take 12 bytes of each segment.
        sent = far.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) + 12
        assert sent <= 1500 - 60 - (8 + 16 * (len(back) + 1))
        received = near.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) + 12
        telling = 8 + 16 * (len(THERE) + 1) + 8 + 16 * len(back)
        assert received == 1440 - telling
        assert connections.echo(patient(5)) == connections.pairs.keys()
    assert not capture.settled(Filter(ICMPV6))


def test_a_long_upload_keeps_it(lab: Lab, agents: Agents, capture: Capture) -> None:
    """Whose segments are all of full size; the replies are acknowledgements."""
    agents.server("host-b")
    agents.client(config())
    forget_path_mtu(lab)
    with ExitStack() as stack:
        connections = Connections(lab, stack, 1)
        ((near, far),) = connections.pairs.values()
        size = near.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)
        for end in (near, far):
            end.setblocking(True)
            end.settimeout(patient(5))
        begun = time.monotonic()
        ways = set()
        while time.monotonic() - begun < 8:
            capture.clear()
            near.sendall(bytes(20 * size))
            arrived = 0
            while arrived < 20 * size:
                arrived += len(far.recv(1 << 16))
            replies = [one for one in capture.settled(tcp_port(PORT, "site-b-host-b")) if one[IPv6].src == B]
            ways |= {tuple(path(packet)) for packet in replies}
            time.sleep(0.1)
    assert ways == {tuple(BACK)}


def test_a_link_on_the_way_there_that_carries_less(
    lab: Lab, agents: Agents, capture: Capture, udp: Callable[..., Endpoint]
) -> None:
    """What the stack sends from then on fits, also with the header that tells the way back."""
    if on_vpp(lab):
        pytest.skip("VPP's routers send no Packet Too Big for packets with an SRH")
    there, back = BACK[::-1], THERE[::-1]
    with inner_mtu(lab, 1400):
        agents.server("host-b")
        agents.client(config(back, there))
        far = udp("host-b", PORT)
        near = udp("host-a")

        def arrives(data: bytes) -> bool:
            near.socket.sendto(data, (B, PORT))
            far.socket.settimeout(0.3)
            try:
                return far.socket.recv(2000) == data
            except TimeoutError:
                return False

        wait_until(lambda: arrives(bytes(1350)), 5, "a datagram that the host's stack cuts")
        # Of all sizes, and in flows that have not told anything yet.
        for size in range(1200, 1400, 8):
            near = udp("host-a")
            for _ in range(AT_ONCE + 1):
                assert arrives(bytes(size)), f"{size} bytes are lost"
        # Once a second one tells it.
        capture.forget()
        for _ in range(3):
            assert arrives(bytes(1400 - 40 - 8 - 88 - 72))
            time.sleep(1.1)
        assert sum(bool(way_told(one)) for one in capture.settled(udp_port(PORT, "host-a-site-a"))) == 3
        streams(lab, 2_000_000)
        assert "warning" not in status_text(lab)


def test_a_link_of_the_way_back_that_carries_less(
    lab: Lab, agents: Agents, udp: Callable[..., Endpoint]
) -> None:
    """Its router tells the server, whose stack cuts its datagrams."""
    if on_vpp(lab):
        pytest.skip("VPP's routers send no Packet Too Big for packets with an SRH")
    with inner_mtu(lab, 1400):
        agents.server("host-b")
        agents.client(config())
        near, far = udp("host-a"), udp("host-b", PORT)
        near.socket.sendto(b"hello", (B, PORT))
        _data, peer = far.socket.recvfrom(100)
        far.socket.sendto(bytes(1350), peer)

        def arrived() -> bool:
            far.socket.sendto(bytes(1350), peer)
            near.socket.settimeout(0.3)
            try:
                return len(near.socket.recv(2000)) == 1350
            except TimeoutError:
                return False

        wait_until(arrived, 5, "the reply")
        streams(lab, 1_000_000)
