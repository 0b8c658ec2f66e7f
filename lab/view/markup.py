"""HTML and SVG as text: `tag("td", 5, class_="number")` is `<td class="number">5</td>`."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

_EMPTY = {"input", "link", "meta"}


class Markup(str):
    """Text that is already markup; other text is escaped."""

    __slots__ = ()


Content = object


def markup(*content: Content) -> Markup:
    """Joins all parts; lists are flattened, None is omitted."""
    return Markup("".join(_pieces(content)))


def _pieces(content: Iterable[Content]) -> Iterable[str]:
    for one in content:
        if isinstance(one, Markup):
            yield one
        elif isinstance(one, list | tuple):
            yield from _pieces(one)
        elif one is not None:
            yield escape(str(one))


def tag(name: str, /, *content: Content, **attributes: object) -> Markup:
    """An element. `class_` is class and `aria_label` aria-label; None and False omit an attribute."""
    text = "".join(
        f" {_name(key)}" if value is True else f' {_name(key)}="{escape(_value(value))}"'
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    return Markup(f"<{name}{text}>" if name in _EMPTY else f"<{name}{text}>{markup(*content)}</{name}>")


def _name(key: str) -> str:
    return key.rstrip("_").replace("_", "-")


def _value(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
