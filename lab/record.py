"""The record of a lab in its run directory, for later commands."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

RouterName = Literal["linux", "vpp"]
_FILE = "lab.json"


@dataclass(frozen=True)
class Record:
    """Written before anything is created, to clean up after a killed `up`; again when the lab is ready."""

    namespaces: list[str]
    services: list[str]
    """Names of the processes without which the lab is broken."""
    ready: bool
    routers: RouterName | None = None
    vpp_prefix: str | None = None
    impairments: dict[str, dict[str, float]] = field(default_factory=dict)
    """Metrics that links have from the lab's start."""

    def write(self, run: Path) -> None:
        """Writes the record into the run directory."""
        write_whole(run / _FILE, json.dumps(asdict(self), indent=1))


def read_record(run: Path) -> Record | None:
    """The record of a run directory; None if it is missing or unreadable."""
    try:
        told = json.loads((run / _FILE).read_text())
    except (OSError, ValueError):
        return None
    if not isinstance(told, dict):
        return None
    try:
        record = Record(**told)
    except TypeError:
        return None
    return record if _is_sound(told) else None


def _is_sound(told: Mapping[str, Any]) -> bool:
    lists = [told["namespaces"], told["services"]]
    return (
        all(isinstance(one, list) and all(isinstance(name, str) for name in one) for one in lists)
        and isinstance(told["ready"], bool)
        and told.get("routers") in (None, "linux", "vpp")
        and isinstance(told.get("vpp_prefix"), str | None)
        and _are_impairments(told.get("impairments", {}))
    )


def _are_impairments(told: object) -> bool:
    return isinstance(told, dict) and all(
        isinstance(metrics, dict) and all(isinstance(value, int | float) for value in metrics.values())
        for metrics in told.values()
    )


def write_whole(file: Path, text: str) -> None:
    """Writes all of it or nothing, even if this process is killed."""
    new = file.with_name(f"{file.name}.new")
    new.write_text(text)
    new.replace(file)
