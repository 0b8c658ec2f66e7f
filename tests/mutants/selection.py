"""Which tests can notice a change: those that run its line, or use what it defines; the quick ones first."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.mutants.operators import Mutant

MOST_SECONDS = 12.0
"""Of tests for one change: those that take long come last, and may be left out."""


@dataclass
class Reach:
    """What the tests run: per file and line the tests, and how long each test takes."""

    lines: dict[str, dict[int, set[str]]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    imported: dict[str, dict[int, set[str]]] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)

    def add(self, found: Mapping[str, Any]) -> None:
        """What was traced of one file of tests."""
        self.failed.update(found["failed"])
        self.seconds.update(found["seconds"])
        names = [name for name in found["tests"] if name]
        for test, files in found["tests"].items():
            for file, numbers in files.items():
                known = self.lines if test else self.imported
                lines = known.setdefault(f"hawkwing/{file}", {})
                for number in numbers:
                    lines.setdefault(number, set()).update([test] if test else names)

    def running(self, file: str, numbers: Iterable[int]) -> set[str]:
        """The tests that run one of these lines; if there are none, those whose import does."""
        for known in (self.lines, self.imported):
            lines = known.get(file, {})
            tests = set().union(*(lines.get(number, set()) for number in numbers))
            if tests:
                return tests
        return set()

    def in_order(self, tests: Iterable[str], budget: float) -> list[str]:
        """The quickest first, as many as fit."""
        chosen, total = [], 0.0
        for test in sorted(tests, key=lambda test: (self.seconds[test], test)):
            total += self.seconds[test]
            if chosen and total > budget:
                break
            chosen.append(test)
        return chosen

    def tests_of(self, mutant: Mutant, root: Path, budget: float = MOST_SECONDS) -> list[str]:
        """The tests that may notice a change."""
        if not mutant.at_import:
            near = self.running(mutant.file, mutant.lines)
            if not near and mutant.before in ("break", "continue"):
                # Python makes the condition before it jump.
                near = self.running(mutant.file, [line - 1 for line in mutant.lines])
            return self.in_order(near, budget)
        near = set()
        for file, numbers in _uses(root, mutant.name).items():
            near |= self.running(file, numbers)
        first = self.in_order(near, budget)
        left = budget - sum(self.seconds[test] for test in first)
        running = set().union(*self.lines.get(mutant.file, {}).values()) - set(first)
        first += self.in_order(running, left) if left > 0 else []
        # What compares documents with the code runs no line of it.
        words = Path(mutant.file).stem.split("_")
        importing = set().union(*self.imported.get(mutant.file, {}).values()) - running - set(first)
        named = {test for test in importing if any(word in test.partition("::")[0] for word in words)}
        return first + self.in_order(named or importing, budget / 2)


@functools.cache
def _uses(root: Path, name: str) -> dict[str, list[int]]:
    """The lines of the agent that use a name, by file."""
    found: dict[str, list[int]] = {}
    if not name:
        return found
    for path in (root / "hawkwing").rglob("*.py"):
        text = path.read_text()
        if name in text:
            file = str(path.relative_to(root))
            for node in ast.walk(_parsed(text)):
                match node:
                    case ast.Name(id=used, ctx=ast.Load()) | ast.Attribute(attr=used) if used == name:
                        found.setdefault(file, []).append(node.lineno)
    return found


@functools.cache
def _parsed(text: str) -> ast.Module:
    return ast.parse(text)
