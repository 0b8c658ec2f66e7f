"""Draws a topology as Mermaid text or SVG."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, pairwise
from xml.etree import ElementTree

import networkx

from lab.topology import Host, Link, Topology

LANE = 220
HOST_LANE = 130
CLEARANCE = 100
BOX_HEIGHT = 62
MARGIN = 28
NODE_FONT = 12
LINK_FONT = 10.5
LINE = 14
GLYPH = 0.61

STYLE = f"""
text {{ font-family: 'DejaVu Sans Mono', Menlo, Consolas, monospace; text-anchor: middle; fill: #1f2933; }}
.node text {{ font-size: {NODE_FONT}px; }}
.node text.name {{ font-weight: bold; }}
.node rect {{ stroke-width: 1.5; }}
.host rect {{ fill: #e3f2fd; stroke: #1e6fb8; }}
.site rect {{ fill: #fff4d6; stroke: #b7791f; }}
.core rect {{ fill: #e6f4ea; stroke: #2f855a; }}
.link line {{ stroke: #7b8794; stroke-width: 2; }}
.link text {{ font-size: {LINK_FONT}px; }}
.link rect {{ fill: #ffffff; }}
.path line {{ stroke: #d64545; stroke-width: 4.5; }}
.path.node rect {{ stroke: #d64545; stroke-width: 3.5; }}
"""


@dataclass(frozen=True, slots=True)
class Position:
    column: int
    y: float


def mermaid(topology: Topology, path: Sequence[str] | None = None) -> str:
    """A Mermaid flowchart; `path` highlights the nodes it names and the links between them."""
    on_path, links_on_path = _on_path(topology, path)
    kinds, columns = kinds_of(topology), _columns(topology)
    lines = ["flowchart LR"]
    for name in topology.nodes:
        opening, closing = ("([", "])") if kinds[name] == "host" else ("[", "]")
        lines.append(f"    {_identifier(name)}{opening}{_quoted(_node_lines(topology, name))}{closing}")
        lines[-1] += f":::{kinds[name]}"
    highlighted = []
    for index, link in enumerate(topology.links):
        left, right = sorted(link.nodes, key=columns.__getitem__)
        lines.append(f"    {_identifier(left)} ---|{_quoted(_link_lines(link))}| {_identifier(right)}")
        if link.name in links_on_path:
            highlighted.append(str(index))
    lines += [
        "    classDef host fill:#e3f2fd,stroke:#1e6fb8,color:#1f2933",
        "    classDef site fill:#fff4d6,stroke:#b7791f,color:#1f2933",
        "    classDef core fill:#e6f4ea,stroke:#2f855a,color:#1f2933",
    ]
    if on_path:
        lines.append("    classDef path stroke:#d64545,stroke-width:4px")
        lines.append(
            f"    class {','.join(_identifier(name) for name in topology.nodes if name in on_path)} path"
        )
    if highlighted:
        lines.append(f"    linkStyle {','.join(highlighted)} stroke:#d64545,stroke-width:4px")
    return "\n".join(lines) + "\n"


def svg(topology: Topology, path: Sequence[str] | None = None) -> str:
    """An SVG picture, left to right; `path` highlights the nodes it names and the links between them."""
    on_path, links_on_path = _on_path(topology, path)
    kinds, positions = kinds_of(topology), positions_of(topology)
    node_lines = {name: _node_lines(topology, name) for name in topology.nodes}
    link_lines = {link.name: _link_lines(link) for link in topology.links}
    box_width = _widest(node_lines, NODE_FONT) + 20
    label_width = _widest(link_lines, LINK_FONT) + 6
    pitch = box_width + label_width + 12
    top = min(position.y for position in positions.values())
    bottom = max(position.y for position in positions.values())
    centres = {
        name: (
            MARGIN + box_width / 2 + position.column * pitch,
            MARGIN + BOX_HEIGHT / 2 + position.y - top,
        )
        for name, position in positions.items()
    }
    width = max(x for x, _ in centres.values()) + box_width / 2 + MARGIN
    height = bottom - top + BOX_HEIGHT + 2 * MARGIN

    root = ElementTree.Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "viewBox": f"0 0 {width:g} {height:g}",
            "width": f"{width:g}",
            "height": f"{height:g}",
            "role": "img",
        },
    )
    ElementTree.SubElement(root, "title").text = f"Topology {topology.name}"
    ElementTree.SubElement(root, "style").text = STYLE
    ElementTree.SubElement(root, "rect", _rectangle(0, 0, width, height) | {"fill": "#ffffff"})
    for layer in ("line", "label"):
        for link in topology.links:
            kind = "link path" if link.name in links_on_path else "link"
            group = ElementTree.SubElement(root, "g", {"class": kind})
            (x1, y1), (x2, y2) = (centres[name] for name in link.nodes)
            if layer == "line":
                ends = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
                ElementTree.SubElement(group, "line", {key: f"{value:g}" for key, value in ends.items()})
            else:
                centre = ((x1 + x2) / 2, (y1 + y2) / 2)
                lines = link_lines[link.name]
                _box(group, centre, _widest({"": lines}, LINK_FONT) + 6, len(lines) * LINE + 2, 2)
                _text(group, centre, lines)
    for name, centre in centres.items():
        kind = f"node {kinds[name]} path" if name in on_path else f"node {kinds[name]}"
        group = ElementTree.SubElement(root, "g", {"class": kind})
        _box(group, centre, box_width, BOX_HEIGHT, BOX_HEIGHT / 2 if kinds[name] == "host" else 6)
        _text(group, centre, node_lines[name])
        group[1].set("class", "name")
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _on_path(topology: Topology, path: Sequence[str] | None) -> tuple[set[str], set[str]]:
    """The path's nodes and its links' names; ValueError for a path the topology doesn't have."""
    links = set()
    for name in path or ():
        if name not in topology.nodes:
            raise ValueError(f"path: unknown node {name!r}")
    for one, other in pairwise(path or ()):
        if other not in topology.neighbours(one):
            raise ValueError(f"path: no link between {one} and {other}")
        links.add(topology.link(one, other).name)
    return set(path or ()), links


def kinds_of(topology: Topology) -> dict[str, str]:
    """Core routers are those on a ring; the other routers join sites to it."""
    graph = _graph(topology)
    core = {name for part in networkx.biconnected_components(graph) if len(part) > 2 for name in part}
    return {
        name: "host" if isinstance(node, Host) else "core" if name in core else "site"
        for name, node in topology.nodes.items()
    }


def _columns(topology: Topology) -> dict[str, int]:
    """The column of each router by its distance from the outermost one; hosts are outside of their router."""
    routers = _graph(topology).subgraph([router.name for router in topology.routers])
    if not routers:
        return dict.fromkeys(topology.nodes, 0)
    reach = networkx.eccentricity(routers)
    root = max((router.name for router in topology.routers), key=reach.__getitem__)
    distance = networkx.single_source_shortest_path_length(routers, root)
    columns = {router.name: distance[router.name] + 1 for router in topology.routers}
    for host in topology.hosts:
        columns[host.name] = 0 if host.router == root else columns[host.router] + 1
    return columns


def positions_of(topology: Topology) -> dict[str, Position]:
    """Columns from left to right, and heights at which no two nodes of a column overlap."""
    columns = _columns(topology)
    placed: dict[str, Position] = {}
    for column in range(1, max(columns.values()) + 1):
        members = [router.name for router in topology.routers if columns[router.name] == column]
        members.sort(key=lambda name: _mean_height(topology, name, placed))
        for index, name in enumerate(members):
            placed[name] = Position(column, (index - (len(members) - 1) / 2) * LANE)
    for router in topology.routers:
        members = [host.name for host in topology.hosts if host.router == router.name]
        for index, name in enumerate(members):
            wanted = placed[router.name].y + (index - (len(members) - 1) / 2) * HOST_LANE
            taken = [position.y for position in placed.values() if position.column == columns[name]]
            placed[name] = Position(columns[name], _free_height(wanted, taken))
    for host in topology.hosts:
        placed.setdefault(host.name, Position(0, 0))
    return placed


def _mean_height(topology: Topology, name: str, placed: Mapping[str, Position]) -> float:
    heights = [placed[neighbour].y for neighbour in topology.neighbours(name) if neighbour in placed]
    return sum(heights) / len(heights) if heights else 0


def _free_height(wanted: float, taken: Sequence[float]) -> float:
    def candidates() -> Iterator[float]:
        for step in count():
            yield wanted - step * CLEARANCE / 2
            yield wanted + step * CLEARANCE / 2

    return next(y for y in candidates() if all(abs(y - other) >= CLEARANCE for other in taken))


def _graph(topology: Topology) -> networkx.Graph:
    graph = networkx.Graph()
    graph.add_nodes_from(topology.nodes)
    graph.add_edges_from(link.nodes for link in topology.links)
    return graph


def _node_lines(topology: Topology, name: str) -> list[str]:
    node = topology.nodes[name]
    if not isinstance(node, Host):
        return [name, str(node.sid)]
    services = {"dns": node.dns, "web": node.web, "hawkeye": node.hawkeye}
    ports = [f"{service} :{what.port}" for service, what in services.items() if what is not None]
    return [name, str(node.address), *ports]


def _link_lines(link: Link) -> list[str]:
    lines = [
        str(link.prefix),
        f"igp {link.igp} · {latency_text(link.latency)}",
        bandwidth_text(link.bandwidth),
    ]
    if link.loss:
        lines[2] += f" · {link.loss} %"
    return lines


def latency_text(microseconds: float) -> str:
    """Such as 500 µs or 80 ms."""
    return f"{microseconds:g} µs" if microseconds < 1000 else f"{microseconds / 1000:g} ms"


def bandwidth_text(kilobits: float) -> str:
    """Such as 100 Mbit/s."""
    for unit, size in (("Gbit/s", 1_000_000), ("Mbit/s", 1000)):
        if kilobits >= size:
            return f"{kilobits / size:g} {unit}"
    return f"{kilobits:g} kbit/s"


def _identifier(name: str) -> str:
    """Escapes hyphens and words that have a meaning in Mermaid."""
    return "n_" + name.replace("-", "_")


def _quoted(lines: Sequence[str]) -> str:
    escapes = {'"': "#quot;", "#": "#35;", "<": "#lt;", ">": "#gt;", "&": "#amp;"}
    return '"' + "<br/>".join("".join(escapes.get(c, c) for c in line) for line in lines) + '"'


def _widest(labels: Mapping[str, Sequence[str]], font: float) -> float:
    return max((len(line) for lines in labels.values() for line in lines), default=0) * font * GLYPH


def _rectangle(x: float, y: float, width: float, height: float) -> dict[str, str]:
    return {"x": f"{x:g}", "y": f"{y:g}", "width": f"{width:g}", "height": f"{height:g}"}


def _box(
    group: ElementTree.Element, centre: tuple[float, float], width: float, height: float, radius: float
) -> None:
    corner = _rectangle(centre[0] - width / 2, centre[1] - height / 2, width, height)
    ElementTree.SubElement(group, "rect", corner | {"rx": f"{radius:g}"})


def _text(group: ElementTree.Element, centre: tuple[float, float], lines: Sequence[str]) -> None:
    first = centre[1] - (len(lines) - 1) * LINE / 2 + 4
    for index, line in enumerate(lines):
        where = {"x": f"{centre[0]:g}", "y": f"{first + index * LINE:g}"}
        ElementTree.SubElement(group, "text", where).text = line
