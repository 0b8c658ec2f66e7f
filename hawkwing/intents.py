"""The intents of an application, and which requests the HawkEye controller refuses.

Values are in HawkEye's units: latency and jitter in microseconds, loss in percent, bandwidth in kbit/s.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address


class IntentType(enum.Enum):
    """The types of intent; the value is the name in a configuration file."""

    HIGH_BANDWIDTH = "high-bandwidth"
    LOW_BANDWIDTH = "low-bandwidth"
    LOW_LATENCY = "low-latency"
    LOW_PACKET_LOSS = "low-packet-loss"
    LOW_JITTER = "low-jitter"
    FLEX_ALGO = "flex-algo"
    SFC = "sfc"
    LOW_UTILIZATION = "low-utilization"


#: What HawkEye 1.0 accepts; the agent accepts more.
HAWKEYE_FLEX_ALGO_NUMBERS = range(128, 256)
HAWKEYE_MIN_VALUE = (IntentType.HIGH_BANDWIDTH,)
HAWKEYE_MAX_VALUE = (IntentType.LOW_LATENCY, IntentType.LOW_JITTER, IntentType.LOW_PACKET_LOSS)


@dataclass(frozen=True)
class Intent:
    """One requirement for a path; `functions` are for sfc, `flex_algo_number` is for flex-algo."""

    type: IntentType
    min_value: int | None = None
    max_value: int | None = None
    functions: tuple[str, ...] = ()
    flex_algo_number: int | None = None

    def __str__(self) -> str:
        details = list(self.functions)
        if self.flex_algo_number is not None:
            details.append(str(self.flex_algo_number))
        if self.min_value is not None:
            details.append(f"min {self.min_value}")
        if self.max_value is not None:
            details.append(f"max {self.max_value}")
        return f"{self.type.value}({', '.join(details)})" if details else self.type.value


def order_problem(types: Sequence[IntentType | None]) -> str | None:
    """A sentence if the order of these intents is wrong, or None; an unknown type is None in `types`."""
    for index, kind in enumerate(types):
        if kind is IntentType.SFC and index > 0:
            return "sfc must be the first intent of its list"
        after_sfc = index == 1 and types[0] in (IntentType.SFC, None)
        if kind is IntentType.FLEX_ALGO and index > 0 and not after_sfc:
            return "flex-algo must be the first intent of its list, or the second after sfc"
    return None


def hawkeye_refusals(intents: Sequence[Intent]) -> list[str]:
    """All reasons why HawkEye refuses a request with these intents, one sentence each."""
    if not intents:
        return ["HawkEye refuses a request without intents"]
    types = [intent.type for intent in intents]
    found = [
        f"HawkEye refuses more than one {kind.value} intent in a request"
        for kind in dict.fromkeys(types)
        if types.count(kind) > 1
    ]
    for intent in intents:
        found.extend(_refusals_of_one(intent))
    return list(dict.fromkeys(found))


def _refusals_of_one(intent: Intent) -> Iterator[str]:
    name = intent.type.value
    if intent.type is IntentType.FLEX_ALGO:
        if intent.flex_algo_number is None:
            yield "HawkEye refuses flex-algo without a flex_algo_number"
        elif intent.flex_algo_number not in HAWKEYE_FLEX_ALGO_NUMBERS:
            yield f"HawkEye refuses flex_algo_number {intent.flex_algo_number}, it takes 128 to 255"
    if intent.type is IntentType.SFC:
        if not intent.functions:
            yield "HawkEye refuses sfc without functions"
        for function in dict.fromkeys(intent.functions):
            if intent.functions.count(function) > 1:
                yield f"HawkEye refuses sfc with the function {function} more than once"
    for key, value, takers in (
        ("min_value", intent.min_value, HAWKEYE_MIN_VALUE),
        ("max_value", intent.max_value, HAWKEYE_MAX_VALUE),
    ):
        if value is None:
            continue
        if intent.type not in takers:
            allowed = ", ".join(kind.value for kind in takers)
            yield f"HawkEye refuses {key} on {name}, it takes it only on {allowed}"
        if value < 1:
            yield f"HawkEye refuses {key} {value} on {name}, it takes 1 and more"


def hawkeye_faults(intents: Sequence[Intent]) -> list[str]:
    """The faults of HawkEye 1.0.1 with an accepted request, one sentence each."""
    structure = (IntentType.SFC, IntentType.FLEX_ALGO)
    kinds = {intent.type for intent in intents}
    metrics = [intent for intent in intents if intent.type not in structure]
    found = []
    if not metrics and kinds.issuperset(structure):
        found.append("HawkEye 1.0.1 crashes on sfc and flex-algo without a third intent")
    if len(metrics) == 1:
        only = metrics[0]
        if only.type is IntentType.HIGH_BANDWIDTH and IntentType.FLEX_ALGO in kinds:
            found.append(
                "HawkEye 1.0.1 crashes on flex-algo with high-bandwidth alone, "
                "if a router outside the algorithm is next to one in it"
            )
        if only.type in HAWKEYE_MAX_VALUE and only.max_value is not None:
            found.append(
                f"HawkEye 1.0.1 ignores max_value on {only.type.value}, "
                "unless another intent with a metric follows"
            )
    if len(metrics) > 1:
        found.extend(_faults_of_combination([intent.type for intent in metrics]))
    return found


def _faults_of_combination(kinds: Sequence[IntentType]) -> Iterator[str]:
    for kind in (IntentType.LOW_BANDWIDTH, IntentType.LOW_UTILIZATION):
        if kind in kinds:
            yield f"HawkEye 1.0.1 ignores {kind.value} next to another intent with a metric"
    if IntentType.HIGH_BANDWIDTH in kinds:
        yield "HawkEye 1.0.1 prefers narrow links for high-bandwidth next to another intent with a metric"
    if len(kinds) > 3:
        yield f"HawkEye 1.0.1 takes only {kinds[0].value} into account, as there are more than three metrics"


@dataclass(frozen=True)
class PathQuery:
    """A request for one path; HawkEye weights the intents by their order."""

    source: IPv6Address
    destination: IPv6Address
    intents: tuple[Intent, ...]

    def __str__(self) -> str:
        return f"{self.source} -> {self.destination} ({', '.join(map(str, self.intents))})"
