"""What an agent can't do on a kind of interface it says at its start, in one sentence."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ..pair import Pair

VRF = "ip link add {name} type vrf table 10; ip link set {name} up"
XFRM = "ip link set lo up; ip link add {name} type xfrm dev lo if_id 5"
VTI = "ip link add {name} type vti local 10.0.0.1 remote 10.0.0.2 key 5"
VTI6 = "ip link add {name} type vti6 local fd00::1 remote fd00::2 key 5"
GRE = "ip link add {name} type gre local 10.0.0.1 key 5"
IP6GRE = "ip link add {name} type ip6gre local fd00::1 key 5"
CAN = "ip link add {name} type vcan"
NETLINK = "ip link add {name} type nlmon"


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    """Namespaces for the test."""
    made = Pair(tmp_path)
    yield made
    made.close()


def make(pair: Pair, script: str, name: str = "it0") -> None:
    """Skips, with the reason, where the kernel has none of the kind."""
    done = pair.sh(f"({script.format(name=name)}) 2>&1 || true").strip()
    if "Unknown device type" in done or "not supported" in done:
        pytest.skip(f"this kernel has no links of the kind: {script}")
    assert not done, done


@pytest.mark.parametrize(
    ("script", "said"),
    [
        pytest.param(VRF, "it0 is a VRF, whose outgoing packets pass its interfaces only", id="vrf"),
        pytest.param(XFRM, "it0 is an IPsec interface (xfrm): HawkWing does not support these", id="xfrm"),
        pytest.param(VTI, "it0 is an IPsec interface (vti): HawkWing does not support these", id="vti"),
        pytest.param(VTI6, "it0 is an IPsec interface (vti6): HawkWing does not support these", id="vti6"),
        pytest.param(GRE, "it0 is a GRE tunnel without a remote address", id="gre"),
        pytest.param(IP6GRE, "it0 is a GRE tunnel without a remote address", id="ip6gre"),
        pytest.param(CAN, "it0 has link-layer headers of another kind than Ethernet (ARPHRD 280)", id="can"),
        pytest.param(
            NETLINK, "it0 has link-layer headers of another kind than Ethernet (ARPHRD 824)", id="nlmon"
        ),
    ],
)
def test_refused_in_one_sentence(pair: Pair, script: str, said: str) -> None:
    make(pair, script)
    assert pair.refused("-i", "it0", role="server").startswith(f"hawkwing: {said}")
    assert pair.filters("it0") == ""


def test_one_that_comes_later_is_refused_as_well(pair: Pair) -> None:
    """The agent goes on waiting for one that it can work on."""
    make(pair, VRF)
    pair.sh("ip link del it0")
    agent = pair.agent("server", "-i", "it0", "--wait-for-interface").ready()
    make(pair, VRF)
    agent.says("not attached: it0 is a VRF")
    assert "is a VRF" in pair.attachments()[0]["problem"]
    pair.sh("ip link del it0")
    pair.link("it0")
    agent.says("attached to it0")
    assert agent.stop() == 0


def test_two_vlan_tags_are_told(pair: Pair) -> None:
    """Below both tags packets can't be steered; above, and between them, they can."""
    pair.link()
    make(
        pair,
        "ip link add link eth0 name {name} type vlan proto 802.1ad id 7; ip link set {name} up",
        "outer0",
    )
    make(pair, "ip link add link outer0 name {name} type vlan id 100", "inner0")
    told = "eth0: packets of inner0 have two VLAN tags here and are not steered: give HawkWing inner0"
    agent = pair.agent("server").ready()
    agent.says(told)
    assert told in pair.attachments()[0]["warnings"]
    assert agent.stop() == 0
    between = pair.agent("server", "-i", "outer0").ready()
    assert pair.attachments()[0]["warnings"] == []
    assert between.stop() == 0
