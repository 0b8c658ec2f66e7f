"""The output of `lab.status` and `lab.list`, as text or JSON."""

from ipaddress import IPv6Address
from typing import Any

from rich.console import Console
from rich.table import Table

from lab import netns
from lab.impair import current
from lab.network import Lab, address_of, lab_names
from lab.topology import Host, Node, Router


def print_status(lab: Lab) -> None:
    """Nodes with addresses, SIDs with packet counters, processes, and the run directory."""
    console = Console()
    nodes = Table("node", "kind", "address", "links", "namespace", title=f"lab {lab.name}")
    for node in lab.topology.nodes.values():
        name = lab.namespace(node.name)
        state = name if netns.exists(name) else f"[red]{name} is missing[/]"
        address = address_of(node)
        neighbours = ", ".join(interface.peer_node for interface in node.interfaces)
        nodes.add_row(node.name, _kind(lab, node), str(address), neighbours, state)
    console.print(nodes)
    if lab.is_up():
        console.print(_sids(lab))
    if any(current(lab)):
        console.print(_links(lab))
    processes = Table("process", "PID", "log")
    for process, pid in lab.processes().items():
        processes.add_row(process, str(pid), str(lab.run / "logs" / f"{process}.log"))
    console.print(processes)
    console.print(f"ready: {'yes' if lab.is_up() else 'no'}   run directory: {lab.run}", highlight=False)


def status_of(lab: Lab) -> dict[str, Any]:
    """The same for JSON: `ready`, `nodes`, `links` (failed or not, metrics that differ from the topology),
    `sids` (packets are null if a SID is missing), `processes`."""
    ready = lab.is_up()
    nodes = [
        {
            "name": node.name,
            "kind": "host" if isinstance(node, Host) else "router",
            "router": node.router if isinstance(node, Router) else None,
            "address": str(address_of(node)),
            "neighbours": [interface.peer_node for interface in node.interfaces],
            "namespace": lab.namespace(node.name),
            "present": netns.exists(lab.namespace(node.name)),
        }
        for node in lab.topology.nodes.values()
    ]
    counted = lab.sid_packets() if ready else {}
    sids = [
        {
            "router": router.name,
            "sid": str(sid),
            "label": what,
            "packets": counted.get(router.name, {}).get(sid),
        }
        for router in lab.topology.routers
        for sid, what in _labels(router).items()
    ]
    failed, impaired = current(lab)
    links = [
        {"name": link.name, "failed": link.name in failed, "impaired": impaired.get(link.name, {})}
        for link in lab.topology.links
    ]
    processes = [
        {"name": name, "pid": pid, "log": str(lab.run / "logs" / f"{name}.log")}
        for name, pid in lab.processes().items()
    ]
    summary = {"name": lab.name, "ready": ready, "run_directory": str(lab.run)}
    return {**summary, "nodes": nodes, "links": links, "sids": sids, "processes": processes}


def labs() -> list[dict[str, Any]]:
    """All labs of this machine: name, state (up, broken or starting), run directory and processes."""
    found = []
    for name in lab_names():
        lab = Lab(name)
        found.append(
            {
                "name": name,
                "state": lab.state(),
                "run_directory": str(lab.run) if lab.run.exists() else None,
                "processes": len(lab.processes()),
            }
        )
    return found


def print_labs() -> None:
    """Prints a table of all labs."""
    found = labs()
    if not found:
        print("no lab is up, start one with './run lab.up'")
        return
    table = Table("lab", "state", "processes", "run directory")
    for one in found:
        state = one["state"] if one["state"] == "up" else f"[red]{one['state']}[/]"
        table.add_row(one["name"], state, str(one["processes"]), one["run_directory"] or "-")
    Console().print(table)


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


def _links(lab: Lab) -> Table:
    """The metrics that differ from the topology."""
    failed, impaired = current(lab)
    table = Table("link", "state", "latency (us)", "bandwidth (kbit/s)", "loss (%)")
    for link in lab.topology.links:
        if link.name in failed or link.name in impaired:
            now = impaired.get(link.name, {})
            values = [f"{now[key]:g}" if key in now else "-" for key in ("latency", "bandwidth", "loss")]
            table.add_row(link.name, "down" if link.name in failed else "up", *values)
    return table


def _labels(router: Router) -> dict[IPv6Address, str]:
    labels = {router.sid: ""}
    labels |= {sid: f"flex-algo {number}" for number, sid in router.flex_algo_sids.items()}
    return labels | {sid: name for name, sid in router.service_sids.items()}
