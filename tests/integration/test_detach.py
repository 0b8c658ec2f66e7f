"""`hawkwing detach` takes off what stopped and killed agents have left; `reload` can be for one agent."""

import signal
from collections.abc import Iterator

import pytest

from hawkwing.dataplane.claim import runtime_folder
from lab import netns
from lab.network import Lab

from .conftest import HAWKWING, Agents, filters
from .test_steering import BY_NAME

THEIRS = "tc qdisc add dev eth0 clsact; tc filter add dev eth0 egress prio 7 protocol ipv6 u32 match u32 0 0"


@pytest.fixture
def others(lab: Lab) -> Iterator[str]:
    """Somebody else's filter on host-a's link; what tc shows of it."""
    lab.execute("host-a", ["sh", "-c", f"{THEIRS} flowid 1:1"])
    yield filters(lab, "host-a")
    lab.execute("host-a", ["tc", "qdisc", "del", "dev", "eth0", "clsact"])


def test_kept_filters_go_and_nothing_else(lab: Lab, agents: Agents, others: str) -> None:
    server = agents.server("host-a")
    with_server = filters(lab, "host-a")
    assert agents.client(BY_NAME, "host-a", "--keep").stop() == 0
    assert "hawkwing:client" in filters(lab, "host-a")
    told = lab.execute("host-a", [*HAWKWING, "detach"])
    assert (told.stdout, told.stderr) == ("removed the filters of the client on eth0\n", "")
    assert filters(lab, "host-a") == with_server
    assert lab.execute("host-a", [*HAWKWING, "detach"]).stdout == "no filters of stopped agents\n"
    assert server.stop() == 0
    assert filters(lab, "host-a") == others


@pytest.mark.parametrize("hook", ["tc", "xdp-generic"])
def test_those_of_a_killed_agent_go(lab: Lab, agents: Agents, hook: str) -> None:
    killed = agents.client(BY_NAME, "host-a", "--ingress-hook", hook)
    killed.signal(signal.SIGKILL)
    killed.wait()
    told = lab.execute("host-a", [*HAWKWING, "detach", "server"])
    assert told.stdout == "no filters of stopped agents\n"
    assert "hawkwing:client" in filters(lab, "host-a")
    told = lab.execute("host-a", [*HAWKWING, "detach", "client", "-i", "eth0"])
    assert told.stdout == "removed the filters of the client on eth0\n"
    assert filters(lab, "host-a") == ""
    assert "xdp" not in lab.execute("host-a", ["ip", "link", "show", "eth0"]).stdout
    assert not runtime_folder(netns.path(lab.namespace("host-a"))).exists()


def test_without_the_capability(lab: Lab, agents: Agents) -> None:
    assert agents.client(BY_NAME, "host-a", "--keep").stop() == 0
    told = lab.execute("host-a", ["setpriv", "--bounding-set=-all", "--", *HAWKWING, "detach"], check=False)
    assert told.returncode == 1
    sentence = "hawkwing: can't remove the filters of the client on eth0: it needs CAP_NET_ADMIN\n"
    assert told.stderr == sentence
    assert "hawkwing:client" in filters(lab, "host-a")
    lab.execute("host-a", [*HAWKWING, "detach"])


def test_reload_of_one_agent(lab: Lab, agents: Agents) -> None:
    agents.client(BY_NAME, "host-a")
    agents.server("host-a")
    told = lab.execute("host-a", [*HAWKWING, "reload", "client", "-i", "eth0"])
    assert told.stdout == "configuration reloaded\n"
    refused = lab.execute("host-a", [*HAWKWING, "reload", "server", "-i", "eth7"], check=False)
    assert refused.stderr == "hawkwing: no hawkwing server is running on eth7\n"
