"""Explains why a text is not YAML, with the position of the mistake.

A parser reports the token where it stopped, often a line late and in terms of its grammar. This module
examines the text around that token. No I/O.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv6Address
from itertools import takewhile

import yaml

Finding = tuple[int, str]
"""A line, counted from 1, and a sentence."""

MAX_DEPTH = 50
"""Limit of the nesting of lists and mappings."""

_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
_QUOTES = "“”„‟«»‹›‘’‚‛"
_EXPANSION = re.compile(r"\$\{\w+|^\$\w+$|\{\{|\{%")
_KEY = re.compile(r"^( *(?:- +)*)[\"']?([A-Za-z_][\w.-]*)[\"']?\s*:(?:\s|$)")
_KEY_AND_NO_SPACE = re.compile(r"^ *(?:- +)*([A-Za-z_][\w-]*):([^\s:].*)$")
_WORD = re.compile(r"^ *(?:- +)*([A-Za-z_][\w-]*)(?:\s.*)?$")
_DASH_AND_NO_SPACE = re.compile(r"^ *-[\w\"'\[{]")
_ASSIGNMENT = re.compile(r"^\s*(?:- +)*([\w.-]+)\s*=\s*(\S.*)$")
_SECTION = re.compile(r"^\[\[?[\w.\"' -]+\]\]?$")
_BEGINS_WITH_COLON = re.compile(r"[\[{,]\s*::|\s::[\da-fA-F:.]*\s*[,\]}]")
_ENDS_WITH_COLONS = re.compile(r"(?:^|[\s\[,{])[\da-fA-F:]*::\s*(?:[,\]}#]|$)")
_BRACKETED_PORT = re.compile(r"\[([\da-fA-F:]+)\](:\d+)")


def odd_character(text: str) -> str | None:
    """A sentence if the text has a character that looks like a space or a plain quote."""
    if text.isascii():
        return None
    for character in text:
        kind = unicodedata.category(character) if not character.isprintable() else ""
        code = f"U+{ord(character):04X}"
        if kind == "Cs":
            return f"has half a character ({code}) in it"
        if kind in ("Zs", "Cf"):
            return f"has a {unicodedata.name(character).lower()} ({code}) in it, use plain spaces only"
    for character in (text.strip()[:1], text.strip()[-1:]):
        if character and character in _QUOTES:
            return f'{text.strip()} has a typographic quote, use a plain one (")'
    return None


def unexpanded(text: str) -> str | None:
    """A sentence if the text has a shell variable or a template field."""
    if ("$" in text or "{" in text) and (found := _EXPANSION.search(text)):
        what = "variables" if found[0].startswith("$") else "templates"
        return f"{text.strip()}: {what} are not expanded in the file"
    return None


def space_missing(text: str) -> str | None:
    """A sentence if the text lacks only a space to be a key with a value, or an entry of a list."""
    if _DASH_AND_NO_SPACE.match(text):
        return "a space is missing after -"
    found = _KEY_AND_NO_SPACE.match(text)
    if found and not found[2].startswith("//") and not _is_address(text.strip().lstrip("- ")):
        return f"a space is missing after {found[1]}:"
    return None


def other_language(text: str) -> Finding | None:
    """A sentence if the text is in another language than YAML."""
    lines = _BREAK.split(text)
    rows = [row for row, line in enumerate(lines) if line.strip() and line.strip()[0] not in "#;"]
    if not rows:
        return None
    first = lines[rows[0]].strip()
    assigned = any(_ASSIGNMENT.match(line) for line in lines)
    if assigned and (_SECTION.match(first) or _ASSIGNMENT.match(lines[rows[0]])):
        return rows[0] + 1, "looks like TOML, YAML is needed"
    if re.match(r"<[?!\w]", first):
        return rows[0] + 1, "looks like XML, YAML is needed"
    return None


def not_utf8(content: bytes) -> str:
    """A sentence for bytes that are not UTF-8."""
    halves = content[0::2], content[1::2]
    zeros = [half.count(0) for half in halves]
    if content[:2] in (b"\xff\xfe", b"\xfe\xff") or (max(zeros) * 2 > len(halves[0]) and 0 in zeros):
        return "is not text in UTF-8: it looks like UTF-16, save it as UTF-8"
    if re.search(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]", content):
        return "is not a text file"
    return "is not text in UTF-8: it looks like Latin-1, save it as UTF-8"


def forbidden_character(text: str) -> Finding | None:
    """The first character that YAML doesn't allow."""
    found = yaml.reader.Reader.NON_PRINTABLE.search(text)
    if found is None:
        return None
    line = text.count("\n", 0, found.start()) + 1
    if found[0] == "\0" and "UTF-16" in (other := not_utf8(text.encode())):
        return line, other
    return line, f"has the character U+{ord(found[0]):04X}, which YAML forbids"


def diagnose(text: str, error: yaml.MarkedYAMLError) -> Finding:
    """The line to correct, and the correction, for a text that the parser refused with this error."""
    spot = _Spot.of(text, error)
    for look in _LOOKS:
        found = look(spot)
        if found is not None:
            return found
    where = f" (column {spot.column + 1})" if error.problem_mark else ""
    return spot.row + 1, f"is not valid YAML: {spot.problem}{where}"


