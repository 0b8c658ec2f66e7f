"""The lab as SVG: nodes, links with their numbers, and a lane for each application's requests and replies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import hypot

from lab.graph import bandwidth_text, kinds_of, latency_text
from lab.topology import Host, Link
from lab.view.layout import BOX_HEIGHT, BOX_WIDTH, CORRIDOR, Layout, Point
from lab.view.markup import Markup, tag
from lab.view.reading import Snapshot
from lab.view.scene import Scene, short, shown_rate

_LANE, _ARROW = 6.0, 7.0
_LINE = 13.0
COLOURS = 6


@dataclass(frozen=True)
class Lane:
    """An application's packets on a link, in one direction."""

    number: int
    reply: bool
    sender: str


def draw(scene: Scene, layout: Layout, name: str) -> Markup:
    """The complete drawing; the order of its parts is fixed, so the page can update them one by one."""
    snapshot = scene.snapshot
    assert snapshot is not None
    topology = snapshot.topology
    kinds = kinds_of(topology)
    lanes = lanes_of(scene)
    return tag(
        "svg",
        tag("g", [_link(scene, layout, link) for link in topology.links], class_="links"),
        tag("g", [_lanes(layout, link, lanes[link.name]) for link in topology.links], class_="lanes"),
        tag("g", [_node(snapshot, layout, node, kinds[node]) for node in topology.nodes], class_="nodes"),
        tag("g", [_label(scene, layout, link) for link in topology.links], class_="labels"),
        tag("circle", class_="packet", r=8, data_client=True),
        id=f"map-{name}",
        class_=f"map {name}",
        viewBox=f"0 0 {layout.width:g} {layout.height:g}",
        role="group",
        aria_label=f"Topology of lab {scene.name}; the tables below have the same numbers",
    )


def lanes_of(scene: Scene) -> dict[str, list[Lane]]:
    """The lanes of each link."""
    assert scene.snapshot is not None
    found: dict[str, dict[Lane, None]] = {link.name: {} for link in scene.snapshot.topology.links}
    for number, application in enumerate(scene.applications):
        ways = [
            (reply, way)
            for one in application.paths
            for reply, way in ((False, one.request), (True, one.reply))
        ]
        for reply, way in ways:
            for step in way.steps if way is not None else ():
                found[step.link][Lane(number, reply, step.sender)] = None
    return {name: list(lanes) for name, lanes in found.items()}


def _link(scene: Scene, layout: Layout, link: Link) -> Markup:
    assert scene.snapshot is not None
    a, b = layout.line(*link.nodes)
    state = state_of(scene.snapshot, link.name)
    cross = Markup("")
    if state == "down":
        x, y = (a.x + b.x) / 2, (a.y + b.y) / 2
        cross = tag("path", d=f"M{x - 6:g} {y - 6:g}l12 12m0 -12l-12 12", class_="cross")
    return tag(
        "a",
        tag("line", x1=a.x, y1=a.y, x2=b.x, y2=b.y, class_="touch"),
        tag("line", x1=a.x, y1=a.y, x2=b.x, y2=b.y, class_="wire"),
        cross,
        href=f"#link-{link.name}",
        class_=f"link {state}",
        aria_label=f"Link {link.name}, {state}: {', '.join(link_lines(scene, link))}. Go to its row",
    )


def state_of(snapshot: Snapshot, link: str) -> str:
    """One of up, down, impaired and unknown."""
    up = snapshot.is_up(link)
    if up is None:
        return "unknown"
    if not up:
        return "down"
    return "impaired" if link in snapshot.impaired else "up"


def link_lines(scene: Scene, link: Link) -> tuple[str, str, str]:
    """The label of a link: latency, bandwidth, loss, and packets per second (sum of both directions)."""
    assert scene.snapshot is not None
    metrics = (scene.snapshot.controller or {}).get(link.name)
    latency, bandwidth = "?", "?"
    if metrics is not None:
        latency, bandwidth = latency_text(metrics["latency"]), _short(metrics["bandwidth"])
        if metrics["loss"]:
            bandwidth += f" · {metrics['loss']:g} %"
    if state_of(scene.snapshot, link.name) == "down":
        return latency, bandwidth, "down"
    one, other = (scene.rates.get((link.name, node)) for node in link.nodes)
    return latency, bandwidth, shown_rate(None if one is None or other is None else one + other)


