"""The content of `hawkwing status`: collected by the agent, printed by the command."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from ipaddress import IPv6Network
from typing import TYPE_CHECKING, Any, cast

from hawkwing import status_model as model
from hawkwing import usage
from hawkwing.csid import pack, unpack
from hawkwing.dataplane.layout import limits, reasons
from hawkwing.dataplane.plane import DEFAULT_SR_DOMAIN, NO_TRAFFIC, Count, DataPlane, Health, LearnedPath
from hawkwing.decap import NAMES
from hawkwing.labels import Labels, key_of_path, path_of, path_text
from hawkwing.queries import Binding
from hawkwing.sids import Encapsulated, SidList, back_of
from hawkwing.srh_hmac import Key
from hawkwing.steering import Steering
from hawkwing.target import address_text, place_text
from hawkwing.tasks import Supervisor, collected

if TYPE_CHECKING:
    from hawkwing.controller.stream import ControllerStream

_MOST_HELD = 5


def trust_sentence(sr_domain: Sequence[IPv6Network] | None, keys: Sequence[Key] = ()) -> str:
    """Which SRHs are accepted; None: no SR domain is configured. `keys` are those of HMACs."""
    signed = f", with a valid HMAC (key_id {' or '.join(str(key.number) for key in keys)})" if keys else ""
    if sr_domain is None:
        default = " or ".join(str(prefix) for prefix in DEFAULT_SR_DOMAIN)
        told = f"accepts SRHs whose SIDs are in {default}, from any source{signed}"
        return told + "; set sr_domain to restrict them"
    if any(prefix.prefixlen == 0 for prefix in sr_domain):
        return f"accepts SRHs from any source with any SIDs{signed}"
    prefixes = " or ".join(str(prefix) for prefix in sr_domain)
    return f"accepts SRHs whose source and segments are in {prefixes}{signed}"


def of_data_plane(plane: DataPlane) -> model.DataPlaneStatus:
    """SR domain, counters and, on a server, the number of learned flows."""
    counters = plane.counters()
    told = model.DataPlaneStatus(
        sr_domain=[str(prefix) for prefix in plane.sr_domain or ()],
        trusted=trust_sentence(plane.sr_domain, plane.hmac),
        csid_blocks=[str(block.prefix) for block in plane.csid],
        hmac_keys=[key.number for key in plane.hmac],
        counters=model.Counters(egress=_counts(counters["egress"]), ingress=_counts(counters["ingress"])),
    )
    if plane.role == "server":
        flows = plane.maps["flows"].info
        capacity = flows.max_entries * limits()["HW_WAYS"] * 3 // 4
        told["flows"] = {"count": len(plane.flows) if plane.flows is not None else 0, "capacity": capacity}
    return told


def _counts(counts: Mapping[str, Count]) -> dict[str, model.Count]:
    return {name: _count(count) for name, count in counts.items()}


def _count(count: Count) -> model.Count:
    return model.Count(packets=count.packets, bytes=count.bytes)


async def of_learned_paths(plane: DataPlane, labels: Labels) -> model.ServerPart:
    """A server's reverse paths with their counters, and the maximum number of them."""
    paths = await collected(_learned(plane, path, labels) for path in plane.learned_paths())
    # Slot 0 means no path.
    slots = plane.maps["free_slots"].info.max_entries - 1
    return {"paths": paths, "learned_paths": {"count": len(paths), "capacity": slots}}


def _learned(plane: DataPlane, path: LearnedPath, labels: Labels) -> model.LearnedPath:
    sent = plane.path_count(path.slot)
    told = model.LearnedPath(
        sids=[str(sid) for sid in unpack(path.sids, plane.csid)],
        segments=[str(segment) for segment in path.sids],
        told=path.told,
        packets=sent.packets,
        bytes=sent.bytes,
    )
    if labels:
        told["nodes"] = labels.nodes(path.sids)
    return told


