"""The mutation tests themselves: what is changed, which tests are asked, and what counts as noticed."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.mutants import __main__ as command
from tests.mutants import campaign, equivalent
from tests.mutants.campaign import Outcome
from tests.mutants.copies import PROJECT, Copy
from tests.mutants.edits import EDITS, Edit
from tests.mutants.operators import Mutant, changed, mutants, unchanged
from tests.mutants.selection import Reach


def after(text: str) -> list[str]:
    """What becomes of the changed statement, of each change."""
    return [mutant.after for mutant in mutants("x.py", text)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("x = a < b", ["x = a <= b"]),
        ("x = a in b", ["x = a not in b"]),
        ("x = a is not b", ["x = a is b"]),
        ("x = a and b", ["x = a or b"]),
        ("x = not a", ["x = a"]),
        ("x = a + b", ["x = a - b"]),
        ("x += b", ["x -= b"]),
        ("x = 5", ["x = 6"]),
        ("x = 0.5", ["x = 5.0"]),
        ("x = 0.0", ["x = 1.0"]),
        ("x = True", ["x = False"]),
        ("x = 'words'", ["x = 'XwordsX'"]),
        ("x = a.strip('-')", ["x = a.strip('\\x00')"]),
        ("x = f'{a} words'", ["x = f'{a}X wordsX'"]),
        ("x = min(a)", ["x = max(a)"]),
        ("x = a if b else c", ["x = a if not b else c"]),
        ("x = [a for a in b if c(a)]", ["x = [a for a in b if not c(a)]"]),
        ("if a:\n    b", ["if not a:"]),
        ("while a > b:\n    c", ["while a >= b:"]),
        ("def f():\n    return a", ["return None"]),
        ("def f(a=1):\n    return None", ["def f(a=2):"]),
        ("raise a", ["(left out)"]),
        ("f(a)", ["(left out)"]),
        ("x.y = a", ["(left out)"]),
        ("x.y[a] = b", ["(left out)"]),
        ("del x", ["(left out)"]),
        ("for a in b:\n    break", ["continue"]),
        ("for a in b:\n    continue", ["break"]),
        # Nothing that a test could see.
        ("'''What it is.'''", []),
        ("x: int | None = a", []),
        ("X = Callable[[int], A | B]", []),
        ("log.warning('words %s', 1 + 2)", []),
        ("assert a == 5", []),
        ("if TYPE_CHECKING:\n    x = 5", []),
        ("import a", []),
        ("__all__ = ['a', 'b']", []),
        ("@decorated(5)\ndef f(a: int = b) -> int: ...", []),
    ],
)
def test_what_is_changed(text: str, found: list[str]) -> None:
    assert after(text) == found


def test_each_change_of_a_file_is_one() -> None:
    file = "hawkwing/policies.py"
    text = (PROJECT / file).read_text()
    found = list(mutants(file, text))
    assert len(found) > 30 and [one.number for one in found] == list(range(len(found)))
    before = unchanged(text).splitlines()
    assert ast.dump(ast.parse(unchanged(text))) == ast.dump(ast.parse(text))
    for one in found:
        lines = changed(text, one.number).splitlines()
        assert sum(old != new for old, new in zip(before, lines, strict=True)) == 1
        assert one.line in one.lines


def test_what_runs_at_import_is_told_by_its_name() -> None:
    text = "LIMIT = 5\nclass A:\n    field: int = 6\n    def f(self, a=7):\n        b = 8\n"
    found = {one.before: (one.at_import, one.name) for one in mutants("x.py", text)}
    assert found == {
        "LIMIT = 5": (True, "LIMIT"),
        "field: int = 6": (True, "field"),
        "def f(self, a=7):": (False, ""),
        "b = 8": (False, ""),
    }


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.name)
def test_changes_by_name_still_apply(edit: Edit) -> None:
    text = edit.applied(PROJECT)
    assert text != (PROJECT / edit.file).read_text()
    if edit.file.endswith(".py"):
        ast.parse(text)
    for test in edit.tests:
        file, _, name = test.partition("::")
        assert f"\ndef {name}" in (PROJECT / file).read_text()


def test_names_are_told_apart() -> None:
    assert len({edit.name for edit in EDITS}) == len(EDITS)


def test_a_text_that_is_not_there_once_is_an_error() -> None:
    for old in ("no such text", "self"):
        with pytest.raises(ValueError, match="has the text to be changed"):
            Edit("x", "hawkwing/policies.py", old, "", ()).applied(PROJECT)


def test_what_makes_no_difference_is_still_there() -> None:
    for file in {file for file, _before, _after in equivalent.EQUIVALENT}:
        assert equivalent.outdated(mutants(file, (PROJECT / file).read_text())) == []
    assert all(equivalent.EQUIVALENT.values())


def mutant(**fields: Any) -> Mutant:
    """Some change."""
    given = {"file": "hawkwing/a.py", "number": 0, "line": 3, "before": "x = 1", "after": "x = 2"}
    return Mutant(**{**given, "lines": (3, 4), "at_import": False, "name": "", **fields})


@pytest.fixture
def reach() -> Reach:
    """Three tests: a slow one, a quick one, and one of another file."""
    found = Reach()
    tests = {"": {"a.py": [1, 2]}, "t.py::slow": {"a.py": [3]}, "t.py::quick": {"a.py": [4, 9]}}
    seconds = {"t.py::slow": 8.0, "t.py::quick": 0.1, "u.py::other": 1.0}
    found.add({"tests": tests, "seconds": seconds, "failed": ["u.py::broken"]})
    found.add({"tests": {"u.py::other": {"b.py": [3]}}, "seconds": {}, "failed": []})
    return found


def test_tests_that_run_the_line_are_asked_the_quick_ones_first(reach: Reach, tmp_path: Path) -> None:
    assert reach.tests_of(mutant(), tmp_path) == ["t.py::quick", "t.py::slow"]
    assert reach.tests_of(mutant(lines=(9,)), tmp_path) == ["t.py::quick"]
    assert reach.tests_of(mutant(lines=(7,)), tmp_path) == []
    # A function that is called while tests are imported.
    assert reach.tests_of(mutant(lines=(2,)), tmp_path) == ["t.py::quick", "t.py::slow"]
    # It may have no line of its own.
    assert reach.tests_of(mutant(lines=(10,)), tmp_path) == []
    assert reach.tests_of(mutant(lines=(10,), before="continue"), tmp_path) == ["t.py::quick"]
    # One at least; what takes too long is left out.
    assert reach.tests_of(mutant(), tmp_path, 5.0) == ["t.py::quick"]
    assert reach.tests_of(mutant(lines=(3,)), tmp_path, 5.0) == ["t.py::slow"]
    assert reach.failed == {"u.py::broken"}


def test_those_that_use_a_name_come_first_and_then_those_of_its_file(reach: Reach, tmp_path: Path) -> None:
    (tmp_path / "hawkwing").mkdir()
    (tmp_path / "hawkwing" / "a.py").write_text("LIMIT = 5\n")
    (tmp_path / "hawkwing" / "b.py").write_text("\n\nf(a.LIMIT)\n")
    limit = mutant(lines=(1,), at_import=True, name="LIMIT")
    assert reach.tests_of(limit, tmp_path) == ["u.py::other", "t.py::quick", "t.py::slow"]
    # A file of names alone.
    names = mutant(file="hawkwing/c.py", lines=(1,), at_import=True)
    assert reach.tests_of(names, tmp_path) == []
    reach.imported["hawkwing/c.py"] = {1: {"t.py::quick"}}
    assert reach.tests_of(names, tmp_path) == ["t.py::quick"]


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Copy]:
    """In a copy of the tree."""
    with campaign.copies(tmp_path_factory.mktemp("mutants"), 1) as (made,):
        yield made


FILE, TESTS = "hawkwing/policies.py", ["tests/unit/test_policies.py"]


def job(limit: float = 120.0, **more: Any) -> dict[str, Any]:
    """A run of some tests."""
    return {"kind": "test", "file": FILE, "tests": TESTS, "limit": limit, "memory": 0, **more}


def test_a_worker_changes_its_copy_and_nothing_else(worker: Copy) -> None:
    here = (PROJECT / FILE).read_text()
    there = worker.folder / FILE
    before = there.read_text(), there.stat().st_mtime_ns
    assert before[0] == here
    assert worker.do(job(number=None))["status"] == 0
    found = worker.do(job(text=here.replace("_GRACE = 1.0", "_GRACE = 0.5")))
    assert found["status"] == 1
    assert found["by"] == "tests/unit/test_policies.py::test_a_slot_rests_before_it_is_used_again"
    assert worker.do(job(number=None))["status"] == 0
    assert (there.read_text(), there.stat().st_mtime_ns) == before
    assert (PROJECT / FILE).read_text() == here


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("while True: pass", None),
        ("import os; os._exit(0)", 70),
        ("raise SystemExit(0)", "some"),
        ("this is no Python", "some"),
        ("import signal; signal.pause()", None),
    ],
)
def test_what_ends_a_test_run_counts_as_noticed(worker: Copy, text: str, status: object) -> None:
    found = worker.do(job(limit=3.0 if status is None else 60.0, text=text + "\n"))
    assert found["status"] == status or (status == "some" and found["status"] not in (0, None))
    assert worker.do(job(number=None))["status"] == 0


def test_what_each_test_runs_is_traced(worker: Copy) -> None:
    found = worker.do({"kind": "trace", "tests": TESTS[0], "limit": 120.0})
    assert found["status"] == 0 and not found["failed"]
    text = (PROJECT / FILE).read_text().splitlines()
    line = next(number for number, one in enumerate(text, 1) if "raise DataplaneError" in one)
    (test,) = [test for test, files in found["tests"].items() if line in files.get("policies.py", ())]
    assert test.endswith("::test_where_there_is_no_other_a_slot_does_not_rest")
    assert found["seconds"].keys() == found["tests"].keys() - {""}


ENDED = {"took": 1.0, "passed": 3, "skipped": "", "by": "", "in_setup": False}


def told(change: Mutant | Edit, found: dict[str, Any]) -> Outcome:
    """What is made of a worker's answer."""
    outcomes: list[Outcome] = []
    tell: Callable[[Outcome], None] = outcomes.append
    campaign._told(change, tell)({**ENDED, **found})
    return outcomes[0]


