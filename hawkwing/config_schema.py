"""The configuration as a JSON schema (draft 7), for editors: `python -m hawkwing.config_schema` prints it.

Made from the models: each key of theirs is in it, each value by the function that reads it. Rules that
compare two values (a port or an address given twice, min_value above max_value) are beyond a schema.
"""

from __future__ import annotations

import json
import sys
import types
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, PlainValidator

from hawkwing import config_values as values
from hawkwing.config_models import Application, Config, Hawkeye, Service, Tls, _IntentEntry, _read_intent
from hawkwing.config_models import _read_limit as read_limit
from hawkwing.intents import IntentType
from hawkwing.sids import MAX_PREFIXES, MAX_SIDS

Schema = dict[str, Any]

#: What each key means; the manual page has the same words.
MEANINGS: Mapping[type[BaseModel], Mapping[str, str]] = {
    Config: {
        "client_ipv6_address": "Source address in requests to the controller. Default: the one that the "
        "kernel uses for packets to the destination.",
        "hawkeye": "The HawkEye controller.",
        "services": "Destinations by name, with their applications. A client needs at least one.",
        "sr_domain": f"Prefixes with lengths, {MAX_PREFIXES} at most: only SRHs whose source and segments "
        "are inside are accepted. Default: any source, SIDs in fc00::/7 or 5f00::/16.",
    },
    Hawkeye: {
        "enabled": "Whether to request paths from the controller. Default: false.",
        "address": "IPv6 address of the controller.",
        "port": "TCP port of the controller.",
        "tls": "TLS towards the controller; an empty mapping is TLS with the system's certificates. Without "
        "this key the stream is plaintext.",
    },
    Tls: {
        "ca": "PEM file with the certificates that sign the controller's. Relative to the configuration "
        "file.",
        "certificate": "PEM file with the client's certificate, for mutual TLS.",
        "key": "PEM file with the client's private key, for mutual TLS.",
    },
    Service: {
        "domain_name": "DNS name; the agent follows its addresses and their TTLs.",
        "ipv6_addresses": "IPv6 addresses of the service.",
        "applications": "What is sent to the service, by port.",
    },
    Application: {
        "port": "Destination port, of TCP and UDP.",
        "sid": f"Segment list: SIDs in travel order, without the destination; {MAX_SIDS} at most. With a "
        "controller it is the backup until the controller has sent a path.",
        "intents": "What the path has to be, for the controller. The order counts: sfc is the first; "
        "flex-algo the first, or the second after sfc.",
    },
    _IntentEntry: {
        "intent": "Kind of intent.",
        "functions": "Service functions in travel order; for sfc only.",
        "flex_algo_number": "Number of the Flex-Algorithm; for flex-algo only. HawkEye takes 128 to 255.",
        "min_value": "Lower limit in HawkEye's units: microseconds, percent, kbit/s. HawkEye takes it with "
        "high-bandwidth.",
        "max_value": "Upper limit in HawkEye's units: microseconds, percent, kbit/s. HawkEye takes it with "
        "low-latency, low-jitter and low-packet-loss.",
    },
}
#: How each model is called in the schema.
NAMES: Mapping[type[BaseModel], str] = {
    Hawkeye: "hawkeye",
    Tls: "tls",
    Service: "service",
    Application: "application",
    _IntentEntry: "intent",
}
_NOT_ROUTED = "(?![Ff][Ee][89ABab][0-9A-Fa-f]:)(?![Ff]{2}[0-9A-Fa-f]{2}:)(?!::[Ff]{4}:)(?!::$)"
_NOT_LOOPBACK = "(?!::1$)"


def _ipv6() -> str:
    """A pattern for an IPv6 address in any of its forms."""
    group, dotted = "[0-9A-Fa-f]{1,4}", r"(?:[0-9]{1,3}\.){3}[0-9]{1,3}"
    forms = [f"(?:{group}:){{7}}{group}", f"(?:{group}:){{1,7}}:", f":(?::{group}){{1,7}}", "::"]
    forms += [f"(?:{group}:){{1,{7 - n}}}(?::{group}){{1,{n}}}" for n in range(1, 7)]
    forms += [f"(?:{group}:){{6}}{dotted}", f"::(?:{group}:){{0,5}}{dotted}"]
    forms += [f"(?:{group}:){{{n}}}:(?:{group}:){{0,{5 - n}}}{dotted}" for n in range(1, 6)]
    return f"(?:{'|'.join(forms)})"


def _number(low: int, high: int) -> Schema:
    return {"type": "integer", "minimum": low, "maximum": high}


def _text(pattern: str) -> Schema:
    return {"type": "string", "pattern": pattern}


