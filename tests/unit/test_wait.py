"""Deadlines for machines that are slow or busy."""

import time

import pytest

from lab.wait import patient, wait_until


@pytest.fixture(autouse=True)
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with two processors and nothing to do."""
    monkeypatch.delenv("HAWKWING_PATIENCE", raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda _process: {0, 1})
    load(monkeypatch, 0.0)


def load(monkeypatch: pytest.MonkeyPatch, average: float) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (average, 0.0, 0.0))


def test_a_slow_machine_gets_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert patient(5.0) == 5.0
    monkeypatch.setenv("HAWKWING_PATIENCE", "10")
    assert patient(5.0) == 50.0
    with pytest.raises(TimeoutError, match=r"timed out after 0\.2 s waiting for: a miracle"):
        wait_until(lambda: False, 0.02, "a miracle")


@pytest.mark.parametrize(("average", "seconds"), [(0.9, 5.0), (1.0, 5.0), (2.0, 10.0), (6.0, 30.0)])
def test_a_busy_machine_gets_more_time(
    average: float, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(monkeypatch, average)
    assert patient(5.0) == seconds
    monkeypatch.setenv("HAWKWING_PATIENCE", "10")
    assert patient(5.0) == 50.0, "the larger factor counts"


def test_a_machine_may_become_busy_while_something_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = time.monotonic()

    def late() -> bool:
        load(monkeypatch, 100.0)
        return time.monotonic() - begun > 0.1

    assert wait_until(late, 0.01, "what comes late")


@pytest.mark.parametrize("text", ["", "long", "0.5", "-1", "nan"])
def test_what_is_no_factor_is_named(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("HAWKWING_PATIENCE", text)
    with pytest.raises(RuntimeError, match=f"HAWKWING_PATIENCE is '{text}', use a number of 1 or more"):
        patient(1.0)
