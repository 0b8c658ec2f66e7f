"""`hawkwing ping`: probes along a list and back, with a summary like ping(8)."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

from hawkwing.labels import path_text
from hawkwing.probing import lists, silence
from hawkwing.probing.chosen import Chosen, signed
from hawkwing.probing.prober import Prober
from hawkwing.probing.rtt import Tally, milliseconds, shown
from hawkwing.probing.run import Lane, Outcome, Pace, Run


def ping(chosen: Chosen, pace: Pace, size: int, as_json: bool) -> int:
    """Runs until all probes are sent, or Ctrl-C; exit status 1 if none came back."""
    lane = Lane(signed(lists.probe_srh(chosen.sids, chosen.blocks), chosen.source))
    outcomes: list[Outcome] = []

    def told(outcome: Outcome) -> None:
        if as_json:
            outcomes.append(outcome)
        else:
            print(line(outcome), flush=True)

    begun = time.monotonic()
    with closing(Prober(chosen.source, size)) as prober:
        if not as_json:
            print("\n".join([*chosen.notes, head(chosen, size)]), flush=True)
        Run(prober, [lane], pace, told).run()
    seconds = time.monotonic() - begun
    why = []
    if lane.tally.sent and not lane.tally.received and lane.problem is None:
        why = silence.reasons(chosen)
    if as_json:
        print(json.dumps(report(chosen, lane, outcomes, why), indent=1))
    else:
        print("\n".join([*summary(chosen, lane.tally, seconds), *why]))
    return 0 if lane.tally.received else 1


def head(chosen: Chosen, size: int) -> str:
    """The first line: the probed path."""
    there = path_text(chosen.shown)
    of = f", the path to {chosen.destination} ({chosen.why})" if chosen.destination else ""
    return f"ping {there} and {chosen.shown_back}{of}, from {chosen.source}, {size} bytes"


def line(outcome: Outcome) -> str:
    """The line for one probe."""
    number = f"seq={outcome.number + 1}"
    if outcome.seconds is not None:
        return f"{number} time={shown(outcome.seconds)} ms{' (duplicate)' if outcome.duplicate else ''}"
    return f"{number} {outcome.problem if outcome.problem is not None else 'no answer'}"


def summary(chosen: Chosen, tally: Tally, seconds: float) -> Iterator[str]:
    """The summary, like ping(8)."""
    yield f"--- {path_text(chosen.shown)} and {chosen.shown_back} ---"
    more = f", {tally.duplicates} duplicates" if tally.duplicates else ""
    yield (
        f"{tally.sent} probes sent, {tally.received} came back{more}, {tally.loss:.4g}% loss, "
        f"time {seconds * 1000:.0f} ms"
    )
    if tally.received:
        times = "/".join(map(shown, (tally.low, tally.mean, tally.high, tally.deviation)))
        yield f"rtt min/avg/max/mdev = {times} ms"


def report(chosen: Chosen, lane: Lane, outcomes: list[Outcome], why: list[str]) -> dict[str, Any]:
    """For --json."""
    return {
        **chosen.as_json(),
        "notes": list(chosen.notes),
        "segments": [str(sid) for sid in lists.travelled(chosen.sids, chosen.blocks)],
        **lane.tally.as_json(),
        "probes": [_probe(outcome) for outcome in outcomes],
        "reasons": why,
    }


def _probe(outcome: Outcome) -> dict[str, Any]:
    return {
        "seq": outcome.number + 1,
        "rtt_ms": milliseconds(outcome.seconds) if outcome.seconds is not None else None,
        "duplicate": outcome.duplicate,
        "problem": outcome.problem.as_json() if outcome.problem is not None else None,
    }
