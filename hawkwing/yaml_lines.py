"""Reads YAML into plain values and remembers the line each of them stands on.

Less is taken for a number than YAML 1.1 would have it: `1:20` is text and not 80, because an IPv6 address
may look like that, and `010` is text and not 8. Dates and fractions are text, too.
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
_MERGE, _STR, _NULL = _TAG + "merge", _TAG + "str", _TAG + "null"
_BEGIN = yaml.Mark("", 0, 0, 0, "", 0)
_TAGS = {yaml.ScalarNode: _STR, yaml.SequenceNode: _TAG + "seq", yaml.MappingNode: _TAG + "map"}
_INT = re.compile(r"^[-+]?(?:0|[1-9][0-9]*)$")
_TRUE = ("true", "yes", "on")
_FALSE = ("false", "no", "off")
_MAX_DIGITS = 18
_MAX_REPEATED = 100_000  # values reached through aliases: a few lines of nested aliases can ask for billions

_Keys = dict[str, tuple[yaml.ScalarNode, yaml.Node]]  # what a mapping holds, each with the node of its key


class YamlError(Exception):
    """The text can't be read at all; `line` counts from 1."""

    def __init__(self, line: int, sentence: str) -> None:
        super().__init__(sentence)
        self.line = line
        self.sentence = sentence


class Fault(NamedTuple):
    """Something wrong at one line, with reading gone on after it."""

    line: int
    place: Place
    sentence: str


@dataclass
class Document:
    """Plain values (dict, list, str, int, bool, None), faults met on the way, and where each value stands."""

    root: yaml.Node
    data: Any = None
    faults: list[Fault] = field(default_factory=list)
    unread: set[Place] = field(default_factory=set)  # places whose value has a fault already
    keys: dict[int, _Keys] = field(default_factory=dict)  # of each mapping, by its node's identity

    def line_of(self, place: Place) -> int:
        """The line of a place, or of what it would be in if the file doesn't have it."""
        return self._find(place)[0]

    def holds(self, place: Place) -> bool:
        """Is there something in the file at this place?"""
        return self._find(place)[1] == len(place)

    def _find(self, place: Place) -> tuple[int, int]:
        """The line of as much of the place as there is, and how many of its parts that are."""
        # Asked for faults only: to write down each line while reading would take longer than reading.
        node, line = self.root, _line(self.root)
        for depth, part in enumerate(place):
            below = self._child(node, part)
            if below is None:
                return line, depth
            line, node = below
        return line, len(place)

    def _child(self, node: yaml.Node, part: str | int) -> tuple[int, yaml.Node] | None:
        if isinstance(node, yaml.MappingNode) and part in self.keys[id(node)]:
            key, child = self.keys[id(node)][str(part)]
            return _line(key), child
        if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            return _line(node.value[part]), node.value[part]
        return None


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """libyaml's where PyYAML was built with it: ten times as fast."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012
    depth = 0

    # Called for each node. The base class looks for resolvers by path, too: there are none.
    def descend_resolver(self, parent: yaml.Node | None, _index: object) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH and parent is not None:
            raise YamlError(_line(parent), f"is nested more than {MAX_DEPTH} deep")

    def ascend_resolver(self) -> None:
        self.depth -= 1

    def resolve(self, kind: type[yaml.Node], value: str, implicit: tuple[bool, bool]) -> str:
        if kind is yaml.ScalarNode and implicit[0]:
            for tag, pattern in self.yaml_implicit_resolvers.get(value[:1], ()):
                if pattern.match(value):
                    return tag
        return _TAGS[kind]


def _resolve(kind: str, pattern: str, first: list[str]) -> None:
    _Loader.add_implicit_resolver(_TAG + kind, re.compile(pattern), first)


_resolve("bool", rf"^(?i:{'|'.join(_TRUE + _FALSE)})$", [*"yYnNtTfFoO"])
_resolve("int", _INT.pattern, [*"-+0123456789"])
_resolve("merge", r"^<<$", ["<"])
_resolve("null", r"^(?:~|null|Null|NULL|)$", [*"~nN", ""])


def read_yaml_file(path: Path) -> Document:
    """Reads a file with one YAML document; raises ConfigError with the one reason why that can't be done."""
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
    """Reads one YAML document, an empty one as None; raises YamlError where its syntax is wrong."""
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
        node = yaml.ScalarNode(_NULL, "", _BEGIN, _BEGIN)
    if isinstance(node, yaml.ScalarNode) and (found := other_language(text)):
        raise YamlError(*found)
    return _Walk(node).document()


