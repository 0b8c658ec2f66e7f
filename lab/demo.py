"""The demonstration: one request, two paths, and what was captured of them on every link."""

import sys
import tempfile
from collections.abc import Sequence
from ipaddress import IPv6Address
from pathlib import Path

from rich.console import Console
from rich.table import Table

from fake_hawkeye.control import Control
from lab.network import Lab
from lab.process import Process
from lab.topology import Host, Topology
from lab.wait import wait_until
from lab.wire import Capture, Packet

NAME = "demo"
_URL = "http://wb.hawk.net/"
_PORT = 80
_CONFIG = """\
hawkeye:
  enabled: true
  address: {controller}
  port: {port}
sr_domain:
  - fcbb::/16
services:
  web:
    domain_name: wb.hawk.net
    applications:
      - port: 80
        sid: [{sids}]
        intents:
          - intent: high-bandwidth
"""
_CHOSEN = ("vpp1", "vpp2", "vpp4", "vpp6")
_PUSHED = ("vpp1", "vpp3", "vpp5", "vpp6")


class Names:
    """Addresses and SIDs by the names of their nodes."""

    def __init__(self, topology: Topology) -> None:
        self._names: dict[IPv6Address, str] = {}
        for node in topology.nodes.values():
            if isinstance(node, Host):
                self._names[node.address] = node.name
            else:
                self._names[node.loopback.ip] = node.name
                self._names.update(dict.fromkeys(node.sids, node.name))

    def __call__(self, address: IPv6Address) -> str:
        return self._names.get(address, str(address))


def run(keep: bool) -> int:
    """Runs it; the exit status."""
    console = Console(highlight=False)
    lab = Lab(NAME)
    console.print("[bold]Building the network[/]: 5 hosts and 9 SRv6 routers in network namespaces")
    lab.down()
    lab.up()
    try:
        with tempfile.TemporaryDirectory() as folder:
            _show(lab, console, Path(folder))
        if keep:
            _explain(lab, console)
        return 0
    finally:
        if not keep:
            lab.down()
            left = lab.remains()
            console.print(f"Lab is down, left over: {', '.join(left) or 'nothing'}")


def _start_agents(lab: Lab, folder: Path) -> tuple[Process, Process]:
    sids = ", ".join(str(lab.topology.router(name).sid) for name in _CHOSEN)
    declared = lab.hawkeye.hawkeye
    assert declared is not None
    # The file stays in the run directory, for who keeps the lab.
    config = lab.run / "client.yaml"
    config.write_text(_CONFIG.format(controller=lab.hawkeye.address, port=declared.port, sids=sids))
    hawkwing = [sys.executable, "-m", "hawkwing"]
    server_config = lab.run / "server.yaml"
    server_config.write_text("sr_domain: [fcbb::/16]\n")
    server = lab.start(
        "host-b", "server", [*hawkwing, "server", "-i", "eth0", "--config", str(server_config)]
    )
    client = lab.start("host-a", "client", [*hawkwing, "client", "-i", "eth0", "--config", str(config)])
    for agent in (server, client):
        agent.wait_for("ready")
    return client, server


def _show(lab: Lab, console: Console, folder: Path) -> None:
    names = Names(lab.topology)
    console.print("[bold]Starting[/] hawkwing server on host-b and hawkwing client on host-a")
    client, _server = _start_agents(lab, folder)
    with Capture(lab.topology, lab.namespace) as capture:
        requests, replies = _fetch(lab, capture, console)
        title = f"1. GET {_URL} along the configured path {' > '.join(_CHOSEN)}"
        console.print(_table(title, requests, names))

        wait_until(lambda: "fcbb" in str(_asked(lab)), 5.0, "the controller to be asked")
        destination = lab.topology.host("host-b").address
        path = [lab.topology.router(name).sid for name in _PUSHED]
        with Control(lab.control_socket) as control:
            control.set_path(str(destination), [{"intent": "high-bandwidth"}], [str(sid) for sid in path])
        client.wait_for("path from the controller")
        capture.forget()
        requests, replies = _fetch(lab, capture, console)
        title = f"2. The same request after the controller has pushed {' > '.join(_PUSHED)}"
        console.print(_table(title, requests, names))
        title = "3. Its reply: the server has learned the list and reversed it by itself"
        console.print(_table(title, replies, names))


def _asked(lab: Lab) -> list[object]:
    with Control(lab.control_socket) as control:
        return list(control.requests())


def _fetch(lab: Lab, capture: Capture, console: Console) -> tuple[list[Packet], list[Packet]]:
    """The first packet of a request and of its reply, on every link that they crossed."""
    capture.forget()
    result = lab.execute("host-a", ["curl", "-sS", "-m", "5", _URL])
    if result.returncode:
        raise RuntimeError(f"host-a can't fetch {_URL}: {result.stderr.strip()}")
    console.print(f"\nhost-a$ curl {_URL}\n[green]{result.stdout.strip()}[/]")
    packets = capture.packets(lambda p: _PORT in (p.source_port, p.destination_port))
    return _once_a_link(packets, "destination_port"), _once_a_link(packets, "source_port")


def _once_a_link(packets: Sequence[Packet], port: str) -> list[Packet]:
    first: dict[str, Packet] = {}
    for packet in packets:
        if getattr(packet, port) == _PORT:
            first.setdefault(packet.link, packet)
    return list(first.values())


def _table(title: str, packets: Sequence[Packet], names: Names) -> Table:
    table = Table(title=title, title_style="bold", title_justify="left")
    for column in ("captured on", "outer destination", "SL", "segment list on the wire"):
        table.add_column(column, no_wrap=True)
    for packet in packets:
        left, listed = "-", "no SRH"
        if packet.srh:
            left = str(packet.srh.segments_left)
            marked = [
                f"[bold]{names(s)}[/]" if i == packet.srh.segments_left else names(s)
                for i, s in enumerate(packet.srh.segments)
            ]
            listed = " ".join(marked)
        destination = f"{packet.destination} {names(packet.destination)}"
        table.add_row(packet.link, destination, left, listed)
    return table


def _explain(lab: Lab, console: Console) -> None:
    console.print(
        f"""
The lab stays up, with agents and controller. Look around:
  ./run lab.status --name {lab.name}
  ./run lab.exec host-a "curl -s {_URL}" --name {lab.name}
  ./run lab.exec vpp5 "tcpdump -nvi vpp3 -c 5" --name {lab.name}
  ./run lab.capture --name {lab.name}        (and --stop; files in {lab.run}/captures)
  ./run hawkeye --name {lab.name} --push {lab.topology.host("host-b").address}=high-bandwidth={
            lab.topology.router("vpp3").sid
        }
  less {lab.run}/logs/client.log
  ./run lab.down --name {lab.name}"""
    )