@pytest.mark.parametrize(
    ("found", "of_python", "by_name"),
    [
        ({"status": None}, "timeout", "timeout"),
        ({"status": 0}, "survived", "survived"),
        ({"status": 0, "passed": 0, "skipped": "no promtool"}, "skipped", "skipped"),
        ({"status": 1, "by": "t.py::test"}, "killed", "killed"),
        ({"status": 2}, "killed", "killed"),
        ({"status": 1, "by": "t.py::test", "in_setup": True}, "killed", "failed"),
        # Of Python it can't be imported any more; else such tests were not found.
        ({"status": 4}, "killed", "failed"),
        ({"status": 70}, "killed", "killed"),
    ],
)
def test_what_counts_as_noticed(found: dict[str, Any], of_python: str, by_name: str) -> None:
    assert told(mutant(), found).status == of_python
    assert told(EDITS[0], found).status == by_name


@pytest.mark.parametrize(
    ("statuses", "edit", "problems", "status"),
    [
        (["killed"] * 19 + ["survived"], "killed", [], 0),
        (["timeout"] * 18 + ["survived", "unreached"], "killed", [], 1),
        (["killed"] * 19 + ["survived"] + ["equivalent"] * 5, "skipped", [], 0),
        (["killed"] * 20, "survived", [], 1),
        (["killed"] * 20, "failed", [], 1),
        (["killed"] * 20, "killed", ["no such change any more: x"], 1),
    ],
)
def test_the_exit_status_is_the_goal(
    statuses: list[str], edit: str, problems: list[str], status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes = [Outcome(mutant(number=number), one) for number, one in enumerate(statuses)]
    assert command._report([*outcomes, Outcome(EDITS[0], edit)], problems, 5.0) == status
    out, err = capsys.readouterr()
    tried = sum(one != "equivalent" for one in statuses)
    survived = sum(one in ("survived", "unreached") for one in statuses)
    assert f"{tried} changes" in out and f"{survived} survived" in out
    assert ("1 not noticed" in out) == (edit in ("survived", "failed"))
    assert all(problem in err for problem in problems)


def test_parts_are_there() -> None:
    assert [part for part in command.PARTS if not (PROJECT / "hawkwing" / f"{part}.py").is_file()] == []


def test_what_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--list", "--only", "policies,questions", "--sample", "5"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert command.main(["--list", "--only", "policies,questions", "--sample", "5"]) == 0
    assert capsys.readouterr().out.splitlines() == lines
    assert command.main(["--list", "--kind", "edits"]) == 0
    assert capsys.readouterr().out.splitlines() == [edit.name for edit in EDITS]
    assert command.main(["--list", "--only", f"{EDITS[3].name}"]) == 0
    assert capsys.readouterr().out == f"{EDITS[3].name}\n"
    assert command.main(["--only", "nonsense"]) == 2
    assert capsys.readouterr().err == (
        "hawkwing test.mutants: --only: 'nonsense' is neither a part of the agent nor the name of a change\n"
    )
