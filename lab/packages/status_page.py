"""docs/status.md: the JSON of `status`, `drops` and `paths`, generated from hawkwing/status_model.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import UnionType
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

from hawkwing.status_model import Drops, Paths
from hawkwing.status_schema import AGENTS, meaning, models

FILE = Path(__file__).resolve().parents[2] / "docs" / "status.md"
_WORDS = {str: "text", int: "whole number", float: "number", bool: "`true` or `false`", type(None): "null"}
_HEAD = """\
<!-- Made by `python -m lab.packages.texts`. -->
# Status as JSON

`hawkwing status --json` prints a list with one object for each agent of the network namespace: a
[client](#client) or a [server](#server). [status.schema.json](status.schema.json) is its JSON schema
(draft 7); the Debian package installs it as `/usr/share/hawkwing/status.schema.json`. The keys below do not
change within a major version. New keys may be added: ignore unknown keys. Texts that are sentences
(`problem`, `error`, `warnings`, `trusted`, `reason`, `why`, `state` of a candidate, `notes`) may change.

```
sudo hawkwing status --json
sudo hawkwing drops --json
sudo hawkwing paths --json --measure=5 wb.hawk.net 80
```

`hawkwing drops --json` prints a list of [drops](#drops); `hawkwing drops --follow --json` prints one such
object per line. `hawkwing paths --json` prints a list of [paths](#paths), one for each client.
"""


def text() -> str:
    """The whole file."""
    return _HEAD + "".join(_section(model) for model in models(*AGENTS, Drops, Paths))


def _section(model: type) -> str:
    hints = get_type_hints(model, include_extras=True)
    head = f"\n## {model.__name__}\n\n{(model.__doc__ or '').strip()}\n\n"
    return f"{head}| key | type | meaning |\n|---|---|---|\n{''.join(_rows(hints))}"


def _rows(hints: dict[str, Any]) -> Iterator[str]:
    for name, hint in hints.items():
        kind, text = meaning(hint)
        optional = " Optional." if get_origin(hint) is NotRequired else ""
        yield f"| `{name}` | {_words(kind)} | {text}{optional} |\n"


def _words(kind: Any) -> str:
    origin, inside = get_origin(kind), get_args(kind)
    if is_typeddict(kind):
        return f"[{kind.__name__}](#{kind.__name__.lower()})"
    if origin is Annotated:
        return f"{_words(inside[0])} {inside[-1]}"
    if origin in (Union, UnionType):
        return " or ".join(_words(one) for one in inside)
    if origin is Literal:
        return ", ".join(f"`{one}`" for one in inside)
    if origin is list:
        return f"list of {_words(inside[0])}"
    if origin is dict:
        return f"object of {_words(inside[1])}"
    return _WORDS[kind]
