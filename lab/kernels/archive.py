"""Kernels from Debian's and Ubuntu's archives: packages are unpacked into a cache, not installed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.distributions import apt
from lab.distributions.roots import RootError, Roots, last_error
from lab.doctor import OLDEST_KERNEL
from lab.network import LabError

NEWEST = "newest"
_SUITES = {
    "debian": ("bullseye", "bookworm", "trixie", "trixie-backports", "sid"),
    "ubuntu": ("jammy", "jammy-updates", "noble", "noble-updates"),
}
_SECURITY_SUITES = ("bullseye-security", "bookworm-security", "trixie-security")
_IMAGE = re.compile(r"linux-image-(\d+\.\d+\.\d+(?:[-+](?:\d|deb)[\w.]*)?-(?:amd64|generic))")
_PARTS = ("image", "binary", "modules", "modules-extra")
_CONFIGURATION = """\
Dir::Etc::SourceList "{folder}/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
Dir::State::Lists "{folder}/lists";
Dir::Cache "{folder}/cache";
APT::Sandbox::User "root";
APT::Architecture "amd64";
APT::Architectures {{ "amd64"; }};
Acquire::Languages "none";
"""


class KernelError(LabError):
    """A kernel can't be downloaded or started; the text says why."""


@dataclass(frozen=True)
class Kernel:
    """An unpacked kernel; `name` is the requested name."""

    name: str
    release: str
    folder: Path

    @property
    def image(self) -> Path:
        """The kernel image."""
        return self.folder / "vmlinuz"

    @property
    def modules(self) -> Path:
        """The folder for /lib/modules in the guest."""
        return self.folder / "lib" / "modules"

    @property
    def too_old(self) -> bool:
        """Whether HawkWing refuses to run on it."""
        return numbers(self.release)[:2] < OLDEST_KERNEL


def numbers(release: str) -> tuple[int, ...]:
    """Sort key of a release."""
    return tuple(int(number) for number in re.findall(r"\d+", release.removesuffix("-amd64")))


def newest(releases: Iterable[str], name: str) -> str | None:
    """The newest release that begins with `name`: 6.12 does not begin with 6.1."""
    begins = re.compile(r"" if name == NEWEST else rf"{re.escape(name)}(?!\d)")
    return max((release for release in releases if begins.match(release)), key=numbers, default=None)


def releases_in(packages: Iterable[str]) -> list[str]:
    """Releases of standard kernels in a list of packages; not of cloud or real-time kernels."""
    matches = (_IMAGE.fullmatch(name) for name in packages)
    return [match[1] for match in matches if match]