_ADDRESS = _text(f"^{_NOT_ROUTED}{_NOT_LOOPBACK}{_ipv6()}$")
_LABEL = r"[A-Za-z0-9_\-\u0080-\u1fff\u2c00-\uffff]{1,63}"
#: By the function that reads the value.
_VALUES: Mapping[Callable[..., object], Schema] = {
    values.read_client_address: _ADDRESS,
    values.read_controller_address: _text(f"^{_NOT_ROUTED}{_ipv6()}$"),
    values.read_controller_port: _number(1, 65535),
    values.read_domain: _text(rf"^(?=.{{1,254}}$)(?![0-9.]+$){_LABEL}(?:\.{_LABEL})*\.?$"),
    values.read_file_name: _text(r"\S"),
    values.read_flag: {"type": "boolean"},
    values.read_flex_algo: _number(1, 255),
    values.read_intent_type: {"enum": [kind.value for kind in IntentType]},
    read_limit: _number(0, values.MAX_VALUE),
    values.read_port: _number(1, 65535),
    values.read_prefix: _text(f"^{_ipv6()}/(?:12[0-8]|1[01][0-9]|[1-9]?[0-9])$"),
    values.read_service_address: _ADDRESS,
    values.read_sid: _ADDRESS,
    values.read_text: _text(r"\S"),
    _read_intent: {"$ref": f"#/definitions/{NAMES[_IntentEntry]}"},
}


def schema() -> Schema:
    """The whole schema."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "HawkWing configuration",
        **_model(Config),
        "definitions": {name: _model(model) for model, name in NAMES.items()},
    }


def _model(model: type[BaseModel]) -> Schema:
    """An object with the model's keys; others only where they begin with x-."""
    properties = {}
    for name, field in model.model_fields.items():
        kind = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
        property_ = _of(kind)
        if not field.is_required():
            property_ = _or_empty(property_)
        properties[name] = {**property_, "description": MEANINGS[model][name]}
    return {
        "type": "object",
        "properties": properties,
        "patternProperties": {"^x-": True},
        "additionalProperties": False,
        "required": [name for name, field in model.model_fields.items() if field.is_required()],
        **_RULES.get(model, {}),
    }


def _of(kind: Any) -> Schema:
    """Of one type, as the models have them."""
    origin, inside = get_origin(kind), get_args(kind)
    if origin is Annotated:
        readers = [each.func for each in inside[1:] if isinstance(each, PlainValidator)]
        return dict(_VALUES[typing.cast("Callable[..., object]", readers[0])]) if readers else _of(inside[0])
    if origin in (Union, types.UnionType):
        (one,) = [each for each in inside if each is not type(None)]
        return _of(one)
    if origin is tuple:
        return {"type": "array", "items": _of(inside[0])}
    if origin is dict:
        return {"type": "object", "propertyNames": {"pattern": r"\S"}, "additionalProperties": _of(inside[1])}
    return {"$ref": f"#/definitions/{NAMES[kind]}"}


def _or_empty(schema: Schema) -> Schema:
    """A key with nothing behind it counts as absent."""
    if "type" in schema:
        return {**schema, "type": [schema["type"], "null"]}
    if "enum" in schema:
        return {"enum": [*schema["enum"], None]}
    return {"anyOf": [schema, {"type": "null"}]}


def _given(*names: str) -> Schema:
    """The keys are there, and not empty."""
    full: Schema = {"not": {"enum": [None, [], {}, ""]}}
    return {"required": list(names), "properties": dict.fromkeys(names, full)}


def _none_of(*kinds: IntentType) -> Schema:
    return {"properties": {"intent": {"not": {"enum": [kind.value for kind in kinds]}}}}


def _only_with(kind: IntentType, *, needs: str, never: tuple[str, ...] = ()) -> list[Schema]:
    """`needs` belongs to this kind of intent, and to no other; `never` are the keys it does not take."""
    is_kind = {"required": ["intent"], "properties": {"intent": {"const": kind.value}}}
    refused: Schema = {"anyOf": [{"required": [name]} for name in never]}
    return [
        {"if": is_kind, "then": {"allOf": [_given(needs), {"not": refused}]}, "else": {"not": _given(needs)}}
    ]


_LIMITS = ("min_value", "max_value")
_SFC_FIRST: Schema = {
    "if": {"items": [{"properties": {"intent": {"const": IntentType.SFC.value}}}]},
    "then": {
        "items": [{}, _none_of(IntentType.SFC)],
        "additionalItems": _none_of(IntentType.SFC, IntentType.FLEX_ALGO),
    },
    "else": {"items": [{}], "additionalItems": _none_of(IntentType.SFC, IntentType.FLEX_ALGO)},
}
#: Rules between the keys of a model.
_RULES: Mapping[type[BaseModel], Schema] = {
    Config: {"allOf": [{"properties": {"sr_domain": {"maxItems": MAX_PREFIXES}}}]},
    Hawkeye: {
        "if": {"required": ["enabled"], "properties": {"enabled": {"const": True}}},
        "then": _given("address", "port"),
    },
    Tls: {
        "allOf": [
            {"if": _given("certificate"), "then": _given("key")},
            {"if": _given("key"), "then": _given("certificate")},
        ]
    },
    Service: {
        "allOf": [{"anyOf": [_given("domain_name"), _given("ipv6_addresses")]}, _given("applications")]
    },
    Application: {
        "allOf": [
            {"anyOf": [_given("sid"), _given("intents")]},
            {"properties": {"sid": {"maxItems": MAX_SIDS}, "intents": _SFC_FIRST}},
        ]
    },
    _IntentEntry: {
        "allOf": [
            *_only_with(IntentType.SFC, needs="functions", never=_LIMITS),
            *_only_with(IntentType.FLEX_ALGO, needs="flex_algo_number", never=_LIMITS),
        ]
    },
}


def text() -> str:
    """As a file has it."""
    return json.dumps(schema(), indent=2, ensure_ascii=True) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
