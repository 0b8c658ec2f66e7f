"""`hawkwing paths --measure` in the lab: all candidates at the same time, good ones and broken ones."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest

from fake_hawkeye.control import Control
from lab.impair import fail, heal, impair
from lab.network import PROJECT, Lab
from lab.packets import segments
from lab.wait import wait_until
from lab.wire import Capture

from .conftest import HAWKWING, Agents, on_vpp
from .onwire import R1, R2, R4, R6, B
from .test_controller import INTENTS, LOWER, UPPER, WITH_BACKUP, hawkeye
from .test_trace import LOWER_LINKS, PROBES, UPPER_LINKS, changed, there_and_back

__all__ = ["hawkeye"]

NAMES = f"labels: {{'{R1}': vpp1, '{R4}': vpp4, '{R6}': vpp6}}\n"


@pytest.fixture(autouse=True)
def two_paths(lab: Lab, agents: Agents, hawkeye: Control) -> None:
    """The controller's path is the upper one, the backup the lower one."""
    agents.client(WITH_BACKUP + NAMES)
    wait_until(hawkeye.requests, 5.0, "the agent asks the controller")
    hawkeye.set_path(B, INTENTS, UPPER)
    wait_until(
        lambda: paths(lab)["bindings"][0]["origin"] == "controller", 5.0, "the controller's path is used"
    )


def paths(lab: Lab, *words: str) -> dict[str, Any]:
    """What `hawkwing paths --json` says of the destination."""
    done = lab.execute("host-a", [*HAWKWING, "paths", B, "80", "--json", *words])
    return dict(json.loads(done.stdout)[0])


