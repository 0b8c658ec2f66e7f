"""What `lab.status` prints."""

from rich.console import Console
from rich.table import Table

from lab import netns
from lab.network import Lab
from lab.topology import Host


def print_status(lab: Lab) -> None:
    """Nodes with their addresses, processes with their numbers, and where everything is."""
    console = Console()
    nodes = Table("node", "kind", "address or SID", "links", "namespace", title=f"lab {lab.name}")
    for node in lab.topology.nodes.values():
        kind = "host" if isinstance(node, Host) else f"router ({node.router})"
        address = str(node.address) if isinstance(node, Host) else str(node.sid)
        name = lab.namespace(node.name)
        state = name if netns.exists(name) else f"[red]{name} is missing[/]"
        nodes.add_row(node.name, kind, address, ", ".join(i.peer_node for i in node.interfaces), state)
    console.print(nodes)
    processes = Table("process", "number", "log")
    for name, pid in lab.processes().items():
        processes.add_row(name, str(pid), str(lab.run / "logs" / f"{name}.log"))
    console.print(processes)
    console.print(f"ready: {'yes' if lab.is_up() else 'no'}   run directory: {lab.run}", highlight=False)
