"""The other hooks for arriving packets: the same packets, the same answers."""

import pytest

from lab.network import Lab
from lab.wire import Capture, tcp_port

from .conftest import HAWKWING, Agents, filters
from .onwire import assert_steered
from .test_steering import BY_NAME, http

XDP = ["xdp", "xdp-generic"]


@pytest.mark.parametrize("hook", XDP)
def test_both_agents_on_xdp(lab: Lab, agents: Agents, capture: Capture, hook: str) -> None:
    agents.server("host-b", "--ingress-hook", hook, "--sr-domain", "fcbb::/16")
    agents.client(BY_NAME, "host-a", "--ingress-hook", hook, "--sr-domain", "fcbb::/16")
    assert "xdp" in lab.execute("host-b", ["ip", "link", "show", "eth0"]).stdout
    capture.forget()
    assert http(lab, "http://wb.hawk.net/") == "Hello from host-b\n"
    assert_steered(capture.settled(tcp_port(80)))
    script = "head -c 2000000 /dev/zero | curl -sS -m 10 -T - http://wb.hawk.net/; "
    script += "curl -sS -m 10 http://wb.hawk.net/bytes/2000000 | wc -c"
    answer, size = lab.execute("host-a", ["sh", "-c", script]).stdout.splitlines()
    assert answer.endswith(" 2000000") and size.strip() == "2000000"
    agents.stop()
    assert "xdp" not in lab.execute("host-b", ["ip", "link", "show", "eth0"]).stdout


def test_killed_agent_with_xdp_is_tidied_up_by_one_without(lab: Lab, agents: Agents) -> None:
    first = agents.server("host-b", "--ingress-hook", "xdp")
    first.signal(9)
    first.wait()
    agents.server("host-b")
    assert "xdp" not in lab.execute("host-b", ["ip", "link", "show", "eth0"]).stdout


def test_hook_that_the_driver_refuses(lab: Lab) -> None:
    script = "ip link add big type veth peer name big2 && ip link set big mtu 9000 && ip link set big up; "
    script += "ip link set big2 mtu 9000; ip link set big2 up"
    lab.execute("host-c", ["sh", "-c", script])
    try:
        result = lab.execute(
            "host-c", [*HAWKWING, "server", "-i", "big", "--ingress-hook", "xdp"], check=False
        )
        assert result.returncode == 1
        assert len(result.stderr.splitlines()) == 1
        assert result.stderr.startswith("hawkwing: big refuses xdp (")
        assert (
            "hawkwing" not in lab.execute("host-c", ["tc", "filter", "show", "dev", "big", "ingress"]).stdout
        )
    finally:
        lab.execute("host-c", ["ip", "link", "del", "big"])
    assert filters(lab, "host-c") == ""
