"""The judgement of `test.soak`: what is flat passes, what leaks does not."""

import os
import subprocess
import sys

import pytest

from tests.soak import BOUNDS, Sample, faults, measure, rises

FLAT = Sample(memory=40_000, maps=5_000, descriptors=30, threads=2, tasks=12)


def test_what_swings_is_flat() -> None:
    samples = [FLAT._replace(memory=40_000 + 700 * (number % 2)) for number in range(60)]
    assert faults("client", samples) == []
    # One that was just being connected to.
    samples[-1] = FLAT._replace(descriptors=40)
    assert faults("client", samples) == []


@pytest.mark.parametrize("name", Sample._fields)
def test_what_rises_is_told(name: str) -> None:
    bound = getattr(BOUNDS, name)
    step = (bound + 1) / 20
    samples = [FLAT._replace(**{name: int(getattr(FLAT, name) + step * number)}) for number in range(60)]
    (told,) = faults("client", samples)
    assert told.startswith(f"client: {name} rose by") and told.endswith(f"at most {bound} are allowed")
    assert getattr(rises(samples), name) > bound


def test_a_process_is_measured() -> None:
    """One of its own: this one may still have maps of other tests."""
    with subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdin is not None and child.stdout is not None
        child.stdout.readline()
        found = measure(child.pid, 0)
        child.stdin.write(b"\n")
    assert found.memory > 1_000 and found.threads == 1 and found.maps == 0 and found.descriptors >= 3
    before = measure(os.getpid(), 0)
    pipe = os.pipe()
    try:
        assert measure(os.getpid(), 0).descriptors == before.descriptors + 2
    finally:
        for end in pipe:
            os.close(end)
