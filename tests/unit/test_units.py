"""Quantities of links as people write them."""

import pytest

from lab import units


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [
        ("80ms", 80000),
        ("500us", 500),
        ("500µs", 500),
        ("1s", 1_000_000),
        ("80000", 80000),
        ("1.5ms", 1500),
        ("0", 0),
        (" 80 ms ", 80000),
        ("0.000001s", 1),
    ],
)
def test_latency(text: str, microseconds: int) -> None:
    assert units.latency(text) == microseconds


@pytest.mark.parametrize(
    ("text", "kilobits"),
    [
        ("500kbit", 500),
        ("10Mbit", 10_000),
        ("10mbit", 10_000),
        ("10Mbit/s", 10_000),
        ("1Gbit", 1_000_000),
        ("2.5Gbit", 2_500_000),
        ("9000", 9000),
    ],
)
def test_bandwidth(text: str, kilobits: int) -> None:
    assert units.bandwidth(text) == kilobits


@pytest.mark.parametrize(("text", "percent"), [("5%", 5.0), ("5", 5.0), ("0.1%", 0.1), (" 5 % ", 5.0)])
def test_loss(text: str, percent: float) -> None:
    assert units.loss(text) == percent


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (units.latency, "80 parsecs"),
        (units.latency, "-1ms"),
        (units.latency, "²"),
        (units.latency, "８０ms"),
        (units.latency, "1_000"),
        (units.latency, "0.5us"),
        (units.latency, "3000s"),
        (units.latency, "ms"),
        (units.latency, ""),
        (units.latency, "10Mbit"),
        (units.bandwidth, "80ms"),
        (units.bandwidth, "1Tbit"),
        (units.bandwidth, "10MB"),
        (units.loss, "nan"),
        (units.loss, "1e1"),
        (units.loss, "5 percent"),
    ],
)
def test_anything_else_is_one_sentence(read: object, text: str) -> None:
    assert callable(read)
    with pytest.raises(ValueError) as raised:
        read(text)
    assert str(raised.value).startswith(f"{text!r} is not a ") and "\n" not in str(raised.value)
