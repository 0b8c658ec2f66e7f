"""A followed packet and its reply, as tables."""

from __future__ import annotations

from lab.names import Names
from lab.view.follow import Followed, Hop
from lab.view.markup import Markup, tag
from lab.view.parts import cell, head


def followed_packet(names: Names, followed: Followed | None) -> Markup:
    """The packet on each link, one row each."""
    if followed is None:
        return tag("p", "“Send a request” follows one packet and its reply over all links.", class_="empty")
    hops = [*followed.request, *followed.reply]
    route = [hops[0].sender, *(hop.receiver for hop in hops)] if hops else []
    return tag(
        "div",
        tag("p", tag("b", followed.outcome), f"  {followed.title}"),
        _hops(names, "Request", followed.request),
        _hops(names, "Reply", followed.reply),
        data_run=followed.run,
        data_route=" ".join(route),
        id="run",
    )


def _hops(names: Names, title: str, hops: tuple[Hop, ...]) -> Markup:
    if not hops:
        return tag("p", f"{title}: nothing was captured.", class_="empty")
    heads = ("captured on", "after", "outer destination", "SL", "segment list on the wire")
    return tag(
        "table",
        tag("caption", title),
        head(heads),
        tag("tbody", [_hop(names, heads, hop) for hop in hops]),
        class_="hops",
    )


def _hop(names: Names, heads: tuple[str, ...], hop: Hop) -> Markup:
    left = hop.segments_left
    listed: list[object] = ["no SRH"] if left is None else []
    for index, segment in enumerate(hop.segments):
        name = names(segment)
        listed += [tag("b", name) if index == left else name, " "]
    return tag(
        "tr",
        cell("", f"{hop.sender} → {hop.receiver}"),
        cell(heads[1], f"{hop.microseconds:.0f} µs", "number"),
        cell(heads[2], tag("span", hop.destination, title=names(hop.destination))),
        cell("segments left", "-" if left is None else left, "number"),
        cell(heads[4], tag("span", listed, title=", ".join(map(str, hop.segments)))),
    )
