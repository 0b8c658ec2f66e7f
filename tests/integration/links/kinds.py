"""Kinds of interfaces between a host and its router, as `ip -batch` makes them: a command a line.

In the commands {lower} is the veth that both are connected by, {second} another one, and {upper} what is made
upon it. {here} and {there} are the addresses of the two ends of the veth, in IPv6, {here4} and {there4} in
IPv4. {number} is another one for each link of a node.
"""

from dataclasses import dataclass

from scapy.contrib.geneve import GENEVE
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import GRE, Dot1AD, Dot1Q, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet

#: WireGuard's keys, private and public, for tests only.
KEYS = {
    "host": (
        "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ac177fba51db92c2a",
        "2953e97dca1229f97c600bec2c17feeaab35ce4bedf66b1d42f16a449dc5c05f",
    ),
    "router": (
        "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
        "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f",
    ),
}


@dataclass(frozen=True)
class Kind:
    """How a link of a kind is made."""

    name: str
    #: At both ends, or at the host's alone: then the router's end is the veth itself.
    both: tuple[str, ...] = ()
    host: tuple[str, ...] = ()
    #: Where packets of the host go; and where an agent can work instead, below that.
    above: str = "{upper}"
    below: str = ""
    #: What a packet of the host has in front of its IPv6 header, on the veth; empty: not readable.
    around: tuple[type[Packet], ...] = (Ether,)
    #: What sockets of the host have to be bound to, and the table of its routes.
    bound: str = ""
    table: str = ""
    #: A second veth, for links that are made of several.
    two: bool = False

    @property
    def at_router(self) -> bool:
        """Does the router have an interface of the kind, too?"""
        return bool(self.both)


def _tunnel(kind: str, around: tuple[type[Packet], ...], old: bool = False, more: str = "") -> Kind:
    version = "4" if old else ""
    made = f"link add {{upper}} type {kind} local {{here{version}}} remote {{there{version}}} {more}"
    return Kind(kind, both=(made,), around=around)


KINDS = [
    Kind("veth", above="{lower}"),
    Kind(
        "vlan",
        both=("link add link {lower} name {upper} type vlan id 100",),
        below="{lower}",
        around=(Ether, Dot1Q),
    ),
    Kind(
        "qinq",
        both=(
            "link add link {lower} name {lower}m type vlan proto 802.1ad id 7",
            "link set {lower}m up",
            "link add link {lower}m name {upper} type vlan id 100",
        ),
        below="{lower}m",
        around=(Ether, Dot1AD, Dot1Q),
    ),
    Kind(
        "bond",
        both=(
            "link add {upper} type bond mode active-backup miimon 50",
            "link set {lower} down",
            "link set {lower} master {upper}",
            "link set {second} down",
            "link set {second} master {upper}",
        ),
        below="{lower} {second}",
        two=True,
    ),
    Kind(
        "bridge",
        host=("link add {upper} type bridge", "link set {lower} master {upper}"),
        below="{lower}",
    ),
    Kind(
        "macvlan",
        host=("link add link {lower} name {upper} type macvlan mode bridge",),
        below="{lower}",
    ),
    Kind("ipvlan", host=("link add link {lower} name {upper} type ipvlan mode l2",), below="{lower}"),
    Kind(
        "vrf",
        host=(
            "link add {upper} type vrf table 10",
            "link set {upper} up",
            "link set {lower} master {upper}",
        ),
        above="{lower}",
        bound="{upper}",
        table="table 10",
    ),
    Kind("wireguard", both=("link add {upper} type wireguard",), around=()),
    # Without the option that limits how often packets are encapsulated (RFC 2473, 4.1.1).
    _tunnel("ip6gre", (Ether, IPv6, GRE), more="encaplimit none"),
    _tunnel("gre", (Ether, IP, GRE), old=True),
    _tunnel("ip6gretap", (Ether, IPv6, GRE, Ether), more="encaplimit none"),
    _tunnel("sit", (Ether, IP), old=True),
    _tunnel("ip6tnl", (Ether, IPv6), more="mode ip6ip6 encaplimit none"),
    Kind(
        "vxlan",
        both=("link add {upper} mtu 1430 type vxlan id {number} local {here} remote {there} dstport 4789",),
        around=(Ether, IPv6, UDP, VXLAN, Ether),
    ),
    Kind(
        "geneve",
        both=("link add {upper} mtu 1430 type geneve id {number} remote {there}",),
        around=(Ether, IPv6, UDP, GENEVE, Ether),
    ),
]
