"""Elements that several regions of the page use."""

from __future__ import annotations

from collections.abc import Iterable

from lab.view.markup import Markup, tag


def button(
    label: str,
    does: str,
    target: str,
    name: str,
    *,
    pressed: bool | None = None,
    undoes: bool = False,
    more: str = "",
) -> Markup:
    """A button that requests an action from the server; `name` is its label for screen readers.

    `pressed`: its action is in effect; `undoes`: it ends a running action.
    """
    return tag(
        "button",
        label,
        type="button",
        data_do=does,
        data_target=target,
        aria_label=name,
        title=f"{name}{more}",
        aria_pressed=None if pressed is None else str(pressed).lower(),
        class_="undoes" if undoes else does,
    )


def head(labels: Iterable[str]) -> Markup:
    """A table's head; the column of buttons has its label for screen readers only."""
    cells = [tag("th", one or tag("span", "change", class_="hidden"), scope="col") for one in labels]
    return tag("thead", tag("tr", cells))


def cell(label: str, content: object, class_: str | None = None) -> Markup:
    """A cell; phones show its label beside it."""
    return tag("td", content, data_label=label, class_=class_)


def known(count: int | None) -> str:
    """The number, or "unknown"."""
    return "unknown" if count is None else str(count)
