"""What is said of a few lines that are not YAML: the line to correct, and what to correct there."""

from __future__ import annotations

import pytest
import yaml

from hawkwing.yaml_lines import YamlError, read_yaml
from hawkwing.yaml_mistakes import (
    diagnose,
    not_utf8,
    odd_character,
    other_language,
    space_missing,
    unexpanded,
)

SECOND_DOCUMENT = "begins a second YAML document, only one can be read"
TWO_COLONS = "has two colons: put the value in quotes, or the second key on a line of its own"
BEGINS_WITH_COLON = "an address that begins with : must be in quotes"
ENDS_WITH_COLONS = "an address that ends in :: must be in quotes"


@pytest.mark.parametrize(
    ("text", "line", "sentence"),
    [
        # quotes, anchors, escapes
        ("x: 1\na: &", 2, "a value that begins with & must be in quotes"),
        ("x: 1\na: '*'\nb: *", 3, "* starts a YAML alias; wildcards are not supported"),
        ('x: 1\na: "x\\qy"', 2, "a backslash in double quotes starts an escape, use single quotes"),
        ("x: 1\na: 'b\ny: 2\nc: 'd'", 2, "' is never closed"),
        ('x: 1\na: "b\ny: 2\nc: "d"', 2, '" is never closed'),
        ("x: 1\n'a' b: c", 2, "b: c follows the closing '"),
        ('x: 1\na: "b" c', 2, 'c follows the closing "'),
        ("x: 1\na: `b`", 2, "a value that begins with ` must be in quotes"),
        # brackets
        ("a: 1\n]\n", 2, "] closes nothing"),
        ("a: b\n} # more\n", 2, "} closes nothing"),
        ("a: b\n}]\n", 2, "} closes nothing"),
        ("x: 1\na: [b]]", 2, "] closes nothing"),
        ("x: 1\n[a] b: c", 2, "b: c follows the closing ]"),
        ("x: 1\na: {b: c} d", 2, "d follows the closing }"),
        ("[a, {b: c]", 1, "{ is closed with ]"),
        ("x: 1\na: [b, c}, d: e", 2, "[ is closed with }"),
        ("x: 1\na: [b,\n  c\nd: [e", 2, "[ is never closed"),
        ("x: 1\na: [b,\n  c]\nd: [e", 4, "[ is never closed"),
        ("[,a]", 1, "has nothing in front of ,"),
        ("x: 1\na: {b: [c, }", 2, "has nothing in front of }"),
        ("[a: b: c]", 1, "a comma is missing before b"),
        ('["a" b]', 1, "a comma is missing before b]"),
        ('["a" b, c]', 1, "a comma is missing before b"),
        ('x: 1\na: ["a" "b", c]', 2, 'a comma is missing before "b"'),
        # colons
        (": a", 1, "has a colon without a key before it"),
        ("x:\n  : a", 2, "has a colon without a key before it"),
        ("x: 1\na: b: c", 2, TWO_COLONS),
        ("x: 1\na:\tb: c", 2, TWO_COLONS),
        ("x: 1\na: - b", 2, "a list begins on a line of its own: each entry starts with `- `"),
        ("x: 1\na # see: below\n  b: 1", 2, "a has no colon"),
        ("a: 1\nb = 2\nc: 3", 2, "write b: 2 and not b = 2"),
        ("a: 1\nbc d\ne: 3", 2, "bc has no colon"),
        ("a: 1\nbc:d\ne: 3", 2, "a space is missing after bc:"),
        ("a: 1\n'bc'\nd: 3", 2, "'bc' is read as a key, but has no colon"),
        ('a: 1\n"b\nc": 2', 2, '" is never closed'),
        ("a: 1\n'b\nc': 2", 2, "' is never closed"),
        ('x: 1\n""', 2, '"" is read as a key, but has no colon'),
        ('x: 1\n""é', 2, '""é is read as a key, but has no colon'),
        ("x: 1\nXa\ny: 2", 2, "Xa has no colon"),
        ("x: 1\n- a:b", 2, "a space is missing after a:"),
        ("-\n-key: ", 2, "a space is missing after -"),
        ("key: :", 1, TWO_COLONS),
        # A key may have a space in it.
        ("a b: c\nd: e: f", 2, TWO_COLONS),
        ("a b:\nc: d: e", 2, TWO_COLONS),
        ("a:\n  b: 1\n  [c]\nd: 3", 3, "[c] is read as a key, but has no colon"),
        # addresses
        ("x: 1\na: [b, ::1, c]", 2, BEGINS_WITH_COLON),
        ("x: 1\na: {b: ::1}", 2, BEGINS_WITH_COLON),
        ("x: 1\na: {b: fcbb::}", 2, ENDS_WITH_COLONS),
        ("x: 1\na: fcbb:: # the whole", 2, ENDS_WITH_COLONS),
        ("x: 1\na: [fcbb::1]:80", 2, "write fcbb::1 without brackets, and 80 under port"),
        # what is not expanded
        ("x: 1\na: ]${B}", 2, "${B}: variables are not expanded in the file"),
        ("x: 1\na: }{% if %}", 2, "{% if %}: templates are not expanded in the file"),
        ("x: 1\na: ]{{ b }} c", 2, "{{ b }}: templates are not expanded in the file"),
        # documents
        ("a: 1\n--- \nb: 2", 2, SECOND_DOCUMENT),
        ("a: 1\n...\nb: 2", 3, SECOND_DOCUMENT),
        ("{a: b}\nc: d", 2, SECOND_DOCUMENT),
        # characters and spaces
        ("x: 1\na: [b\u200b c: d", 2, "has a zero width space (U+200B) in it, use plain spaces only"),
        ("x: a\u00a0b\ny: 1\nz: [", 3, "[ is never closed"),
        ("{\n“\n- a", 1, "{ is never closed"),
        ("[\t", 1, "[ is never closed"),
        ("x: 1\na: >\n\tb", 3, "indented with a tab, YAML allows spaces only"),
        ("a: 1\n\nb: \a", 3, "has the character U+0007, which YAML forbids"),
        ("\nb: \x1b[0m", 2, "has the character U+001B, which YAML forbids"),
        ("a:\n   b: 1\n  c: 2", 3, "indented by 2, the keys above it by 3"),
        ("a:\n  b: 1\n   c: 2", 3, "indented by 3, the keys above it by 2"),
        ("a:\n  b: 1\nc:\n   d: 2\n  e: 3", 5, "indented by 2, the keys above it by 3"),
        ("a:\n  - b: 1\n    c: 2\n   d: 3", 4, "indented by 3, the keys above it by 4"),
        ("a:\n  - 1\n - 2", 3, "indented by 1, the entries above it by 2"),
        (
            "a:\n     b: 1\nx:\n  - 1\n  -  c: 2\n     d: 3\n   e: 3",
            7,
            "indented by 3, the keys above it by 5",
        ),
        # the parser's own words, where there are no better ones
        ("x: 1\ny: 2\na: ,b", 3, "is not valid YAML: did not find expected node content (column 4)"),
        ("- a\nb: c", 2, "is not valid YAML: did not find expected '-' indicator (column 1)"),
        ("a: 1\n- c", 2, "is not valid YAML: did not find expected key (column 1)"),
    ],
)
def test_the_line_and_the_mistake(text: str, line: int, sentence: str) -> None:
    with pytest.raises(YamlError) as caught:
        read_yaml(text)
    assert (caught.value.line, caught.value.sentence) == (line, sentence)


