"""The page's regions as HTML: each is rendered completely, and the page's script applies the differences."""

from __future__ import annotations

import time
from collections.abc import Mapping
from importlib import resources
from ipaddress import IPv6Address

from lab.names import Names
from lab.view.drawing import COLOURS, draw
from lab.view.hops import followed_packet
from lab.view.markup import Markup, markup, tag
from lab.view.parts import button
from lab.view.reading import Agent
from lab.view.scene import Scene
from lab.view.tables import links, nodes
from lab.view.ways import ActivePath, Application

REGIONS = ("status", "map", "applications", "followed", "links", "nodes", "log")
_ORIGINS = {"controller": "from the controller", "backup": "from the file", "none": "no path"}


def whole(scene: Scene) -> Markup:
    """The complete page, for the first request."""
    drawn = regions(scene)
    return markup(
        Markup("<!doctype html>"),
        tag(
            "html",
            tag(
                "head",
                tag("meta", charset="utf-8"),
                tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
                tag("meta", name="color-scheme", content="light dark"),
                tag("title", f"Lab {scene.name}"),
                tag("link", rel="icon", href="icon.svg", type="image/svg+xml"),
                tag("link", rel="stylesheet", href="page.css"),
                tag("script", src="page.js", defer=True),
            ),
            tag(
                "body",
                tag("a", "Skip to the applications", href="#applications", class_="skip"),
                tag("header", drawn["status"], id="status"),
                tag(
                    "main",
                    tag("section", drawn["map"], id="map", aria_label="Topology"),
                    tag(
                        "div",
                        _section("Applications", "applications", drawn),
                        _section("Followed packet", "followed", drawn, live=True),
                        _section("Links", "links", drawn),
                        _section("Nodes", "nodes", drawn),
                        class_="columns-main",
                    ),
                    tag(
                        "aside",
                        tag("h2", "Log", id="log-title"),
                        tag(
                            "div", drawn["log"], id="log", role="log", aria_labelledby="log-title", tabindex=0
                        ),
                    ),
                ),
                tag(
                    "p",
                    "Lost the connection to lab.view: is it still running?",
                    id="lost",
                    role="alert",
                    hidden=True,
                ),
            ),
            lang="en",
        ),
    )


def _section(title: str, name: str, drawn: Mapping[str, Markup], live: bool = False) -> Markup:
    return tag(
        "section",
        tag("h2", title, id=f"{name}-title"),
        tag("div", drawn[name], id=name, aria_live="polite" if live else None),
        aria_labelledby=f"{name}-title",
    )


def regions(scene: Scene) -> dict[str, Markup]:
    """Each region's content by its id."""
    drawn = {"status": _status(scene), "log": _log(scene)}
    names = scene.names
    if scene.snapshot is None or names is None:
        empty = tag("p", scene.problem, class_="empty")
        return {**dict.fromkeys(REGIONS, Markup("")), "map": empty, **drawn}
    return drawn | {
        "map": markup([draw(scene, layout, name) for name, layout in scene.layouts.items()]),
        "applications": _applications(scene, names),
        "followed": followed_packet(names, scene.followed),
        "links": links(scene, scene.snapshot),
        "nodes": nodes(scene.snapshot),
    }


# --- status


def _status(scene: Scene) -> Markup:
    name = tag("h1", "Lab ", tag("b", scene.name))
    if scene.snapshot is None:
        return markup(name, tag("span", scene.problem, class_="chip bad", role="status"))
    told = [_agent_chip(agent) for agent in scene.snapshot.agents]
    if not told:
        told = [tag("li", "no hawkwing agent runs", class_="chip")]
    known = scene.snapshot.controller is not None
    told.append(
        tag(
            "li",
            "controller answers" if known else "controller unknown",
            class_=f"chip {'good' if known else ''}",
        )
    )
    links = scene.snapshot.topology.links
    states = [scene.snapshot.is_up(link.name) for link in links]
    told.append(
        tag(
            "li",
            f"{states.count(True)} of {len(links)} links up",
            class_=f"chip {'good' if all(states) else 'bad'}",
        )
    )
    heal = button("Heal all", "heal-all", "", "Heal all links")
    return markup(name, tag("ul", told, class_="chips"), heal)


def _agent_chip(agent: Agent) -> Markup:
    if agent.status is None:
        return tag("li", f"{agent.role} on {agent.node}: no answer", class_="chip bad")
    attached = all(one["attached"] for one in agent.status.get("attachments", ()))
    state = agent.status.get("controller", {}).get("state")
    text = f"{agent.role} on {agent.node}" + (f": controller {state}" if state else "")
    return tag(
        "li", text if attached else f"{text}, not attached", class_=f"chip {'good' if attached else 'bad'}"
    )


