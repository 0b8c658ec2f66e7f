"""Intents: their short form, their order, and what HawkEye refuses."""

from __future__ import annotations

import dataclasses

import pytest

from hawkwing.intents import Intent, IntentType, hawkeye_faults, hawkeye_refusals, order_problem

SFC, FLEX, LATENCY, JITTER = (
    IntentType.SFC,
    IntentType.FLEX_ALGO,
    IntentType.LOW_LATENCY,
    IntentType.LOW_JITTER,
)


def test_the_names_are_those_of_the_configuration() -> None:
    assert {kind.value for kind in IntentType} == {
        "high-bandwidth",
        "low-bandwidth",
        "low-latency",
        "low-packet-loss",
        "low-jitter",
        "flex-algo",
        "sfc",
        "low-utilization",
    }


@pytest.mark.parametrize(
    ("intent", "text"),
    [
        (Intent(LATENCY, max_value=20), "low-latency(max 20)"),
        (Intent(IntentType.LOW_BANDWIDTH, 1, 2), "low-bandwidth(min 1, max 2)"),
        (Intent(SFC, functions=("fw", "ids")), "sfc(fw, ids)"),
        (Intent(FLEX, flex_algo_number=128), "flex-algo(128)"),
        (Intent(IntentType.LOW_UTILIZATION), "low-utilization"),
    ],
)
def test_short_form(intent: Intent, text: str) -> None:
    assert str(intent) == text


def test_an_intent_is_a_value() -> None:
    assert {Intent(LATENCY, max_value=1), Intent(LATENCY, max_value=1)} == {Intent(LATENCY, max_value=1)}
    with pytest.raises(dataclasses.FrozenInstanceError):
        Intent(LATENCY).max_value = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    "types",
    [[], [SFC], [FLEX], [LATENCY, JITTER], [SFC, FLEX, LATENCY], [FLEX, JITTER], [None, FLEX], [SFC, None]],
)
def test_good_orders(types: list[IntentType | None]) -> None:
    assert order_problem(types) is None


@pytest.mark.parametrize(
    ("types", "culprit"),
    [
        ([LATENCY, SFC], "sfc"),
        ([FLEX, SFC], "sfc"),
        ([SFC, SFC], "sfc"),
        ([None, SFC], "sfc"),
        ([LATENCY, FLEX], "flex-algo"),
        ([FLEX, FLEX], "flex-algo"),
        ([SFC, LATENCY, FLEX], "flex-algo"),
    ],
)
def test_bad_orders(types: list[IntentType | None], culprit: str) -> None:
    assert str(order_problem(types)).startswith(culprit)


def test_hawkeye_takes_what_it_takes() -> None:
    assert not hawkeye_refusals(
        [
            Intent(SFC, functions=("fw", "ids")),
            Intent(FLEX, flex_algo_number=128),
            Intent(LATENCY, max_value=1),
            Intent(JITTER, max_value=1),
            Intent(IntentType.LOW_PACKET_LOSS, max_value=1),
            Intent(IntentType.HIGH_BANDWIDTH, min_value=1),
            Intent(IntentType.LOW_UTILIZATION),
        ]
    )


@pytest.mark.parametrize(
    ("intents", "sentences"),
    [
        ([], ["HawkEye refuses a request without intents"]),
        ([Intent(LATENCY)] * 2, ["HawkEye refuses more than one low-latency intent in a request"]),
        (
            [Intent(FLEX, flex_algo_number=127)],
            ["HawkEye refuses flex_algo_number 127, it takes 128 to 255"],
        ),
        (
            [Intent(FLEX, flex_algo_number=256)],
            ["HawkEye refuses flex_algo_number 256, it takes 128 to 255"],
        ),
        ([Intent(FLEX)], ["HawkEye refuses flex-algo without a flex_algo_number"]),
        ([Intent(SFC)], ["HawkEye refuses sfc without functions"]),
        (
            [Intent(SFC, functions=("fw", "ids", "fw"))],
            ["HawkEye refuses sfc with the function fw more than once"],
        ),
        (
            [Intent(LATENCY, min_value=1)],
            ["HawkEye refuses min_value on low-latency, it takes it only on high-bandwidth"],
        ),
        (
            [Intent(IntentType.LOW_UTILIZATION, max_value=1)],
            [
                "HawkEye refuses max_value on low-utilization, "
                "it takes it only on low-latency, low-jitter, low-packet-loss"
            ],
        ),
        (
            [Intent(LATENCY, max_value=0)],
            ["HawkEye refuses max_value 0 on low-latency, it takes 1 and more"],
        ),
    ],
)
def test_refusals(intents: list[Intent], sentences: list[str]) -> None:
    assert hawkeye_refusals(intents) == sentences


HIGH, LOW, UTILIZATION = IntentType.HIGH_BANDWIDTH, IntentType.LOW_BANDWIDTH, IntentType.LOW_UTILIZATION
LOSS = IntentType.LOW_PACKET_LOSS
CHAIN, ALGORITHM = Intent(SFC, functions=("fw",)), Intent(FLEX, flex_algo_number=128)


@pytest.mark.parametrize(
    ("intents", "sentences"),
    [
        ([CHAIN, ALGORITHM], ["HawkEye 1.0.1 crashes on sfc and flex-algo without a third intent"]),
        (
            [ALGORITHM, Intent(HIGH)],
            [
                "HawkEye 1.0.1 crashes on flex-algo with high-bandwidth alone, "
                "if a router outside the algorithm is next to one in it"
            ],
        ),
        (
            [CHAIN, Intent(LATENCY, max_value=20)],
            ["HawkEye 1.0.1 ignores max_value on low-latency, unless another intent with a metric follows"],
        ),
        (
            [Intent(LATENCY), Intent(LOW)],
            ["HawkEye 1.0.1 ignores low-bandwidth next to another intent with a metric"],
        ),
        (
            [Intent(HIGH), Intent(UTILIZATION)],
            [
                "HawkEye 1.0.1 ignores low-utilization next to another intent with a metric",
                "HawkEye 1.0.1 prefers narrow links for high-bandwidth next to another intent with a metric",
            ],
        ),
        (
            [Intent(LATENCY), Intent(JITTER), Intent(LOSS), Intent(LOW)],
            [
                "HawkEye 1.0.1 ignores low-bandwidth next to another intent with a metric",
                "HawkEye 1.0.1 takes only low-latency into account, as there are more than three metrics",
            ],
        ),
        ([Intent(LATENCY), Intent(JITTER), Intent(LOSS)], []),
        ([Intent(LATENCY)], []),
        ([Intent(HIGH, min_value=5)], []),
        ([Intent(LATENCY, max_value=20), Intent(JITTER)], []),
        ([CHAIN, ALGORITHM, Intent(LATENCY)], []),
        ([ALGORITHM], []),
    ],
)
def test_what_goes_wrong_in_1_0_1(intents: list[Intent], sentences: list[str]) -> None:
    assert hawkeye_faults(intents) == sentences
