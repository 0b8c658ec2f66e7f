"""Intentional faults in answers: a list of faults, each consumed by the next matching answers."""

from __future__ import annotations

from ipaddress import IPv6Address
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fake_hawkeye.answers import Answer, End, status_code, to_result
from hawkwing.controller import intent_pb2 as pb

#: An answer and the seconds before it is sent.
Timed = tuple[float, Answer]


class Fault(BaseModel):
    """A fault in answers.

    late: after `seconds`. never. wrong: with `sids`. empty: without SIDs. stranger: for the destination
    `address`. twice. end: the stream ends instead, with `code` and `message`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fault: Literal["late", "never", "wrong", "empty", "stranger", "twice", "end"]
    times: Annotated[int, Field(ge=1, description="answers to spoil")] = 1
    destination: Annotated[IPv6Address | None, Field(description="only answers about this one")] = None
    seconds: Annotated[float, Field(ge=0, le=3600)] | None = None
    sids: tuple[IPv6Address, ...] | None = None
    address: IPv6Address = IPv6Address("2001:db8:dead::1")
    code: str = "UNKNOWN"
    message: str = ""

    @model_validator(mode="after")
    def _complete(self) -> Fault:
        if (self.fault == "late") != (self.seconds is not None):
            raise ValueError("seconds are required with the fault late, and valid with it only")
        if (self.fault == "wrong") != (self.sids is not None):
            raise ValueError("sids are required with the fault wrong, and valid with it only")
        status_code(self.code)
        return self

    def spoil(self, request: pb.PathRequest, honest: Answer) -> list[Timed]:
        """The answers to send instead of the correct one."""
        match self.fault:
            case "late":
                return [(self.seconds or 0.0, honest)]
            case "wrong":
                return [(0.0, to_result(request, self.sids or ()))]
            case "empty":
                return [(0.0, to_result(request, ()))]
            case "stranger":
                return [(0.0, _about(self.address, honest))]
            case "twice":
                return [(0.0, honest), (0.0, honest)]
            case "end":
                return [(0.0, End(status_code(self.code), self.message))]
            case "never":
                return []


class Faults:
    """The pending faults, oldest first."""

    def __init__(self) -> None:
        self._pending: list[tuple[Fault, int]] = []

    def add(self, fault: Fault) -> None:
        """Appends a fault."""
        self._pending.append((fault, fault.times))

    def clear(self) -> int:
        """Removes all faults; returns their number."""
        count = len(self._pending)
        self._pending.clear()
        return count

    def spoil(self, request: pb.PathRequest, honest: Answer) -> list[Timed]:
        """The answers to send; the correct one if there is no matching fault."""
        for index, (fault, left) in enumerate(self._pending):
            if fault.destination is None or _same(fault.destination, request.ipv6_destination_address):
                self._pending[index : index + 1] = [(fault, left - 1)] if left > 1 else []
                return fault.spoil(request, honest)
        return [(0.0, honest)]


def _about(destination: IPv6Address, honest: Answer) -> Answer:
    if isinstance(honest, End):
        return honest
    changed = pb.PathResult()
    changed.CopyFrom(honest)
    changed.ipv6_destination_address = str(destination)
    return changed


def _same(address: IPv6Address, text: str) -> bool:
    try:
        return IPv6Address(text) == address
    except ValueError:
        return False
