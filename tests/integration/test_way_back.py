"""A way back of its own on the wire: there by the upper branch, back by the lower one."""

import itertools
import json
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrSegmentRouting

from fake_hawkeye.control import Control
from lab.network import Lab
from lab.packets import assert_packet, path
from lab.wait import patient, wait_until
from lab.wire import Capture, Filter, tcp_port, udp_port

from .conftest import HAWKWING, Agents, Endpoint, on_vpp, said, sysctl
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
    along,
    assert_not_steered,
    on_links,
)
from .signed import KEY, assert_signed, kernels, requiring, signed_along
from .test_controller import hawkeye
from .test_csid import BLOCK, of_routers
from .test_hmac import Ends, ends
from .test_sizes import streams
from .test_steering import http
from .ways_back import (
    AT_ONCE,
    BACK,
    HOOKS,
    LOWER_LINKS,
    OVER_LOWER,
    OVER_UPPER,
    PORT,
    REVERSE,
    TAG,
    TCP_NUMBER,
    THERE,
    UDP_NUMBER,
    config,
    counters,
    exchange,
    fetch,
    listed,
    option,
    settle,
    tag,
    tagged,
    way,
    way_told,
)

pytestmark = pytest.mark.usefixtures("way_back_on_vpp")

__all__ = ["ends", "hawkeye", "kernels", "requiring"]


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
    assert "but no reply has used it" in said(lab, "status")


# --- what is said of it, and probes


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
    learned = said(lab, "status", host="host-b")
    assert f"learned path {' > '.join(BACK)}, told by a client: " in learned


def test_ping_returns_over_it(lab: Lab, agents: Agents, capture: Capture) -> None:
    agents.client(config())
    capture.forget()
    told = said(lab, "ping", B, "80", "-c", "1")
    assert f"ping {' > '.join(THERE)} and back over {' > '.join(BACK)}, " in told and " 0% loss" in told
    packets = capture.settled(Filter(UDP_NUMBER))
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
