"""JSON schemas in tests: ours take keys of later versions, and our own tests take none."""

from __future__ import annotations

from typing import Any

from jsonschema import Draft7Validator

from hawkwing import status_schema


def closed(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema, but no object may have other keys than it names."""
    definitions = {
        name: {**model, "additionalProperties": False} for name, model in schema["definitions"].items()
    }
    return {**schema, "definitions": definitions}


def assert_known_status(told: list[dict[str, Any]]) -> None:
    """What `hawkwing status --json` printed has all keys of the schema, and no others."""
    for agent in told:
        assert_as_described(agent, agent["role"].capitalize())


def assert_as_described(told: object, model: str) -> None:
    """It has all keys that one of the schema's models has, and no others."""
    whole = closed(status_schema.schema())
    described = {"$ref": f"#/definitions/{model}", "definitions": whole["definitions"]}
    assert [one.message for one in Draft7Validator(described).iter_errors(told)] == []
