"""docs/reasons.md is current and complete, and says where each reason is counted as the tests of it do."""

from __future__ import annotations

import re
from pathlib import Path

from hawkwing.dataplane.layout import reasons
from lab.packages import reasons as document
from tests.dataplane.test_reasons import EXPECTED

DOCS = Path(__file__).parents[2] / "docs"
ROLES = {"client", "server"}
#: Possible on ingress, too, where no test can take the kernel's memory.
NOT_PROVOKED = {("client", "ingress", "NO_ROOM"), ("server", "ingress", "NO_ROOM")}


def test_the_file_is_current() -> None:
    assert document.FILE.read_text() == document.text(), "run python -m lab.packages.texts"


def test_each_reason_has_one_row_under_its_kind() -> None:
    sections = re.split(r"^## (\w+)$", document.FILE.read_text(), flags=re.MULTILINE)[1:]
    found = [
        (kind, name)
        for kind, body in zip(sections[::2], sections[1::2], strict=True)
        for name in re.findall(r"^\| `(\w+)` \|", body, re.MULTILINE)
    ]
    assert sorted(found) == sorted((reason.kind, reason.name) for reason in reasons())
    assert document.ADVICE.keys() == {reason.name for reason in reasons()}


def test_rows_have_the_text_of_the_sources_and_advice() -> None:
    page = document.FILE.read_text()
    for reason in reasons():
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{reason.name}` |")]
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert cells[2] == reason.text
        assert cells[3].endswith(".")


def test_reasons_are_counted_where_it_says() -> None:
    told = set()
    for name, advice in document.ADVICE.items():
        for place in advice.where.split(", "):
            direction, _, of_one = place.partition(" ")
            role = of_one.strip("()") or advice.role
            told |= {(one, direction, name) for one in ([role] if role else ROLES)}
    assert told == EXPECTED | NOT_PROVOKED
