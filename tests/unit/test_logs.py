"""The same line is not written again and again."""

from __future__ import annotations

import io
import logging

import pytest

from hawkwing.logs import Prefixed, Repetitions


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def log_to(clock: Clock) -> tuple[logging.Logger, io.StringIO]:
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(Prefixed())
    handler.addFilter(Repetitions(clock))
    logger = logging.Logger("test")
    logger.addHandler(handler)
    return logger, text


def test_three_times_a_minute_and_then_how_often(clock: Clock) -> None:
    logger, text = log_to(clock)
    for _ in range(10):
        clock.now += 5
        logger.warning("can't write %s", "/run/x")
    line = "hawkwing: warning: can't write /run/x"
    assert text.getvalue().splitlines() == [line] * 3
    clock.now += 60
    logger.warning("can't write %s", "/run/x")
    assert text.getvalue().splitlines()[3:] == [f"{line} (7 more like this in between)"]
    clock.now += 60
    logger.warning("can't write %s", "/run/x")
    assert text.getvalue().splitlines()[4:] == [line]


def test_other_lines_are_not_left_out(clock: Clock) -> None:
    logger, text = log_to(clock)
    for number in range(100):
        logger.info("name %d", number)
        logger.error("name %d", number)
    assert len(text.getvalue().splitlines()) == 200


def test_what_is_remembered_is_limited(clock: Clock) -> None:
    logger, _text = log_to(clock)
    for number in range(3000):
        logger.info("name %d", number)
    (filter_,) = logger.handlers[0].filters
    assert isinstance(filter_, Repetitions)
    assert len(filter_._seen) == 1000
