"""The page's log: the differences between one snapshot of the lab and the next."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal

from lab.graph import bandwidth_text, latency_text
from lab.names import Names
from lab.topology import Link
from lab.view.reading import Agent, Snapshot

Kind = Literal["link", "path", "agent", "packet", "you", "trouble"]
_KEPT = 200
_ORIGINS = {"controller": "from the controller", "backup": "from the file"}


@dataclass(frozen=True)
class Entry:
    """One sentence of the log."""

    number: int
    time: float
    kind: Kind
    text: str


class Journal:
    """The latest sentences, newest last."""

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque(maxlen=_KEPT)
        self._numbers = count(1)

    def add(self, kind: Kind, text: str) -> None:
        """Adds a sentence with the current time."""
        self._entries.append(Entry(next(self._numbers), time.time(), kind, text))

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Oldest first."""
        return tuple(self._entries)


def changes(before: Snapshot, now: Snapshot) -> Iterator[tuple[Kind, str]]:
    """The differences between two snapshots, as sentences."""
    names = Names(now.topology)
    for link in now.topology.links:
        yield from _link_changes(before, now, link)
    yield from _agent_changes(before, now)
    if (before.controller is None) != (now.controller is None):
        yield "agent", "the controller has stopped" if now.controller is None else "the controller answers"
    old, new = bindings(before), bindings(now)
    for key, binding in new.items():
        yield from _binding_changes(names, key, old.get(key), binding)
    for key in (key for key in old if key not in new):
        if any(one.node == key[0] and one.role == "client" for one in now.agents):
            yield "path", f"{_called(key)}: removed from the configuration"
    known = set(learned(before))
    for agent, path in (one for one in learned(now) if one not in known):
        yield "path", f"{agent} learned the reverse path {names.path(path)}"


def moved(before: Snapshot, now: Snapshot) -> bool:
    """Whether the path of an application has changed."""
    old, new = bindings(before), bindings(now)
    return any(old[key]["sids"] and _in_use(old[key]) != _in_use(new[key]) for key in old.keys() & new.keys())


def _in_use(binding: Mapping[str, Any]) -> list[list[str]]:
    """The segment lists that flows of an application have."""
    return [one["sids"] for one in binding.get("active", ())] or [binding["sids"]]


def _link_changes(before: Snapshot, now: Snapshot, link: Link) -> Iterator[tuple[Kind, str]]:
    name = link.name
    was, is_up = before.is_up(name), now.is_up(name)
    if was is not is_up and is_up is not None and was is not None:
        yield "link", f"{name} is {'up' if is_up else 'down'}"
    old, new = (one.controller.get(name) if one.controller else None for one in (before, now))
    for key, shown in (
        ("latency", latency_text),
        ("bandwidth", bandwidth_text),
        ("loss", lambda percent: f"{percent:g} %"),
    ):
        if old is not None and new is not None and old[key] != new[key]:
            yield "link", f"{name}: {key} {shown(old[key])} → {shown(new[key])} (told to the controller)"
    for node in link.nodes:
        here, there = before.port(name, node), now.port(name, node)
        if here is not None and there is not None and here.shapers != there.shapers:
            what = " and ".join(there.shapers) or "no shaper"
            yield "link", f"{name}: the kernel of {node} has {what}"


def _agent_changes(before: Snapshot, now: Snapshot) -> Iterator[tuple[Kind, str]]:
    old = {(one.node, one.role, one.interface): one for one in before.agents}
    new = {(one.node, one.role, one.interface): one for one in now.agents}
    for key, agent in new.items():
        was = old.get(key)
        if _alive(agent) and not _alive(was):
            yield "agent", f"{agent.name} runs on {agent.interface}"
        elif _alive(was) and not _alive(agent):
            yield "trouble", f"{agent.name} does not answer"
        if agent.status is None or was is None or was.status is None:
            continue
        state, earlier = (one.status.get("controller", {}).get("state") for one in (agent, was) if one.status)
        if state != earlier and state is not None:
            yield "agent", f"{agent.name}: controller {state}"
    for key in (key for key in old if key not in new):
        yield "agent", f"{old[key].name} has stopped"


def _alive(agent: Agent | None) -> bool:
    return agent is not None and agent.status is not None


BindingKey = tuple[str, str, str, int]


def bindings(snapshot: Snapshot) -> dict[BindingKey, Mapping[str, Any]]:
    """By node, service, address and port, so an agent that was read over several sockets counts once."""
    return {
        (agent.node, binding["service"], binding["address"], binding["port"]): binding
        for agent in snapshot.agents
        if agent.role == "client" and agent.status is not None
        for binding in agent.status.get("bindings", ())
    }


def learned(snapshot: Snapshot) -> list[tuple[str, tuple[str, ...]]]:
    """The learned paths of each server, with its node."""
    return [
        (agent.node, tuple(path["sids"]))
        for agent in snapshot.agents
        if agent.role == "server" and agent.status is not None
        for path in agent.status.get("paths", ())
    ]


def _binding_changes(
    names: Names, key: BindingKey, old: Mapping[str, Any] | None, new: Mapping[str, Any]
) -> Iterator[tuple[Kind, str]]:
    if old is not None and (old["origin"], _in_use(old)) == (new["origin"], _in_use(new)):
        return
    if not new["sids"]:
        yield "path", f"{_called(key)}: no path, packets are sent without an SRH"
        return
    path = " and ".join(names.path(sids) for sids in _in_use(new))
    same_question = old is not None and old["intents"] == new["intents"]
    if old is not None and same_question and old["origin"] == new["origin"] == "controller":
        yield "path", f"the controller pushed a path for {_called(key)}"
    verb = "path" if old is None or not old["sids"] or _in_use(old) == _in_use(new) else "path moved to"
    yield "path", f"{_called(key)}: {verb} {path}, {_ORIGINS.get(new['origin'], new['origin'])}"


def _called(key: BindingKey) -> str:
    return f"{key[1]} port {key[3]}"
