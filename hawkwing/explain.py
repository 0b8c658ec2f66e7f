"""`hawkwing explain`: which path a packet takes, and why."""

from collections.abc import Mapping, Sequence
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Any

from hawkwing.intents import PathQuery
from hawkwing.queries import Binding
from hawkwing.steering import Steering

if TYPE_CHECKING:
    from hawkwing.controller.stream import ControllerStream


OF_A_SERVER = "a server sends each reply on the reverse path of its request; see hawkwing status"


def sentence(steering: Steering, stream: "ControllerStream | None", destination: str, port: int) -> str:
    """The answer for packets to a port of an address, or of each address of a name (one line each)."""
    try:
        targets = [IPv6Address(destination)]
    except ValueError:
        name = destination.rstrip(".").lower()
        if name not in steering.names:
            return f"packets to {destination} are sent without an SRH: no service has this name"
        targets = steering.learned().get(name, [])
        if not targets:
            return f"{name} is configured, but has not been resolved yet"
    return "\n".join(_one(steering, stream, address, port) for address in targets)


def where_attached(answer: str, attachments: Sequence[Mapping[str, Any]]) -> str:
    """The answer, which holds where the programs are attached, after what is wrong with that."""
    problems = [str(one["problem"]) for one in attachments if not one["attached"]]
    told = [f"not attached: {problem}" for problem in problems]
    if problems:
        only = "" if len(problems) == len(attachments) else " on this interface"
        told = [f"{line}; packets are sent without an SRH{only}" for line in told]
    told += [f"warning: {warning}" for one in attachments for warning in one["warnings"]]
    if problems and len(problems) == len(attachments):
        answer = "\n".join(f"once attached, {line}" for line in answer.splitlines())
    return "\n".join([*told, answer])


def _one(steering: Steering, stream: "ControllerStream | None", address: IPv6Address, port: int) -> str:
    where = f"packets to [{address}]:{port}"
    binding = steering.binding(address, port)
    if binding is None:
        if steering.knows(address):
            return f"{where} are sent without an SRH: no application of the service has port {port}"
        return f"{where} are sent without an SRH: destination matches no service"
    return f"{where} (service {binding.service}) {_path(binding, stream)}"


def _path(binding: Binding, stream: "ControllerStream | None") -> str:
    intents = ", ".join(map(str, binding.application.intents))
    path = " > ".join(map(str, binding.path))
    if binding.origin == "controller":
        return f"use {path}: the controller's path for {intents}"
    if binding.query is None and not (intents and stream is not None):
        if not path:
            return f"are sent without an SRH: no controller is asked for {intents}, and no sid is configured"
        return f"use {path}: the configured sid; no controller is asked"
    if binding.query is None:
        state = "the interface has no global IPv6 address yet"
        if path:
            return f"use {path}: the configured sid, as backup for {intents}; {state}"
        return (
            f"are sent without an SRH: the controller can't be asked for {intents}, {state}, "
            "and no sid is configured as backup"
        )
    state = _state(binding.query, stream)
    if binding.origin == "backup":
        return f"use {path}: the configured sid, as backup for {intents}; the controller was asked, {state}"
    return (
        f"are sent without an SRH: the controller was asked for {intents}, but {state}, "
        "and no sid is configured as backup"
    )


def _state(query: PathQuery, stream: "ControllerStream | None") -> str:
    """Why the controller's path is not in use."""
    if stream is None or stream.state != "connected":
        return "it is not connected"
    question = stream.questions.get(query)
    if question is None or not question.answered:
        if question is not None and question.held_until > stream.now():
            return f"it is not asked again for a while: {question.reason}"
        return "it has not answered yet"
    return "it returned no path" if question.empty else "its path can't be used"