def test_an_error_without_a_place_is_on_the_first_line() -> None:
    error = yaml.MarkedYAMLError(problem="it is odd")
    assert diagnose("a: b\n", error) == (1, "is not valid YAML: it is odd")
    assert diagnose("]\n", error) == (1, "] closes nothing")


def test_so_deep_and_no_deeper() -> None:
    read_yaml("[" * 50 + "]" * 50)
    with pytest.raises(YamlError, match="is nested more than 50 deep"):
        read_yaml("[" * 51 + "]" * 51)


@pytest.mark.parametrize("text", ["wb.hawk.net", "bücher.example", "Xä", "日本", "é “ é"])
def test_letters_of_any_language_are_not_odd(text: str) -> None:
    assert odd_character(text) is None


@pytest.mark.parametrize("text", ["“wb", "wb”", " “wb” ", "„wb“", "‘wb"])
def test_quotes_of_a_word_processor_are_odd_at_an_end(text: str) -> None:
    assert odd_character(text) == f'{text.strip()} has a typographic quote, use a plain one (")'


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("${SID}", "variables"),
        (" $SID", None),
        ("$SID", "variables"),
        ("{{ sid }}", "templates"),
        ("{%if%}", "templates"),
    ],
)
def test_what_other_programs_would_replace(text: str, what: str | None) -> None:
    assert unexpanded(text) == (f"{text}: {what} are not expanded in the file" if what else None)


