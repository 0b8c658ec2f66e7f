"""`hawkwing explain`: which path a packet would take, and why, in a sentence."""

from ipaddress import IPv6Address
from typing import TYPE_CHECKING

from hawkwing.steering import Binding, Steering

if TYPE_CHECKING:
    from hawkwing.controller.stream import ControllerStream


def sentence(
    steering: Steering | None, stream: "ControllerStream | None", destination: str, port: int
) -> str:
    """For a packet to a port of an address, or of a name's addresses (one line each)."""
    if steering is None:
        return "a server sends each reply back along the path that its request came by; see hawkwing status"
    try:
        targets = [IPv6Address(destination)]
    except ValueError:
        name = destination.rstrip(".").lower()
        if name not in steering.names:
            return f"packets to {destination} leave plain: it is the name of no configured service"
        targets = steering.learned().get(name, [])
        if not targets:
            return f"{name} is configured, but no address of it is known yet: it has not resolved"
    return "\n".join(_one(steering, stream, address, port) for address in targets)


def _one(steering: Steering, stream: "ControllerStream | None", address: IPv6Address, port: int) -> str:
    where = f"packets to [{address}]:{port}"
    binding = steering.binding(address, port)
    if binding is None:
        if steering.knows(address):
            return f"{where} leave plain: the address is a service's, but no application has port {port}"
        return f"{where} leave plain: the address is no configured service's"
    return f"{where} (service {binding.service}) {_path(binding, stream)}"


def _path(binding: Binding, stream: "ControllerStream | None") -> str:
    intents = ", ".join(map(str, binding.application.intents))
    way = " > ".join(map(str, binding.path))
    if binding.origin == "controller":
        return f"go by {way}: the controller's path for {intents}"
    if binding.query is None:
        return f"go by {way}: the configured sid; no controller is asked"
    state = (
        "it has given no path"
        if stream is not None and stream.state == "connected"
        else "it is not connected"
    )
    if binding.origin == "backup":
        return f"go by {way}: the configured sid, as backup for {intents}; the controller was asked, {state}"
    return (
        f"leave plain: the controller is asked for {intents}, but {state}, and no sid is configured as backup"
    )
