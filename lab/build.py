"""Makes namespaces, links and routers of a topology; everything it makes lives in the namespaces."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from pyroute2 import IPRoute

from lab import netns
from lab.linux.router import LinuxRouter, add_routes, set_sysctl
from lab.routing import Route, routes
from lab.topology import Host, Link, Router, Topology

_IFA_F_NODAD, _IFA_F_NOPREFIXROUTE = 0x02, 0x200
_WORKERS = 8
T = TypeVar("T")


class RouterKind(Protocol):
    """The seam for kinds of routers: the kernel's own, or another."""

    def prepare(self) -> None:
        """Inside the router's namespace, before there are interfaces."""

    def configure(self, ip: IPRoute, indexes: dict[str, int], routes: list[Route]) -> None:
        """Inside the router's namespace, once its links are up and have their addresses."""


def router_of(node: Router) -> RouterKind:
    """The implementation that a router's node asks for."""
    if node.router == "linux":
        return LinuxRouter(node)
    raise ValueError(f"{node.name}: routers of kind {node.router!r} can't be built here")


class HostKind:
    """A host: its service address beside the link's, and a default route."""

    def __init__(self, node: Host) -> None:
        self._node = node

    def prepare(self) -> None:
        """Hosts take the kernel's defaults."""

    def configure(self, ip: IPRoute, indexes: dict[str, int], host_routes: list[Route]) -> None:
        """The service address sits on the link, where source address selection finds it."""
        add_address(
            ip, indexes["eth0"], self._node.service_address.ip, self._node.service_address.network.prefixlen
        )
        add_routes(ip, indexes, host_routes)


def add_address(ip: IPRoute, index: int, address: object, length: int) -> None:
    """An address that is usable at once."""
    flags = _IFA_F_NODAD | (_IFA_F_NOPREFIXROUTE if length == 48 else 0)
    ip.addr("add", index=index, address=str(address), prefixlen=length, flags=flags)


def in_parallel(work: Callable[[T], None], items: Iterable[T]) -> None:
    """Does the work for all items, and raises the first failure."""
    with ThreadPoolExecutor(_WORKERS) as pool:
        for future in [pool.submit(work, item) for item in items]:
            future.result()


def build(topology: Topology, namespace: Callable[[str], str]) -> None:
    """Builds the whole network; `namespace` gives a node's namespace name."""
    all_routes = routes(topology)
    kinds = {
        node.name: HostKind(node) if isinstance(node, Host) else router_of(node)
        for node in topology.nodes.values()
    }

    def make_node(name: str) -> None:
        netns.create(namespace(name))

        def settle() -> None:
            set_sysctl("net/ipv6/conf/default/accept_dad", 0)
            set_sysctl("net/ipv6/conf/default/accept_ra", 0)
            kinds[name].prepare()

        netns.run_inside(namespace(name), settle)

    def make_link(link: Link) -> None:
        one, other = (link.interface(node) for node in link.nodes)
        with netns.held(namespace(other.node)) as far:

            def add() -> None:
                with IPRoute() as ip:
                    ip.link(
                        "add", ifname=one.name, kind="veth", peer={"ifname": other.name, "net_ns_fd": far}
                    )

            netns.run_inside(namespace(one.node), add)

    def configure(name: str) -> None:
        interfaces = topology.nodes[name].interfaces

        def inside() -> None:
            with IPRoute() as ip:
                indexes = {link.get_attr("IFLA_IFNAME"): link["index"] for link in ip.get_links()}
                ip.link("set", index=1, state="up")
                for interface in interfaces:
                    # A neighbour that was asked before its end was up is asked again soon, not in a second.
                    set_sysctl(f"net/ipv6/neigh/{interface.name}/retrans_time_ms", 20)
                    add_address(
                        ip, indexes[interface.name], interface.address.ip, interface.address.network.prefixlen
                    )
                    ip.link("set", index=indexes[interface.name], state="up")
                kinds[name].configure(ip, indexes, all_routes[name])

        netns.run_inside(namespace(name), inside)

    in_parallel(make_node, topology.nodes)
    in_parallel(make_link, topology.links)
    in_parallel(configure, topology.nodes)
