"""The JSON schema for editors: it is that of the models, takes what is right, and refuses known mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonschema import Draft7Validator

from hawkwing import config_schema
from hawkwing.config import load_config
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
