"""`hawkwing paths`: the paths of a destination, which one is in use, why, and its packet rate."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from hawkwing import control
from hawkwing.errors import HawkwingError
from hawkwing.labels import path_of
from hawkwing.probing.rtt import shown
from hawkwing.status import rate_behind, state_and_health, tcp_behind, way_back_behind, way_back_of
from hawkwing.target import place_text

if TYPE_CHECKING:
    from hawkwing.probing.measure import Key

Answer = Mapping[str, Any]
BETWEEN = 1.0
"""Seconds between the two samples from which packets/s are computed."""
_NAMES = {"controller": "controller", "backup": "configured"}


class Sample(NamedTuple):
    """The answers of all clients of this network namespace at a time of a monotonic clock."""

    at: float
    answers: Sequence[Answer]


def ask(destination: str, port: int | None) -> Sample:
    """Asks all clients; HawkwingError if none is running."""
    request = {"ask": "paths", "destination": destination, "port": port}
    found = [answer for _path, answer in control.answers(request, ("client",)) if answer is not None]
    if not found:
        raise HawkwingError("no hawkwing client is running in this network namespace")
    return Sample(time.monotonic(), found)


def _pause(seconds: float) -> None:
    threading.Event().wait(seconds)


def look(
    destination: str,
    port: int | None,
    probes: tuple[int, int] | None = None,
    pause: Callable[[float], object] = _pause,
) -> list[dict[str, Any]]:
    """The answer of each client, with `packets_per_second` of each path in use.

    `probes` are number and size of probes for each candidate, whose results are added as `measured`.
    """
    before = ask(destination, port)
    found: dict[Key, dict[str, Any]] = {}
    if any(answer["bindings"] for answer in before.answers):
        if probes is not None:
            from hawkwing.probing.measure import measure

            found = measure(before.answers, *probes)
        pause(max(0.0, before.at + BETWEEN - time.monotonic()))
    rated = with_rates(before, ask(destination, port))
    return rated if probes is None else with_measured(rated, found)


def with_rates(before: Sample, after: Sample) -> list[dict[str, Any]]:
    """The later answers with rates; None if the path has changed in between."""
    known = {
        (answer["pid"], binding["address"], binding["port"]): binding
        for answer in before.answers
        for binding in answer["bindings"]
    }
    seconds = after.at - before.at

    def rated(answer: Answer, binding: Answer) -> dict[str, Any]:
        old = known.get((answer["pid"], binding["address"], binding["port"]))
        rate = None
        if old is not None and old["sids"] == binding["sids"] and seconds > 0 and binding["sids"]:
            # A lower count has started again: the path was removed in between.
            gone = old["packets"] if old["packets"] <= binding["packets"] else 0
            rate = round((binding["packets"] - gone) / seconds, 3)
        return {**binding, "packets_per_second": rate}

    return [
        {**answer, "bindings": [rated(answer, one) for one in answer["bindings"]]} for answer in after.answers
    ]


def with_measured(answers: Sequence[Answer], found: Mapping[Key, Any]) -> list[dict[str, Any]]:
    """The answers with results for each candidate; None if it has no SIDs, or is newer than the probes."""
    from hawkwing.probing.measure import key_of

    def measured(answer: Answer, binding: Answer) -> list[dict[str, Any]]:
        return [{**one, "measured": found.get(key_of(answer, binding, one))} for one in binding["candidates"]]

    return [
        {
            **answer,
            "bindings": [
                {**binding, "candidates": measured(answer, binding)} for binding in answer["bindings"]
            ],
        }
        for answer in answers
    ]


def lines(answers: Sequence[Answer]) -> Iterator[str]:
    """As text; with the interfaces of each agent, if there are several agents."""
    for answer in answers:
        if len(answers) > 1:
            yield f"client on {', '.join(answer['interfaces'])}"
        yield from answer["problems"]
        for binding in answer["bindings"]:
            yield from _binding(binding)
        yield from answer["notes"]


def _binding(binding: Answer) -> Iterator[str]:
    how = ", encapsulated" if binding.get("mode") == "encap" else ""
    yield f"{place_text(binding['address'], binding['port'])} (service {binding['service']}{how})"
    for one in binding["candidates"]:
        if "share_percent" in one:
            state = f"{one['share_percent']:.0f} % of flows, " if one["in_use"] else "not in use: "
            state += state_and_health(one)
            if "preference" in one:
                state += f"; preference {one['preference']}, weight {one['weight']}"
            state += f"; {one['packets']} packets{tcp_behind(one['tcp'])}"
        elif one["in_use"]:
            since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(binding["since"]))
            state = f"in use since {since}"
            state += rate_behind(binding["packets_per_second"])
        else:
            state = f"not in use: {one['state']}"
        mark = "*" if one["in_use"] else " "
        path = path_of(one) + way_back_of(one)
        name = one.get("name") or _NAMES[one["origin"]]
        yield f"  {mark} {name:<10}  {path + '  ' if path else ''}({state})"
        yield from way_back_behind(one, 12)
        if "measured" in one:
            yield f"{'':<16}{_measured(one['measured'])}"
    if binding["sids"]:
        yield f"    {binding['why']}"
    else:
        yield f"    packets are sent without an SRH: {binding['why']}"


def _measured(measured: Answer | None) -> str:
    """Round trips and loss in one line, with the reason why probes are lost."""
    if measured is None or not measured["sent"]:
        why = f": {measured['problem']['text']}" if measured is not None and measured["problem"] else ""
        return f"rtt min/avg/max -, loss -{why}"
    times = measured["rtt_ms"]
    rtt = "/".join(shown(times[name] / 1000) for name in ("min", "avg", "max")) + " ms" if times else "-"
    told = f"rtt min/avg/max {rtt}, {measured['loss_percent']:.4g}% loss of {measured['sent']} probes"
    problem = measured["problem"]
    if problem is None:
        return told
    reporter = f"{problem['reporter']} reports: " if problem["reporter"] else ""
    return f"{told}: {reporter}{problem['text']}"