def of_binding(
    plane: DataPlane, binding: Binding, labels: Labels, path: SidList | None = None
) -> model.Steered:
    """A binding with its path, or with the given one of several paths."""
    path = binding.path if path is None else path
    told: model.Steered = {
        "service": binding.service,
        "address": address_text(binding.address),
        "port": binding.application.port,
        "intents": [str(intent) for intent in binding.application.intents],
        "origin": binding.origin,
        "sids": [str(sid) for sid in path],
        "segments": [str(segment) for segment in pack(path, plane.csid)],
        "source": str(binding.query.source) if binding.query is not None else None,
        "since": binding.since,
    }
    if isinstance(path, Encapsulated):
        told["mode"] = "encap"
    if labels:
        told["nodes"] = labels.nodes(path)
    add_way_back(told, path, labels)
    return told


def add_way_back(
    told: model.Steered | model.ActivePath | model.Candidate, path: SidList, labels: Labels
) -> None:
    """Adds the SIDs of the path's way back, if its packets tell one, and their labels."""
    if back := back_of(path):
        told["return_sids"] = [str(sid) for sid in back]
        if labels:
            told["return_nodes"] = labels.nodes(back)


def way_back_use(plane: DataPlane, slot: int | None, sent: int) -> model.WayBack:
    """What has become of the way back of the path in a slot, over which `sent` packets have been sent."""
    use = plane.way_back_use(slot)
    return {
        "packets": use.told,
        "replies": use.replies,
        "problem": use.problem(sent),
        "state": use.state(sent),
    }


def of_steering(plane: DataPlane, steering: Steering, labels: Labels) -> Iterator[model.Binding]:
    """All bindings, with the counters of their paths."""

    @cache
    def sent(slot: int | None) -> model.Count:
        return _count(plane.path_count(slot)) if slot else model.Count(packets=0, bytes=0)

    for binding in steering.bindings():
        if steering.buckets_of(binding):
            uses = usage.of_binding(steering, binding)
            main = usage.most_used(uses)
            shown = of_binding(plane, binding, labels, main.candidate.sids)
            listed = [(use, _path(plane, steering, use, sent(use.slot), labels)) for use in uses]
            told = {
                **shown,
                "path_sent": sent(main.slot),
                "active": [path for use, path in listed if use.share],
                "standby": [path for use, path in listed if not use.share],
                "reason": steering.reason(binding),
            }
        else:
            slot = steering.slot_of(binding)
            told = {**of_binding(plane, binding, labels), "path_sent": sent(slot)}
            if back_of(binding.path):
                told["return_use"] = way_back_use(plane, slot, sent(slot)["packets"])
        yield cast(model.Binding, told)


def _path(
    plane: DataPlane, steering: Steering, use: usage.Use, sent: model.Count, labels: Labels
) -> model.ActivePath:
    told: model.ActivePath = {
        "sids": [str(sid) for sid in use.candidate.sids],
        "segments": [str(segment) for segment in pack(use.candidate.sids, plane.csid)],
        "share_percent": round(100 * use.share, 1),
        "sent": sent,
        "health": health_of(use.health, steering.measured.loss(use.candidate.sids)),
        "tcp": connections_of(plane, use.slot),
        "state": use.state,
    }
    add_way_back(told, use.candidate.sids, labels)
    if back_of(use.candidate.sids):
        told["return_use"] = way_back_use(plane, use.slot, sent["packets"])
    if use.candidate.name:
        told["name"] = use.candidate.name
    if labels:
        told["nodes"] = labels.nodes(use.candidate.sids)
    return told


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)


def health_of(health: Health, loss: float | None) -> model.Health:
    """Health of a path, measured by probes; `loss` in percent."""
    return {
        "state": health.state,
        "probes_received": health.received,
        "rtt_ms": _ms(health.round_trip),
        "jitter_ms": _ms(health.jitter),
        "loss_percent": None if loss is None else round(loss, 2),
    }


