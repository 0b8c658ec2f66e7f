"""The path of a segment list through the lab, link by link, computed from the nodes' current routes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Any

from lab.names import Names
from lab.topology import Host
from lab.view.journal import bindings
from lab.view.reading import Snapshot

_MOST_HOPS = 64


@dataclass(frozen=True)
class Step:
    """A link, in the direction of the packet."""

    link: str
    sender: str
    receiver: str


@dataclass(frozen=True)
class Way:
    """All links in order, with those of all equal-cost routes. `problem`: why the path is incomplete."""

    steps: tuple[Step, ...]
    problem: str | None = None
    equal_routes: bool = False


def way(snapshot: Snapshot, start: str, segments: Sequence[IPv6Address]) -> Way:
    """The path from a node over all segments; the last one is the destination."""
    steps: dict[Step, None] = {}
    several, here = False, {start}
    for segment in segments:
        for _ in range(_MOST_HOPS):
            outside = [node for node in here if not _is_at(snapshot, node, segment)]
            if not outside:
                break
            here -= set(outside)
            for node in outside:
                found = _steps(snapshot, node, segment)
                if isinstance(found, str):
                    return Way(tuple(steps), found, several)
                several |= len(found) > 1
                steps |= dict.fromkeys(found)
                here |= {step.receiver for step in found}
        else:
            return Way(tuple(steps), f"packets to {segment} loop", several)
    return Way(tuple(steps), None, several)


def _is_at(snapshot: Snapshot, name: str, address: IPv6Address) -> bool:
    """Whether the node has this address or this SID."""
    node = snapshot.topology.nodes[name]
    own = {interface.address.ip for interface in node.interfaces}
    if isinstance(node, Host):
        return address in own | {node.address}
    routes = snapshot.routes.get(name)
    return address in own | {node.loopback.ip} or (routes is not None and address in routes.sids)


def _steps(snapshot: Snapshot, name: str, address: IPv6Address) -> list[Step] | str:
    """The next links from a node to an address, or a sentence if there are none."""
    node, routes = snapshot.topology.nodes[name], snapshot.routes.get(name)
    if routes is None:
        return f"the routes of {name} are unknown"
    by_name = {interface.name: interface for interface in node.interfaces}
    found = [by_name[out] for out in routes.towards(address) if out in by_name]
    if not found:
        return f"{name} has no route to {address}"
    up = [one for one in found if snapshot.is_up(one.link.name) is not False]
    if not up:
        return f"{found[0].link.name} is down"
    return [Step(one.link.name, name, one.peer_node) for one in up]


@dataclass(frozen=True)
class ActivePath:
    """A path of an application, with the links that its requests and replies use."""

    sids: tuple[IPv6Address, ...]
    """Single SIDs, also if they are sent in containers; empty: no path."""
    segments: tuple[IPv6Address, ...]
    """As in packets, with containers."""
    packets: int
    """Packets sent over the path by all applications that share it."""
    request: Way | None
    reply_sids: tuple[IPv6Address, ...] | None
    reply_segments: tuple[IPv6Address, ...]
    reply_packets: int | None
    reply: Way | None
    reply_note: str
    """Why the path of the replies is unknown."""
    share: float | None = None
    """Of several paths: the flows that have this one, in percent."""
    name: str = ""
    figures: str = ""
    """Of several paths: what the agent measured, as text."""


@dataclass(frozen=True)
class Standby:
    """One of several paths that is not in use."""

    sids: tuple[IPv6Address, ...]
    state: str
    name: str = ""
    figures: str = ""


@dataclass(frozen=True)
class Application:
    """A binding of a client, with its paths."""

    host: str
    service: str
    address: IPv6Address
    port: int
    intents: tuple[str, ...]
    origin: str
    paths: tuple[ActivePath, ...]
    """At least one, which may be empty."""
    standby: tuple[Standby, ...] = ()
    reason: str = ""
    """Of several paths: why these are in use; may be empty."""

    @property
    def key(self) -> str:
        """Identifies the application in all snapshots."""
        return f"{self.host} {self.service} {self.address} {self.port}"

    @property
    def name(self) -> str:
        """Such as `web-b port 80`."""
        return f"{self.service} port {self.port}"


def applications(snapshot: Snapshot) -> list[Application]:
    """The applications of all clients, in a stable order."""
    names = Names(snapshot.topology)
    found = (_application(snapshot, names, key[0], binding) for key, binding in bindings(snapshot).items())
    return sorted(found, key=lambda one: one.key)


def _application(snapshot: Snapshot, names: Names, host: str, binding: Mapping[str, Any]) -> Application:
    several = binding.get("active", ())
    if several:
        paths = tuple(_path(snapshot, names, host, binding, one, one["sent"]) for one in several)
    else:
        paths = (_path(snapshot, names, host, binding, binding, binding["path_sent"]),)
    standby = (
        Standby(names.each(one["sids"]), one["state"], one.get("name", ""), _figures(one))
        for one in binding.get("standby", ())
    )
    return Application(
        host,
        binding["service"],
        IPv6Address(binding["address"]),
        binding["port"],
        tuple(binding["intents"]),
        binding["origin"],
        paths,
        tuple(standby),
        binding.get("reason", ""),
    )


def _path(
    snapshot: Snapshot,
    names: Names,
    host: str,
    binding: Mapping[str, Any],
    one: Mapping[str, Any],
    sent: Mapping[str, int],
) -> ActivePath:
    address, sids = IPv6Address(binding["address"]), names.each(one["sids"])
    learned, note = _learned(snapshot, names, address, sids)
    reply_sids, reply = None, None
    if learned is not None:
        reply_sids = names.each(learned["sids"])
        server, client = _owner(snapshot, address), snapshot.topology.nodes[host]
        assert server is not None
        source = binding["source"]
        target = (
            IPv6Address(source) if source else getattr(client, "address", client.interfaces[0].address.ip)
        )
        reply = way(snapshot, server, [*reply_sids, target])
    return ActivePath(
        sids,
        _segments(one),
        sent["packets"],
        way(snapshot, host, [*sids, address]) if sids else None,
        reply_sids,
        _segments(learned) if learned is not None else (),
        learned["packets"] if learned is not None else None,
        reply,
        note,
        one.get("share_percent"),
        one.get("name", ""),
        _figures(one),
    )


def _figures(one: Mapping[str, Any]) -> str:
    """Round trip and loss by probes, else the round trip of TCP; empty if nothing is known."""
    health, tcp = one.get("health", {}), one.get("tcp", {})
    if health.get("state") == "dead":
        return "no probe returns"
    told = []
    taken = health.get("rtt_ms") if health.get("rtt_ms") is not None else tcp.get("rtt_ms")
    if taken is not None:
        told.append(f"{taken:.3g} ms")
    if health.get("loss_percent") is not None:
        told.append(f"{health['loss_percent']:.3g} % lost")
    return ", ".join(told)


def _segments(told: Mapping[str, Any]) -> tuple[IPv6Address, ...]:
    """The list as in packets, in travel order, with containers."""
    return tuple(IPv6Address(one) for one in told.get("segments", told["sids"]))


def _learned(
    snapshot: Snapshot, names: Names, address: IPv6Address, sids: tuple[IPv6Address, ...]
) -> tuple[Mapping[str, Any] | None, str]:
    """The reverse path that the server at an address has learned for these SIDs, or why there is none."""
    owner = _owner(snapshot, address)
    if owner is None:
        return None, f"no host of the lab has {address}"
    if not sids:
        return None, "requests have no SRH"
    servers = [one for one in snapshot.agents if one.node == owner and one.role == "server"]
    if not servers:
        return None, f"no hawkwing server runs on {owner}"
    statuses = [one.status for one in servers if one.status is not None]
    if not statuses:
        return None, f"hawkwing server on {owner} does not answer"
    for status in statuses:
        for path in status.get("paths", ()):
            if names.each(path["sids"]) == sids[::-1]:
                return path, ""
    return None, f"{owner} has not learned it yet"


def _owner(snapshot: Snapshot, address: IPv6Address) -> str | None:
    return next((name for name in snapshot.topology.nodes if _is_at(snapshot, name, address)), None)
