"""What `lab.status` prints."""

from ipaddress import IPv6Address

from rich.console import Console
from rich.table import Table

from lab import netns
from lab.network import Lab
from lab.topology import Host, Node, Router


def print_status(lab: Lab) -> None:
    """Nodes with addresses, SIDs with packet counters, processes, and the run directory."""
    console = Console()
    nodes = Table("node", "kind", "address", "links", "namespace", title=f"lab {lab.name}")
    for node in lab.topology.nodes.values():
        name = lab.namespace(node.name)
        state = name if netns.exists(name) else f"[red]{name} is missing[/]"
        address = node.address if isinstance(node, Host) else node.loopback.ip
        neighbours = ", ".join(interface.peer_node for interface in node.interfaces)
        nodes.add_row(node.name, _kind(lab, node), str(address), neighbours, state)
    console.print(nodes)
    if lab.is_up():
        console.print(_sids(lab))
    processes = Table("process", "PID", "log")
    for process, pid in lab.processes().items():
        processes.add_row(process, str(pid), str(lab.run / "logs" / f"{process}.log"))
    console.print(processes)
    console.print(f"ready: {'yes' if lab.is_up() else 'no'}   run directory: {lab.run}", highlight=False)


def _kind(lab: Lab, node: Node) -> str:
    if isinstance(node, Host):
        return "host"
    if not lab.is_up():
        return f"router ({node.router})"
    return f"router ({lab.inside(node.name, lab.router_kind(node.name).description)})"


def _sids(lab: Lab) -> Table:
    counted = lab.sid_packets()
    table = Table("router", "SID", "", "packets")
    for router in lab.topology.routers:
        for sid, what in _labels(router).items():
            packets = counted[router.name].get(sid)
            table.add_row(router.name, str(sid), what, "missing" if packets is None else str(packets))
    return table


def _labels(router: Router) -> dict[IPv6Address, str]:
    labels = {router.sid: ""}
    labels |= {sid: f"flex-algo {number}" for number, sid in router.flex_algo_sids.items()}
    return labels | {sid: name for name, sid in router.service_sids.items()}