class Archive:
    """Downloads kernels into `cache`, where they stay until a refresh."""

    def __init__(self, cache: Path, roots: Roots, fresh: bool) -> None:
        self._cache = cache
        self._roots = roots
        self._fresh = fresh
        self._apt = cache / "apt"
        self._log = cache / "archive.log"
        self._record = cache / "kernels.json"
        self._known: set[str] = set()
        self._unknown: list[str] = []  # why an archive was not searched

    def kernel(self, name: str) -> Kernel:
        """The newest kernel whose release begins with `name`; KernelError if there is none."""
        had = self._had().get(name)
        if had and not self._fresh:
            kernel = Kernel(name, had, self._cache / had)
            if kernel.image.exists():
                return kernel
        release = newest(releases_in(self._packages()), name)
        if release is None:
            raise KernelError(". ".join([f"there is no kernel {name} in the archives", *self._unknown]))
        kernel = Kernel(name, release, self._cache / release)
        if not kernel.image.exists():
            self._unpack(kernel)
        self._record.write_text(json.dumps(self._had() | {name: release}, indent=1))
        return kernel

    def _had(self) -> dict[str, str]:
        return dict(json.loads(self._record.read_text())) if self._record.exists() else {}

    def _packages(self) -> set[str]:
        """The names of all kernel packages."""
        if not self._known:
            self._configure()
            self._run(["apt-get", "-q", "update"])  # a failed suite does not affect the others
            self._unknown += re.findall(r"^[EW]: (Failed to fetch .*)$", self._log.read_text(), re.M)[:1]
            found = self._run(["apt-cache", "pkgnames", "linux-"])
            self._known = set(found.stdout.split())
        if not self._known:
            raise KernelError(". ".join([f"no archive can be read: {last_error(self._log)}", *self._unknown]))
        return self._known

    def _configure(self) -> None:
        (self._apt / "lists" / "partial").mkdir(parents=True, exist_ok=True)
        (self._apt / "cache" / "archives" / "partial").mkdir(parents=True, exist_ok=True)
        (self._apt / "sources.list").write_text("".join(f"{line}\n" for line in self._sources()))
        (self._apt / "apt.conf").write_text(_CONFIGURATION.format(folder=self._apt))

    def _sources(self) -> Iterator[str]:
        for family, suites in _SUITES.items():
            try:
                mirror, keys = self._roots.mirror(family), self._roots.keys(family)
            except RootError as error:
                self._unknown.append(f"{family.capitalize()}'s is unknown: {error}")
                continue
            # Suites of old releases are no longer signed.
            options = f"[signed-by={keys} check-valid-until=no]"
            yield from (f"deb {options} {mirror} {suite} main" for suite in suites)
            if family == "debian":
                for mirror in _security_mirrors():
                    yield from (f"deb {options} {mirror} {suite} main" for suite in _SECURITY_SUITES)

    def _unpack(self, kernel: Kernel) -> None:
        wanted = [f"linux-{part}-{kernel.release}" for part in _PARTS]
        unfinished = kernel.folder.with_name(f"{kernel.release}.new")
        packages = unfinished / "packages"
        shutil.rmtree(unfinished, ignore_errors=True)
        packages.mkdir(parents=True)
        try:
            self._must(["apt-get", "-q", "download", *(n for n in wanted if n in self._packages())], packages)
            for package in sorted(packages.iterdir()):
                self._must(["dpkg-deb", "-x", str(package), str(unfinished / "unpacked")], packages)
            _arrange(unfinished / "unpacked", unfinished, kernel.release)
            self._must(["depmod", "--basedir", str(unfinished), kernel.release], packages)
            for folder in (packages, unfinished / "unpacked"):
                shutil.rmtree(folder)
            shutil.rmtree(kernel.folder, ignore_errors=True)
            unfinished.rename(kernel.folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)

    def _must(self, command: Sequence[str], folder: Path) -> None:
        if self._run(command, folder).returncode:
            raise KernelError(f"{' '.join(command[:3])} failed: {last_error(self._log)}")

    def _run(self, command: Sequence[str], folder: Path | None = None) -> subprocess.CompletedProcess[str]:
        program, *rest = command
        if program.startswith("apt"):
            rest = ["-c", str(self._apt / "apt.conf"), *rest]
        with self._log.open("wb") as log:
            return subprocess.run(
                [program, *rest],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=folder,
            )


def _security_mirrors() -> list[str]:
    """This machine's mirror of Debian's security updates; empty on another distribution."""
    sources = apt.read_sources(Path("/etc/apt"))
    suites = {suite.removesuffix("/updates") for source in sources for suite in source.suites}
    if not suites & set(_SECURITY_SUITES):
        return []
    return [
        source.uris[0] for source in sources if source.uris and set(source.suites) & set(_SECURITY_SUITES)
    ][:1]


def _arrange(unpacked: Path, folder: Path, release: str) -> None:
    """Image and modules in the packages of this release."""
    images = [path for path in unpacked.rglob("vmlinu[xz]*") if path.is_file() and not path.is_symlink()]
    modules = [path for path in unpacked.glob("**/lib/modules") if path.is_dir()]
    if not images or not modules:
        raise KernelError(f"the packages of kernel {release} have no image or no modules")
    (folder / "lib" / "modules").mkdir(parents=True)
    shutil.move(images[0], folder / "vmlinuz")
    for found in modules:
        shutil.copytree(found, folder / "lib" / "modules", symlinks=True, dirs_exist_ok=True)
