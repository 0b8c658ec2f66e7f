"""Sources of paths: the protocol, and the table of configured paths."""

from collections.abc import Iterable
from ipaddress import IPv6Address
from pathlib import Path
from typing import Annotated, Any, Protocol

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from hawkwing.errors import ConfigError
from hawkwing.intents import Intent, IntentType, PathQuery
from hawkwing.yaml_lines import problem_lines, read_yaml_file

Whole = Annotated[int, Field(strict=True, ge=0, lt=2**31)]


class TableError(Exception):
    """An invalid table; the text is one sentence for the user."""


class Refused(Exception):  # noqa: N818
    """Ends the requesting stream with status UNKNOWN and this text, like HawkEye."""


#: The result of a calculation: the SIDs in travel order, or why there are none.
Outcome = tuple[IPv6Address, ...] | Refused


class PathSource(Protocol):
    """Returns the path for a query."""

    def path(self, query: PathQuery) -> tuple[IPv6Address, ...]:
        """The SIDs in travel order, () without a path; may raise Refused."""
        ...

    def forget(self, query: PathQuery) -> None:
        """Called when no stream waits for this query any longer."""
        ...


class IntentEntry(BaseModel):
    """An intent as in the agent's configuration."""

    model_config = ConfigDict(extra="forbid")

    intent: IntentType
    min_value: Whole | None = None
    max_value: Whole | None = None
    functions: tuple[str, ...] = ()
    flex_algo_number: Whole | None = None

    def to_intent(self) -> Intent:
        return Intent(self.intent, self.min_value, self.max_value, self.functions, self.flex_algo_number)


class Entry(BaseModel):
    """The answer to a query: SIDs, or the text of a refusal; without `source` for any source."""

    model_config = ConfigDict(extra="forbid")

    destination: IPv6Address
    source: IPv6Address | None = None
    intents: Annotated[tuple[IntentEntry, ...], Field(min_length=1)]
    sids: tuple[IPv6Address, ...] | None = None
    error: Annotated[str, Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _one_answer(self) -> "Entry":
        if (self.sids is None) == (self.error is None):
            raise ValueError("an entry has either sids or an error")
        return self

    @property
    def key(self) -> tuple[IPv6Address | None, IPv6Address, tuple[Intent, ...]]:
        return self.source, self.destination, tuple(intent.to_intent() for intent in self.intents)


class Table:
    """A PathSource with a list of entries; entries with a source have priority."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._entries = {entry.key: entry for entry in entries}

    def set(self, entry: Entry) -> None:
        """Adds the entry, or replaces the one for the same query."""
        self._entries[entry.key] = entry

    def entry(self, query: PathQuery) -> Entry | None:
        """The entry for the query."""
        goal = query.destination, query.intents
        return self._entries.get((query.source, *goal)) or self._entries.get((None, *goal))

    def path(self, query: PathQuery) -> tuple[IPv6Address, ...]:
        entry = self.entry(query)
        if entry is None:
            return ()
        if entry.error is not None:
            raise Refused(entry.error)
        return entry.sids or ()

    def forget(self, query: PathQuery) -> None:
        """Nothing to do: entries stay."""


def load_table(path: Path) -> Table:
    """Reads the YAML file; TableError with one sentence with file and line."""
    try:
        document = read_yaml_file(path)
    except ConfigError as error:
        raise TableError(error.problems[0]) from None
    if document.faults:
        raise TableError(problem_lines(path, document, document.faults, {})[0])
    try:
        entries = TypeAdapter(list[Entry]).validate_python([] if document.data is None else document.data)
    except ValidationError as error:
        line = document.line_of(error.errors()[0]["loc"])
        raise TableError(f"{path}:{line}: {first_fault(error)}") from None
    seen: dict[Any, int] = {}
    for number, entry in enumerate(entries, 1):
        if (earlier := seen.setdefault(entry.key, number)) != number:
            line = document.line_of((number - 1,))
            raise TableError(f"{path}:{line}: entry {number} has the same query as entry {earlier}")
    return Table(entries)


def first_fault(error: ValidationError) -> str:
    """The first problem as text, with entries counted from 1, and the number of further ones."""
    problems = error.errors(include_url=False)
    place = [str(part) for part in problems[0]["loc"]]
    if place and isinstance(number := problems[0]["loc"][0], int):
        place[0] = f"entry {number + 1}"
    text = ": ".join(filter(None, (", ".join(place), problems[0]["msg"].removeprefix("Value error, "))))
    return text if len(problems) == 1 else f"{text} (and {len(problems) - 1} more)"
