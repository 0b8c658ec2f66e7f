"""The agent's answer to `hawkwing paths`, `ping` and `trace`: all paths of a destination."""

from collections.abc import Iterator, Sequence
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Any, Literal, cast

from hawkwing import explain, status, usage
from hawkwing.dataplane.plane import DataPlane
from hawkwing.labels import NO_LABELS, Labels
from hawkwing.queries import Binding
from hawkwing.sids import SidList, back_of
from hawkwing.status_model import Candidate
from hawkwing.steering import Steering

if TYPE_CHECKING:
    from hawkwing.controller.stream import ControllerStream


def of_destination(
    plane: DataPlane,
    steering: Steering,
    stream: "ControllerStream | None",
    destination: str,
    port: int | None,
    labels: Labels = NO_LABELS,
) -> dict[str, Any]:
    """`bindings` of an address or name (and port); `notes` says why there are none."""
    found = explain.targets(steering, destination)
    if isinstance(found, str):
        return {"bindings": [], "notes": [found], "csid": []}
    bindings, notes = [], []
    for address in found:
        applying = _applying(steering, address, port)
        bindings += [_described(plane, steering, stream, binding, labels) for binding in applying]
        if not applying:
            notes.append(explain.unsteered(steering, address, port))
    blocks = [{"block": str(block.prefix), "local": block.local} for block in plane.csid]
    return {"bindings": bindings, "notes": notes, "csid": blocks}


def _applying(steering: Steering, address: IPv6Address, port: int | None) -> list[Binding]:
    if port is None:
        return sorted(steering.bindings_at(address), key=lambda binding: binding.application.port)
    binding = steering.binding(address, port)
    return [binding] if binding is not None else []


def _described(
    plane: DataPlane,
    steering: Steering,
    stream: "ControllerStream | None",
    binding: Binding,
    labels: Labels,
) -> dict[str, Any]:
    uses = usage.of_binding(steering, binding)
    path = usage.most_used(uses).candidate.sids if steering.buckets_of(binding) else binding.path
    slot = steering.slot_of_path(path)
    return {
        **status.of_binding(plane, binding, labels, path),
        "why": explain.why(binding, stream, steering.reason(binding)),
        "packets": plane.path_count(slot).packets if slot else 0,
        "candidates": list(_candidates(plane, steering, stream, binding, uses, labels)),
    }


def _candidates(
    plane: DataPlane,
    steering: Steering,
    stream: "ControllerStream | None",
    binding: Binding,
    uses: Sequence[usage.Use],
    labels: Labels,
) -> Iterator[Candidate]:
    """All possible paths, the preferred one first; `state` says why one is not in use."""
    if not binding.controller_path and binding.query is not None:
        yield _candidate("controller", (), False, explain.controllers_state(binding.query, stream), labels)
    plain = usage.is_plain(uses)
    for use in uses:
        told = _candidate(use.origin, use.candidate.sids, use.share > 0, use.state, labels)
        status.add_way_back(told, use.candidate.sids, labels)
        if back_of(use.candidate.sids) and use.slot:
            sent = plane.path_count(use.slot).packets
            told["return_use"] = status.way_back_use(plane, use.slot, sent)
        if not plain:
            told |= _more(plane, steering, use)
        yield told


def _more(plane: DataPlane, steering: Steering, use: usage.Use) -> Candidate:
    """Keys for applications with several paths."""
    told: dict[str, Any] = {
        "share_percent": round(100 * use.share, 1),
        "packets": plane.path_count(use.slot).packets if use.slot else 0,
        "health": status.health_of(use.health, steering.measured.loss(use.candidate.sids)),
        "tcp": status.connections_of(plane, use.slot),
    }
    if use.origin == "backup":
        told |= {"preference": use.candidate.preference, "weight": use.candidate.weight}
    if use.candidate.name:
        told["name"] = use.candidate.name
    return cast(Candidate, told)


def _candidate(
    origin: Literal["controller", "backup"], sids: SidList, used: bool, state: str, labels: Labels
) -> Candidate:
    told: Candidate = {"origin": origin, "sids": [str(sid) for sid in sids], "in_use": used, "state": state}
    if labels:
        told["nodes"] = labels.nodes(sids)
    return told