# --- applications


def _applications(scene: Scene, names: Names) -> Markup:
    if not scene.applications:
        return tag(
            "p",
            "No hawkwing client has an application. Start one with ",
            tag("code", "./run client"),
            ".",
            class_="empty",
        )
    return tag(
        "ul",
        [_application(scene, names, number, one) for number, one in enumerate(scene.applications)],
        class_="cards",
    )


def _application(scene: Scene, names: Names, number: int, one: Application) -> Markup:
    intents = f", {', '.join(one.intents)}" if one.intents else ""
    return tag(
        "li",
        tag(
            "h3",
            tag("span", class_=f"swatch a{number % COLOURS}", aria_hidden="true"),
            one.name,
            tag("small", f" [{one.address}]{intents}"),
        ),
        tag(
            "dl",
            [markup(_request(names, one, path), _reply(names, one, path)) for path in one.paths],
            _standby(names, one),
        ),
        tag(
            "details",
            tag("summary", "segment lists"),
            [
                markup(_list("requests", path.segments), _list("replies", path.reply_segments))
                for path in one.paths
            ],
        ),
        tag(
            "div",
            button("Send a request", "request", one.key, f"Send a request to {one.name} and follow it"),
            button("Stop requests", "stream", one.key, f"Stop requests to {one.name}", undoes=True)
            if scene.stream == one.key
            else button("Keep sending", "stream", one.key, f"Keep sending requests to {one.name}"),
            tag(
                "label",
                tag("input", type="checkbox", checked=True, data_show=number, data_client=True),
                tag("span", one.name, class_="hidden"),
                "on the map",
            ),
            class_="actions",
        ),
        id=f"application-{number}",
    )


def _request(names: Names, one: Application, path: ActivePath) -> Markup:
    share = "" if path.share is None else f"{path.share:g} % of the flows, "
    told = f"{path.name}, " if path.name else ""
    told += f"{share}{_ORIGINS.get(one.origin, one.origin)}, {path.figures}{', ' if path.figures else ''}"
    text = names.path(path.sids) if path.sids else "no path: packets are sent without an SRH"
    several = path.request is not None and path.request.equal_routes
    return markup(
        tag("dt", "Requests ", tag("small", told, tag("b", path.packets, class_="count"), " packets")),
        tag("dd", text, class_="path"),
        _note("equal routes: packets take one of them" if several else None),
        _note(path.request.problem if path.request else None),
        _note(one.reason if path is one.paths[-1] else None),
    )


def _reply(names: Names, one: Application, path: ActivePath) -> Markup:
    if path.reply_sids is None:
        return markup(tag("dt", "Replies"), tag("dd", path.reply_note, class_="muted"))
    origin = f"learned by {names(one.address)}, "
    return markup(
        tag("dt", "Replies ", tag("small", origin, tag("b", path.reply_packets, class_="count"), " packets")),
        tag("dd", names.path(path.reply_sids), class_="path"),
        _note(path.reply.problem if path.reply else None),
    )


def _standby(names: Names, one: Application) -> Markup:
    """Paths that are not in use, each with its reason."""
    told = [
        markup(
            tag("dt", "Standby ", tag("small", ", ".join(filter(None, (other.name, other.figures))))),
            tag("dd", names.path(other.sids), class_="path muted"),
            _note(other.state),
        )
        for other in one.standby
    ]
    return markup(*told)


def _list(title: str, sids: tuple[IPv6Address, ...]) -> Markup:
    return tag("p", f"{title}: ", tag("code", ", ".join(map(str, sids)) or "none"))


def _note(text: str | None) -> Markup | None:
    return tag("dd", text, class_="note") if text else None


# --- log


def _log(scene: Scene) -> Markup:
    if not scene.log:
        return tag("p", "Nothing has happened yet.", class_="empty")
    return tag(
        "ol",
        [
            tag(
                "li",
                tag("time", time.strftime("%H:%M:%S", time.localtime(entry.time))),
                tag("span", entry.text),
                id=f"entry-{entry.number}",
                class_=f"of-{entry.kind}",
            )
            for entry in reversed(scene.log)
        ],
    )


def asset(name: str) -> bytes:
    """A static file of the page."""
    return resources.files("lab.view").joinpath(name).read_bytes()