@dataclass(frozen=True)
class _Spot:
    """Where the parser stopped, in rows and columns from 0, and the start of what it was reading."""

    text: str
    lines: list[str]
    row: int
    column: int
    problem: str
    context: str
    begin: tuple[int, int] | None

    @classmethod
    def of(cls, text: str, error: yaml.MarkedYAMLError) -> _Spot:
        mark, start = error.problem_mark or error.context_mark, error.context_mark
        return cls(
            text,
            _BREAK.split(text),
            mark.line if mark else 0,
            mark.column if mark else 0,
            error.problem or "",
            error.context or "",
            (start.line, start.column) if start else None,
        )

    def line(self, row: int) -> str:
        """A row without its comment."""
        line = self.lines[row] if 0 <= row < len(self.lines) else ""
        return re.split(r"(?:^|\s)#", line)[0].rstrip()

    @property
    def rest(self) -> str:
        """The text from this position on."""
        return self.line(self.row)[self.column :]

    def above(self) -> Iterator[int]:
        """The previous rows with more than a comment, the nearest first."""
        rows = range(min(self.row, len(self.lines)))
        return (row for row in reversed(rows) if self.line(row).strip())

    def near(self) -> list[int]:
        """The row, and the one above it: parsers often notice a mistake a line late."""
        return [self.row, *list(self.above())[:1]]

    def token_before(self) -> yaml.Token | None:
        last = None
        with suppress(yaml.YAMLError):
            for token in takewhile(self._is_before, yaml.scan(self.text, _LOADER)):
                last = token
        return last

    def _is_before(self, token: yaml.Token) -> bool:
        return (token.start_mark.line, token.start_mark.column) < (self.row, self.column)

    def never_closed(self) -> list[tuple[int, int]]:
        """The positions of brackets that are never closed."""
        opened: list[tuple[int, int]] = []
        try:
            for token in yaml.scan(self.text, _LOADER):
                if isinstance(token, (yaml.FlowSequenceStartToken, yaml.FlowMappingStartToken)):
                    opened.append((token.start_mark.line, token.start_mark.column))
                    if len(opened) > MAX_DEPTH:
                        # The scanner needs more time per token with growing depth.
                        break
                elif isinstance(token, (yaml.FlowSequenceEndToken, yaml.FlowMappingEndToken)) and opened:
                    opened.pop()
        except yaml.YAMLError:
            pass
        return opened


