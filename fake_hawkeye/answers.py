"""Answers on a stream: a result, or the end of the stream."""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv6Address

import grpc

from hawkwing.controller import intent_pb2 as pb


@dataclass(frozen=True)
class End:
    """How to end a stream."""

    code: grpc.StatusCode
    message: str


Answer = pb.PathResult | End


def to_result(request: pb.PathRequest, sids: Iterable[IPv6Address]) -> pb.PathResult:
    """The answer, which repeats the request unchanged."""
    return pb.PathResult(
        ipv6_source_address=request.ipv6_source_address,
        ipv6_destination_address=request.ipv6_destination_address,
        intents=request.intents,
        ipv6_sid_addresses=[str(sid) for sid in sids],
    )


def status_code(name: str) -> grpc.StatusCode:
    """The gRPC status with this name; ValueError if there is none."""
    code = next((code for code in grpc.StatusCode if code.name == name), None)
    if code is None:
        raise ValueError(f"{name!r} is not a gRPC status code")
    return code
