"""The JSON schema for editors: it is that of the models, takes what is right, and refuses known mistakes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from ipaddress import IPv6Address
from pathlib import Path

import pytest
from jsonschema import Draft7Validator

from hawkwing import config_schema, config_types
from hawkwing.config import load_config
from hawkwing.errors import ConfigError
from hawkwing.yaml_lines import YamlError, read_yaml
from tests.unit.mistakes import Row
from tests.unit.test_config_mistakes import ERRORS, WARNINGS

PROJECT = Path(__file__).parents[2]
FILE = PROJECT / "docs" / "hawkwing.schema.json"
EXAMPLES = [PROJECT / "docs/example.yaml", PROJECT / "lab/client.yaml", PROJECT / "packaging/config.yaml"]
CHECK = Draft7Validator(config_schema.schema())
#: The schema is for servers, too, which need no services.
BEYOND = {"empty services"}


def faults(text: str) -> list[str]:
    """What an editor shows: errors of YAML, or else of the schema."""
    try:
        data = read_yaml(text).data
    except YamlError as error:
        return [error.sentence]
    return [error.message for error in CHECK.iter_errors(data)]


def test_the_file_is_that_of_the_models() -> None:
    assert FILE.read_text() == config_schema.text(), (
        "python -m hawkwing.config_schema >docs/hawkwing.schema.json"
    )
    Draft7Validator.check_schema(json.loads(FILE.read_text()))


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.name)
def test_examples_are_right(file: Path) -> None:
    assert faults(file.read_text()) == []
    load_config(file, require_services=False)


@pytest.mark.parametrize("blocks", ["{block: 'fcbb:bb00::/32'}", "[{block: 'fcbb:bb00::/32'}]", "[]", ""])
def test_one_block_of_compressed_sids_or_a_list(blocks: str) -> None:
    assert faults(f"csid: {blocks}\n") == []
    assert faults("csid: 5\n") and faults("csid: {blok: 'fcbb:bb00::/32'}\n") and faults("csid: [5]\n")


@pytest.mark.parametrize("row", ERRORS, ids=lambda row: row.what)
def test_mistakes_are_refused(row: Row) -> None:
    assert bool(faults(row.wrong)) != (row.what in BEYOND)
    assert faults(row.right) == []


@pytest.mark.parametrize("row", WARNINGS, ids=lambda row: row.what)
def test_what_is_only_warned_of_is_taken(row: Row) -> None:
    assert faults(row.wrong) == []
    assert faults(row.right) == []


HEAD = "services:\n  web:\n    ipv6_addresses: [fcbb:cc00:2::a]\n    applications:\n      - "
PATHS = "paths: [{sid: [fcbb::1]}, {sid: [fcbb::2], return_sid: [fcbb::3], preference: 200}]"
INTENTS = "intents: [{intent: low-latency}]"


@pytest.mark.parametrize(
    ("keys", "right"),
    [
        (PATHS, True),
        (f"{PATHS}, {INTENTS}, return_sid: [fcbb::4]", True),
        (f"{PATHS}, sid: [fcbb::1]", False),
        (f"sid: [fcbb::1], {INTENTS}, return_intents: [{{intent: low-jitter}}]", True),
        ("sid: [fcbb::1], return_intents: [{intent: low-jitter}]", False),
        (f"{INTENTS}, return_intents: [{{intent: low-jitter}}, {{intent: sfc, functions: [fw]}}]", False),
        ("sid: [fcbb::1], mode: encap", True),
        ("sid: [fcbb::1], mode: encap, return_sid: [fcbb::2]", False),
        ("sid: [fcbb::1], mode: insert, return_sid: [fcbb::2]", True),
        (f"{PATHS}, mode: encap", False),
        (f"{INTENTS}, mode: encap, decap_sid: fcbb::9, return_intents: [{{intent: low-jitter}}]", False),
    ],
)
def test_applications_are_judged_as_the_agent_does(keys: str, right: bool, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(f"{HEAD}{{port: 80, {keys}}}\n")
    if right:
        load_config(file)
    else:
        with pytest.raises(ConfigError):
            load_config(file)
    assert (faults(file.read_text()) == []) is right


def spellings() -> Iterator[str]:
    """Addresses with any number of groups before and behind ::, with and without dotted numbers."""
    for before in range(9):
        yield ":".join("a" * before)
        yield ":".join(["12aF"] * before + ["1.2.3.4"])
        for behind in range(9):
            first, last = ":".join("1" * before), ":".join("f" * behind)
            yield f"{first}::{last}"
            yield f"{first}::{last}{':' if last else ''}192.0.2.1"
    yield from (
        "1:2:3:4:5:6:7:8:",
        ":1:2:3:4:5:6:7:8",
        "12345::",
        "g::",
        "::1::",
        ":::",
        "1.2.3.4",
        "::1.2.3",
        "",
    )


def test_editors_take_each_spelling_of_an_address_that_the_agent_takes_and_no_other() -> None:
    pattern = re.compile(config_types._ipv6())
    taken = 0
    for text in spellings():
        try:
            IPv6Address(text)
        except ValueError:
            assert not pattern.fullmatch(text), text
        else:
            assert pattern.fullmatch(text), text
            taken += 1
    assert taken > 50
