"""Completion for bash, zsh and fish, generated from the parser of the command line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lab.packages.commandline import Argument, Command, commands

FOLDER = Path(__file__).resolve().parents[2] / "packaging" / "completion"
_MADE = "# Made from the parser of hawkwing/cli.py by `python -m lab.packages.texts`.\n"
_INTERFACES = "ls /sys/class/net 2>/dev/null"


def texts() -> dict[Path, str]:
    """Each file with its text."""
    found = commands()
    return {
        FOLDER / "hawkwing.bash": "".join(_bash(found)),
        FOLDER / "_hawkwing": "".join(_zsh(found)),
        FOLDER / "hawkwing.fish": "".join(_fish(found)),
    }


def _kind(argument: Argument) -> str:
    """The kind of its values: choices, IF (an interface), FILE, other, or empty without a value."""
    return "choices" if argument.choices else argument.metavar


def _distinct(found: list[Command]) -> Iterator[tuple[Argument, list[str]]]:
    """The options with a value, each with bash patterns for `COMMAND FLAG`."""
    kinds: dict[str, set[str]] = {}
    having: dict[tuple[tuple[str, ...], str], tuple[Argument, list[str]]] = {}
    for command in found:
        for option in command.options:
            if option.metavar and not option.value_optional:
                having.setdefault((option.flags, _kind(option)), (option, []))[1].append(command.name)
                for flag in option.flags:
                    kinds.setdefault(flag, set()).add(_kind(option))
    for option, commands_with_it in having.values():
        shared = [f'*" {flag}"' for flag in option.flags if len(kinds[flag]) == 1]
        own = [flag for flag in option.flags if len(kinds[flag]) > 1]
        yield option, [*(f'"{name} {flag}"' for flag in own for name in commands_with_it), *shared]


def _bash(found: list[Command]) -> Iterator[str]:
    yield f"# bash completion for hawkwing\n{_MADE}\n"
    yield "_hawkwing() {\n"
    yield '  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} words=""\n'
    yield "  COMPREPLY=()\n"
    yield "  if ((COMP_CWORD == 1)); then\n"
    yield f'    words="{" ".join(command.name for command in found)} --help --version"\n'
    yield '  else\n    case "${COMP_WORDS[1]} $prev" in\n'
    for option, patterns in _distinct(found):
        kind = _kind(option)
        yield f"      {' | '.join(patterns)})\n"
        if kind == "choices":
            yield f'        words="{" ".join(option.choices)}"\n        ;;\n'
        elif kind == "IF":
            yield f"        words=$({_INTERFACES})\n        ;;\n"
        elif kind == "FILE":
            yield "        compopt -o filenames 2>/dev/null\n"
            yield '        mapfile -t COMPREPLY < <(compgen -f -- "$cur")\n        return\n        ;;\n'
        else:
            yield "        return\n        ;;\n"
    yield "      *)\n        case ${COMP_WORDS[1]} in\n"
    for command in found:
        words = [flag for option in command.options for flag in option.flags]
        words += [choice for word in command.words for choice in word.choices]
        yield f'          {command.name}) words="{" ".join([*words, "--help"])}" ;;\n'
    yield "        esac\n"
    files = [command.name for command in found if any(word.metavar == "FILE" for word in command.words)]
    for name in files:
        yield f"        if [[ ${{COMP_WORDS[1]}} == {name} && $cur != -* ]]; then\n"
        yield "          compopt -o filenames 2>/dev/null\n"
        yield '          mapfile -t COMPREPLY < <(compgen -f -- "$cur")\n          return\n        fi\n'
    yield "        ;;\n    esac\n  fi\n"
    yield '  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")\n}\n'
    yield "complete -F _hawkwing hawkwing\n"


def _zsh_text(text: str) -> str:
    return text.replace("'", "'\\''").replace("[", "\\[").replace("]", "\\]").replace(":", "\\:")


def _zsh_action(argument: Argument) -> str:
    kind = _kind(argument)
    if not kind:
        return ""
    action = {"choices": f"({' '.join(argument.choices)})", "IF": "_net_interfaces", "FILE": "_files"}
    begin = "::" if argument.value_optional else ":"
    return f"{begin}{_zsh_text(argument.metavar) if kind != 'choices' else 'value'}:{action.get(kind, '')}"


def _zsh(found: list[Command]) -> Iterator[str]:
    yield f"#compdef hawkwing\n{_MADE}\n_hawkwing() {{\n"
    yield "  local context state state_descr line\n  typeset -A opt_args\n  local -a commands\n  commands=(\n"
    for command in found:
        yield f"    '{command.name}:{_zsh_text(command.help)}'\n"
    yield "  )\n  _arguments -C '(- *)--help[show the help]' '(- *)--version[print the version]' \\\n"
    yield "    '1:command:->command' '*::argument:->arguments'\n"
    yield "  case $state in\n    command) _describe command commands ;;\n    arguments)\n"
    yield "      case $words[1] in\n"
    for command in found:
        yield f"        {command.name})\n          _arguments \\\n"
        for option in command.options:
            repeated = "*" if "repeated" in option.help else ""
            flags = f"{{{','.join(option.flags)}}}" if len(option.flags) > 1 else option.flags[0]
            text = f"'[{_zsh_text(option.help)}]{_zsh_action(option)}'"
            first = f"'{repeated}'" if repeated or len(option.flags) > 1 else ""
            yield f"            {first}{flags}{text} \\\n"
        for number, word in enumerate(command.words, 1):
            yield f"            '{number}{_zsh_action(word) or ':' + word.metavar + ':'}' \\\n"
        yield "            '--help[show the help]'\n          ;;\n"
    yield '      esac\n      ;;\n  esac\n}\n\n_hawkwing "$@"\n'


def _fish_text(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _fish_values(argument: Argument) -> str:
    kind = "" if argument.value_optional else _kind(argument)
    if kind == "choices":
        return f" -x -a '{' '.join(argument.choices)}'"
    return {"": "", "IF": f" -x -a '({_INTERFACES})'", "FILE": " -r -F"}.get(kind, " -x")


def _fish(found: list[Command]) -> Iterator[str]:
    yield f"# fish completion for hawkwing\n{_MADE}\ncomplete -c hawkwing -f\n"
    yield "complete -c hawkwing -n __fish_use_subcommand -l version -d 'print the version'\n"
    yield "complete -c hawkwing -l help -s h -d 'show the help'\n"
    for command in found:
        yield f"complete -c hawkwing -n __fish_use_subcommand -a {command.name}"
        yield f" -d {_fish_text(command.help)}\n"
    for command in found:
        start = f"complete -c hawkwing -n '__fish_seen_subcommand_from {command.name}'"
        for option in command.options:
            flags = "".join(f" -l {f[2:]}" if f.startswith("--") else f" -s {f[1:]}" for f in option.flags)
            yield f"{start}{flags}{_fish_values(option)} -d {_fish_text(option.help)}\n"
        for word in command.words:
            if word.choices:
                yield f"{start} -a '{' '.join(word.choices)}'\n"
            elif word.metavar == "FILE":
                yield f"{start} -F\n"
