"""What `./run deb` writes into a package: versions that upgrade, a changelog, and its parts."""

from __future__ import annotations

import re
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from hawkwing import __version__
from lab.distributions.catalogue import named
from lab.errors import LabError
from lab.packages import debian

PROJECT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("debian12", "+deb12"),
        ("debian13", "+deb13"),
        ("ubuntu2204", "+ubuntu22.04"),
        ("ubuntu2404", "+ubuntu24.04"),
    ],
)
def test_each_release_has_its_version(name: str, ending: str) -> None:
    assert debian.version_for(named(name)) == f"{__version__}{ending}"


@pytest.mark.skipif(not shutil.which("dpkg"), reason="no dpkg")
@pytest.mark.parametrize("family", ["debian", "ubuntu"])
def test_a_newer_release_has_a_higher_version(family: str) -> None:
    names = [name for name in debian.USUAL if name.startswith(family)]
    for older, newer in pairwise(debian.version_for(named(name)) for name in names):
        subprocess.run(["dpkg", "--compare-versions", newer, "gt", older], check=True)


def test_documents_install_the_package_of_one_distribution() -> None:
    """`./run deb` builds several into one folder: apt would refuse them all."""
    found = []
    for file in (PROJECT / "README.md", *(PROJECT / "docs").glob("*.md")):
        found += re.findall(r"apt install (\S+\.deb)", file.read_text())
    assert found
    for pattern in found:
        built = [f"./dist/hawkwing_{debian.version_for(named(name))}_amd64.deb" for name in debian.USUAL]
        assert len([name for name in built if Path(name).match(pattern)]) == 1, pattern


def test_a_revision_is_newer_and_older_than_the_next_releases() -> None:
    first, second = (debian.version_for(named("debian12"), revision) for revision in (None, "2"))
    versions = [
        first,
        second,
        debian.version_for(named("debian12"), "10"),
        debian.version_for(named("debian13")),
    ]
    for older, newer in pairwise(versions):
        assert subprocess.run(["dpkg", "--compare-versions", older, "lt", newer]).returncode == 0
    assert f"({second})" in debian.changelog(named("debian12"), 0, "2")
    with pytest.raises(LabError, match="'2a' is not a revision, use a number"):
        debian.run(debian.Options(revision="2a"))


def test_the_changelog_is_debians() -> None:
    text = debian.changelog(named("debian13"), 1_700_000_000)
    first, *_, last = text.splitlines()
    assert first == f"hawkwing ({__version__}+deb13) trixie; urgency=medium"
    assert re.fullmatch(r" -- .+ <\S+@\S+>  Tue, 14 Nov 2023 22:13:20 [+-]0000", last)
    assert (PROJECT / "debian/changelog").read_text().startswith(f"hawkwing ({__version__}) ")


def test_a_package_is_built_from_what_there_is(tmp_path: Path) -> None:
    debian.copy_source(tmp_path / "source")
    rules = (tmp_path / "source/debian/rules").read_text()
    named_files = re.findall(r"(?:packaging|docs)/[\w./-]+|(?<=\s)[A-Z]+\.md", rules)
    assert len(named_files) > 8
    for name in named_files:
        assert (tmp_path / "source" / name).exists() or name.endswith("hawkwing-"), name
    assert not list((tmp_path / "source").rglob("__pycache__"))
