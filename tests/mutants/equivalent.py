"""Changes that no test can notice, and why: they are not counted."""

from __future__ import annotations

from collections.abc import Iterable

from tests.mutants.operators import Mutant

#: (file, statement, statement as changed): reason.
EQUIVALENT: dict[tuple[str, str, str], str] = {}


def reason(mutant: Mutant) -> str:
    """Why a change makes no difference; empty where it does."""
    return EQUIVALENT.get((mutant.file, mutant.before, mutant.after), "")


def outdated(found: Iterable[Mutant]) -> list[str]:
    """Entries for files among these changes that are none of them any more."""
    there = {(mutant.file, mutant.before, mutant.after) for mutant in found}
    files = {file for file, _before, _after in there}
    return [" ".join(entry) for entry in EQUIVALENT if entry[0] in files and entry not in there]
