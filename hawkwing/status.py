"""What `hawkwing status` shows: collected by the agent, printed by the command."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from ipaddress import IPv6Network
from typing import Any

from hawkwing.dataplane.layout import limits, reasons
from hawkwing.dataplane.plane import DEFAULT_SR_DOMAIN, DataPlane
from hawkwing.steering import Steering
from hawkwing.tasks import Supervisor


def trust_sentence(sr_domain: Sequence[IPv6Network] | None) -> str:
    """Which SRHs are accepted; None: no SR domain is configured."""
    if sr_domain is None:
        default = " or ".join(str(prefix) for prefix in DEFAULT_SR_DOMAIN)
        return f"accepts SRHs whose SIDs are in {default}, from any source; set sr_domain to restrict them"
    if any(prefix.prefixlen == 0 for prefix in sr_domain):
        return "accepts SRHs from any source with any SIDs"
    prefixes = " or ".join(str(prefix) for prefix in sr_domain)
    return f"accepts SRHs whose source and segments are in {prefixes}"


def of_data_plane(plane: DataPlane) -> dict[str, Any]:
    """SR domain, counters and, on a server, the learned flows and paths."""
    told: dict[str, Any] = {
        "sr_domain": [str(prefix) for prefix in plane.sr_domain or ()],
        "trusted": trust_sentence(plane.sr_domain),
        "counters": {
            direction: {name: count._asdict() for name, count in counts.items()}
            for direction, counts in plane.counters().items()
        },
    }
    if plane.role == "server":
        flows = plane.maps["flows"].info
        capacity = flows.max_entries * limits()["HW_WAYS"] * 3 // 4
        told["flows"] = {"count": len(plane.flows) if plane.flows is not None else 0, "capacity": capacity}
        told["paths"] = [
            {"sids": [str(sid) for sid in path.sids], **plane.path_count(path.slot)._asdict()}
            for path in plane.learned_paths()
        ]
    return told


def of_steering(plane: DataPlane, steering: Steering) -> list[dict[str, Any]]:
    """Every binding: where its path comes from, the path, since when, and what was sent over it."""
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
                "source": str(binding.query.source) if binding.query is not None else None,
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


def of_tasks(tasks: Supervisor) -> list[dict[str, Any]]:
    """Background work that has failed: of what, how often, and when it starts again."""
    return [
        {
            "work": name,
            "error": trouble.error,
            "times": trouble.times,
            "last": trouble.last,
            "restarts_at": trouble.restarts_at,
        }
        for name, trouble in tasks.troubles.items()
    ]


def lines(status: Mapping[str, Any]) -> Iterator[str]:
    """One agent's status as text."""
    yield (
        f"hawkwing {status['role']} on {', '.join(status['interfaces'])}, PID {status['pid']}, "
        f"up {_duration(time.time() - status['started'])}"
    )
    yield f"  hooks: egress tc, ingress {status['ingress_hook']}; {status['trusted']}"
    yield from _attachment_lines(status.get("attachments", ()))
    if "controller" in status:
        controller = status["controller"]
        yield f"  controller {controller['target']}: {_controller_state(controller)}"
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
    for trouble in status.get("troubles", ()):
        yield f"  failed: {trouble['work']}: {trouble['error']} ({_how_often(trouble)})"
    if "flows" in status:
        flows = status["flows"]
        yield f"  learned flows: {flows['count']} of {flows['capacity']}"
    for path in status.get("paths", ()):
        yield f"  learned path {' > '.join(path['sids'])}: {path['packets']} packets"
    texts = {reason.name: reason for reason in reasons()}
    if any(status["counters"].values()):
        yield "  counters (ok: steered, or SRH removed; info: in addition; unchanged: passed as it was)"
    for direction, counts in status["counters"].items():
        for name, count in counts.items():
            reason = texts[name]
            yield f"  {direction:7} {reason.kind:9} {count['packets']:>10} packets  {name}: {reason.text}"


def _attachment_lines(attachments: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Only what is not as it should be."""
    for one in attachments:
        if not one["attached"]:
            yield f"  not attached: {one['problem']}"
            continue
        if one["problem"]:
            yield f"  warning: {one['problem']}"
        if one["renamed"]:
            yield f"  {one['interface']} is called {one['name']} now"
        for warning in one["warnings"]:
            yield f"  warning: {warning}"
        if one["restored"]:
            times = "once" if one["restored"] == 1 else f"{one['restored']} times"
            yield f"  {one['name']}: filters were removed by another program {times}, and attached again"


def _controller_state(controller: Mapping[str, Any]) -> str:
    state = str(controller["state"])
    if controller["retry_at"] is not None:
        state += f" (retry in {max(0.0, controller['retry_at'] - time.time()):.0f} s)"
    return f"{state}, last error: {controller['error']}" if controller["error"] else state


def _how_often(trouble: Mapping[str, Any]) -> str:
    times = "once" if trouble["times"] == 1 else f"{trouble['times']} times"
    told = f"{times}, last {_duration(time.time() - trouble['last'])} ago"
    if trouble["restarts_at"] is None:
        return told
    return f"{told}, starts again in {max(0.0, trouble['restarts_at'] - time.time()):.0f} s"


def _duration(seconds: float) -> str:
    whole = int(seconds)
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min"
    return f"{whole // 3600} h"