def connections_of(plane: DataPlane, slot: int | None) -> model.Connections:
    """Figures of TCP connections on the path in a slot."""
    told = plane.traffic(slot) if slot else NO_TRAFFIC
    return {
        "rtt_ms": _ms(told.round_trip),
        "rate_kbps": None if told.rate is None else round(told.rate * 8 / 1000, 1),
        "acknowledged_bytes": told.acknowledged,
        "retransmitted_segments": told.retransmitted,
    }


def of_controller(stream: "ControllerStream", steering: Steering) -> model.Controller:
    """State and counters of the stream, the number of queries, and the unanswered ones."""
    questions = list(stream.questions)
    unanswered = stream.questions.unanswered()
    now = stream.now()
    connected = stream.state == "connected"
    return {
        "target": stream.target,
        "state": stream.state,
        "retry_at": stream.retry_at,
        "error": stream.error,
        "since": stream.since,
        "counters": dict(stream.counters),
        "queries": {
            "count": len(questions),
            "answered": len(questions) - len(unanswered),
            "without_path": sum(one.answered and one.empty for one in questions),
            "unanswered": len(unanswered),
            "held_back": sum(one.held_until > now for one in unanswered),
        },
        "unanswered": [
            {
                "applications": [
                    {"service": binding.service, "port": binding.application.port}
                    for binding in steering.applications_of(one.query)
                ],
                "source": str(one.query.source),
                "address": str(one.query.destination),
                "intents": [str(intent) for intent in one.query.intents],
                "way_back": steering.is_way_back(one.query),
                "requests": one.times,
                "next_request": time.time() + one.due - now if connected and one.due > now else None,
                "held_back": one.held_until > now,
                "reason": one.reason,
            }
            for one in unanswered
        ],
    }


def of_names(steering: Steering, why_not: Callable[[str], str | None]) -> list[model.Unresolved]:
    """Names of services without a known address, with the error of the last look-up."""
    known = steering.learned()
    return [
        {"service": service, "name": name, "error": why_not(name)}
        for service, name in steering.named_services()
        if not known.get(name)
    ]


def of_tasks(tasks: Supervisor) -> list[model.Trouble]:
    """Background work that has failed: error, number of failures, and next start."""
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


def lines(status: Mapping[str, Any], rates: Mapping[str, float] | None = None) -> Iterator[str]:
    """One agent's status as text; `rates` are packets/s by the SIDs of the path as text."""
    yield (
        f"hawkwing {status['role']} on {', '.join(status['interfaces'])}, PID {status['pid']}, "
        f"up {duration(time.time() - status['started'])}{'' if status.get('ready', True) else ', starting'}"
    )
    yield f"  hooks: egress tc, ingress {status['ingress_hook']}; {status['trusted']}"
    yield from _attachment_lines(status.get("attachments", ()))
    if "controller" in status:
        controller = status["controller"]
        yield f"  controller {controller['target']}: {_controller_state(controller)}{_queries(controller)}"
        yield from _held_back(controller)
    for binding in status.get("bindings", ()):
        yield from _binding_lines(binding, rates)
    for waiting in status.get("unresolved", ()):
        why = f" ({waiting['error']})" if waiting["error"] else ""
        yield f"  {waiting['service']} {waiting['name']}: not resolved yet{why}"
    for trouble in status.get("troubles", ()):
        yield f"  failed: {trouble['work']}: {trouble['error']} ({_how_often(trouble)})"
    if "flows" in status:
        flows = status["flows"]
        yield f"  learned flows: {flows['count']} of {flows['capacity']}"
    if "stamp" in status:
        stamp = status["stamp"]
        yield f"  STAMP on UDP port {stamp['port']}: {stamp['answered']} answered, {stamp['refused']} refused"
    if "decap" in status:
        yield from _decap_lines(status["decap"])
    for path in status.get("paths", ()):
        rate = _rate(rates, key_of_path(path))
        told = ", told by a client" if path.get("told") else ""
        yield f"  learned path {path_of(path)}{told}: {path['packets']} packets{rate}"
    texts = {reason.name: reason for reason in reasons()}
    if any(status["counters"].values()):
        yield "  counters (ok: steered, or SRH removed; info: counted in addition; unchanged: not modified)"
    for direction, counts in status["counters"].items():
        for name, count in counts.items():
            reason = texts[name]
            yield f"  {direction:7} {reason.kind:9} {count['packets']:>10} packets  {name}: {reason.text}"


