"""Minimal root file systems from the distributions' mirrors, cached as tar archives."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from lab.distributions import apt
from lab.distributions.catalogue import Distribution, named
from lab.distributions.chroot import Chroot, connect
from lab.network import LabError

_KEYS = {"debian": "debian-archive-keyring", "ubuntu": "ubuntu-archive-keyring"}
_KEY_PACKAGES = {"debian": "debian-archive-keyring", "ubuntu": "ubuntu-keyring"}
_KEYRINGS = Path("usr/share/keyrings")
_KEYS_OF_UBUNTU_FROM = "debian13"  # Debian 12 has no package of them
_DEBOOTSTRAP = Path("/usr/share/debootstrap/scripts")


MAKERS = ("mmdebstrap", "debootstrap")


class RootError(LabError):
    """A root file system cannot be made; the text says why."""


def mirror_variable(family: str) -> str:
    """The environment variable that names the mirror."""
    return f"HAWKWING_{family.upper()}_MIRROR"


class Roots:
    """Makes, caches and unpacks root file systems; `mirrors` override this machine's settings."""

    def __init__(
        self, cache: Path, mirrors: Mapping[str, str | None], fresh: bool, maker: str | None = None
    ) -> None:
        """`maker` is one of MAKERS; None for the first available one."""
        self._maker = maker
        self._cache = cache
        self._mirrors = mirrors
        self._fresh = fresh
        self._log = cache / "roots.log"
        self._made: set[str] = set()

    def unpack(self, distribution: Distribution, folder: Path) -> Chroot:
        """A new root file system in `folder`; RootError with the reason if that is not possible."""
        archive = self._archive(distribution)
        folder.mkdir(parents=True)
        self._do(["tar", "-x", "--numeric-owner", "-f", str(archive), "-C", str(folder)], "unpack it")
        connect(folder)
        return Chroot(folder)

    def _archive(self, distribution: Distribution) -> Path:
        archive = self._cache / f"{distribution.name}.tar"
        if archive.exists() and not (self._fresh and distribution.name not in self._made):
            return archive
        maker = self._maker or usable_maker(self._log)
        mirror = self.mirror(distribution.family)
        keys = self.keys(distribution.family)
        dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True).stdout
        settings = apt.network_settings(dump)
        unfinished = archive.with_suffix(".new.tar")
        try:
            if maker == "mmdebstrap":
                command = ["mmdebstrap", "--variant=minbase", "--include=apt", f"--keyring={keys}"]
                command += [f"--aptopt={setting}" for setting in settings]
                command += [distribution.suite, str(unfinished), *distribution.sources(mirror)]
                self._do(command, f"make it from {mirror}")
            else:
                self._debootstrap(distribution, mirror, keys, settings, unfinished)
            unfinished.replace(archive)
        finally:
            unfinished.unlink(missing_ok=True)
        self._made.add(distribution.name)
        return archive

    def _debootstrap(
        self, distribution: Distribution, mirror: str, keys: Path, settings: Sequence[str], archive: Path
    ) -> None:
        """The same with debootstrap, which supports one suite: apt inside uses the others."""
        folder = self._cache / f"{distribution.name}.new"
        script = _DEBOOTSTRAP / ("gutsy" if distribution.family == "ubuntu" else "sid")
        components = ",".join(distribution.components)
        command = ["debootstrap", "--variant=minbase", f"--keyring={keys}", f"--components={components}"]
        try:
            self._do(
                [*command, distribution.suite, str(folder), mirror, str(script)], f"make it from {mirror}"
            )
            (folder / "etc/apt/sources.list").write_text("\n".join([*distribution.sources(mirror), ""]))
            (folder / "etc/apt/apt.conf.d/99debootstrap").write_text(
                "".join(f"{setting};\n" for setting in settings)
            )
            connect(folder)
            update = (
                "apt-get -q update && apt-get -q -y upgrade && apt-get clean && rm -rf /var/lib/apt/lists/*"
            )
            if Chroot(folder).run(["sh", "-c", update], self._log):
                raise RootError(f"can't bring it up to date from {mirror}: {last_error(self._log)}")
            self._do(["tar", "-c", "--numeric-owner", "-f", str(archive), "-C", str(folder), "."], "pack it")
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def mirror(self, family: str) -> str:
        """The mirror of a family of distributions."""
        release = platform.freedesktop_os_release()
        wanted = self._mirrors.get(family) or os.environ.get(mirror_variable(family))
        if not wanted and release.get("ID") == family:
            codename = release.get("VERSION_CODENAME", "")
            wanted = apt.archive(apt.read_sources(Path("/etc/apt")), family, codename)
        if not wanted:
            install({"debootstrap": _DEBOOTSTRAP.is_dir()}, self._log)
            wanted = _usual_mirror(family)
        if not wanted:
            raise RootError(
                f"no mirror of {family} is known: set one with --{family}-mirror or {mirror_variable(family)}"
            )
        return wanted.rstrip("/")

    def keys(self, family: str) -> Path:
        """The keyring of a family's archive."""
        own = Path("/", _KEYRINGS, f"{_KEYS[family]}.gpg")
        kept = self._cache / own.name
        if own.exists() or kept.exists():
            return own if own.exists() else kept
        package = _KEY_PACKAGES[family]
        try:
            install({package: False}, self._log)
        except RootError:
            if family != "ubuntu":
                raise
            self._take_keys(package, kept)
        return own if own.exists() else kept

    def _take_keys(self, package: str, kept: Path) -> None:
        folder = self._cache / "keys"
        try:
            chroot = self.unpack(named(_KEYS_OF_UBUNTU_FROM), folder)
            script = f"apt-get -q update && apt-get -q -y --no-install-recommends install {package}"
            if chroot.run(["sh", "-c", script], self._log):
                raise RootError(f"{package} can't be installed: {last_error(self._log)}")
            shutil.copyfile(folder / _KEYRINGS / kept.name, kept)
            kept.chmod(0o644)  # apt reads it as another user
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _do(self, command: Sequence[str], what: str) -> None:
        with self._log.open("wb") as log:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        if done.returncode:
            raise RootError(f"can't {what}: {last_error(self._log)}")


