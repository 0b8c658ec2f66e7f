"""`hawkwing paths`, `ping` and `trace` in the lab: which links the probes cross, and what they find out."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import UDP

from fake_hawkeye.control import Control
from lab.impair import fail, heal, impair
from lab.network import Lab
from lab.packets import segments
from lab.wait import wait_until
from lab.wire import Capture, Filter

from .conftest import HAWKWING, Agents, on_vpp, sysctl
from .onwire import R1, R2, R3, R4, R5, R6, A, B, Hop, along
from .test_controller import INTENTS, UPPER, WITH_BACKUP, hawkeye

__all__ = ["hawkeye"]

PROBES = Filter(17, steered=True)
LOWER = [R1, R3, R5, R6]
CONFIG = f"""
services:
  b:
    ipv6_addresses: [{B}]
    applications:
      - {{port: 80, sid: [{R1}, {R2}, {R4}, {R6}]}}
      - {{port: 5000, sid: [{R1}, {R3}, {R5}, {R6}]}}
"""
UPPER_LINKS = ["vpp1-vpp2", "vpp2-vpp4", "vpp4-vpp6"]
LOWER_LINKS = ["vpp1-vpp3", "vpp3-vpp5", "vpp5-vpp6"]


def there_and_back(sids: Sequence[str], links: Sequence[str]) -> tuple[list[Hop], list[str]]:
    """Where a probe over four SIDs is to be seen, and the segments in its SRH."""
    travel = [*sids, *sids[-2::-1]]
    left = len(travel)
    inside: list[Hop] = [
        (link, segment, left - number)
        for number, (link, segment) in enumerate(zip([*links, *links[::-1]], travel[1:], strict=True), 1)
    ]
    first, last = (travel[0], left), (A, 0)
    way = [("host-a-site-a", *first), ("site-a-vpp1", *first), *inside]
    return [*way, ("site-a-vpp1", *last), ("host-a-site-a", *last)], [A, *travel[::-1]]


def run(lab: Lab, *words: str, status: int = 0, host: str = "host-a") -> Any:
    """What `hawkwing ... --json` says."""
    done = lab.execute(host, [*HAWKWING, *words, "--json"], check=False)
    assert done.returncode == status, (done.stdout, done.stderr)
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("port", "sids", "links"),
    [("80", UPPER, UPPER_LINKS), ("5000", LOWER, LOWER_LINKS)],
    ids=["upper", "lower"],
)
def test_probes_cross_the_links_of_the_list_both_ways(
    lab: Lab, agents: Agents, capture: Capture, port: str, sids: list[str], links: list[str]
) -> None:
    agents.client(CONFIG)
    way, listed = there_and_back(sids, links)
    told: list[Any] = []
    capture.send_and_expect(
        lambda: told.append(run(lab, "ping", B, port, "-c", "1")), PROBES, along(way, A, listed, UDP())
    )
    assert (told[0]["sent"], told[0]["received"]) == (1, 1)
    assert (told[0]["sids"], told[0]["source"], told[0]["origin"]) == (sids, A, "backup")
    assert told[0]["probes"][0]["rtt_ms"] > 0


def test_the_controllers_path_is_probed_once_it_is_in_use(
    lab: Lab, agents: Agents, capture: Capture, hawkeye: Control
) -> None:
    agents.client(WITH_BACKUP)
    wait_until(hawkeye.requests, 5.0, "the agent asks the controller")
    (before,) = run(lab, "paths", B)[0]["bindings"]
    assert [(one["origin"], one["in_use"]) for one in before["candidates"]] == [
        ("controller", False),
        ("backup", True),
    ]
    assert run(lab, "ping", B, "80", "-c", "1")["sids"] == LOWER
    hawkeye.set_path(B, INTENTS, UPPER)
    wait_until(
        lambda: run(lab, "paths", "wb.hawk.net")[0]["bindings"][0]["origin"] == "controller",
        5.0,
        "the pushed path is used",
    )
    (binding,) = run(lab, "paths", "wb.hawk.net:80")[0]["bindings"]
    assert [(one["sids"], one["in_use"]) for one in binding["candidates"]] == [(UPPER, True), (LOWER, False)]
    way, listed = there_and_back(UPPER, UPPER_LINKS)
    capture.send_and_expect(
        lambda: run(lab, "ping", "wb.hawk.net", "80", "-c", "1"), PROBES, along(way, A, listed, UDP())
    )


def test_packets_per_second_are_those_of_the_path(lab: Lab, agents: Agents) -> None:
    agents.client(CONFIG)
    sender = lab.start(
        "host-a",
        "sender",
        ["bash", "-c", f"exec 3<>/dev/udp/{B}/80; while :; do echo x >&3; read -t 0.02 -u 3; done"],
    )
    try:
        found = run(lab, "paths", B)[0]["bindings"]
    finally:
        sender.signal(signal.SIGKILL)
        sender.wait()
    rates = {one["port"]: one["packets_per_second"] for one in found}
    assert rates[80] > 1 and rates[5000] == 0


def test_a_trace_goes_as_far_as_each_segment(lab: Lab, agents: Agents, capture: Capture) -> None:
    agents.client(CONFIG)
    capture.forget()
    told = run(lab, "trace", B, "80", "-c", "1", "-i", "0.1")
    packets = [packet for packet in capture.settled(PROBES) if packet.sender == "host-a"]
    assert [segments(packet) for packet in packets] == [
        [A, R1],
        [A, R1, R2, R1],
        [A, R1, R2, R4, R2, R1],
        [A, R1, R2, R4, R6, R4, R2, R1],
    ]
    assert [one["received"] for one in told["segments"]] == [1] * 4
    assert told["failed_segment"] is None


def test_a_slow_link_shows_at_its_segment(lab: Lab, agents: Agents) -> None:
    """Latency where the kernel has netem; else more is sent than the link carries, and a queue fills."""
    agents.client(CONFIG)
    done = impair(lab, "vpp2-vpp4", latency=20_000, bandwidth=1000)
    try:
        if any("no tbf" in one for one in done):
            pytest.skip("this kernel has no tbf (CONFIG_NET_SCH_TBF)")
        pace = ["--size", "1200", "-c", "120", "-W", "2"]
        slow = run(lab, "ping", B, "80", *pace, "-i", "0.002")["rtt_ms"]
        fast = run(lab, "ping", B, "5000", *pace, "-i", "0.002")["rtt_ms"]
        assert slow["avg"] > 5 * fast["avg"]
        means = [one["rtt_ms"]["avg"] for one in run(lab, "trace", B, "80", *pace, "-i", "0.008")["segments"]]
        assert means[2] > 5 * means[1] and means[3] > 5 * means[1]
    finally:
        heal(lab, "vpp2-vpp4")


def test_compressed_sids_travel_as_the_paths_packets_do(lab: Lab, agents: Agents, capture: Capture) -> None:
    """There and back in containers, over the links of the list."""
    if "next-csid" not in lab.execute("vpp1", ["ip", "-6", "route", "show", "fcbb:bb00:1::/48"]).stdout:
        pytest.skip("the routers have no compressed SIDs")
    sids = [f"fcbb:bb00:{number}::" for number in (1, 2, 4, 6)]
    service = f"{{ipv6_addresses: ['{B}'], applications: [{{port: 80, sid: {sids}}}]}}"
    agents.client(f"csid: {{block: 'fcbb:bb00::/32'}}\nservices: {{b: {service}}}\n")
    capture.forget()
    told = run(lab, "ping", B, "80", "-c", "1")
    packets = capture.settled(PROBES)
    assert (told["sids"], told["received"]) == (sids, 1)
    assert told["segments"] == ["fcbb:bb00:1:2:4:6:4:2", "fcbb:bb00:1::"]
    links = ["host-a-site-a", "site-a-vpp1", *UPPER_LINKS]
    assert [packet.link for packet in packets] == [*links, *links[::-1]]
    assert {tuple(segments(packet)) for packet in packets} == {(A, "fcbb:bb00:1::", "fcbb:bb00:1:2:4:6:4:2")}
    words = ["trace", "--csid", "fcbb:bb00::/32", "--sid", "fcbb:bb00:1:2:4:6::", "-c", "1", "-i", "0.1"]
    traced = run(lab, *words)
    assert [one["sid"] for one in traced["segments"]] == sids
    assert traced["failed_segment"] is None


# --- what fails, and why


def test_a_dead_router_is_named(lab: Lab, agents: Agents) -> None:
    agents.client(CONFIG)
    links = ["vpp2-vpp4", "vpp4-vpp6", "vpp4-hawkeye"]
    try:
        for link in links:
            fail(lab, link)
        told = run(lab, "trace", B, "80", "-c", "2", "-i", "0.1", "-W", "0.5", status=1)
        assert told["failed_segment"] == 3
        assert [one["received"] > 0 for one in told["segments"]] == [True, True, False, False]
        assert told["verdict"].startswith(f"the path fails at segment 3 ({R4}): ")
        problem = told["segments"][2]["problem"]
        if not on_vpp(lab):
            assert problem["active_segment"] == R4 and problem["text"] == f"no route to {R4}"
        assert run(lab, "trace", B, "5000", "-c", "1", "-i", "0.1")["failed_segment"] is None
    finally:
        for link in links:
            heal(lab, link)
    assert run(lab, "trace", B, "80", "-c", "1", "-i", "0.1")["failed_segment"] is None


@contextmanager
def changed(lab: Lab, node: str, change: str, undo: str) -> Iterator[None]:
    """A shell command's change of a kernel router, taken back afterwards."""
    if on_vpp(lab):
        pytest.skip("changes the kernel's routers")
    lab.execute(node, ["sh", "-ec", change])
    try:
        yield
    finally:
        lab.execute(node, ["sh", "-ec", undo])


