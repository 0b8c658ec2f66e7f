"""Files that are not YAML, not text, or too much, and the message that leads to the mistake."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from hawkwing.config import check_config
from hawkwing.errors import ConfigError
from hawkwing.yaml_lines import YamlError, read_yaml
from hawkwing.yaml_mistakes import odd_character
from tests.unit.mistakes import APP, HEAD, Row, app, hawkeye, lines, name, port, said_of, sid
from tests.unit.test_config import EXAMPLE

ON = ("enabled: true", "address: fcbb::5", "port: 5001")

ROWS = [
    Row(
        "indented with a tab",
        lines("services:", "\tweb: {}"),
        ["2: indented with a tab, YAML allows spaces only"],
        port("80"),
    ),
    Row(
        "tab behind a dash",
        lines(*HEAD.splitlines(), "      -\tport: 80"),
        ["5: has a tab, YAML allows spaces only"],
        port("80"),
    ),
    Row(
        "indented by one less",
        lines(
            "services:",
            "  web:",
            "    domain_name: a.b",
            "   applications:",
            "      - {port: 80, sid: [fcbb::1]}",
        ),
        ["4: indented by 3, the keys above it by 4"],
        port("80"),
    ),
    Row(
        "indented by one more",
        lines(
            "services:",
            "  web:",
            "    domain_name: a.b",
            "     applications:",
            "      - {port: 80, sid: [fcbb::1]}",
        ),
        ["4: indented by 5, the keys above it by 4"],
        port("80"),
    ),
    Row(
        "key below the dash",
        lines(*HEAD.splitlines(), "      - port: 80", "      sid: [fcbb::1]"),
        ["6: indented by 6, the keys above it by 8"],
        sid("[fcbb::1]"),
    ),
    Row(
        "two spaces behind the dash",
        lines(*HEAD.splitlines(), "      -  port: 80", "        sid: [fcbb::1]"),
        ["6: indented by 8, the keys above it by 9"],
        sid("[fcbb::1]"),
    ),
    Row(
        "entry indented otherwise",
        port("80") + "     - {port: 81, sid: [fcbb::1]}\n",
        ["7: indented by 5, the entries above it by 6"],
        port("80") + "      - {port: 81, sid: [fcbb::1]}\n",
    ),
    Row(
        "no colon",
        lines(
            *HEAD.replace("applications:", "applications").splitlines(),
            "      - port: 80",
            "        sid: [fcbb::1]",
        ),
        ["4: applications has no colon"],
        port("80"),
    ),
    Row(
        "no colon, on the first line",
        HEAD.replace("services:", "services"),
        ["1: services has no colon"],
        port("80"),
    ),
    Row("no colon before a value", app("port 80", "sid: [fcbb::1]"), ["5: port has no colon"], port("80")),
    Row("no colon before a list", app("port: 80", "sid [fcbb::1]"), ["6: sid has no colon"], port("80")),
    Row(
        "equals sign",
        hawkeye("enabled = true", *ON[1:]),
        ["2: write enabled: true and not enabled = true"],
        hawkeye(*ON),
    ),
    Row(
        "no space behind the colon",
        app("port:80", "sid: [fcbb::1]"),
        ["5: a space is missing after port:"],
        port("80"),
    ),
    Row(
        "no space behind a colon in braces",
        HEAD + "      - {port:80, sid: [fcbb::1]}\n",
        [f"5: {APP}['port:80']: a space is missing after port:"],
        port("80"),
    ),
    Row(
        "no space behind the dash",
        lines(*HEAD.splitlines(), "      -port: 80", "        sid: [fcbb::1]"),
        ["5: a space is missing after -"],
        port("80"),
    ),
    Row(
        "no space behind the dash of a SID",
        app("port: 80", "sid:", "  -fcbb::1"),
        [f"6: {APP}.sid: a space is missing after -"],
        sid("[fcbb::1]"),
    ),
    Row(
        "bracket never closed",
        app("port: 80", "sid: [fcbb::1, fcbb::2", "intents:", "  - intent: low-latency"),
        ["6: [ is never closed"],
        sid("[fcbb::1, fcbb::2]"),
    ),
    Row("bracket never closed, at the end", sid("[fcbb::1"), ["6: [ is never closed"], sid("[fcbb::1]")),
    Row(
        "brace never closed",
        HEAD + "      - {port: 80, sid: [fcbb::1]\n      - {port: 81, sid: [fcbb::1]}\n",
        ["5: { is never closed"],
        HEAD + "      - {port: 80, sid: [fcbb::1]}\n",
    ),
    Row("closed by another bracket", sid("[fcbb::1}"), ["6: [ is closed with }"], sid("[fcbb::1]")),
    Row("bracket closed twice", sid("[fcbb::1]]"), ["6: ] closes nothing"], sid("[fcbb::1]")),
    Row(
        "no comma",
        HEAD + "      - {port: 80 sid: [fcbb::1]}\n",
        ["5: a comma is missing before sid"],
        HEAD + "      - {port: 80, sid: [fcbb::1]}\n",
    ),
    Row("quote never closed", name('"wb.hawk.net'), ['3: " is never closed'], name('"wb.hawk.net"')),
    Row(
        "quote closed by a later one",
        name('"wb.hawk.net') + 'sr_domain: ["fcbb::/16"]\n',
        ['3: " is never closed'],
        name('"wb.hawk.net"') + 'sr_domain: ["fcbb::/16"]\n',
    ),
    Row(
        "text behind a quote",
        name('"wb".hawk.net'),
        ['3: .hawk.net follows the closing "'],
        name('"wb.hawk.net"'),
    ),
    Row(
        "two colons",
        "services: web: {}\n",
        ["1: has two colons: put the value in quotes, or the second key on a line of its own"],
        port("80"),
    ),
    Row(
        "wildcard as a port", port("*"), ["5: * starts a YAML alias; wildcards are not supported"], port("80")
    ),
    Row(
        "wildcard",
        name("*.hawk.net"),
        ["3: * starts a YAML alias; wildcards are not supported"],
        name("wb.hawk.net"),
    ),
    Row("at sign", name("@wb"), ["3: a value that begins with @ must be in quotes"], name("wb")),
    Row(
        "no-break space",
        HEAD.replace(": wb", ":\u00a0wb") + "      - {port: 80, sid: [fcbb::1]}\n",
        ["3: has a no-break space (U+00A0) in it, use plain spaces only"],
        name("wb.hawk.net"),
    ),
    Row(
        "address that begins with a colon",
        sid("[::ffff:10.0.0.1]"),
        ["6: an address that begins with : must be in quotes"],
        hawkeye("enabled: true", "address: '::1'", "port: 5001"),
    ),
    Row(
        "address that ends in colons",
        hawkeye(ON[0], "address: fcbb::", ON[2]),
        ["3: an address that ends in :: must be in quotes"],
        hawkeye(ON[0], "address: 'fcbb::'", ON[2]),
    ),
    Row(
        "address that ends in colons, in a list",
        sid("[fcbb::]"),
        ["6: an address that ends in :: must be in quotes"],
        sid("['fcbb::']"),
    ),
    Row(
        "shell variable in brackets",
        sid("[${SID1}, ${SID2}]"),
        ["6: ${SID1}: variables are not expanded in the file"],
        sid("[fcbb::1]"),
    ),
    Row(
        "TOML",
        lines("[hawkeye]", "enabled = true", 'address = "fcbb::5"'),
        ["1: looks like TOML, YAML is needed"],
        hawkeye(*ON),
    ),
    Row(
        "TOML without a section",
        lines("# hawkwing", "enabled = true", "port = 5001"),
        ["2: looks like TOML, YAML is needed"],
        hawkeye(*ON),
    ),
    Row("XML", lines("<services>", "</services>"), ["1: looks like XML, YAML is needed"], port("80")),
    Row(
        "alias without anchor",
        port("*p"),
        ["5: *p is used, but &p is not defined before it"],
        "x-p: &p 80\n" + port("*p"),
    ),
    Row(
        "anchor twice",
        lines("x-a: &p 1", "x-b: &p 2") + port("*p"),
        ["2: &p is given twice, first on line 1"],
        "x-a: &p 1\n" + port("*p"),
    ),
    Row(
        "two documents",
        port("80") + "---\n" + port("80"),
        ["7: begins a second YAML document, only one can be read"],
        "---\n" + port("80"),
    ),
]


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path("hawk.yaml")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.what)
def test_mistake(file: Path, row: Row) -> None:
    assert said_of(file, row.wrong) == [f"{file}:{one}" for one in row.said]
    assert said_of(file, row.right) == []


@pytest.mark.parametrize(
    ("encoded", "said"),
    [
        (
            port("80").replace("wb", "bücher").encode("latin-1"),
            "3: is not text in UTF-8: it looks like Latin-1, save it as UTF-8",
        ),
        (port("80").encode("utf-16"), "1: is not text in UTF-8: it looks like UTF-16, save it as UTF-8"),
        (port("80").encode("utf-16-le"), "1: is not text in UTF-8: it looks like UTF-16, save it as UTF-8"),
        (b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff", "1: is not a text file"),
    ],
)
def test_encodings(file: Path, encoded: bytes, said: str) -> None:
    assert said_of(file, encoded) == [f"hawk.yaml:{said}"]
    assert said_of(file, port("80").replace("wb", "bücher").encode()) == []


@pytest.mark.parametrize("piece", ["[", "{a: ", "- ", "[{"])
def test_what_is_nested_deeply_is_refused_at_once(file: Path, piece: str) -> None:
    begin = time.process_time()
    assert said_of(file, piece * 20_000) == ["hawk.yaml:1: is nested more than 50 deep"]
    assert time.process_time() - begin < 1


def test_half_a_character_is_named() -> None:
    assert odd_character("a\ud800") == "has half a character (U+D800) in it"


def test_any_mistake_ends_with_sentences(file: Path) -> None:
    """Characters of a right file are changed, left out and put in: each line said has file and line."""
    chance = random.Random(7)
    right = EXAMPLE.read_text() + "sr_domain: ['fcbb::/16', \"fc00::/7\"]\nx-a: &a {port: 1}\n"
    bits = [
        *"[]{}:,-#&*!|>'\"%@`?\n\t =$\r",
        "\u00a0",
        "“",
        "\0",
        "::",
        "${A}",
        "{{",
        "\u2028",
        "*a",
        "---\n",
    ]
    wrong = 0
    for _ in range(1500):
        text = list(right)
        for _ in range(chance.choice([1, 1, 2, 8])):
            at = chance.randrange(len(text))
            text[at : at + chance.randrange(3)] = chance.choice([[], [chance.choice(bits)]])
        file.write_text("".join(text), encoding="utf-8")
        try:
            check_config(file)
        except ConfigError as error:
            wrong += 1
            for line in error.problems:
                assert line.split(":")[0] == "hawk.yaml" and int(line.split(":")[1]) > 0, line
    assert wrong > 500


_DEEP = 20_000


@pytest.mark.parametrize(
    "text",
    [
        "services: " + "[" * _DEEP,
        "services: " + "[" * _DEEP + "]" * _DEEP,
        "services: " + "[{a: " * _DEEP,
        "services:\n" + " [\n" * _DEEP,
        "services:\n" + "  - [\n" * _DEEP,
        "services:\n" + "  - {\n" * _DEEP,
        "a: b\n" * _DEEP + "[" * _DEEP,
        "[" + "[],\n" * _DEEP,
        "- " * _DEEP,
        "? " * _DEEP,
        "".join(f"{' ' * depth}a:\n" for depth in range(3000)),
    ],
)
def test_what_is_nested_20000_deep_is_refused_at_once(text: str) -> None:
    """The scanner's time for each token grows with the depth: in one of these once 14.8 s."""
    begun = time.process_time()
    with pytest.raises(YamlError):
        read_yaml(text)
    assert time.process_time() - begun < 1.0
