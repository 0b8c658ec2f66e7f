"""The commands of `hawkwing` and their options, from its parser, for manual page and completion."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

from hawkwing.cli import parser

_SHOWN_IN_HELP = "-h"


@dataclass(frozen=True)
class Argument:
    """An option with its flags, or a positional argument; `metavar` is empty if it has no value.

    `value_optional`: the value can be omitted.
    """

    flags: tuple[str, ...]
    metavar: str
    choices: tuple[str, ...]
    help: str
    optional: bool = True
    value_optional: bool = False


@dataclass(frozen=True)
class Command:
    """One command, with its options before its positional arguments."""

    name: str
    help: str
    arguments: tuple[Argument, ...]

    @property
    def options(self) -> list[Argument]:
        """The options."""
        return [argument for argument in self.arguments if argument.flags]

    @property
    def words(self) -> list[Argument]:
        """The positional arguments."""
        return [argument for argument in self.arguments if not argument.flags]


def commands() -> list[Command]:
    """All commands, in the order of the help."""
    return list(_commands(parser()))


def _commands(top: argparse.ArgumentParser) -> Iterator[Command]:
    (action,) = [one for one in top._actions if isinstance(one, argparse._SubParsersAction)]
    helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
    for name, sub in action.choices.items():
        yield Command(name, helps[name], tuple(_arguments(sub)))


def _arguments(sub: argparse.ArgumentParser) -> Iterator[Argument]:
    for action in sub._actions:
        if _SHOWN_IN_HELP in action.option_strings:
            continue
        metavar = action.metavar or (action.dest.upper() if action.nargs != 0 else "")
        if action.choices and action.option_strings:
            metavar = "|".join(str(choice) for choice in action.choices)
        yield Argument(
            tuple(action.option_strings),
            str(metavar) if action.nargs != 0 else "",
            tuple(str(choice) for choice in action.choices or ()),
            (action.help or "").replace("%(default)s", str(action.default)),
            optional=not action.required,
            value_optional=bool(action.option_strings) and action.nargs == "?",
        )