BACK = f"ip -6 route replace {R4}/128 via 2001:db8:24::4 dev vpp4 proto static"


def test_silence_is_no_answer(lab: Lab, agents: Agents) -> None:
    agents.client(CONFIG)
    drop = f"ip -6 route del {R4}/128; ip -6 route add blackhole {R4}/128"
    with changed(lab, "vpp2", drop, f"ip -6 route del blackhole {R4}/128; {BACK}"):
        told = run(lab, "trace", B, "80", "-c", "1", "-i", "0.1", "-W", "0.3", status=1)
        silent = run(lab, "ping", B, "80", "-c", "1", "-W", "0.3", status=1)
    assert told["segments"][2]["problem"] is None
    assert told["verdict"].startswith(
        f"the path fails at segment 3 ({R4}): no answer, segment 2 ({R2}) answers"
    )
    assert silent["received"] == 0 and "(uRPF)" in silent["reasons"][0]


def test_a_loop_exceeds_the_hop_limit(lab: Lab, agents: Agents) -> None:
    agents.client(CONFIG)
    loop = f"ip -6 route replace {R4}/128 via 2001:db8:12::1 dev vpp1 proto static"
    with changed(lab, "vpp2", loop, BACK):
        told = run(lab, "trace", B, "80", "-c", "1", "-i", "0.1", status=1)
    assert told["failed_segment"] == 3
    assert told["segments"][2]["problem"]["text"].startswith(f"hop limit exceeded on the way to {R4}")


