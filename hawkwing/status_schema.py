"""`hawkwing status --json` as a JSON schema (draft 7): `python -m hawkwing.status_schema` prints it."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Iterator
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from hawkwing import status_model

Schema = dict[str, Any]
AGENTS = (status_model.Client, status_model.Server)
_PLAIN: dict[Any, Schema] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
}


def schema() -> Schema:
    """The whole schema. Later versions may add keys."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "hawkwing status --json",
        "description": "All agents of a network namespace.",
        "type": "array",
        "items": {"anyOf": [_reference(agent) for agent in AGENTS]},
        "definitions": {_name(model): _object(model) for model in models(*AGENTS)},
    }


def models(*outer: type) -> list[type]:
    """These models and the models in them, each once, the outer ones first."""
    found = list(outer)
    for model in found:
        for hint in get_type_hints(model, include_extras=True).values():
            found += [one for one in _models_in(hint) if one not in found]
    return found


def _models_in(kind: Any) -> Iterator[type]:
    if is_typeddict(kind):
        yield kind
    for inside in get_args(kind):
        yield from _models_in(inside)


def meaning(kind: Any) -> tuple[Any, str]:
    """The type of a key, and its description."""
    if get_origin(kind) is NotRequired:
        (kind,) = get_args(kind)
    # Python merges nested Annotated types; the inner descriptions belong to the type.
    bare, *words = get_args(kind)
    return Annotated[(bare, *words[:-1])] if words[1:] else bare, words[-1]


def _name(model: type) -> str:
    return model.__name__


def _reference(model: type) -> Schema:
    return {"$ref": f"#/definitions/{_name(model)}"}


def _object(model: type) -> Schema:
    hints = get_type_hints(model, include_extras=True)
    described = {name: meaning(hint) for name, hint in hints.items()}
    return {
        "description": (model.__doc__ or "").strip(),
        "type": "object",
        "properties": {name: {**_of(kind), "description": text} for name, (kind, text) in described.items()},
        "required": [name for name, hint in hints.items() if get_origin(hint) is not NotRequired],
    }


def _of(kind: Any) -> Schema:
    origin, inside = get_origin(kind), get_args(kind)
    if is_typeddict(kind):
        return {"allOf": [_reference(kind)]}
    if origin is Annotated:
        return _of(inside[0])
    if origin in (Union, types.UnionType):
        return {"anyOf": [_of(one) for one in inside]}
    if origin is Literal:
        return {"enum": list(inside)}
    if origin is list:
        return {"type": "array", "items": _of(inside[0])}
    if origin is dict:
        return {"type": "object", "additionalProperties": _of(inside[1])}
    return dict(_PLAIN[kind])


def text() -> str:
    """The text of the schema file."""
    return json.dumps(schema(), indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
