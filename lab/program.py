"""The command line of `./run`: its help, and forms of tasks that invoke does not support.

lab.exec host-a ping -c 1 host-b     the words after the node are the command
lab.heal vpp2-vpp4                   an option, written without --link
"""

import shlex
import sys
from collections.abc import Sequence
from typing import Any

from invoke import Collection, ParseError, Program

from hawkwing import __version__

#: Tasks with an option that can be written as a plain word, and whether it can be repeated.
_WORDS = {"lab.heal": ("link", False), "lab.capture": ("link", True)}
_EXEC = "lab.exec"
_BEHIND = ("--name", "--kernel")
_SWITCHES, _HELP = ("--kernel", "-k", "--stop", "-s", "--live", "-i"), ("--help", "-h")
_EXAMPLES = """\
examples:
  ./run lab.up                                    build the lab
  ./run demo                                      send requests over several paths
  ./run lab.exec host-a ping -c 1 host-b          run a command in a node
  ./run lab.impair vpp2-vpp4 --latency 80ms       and lab.heal vpp2-vpp4
  ./run lab.down
  ./run test                                      all tests that this machine can run
  ./run lab.impair --help                         options of a task

HAWKWING_LAB=NAME sets the lab for all tasks that take --name."""


def rewritten(words: Sequence[str], tasks: Sequence[str]) -> list[str]:
    """The words in invoke's syntax."""
    done: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word not in tasks:
            done.append(word)
            continue
        own = _exec(rest) if word == _EXEC else _optional(word, rest, tasks)
        if set(_HELP) & set(own[: _command_at(word, own)]):
            # Before the task, so that invoke doesn't require its arguments.
            return ["--help", word]
        done += [word, *own]
    return done


def _command_at(task: str, own: Sequence[str]) -> int:
    """The position of the command, which may have its own --help."""
    return len(own) - 1 if task == _EXEC and own and not own[-1].startswith("-") else len(own)


def _options(rest: list[str]) -> list[str]:
    """The next options with their values, removed from `rest`."""
    found = []
    while rest and rest[0].startswith("-") and rest[0] != "--":
        found.append(rest.pop(0))
        if "=" not in found[-1] and found[-1] not in (*_SWITCHES, *_HELP) and rest:
            found.append(rest.pop(0))
    return found


def _optional(task: str, rest: list[str], tasks: Sequence[str]) -> list[str]:
    if task not in _WORDS:
        own = []
        while rest and rest[0] not in tasks:
            own.append(rest.pop(0))
        return own
    option, repeated = _WORDS[task]
    done = _options(rest)
    while rest and rest[0] not in tasks:
        done += [f"--{option}", rest.pop(0), *_options(rest)]
        if not repeated:
            break
    return done


def _exec(rest: list[str]) -> list[str]:
    """Node and command; our own options can be anywhere before a --; after it, all belongs to the command."""
    done = _options(rest)
    if rest:
        done += [rest.pop(0), *_options(rest)]
    command = []
    while rest:
        if rest[0] == "--":
            command += rest[1:]
            rest.clear()
        elif rest[0].split("=")[0] in _BEHIND:
            done += _options(rest)
        else:
            command.append(rest.pop(0))
    if command:
        done.append(command[0] if len(command) == 1 else shlex.join(command))
    return done


class LabProgram(Program):  # type: ignore[misc]
    """Invoke with this project's tasks, name and help."""

    def __init__(self, tasks: Collection) -> None:
        super().__init__(namespace=tasks, name="HawkWing", binary="./run", version=__version__)

    def normalize_argv(self, argv: list[str] | None) -> None:
        """Called before anything is parsed."""
        super().normalize_argv(argv)
        tasks = [
            *self.namespace.task_names,
            *(alias for all_ in self.namespace.task_names.values() for alias in all_),
        ]
        self.argv: list[str] = [self.argv[0], *rewritten(self.argv[1:], tasks)]

    def parse_tasks(self) -> None:
        """Reports a word instead of a number as a user's error."""
        try:
            super().parse_tasks()
        except ValueError as error:
            raise ParseError(f"{str(error).partition(': ')[2] or error} is not a number") from None

    def print_help(self) -> None:
        """The tasks and some examples, instead of invoke's own options."""
        print("Usage: ./run TASK [OPTIONS]\n")
        print("HawkWing: SRv6 paths for a host's own packets, with a lab of network namespaces.\n")
        self.list_tasks()
        print(_EXAMPLES)

    def task_list_opener(self, extra: str = "") -> str:
        """The text above the list of tasks."""
        return f"Tasks{f' of {self.list_root}' if self.list_root else ''}"

    def print_task_help(self, name: str) -> None:
        """Usage, description and options of one task."""
        context, task = self.parser.contexts[name], self.collection[name]
        words = [argument.name.upper() for argument in context.positional_args]
        if name in _WORDS:
            option, repeated = _WORDS[name]
            words.append(f"[{option.upper()}{' ...' if repeated else ''}]")
        options = context.help_tuples()
        if name == _EXEC:
            words[-1] += " ..."
        print(" ".join(["Usage: ./run", name, *words, *(["[OPTIONS]"] if options else [])]) + "\n")
        print(f"{(task.__doc__ or '').strip()}\n")
        if options:
            print("Options:")
            self.print_columns(options)


def run(argv: Sequence[str] | None = None) -> int:
    """Runs the tasks that the command line names; their exit status."""
    import tasks

    program: Any = LabProgram(tasks.namespace)
    try:
        program.run(list(argv) if argv is not None else sys.argv)
    except SystemExit as ended:
        if isinstance(ended.code, int):
            return ended.code
        raise
    return 0
