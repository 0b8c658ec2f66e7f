"""A lab for a session of tests."""

from collections.abc import Iterator
from contextlib import contextmanager

from lab.network import Lab


@contextmanager
def running(lab: Lab) -> Iterator[Lab]:
    """Brings it up; afterwards nothing of it may be left."""
    lab.up()
    try:
        yield lab
    finally:
        lab.down()
        assert lab.remains() == []
