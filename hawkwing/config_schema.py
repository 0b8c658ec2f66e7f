"""The configuration as a JSON schema (draft 7), for editors: `python -m hawkwing.config_schema` prints it.

Generated from the models; this module adds the rules between the keys of a mapping. A schema can't express
rules that compare two values (a port or an address given twice, min_value above max_value).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

from hawkwing.config_models import Application, Config, Decap, Hawkeye, IntentEntry, Service, Tls
from hawkwing.intents import IntentType

Schema = dict[str, Any]


class _Generate(GenerateJsonSchema):
    """Pydantic's schema, which also accepts a key without a value: it counts as absent."""

    def field_title_should_be_set(self, _schema: Any) -> bool:
        return False

    def sort(self, value: Any, parent_key: str | None = None) -> Any:
        """Keys stay in the order of the models."""
        return value

    def nullable_schema(self, schema: core_schema.NullableSchema) -> Schema:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> Schema:
        inner = self.generate_inner(schema["schema"])
        if "type" in inner:
            return {**inner, "type": [inner["type"], "null"]}
        return {"anyOf": [inner, {"type": "null"}]}

    def model_schema(self, schema: core_schema.ModelSchema) -> Schema:
        described = super().model_schema(schema)
        for name in ("title", "description"):
            described.pop(name, None)
        if schema["cls"] is Config:
            for name in ("csid", "hmac"):
                described["properties"][name] = _one_or_a_list(described["properties"][name])
        return {**described, "patternProperties": {"^x-": True}, **_RULES.get(schema["cls"], {})}


def _one_or_a_list(listed: Schema) -> Schema:
    """Also accepts a single entry instead of a list."""
    either = {name: value for name, value in listed.items() if name not in ("description", "default")}
    return {"anyOf": [either, listed["items"]], "description": listed["description"]}


def schema() -> Schema:
    """The whole schema."""
    made = Config.model_json_schema(ref_template="#/definitions/{model}", schema_generator=_Generate)
    definitions = made.pop("$defs")
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "HawkWing configuration",
        **made,
        "definitions": definitions,
    }


def properties(model: type[BaseModel]) -> Mapping[str, Schema]:
    """The schema of each key of a model."""
    whole = schema()
    described = whole if model is Config else whole["definitions"][model.__name__]
    found: Mapping[str, Schema] = described["properties"]
    return found


def _given(*names: str) -> Schema:
    """Requires these keys with a value."""
    full: Schema = {"not": {"enum": [None, [], {}, ""]}}
    return {"required": list(names), "properties": dict.fromkeys(names, full)}


def _none_of(*kinds: IntentType) -> Schema:
    return {"properties": {"intent": {"not": {"enum": [kind.value for kind in kinds]}}}}


def _only_with(kind: IntentType, *, needs: str, never: tuple[str, ...] = ()) -> list[Schema]:
    """Only this kind of intent has, and must have, the key `needs`; it can't have the keys `never`."""
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
_ENCAPSULATES: Schema = {"required": ["mode"], "properties": {"mode": {"const": "encap"}}}
_NO_WAY_BACK: Schema = {
    "allOf": [{"not": _given("return_sid")}, {"not": _given("return_intents")}],
    "properties": {"paths": {"items": {"not": _given("return_sid")}}},
}
#: Rules between the keys of a model.
_RULES: Mapping[type[BaseModel], Schema] = {
    Config: {"if": _given("decap"), "then": _given("sr_domain")},
    Decap: {"anyOf": [_given("ipv6"), _given("ipv4")]},
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
            {"anyOf": [_given("sid"), _given("paths"), _given("intents")]},
            {"not": _given("sid", "paths")},
            {"properties": {"intents": _SFC_FIRST, "return_intents": _SFC_FIRST}},
            {"if": _given("return_intents"), "then": _given("intents")},
            {"if": _ENCAPSULATES, "then": _NO_WAY_BACK},
        ]
    },
    IntentEntry: {
        "allOf": [
            *_only_with(IntentType.SFC, needs="functions", never=_LIMITS),
            *_only_with(IntentType.FLEX_ALGO, needs="flex_algo_number", never=_LIMITS),
        ]
    },
}


def text() -> str:
    """The text of the schema file."""
    return json.dumps(schema(), indent=2, ensure_ascii=True) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
