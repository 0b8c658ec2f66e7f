"""The compared variants from host-a to host-b: unsteered, the kernel's seg6, HawkWing.

All use the same links: vpp1 and vpp6 get no second, equal path across the ring.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from ipaddress import IPv6Address

from pyroute2 import IPRoute

from hawkwing.sids import wire_order
from lab.bench.traffic import DATAGRAM_PORT, PORT
from lab.linux.kernel import set_sysctl
from lab.network import Lab
from lab.process import Process

UNSTEERED, KERNEL, HAWKWING = "unsteered", "kernel seg6", "HawkWing"
VIA = ("vpp3", "vpp6")
SR_DOMAIN = "fcbb::/16"
CONFIG = """\
sr_domain: [{sr_domain}]
{controller}services:
  bench:
    ipv6_addresses: ["{address}"]
    applications:
"""
APPLICATION = "      - {{port: {port}, sid: [{sids}]{intents}}}\n"
_AGENT = [sys.executable, "-m", "hawkwing"]


def sids(lab: Lab) -> list[IPv6Address]:
    """The segment list there in travel order; the way back uses it reversed."""
    return [lab.topology.router(name).sid for name in VIA]


def configuration(lab: Lab, with_controller: bool = False) -> str:
    """A client's configuration: both measured ports of host-b, with the SIDs."""
    listed = ", ".join(map(str, sids(lab)))
    controller, intents = "", ""
    if with_controller:
        host = lab.hawkeye
        assert host.hawkeye is not None
        controller = f'hawkeye: {{enabled: true, address: "{host.address}", port: {host.hawkeye.port}}}\n'
        intents = ", intents: [{intent: low-latency}]"
    text = CONFIG.format(
        sr_domain=SR_DOMAIN, controller=controller, address=lab.topology.host("host-b").address
    )
    for port in (PORT, DATAGRAM_PORT):
        text += APPLICATION.format(port=port, sids=listed, intents=intents)
    return text


def agent(
    lab: Lab,
    role: str,
    node: str,
    *options: str,
    environment: Mapping[str, str] | None = None,
    with_controller: bool = False,
    text: str = "",
) -> Process:
    """Starts an agent on a host's eth0, a client with this configuration or the usual one.

    The caller waits for "ready".
    """
    argv = [*_AGENT, role, "-i", "eth0", *options]
    if role == "client":
        file = lab.run / f"{node}.yaml"
        file.write_text(text or configuration(lab, with_controller))
        argv += ["--config", str(file)]
    else:
        argv += ["--sr-domain", SR_DOMAIN]
    return lab.start(node, f"{role}-{node}", argv, environment)


@contextmanager
def agents(lab: Lab, *options: str) -> Iterator[None]:
    """Runs HawkWing on both hosts."""
    started = [agent(lab, "server", "host-b", *options), agent(lab, "client", "host-a", *options)]
    try:
        for one in started:
            one.wait_for("ready: ")
        yield
    finally:
        for one in started:
            one.stop()


@contextmanager
def kernel_seg6(lab: Lab) -> Iterator[None]:
    """Uses the kernel's seg6 insertion and removal on both hosts."""
    listed = sids(lab)
    ends = (("host-a", "host-b", listed), ("host-b", "host-a", listed[::-1]))
    try:
        for here, there, segments in ends:
            lab.inside(here, _seg6_route("add", lab, here, there, segments))
        yield
    finally:
        for here, there, segments in ends:
            lab.inside(here, _seg6_route("del", lab, here, there, segments))


def _seg6_route(
    command: str, lab: Lab, here: str, there: str, segments: Sequence[IPv6Address]
) -> Callable[[], None]:
    host = lab.topology.host(here)

    def work() -> None:
        for scope in ("all", "eth0"):
            set_sysctl(f"net/ipv6/conf/{scope}/seg6_enabled", int(command == "add"))
        with IPRoute() as ip:
            ip.route(
                command,
                dst=f"{lab.topology.host(there).address}/128",
                gateway=str(host.interface.peer_address.ip),
                oif=ip.link_lookup(ifname="eth0")[0],
                encap={"type": "seg6", "mode": "inline", "segs": ",".join(map(str, wire_order(segments)))},
            )

    return work


def one_path(lab: Lab) -> None:
    """Sets the unsteered path to vpp3 and vpp5."""
    for router, neighbour, host in (("vpp1", "vpp3", "host-b"), ("vpp6", "vpp5", "host-a")):
        interface = lab.topology.router(router).interface_to(neighbour)
        address = lab.topology.host(host).address

        def work(
            name: str = interface.name,
            gateway: str = str(interface.peer_address.ip),
            address: IPv6Address = address,
        ) -> None:
            with IPRoute() as ip:
                index = ip.link_lookup(ifname=name)[0]
                ip.route("add", dst=f"{address}/128", gateway=gateway, oif=index)

        lab.inside(router, work)
