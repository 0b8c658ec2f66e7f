"""Whether servers use the ways back that packets tell: sentences, check, metrics and probes."""

import pytest

from hawkwing.ways_back import Use

UNUSED = "11 packets have told the way back, but no reply has used it"


@pytest.mark.parametrize(
    ("use", "sent", "problem", "state"),
    [
        (Use(0, 0), 10, "", "no packet has told it yet"),
        (Use(0, 0), 11, "no packet has told the way back: with it they are larger than the MTU", ""),
        (Use(10, 0, 5.0), 100, "", "no reply has used it yet"),
        (Use(11, 0, 5.0), 100, f"{UNUSED}: the server has no agent", ""),
        (Use(11, 1, 5.0, 5.1), 100, "", "replies use it"),
        (Use(11, 1, 15.0, 5.0), 100, "", "replies use it"),
        (Use(11, 1, 15.1, 5.0), 100, f"{UNUSED} since: the server has no agent", ""),
        (Use(5, 1, 15.1, 5.0), 100, "", "replies use it"),
    ],
)
def test_sentences(use: Use, sent: int, problem: str, state: str) -> None:
    found = use.problem(sent)
    assert found.startswith(problem) and bool(found) is bool(problem)
    assert use.state(sent) == (state or found)
