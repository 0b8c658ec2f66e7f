"""`./run image`: the container image, built by docker, podman or buildah, or our own OCI archive.

The archive is built in minimal Debian root file systems, following the Dockerfile: no daemon, no registry.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from hawkwing import __version__
from lab.commands import run_part
from lab.distributions.catalogue import named
from lab.distributions.chroot import Chroot
from lab.distributions.roots import Roots, last_error
from lab.distributions.shared import claimed_cache
from lab.network import PROJECT, LabError
from lab.packages import dockerfile, oci

CACHE = Path("/var/cache/hawkwing-distributions")
NAME = f"hawkwing:{__version__}"
BUILDERS = ("docker", "podman", "buildah")
OWN = "own"
RELEASE = "debian13"
_SOURCE = "/src"
_MADE = "made"
#: Parts of the base that the image does not need: documents, apt's caches, and files of this machine.
_LEFT_OUT = (
    *("usr/share/doc", "usr/share/man", "usr/share/info", "usr/share/locale", "usr/share/lintian"),
    *("usr/local/share/ca-certificates", "etc/apt", "var/lib/apt", "var/cache/apt", "var/log"),
    "var/cache/ldconfig",  # has this machine's inode numbers
    *("etc/resolv.conf", "etc/hosts", "etc/hostname", "etc/machine-id", "src"),
)
_KEPT_EMPTY = ("proc", "sys", "dev", "run", "tmp", "root")


@dataclass(frozen=True)
class Options:
    """Options of the command line; None if not given."""

    builder: str | None = None
    output: Path = Path("hawkwing.oci.tar")
    name: str = NAME
    base: str | None = None
    bcc: bool = False
    cache: Path = CACHE
    mirrors: Mapping[str, str | None] = field(default_factory=dict)


def run(options: Options) -> int:
    """Builds the image and prints its place; the exit status."""
    builder = options.builder or usable_builder(options.base)
    if builder not in (*BUILDERS, OWN):
        raise LabError(f"{builder!r} is not a builder, use {', '.join((*BUILDERS, OWN))}")
    if builder == OWN:
        digest = build(options)
        print(f"{options.output}: {options.name}, {digest} (OCI archive)")
        return 0
    if not shutil.which(builder):
        raise LabError(f"{builder} is not installed")
    status = run_part(command(builder, options))
    if not status:
        print(f"{options.name}, built by {builder}")
    return status


def usable_builder(base: str | None = None) -> str:
    """The first installed builder that works (docker: with a daemon) and gets the base image, or our own."""
    base = base or dockerfile.read(dockerfile.FILE.read_text()).arguments["BASE"]
    for name in BUILDERS:
        if not shutil.which(name) or (name == "docker" and not _answers([name, "info"])):
            continue
        if _answers([name, "inspect", base]) or _answers([name, "pull", base]):
            return name
        print(f"{name} can't pull {base}: an OCI archive is built without it", file=sys.stderr)
        return OWN
    return OWN


def _answers(argv: Sequence[str]) -> bool:
    return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True).returncode == 0


def command(builder: str, options: Options) -> list[str]:
    """The command line of a builder."""
    words = [builder, "bud"] if builder == "buildah" else [builder, "build"]
    for name, value in (("BASE", options.base), ("BCC", "yes" if options.bcc else None)):
        if value:
            words += ["--build-arg", f"{name}={value}"]
    words += ["--label", f"{dockerfile.VERSION}={__version__}"]
    return [*words, "-f", str(dockerfile.FILE), "-t", options.name, str(PROJECT)]


def build(options: Options) -> str:
    """Builds our own archive; returns the image's digest. LabError with the reason if it fails."""
    said = dockerfile.read(dockerfile.FILE.read_text())
    packages = said.arguments["PACKAGES"].split()
    if options.bcc:
        packages += ["python3-bpfcc", "linux-libc-dev"]
    with _folder(options.cache) as (work, roots):
        log = work / "log"
        maker = roots.unpack(named(RELEASE), work / "maker")
        _install(maker, said.arguments["BUILD_PACKAGES"].split(), log)
        _make(maker, log)
        base = roots.unpack(named(RELEASE), work / "base")
        _update(base, roots.mirror(named(RELEASE).family), log)
        _install(base, packages, log)
        made = maker.root / _MADE
        if options.bcc:
            settings = made / "usr/lib/hawkwing/pyvenv.cfg"
            settings.write_text(settings.read_text().replace("packages = false", "packages = true"))
        architecture = subprocess.run(
            ["dpkg", "--print-architecture"], check=True, capture_output=True, text=True
        ).stdout.strip()
        return oci.write(
            options.output,
            [oci.Layer(base.root, _left_out), oci.Layer(made)],
            said.settings(__version__),
            architecture,
            options.name,
            source_time(),
        )


@contextmanager
def _folder(cache: Path) -> Iterator[tuple[Path, Roots]]:
    """A working folder and root file systems, removed afterwards."""
    with claimed_cache(cache), tempfile.TemporaryDirectory(dir=cache, prefix="work-") as work:
        yield Path(work), Roots(cache, {}, fresh=False)


def _install(chroot: Chroot, packages: Sequence[str], log: Path) -> None:
    script = 'apt-get -q update && apt-get -q -y --no-install-recommends install "$@"'
    if chroot.run(["sh", "-c", script, "sh", *packages], log):
        raise LabError(f"{' '.join(packages)} can't be installed: {last_error(log)}")


def _update(chroot: Chroot, mirror: str, log: Path) -> None:
    """Upgrades the packages in the image, including Debian's security updates."""
    sources = chroot.root / "etc/apt/sources.list.d/security.list"
    sources.write_text(f"deb {mirror}-security {named(RELEASE).suite}-security main\n")
    if chroot.run(["apt-get", "-q", "update", "-o", "APT::Update::Error-Mode=any"], log):
        print(f"the image lacks Debian's newest security fixes: {last_error(log)}", file=sys.stderr)
        sources.unlink()
    script = "apt-get -q update && apt-get -q -y upgrade"
    if chroot.run(["sh", "-c", script], log):
        raise LabError(f"the base can't be brought up to date: {last_error(log)}")


def _make(chroot: Chroot, log: Path) -> None:
    """Runs the Dockerfile's first stage."""
    script = f"""
set -e
sh {_SOURCE}/packaging/environment /{_MADE}
/{_MADE}/usr/lib/hawkwing/bin/python -m compileall -q --invalidation-mode unchecked-hash \\
  -s /{_MADE} /{_MADE}/usr/lib/hawkwing/lib
install -D -m 755 {_SOURCE}/packaging/image-entry /{_MADE}/usr/local/bin/hawkwing
"""
    if chroot.run(["sh", "-c", script], log, share=(PROJECT, _SOURCE)):
        raise LabError(f"the agent's environment can't be made: {last_error(log)}")


def _left_out(path: str) -> bool:
    top, _, below = path.partition("/")
    return (top in _KEPT_EMPTY and bool(below)) or any(
        path == name or path.startswith(f"{name}/") for name in _LEFT_OUT
    )


def source_time() -> int:
    """The time of the last commit, in seconds: images of the same commit have the same bytes."""
    if not shutil.which("git"):
        return 0
    done = subprocess.run(
        ["git", "-C", str(PROJECT), "-c", f"safe.directory={PROJECT}", "log", "-1", "--format=%ct"],
        capture_output=True,
        text=True,
    )
    return int(done.stdout) if done.returncode == 0 and done.stdout.strip() else 0
