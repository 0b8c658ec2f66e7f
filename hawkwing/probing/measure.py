"""`hawkwing paths --measure`: probes along all candidates of a destination at the same time.

One loop sends the probes of all lists in turn, and one socket per source address receives their results.
Candidates with the same list and source share the probes.
"""

from __future__ import annotations

import select
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from ipaddress import IPv6Address
from typing import Any

from hawkwing.addresses import source_to
from hawkwing.csid import Block
from hawkwing.errors import HawkwingError
from hawkwing.probing import lists, silence
from hawkwing.probing.chosen import Chosen, blocks_of, list_of, probed_part, signed, towards
from hawkwing.probing.prober import Event, Prober
from hawkwing.probing.problems import Problem
from hawkwing.probing.run import Lane, Pace, Run
from hawkwing.sids import SidList

INTERVAL, WAIT = 0.2, 1.0
"""Seconds between two probes over a list, and seconds to wait for each."""
NO_ANSWER = Problem("no answer")
Answer = Mapping[str, Any]
Key = tuple[int, str, SidList]
"""A candidate: the process ID of its client, the destination's address, and the SIDs, there and back."""


def key_of(answer: Answer, binding: Answer, candidate: Answer) -> Key:
    """Identifies a candidate in two answers."""
    return answer["pid"], binding["address"], list_of(candidate)


def measure(answers: Sequence[Answer], count: int, size: int) -> dict[Key, dict[str, Any]]:
    """Sends `count` probes with a payload of `size` bytes over each candidate with SIDs; returns the results.

    Ctrl-C ends it with the results so far.
    """
    lanes: dict[tuple[IPv6Address, bytes], Lane] = {}
    probed: dict[Key, tuple[Chosen, Lane]] = {}
    told: dict[Key, dict[str, Any]] = {}
    for key, binding, blocks in _candidates(answers):
        try:
            chosen = _chosen(key, binding, blocks)
            srh = signed(lists.probe_srh(chosen.sids, blocks), chosen.source)
        except HawkwingError as error:
            told[key] = _told(Lane(b"", problem=Problem(str(error))))
            continue
        probed[key] = chosen, lanes.setdefault((chosen.source, srh), Lane(srh))
    if lanes:
        with closing(Probers([source for source, _srh in lanes], size)) as probers:
            Run(probers, list(lanes.values()), Pace(count, INTERVAL, WAIT)).run()
    for chosen, lane in probed.values():
        if lane.problem is None and lane.tally.sent and not lane.tally.received:
            why = silence.known(chosen)
            lane.problem = Problem(why[0]) if why else NO_ANSWER
    return told | {key: _told(lane) for key, (_chosen, lane) in probed.items()}


def _candidates(answers: Sequence[Answer]) -> Iterator[tuple[Key, Answer, tuple[Block, ...]]]:
    for answer in answers:
        for binding in answer["bindings"]:
            for candidate in binding["candidates"]:
                if candidate["sids"]:
                    yield key_of(answer, binding, candidate), binding, blocks_of(answer)


def _chosen(key: Key, binding: Answer, blocks: tuple[Block, ...]) -> Chosen:
    _pid, _address, sids = key
    probed = probed_part(binding, sids, blocks)
    destination = towards(binding, probed)
    source = source_to(destination)
    if source is None:
        raise HawkwingError(f"this host has no route and global address to {destination}")
    return Chosen(probed, source, "candidate", blocks=blocks)


def _told(lane: Lane) -> dict[str, Any]:
    problem = lane.problem.as_json() if lane.problem is not None else None
    return {**lane.tally.as_json(), "problem": problem}


class Probers:
    """Probers for all source addresses, used as one; `sources` has the source of each list, in order."""

    def __init__(self, sources: Sequence[IPv6Address], size: int) -> None:
        """HawkwingError if a source is not, or no longer, an address of this host."""
        self._by_source: dict[IPv6Address, Prober] = {}
        self._poll = select.poll()
        with ExitStack() as stack:
            for source in dict.fromkeys(sources):
                self._by_source[source] = prober = Prober(source, size)
                stack.callback(prober.close)
                self._poll.register(prober, select.POLLIN)
            self._closing = stack.pop_all()
        self._of_list = [self._by_source[source] for source in sources]

    def send(self, number: int, srh: bytes) -> None:
        """Sends a probe from the source of its list."""
        self._of_list[number % len(self._of_list)].send(number, srh)

    def events(self, seconds: float) -> Iterator[Event]:
        """The results of all probers within a number of seconds."""
        found = self._come()
        if not found:
            self._poll.poll(max(0, -(-seconds * 1000 // 1)))
            found = self._come()
        yield from found

    def _come(self) -> list[Event]:
        return [event for prober in self._by_source.values() for event in prober.events(0)]

    def close(self) -> None:
        """Closes all sockets."""
        self._closing.close()
