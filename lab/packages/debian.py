"""`./run deb`: a Debian package for each distribution, built and checked with its own tools."""

from __future__ import annotations

import email.utils
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hawkwing import __version__
from lab.distributions.catalogue import Distribution, named
from lab.distributions.chroot import Chroot
from lab.distributions.roots import Roots, last_error
from lab.distributions.shared import claimed_cache
from lab.network import PROJECT, LabError
from lab.packages.image import CACHE, source_time

USUAL = ("debian12", "debian13", "ubuntu2204", "ubuntu2404")
_AUTHORS = "The HawkWing authors <hawkv6@users.noreply.github.com>"
_SOURCE = Path("build/hawkwing")
#: The source files of a package.
_PARTS = (
    *("LICENSE", "README.md", "SECURITY.md", "CHANGELOG.md", "CONTRIBUTING.md", "bpf", "constraints.txt"),
    *("debian", "deploy", "docs", "hawkwing", "packaging", "pyproject.toml"),
)
_TOOLS = "apt-get -q update && apt-get -q -y --no-install-recommends install build-essential lintian"
_BUILD = """
set -e
apt-get -q -y --no-install-recommends build-dep ./
dpkg-buildpackage --build=binary --no-sign
"""
_LINTIAN = "lintian --fail-on=error,warning --allow-root --tag-display-limit 0 ../*.changes"

_STEPS = (
    ("tools", "install the tools", _TOOLS),
    ("build", "build the package", _BUILD),
    ("lintian", "pass lintian", _LINTIAN),
)


@dataclass(frozen=True)
class Options:
    """Options of the command line; None if not given."""

    only: str | None = None
    output: Path = Path("dist")
    revision: str | None = None
    cache: Path = CACHE
    mirrors: Mapping[str, str | None] = field(default_factory=dict)


def run(options: Options) -> int:
    """Builds a package for each distribution and prints their paths; the exit status."""
    if options.revision is not None and not re.fullmatch("[0-9]{1,9}", options.revision):
        raise LabError(f"{options.revision!r} is not a revision, use a number")
    names = options.only.split(",") if options.only else USUAL
    distributions = [named(name.strip()) for name in names]
    for distribution in distributions:
        print(f"{distribution.name}: {build(distribution, options)}", flush=True)
    return 0


def version_for(distribution: Distribution, revision: str | None = None) -> str:
    """The package version of a release: each release has its own Python, and therefore its own package."""
    family, name = distribution.family, distribution.name
    number = name.removeprefix(family)
    word = f"deb{number}" if family == "debian" else f"ubuntu{number[:2]}.{number[2:]}"
    return f"{__version__}+{word}{f'+{revision}' if revision else ''}"


def changelog(distribution: Distribution, seconds: int, revision: str | None = None) -> str:
    """The package's changelog, with its newest entry only."""
    date = email.utils.formatdate(seconds)
    head = f"hawkwing ({version_for(distribution, revision)}) {distribution.suite}; urgency=medium"
    return f"{head}\n\n  * See CHANGELOG.md.\n\n -- {_AUTHORS}  {date}\n"


def build(distribution: Distribution, options: Options) -> Path:
    """Builds a package; returns its file. LabError with the reason, or with lintian's findings."""
    options.output.mkdir(parents=True, exist_ok=True)
    with (
        claimed_cache(options.cache),
        tempfile.TemporaryDirectory(dir=options.cache, prefix="work-") as work,
    ):
        chroot = Roots(options.cache, options.mirrors, fresh=False).unpack(distribution, Path(work) / "root")
        source = chroot.root / _SOURCE
        copy_source(source)
        entry = changelog(distribution, source_time(), options.revision)
        (source / "debian/changelog").write_text(entry)
        for name, what, script in _STEPS:
            _do(chroot, script, what, options.output / f"{distribution.name}-{name}.log")
        (built,) = source.parent.glob("hawkwing_*.deb")
        package = options.output / built.name
        shutil.copyfile(built, package)
        return package


def copy_source(folder: Path) -> None:
    """Copies the source files of a package."""
    folder.mkdir(parents=True)
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in _PARTS:
        part = PROJECT / name
        if part.is_dir():
            shutil.copytree(part, folder / name, ignore=ignored)
        else:
            shutil.copy2(part, folder / name)


def _do(chroot: Chroot, script: str, what: str, log: Path) -> None:
    if chroot.run(["sh", "-c", script], log, folder=f"/{_SOURCE}"):
        raise LabError(f"can't {what}: {_reason(log)}; log: {log}")


def _reason(log: Path) -> str:
    """Lintian's findings, or the first error."""
    lines = log.read_text(errors="replace").splitlines()
    found = [line for line in lines if re.match(r"[EW]: hawkwing", line)]
    return "; ".join(found) if found else last_error(log)
