"""`hawkwing trace`: round trips to each segment of a list, the first one that fails, and IOAM hops."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from ipaddress import IPv6Address
from typing import Any

from hawkwing.probing import ioam, lists, silence
from hawkwing.probing.chosen import Chosen, signed
from hawkwing.probing.ping import head
from hawkwing.probing.prober import Prober
from hawkwing.probing.rtt import milliseconds, shown
from hawkwing.probing.run import Lane, Pace, Run
from hawkwing.sids import back_of

_NO_ANSWER = "no answer"
NO_IOAM = (
    "no probe with IOAM came back: a router drops Hop-by-Hop headers, or takes the SRH for too long (VPP)"
)


def trace(chosen: Chosen, pace: Pace, size: int, namespace: int | None, as_json: bool) -> int:
    """Exit status 1 if a segment fails. With an IOAM `namespace` also prints the hops of one probe."""
    if back_of(chosen.sids):
        # The way back begins at the list's end only.
        note = f"probes to each segment return over the reverse list, and not {chosen.shown_back}: see ping"
        there = lists.single(tuple(chosen.sids), chosen.blocks)
        chosen = replace(chosen, sids=there, notes=(*chosen.notes, note))
    plain = [lists.probe_srh(sids, chosen.blocks) for sids in lists.growing(chosen.sids)]
    lanes = [Lane(signed(srh, chosen.source)) for srh in plain]
    option = ioam.option(namespace) if namespace is not None else None
    # Before any output: it may be forbidden.
    Prober(chosen.source, size, option).close()
    if not as_json:
        print("\n".join([*chosen.notes, head(chosen, size).replace("ping", "trace", 1)]), flush=True)
    with closing(Prober(chosen.source, size)) as prober:
        finished = Run(prober, lanes, pace).run()
    hops = []
    if option is not None and finished:
        hops = [Lane(lanes[-1].srh)]
        with closing(Prober(chosen.source, size, option)) as prober:
            Run(prober, hops, Pace(1, pace.interval, pace.wait)).run()
    failed = first_failed(lanes)
    why = silence.reasons(chosen) if failed == 0 and lanes[0].problem is None else []
    found = ioam.read(hops[0].options) if hops else None
    if as_json:
        print(json.dumps(report(chosen, lanes, failed, why, hops, found), indent=1))
    else:
        told = [*table(chosen, lanes), verdict(chosen, lanes, failed), *why]
        print("\n".join([*told, *(hop_lines(hops[0], found) if hops else ())]))
    return 0 if failed is None else 1


def first_failed(lanes: Sequence[Lane]) -> int | None:
    """The first segment without any answer."""
    for number, lane in enumerate(lanes):
        if lane.tally.sent and not lane.tally.received:
            return number
    return None


def table(chosen: Chosen, lanes: Sequence[Lane]) -> Iterator[str]:
    """One line per segment; `adds` is the difference of its mean to that of the previous segment."""
    segments = [_segment(sid, node) for sid, node in zip(chosen.sids, chosen.shown, strict=True)]
    width = max(len("segment"), *map(len, segments))
    heads = ("loss", "last", "avg", "min", "max", "mdev", "adds")
    yield f"  #  {'segment':<{width}}  " + " ".join(f"{name:>8}" for name in heads)
    before: float | None = 0.0
    for number, (segment, lane) in enumerate(zip(segments, lanes, strict=True), 1):
        tally = lane.tally
        cells = [f"{tally.loss:.3g}%" if tally.sent else "-"]
        if tally.received:
            times = (tally.last, tally.mean, tally.low, tally.high, tally.deviation)
            cells += [shown(value) for value in times]
            cells.append("-" if before is None else _difference(tally.mean - before))
        before = tally.mean if tally.received else None
        row = f"{number:>3}  {segment:<{width}}  " + " ".join(f"{cell:>8}" for cell in cells)
        if tally.sent and not tally.received:
            row += f"  {lane.problem if lane.problem is not None else _NO_ANSWER}"
        yield row


def _segment(sid: IPv6Address, node: str) -> str:
    return node if node == str(sid) else f"{node} ({sid})"


def _difference(seconds: float) -> str:
    return f"+{shown(seconds)}" if seconds >= 0 else f"-{shown(-seconds)}"


def verdict(chosen: Chosen, lanes: Sequence[Lane], failed: int | None) -> str:
    """The conclusion in one sentence."""
    if not any(lane.tally.sent for lane in lanes):
        return "interrupted before the first answer"
    if failed is None and not all(lane.tally.sent for lane in lanes):
        return "interrupted: not all segments were probed"
    if failed is None:
        lost = [number for number, lane in enumerate(lanes, 1) if lane.tally.lost]
        if not lost:
            return "all segments answer; round trips in ms"
        return f"all segments answer, with loss at segment {', '.join(map(str, lost))}; round trips in ms"
    lane, node = lanes[failed], chosen.shown[failed]
    former = chosen.shown[failed - 1]
    before = f", segment {failed} ({former}) answers" if failed else ""
    if lane.problem is not None:
        return f"the path fails at segment {failed + 1} ({node}): {lane.problem}{before}"
    way = f"the path between {former} and {node}" if failed else f"the path to {node} and back"
    return (
        f"the path fails at segment {failed + 1} ({node}): no answer{before}; "
        f"the router is down or has no such SID, or {way} is broken"
    )


def hop_lines(lane: Lane, found: ioam.Trace | None) -> list[str]:
    """The hops from the IOAM data, or why there are none."""
    if not lane.tally.received:
        return [str(lane.problem) if lane.problem is not None else NO_IOAM]
    if found is None:
        return ["the probe came back without its IOAM option"]
    return ioam.lines(found) if found.nodes else [_no_nodes(found)]


def _no_nodes(found: ioam.Trace) -> str:
    return (
        f"no router has added IOAM data to the probe: IOAM is off in namespace {found.namespace} "
        "(Linux: ioam6_enabled on the interface, and `ip ioam namespace add`)"
    )


def report(
    chosen: Chosen,
    lanes: Sequence[Lane],
    failed: int | None,
    why: list[str],
    hops: Sequence[Lane],
    found: ioam.Trace | None,
) -> dict[str, Any]:
    """For --json."""
    told: dict[str, Any] = {
        **chosen.as_json(),
        "notes": list(chosen.notes),
        "segments": [
            {
                "number": number,
                "sid": str(sid),
                **lane.tally.as_json(),
                "problem": lane.problem.as_json() if lane.problem is not None else None,
            }
            for number, (sid, lane) in enumerate(zip(chosen.sids, lanes, strict=True), 1)
        ],
        "failed_segment": failed + 1 if failed is not None else None,
        "verdict": verdict(chosen, lanes, failed),
        "reasons": why,
    }
    for lane in hops:
        told["ioam"] = {
            "rtt_ms": milliseconds(lane.tally.last) if lane.tally.received else None,
            **(ioam.as_json(found) if found is not None else {"hops": []}),
            "problem": None if found is not None and found.nodes else "\n".join(hop_lines(lane, found)),
        }
    return told