def usable_maker(log: Path) -> str:
    """mmdebstrap, installed if missing; debootstrap if that fails."""
    try:
        install({"mmdebstrap": shutil.which("mmdebstrap") is not None}, log)
    except RootError:
        if not shutil.which("debootstrap"):
            raise
        return "debootstrap"
    return "mmdebstrap"


def _usual_mirror(family: str) -> str | None:
    """The default mirror of debootstrap."""
    if family == "debian":
        program = shutil.which("debootstrap")
        match = re.search(r'^DEF_MIRROR="(http[^"]+)"', Path(program).read_text(), re.M) if program else None
        return match[1] if match else None
    command = ["sh", "-c", 'default_mirror() { echo "$1"; exit; }; . "$0"', str(_DEBOOTSTRAP / "gutsy")]
    architecture = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True)
    settings = {**os.environ, "ARCH": architecture.stdout.strip(), "SUITE": ""}
    return subprocess.run(command, env=settings, capture_output=True, text=True).stdout.strip() or None


def install(packages: Mapping[str, bool], log: Path) -> None:
    """Installs missing packages."""
    missing = [name for name, there in packages.items() if not there]
    if not missing:
        return
    if not shutil.which("apt-get"):
        raise RootError(f"{' '.join(missing)} is missing, and there is no apt-get to install it")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    options = ["-q", "-o", "DPkg::Lock::Timeout=300"]
    with log.open("wb") as file:
        for command in (["update"], ["-y", "--no-install-recommends", "install", *missing]):
            argv = ["apt-get", *options, *command]
            done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=environment)
    if done.returncode:
        raise RootError(f"apt-get can't install {' '.join(missing)}: {last_error(log)}")


def last_error(log: Path) -> str:
    """The line with the reason: the first one that begins with E:, or the last line."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("E: ")]
    return (errors or lines[-1:] or ["no error message"])[0].removeprefix("E: ")