def measured(lab: Lab, count: int = 3, *words: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Of the upper and the lower path."""
    (binding,) = paths(lab, f"--measure={count}", *words)["bindings"]
    upper, lower = binding["candidates"]
    assert (upper["sids"], lower["sids"]) == (UPPER, LOWER)
    return upper["measured"], lower["measured"]


def test_all_candidates_are_probed_in_turn(lab: Lab, capture: Capture) -> None:
    capture.forget()
    upper, lower = measured(lab)
    for one in (upper, lower):
        assert (one["sent"], one["received"], one["loss_percent"], one["problem"]) == (3, 3, 0.0, None)
        assert 0 < one["rtt_ms"]["min"] <= one["rtt_ms"]["avg"] <= one["rtt_ms"]["max"]
    packets = capture.settled(PROBES)
    expected = {
        tuple(there_and_back(sids, links)[1]) for sids, links in ((UPPER, UPPER_LINKS), (LOWER, LOWER_LINKS))
    }
    sent = [tuple(segments(packet)) for packet in packets if packet.sender == "host-a"]
    assert Counter(sent) == dict.fromkeys(expected, 3)
    # In turn, not one path after the other.
    assert sent[:2] == sent[2:4] == sent[4:6] and sent[0] != sent[1]


def test_without_the_option_nothing_is_sent(lab: Lab, capture: Capture) -> None:
    capture.forget()
    (binding,) = paths(lab)["bindings"]
    assert capture.settled(PROBES) == []
    assert all("measured" not in one for one in binding["candidates"])


def test_a_failed_link_is_one_candidates_loss(lab: Lab) -> None:
    links = ["vpp1-vpp2", "vpp2-vpp4"]
    try:
        for link in links:
            fail(lab, link)
        upper, lower = measured(lab)
        text = lab.execute("host-a", [*HAWKWING, "paths", B, "80", "--measure=2"]).stdout
    finally:
        for link in links:
            heal(lab, link)
    assert (upper["received"], upper["loss_percent"], upper["rtt_ms"]) == (0, 100.0, None)
    if not on_vpp(lab):
        assert upper["problem"]["text"] == f"no route to {R2}"
    assert (lower["received"], lower["loss_percent"], lower["problem"]) == (3, 0.0, None)
    (first, second) = [line.strip() for line in text.splitlines() if line.strip().startswith("rtt ")]
    assert first.startswith("rtt min/avg/max -, 100% loss of 2 probes: ")
    assert second.endswith(" ms, 0% loss of 2 probes")
    wait_until(lambda: measured(lab)[0]["received"] == 3, 10.0, "all probes to return over the healed links")


def test_silence_and_narrow_links_are_told(lab: Lab) -> None:
    back = f"ip -6 route replace {R4}/128 via 2001:db8:24::4 dev vpp4 proto static"
    drop = f"ip -6 route del {R4}/128; ip -6 route add blackhole {R4}/128"
    with changed(lab, "vpp2", drop, f"ip -6 route del blackhole {R4}/128; {back}"):
        upper, lower = measured(lab, 1)
    assert upper["problem"]["text"] == "no answer" and lower["received"] == 1
    with changed(lab, "vpp2", "ip link set vpp4 mtu 1300", "ip link set vpp4 mtu 1500"):
        upper, lower = measured(lab, 1, "--size=1250")
        assert measured(lab, 1)[0]["received"] == 1
    assert upper["problem"]["mtu"] == 1300 and lower["received"] == 1
    assert upper["problem"]["text"] == "Packet Too Big, the next link carries 1300 bytes"


def test_a_slow_link_is_one_candidates_latency(lab: Lab) -> None:
    """More is sent than the link carries, and its queue fills; with netem it is latency, too."""
    done = impair(lab, "vpp2-vpp4", latency=20_000, bandwidth=1000)
    try:
        if any("no tbf" in one for one in done):
            pytest.skip("this kernel has no tbf (CONFIG_NET_SCH_TBF)")
        words = ["ping", "--sid", ",".join(UPPER), "--size", "1200", "-i", "0.005"]
        filling = lab.start("host-a", "filling", [*HAWKWING, *words])
        filling.wait_for("seq=30 ")
        upper, lower = measured(lab, 10)
        filling.signal(signal.SIGINT)
        filling.wait()
    finally:
        heal(lab, "vpp2-vpp4")
    assert lower["received"] == 10
    assert upper["received"] == 0 or upper["rtt_ms"]["avg"] > 5 * lower["rtt_ms"]["avg"]


def test_names_and_numbers_as_text(lab: Lab) -> None:
    text = lab.execute("host-a", [*HAWKWING, "paths", B, "80", "--measure", "2"]).stdout
    head, first, upper, second, lower, why = text.splitlines()
    assert head == f"[{B}]:80 (service web)"
    assert first.startswith(f"  * controller  vpp1 > {UPPER[1]} > vpp4 > vpp6  (in use since ")
    assert second.startswith(f"    configured  vpp1 > {LOWER[1]} > {LOWER[2]} > vpp6  (not in use: backup)")
    assert all(line.startswith("                rtt min/avg/max ") for line in (upper, lower))
    assert why.startswith("    the controller's path for ")


LOOPBACK = """\
set -e
ip link set lo up
for each in 1 2 9; do ip -6 address add fd00::$each/128 dev lo nodad; done
echo 1 >/proc/sys/net/ipv6/conf/all/seg6_enabled
echo 1 >/proc/sys/net/ipv6/conf/lo/seg6_enabled
exec "$@"
"""
SEVERAL = """\
from contextlib import closing
from ipaddress import IPv6Address
from hawkwing.probing.lists import probe_srh
from hawkwing.probing.measure import Probers
from hawkwing.probing.run import Lane, Pace, Run
sources = [IPv6Address("fd00::1"), IPv6Address("fd00::2"), IPv6Address("fd00::1")]
lanes = [Lane(probe_srh([IPv6Address(sid)])) for sid in ("fd00::9", "fd00::9", "2001:db8::9")]
with closing(Probers(sources, 56)) as probers:
    Run(probers, lanes, Pace(3, 0.02, 1.0)).run()
print([(lane.tally.sent, lane.tally.received, lane.problem is None) for lane in lanes])
"""


def test_several_sources_are_used_as_one() -> None:
    """On the loopback, which is its own SR endpoint; the third list has no route."""
    argv = ["unshare", "-n", "sh", "-c", LOOPBACK, "sh", sys.executable, "-c", SEVERAL]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=PROJECT, check=True)
    assert done.stdout == "[(3, 3, True), (3, 3, True), (3, 0, False)]\n"
