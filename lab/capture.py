"""Captures to pcap files in the background: one tcpdump per link."""

from collections.abc import Sequence

from lab.network import Lab, LabError
from lab.process import Process, members, stop
from lab.topology import Link

_PREFIX = "capture-"


def find_link(lab: Lab, name: str) -> Link:
    """A link by its name, in either order of its nodes."""
    for link in lab.topology.links:
        if name in (link.name, "-".join(reversed(link.nodes))):
            return link
    known = ", ".join(link.name for link in lab.topology.links)
    raise LabError(f"lab {lab.name} has no link {name!r}, it has {known}")


def start(lab: Lab, names: Sequence[str]) -> list[str]:
    """Starts captures on the named links, or on all; returns the files' paths once all are capturing."""
    links = [find_link(lab, name) for name in names] or list(lab.topology.links)
    running = lab.processes()
    started: list[tuple[Process, str]] = []
    for link in links:
        name = _PREFIX + link.name
        if name in running:
            raise LabError(f"{link.name} is already being captured, stop it with './run lab.capture --stop'")
        interface = link.interface(link.nodes[0])
        file = str(lab.run / "captures" / f"{link.name}.pcap")
        argv = ["tcpdump", "-i", interface.name, "-w", file, "-U", "--immediate-mode", "-Z", "root"]
        started.append((lab.start(link.nodes[0], name, argv), file))
    for process, _file in started:
        process.wait_for("listening on")
    return [file for _process, file in started]


def stop_all(lab: Lab) -> list[str]:
    """Stops the captures; returns the files that they wrote."""
    running = {name: pid for name, pid in lab.processes().items() if name.startswith(_PREFIX)}
    stop([pid for pid in running.values() if pid in members(lab.name)])
    for name in running:
        (lab.run / "pids" / name).unlink(missing_ok=True)
    return [str(lab.run / "captures" / f"{name.removeprefix(_PREFIX)}.pcap") for name in running]