def _binding_lines(binding: Mapping[str, Any], rates: Mapping[str, float] | None) -> Iterator[str]:
    where = place_text(binding["address"], binding["port"])
    how = ", encapsulated" if binding.get("mode") == "encap" else ""
    head = f"  {binding['service']} {where}  {binding['origin']}{how}: "
    age = f"{duration(time.time() - binding['since'])} old"
    if "active" not in binding:
        rate = _rate(rates, key_of_path(binding))
        sent = f"{binding['path_sent']['packets']} packets over this path{rate}"
        yield f"{head}{path_of(binding) or 'no path'}{way_back_of(binding)}  ({sent}, {age})"
        yield from way_back_behind(binding)
        return
    count = len(binding["active"])
    reason = f"; {binding['reason']}" if binding["reason"] else ""
    yield f"{head}{count} path{'' if count == 1 else 's'} in use  ({age}{reason})"
    for one in binding["active"]:
        rate = _rate(rates, key_of_path(one))
        yield (
            f"    {one['share_percent']:3.0f} %  {path_of(one)}{way_back_of(one)}  "
            f"({one['sent']['packets']} packets over this path{rate}{health_behind(one['health'])}"
            f"{not_probed(one['state'])}{tcp_behind(one['tcp'])})"
        )
        yield from way_back_behind(one)
    for one in binding["standby"]:
        yield f"      0 %  {path_of(one)}  ({state_and_health(one)})"


def way_back_of(told: Mapping[str, Any]) -> str:
    """The way back that packets tell, to append to the path; empty if they tell none."""
    back = path_text(told.get("return_nodes", told.get("return_sids", ())))
    return f", back over {back}" if back else ""


def way_back_behind(told: Mapping[str, Any], indent: int = 4) -> Iterator[str]:
    """A line to follow that of a path whose way back seems not to be used."""
    if problem := told.get("return_use", {}).get("problem"):
        yield f"{'':<{indent}}warning: {problem}"


def health_behind(health: Mapping[str, Any]) -> str:
    """Results of probes, to append to other text; empty if there are none."""
    if health["state"] == "unknown":
        return ""
    if health["state"] == "dead":
        return ", no probe returns"
    told = f", round trip {health['rtt_ms']:.3g} ms"
    if health["jitter_ms"] is not None:
        told += f", jitter {health['jitter_ms']:.3g} ms"
    return told if health["loss_percent"] is None else f"{told}, loss {health['loss_percent']:.3g} %"


def not_probed(state: str) -> str:
    """Why a path in use is not probed, to append to other text; empty if it is, or is not to be."""
    _used, told, why = state.partition("not probed: ")
    return f", {told}{why}" if told else ""


def state_and_health(path: Mapping[str, Any]) -> str:
    """The state of one of several paths, and the results of its probes, without repetition."""
    state, told = str(path["state"]), health_behind(path["health"])
    return state if told.removeprefix(", ") in state else state + told


def tcp_behind(tcp: Mapping[str, Any]) -> str:
    """Figures of TCP connections, to append to other text; empty if there were none."""
    if tcp["rtt_ms"] is None:
        return ""
    told = f"; TCP: round trip {tcp['rtt_ms']:.3g} ms"
    if tcp["rate_kbps"] is not None:
        told += f", {tcp['rate_kbps'] / 1000:.3g} Mbit/s"
    return (
        f"{told}, {tcp['acknowledged_bytes']} bytes, {tcp['retransmitted_segments']} segments retransmitted"
    )


