"""Selects the list and the source address of probes, from the command line and a running client."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network
from typing import Any

from hawkwing import control, paths
from hawkwing.addresses import source_to
from hawkwing.csid import Block
from hawkwing.errors import HawkwingError
from hawkwing.labels import path_text
from hawkwing.probing.lists import before_decap, single
from hawkwing.sids import Returning, SidList, back_of
from hawkwing.target import address_of, place_text


@dataclass(frozen=True)
class Chosen:
    """A list to probe, SID by SID; `origin` is its source, `destination` the destination of its packets.

    With labels, `nodes` has a name for each SID, or the SID.
    """

    sids: SidList
    source: IPv6Address
    origin: str
    destination: str | None = None
    why: str | None = None
    notes: tuple[str, ...] = ()
    blocks: tuple[Block, ...] = ()
    nodes: tuple[str, ...] = ()

    @property
    def shown(self) -> list[str]:
        """The list with names of nodes, if there are labels."""
        return list(self.nodes) or [str(sid) for sid in self.sids]

    @property
    def shown_back(self) -> str:
        """How its probes return, in words."""
        back = back_of(self.sids)
        return f"back over {path_text([str(sid) for sid in back])}" if back else "back"

    def as_json(self) -> dict[str, Any]:
        """For --json."""
        return {
            "source": str(self.source),
            "sids": [str(sid) for sid in self.sids],
            **({"return_sids": [str(sid) for sid in back]} if (back := back_of(self.sids)) else {}),
            **({"nodes": list(self.nodes)} if self.nodes else {}),
            "origin": self.origin,
            "destination": self.destination,
        }


def by_list(sids: SidList, source: IPv6Address | None, csid: Sequence[IPv6Network] = ()) -> Chosen:
    """A given list, with the blocks of its compressed SIDs."""
    blocks = tuple(Block(prefix) for prefix in csid)
    found = single(sids, blocks)
    nodes = nodes_of(found)
    return Chosen(found, source or _source(sids[0]), "given", blocks=blocks, nodes=nodes)


def nodes_of(sids: SidList) -> tuple[str, ...]:
    """The list with labels from the agents on this host; empty without labels, or without permission."""
    request = {"ask": "labels", "sids": [str(sid) for sid in sids]}
    labels: dict[str, str] = {}
    for answer in _answers(request):
        labels = {**(answer or {}), **labels}
    return tuple(labels.get(str(sid), str(sid)) for sid in sids) if labels else ()


def signed(srh: bytes, source: IPv6Address) -> bytes:
    """The SRH with an HMAC, if an agent on this host has a key; its own ingress wants to see one then."""
    request = {"ask": "sign", "source": str(source), "srh": srh.hex()}
    for answer in _answers(request):
        found = bytes.fromhex(answer or "")
        if len(found) > len(srh):
            return found
    return srh


def _answers(request: Mapping[str, Any]) -> Iterator[Any]:
    """Those of the agents on this host, up to one that does not answer."""
    # An agent of an earlier version does not know the request.
    with suppress(HawkwingError, OSError):
        for _path, answer in control.answers(request, ("client", "server")):
            yield answer


def by_destination(destination: str, port: int, source: IPv6Address | None) -> Chosen:
    """The current path of packets to a port of an address or name."""
    return from_answers(paths.ask(destination, port).answers, source)


def from_answers(answers: Sequence[Mapping[str, Any]], source: IPv6Address | None) -> Chosen:
    """The first path in use; HawkwingError with the reason if there is none."""
    in_use = [binding for answer in answers for binding in answer["bindings"] if binding["sids"]]
    blocks = next((blocks_of(answer) for answer in answers if in_use and in_use[0] in answer["bindings"]), ())
    notes = tuple(problem for answer in answers for problem in answer["problems"])
    if not in_use:
        raise HawkwingError("\n".join(_why_none(answers)))
    first = in_use[0]
    others = [one for one in in_use[1:] if _ways(one) != _ways(first)]
    if others:
        where = ", ".join(place_text(one["address"], one["port"]) for one in others)
        notes += (f"other paths are not probed: {where}; name the address",)
    sids = probed_part(first, list_of(first), blocks)
    nodes = tuple(first.get("nodes", ()))
    return Chosen(
        sids,
        source or _source(towards(first, sids)),
        first["origin"],
        place_text(first["address"], first["port"]),
        first["why"],
        notes,
        blocks,
        nodes[: len(sids)],
    )


def _ways(told: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """The SIDs there and back in an answer."""
    return told["sids"], told.get("return_sids", [])


def list_of(told: Mapping[str, Any]) -> SidList:
    """The segment list in an answer, with its way back if it has one."""
    there, back = (tuple(map(IPv6Address, sids)) for sids in _ways(told))
    return Returning(there, back) if back else there


def probed_part(binding: Mapping[str, Any], sids: SidList, blocks: tuple[Block, ...]) -> SidList:
    """The single SIDs that probes can pass: not the one that removes the outer header."""
    if binding.get("mode") != "encap":
        return single(sids, blocks)
    return single(before_decap(sids, blocks), blocks)


def towards(binding: Mapping[str, Any], sids: SidList) -> IPv6Address:
    """What the source address of the packets is chosen for."""
    return sids[0] if binding.get("mode") == "encap" else address_of(binding["address"])


def blocks_of(answer: Mapping[str, Any]) -> tuple[Block, ...]:
    """The client's blocks of compressed SIDs."""
    return tuple(Block(IPv6Network(one["block"]), one["local"]) for one in answer["csid"])


def _why_none(answers: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for answer in answers:
        for one in answer["bindings"]:
            where = place_text(one["address"], one["port"])
            yield f"packets to {where} are sent without an SRH: {one['why']}"
        yield from answer["notes"]


def _source(towards: IPv6Address) -> IPv6Address:
    """The source address that the kernel selects."""
    found = source_to(towards)
    if found is None:
        raise HawkwingError(f"this host has no route and global address to {towards}: give --source")
    return found
