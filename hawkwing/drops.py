"""`hawkwing drops`: packets by reason, once or every two seconds."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from hawkwing import watch
from hawkwing.dataplane.layout import Reason, reasons
from hawkwing.errors import HawkwingError
from hawkwing.status import duration, rate_text
from hawkwing.status_model import Drops
from hawkwing.watch import Sample, Status

#: Order of the kinds: dropped packets first, steered packets last.
_ORDER = ("drop", "unchanged", "ok", "info")
_NOTHING, _NONE_DROPPED = "no packet was dropped or left unchanged", "no packet was dropped"


class Row(NamedTuple):
    """The packets of one reason and direction; `rate` is in packets/s, or None without a time span."""

    direction: str
    reason: Reason
    packets: int
    bytes: int
    rate: float | None


class Report(NamedTuple):
    """An agent's packets by reason: in `seconds`, or since its start if that is None."""

    agent: Status
    seconds: float | None
    rows: Sequence[Row]

    @property
    def kinds(self) -> set[str]:
        """The kinds of the reasons in the report."""
        return {row.reason.kind for row in self.rows}

    def as_json(self) -> Drops:
        """The report as JSON."""
        return {
            "time": time.time(),
            "role": self.agent["role"],
            "interfaces": self.agent["interfaces"],
            "pid": self.agent["pid"],
            "seconds": self.seconds,
            "reasons": [
                {
                    "reason": row.reason.name,
                    "kind": row.reason.kind,
                    "direction": row.direction,
                    "meaning": row.reason.text,
                    "packets": row.packets,
                    "bytes": row.bytes,
                    "packets_per_second": row.rate,
                }
                for row in self.rows
            ],
        }


def reports(now: Sample, before: Sample | None = None) -> list[Report]:
    """One for each agent of `now`; for a new agent since its start."""
    known = {watch.identity(told): told for told in before.statuses} if before is not None else {}
    found = []
    for told in now.statuses:
        old = known.get(watch.identity(told))
        seconds = now.at - before.at if old is not None and before is not None else None
        rows = _rows(old["counters"] if old is not None else {}, told["counters"], seconds)
        found.append(Report(told, seconds, rows))
    return found


def _rows(before: Mapping[str, Any], after: Mapping[str, Any], seconds: float | None) -> list[Row]:
    rows = []
    for reason in sorted(reasons(), key=lambda one: _ORDER.index(one.kind)):
        for direction, counts in after.items():
            if reason.name not in counts:
                continue
            old = before.get(direction, {}).get(reason.name, {"packets": 0, "bytes": 0})
            packets, size = (counts[reason.name][unit] - old[unit] for unit in ("packets", "bytes"))
            if packets:
                rows.append(Row(direction, reason, packets, size, packets / seconds if seconds else None))
    return rows


def lines(report: Report) -> Iterator[str]:
    """A report as text."""
    for row in report.rows:
        rate = f"  {rate_text(row.rate):>16}" if row.rate is not None else ""
        yield (
            f"{row.direction:7}  {row.reason.kind:9}  {row.packets:>10} packets{rate}  "
            f"{row.reason.name}: {row.reason.text}"
        )
    if "drop" not in report.kinds:
        yield _NONE_DROPPED if "unchanged" in report.kinds else _NOTHING


def show(now: Sample) -> None:
    """Prints the packets since the start of each agent."""
    for report in reports(now):
        print(f"hawkwing {_who(report.agent)}, since its start {_ago(report.agent)} ago:")
        for line in lines(report):
            print(f"  {line}")


def show_json(now: Sample) -> None:
    """The same as JSON, one list."""
    print(json.dumps([report.as_json() for report in reports(now)], indent=1))


def follow(now: Sample, take: Callable[[], Sample], as_json: bool, pause: Callable[[], object]) -> None:
    """Prints new packets repeatedly, until Ctrl-C."""
    write = _write_json if as_json else _write
    with watch.until_interrupted():
        write(reports(now))
        while True:
            pause()
            try:
                before, now = now, take()
            except HawkwingError as error:
                # An agent is just starting or stopping.
                print(f"hawkwing: {error}", file=sys.stderr)
                continue
            write(reports(now, before))
            gone = {watch.identity(told) for told in now.statuses}
            for told in before.statuses:
                if watch.identity(told) not in gone:
                    print(f"hawkwing: the {_who(told)} has stopped", file=sys.stderr)


def _write(found: Sequence[Report]) -> None:
    clock = time.strftime("%H:%M:%S")
    for report in found:
        since = "" if report.seconds is not None else f"since its start {_ago(report.agent)} ago: "
        for line in lines(report):
            print(f"{clock}  {report.agent['role']}-{report.agent['interfaces'][0]}  {since}{line}")
    sys.stdout.flush()


def _write_json(found: Sequence[Report]) -> None:
    for report in found:
        print(json.dumps(report.as_json()))
    sys.stdout.flush()


def _who(told: Status) -> str:
    return f"{told['role']} on {', '.join(told['interfaces'])}, PID {told['pid']}"


def _ago(told: Status) -> str:
    return duration(time.time() - told["started"])
