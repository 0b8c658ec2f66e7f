"""Deadlines for slow machines."""

import pytest

from lab.wait import patient, wait_until


def test_a_slow_machine_gets_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HAWKWING_PATIENCE", raising=False)
    assert patient(5.0) == 5.0
    monkeypatch.setenv("HAWKWING_PATIENCE", "10")
    assert patient(5.0) == 50.0
    with pytest.raises(TimeoutError, match=r"timed out after 0\.2 s waiting for: a miracle"):
        wait_until(lambda: False, 0.02, "a miracle")


@pytest.mark.parametrize("text", ["", "long", "0.5", "-1", "nan"])
def test_what_is_no_factor_is_named(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("HAWKWING_PATIENCE", text)
    with pytest.raises(RuntimeError, match=f"HAWKWING_PATIENCE is '{text}', use a number of 1 or more"):
        patient(1.0)
