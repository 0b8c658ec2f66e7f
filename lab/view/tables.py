"""The tables of links and nodes."""

from __future__ import annotations

from collections.abc import Iterator

from lab.graph import bandwidth_text, latency_text
from lab.topology import Host, Link, Router
from lab.view.drawing import state_of
from lab.view.markup import Markup, markup, tag
from lab.view.parts import button, cell, head, known
from lab.view.reading import Snapshot
from lab.view.scene import Scene, shown_rate

SLOW, LOSSY = 80_000, 5.0
"""Settings of a link by the buttons: latency in microseconds, loss in percent."""


def links(scene: Scene, snapshot: Snapshot) -> Markup:
    """Each link with its metrics, counters and buttons."""
    heads = ("link", "latency", "bandwidth", "loss", "packets/s", "packets", "dropped", "")
    note = "Latency, bandwidth and loss are the controller's values; “on the wire” are the kernel's shapers."
    return markup(
        tag("p", note, class_="muted"),
        tag(
            "table",
            head(heads),
            tag("tbody", [_link(scene, snapshot, link) for link in snapshot.topology.links]),
            aria_labelledby="links-title",
            class_="links",
        ),
    )


def _link(scene: Scene, snapshot: Snapshot, link: Link) -> Markup:
    name, state = link.name, state_of(snapshot, link.name)
    metrics = (snapshot.controller or {}).get(name)
    ports = [snapshot.port(name, node) for node in link.nodes]
    shapers = sorted({shaper for port in ports if port for shaper in port.shapers})
    sent = [None if port is None else port.sent for port in ports]
    dropped = None if None in ports else sum(port.dropped for port in ports if port)
    latency, bandwidth, loss = (
        (
            latency_text(metrics["latency"]),
            bandwidth_text(metrics["bandwidth"]),
            f"{metrics['loss']:g} %",
        )
        if metrics is not None
        else ("unknown",) * 3
    )
    slow = metrics is not None and metrics["latency"] == SLOW
    lossy = metrics is not None and metrics["loss"] == LOSSY
    recording = name in scene.recording
    return tag(
        "tr",
        tag(
            "th",
            name,
            tag("small", state if state != "up" else "", class_="state"),
            scope="row",
        ),
        cell("latency", latency, "number"),
        cell("bandwidth", bandwidth, "number"),
        cell("loss", loss, "number"),
        cell(
            "packets/s",
            [
                tag("span", f"→ {shown_rate(scene.rates.get((name, link.nodes[0])))} "),
                tag("span", f"← {shown_rate(scene.rates.get((name, link.nodes[1])))}"),
            ],
            "number rate",
        ),
        cell(
            "packets",
            [
                tag("span", "→ ", tag("span", known(sent[0]), class_="sent", data_node=link.nodes[0]), " "),
                tag("span", "← ", tag("span", known(sent[1]), class_="sent", data_node=link.nodes[1])),
            ],
            "number",
        ),
        cell(
            "dropped",
            [known(dropped), tag("small", f" {', '.join(shapers)} on the wire") if shapers else None],
            "number",
        ),
        tag(
            "td",
            button("Slow", "slow", name, f"Make {name} slow", pressed=slow, more=f": {latency_text(SLOW)}"),
            button("Lossy", "lossy", name, f"Make {name} lossy", pressed=lossy, more=f": {LOSSY:g} %"),
            button("Down", "down", name, f"Set {name} down", pressed=state == "down"),
            button("Heal", "heal", name, f"Heal {name}"),
            button("Save", "save", name, f"Save the capture of {name} as pcapng", undoes=True)
            if recording
            else button("Capture", "record", name, f"Capture {name}"),
            class_="actions",
        ),
        id=f"link-{name}",
        class_=state,
    )


def nodes(snapshot: Snapshot) -> Markup:
    """Each node with its counters."""
    heads = ("node", "kind", "address", "SIDs with their packets", "")
    return tag(
        "table",
        head(heads),
        tag("tbody", [_node(snapshot, name) for name in snapshot.topology.nodes]),
        aria_labelledby="nodes-title",
        class_="nodes",
    )


def _node(snapshot: Snapshot, name: str) -> Markup:
    node = snapshot.topology.nodes[name]
    if isinstance(node, Host):
        kind, address = "host", node.address
        counters: list[Markup] = list(_agent_counters(snapshot, name))
        drained = None
    else:
        kind = "router" if node.router == "linux" else "router, VPP"
        address = node.loopback.ip
        counters = [*_sid_counters(snapshot, node), *_vpp_counters(snapshot, name)]
        drained = all(snapshot.is_up(one.link.name) is False for one in node.interfaces)
    return tag(
        "tr",
        tag("th", name, scope="row"),
        cell("kind", kind),
        cell("address", tag("code", address)),
        cell("", tag("ul", counters) if counters else ""),
        tag(
            "td",
            None
            if drained is None
            else button(
                "Restore",
                "restore",
                name,
                f"Restore {name}",
                undoes=True,
                more=": set all of its links up again",
            )
            if drained
            else button("Drain", "drain", name, f"Drain {name}", more=": set all of its links down"),
            class_="actions",
        ),
        id=f"node-{name}",
    )


def _sid_counters(snapshot: Snapshot, router: Router) -> Iterator[Markup]:
    labels = {router.sid: ""}
    labels |= {sid: f"flex-algo {number}" for number, sid in router.flex_algo_sids.items()}
    labels |= {sid: name for name, sid in router.service_sids.items()}
    counted = snapshot.sids.get(router.name, {})
    if router.csid is not None and router.csid.network_address in counted:
        labels[router.csid.network_address] = "compressed"
    for sid, label in labels.items():
        count = counted.get(sid)
        yield tag(
            "li",
            tag("code", sid),
            f" {label} " if label else " ",
            tag("b", known(count), class_="count", data_sid=sid),
        )


def _vpp_counters(snapshot: Snapshot, name: str) -> Iterator[Markup]:
    for interface, (received, sent) in snapshot.interface_packets.get(name, {}).items():
        yield tag("li", f"VPP, {interface}: received ", tag("b", received), ", sent ", tag("b", sent))


def _agent_counters(snapshot: Snapshot, name: str) -> Iterator[Markup]:
    for agent in snapshot.agents:
        if agent.node != name:
            continue
        if agent.status is None:
            yield tag("li", f"{agent.role}: unknown")
            continue
        for direction, counts in agent.status["counters"].items():
            told = [f"{reason} {count['packets']}" for reason, count in counts.items()]
            yield tag("li", f"{agent.role} {direction}: {', '.join(told) or 'nothing yet'}")
