"""Reads YAML into plain values, and keeps the line of each value.

Fewer texts are numbers than in YAML 1.1: `1:20` is text and not 80, because an IPv6 address may look like
that, and `010` is text and not 8. Dates and fractions are text, too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from hawkwing.errors import ConfigError
from hawkwing.yaml_mistakes import (
    MAX_DEPTH,
    diagnose,
    forbidden_character,
    not_utf8,
    odd_character,
    other_language,
    unexpanded,
)

MAX_FILE_BYTES = 16 * 2**20

Place = tuple[
    str | int, ...
]  # keys and list indexes from the top, as in ("services", "web", "applications", 0)

_TAG = "tag:yaml.org,2002:"
_PLAIN = ""  # the tag of a scalar without quotes and without its own tag
_STR, _SEQ, _MAP = (_TAG + kind for kind in ("str", "seq", "map"))
_TAGS = {yaml.ScalarNode: _STR, yaml.SequenceNode: _SEQ, yaml.MappingNode: _MAP}
_READ_AS_PLAIN = (_PLAIN, *(_TAG + kind for kind in ("bool", "int", "merge", "null")))
_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("true", "yes", "on"), True),
    **dict.fromkeys(("false", "no", "off"), False),
    **dict.fromkeys(("", "~", "null")),
}
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})")
_TOO_DEEP = f"is nested more than {MAX_DEPTH} deep"
_MAX_REPEATED = 100_000  # limit of values from aliases: a few lines of nested aliases can expand to billions

_Keys = dict[str, tuple[yaml.ScalarNode, yaml.Node]]  # the values of a mapping, each with the node of its key


class YamlError(Exception):
    """The text can't be parsed; `line` counts from 1."""

    def __init__(self, line: int, sentence: str) -> None:
        super().__init__(sentence)
        self.line = line
        self.sentence = sentence


class Fault(NamedTuple):
    """An error at one line, after which parsing continues."""

    line: int
    place: Place
    sentence: str


@dataclass
class Document:
    """Plain values (dict, list, str, int, bool, None), the errors found, and the line of each value."""

    root: yaml.Node
    data: Any = None
    faults: list[Fault] = field(default_factory=list)
    unread: set[Place] = field(default_factory=set)  # places whose value already has an error
    keys: dict[int, _Keys] = field(default_factory=dict)  # values of each mapping, by its node's identity

    def line_of(self, place: Place) -> int:
        """The line of a place, or, if the file doesn't have it, of the mapping or list that would have it."""
        return self._find(place)[0]

    def holds(self, place: Place) -> bool:
        """Whether the file has a value at this place."""
        return self._find(place)[1] == len(place)

    def _find(self, place: Place) -> tuple[int, int]:
        """The line of the existing part of a place, and the number of existing parts."""
        # Needed for errors only: storing each line would take longer than parsing.
        node, line = self.root, _line(self.root)
        for depth, part in enumerate(place):
            if isinstance(node, yaml.MappingNode) and part in self.keys[id(node)]:
                key, node = self.keys[id(node)][str(part)]
                line = _line(key)
            elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
                node = node.value[part]
                line = _line(node)
            elif isinstance(node, yaml.MappingNode) and part == 0:
                # One mapping instead of a list with one entry.
                continue
            else:
                return line, depth
        return line, len(place)


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """libyaml's loader if PyYAML has it: ten times as fast. `_Walk` reads plain scalars."""

    depth = nodes = 0

    # Called for each node. The base class searches resolvers by path: there are none.
    def descend_resolver(self, parent: yaml.Node | None, _index: object) -> None:
        self.nodes += 1
        self.depth += 1
        if self.depth > MAX_DEPTH and parent is not None:
            raise YamlError(_line(parent), _TOO_DEEP)

    def ascend_resolver(self) -> None:
        self.depth -= 1

    def resolve(self, kind: type[yaml.Node], _value: str, implicit: tuple[bool, bool]) -> str:
        return _PLAIN if kind is yaml.ScalarNode and implicit[0] else _TAGS[kind]


def read_yaml_file(path: Path) -> Document:
    """Reads a file with one YAML document; raises ConfigError with the reason if it can't."""
    try:
        return read_yaml(_read_text(path))
    except YamlError as error:
        raise ConfigError([f"{path}:{error.line}: {error.sentence}"]) from None


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError([f"{path}: no such file"]) from None
    except IsADirectoryError:
        raise ConfigError([f"{path}: is a directory, a file is needed"]) from None
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ConfigError([f"{path}: can't be read: {reason}"]) from None
    if len(content) > MAX_FILE_BYTES:
        raise ConfigError([f"{path}: is larger than {MAX_FILE_BYTES >> 20} MiB"])
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise YamlError(content.count(b"\n", 0, error.start) + 1, not_utf8(content)) from None


