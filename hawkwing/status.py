"""What `hawkwing status` tells: gathered by the agent, printed by whoever asks."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from hawkwing.dataplane.layout import limits, reasons
from hawkwing.dataplane.plane import DataPlane
from hawkwing.steering import Steering


def of_data_plane(plane: DataPlane) -> dict[str, Any]:
    """Hooks, counters and, on a server, what it has learned."""
    told: dict[str, Any] = {
        "sr_domain": [str(prefix) for prefix in plane.sr_domain],
        "counters": {
            direction: {name: count._asdict() for name, count in counts.items()}
            for direction, counts in plane.counters().items()
        },
    }
    if plane.role == "server":
        flows = plane.maps["flows"].info
        capacity = flows.max_entries * limits()["HW_WAYS"] * 3 // 4
        told["flows"] = {"map": flows.id, "capacity": capacity}
        told["paths"] = [
            {"sids": [str(sid) for sid in path.sids], **plane.path_count(path.slot)._asdict()}
            for path in plane.learned_paths()
        ]
    return told


def of_steering(plane: DataPlane, steering: Steering) -> list[dict[str, Any]]:
    """Every binding: its origin, path, since when, and what was sent over that path."""
    told = []
    for binding in steering.bindings():
        slot = steering.slot_of(binding)
        told.append(
            {
                "service": binding.service,
                "address": str(binding.address),
                "port": binding.application.port,
                "intents": [str(intent) for intent in binding.application.intents],
                "origin": binding.origin,
                "sids": [str(sid) for sid in binding.path],
                "since": binding.since,
                "path_sent": plane.path_count(slot)._asdict() if slot else {"packets": 0, "bytes": 0},
            }
        )
    return told


def of_names(steering: Steering, why_not: Callable[[str], str | None]) -> list[dict[str, Any]]:
    """Names of services that no address is known of, with what the last look-up failed with."""
    known = steering.learned()
    return [
        {"service": service, "name": name, "error": why_not(name)}
        for service, name in steering.named_services()
        if not known.get(name)
    ]


def lines(status: Mapping[str, Any]) -> Iterator[str]:
    """One agent's status for people."""
    yield (
        f"hawkwing {status['role']} on {', '.join(status['interfaces'])}, process {status['pid']}, "
        f"up {_duration(time.time() - status['started'])}"
    )
    domain = ", ".join(status["sr_domain"]) or "not set: every sender's segment lists are believed"
    yield f"  hooks: egress tc, ingress {status['ingress_hook']}   SR domain: {domain}"
    if "controller" in status:
        controller = status["controller"]
        yield f"  controller {controller['target']}: {controller['state']}"
    for binding in status.get("bindings", ()):
        path = " > ".join(binding["sids"]) or "no path"
        yield (
            f"  {binding['service']} [{binding['address']}]:{binding['port']}  {binding['origin']}: {path}  "
            f"({binding['path_sent']['packets']} packets over this path, "
            f"{_duration(time.time() - binding['since'])} old)"
        )
    for waiting in status.get("unresolved", ()):
        why = f" ({waiting['error']})" if waiting["error"] else ""
        yield f"  {waiting['service']} {waiting['name']}: not resolved yet{why}"
    if "flows" in status:
        flows = status["flows"]
        yield f"  learned flows: {flows.get('count', '?')} of {flows['capacity']}"
    for path in status.get("paths", ()):
        yield f"  learned path {' > '.join(path['sids'])}: {path['packets']} packets"
    texts = {reason.name: reason for reason in reasons()}
    for direction, counts in status["counters"].items():
        for name, count in counts.items():
            reason = texts[name]
            yield f"  {direction:7} {reason.kind:4} {count['packets']:>10} packets  {name}: {reason.text}"


def _duration(seconds: float) -> str:
    whole = int(seconds)
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min"
    return f"{whole // 3600} h"
