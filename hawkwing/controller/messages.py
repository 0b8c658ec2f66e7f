"""Requests to HawkEye and its answers; no I/O."""

from ipaddress import AddressValueError, IPv6Address

from hawkwing.controller import intent_pb2 as pb
from hawkwing.intents import Intent, IntentType, PathQuery
from hawkwing.sids import MAX_SIDS

_TYPE_NUMBERS: dict[IntentType, pb.IntentType] = {
    IntentType.HIGH_BANDWIDTH: pb.INTENT_TYPE_HIGH_BANDWIDTH,
    IntentType.LOW_BANDWIDTH: pb.INTENT_TYPE_LOW_BANDWIDTH,
    IntentType.LOW_LATENCY: pb.INTENT_TYPE_LOW_LATENCY,
    IntentType.LOW_PACKET_LOSS: pb.INTENT_TYPE_LOW_PACKET_LOSS,
    IntentType.LOW_JITTER: pb.INTENT_TYPE_LOW_JITTER,
    IntentType.FLEX_ALGO: pb.INTENT_TYPE_FLEX_ALGO,
    IntentType.SFC: pb.INTENT_TYPE_SFC,
    IntentType.LOW_UTILIZATION: pb.INTENT_TYPE_LOW_UTILIZATION,
}
_TYPES = {number: kind for kind, number in _TYPE_NUMBERS.items()}
_NUMBER_TYPES = (pb.VALUE_TYPE_MIN_VALUE, pb.VALUE_TYPE_MAX_VALUE, pb.VALUE_TYPE_FLEX_ALGO_NR)


def to_request(query: PathQuery) -> pb.PathRequest:
    """The message for `query`; ValueError if a number doesn't fit the protocol's signed 32 bits."""
    return pb.PathRequest(
        ipv6_source_address=str(query.source),
        ipv6_destination_address=str(query.destination),
        intents=[
            pb.Intent(type=_TYPE_NUMBERS[intent.type], values=_to_values(intent)) for intent in query.intents
        ],
    )


def query_of(message: pb.PathResult | pb.PathRequest) -> PathQuery | None:
    """The query of a result or request; None if it is malformed."""
    try:
        return PathQuery(
            source=IPv6Address(message.ipv6_source_address),
            destination=IPv6Address(message.ipv6_destination_address),
            intents=tuple(_from_message(intent) for intent in message.intents),
        )
    except ValueError:
        return None


def sids_of(result: pb.PathResult) -> tuple[IPv6Address, ...]:
    """The SIDs in travel order, () if there is no path; ValueError if they can't be used."""
    if len(result.ipv6_sid_addresses) > MAX_SIDS:
        raise ValueError(
            f"the path has {len(result.ipv6_sid_addresses)} SIDs, at most {MAX_SIDS} are possible"
        )
    return tuple(_to_sid(text) for text in result.ipv6_sid_addresses)


def _to_values(intent: Intent) -> list[pb.Value]:
    values = []
    if intent.min_value is not None:
        values.append(_to_value(pb.VALUE_TYPE_MIN_VALUE, number=intent.min_value))
    if intent.max_value is not None:
        values.append(_to_value(pb.VALUE_TYPE_MAX_VALUE, number=intent.max_value))
    values.extend(_to_value(pb.VALUE_TYPE_SFC, string=function) for function in intent.functions)
    if intent.flex_algo_number is not None:
        values.append(_to_value(pb.VALUE_TYPE_FLEX_ALGO_NR, number=intent.flex_algo_number))
    return values


def _to_value(kind: pb.ValueType, number: int = 0, string: str = "") -> pb.Value:
    return pb.Value(type=kind, number_value=number, string_value=string)


def _from_message(message: pb.Intent) -> Intent:
    """ValueError, without a reason, if it is malformed."""
    if message.type not in _TYPES:
        raise ValueError
    numbers: dict[int, int] = {}
    functions: list[str] = []
    for value in message.values:
        if value.type == pb.VALUE_TYPE_SFC:
            functions.append(value.string_value)
        elif value.type in numbers or value.type not in _NUMBER_TYPES:
            # Unknown, or given twice.
            raise ValueError
        else:
            numbers[value.type] = value.number_value
    return Intent(
        type=_TYPES[message.type],
        min_value=numbers.get(pb.VALUE_TYPE_MIN_VALUE),
        max_value=numbers.get(pb.VALUE_TYPE_MAX_VALUE),
        functions=tuple(functions),
        flex_algo_number=numbers.get(pb.VALUE_TYPE_FLEX_ALGO_NR),
    )


def _to_sid(text: str) -> IPv6Address:
    try:
        sid = IPv6Address(text)
    except AddressValueError:
        raise ValueError(f"the SID {text!r} is not an IPv6 address") from None
    if sid.scope_id is not None:
        raise ValueError(f"the SID {text!r} has a zone ID")
    if sid.is_link_local:
        raise ValueError(f"the SID {sid} is link-local")
    if sid.is_unspecified:
        raise ValueError(f"the SID {sid} is the unspecified address")
    if sid.is_loopback:
        raise ValueError(f"the SID {sid} is the loopback address")
    if sid.is_multicast:
        raise ValueError(f"the SID {sid} is a multicast address")
    if sid.ipv4_mapped is not None:
        raise ValueError(f"the SID {sid} is an IPv4-mapped address")
    return sid
