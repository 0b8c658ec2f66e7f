"""The schema of `hawkwing status --json` is that of the model, and refuses what is not in it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from jsonschema import Draft7Validator

from hawkwing import status_schema
from tests.schemas import closed

COUNTERS = {"egress": {"STEERED": {"packets": 1, "bytes": 100}}, "ingress": {}}
SUMMARY: dict[str, Any] = {
    "role": "client",
    "pid": 4711,
    "version": "0.1.0",
    "interfaces": ["eth0"],
    "started": 1000.5,
    "ready": True,
    "ingress_hook": "tc",
    "attachments": [],
    "sr_domain": [],
    "csid_blocks": [],
    "hmac_keys": [],
    "trusted": "a sentence",
    "counters": COUNTERS,
    "troubles": [],
    "tasks": 4,
    "restarts": {"look-ups": 0},
    "reloads": {"good": 0, "refused": 0},
}
CLIENT = SUMMARY | {"bindings": [], "unresolved": []}
SERVER = SUMMARY | {"role": "server", "flows": {"count": 0, "capacity": 9}, "paths": []}
SERVER |= {"learned_paths": {"count": 0, "capacity": 9}}


def faults(told: dict[str, Any], schema: dict[str, Any] | None = None) -> list[str]:
    return [one.message for one in Draft7Validator(schema or status_schema.schema()).iter_errors([told])]


def test_it_is_a_schema() -> None:
    Draft7Validator.check_schema(status_schema.schema())
    Draft7Validator.check_schema(closed(status_schema.schema()))


def test_client_and_server() -> None:
    assert faults(CLIENT) == [] and faults(SERVER) == []
    assert faults(CLIENT, closed(status_schema.schema())) == []


@pytest.mark.parametrize("key", sorted(CLIENT))
def test_each_key_is_required(key: str) -> None:
    assert faults({name: value for name, value in CLIENT.items() if name != key})


@pytest.mark.parametrize("key", sorted(CLIENT))
def test_each_key_has_a_type(key: str) -> None:
    assert faults(CLIENT | {key: 0.5 if key != "started" else "now"})


def test_a_new_key_is_taken_but_not_by_our_own_tests() -> None:
    told = copy.deepcopy(CLIENT) | {"new": 1}
    assert faults(told) == []
    assert faults(told, closed(status_schema.schema()))
    deep = copy.deepcopy(CLIENT)
    deep["counters"]["egress"]["STEERED"]["new"] = 1
    assert faults(deep) == []
    assert faults(deep, closed(status_schema.schema()))