@pytest.mark.parametrize("text", ["a $ b", "costs 5$", "{", "a{b}", "plain"])
def test_what_no_program_would_replace(text: str) -> None:
    assert unexpanded(text) is None


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("port:80", "a space is missing after port:"),
        ("  - port:80", "a space is missing after port:"),
        ("-fcbb::1", "a space is missing after -"),
        ("-[a]", "a space is missing after -"),
        ("http://a.example", None),
        ("fc00:1:2:3:4:5:6:7", None),
        ("- fc00:1:2:3:4:5:6:7", None),
        ("- port: 80", None),
        ("--", None),
    ],
)
def test_where_a_space_is_missing(text: str, sentence: str | None) -> None:
    assert space_missing(text) == sentence


@pytest.mark.parametrize(
    ("text", "line", "sentence"),
    [
        ("; hawkwing\n\n[hawkeye]\nenabled = true", 3, "looks like TOML, YAML is needed"),
        ("Xyz = 1\nb = 2", 1, "looks like TOML, YAML is needed"),
        ("[[services]]\nname = 'web'", 1, "looks like TOML, YAML is needed"),
        ("# a\n<?xml version='1.0'?>", 2, "looks like XML, YAML is needed"),
        ("<!DOCTYPE html>", 1, "looks like XML, YAML is needed"),
    ],
)
def test_other_languages_are_named(text: str, line: int, sentence: str) -> None:
    assert other_language(text) == (line, sentence)


@pytest.mark.parametrize(
    "text", ["", "# only\n; remarks", "services:\n  web: a = b", "[a]", "<<: x", "[a]: b"]
)
def test_yaml_is_not_taken_for_another_language(text: str) -> None:
    assert other_language(text) is None


@pytest.mark.parametrize(
    ("content", "looks_like"),
    [
        ("\ufeff日本日本".encode("utf-16-le"), "UTF-16"),
        ("\ufeff日本日本".encode("utf-16-be"), "UTF-16"),
        ("services".encode("utf-16-be"), "UTF-16"),
        ("aaa日本".encode("utf-16-le"), "UTF-16"),
        ("bücher".encode("latin-1"), "Latin-1"),
    ],
)
def test_which_encoding_it_is_instead(content: bytes, looks_like: str) -> None:
    assert not_utf8(content) == f"is not text in UTF-8: it looks like {looks_like}, save it as UTF-8"


@pytest.mark.parametrize(
    "content", [b"\x7fELF\x02\x01\x01\x00\x00\xff", "aa日本".encode("utf-16-le"), b"a\0b"]
)
def test_few_zeros_are_not_utf16(content: bytes) -> None:
    assert not_utf8(content) == "is not a text file"
