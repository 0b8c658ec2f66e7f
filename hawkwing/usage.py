"""The paths of a binding's flows, by the rules of the data plane, and why other paths are not in use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Literal, NamedTuple

from hawkwing.dataplane.plane import UNKNOWN, Health
from hawkwing.queries import Binding
from hawkwing.selections import MAX_CANDIDATES, PREFERENCE, Candidate
from hawkwing.sids import SidList
from hawkwing.steering import Steering


class Use(NamedTuple):
    """A path of a binding: its share of the flows, and its state as a sentence."""

    candidate: Candidate
    origin: Literal["controller", "backup"]
    share: float
    state: str
    slot: int | None
    health: Health


def chosen(
    buckets: Mapping[int, SidList], candidates: Sequence[SidList], active: int, dead: Collection[SidList]
) -> Counter[SidList]:
    """The number of buckets per list, if some are dead: the rule of bpf/health.h."""
    found: Counter[SidList] = Counter()
    for bucket, sids in buckets.items():
        turned = [candidates[(bucket + number) % active] for number in range(active)]
        living = (one for one in (sids, *turned, *candidates[active:]) if one not in dead)
        found[next(living, sids)] += 1
    return found


def of_binding(steering: Steering, binding: Binding) -> list[Use]:
    """All possible paths, except a missing one of the controller; the preferred ones first."""
    listed: list[tuple[Candidate, Literal["controller", "backup"]]] = []
    if binding.controller_path:
        listed.append((Candidate(binding.controller_path, preference=1 << 32), "controller"))
    ordered = sorted(binding.application.candidates, key=lambda one: -one.preference)
    listed += [(one, "backup") for one in ordered if one.sids != binding.controller_path]
    several = bool(steering.buckets_of(binding))
    health = {one.sids: steering.health_of(one.sids) if several else UNKNOWN for one, _origin in listed}
    dead = {sids for sids, known in health.items() if known.state == "dead"}
    shares = _shares(steering, binding, dead)

    def use(one: Candidate, origin: Literal["controller", "backup"]) -> Use:
        share = shares.get(one.sids, 0.0)
        state = _state(steering, binding, one, origin, share, one.sids in dead)
        return Use(one, origin, share, state, steering.slot_of_path(one.sids), health[one.sids])

    return [use(one, origin) for one, origin in listed]


def _shares(steering: Steering, binding: Binding, dead: Collection[SidList]) -> dict[SidList, float]:
    lists = [sids for sids, _weight in binding.shares]
    if not lists:
        return {}
    buckets = steering.buckets_of(binding)
    if not buckets:
        return {lists[0]: 1.0}
    # From lists as in packets to lists as configured.
    named = {steering.packed(sids): sids for sids in (*lists, *binding.standby)}
    candidates = list(named.values())[:MAX_CANDIDATES]
    counts = chosen(
        {bucket: named.get(sids, sids) for bucket, sids in enumerate(buckets)}, candidates, len(lists), dead
    )
    return {sids: count / len(buckets) for sids, count in counts.items()}


def _state(
    steering: Steering, binding: Binding, one: Candidate, origin: str, share: float, is_dead: bool
) -> str:
    if share:
        if is_dead:
            return "in use, but no probe returns: no other path is better"
        why = steering.why_not_probed(steering.packed(one.sids))
        return f"in use, but not probed: {why}" if why else "in use"
    if is_dead:
        return "no probe returns"
    if why := steering.measured.why_left(binding.application, one.sids):
        return why
    if binding.origin == "controller" and origin == "backup":
        return "backup"
    if not steering.reachable(one.sids):
        return "no route to its first SID"
    preferred = max((used.preference for used in binding.configured), default=one.preference)
    return "lower preference" if one.preference < preferred else "another path fits the intents better"


def most_used(uses: Sequence[Use]) -> Use:
    """The path with most flows; there is at least one."""
    return max(uses, key=lambda use: use.share)


def is_plain(uses: Sequence[Use]) -> bool:
    """Whether there is nothing to show about shares, preferences and probes."""
    configured = [use.candidate for use in uses if use.origin == "backup"]
    probed = any(use.health.state != "unknown" for use in uses)
    return not probed and len(configured) < 2 and all(one.preference == PREFERENCE for one in configured)
