"""STAMP probes (RFC 8762) on the wire: for networks whose routers drop packets with the host's own source."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from scapy.contrib.stamp import STAMPSessionReflectorTestUnauthenticated as Answer
from scapy.contrib.stamp import STAMPSessionSenderTestUnauthenticated as Request
from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrSegmentRouting
from scapy.packet import Packet

from lab.network import Lab
from lab.wait import wait_until
from lab.wire import Capture, Filter, udp_port

from .conftest import HAWKWING, Agents, Endpoint, on_vpp, said
from .onwire import LOWER_WAY, LOWER_WAY_BACK, R4, UPPER_WAY, UPPER_WAY_BACK, A, B
from .test_several_paths import LOWER, PORT, UPPER, black_hole, config, path, until_sent

STAMP = 862
PATHS = path(UPPER, preference=200, name="upper"), path(LOWER, name="lower")
LOOPBACK, STAMPED = "probes: {interval: 20}\n", f"probes: {{interval: 20, stamp_port: {STAMP}}}\n"


@contextmanager
def own_source_dropped(lab: Lab) -> Iterator[None]:
    """A router in front of host-a drops packets that come back to their own source, as a firewall may."""
    rule = ["from", f"{A}/128", "to", f"{A}/128", "blackhole", "priority", "1"]
    lab.execute("site-a", ["ip", "-6", "rule", "add", *rule])
    try:
        yield
    finally:
        lab.execute("site-a", ["ip", "-6", "rule", "del", *rule])


@pytest.fixture
def guarded(lab: Lab) -> Iterator[Lab]:
    if on_vpp(lab):
        pytest.skip("VPP's routers have no such rule here")
    with own_source_dropped(lab):
        yield lab


def reflect(agents: Agents, folder: Path, more: str = "") -> None:
    """A server at host-b that answers."""
    file = folder / "server.yaml"
    file.write_text(f"stamp_port: {STAMP}\n{more}")
    agents.server("host-b", "--config", str(file))


def healths(lab: Lab) -> dict[str, dict[str, object]]:
    (binding,) = json.loads(said(lab, "status", "--json"))[0]["bindings"]
    return {one["name"]: one["health"] for one in (*binding["active"], *binding["standby"])}


def test_probes_that_return_by_themselves_fail_here(guarded: Lab, agents: Agents, capture: Capture) -> None:
    """The control: why a reflector is needed."""
    agents.server("host-b")
    agents.client(config(*PATHS, more=LOOPBACK))
    wait_until(lambda: capture.count(Filter(17, link="host-a-site-a")) > 50, 10, "probes")
    assert {one["probes_received"] for one in healths(guarded).values()} == {0}


def test_requests_and_answers_take_the_path(
    guarded: Lab, agents: Agents, capture: Capture, tmp_path: Path
) -> None:
    reflect(agents, tmp_path)
    agents.client(config(*PATHS, more=STAMPED))
    wait_until(
        lambda: all(one["state"] == "alive" for one in healths(guarded).values()), 20, "answers on both paths"
    )
    capture.forget()
    wait_until(lambda: capture.count(Filter(link="host-a-site-a")) > 40, 10, "probes")
    seen = capture.packets(udp_port(STAMP))
    for way, back, sids in ((UPPER_WAY, UPPER_WAY_BACK, UPPER), (LOWER_WAY, LOWER_WAY_BACK, LOWER)):
        requests = [one for one in seen if one[IPv6].src == A and lists_of(one) == sids]
        number = Request(bytes(requests[0][UDP].payload)).seq
        mine = [one for one in requests if Request(bytes(one[UDP].payload)).seq == number]
        assert [(one.link, one[IPv6].dst, one[IPv6ExtHdrSegmentRouting].segleft) for one in mine] == way
        answers = [
            one
            for one in seen
            if one[IPv6].src == B
            and lists_of(one) == sids[::-1]
            and Answer(bytes(one[UDP].payload)).seq_sender == number
        ]
        assert [(one.link, one[IPv6].dst, one[IPv6ExtHdrSegmentRouting].segleft) for one in answers] == back
        request, answer = Request(bytes(mine[0][UDP].payload)), Answer(bytes(answers[0][UDP].payload))
        assert (answer.ssid, answer.ttl_sender) == (request.ssid, mine[-1][IPv6].hlim)
        sent, received, replied = (
            int.from_bytes(raw, "big")
            for raw in (bytes(request)[4:12], bytes(answer)[16:24], bytes(answer)[4:12])
        )
        assert sent < received <= replied, "one machine, one clock"
        assert [tlv.type for tlv in answer.tlv_objects] == [1]


def lists_of(packet: Packet) -> list[str]:
    """The segment list as it was put in."""
    return list(packet[IPv6ExtHdrSegmentRouting].addresses[:0:-1])


def test_flows_leave_a_dead_path(
    guarded: Lab, agents: Agents, capture: Capture, udp: Callable[..., Endpoint], tmp_path: Path
) -> None:
    udp("host-b", PORT)
    reflect(agents, tmp_path)
    agents.client(config(*PATHS, more=STAMPED))
    until = until_sent(capture, udp("host-a").socket)
    until(UPPER)
    with black_hole(guarded, "vpp4", R4):
        until(LOWER)
        assert healths(guarded)["upper"]["state"] == "dead"
    until(UPPER)


def test_a_missing_reflector_is_said(guarded: Lab, agents: Agents, tmp_path: Path) -> None:
    """And no path counts as dead; once one answers, all is well."""
    file = tmp_path / "server.yaml"
    file.write_text("{}\n")
    agents.server("host-b", "--config", str(file))
    client = agents.client(config(*PATHS, more=STAMPED))
    client.wait_for(f"is not probed: no STAMP reflector answers at [{B}]:{STAMP}")
    assert {one["state"] for one in healths(guarded).values()} == {"unknown"}
    missing = f"not probed: no STAMP reflector answers at [{B}]:{STAMP}"
    assert missing in said(guarded, "status") and missing in said(guarded, "paths", B, str(PORT))
    file.write_text(f"stamp_port: {STAMP}\n")
    guarded.execute("host-b", [*HAWKWING, "reload"])
    client.wait_for("is probed again")
    wait_until(
        lambda: all(one["state"] == "alive" for one in healths(guarded).values()), 20, "answers on both paths"
    )
    served = json.loads(guarded.execute("host-b", [*HAWKWING, "status", "--json"]).stdout)[0]
    assert served["stamp"]["port"] == STAMP and served["stamp"]["answered"] > 0
    file.write_text("{}\n")
    guarded.execute("host-b", [*HAWKWING, "reload"])
    client.wait_for(f"is not probed: no STAMP reflector answers at [{B}]:{STAMP}")


def test_only_the_domain_gets_answers(guarded: Lab, agents: Agents, tmp_path: Path) -> None:
    """With an SR domain that has the routers' SIDs but not host-a, no probe is trusted."""
    reflect(agents, tmp_path, f"sr_domain: [fcbb:bb00::/32, {B}/128]\n")
    agents.client(config(*PATHS, more=STAMPED))
    wait_until(
        lambda: json.loads(guarded.execute("host-b", [*HAWKWING, "status", "--json"]).stdout)[0]["counters"][
            "ingress"
        ].get("UNTRUSTED"),
        10,
        "probes to be refused",
    )
    assert {one["probes_received"] for one in healths(guarded).values()} == {0}