def _label(scene: Scene, layout: Layout, link: Link) -> Markup:
    assert scene.snapshot is not None
    at = layout.labels[link.name]
    lines = link_lines(scene, link)
    busy = lines[2] not in ("0/s", "?", "down")
    classes = ("latency", "bandwidth", "rate busy" if busy else "rate")
    return tag(
        "g",
        [
            tag("text", line, x=at.x, y=at.y - 8 + index * _LINE, class_=class_)
            for index, (line, class_) in enumerate(zip(lines, classes, strict=True))
        ],
        class_=f"label {state_of(scene.snapshot, link.name)}",
        aria_hidden="true",
    )


def _short(bandwidth: float) -> str:
    """Such as 100M."""
    return bandwidth_text(bandwidth).removesuffix("bit/s").replace(" ", "")


def _lanes(layout: Layout, link: Link, lanes: list[Lane]) -> Markup:
    gap = min(_LANE, 2 * (CORRIDOR - 2) / max(1, len(lanes) - 1))
    return tag(
        "g",
        [_lane(layout, link, lane, (index - (len(lanes) - 1) / 2) * gap) for index, lane in enumerate(lanes)],
        data_link=link.name,
        aria_hidden="true",
    )


def _lane(layout: Layout, link: Link, lane: Lane, offset: float) -> Markup:
    # To the right of the link in the topology's direction, for packets in both directions.
    a, b = layout.line(*link.nodes, offset)
    if lane.sender != link.nodes[0]:
        a, b = b, a
    length = hypot(b.x - a.x, b.y - a.y) or 1.0
    x, y = (b.x - a.x) / length, (b.y - a.y) / length
    back = Point(b.x - x * _ARROW, b.y - y * _ARROW)
    wide = _ARROW * 0.62
    corners = [b, Point(back.x - y * wide, back.y + x * wide), Point(back.x + y * wide, back.y - x * wide)]
    return tag(
        "g",
        tag("line", x1=round(a.x, 1), y1=round(a.y, 1), x2=round(back.x, 1), y2=round(back.y, 1)),
        tag("polygon", points=" ".join(f"{one.x:.1f},{one.y:.1f}" for one in corners)),
        class_=f"lane {'reply' if lane.reply else 'request'} a{lane.number % COLOURS}",
        data_application=lane.number,
        data_sender=lane.sender,
    )


def _node(snapshot: Snapshot, layout: Layout, name: str, kind: str) -> Markup:
    at = layout.nodes[name]
    lines = list(_node_lines(snapshot, name))
    return tag(
        "a",
        tag(
            "rect",
            x=at.x - BOX_WIDTH / 2,
            y=at.y - BOX_HEIGHT / 2,
            width=BOX_WIDTH,
            height=BOX_HEIGHT,
            rx=16 if kind == "host" else 6,
        ),
        [
            tag("text", line, x=at.x, y=at.y - 10 + index * 15, class_=class_)
            for index, (line, class_) in enumerate(zip(lines, ("name", "sid", "count"), strict=True))
        ],
        href=f"#node-{name}",
        class_=f"node {kind}",
        data_node=name,
        data_x=at.x,
        data_y=at.y,
        aria_label=f"Node {', '.join(lines)}. Go to its row",
    )


def _node_lines(snapshot: Snapshot, name: str) -> Iterator[str]:
    node = snapshot.topology.nodes[name]
    yield name
    if isinstance(node, Host):
        yield str(node.address)
        roles = [agent.role for agent in snapshot.agents if agent.node == name]
        services = {"dns": node.dns, "web": node.web, "controller": node.hawkeye}
        yield ", ".join(dict.fromkeys(roles)) or next((one for one, what in services.items() if what), "host")
        return
    yield str(node.sid)
    counted = list(snapshot.sids.get(name, {}).values())
    known = [count for count in counted if count is not None]
    yield f"{short(sum(known))} packets" if known and len(known) == len(counted) else "packets unknown"
