"""`hawkwing explain`: which path a packet takes, and why."""

from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Any

from hawkwing import usage
from hawkwing.intents import PathQuery
from hawkwing.labels import NO_LABELS, Labels
from hawkwing.queries import Binding
from hawkwing.sids import Encapsulated, SidList, back_of
from hawkwing.steering import Steering
from hawkwing.target import address_of, address_text, place_text

if TYPE_CHECKING:
    from hawkwing.controller.stream import ControllerStream


def of_a_server(key_id: int | None) -> str:
    """The answer of a server; `key_id` is the number of the key that signs."""
    return (
        "a server sends each reply on the reverse path of its request, or on the way back that it tells"
        f"{_signed(key_id)}; see hawkwing status"
    )


def _signed(key_id: int | None) -> str:
    return "" if key_id is None else f", signed with key_id {key_id}"


def targets(steering: Steering, destination: str) -> list[IPv6Address] | str:
    """An address, or all addresses of a name; a sentence if there are none."""
    try:
        return [address_of(destination)]
    except ValueError:
        name = destination.rstrip(".").lower()
        if name not in steering.names:
            return f"packets to {destination} are sent without an SRH: no service has this name"
        return steering.learned().get(name) or f"{name} is configured, but has not been resolved yet"


def sentence(
    steering: Steering,
    stream: "ControllerStream | None",
    destination: str,
    port: int,
    labels: Labels = NO_LABELS,
    way_back: Callable[[SidList], str] = lambda _path: "",
) -> str:
    """The answer for packets to a port of an address, or of each address of a name, one line each.

    `way_back` tells whether replies use the way back of a path.
    """
    found = targets(steering, destination)
    if isinstance(found, str):
        return found
    return "\n".join(_one(steering, stream, address, port, labels, way_back) for address in found)


def where_attached(answer: str, attachments: Sequence[Mapping[str, Any]]) -> str:
    """The answer, after any problems with the attachment of the programs."""
    if attachments and not any(one["attached"] for one in attachments):
        answer = "\n".join(f"once attached, {line}" for line in answer.splitlines())
    return "\n".join([*attachment_problems(attachments), answer])


def attachment_problems(attachments: Sequence[Mapping[str, Any]]) -> list[str]:
    """The problems of the attachments, one sentence each."""
    problems = [str(one["problem"]) for one in attachments if not one["attached"]]
    only = "" if len(problems) == len(attachments) else " on this interface"
    told = [f"not attached: {problem}; packets are sent without an SRH{only}" for problem in problems]
    return told + [f"warning: {warning}" for one in attachments for warning in one["warnings"]]


def _one(
    steering: Steering,
    stream: "ControllerStream | None",
    address: IPv6Address,
    port: int,
    labels: Labels,
    way_back: Callable[[SidList], str],
) -> str:
    binding = steering.binding(address, port)
    if binding is None:
        return unsteered(steering, address, port)
    how = f"use {_used(steering, binding, labels)}" if binding.path else "are sent without an SRH"
    if isinstance(binding.path, Encapsulated):
        how += ", encapsulated"
    for use in usage.of_binding(steering, binding):
        path = use.candidate.sids
        if use.share and (back := back_of(path)):
            how += f", and tell the server the way back {labels.path(back)} ({way_back(path)})"
    if binding.path:
        how += _signed(steering.key_id)
    because = why(binding, stream, steering.reason(binding))
    where = place_text(address_text(address), port)
    return f"packets to {where} (service {binding.service}) {how}: {because}"


def _used(steering: Steering, binding: Binding, labels: Labels) -> str:
    """The path, or the paths with their shares, and a hint if no probe returns."""
    if not steering.buckets_of(binding):
        return labels.path(binding.path)
    uses = [use for use in usage.of_binding(steering, binding) if use.share]
    poor = [use for use in uses if use.health.state == "dead"]
    told = " or ".join(f"{labels.path(use.candidate.sids)} ({100 * use.share:.0f} %)" for use in uses)
    return f"{told} by flow{', though no probe returns on any path' if poor else ''}"


def unsteered(steering: Steering, address: IPv6Address, port: int | None) -> str:
    """Why packets to an address, or a port of it, have no path."""
    if port is None:
        return f"packets to {address_text(address)} are sent without an SRH: destination matches no service"
    where = f"packets to {place_text(address_text(address), port)}"
    if steering.knows(address):
        return f"{where} are sent without an SRH: no application of the service has port {port}"
    return f"{where} are sent without an SRH: destination matches no service"


def why(binding: Binding, stream: "ControllerStream | None", reason: str = "") -> str:
    """Why the binding's path, or none, is in use; `reason` has the measurements."""
    intents = ", ".join(map(str, binding.application.intents))
    if binding.origin == "controller":
        return f"the controller's path for {intents}{_no_way_back(binding, stream)}"
    if binding.query is None and not (intents and stream is not None):
        if not binding.path:
            return f"no controller is asked for {intents}, and no sid is configured"
        if reason:
            return f"{_configured(binding)} for {intents}: {reason}; no controller is asked"
        return f"{_configured(binding)}; no controller is asked"
    if binding.query is None:
        state = "the interface has no global IPv6 address yet"
        if binding.path:
            return f"{_configured(binding)}, as backup for {intents}; {state}"
        return f"the controller can't be asked for {intents}, {state}, and no sid is configured as backup"
    state = controllers_state(binding.query, stream)
    if binding.origin == "backup":
        chosen = f" ({reason})" if reason else ""
        return f"{_configured(binding)}{chosen}, as backup for {intents}; the controller was asked, {state}"
    return f"the controller was asked for {intents}, but {state}, and no sid is configured as backup"


def _no_way_back(binding: Binding, stream: "ControllerStream | None") -> str:
    """Why the controller's way back is not in use, to append; empty if it is, or none is wanted."""
    told, configured = back_of(binding.path), binding.application.return_sid
    if binding.back_query is None or (told and told != configured):
        return ""
    instead = "the configured return_sid" if told else "the reverse list"
    intents = ", ".join(map(str, binding.application.return_intents))
    state = controllers_state(binding.back_query, stream)
    return f"; replies use {instead}: the controller was asked for a way back for {intents}, {state}"


def _configured(binding: Binding) -> str:
    if len(binding.application.candidates) < 2:
        return "the configured sid"
    return f"selected from {len(binding.application.candidates)} configured paths"


def controllers_state(query: PathQuery, stream: "ControllerStream | None") -> str:
    """Why the controller's path is not in use."""
    if stream is None or stream.state != "connected":
        return "it is not connected"
    question = stream.questions.get(query)
    if question is None or not question.answered:
        if question is not None and question.held_until > stream.now():
            return f"it is not asked again for a while: {question.reason}"
        return "it has not answered yet"
    return "it returned no path" if question.empty else "its path can't be used"