def test_a_narrow_link_says_how_much_it_carries(lab: Lab, agents: Agents) -> None:
    agents.client(CONFIG)
    narrow = "ip link set vpp4 mtu 1300"
    with changed(lab, "vpp2", narrow, "ip link set vpp4 mtu 1500"):
        told = run(lab, "trace", B, "80", "-c", "1", "-i", "0.1", "--size", "1250", status=1)
        small = run(lab, "trace", B, "80", "-c", "1", "-i", "0.1")
    assert told["failed_segment"] == 3
    assert told["segments"][2]["problem"]["mtu"] == 1300
    assert small["failed_segment"] is None


def test_a_sid_that_nobody_has(lab: Lab, agents: Agents) -> None:
    agents.client(CONFIG)
    if on_vpp(lab):
        pytest.skip("VPP says nothing")
    # Outside the block of compressed SIDs, where a router would take it for a container.
    wrong = "fcbb:bb99::77"
    told = run(lab, "trace", "--sid", f"{R1},{wrong},{R4}", "-c", "1", "-i", "0.1", status=1)
    assert told["failed_segment"] == 2
    assert told["segments"][1]["problem"]["text"] == f"no route to {wrong}"


def test_a_host_that_drops_what_comes_back_says_so(lab: Lab) -> None:
    done = lab.execute("host-a", [*HAWKWING, "ping", "--sid", R1, "-c", "1", "-W", "0.3"], check=False)
    assert done.returncode == 1
    assert "this host drops packets with an SRH: no agent runs here" in done.stdout.splitlines()[-1]
    names = [f"net/ipv6/conf/{where}/seg6_enabled" for where in ("all", "eth0")]
    try:
        for name in names:
            sysctl(lab, "host-a", name, 1)
        assert run(lab, "ping", "--sid", R1, "-c", "1")["received"] == 1
    finally:
        for name in names:
            sysctl(lab, "host-a", name, 0)


def test_an_agent_that_does_not_accept_the_probes_is_named(lab: Lab, agents: Agents) -> None:
    agents.client(f"sr_domain: ['fcbb:bb00::/32']\n{CONFIG}")
    told = run(lab, "ping", B, "80", "-c", "1", "-W", "0.3", status=1)
    assert told["reasons"] == [
        f"no answer: an agent on this host doesn't accept the probes: {A} is outside its SR domain (client)"
    ]


# --- beside agents