_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _is_address(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


def _odd_characters(spot: _Spot) -> Finding | None:
    for row in spot.near():
        if found := odd_character(spot.line(row)):
            return row + 1, found
    return None


def _language(spot: _Spot) -> Finding | None:
    return other_language(spot.text)


def _tab(spot: _Spot) -> Finding | None:
    line = spot.lines[spot.row] if spot.row < len(spot.lines) else ""
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return spot.row + 1, "indented with a tab, YAML allows spaces only"
    if spot.rest.startswith("\t"):
        return spot.row + 1, "has a tab, YAML allows spaces only"
    return None


def _expansion(spot: _Spot) -> Finding | None:
    line = spot.line(spot.row)
    if found := _EXPANSION.search(line):
        word = re.match(r"\$\{?\w*\}?|\{[{%].*?[}%]\}|.*", line[found.start() :])
        return spot.row + 1, unexpanded(word[0] if word else line) or ""
    return None


def _documents(spot: _Spot) -> Finding | None:
    if "single document" in spot.context or spot.problem == "did not find expected <document start>":
        return spot.row + 1, "begins a second YAML document, only one can be read"
    return None


def _alias(spot: _Spot) -> Finding | None:
    name = re.match(r"[*&]?([\w-]*)", spot.rest)
    word = name[1] if name else ""
    if "undefined alias" in spot.problem:
        return spot.row + 1, f"*{word} is used, but &{word} is not defined before it"
    if "second occurrence" in spot.problem and spot.begin:
        return spot.row + 1, f"&{word} is given twice, first on line {spot.begin[0] + 1}"
    if spot.context.endswith("an alias"):
        return spot.row + 1, "* starts a YAML alias; wildcards are not supported"
    if spot.context.endswith("an anchor"):
        return spot.row + 1, "a value that begins with & must be in quotes"
    return None


def _address(spot: _Spot) -> Finding | None:
    line = spot.line(spot.row)
    if found := _BRACKETED_PORT.search(line):
        return spot.row + 1, f"write {found[1]} without brackets, and {found[2][1:]} under port"
    if "node content" in spot.problem and _BEGINS_WITH_COLON.search(line):
        return spot.row + 1, "an address that begins with : must be in quotes"
    if _ENDS_WITH_COLONS.search(line):
        return spot.row + 1, "an address that ends in :: must be in quotes"
    return None


def _forbidden_start(spot: _Spot) -> Finding | None:
    if "cannot start any token" in spot.problem and spot.rest:
        return spot.row + 1, f"a value that begins with {spot.rest[0]} must be in quotes"
    return None


def _quotes(spot: _Spot) -> Finding | None:
    if "unexpected end of stream" in spot.problem and spot.begin:
        row, column = spot.begin
        return row + 1, f"{spot.lines[row][column]} is never closed"
    if "expected ':'" in spot.problem and spot.begin:
        row, column = spot.begin
        quote, behind = spot.lines[row][column], spot.lines[row][column + 1 :]
        if quote in ("'", '"') and quote not in behind:
            return row + 1, f"{quote} is never closed"
    if "escape" in spot.problem:
        return spot.row + 1, "a backslash in double quotes starts an escape, use single quotes"
    before = spot.token_before() if "expected key" in spot.problem else None
    if isinstance(before, yaml.ScalarToken) and before.style in ("'", '"'):
        if before.start_mark.line < before.end_mark.line:
            return before.start_mark.line + 1, f"{before.style} is never closed"
        return spot.row + 1, f"{spot.rest} follows the closing {before.style}"
    if isinstance(before, (yaml.FlowSequenceEndToken, yaml.FlowMappingEndToken)) and spot.rest:
        bracket = "]" if isinstance(before, yaml.FlowSequenceEndToken) else "}"
        if before.end_mark.line == spot.row and spot.rest[0] not in ("]", "}"):
            return spot.row + 1, f"{spot.rest} follows the closing {bracket}"
    return None


def _brackets(spot: _Spot) -> Finding | None:
    if "parsing a flow" not in spot.context or spot.begin is None:
        return None
    row, column = spot.begin
    if spot.rest[:1] in ("]", "}") and not spot.problem.endswith("content"):
        return spot.row + 1, f"{spot.lines[row][column]} is closed with {spot.rest[0]}"
    opened = spot.never_closed()
    if spot.begin in opened or (opened and not spot.rest):
        row, column = spot.begin if spot.begin in opened else opened[-1]
        return row + 1, f"{spot.lines[row][column]} is never closed"
    if spot.problem.endswith("content") and spot.rest[:1] in (",", "}"):
        return spot.row + 1, f"has nothing in front of {spot.rest[0]}"
    before = re.search(r"(\S+)\s*$", spot.line(spot.row)[: spot.column])
    word = before[1] if spot.rest.startswith(":") and before else re.split(r"[\s:,]", spot.rest)[0]
    return spot.row + 1, f"a comma is missing before {word}"


def _colon(spot: _Spot) -> Finding | None:
    rows = list(spot.above())[:1]
    if "expected ':'" in spot.problem and spot.begin:
        rows = [spot.begin[0]]
    elif "mapping values" not in spot.problem:
        rows = [spot.row]
    for row in rows:
        if found := space_missing(spot.line(row)):
            return row + 1, found
    for row in rows if "mapping values" in spot.problem or "':'" in spot.problem else ():
        line = spot.line(row)
        word = _WORD.match(line)
        if word and not _KEY.match(line) and ": " not in line and not line.endswith(":"):
            equals = _ASSIGNMENT.match(line)
            return row + 1, (
                f"write {equals[1]}: {equals[2]} and not {equals[1]} = {equals[2]}"
                if equals
                else f"{word[1]} has no colon"
            )
    if "expected ':'" in spot.problem and spot.begin:
        text = spot.line(spot.begin[0])[spot.begin[1] :]
        return spot.begin[0] + 1, f"{text} is read as a key, but has no colon"
    key = _KEY.match(spot.line(spot.row))
    if "mapping values" in spot.problem and key and key.end() <= spot.column:
        return spot.row + 1, (
            "has two colons: put the value in quotes, or the second key on a line of its own"
        )
    if "block sequence entries" in spot.problem and key:
        return spot.row + 1, "a list begins on a line of its own: each entry starts with `- `"
    if spot.rest[:1] in ("]", "}"):
        return spot.row + 1, f"{spot.rest[0]} closes nothing"
    if spot.rest.startswith(":") and not spot.line(spot.row)[: spot.column].strip():
        return spot.row + 1, "has a colon without a key before it"
    return None


def _indentation(spot: _Spot) -> Finding | None:
    line = spot.line(spot.row)
    indent = len(line) - len(line.lstrip())
    is_entry = line.lstrip().startswith("- ")
    columns: list[int] = []  # indentation of the open blocks, the innermost first
    outer = max(map(len, spot.lines))
    for row in spot.above():
        above = spot.line(row)
        key, entry = _KEY.match(above), re.match(r" *(?=- )", above)
        found = entry.end() if is_entry and entry else len(key[1]) if key and not is_entry else outer
        if found < outer:
            columns.append(found)
        outer = min(outer, entry.end() if entry else found)
    if not columns or indent in columns:
        return None
    nearest = min(columns, key=lambda column: abs(column - indent))
    what = "the entries" if is_entry else "the keys"
    return spot.row + 1, f"indented by {indent}, {what} above it by {nearest}"


_LOOKS: tuple[Callable[[_Spot], Finding | None], ...] = (
    _language,
    _odd_characters,
    _tab,
    _expansion,
    _documents,
    _alias,
    _address,
    _forbidden_start,
    _quotes,
    _brackets,
    _colon,
    _indentation,
)