def read_yaml(text: str) -> Document:
    """Reads one YAML document, an empty one as None; raises YamlError on syntax errors."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        raise YamlError(*diagnose(text, error)) from None
    except yaml.YAMLError:
        raise YamlError(*(forbidden_character(text) or (1, "is not valid YAML"))) from None
    finally:
        loader.dispose()
    if node is None:
        begin = yaml.Mark("", 0, 0, 0, "", 0)
        node = yaml.ScalarNode(_PLAIN, "", begin, begin)
    if isinstance(node, yaml.ScalarNode) and (found := other_language(text)):
        raise YamlError(*found)
    return _Walk(node, loader.nodes).result


class _Walk:
    """Converts the nodes of a document to values."""

    def __init__(self, root: yaml.Node, nodes: int) -> None:
        self.result = Document(root)
        self.open: list[int] = []  # identities of the enclosing nodes, to detect a node inside itself
        self.left = nodes + _MAX_REPEATED  # number of values that are still allowed
        self.result.data = self.value(root, ())

    def value(self, node: yaml.Node, place: Place) -> Any:
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node, place)
        self.enter(node)
        value: Any
        if isinstance(node, yaml.MappingNode):
            self.tag_is(node, _MAP, place)
            keys = self.mapping(node, place)
            self.spend(len(keys), node)
            value = {key: self.value(child, (*place, key)) for key, (_, child) in keys.items()}
        else:
            self.tag_is(node, _SEQ, place)
            self.spend(len(node.value), node)
            value = [self.value(child, (*place, index)) for index, child in enumerate(node.value)]
        self.open.pop()
        return value

    def enter(self, node: yaml.Node) -> None:
        if id(node) in self.open:
            raise YamlError(_line(node), "has an alias of itself in it")
        if len(self.open) >= MAX_DEPTH:
            raise YamlError(_line(node), _TOO_DEEP)
        self.open.append(id(node))

    def spend(self, values: int, node: yaml.Node) -> None:
        self.left -= values
        if self.left < 0:
            raise YamlError(_line(node), "repeats too much through aliases")

    def mapping(self, node: yaml.MappingNode, place: Place) -> _Keys:
        """The keys of a mapping with its merge keys (<<) resolved: own keys win, then the first merged."""
        known = self.result.keys
        if id(node) in known:
            return known[id(node)]
        own: _Keys = {}
        merged: _Keys = {}
        for pair in node.value:
            key, child = pair
            if not isinstance(key, yaml.ScalarNode):
                self.bad_key(node, key, place)
                continue
            self.is_good(key, (*place, key.value))
            if key.value == "<<" and key.tag in _READ_AS_PLAIN:
                self.merge(child, merged, (*place, "<<"))
            elif (first := own.setdefault(key.value, pair)) is not pair:
                lines = f"is given twice, on line {_line(first[0])} and on line {_line(key)}"
                self.fault(key, (*place, key.value), lines)
        return known.setdefault(id(node), {**own, **{key: merged[key] for key in merged if key not in own}})

    def merge(self, child: yaml.Node, merged: _Keys, place: Place) -> None:
        for source in child.value if isinstance(child, yaml.SequenceNode) else [child]:
            if isinstance(source, yaml.MappingNode):
                self.enter(source)
                keys = self.mapping(source, place[:-1])
                self.spend(len(keys), source)
                merged.update((key, keys[key]) for key in keys if key not in merged)
                self.open.pop()
            else:
                self.fault(source, place, "can merge mappings only")

    def bad_key(self, node: yaml.MappingNode, key: yaml.Node, place: Place) -> None:
        begin, inner = node.start_mark, key.start_mark
        if isinstance(key, yaml.MappingNode) and (begin.line, begin.column + 1) == (inner.line, inner.column):
            self.fault(key, place, "has {{ }} in it: templates are not expanded in the file")
            self.result.unread.add(place)
        else:
            self.fault(key, place, "has a key that is not a single word or text")

    def scalar(self, node: yaml.ScalarNode, place: Place) -> Any:
        text: str = node.value
        self.is_good(node, place)
        if node.tag not in _READ_AS_PLAIN:
            if node.tag != _STR:
                self.tag_is(node, _STR, place)
                self.result.unread.add(place)
            return text
        return int(text) if _INT.fullmatch(text) else _WORDS.get(text.lower(), text)

    def is_good(self, node: yaml.ScalarNode, place: Place) -> None:
        """Records an error if a text has unlikely characters; x-... keys can have any."""
        text: str = node.value
        if text.isascii() and "$" not in text and "{" not in text:
            return
        if not any(str(part).startswith("x-") for part in place) and (
            found := odd_character(text) or unexpanded(text)
        ):
            self.fault(node, place, found)
            self.result.unread.add(place)

    def tag_is(self, node: yaml.Node, expected: str, place: Place) -> None:
        if node.tag != expected:
            shown = node.tag.replace(_TAG, "!!")
            shown = shown if shown.isprintable() else ascii(shown)
            self.fault(node, place, f"has the YAML tag {shown}, which is not supported")

    def fault(self, node: yaml.Node, place: Place, sentence: str) -> None:
        self.result.faults.append(Fault(_line(node), place, sentence))


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def problem_lines(
    path: Path, document: Document, faults: list[Fault], variables: Mapping[Place, str], kind: str = ""
) -> list[str]:
    """Errors as `FILE:LINE: place: sentence`, or with the name of the environment variable."""
    problems = []
    for fault in sorted(dict.fromkeys(faults), key=lambda fault: fault.line):
        known = fault.place
        while known and known not in variables and not document.holds(known):
            known = known[:-1]
        where = variables.get(known) or f"{path}:{fault.line}"
        problems.append(f"{where}: {kind}{dotted(fault.place)}{': ' if fault.place else ''}{fault.sentence}")
    return problems


def dotted(place: Place) -> str:
    """A place as text: services.web.applications[0].port."""
    text = ""
    for part in place:
        if isinstance(part, int):
            text += f"[{part}]"
        elif re.fullmatch(r"[\w-]+", part):
            text += f".{part}" if text else part
        else:
            text += f"[{part!a}]"
    return text
