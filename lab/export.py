"""`lab.export --to containerlab`: a topology as a file for containerlab (https://containerlab.dev).

Routers are containers with iproute2; the kernel does the routing and has the SIDs. Hosts use the same image.
Agents and web servers run in further containers, with the image of this project, in the host's network
namespace.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from lab.errors import LabError
from lab.routing import Route, routes
from lab.topology import Host, Interface, Node, Router, Topology

ROUTER_IMAGE = "quay.io/frrouting/frr:10.5.0"
AGENT_IMAGE = "hawkwing:0.1.0"
CONFIG = "client.yaml"
_IN_CONTAINER = "/etc/hawkwing/config.yaml"
_LINK_MTU = 1500
_BESIDE_DELAY = 5
"""Seconds after which containerlab starts a container in the namespace of another one."""
_SYSCTLS = {"net.ipv6.conf.all.disable_ipv6": 0, "net.ipv6.conf.default.disable_ipv6": 0}
_OF_ROUTERS = {
    f"net.ipv6.conf.{scope}.{name}": 1
    for name in ("forwarding", "seg6_enabled")
    for scope in ("all", "default")
}
_HEAD = """\
# Made by `./run lab.export --to containerlab`.
#   containerlab deploy --topo {file}
#   docker exec clab-{lab}-{client}-client hawkwing status
#   docker exec clab-{lab}-{client}-client python3 -c '
#     import urllib.request; print(urllib.request.urlopen("http://[{server}]:{port}/").status)'
#   docker exec clab-{lab}-{client}-client hawkwing drops
#   containerlab destroy --topo {file}
"""


def containerlab(topology: Topology, file: str, router_image: str, agent_image: str) -> str:
    """The topology file; the client's configuration (`client_config`) must be in the same folder."""
    vpp = [router.name for router in topology.routers if router.router == "vpp"]
    if vpp:
        raise LabError(f"only Linux routers can be exported: router: vpp is set for {', '.join(vpp)}")
    table = routes(topology)
    nodes: dict[str, Any] = {}
    for name, node in topology.nodes.items():
        nodes[name] = _node(node, table[name])
        if isinstance(node, Host):
            nodes.update(_beside(node))
    images = {"router": router_image, "agent": agent_image}
    for settings in nodes.values():
        settings["image"] = images[settings["group"]]
    links = [
        {"endpoints": [str(endpoint) for endpoint in link.endpoints], "mtu": _LINK_MTU}
        for link in topology.links
    ]
    whole = {"name": topology.name, "topology": {"nodes": nodes, "links": links}}
    text = yaml.safe_dump(whole, sort_keys=False, width=200)
    return _head(topology, file) + text


def _head(topology: Topology, file: str) -> str:
    clients = [host.name for host in topology.hosts if _is_client(host)]
    servers = [host for host in topology.hosts if host.web is not None]
    if not clients or not servers or servers[0].web is None:
        return "# Made by `./run lab.export --to containerlab`.\n"
    address, port = servers[0].address, servers[0].web.port
    return _HEAD.format(file=file, lab=topology.name, client=clients[0], server=address, port=port)


def _node(node: Node, own: Sequence[Route]) -> dict[str, Any]:
    """The container whose network namespace is the node."""
    sysctls = _SYSCTLS | (_OF_ROUTERS if isinstance(node, Router) else {})
    return {
        "kind": "linux",
        "group": "router",
        # eth0 belongs to a link, and there is no management network.
        "network-mode": "none",
        "entrypoint": "sleep infinity",
        "sysctls": sysctls,
        "exec": list(_commands(node, own)),
    }


def _commands(node: Node, own: Sequence[Route]) -> Iterator[str]:
    if isinstance(node, Router):
        yield f"ip -6 address add {node.loopback} dev lo"
    for interface in node.interfaces:
        yield f"ip -6 address add {interface.address} dev {interface.name} nodad"
        if isinstance(node, Host):
            yield f"ip -6 address add {node.service_address} dev {interface.name} nodad noprefixroute"
    if isinstance(node, Router):
        for sid in node.sids:
            action = "encap seg6local action End"
            yield f"ip -6 route add {sid}/128 proto static {action} dev {node.interfaces[0].name}"
        if node.csid is not None:
            # Kernel and iproute2 before 6.1 refuse this; the lab then works without C-SIDs.
            action = f"encap seg6local action End flavors next-csid lblen {node.csid.prefixlen - 16} nflen 16"
            yield f"ip -6 route add {node.csid} proto static {action} dev {node.interfaces[0].name}"
    for route in own:
        hops = " ".join(f"nexthop via {hop.address} dev {hop.interface}" for hop in route.next_hops)
        yield f"ip -6 route add {route.prefix} proto static {hops}"


def _is_client(host: Host) -> bool:
    return host.web is None and host.dns is None and host.hawkeye is None


def _beside(host: Host) -> Iterator[tuple[str, dict[str, Any]]]:
    """The containers that share a host's network namespace: an agent, and a web server."""
    if _is_client(host):
        words = [*_agent("client", host.interface), "--config", _IN_CONTAINER]
        yield f"{host.name}-client", {**_sharing(host, words), "binds": [f"{CONFIG}:{_IN_CONTAINER}:ro"]}
    if host.web is not None:
        yield f"{host.name}-server", _sharing(host, _agent("server", host.interface))
        # On any address: the host's address may be added later.
        web = ["-m", "http.server", "--bind", "::", str(host.web.port)]
        yield f"{host.name}-web", {**_sharing(host, web), "entrypoint": "python3"}


def _agent(role: str, interface: Interface) -> list[str]:
    return [role, "-i", interface.name, "--wait-for-interface"]


def _sharing(host: Host, words: Sequence[str]) -> dict[str, Any]:
    return {
        "kind": "linux",
        "group": "agent",
        "network-mode": f"container:{host.name}",
        "startup-delay": _BESIDE_DELAY,
        "cmd": " ".join(words),
    }


def client_config(topology: Topology, file: Path) -> str:
    """A client's configuration with addresses instead of names, and without a controller.

    The export has no containers for the lab's DNS server and controller.
    """
    config = yaml.safe_load(file.read_text())
    config.pop("hawkeye", None)
    addresses = dict(_names(topology))
    for service in config.get("services", {}).values():
        name = service.pop("domain_name", None)
        if name is not None:
            if name not in addresses:
                raise LabError(f"{file}: {name} is not in the topology's DNS zone")
            service["ipv6_addresses"] = [*service.get("ipv6_addresses", ()), addresses[name]]
        for application in service["applications"]:
            application.pop("intents", None)
    return f"# Made by `./run lab.export` from {file.name}.\n{yaml.safe_dump(config, sort_keys=False)}"


def _names(topology: Topology) -> Iterator[tuple[str, str]]:
    for host in topology.hosts:
        if host.dns is not None:
            for name, owner in host.dns.zone.addresses.items():
                yield name, str(topology.host(owner).address)


def export(topology: Topology, output: Path, config: Path, router_image: str, agent_image: str) -> list[Path]:
    """Writes both files; returns their paths."""
    beside = output.with_name(CONFIG)
    texts = {
        output: containerlab(topology, output.name, router_image, agent_image),
        beside: client_config(topology, config),
    }
    for path, text in texts.items():
        try:
            path.write_text(text)
        except OSError as error:
            raise LabError(f"can't write {path}: {error.strerror or error}") from None
    return list(texts)