class _Walk:
    def __init__(self, root: yaml.Node) -> None:
        self.result = Document(root)
        self.place: list[str | int] = []  # where the walk is
        self.open: list[int] = []  # identities of the nodes being walked, to notice one inside itself
        self.seen: set[int] = set()
        self.repeated = 0
        self.good_keys: set[str] = set()  # most keys come again and again

    def document(self) -> Document:
        self.result.data = self.value(self.result.root)
        return self.result

    def value(self, node: yaml.Node) -> Any:
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node)
        self.guard(node)
        self.open.append(id(node))
        value: Any
        if isinstance(node, yaml.MappingNode):
            self.tag_is(node, "map")
            children = self.mapping(node)
            value = {}
            self.place.append("")
            for key, (_, child) in children.items():
                self.place[-1] = key
                value[key] = self.value(child)
        else:
            self.tag_is(node, "seq")
            value = []
            self.place.append(0)
            for index, child in enumerate(node.value):
                self.place[-1] = index
                value.append(self.value(child))
        self.place.pop()
        self.open.pop()
        return value

    def guard(self, node: yaml.Node) -> None:
        identity = id(node)
        again = identity in self.seen
        if again and identity in self.open:
            raise YamlError(_line(node), "has an alias of itself in it")
        if len(self.open) >= MAX_DEPTH:
            raise YamlError(_line(node), f"is nested more than {MAX_DEPTH} deep")
        if not again:
            self.seen.add(identity)
            return
        self.repeated += 1 + len(node.value)
        if self.repeated > _MAX_REPEATED:
            raise YamlError(_line(node), "repeats too much through aliases")

    def mapping(self, node: yaml.MappingNode) -> _Keys:
        """The keys of a mapping with its merge keys (<<) resolved: own keys win, then the first merged."""
        known = self.result.keys
        if id(node) in known:
            return known[id(node)]
        known[id(node)] = {}  # what a mapping that merges itself gets to see
        own: _Keys = {}
        merged: _Keys = {}
        for pair in node.value:
            key_node, child = pair
            if not isinstance(key_node, yaml.ScalarNode):
                self.bad_key(node, key_node)
                continue
            key = key_node.value
            if key not in self.good_keys and self.is_good(key_node, key):
                self.good_keys.add(key)
            if key_node.tag == _MERGE:
                self.merge(child, merged)
            elif key in own:
                first, line = _line(own[key][0]), _line(key_node)
                self.fault(line, f"is given twice, on line {first} and on line {line}", key)
            else:
                own[key] = pair
        for key, pair in merged.items():
            own.setdefault(key, pair)
        known[id(node)] = own
        return own

    def bad_key(self, node: yaml.MappingNode, key: yaml.Node) -> None:
        begin, inner = node.start_mark, key.start_mark
        if isinstance(key, yaml.MappingNode) and (begin.line, begin.column + 1) == (inner.line, inner.column):
            self.fault(_line(key), "has {{ }} in it: templates are not expanded in the file")
            self.result.unread.add(tuple(self.place))
        else:
            self.fault(_line(key), "has a key that is not a single word or text")

    def merge(self, child: yaml.Node, merged: _Keys) -> None:
        for source in child.value if isinstance(child, yaml.SequenceNode) else [child]:
            if not isinstance(source, yaml.MappingNode):
                self.fault(_line(source), "can merge mappings only", "<<")
            else:
                self.guard(source)
                self.open.append(id(source))
                for key, pair in self.mapping(source).items():
                    merged.setdefault(key, pair)
                self.open.pop()

    def scalar(self, node: yaml.ScalarNode) -> Any:
        text: str = node.value
        self.is_good(node)
        if node.tag == _STR:
            return text
        match node.tag.removeprefix(_TAG):
            case "null":
                return None
            case "bool" if text.lower() in _TRUE + _FALSE:
                return text.lower() in _TRUE
            case "int" if _INT.match(text) and len(text) <= _MAX_DIGITS:
                return int(text)
            case "merge" | "int":
                return text
            case _:
                self.tag_is(node, "str")
        self.result.unread.add(tuple(self.place))
        return None

    def is_good(self, node: yaml.ScalarNode, *below: str) -> bool:
        """Notes a fault where a text has characters in it that were hardly meant; x-... keys may have any."""
        text: str = node.value
        if text.isascii() and "$" not in text and "{" not in text:
            return True
        if any(str(part).startswith("x-") for part in self.place):
            return False
        found = odd_character(text) or unexpanded(text)
        if found:
            self.fault(_line(node), found, *below)
            self.result.unread.add((*self.place, *below))
        return not found

    def tag_is(self, node: yaml.Node, expected: str) -> None:
        if node.tag != _TAG + expected:
            shown = node.tag.replace(_TAG, "!!")
            shown = shown if shown.isprintable() else ascii(shown)
            self.fault(_line(node), f"has the YAML tag {shown}, which is not supported")

    def fault(self, line: int, sentence: str, *below: str) -> None:
        self.result.faults.append(Fault(line, (*self.place, *below), sentence))


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def problem_lines(
    path: Path, document: Document, faults: list[Fault], variables: Mapping[Place, str], kind: str = ""
) -> list[str]:
    """Faults as `FILE:LINE: place: sentence`, or with the variable's name in front at places set by one."""
    problems = []
    for fault in sorted(dict.fromkeys(faults), key=lambda fault: fault.line):
        known = fault.place
        while known and known not in variables and not document.holds(known):
            known = known[:-1]
        where = variables.get(known) or f"{path}:{fault.line}"
        problems.append(f"{where}: {kind}{dotted(fault.place)}{': ' if fault.place else ''}{fault.sentence}")
    return problems


def dotted(place: Place) -> str:
    """A place as people write it: services.web.applications[0].port."""
    text = ""
    for part in place:
        if isinstance(part, int):
            text += f"[{part}]"
        elif re.fullmatch(r"[\w-]+", part):
            text += f".{part}" if text else part
        else:
            text += f"[{part!a}]"
    return text