@pytest.mark.parametrize("hook", ["tc", "xdp-generic"])
def test_a_server_on_the_same_host_changes_no_probe(
    lab: Lab, agents: Agents, capture: Capture, hook: str
) -> None:
    """It takes their SRH off, and learns nothing: nobody answers, and they get no second SRH."""
    agents.server("host-a", "--ingress-hook", hook)
    way, listed = there_and_back(UPPER, UPPER_LINKS)
    expected = along(way, A, listed, UDP())
    words = ["ping", "--sid", ",".join(UPPER), "-c", "3", "-i", "0.2"]
    told: list[Any] = []
    capture.send_and_expect(lambda: told.append(run(lab, *words)), PROBES, expected * 3)
    assert told[0]["received"] == 3
    (server,) = run(lab, "status")
    assert server["flows"]["count"] == 0 and server["paths"] == []
    assert server["counters"]["ingress"]["NOTHING_TO_LEARN"]["packets"] == 3
    assert "STEERED" not in server["counters"]["egress"]


def test_ctrl_c_prints_the_summary(lab: Lab, agents: Agents) -> None:
    agents.client(CONFIG)
    process = lab.start("host-a", "pinging", [*HAWKWING, "ping", B, "80", "-i", "0.05"])
    process.wait_for("seq=3 ")
    process.signal(signal.SIGINT)
    assert process.wait() == 0
    *_, head, counted, times = process.output().splitlines()
    assert head == f"--- {' > '.join(UPPER)} and back ---"
    assert ", 0% loss, time " in counted and times.startswith("rtt min/avg/max/mdev = ")


def test_probes_need_no_capability(lab: Lab, agents: Agents) -> None:
    agents.client(CONFIG)
    none = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    words = [*HAWKWING, "ping", "--sid", R1, "-c", "1"]
    assert lab.execute("host-a", [*none, *words]).returncode == 0
    words = [*HAWKWING, "trace", "--ioam", "--sid", R1, "-c", "1"]
    refused = lab.execute("host-a", [*none, *words], check=False)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == "hawkwing: IOAM needs CAP_NET_RAW: run it as root, or give this capability\n"


# --- IOAM


@pytest.fixture
def ioam(lab: Lab) -> Iterator[None]:
    """Core routers with IOAM in namespace 5: node IDs as in their names, interface IDs by neighbour."""
    if on_vpp(lab):
        pytest.skip("IOAM is the kernel's")
    if not Path("/proc/sys/net/ipv6/ioam6_id").exists():
        pytest.skip("this kernel has no IOAM (Linux 5.15)")
    routers = [router for router in lab.topology.routers if router.name.startswith("vpp")]
    for router in routers:
        sysctl(lab, router.name, "net/ipv6/ioam6_id", int(router.name[3:]))
        for interface in router.interfaces:
            sysctl(lab, router.name, f"net/ipv6/conf/{interface.name}/ioam6_enabled", 1)
            if interface.peer_node.startswith("vpp"):
                peer = int(interface.peer_node[3:])
                sysctl(lab, router.name, f"net/ipv6/conf/{interface.name}/ioam6_id", 100 + peer)
        lab.execute(router.name, ["ip", "ioam", "namespace", "add", "5"])
    yield
    for router in routers:
        lab.execute(router.name, ["ip", "ioam", "namespace", "del", "5"])
        for interface in router.interfaces:
            sysctl(lab, router.name, f"net/ipv6/conf/{interface.name}/ioam6_enabled", 0)


def test_ioam_shows_each_hop_both_ways(lab: Lab, agents: Agents, ioam: None) -> None:
    agents.client(CONFIG)
    words = ["trace", B, "80", "-c", "1", "-i", "0.1", "--ioam", "--ioam-namespace"]
    told = run(lab, *words, "5")["ioam"]
    assert (told["problem"], told["overflow"], told["namespace"]) == (None, False, 5)
    hops = told["hops"]
    assert [hop["node"] for hop in hops] == [1, 2, 4, 6, 4, 2, 1]
    assert [hop["way"] for hop in hops] == ["there"] * 4 + ["back"] * 3
    assert [hop["ingress"] for hop in hops[1:]] == [101, 102, 104, 106, 104, 102]
    limits = [hop["hop_limit"] for hop in hops]
    assert limits == list(range(limits[0], limits[0] - 7, -1))
    times = [hop["time"] for hop in hops]
    assert times == sorted(times)
    assert sum(hop["delay_ms"] for hop in hops[1:]) <= told["rtt_ms"]
    other = run(lab, *words, "6")["ioam"]
    assert other["hops"] == [] and other["problem"].startswith("no router has added IOAM data")
