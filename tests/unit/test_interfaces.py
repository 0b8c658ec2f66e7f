"""Which interfaces an agent can work on, by what the kernel tells of them."""

import pytest

from hawkwing.dataplane.interfaces import why_not, with_two_tags
from hawkwing.dataplane.tc import Link

ETHERNET, LOOPBACK, PPP, INFINIBAND, RAW_IP, TUNNEL6, SIT, GRE, IP6GRE, CAN, NONE = (
    1, 772, 512, 32, 519, 769, 776, 778, 823, 280, 0xFFFE,
)  # fmt: skip


@pytest.mark.parametrize("kind", [ETHERNET, LOOPBACK, PPP, RAW_IP, TUNNEL6, SIT, GRE, IP6GRE, NONE])
def test_links_that_can_be_used(kind: int) -> None:
    assert why_not(Link(1, "it0", kind)) == ""


@pytest.mark.parametrize(
    ("link", "said"),
    [
        (Link(1, "it0", ETHERNET, kind="vrf"), "it0 is a VRF"),
        (Link(1, "it0", NONE, kind="xfrm"), "it0 is an IPsec interface (xfrm)"),
        (Link(1, "it0", TUNNEL6, kind="vti6"), "it0 is an IPsec interface (vti6)"),
        (Link(1, "it0", GRE, kind="gre", has_remote=False), "it0 is a GRE tunnel without a remote address"),
        (Link(1, "it0", CAN, kind="vcan"), "(ARPHRD 280)"),
        (Link(1, "it0", INFINIBAND), "(ARPHRD 32)"),
    ],
)
def test_links_that_can_not(link: Link, said: str) -> None:
    assert said in why_not(link)
    assert "\n" not in why_not(link)


LINKS = [
    Link(1, "lo", LOOPBACK),
    Link(2, "eth0", ETHERNET, master=9),
    Link(3, "eth0.7", ETHERNET, kind="vlan", lower=2),
    Link(4, "eth0.7.100", ETHERNET, kind="vlan", lower=3),
    Link(5, "eth0.7.100.5", ETHERNET, kind="vlan", lower=4),
    Link(6, "eth1", ETHERNET, kind="vlan", lower=77),
    Link(9, "bond0", ETHERNET, kind="bond"),
    Link(10, "bond0.7", ETHERNET, kind="vlan", lower=9),
    Link(11, "bond0.7.8", ETHERNET, kind="vlan", lower=10),
]


@pytest.mark.parametrize(
    ("index", "names"),
    [
        (1, []),
        (2, ["eth0.7.100", "eth0.7.100.5", "bond0.7.8"]),
        (3, ["eth0.7.100.5"]),
        (4, []),
        (9, ["bond0.7.8"]),
        (10, []),
        (12, []),
    ],
)
def test_links_with_two_tags_below(index: int, names: list[str]) -> None:
    assert with_two_tags(LINKS, index) == names
