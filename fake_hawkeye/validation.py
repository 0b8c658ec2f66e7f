"""HawkEye's validation of a request, with its error messages."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import AddressValueError, IPv6Address

from hawkwing.controller import intent_pb2 as pb
from hawkwing.controller.messages import to_request
from hawkwing.intents import HAWKEYE_FLEX_ALGO_NUMBERS, PathQuery

_MAY_HAVE_MAX = (pb.INTENT_TYPE_LOW_LATENCY, pb.INTENT_TYPE_LOW_JITTER, pb.INTENT_TYPE_LOW_PACKET_LOSS)
_NUMBERS = (pb.VALUE_TYPE_MIN_VALUE, pb.VALUE_TYPE_MAX_VALUE, pb.VALUE_TYPE_FLEX_ALGO_NR)


def refusal(request: pb.PathRequest) -> str | None:
    """The first reason to refuse the request, None for a valid one."""
    return next(_refusals(request), None)


def refusal_of_query(query: PathQuery) -> str | None:
    """The same for a parsed request."""
    return refusal(to_request(query))


def _refusals(request: pb.PathRequest) -> Iterator[str]:
    for intent in request.intents:
        yield from _value_problems(intent)
        if intent.type not in pb.IntentType.values() or intent.type == pb.INTENT_TYPE_UNSPECIFIED:
            yield "Intent type unspecified"
    for key, address in (
        ("Ipv6SourceAddress", request.ipv6_source_address),
        ("Ipv6DestinationAddress", request.ipv6_destination_address),
    ):
        if not address:
            yield _field_problem("DomainPathRequestInput", key, "required")
        elif not _is_ipv6(address):
            yield _field_problem("DomainPathRequestInput", key, "ipv6")
    if not request.intents:
        yield "At least one intent should be provided"
    seen = set()
    for intent in request.intents:
        if intent.type in seen:
            yield f"Intent type {_go_name(intent.type)} appears more than once"
        seen.add(intent.type)
        yield from _intent_problems(intent)


def _value_problems(intent: pb.Intent) -> Iterator[str]:
    for value in intent.values:
        if value.type in _NUMBERS:
            if not value.HasField("number_value"):
                yield "Number value was not provided"
            elif value.number_value == 0:
                yield _field_problem("NumberValueInput", "NumberValue", "required")
            elif value.number_value < 1:
                yield _field_problem("NumberValueInput", "NumberValue", "min")
        elif value.type == pb.VALUE_TYPE_SFC:
            if not value.HasField("string_value"):
                yield _field_problem("StringValueInput", "StringValue", "required")
        else:
            yield "Value type unspecified"


def _intent_problems(intent: pb.Intent) -> Iterator[str]:
    kinds = [value.type for value in intent.values]
    if intent.type == pb.INTENT_TYPE_FLEX_ALGO:
        if len(kinds) != 1:
            yield "Flex Algo intent should have exact one VALUE_TYPE_FLEX_ALGO_NR"
        elif kinds[0] != pb.VALUE_TYPE_FLEX_ALGO_NR:
            yield "Flex Algo value number should be of type VALUE_TYPE_FLEX_ALGO_NR "
        elif intent.values[0].number_value not in HAWKEYE_FLEX_ALGO_NUMBERS:
            yield "Flex Algo value number should be a positive number between 128 and 255"
    if pb.VALUE_TYPE_MAX_VALUE in kinds and intent.type not in _MAY_HAVE_MAX:
        yield "Max value is only allowed for Low Latency, Jitter, or Packet Loss intents"
    if pb.VALUE_TYPE_MIN_VALUE in kinds and intent.type != pb.INTENT_TYPE_HIGH_BANDWIDTH:
        yield "Min value is only allowed for High Bandwidth intents"
    if intent.type == pb.INTENT_TYPE_SFC:
        yield from _chain_problems(intent)


def _chain_problems(intent: pb.Intent) -> Iterator[str]:
    if not intent.values:
        yield "Service Function Chain intent should have at least one VALUE_TYPE_SERVICE_FUNCTION_CHAIN"
    seen = set()
    for value in intent.values:
        if value.type != pb.VALUE_TYPE_SFC:
            yield "Service Function Chain value should be of type VALUE_TYPE_SERVICE_FUNCTION_CHAIN"
        if value.string_value in seen:
            yield f"Service Function Chain value {value.string_value} appears more than once"
        seen.add(value.string_value)


def _go_name(kind: int) -> str:
    """The type's name in HawkEye: LowLatency, but SFC."""
    words = pb.IntentType.Name(kind).removeprefix("INTENT_TYPE_").split("_")
    return "".join(word if word == "SFC" else word.capitalize() for word in words)


def _field_problem(model: str, field: str, rule: str) -> str:
    return f"Key: '{model}.{field}' Error:Field validation for '{field}' failed on the '{rule}' tag"


def _is_ipv6(text: str) -> bool:
    try:
        address = IPv6Address(text)
    except AddressValueError:
        return False
    return address.scope_id is None and address.ipv4_mapped is None