def _rate(rates: Mapping[str, float] | None, path: str) -> str:
    return rate_behind(rates.get(path)) if rates is not None else ""


def rate_behind(rate: float | None) -> str:
    """Packets/s, to append to other text; empty if unknown."""
    return "" if rate is None else f", {rate_text(rate)}"


def rate_text(rate: float) -> str:
    """A rate as text."""
    return f"{rate:.1f} packets/s" if 0 < rate < 10 else f"{rate:.0f} packets/s"


def _attachment_lines(attachments: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Problems, warnings and changes only."""
    for one in attachments:
        if not one["attached"]:
            yield f"  not attached: {one['problem']}"
            continue
        if one["problem"]:
            yield f"  warning: {one['problem']}"
        if one["renamed"]:
            yield f"  {one['interface']} has been renamed to {one['name']}"
        for warning in one["warnings"]:
            yield f"  warning: {warning}"
        if one["restored"]:
            times = "once" if one["restored"] == 1 else f"{one['restored']} times"
            yield f"  {one['name']}: filters were removed by another program {times}, and attached again"


def _decap_lines(decap: Mapping[str, Any]) -> Iterator[str]:
    sources = " or ".join(decap["sources"])
    for one in decap["sids"]:
        what = f"{NAMES[one['carries']]} packets to {one['sid']} ({one['behavior']})"
        if not one["installed"]:
            yield f"  not decapsulated: {what}: {one['problem']}"
            continue
        errors = f", {one['errors']} dropped" if one["errors"] else ""
        yield f"  decapsulates {what} from sources in {sources}: {one['packets']} packets{errors}"
    if decap["restored"]:
        times = "once" if decap["restored"] == 1 else f"{decap['restored']} times"
        yield f"  rules or routes for decapsulation were missing {times}, and set again"


def _controller_state(controller: Mapping[str, Any]) -> str:
    state = str(controller["state"])
    if controller["retry_at"] is not None:
        state += f" (retry in {max(0.0, controller['retry_at'] - time.time()):.0f} s)"
    return f"{state}, last error: {controller['error']}" if controller["error"] else state


def _how_often(trouble: Mapping[str, Any]) -> str:
    times = "once" if trouble["times"] == 1 else f"{trouble['times']} times"
    told = f"{times}, last {duration(time.time() - trouble['last'])} ago"
    if trouble["restarts_at"] is None:
        return told
    return f"{told}, starts again in {max(0.0, trouble['restarts_at'] - time.time()):.0f} s"


def _queries(controller: Mapping[str, Any]) -> str:
    """The number of answered queries, while connected."""
    queries = controller.get("queries")
    if queries is None or controller["state"] != "connected":
        return ""
    text = f"; {queries['answered']} of {queries['count']} queries answered"
    if queries["without_path"]:
        text += f" ({queries['without_path']} without a path)"
    if queries["unanswered"]:
        text += f", {queries['unanswered']} unanswered"
    return text + (f" ({queries['held_back']} held back)" if queries["held_back"] else "")


def _held_back(controller: Mapping[str, Any]) -> Iterator[str]:
    held = [one for one in controller.get("unanswered", ()) if one["held_back"]]
    for one in held[:_MOST_HELD]:
        asking = ", ".join(f"{each['service']} port {each['port']}" for each in one["applications"])
        wait = ""
        if one["next_request"] is not None:
            wait = f"; next request in {duration(max(0.0, one['next_request'] - time.time()))}"
        intents = ", ".join(one["intents"])
        who = f"{asking} at {one['address']} ({intents})"
        if one.get("way_back"):
            who = f"way back of {asking} from {one['source']} ({intents})"
        yield f"    held back: {who}: {one['reason']}{wait}"
    if len(held) > _MOST_HELD:
        yield f"    held back: {len(held) - _MOST_HELD} more, see --json"


def duration(seconds: float) -> str:
    """A time in its largest unit."""
    whole = int(seconds)
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min"
    return f"{whole // 3600} h"
