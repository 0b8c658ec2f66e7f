"""Creates the namespaces, links and nodes of a topology; everything is in the namespaces."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from pyroute2 import IPRoute

from hawkwing import ending
from lab import netns
from lab.kinds import NodeKind
from lab.linux.kernel import links, set_offload, set_sysctl
from lab.routing import routes
from lab.topology import Link, Topology

_WORKERS = 8
T = TypeVar("T")


def in_parallel(work: Callable[[T], None], items: Iterable[T]) -> None:
    """Does the work for all items in parallel, and raises the first error."""
    pool = ThreadPoolExecutor(_WORKERS)
    try:
        for future in [pool.submit(work, item) for item in items]:
            future.result()
    finally:
        # Clean-up must not run while another thread still creates something.
        with ending.shielded():
            pool.shutdown(cancel_futures=True)


def build(
    topology: Topology, namespace: Callable[[str], str], kinds: Mapping[str, NodeKind], mark: str
) -> None:
    """Builds the whole network; `namespace` gives a node's namespace name, `kinds` its kind.

    `mark` identifies the namespaces later.
    """
    all_routes = routes(topology)
    largest = min((kind.largest_packet for kind in kinds.values() if kind.largest_packet), default=None)

    def make_node(name: str) -> None:
        netns.create(namespace(name), mark)

        def settle() -> None:
            set_sysctl("net/ipv6/conf/default/accept_dad", 0)
            set_sysctl("net/ipv6/conf/default/accept_ra", 0)
            kinds[name].prepare()

        netns.run_inside(namespace(name), settle)

    def make_link(link: Link) -> None:
        one, other = (link.interface(node) for node in link.nodes)
        with netns.held(namespace(other.node)) as far:
            peer = {"ifname": other.name, "address": other.hardware_address, "net_ns_fd": far}

            def add() -> None:
                with IPRoute() as ip:
                    ip.link("add", ifname=one.name, kind="veth", address=one.hardware_address, peer=peer)

            netns.run_inside(namespace(one.node), add)

    def configure(name: str) -> None:
        interfaces = topology.nodes[name].interfaces

        def inside() -> None:
            with IPRoute() as ip:
                indexes = links(ip)
                ip.link("set", index=1, state="up")
                for interface in interfaces:
                    if largest is not None:
                        # On all links, or a Linux router would cut larger packets before a link to VPP.
                        set_offload(interface.name, "tx-udp-segmentation", "off")
                        ip.link("set", index=indexes[interface.name], gso_max_size=largest)
                    ip.link("set", index=indexes[interface.name], state="up")
                kinds[name].configure(ip, indexes, all_routes[name])

        netns.run_inside(namespace(name), inside)

    in_parallel(make_node, topology.nodes)
    in_parallel(make_link, topology.links)
    in_parallel(configure, topology.nodes)
