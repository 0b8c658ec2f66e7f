"""Builds the image by the Dockerfile, with Podman or buildah, on a bare root file system as the base image.

No registry is needed: the base image is the root file system from which the OCI archive is built, too.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from lab.distributions.catalogue import named
from lab.distributions.roots import Roots
from lab.packages import image as images

NAMES = ("podman", "buildah")
BASE = "localhost/hawkwing-base:test"
# The usual limits are more than a machine without CAP_SYS_RESOURCE may set.
_SETTINGS = """
[containers]
cgroups = "disabled"
default_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]
"""
# Control groups of both versions are refused, even if none are created: the program sees one version.
_UNIFIED = 'mount -t cgroup2 none /sys/fs/cgroup; exec "$@"'
#: Variables of the root file system's own commands that an image sets by itself.
_OWN = ("PATH", "HOME", "LANG")


class Storage:
    """The images and containers of one program, below `folder`; apart from those of the machine."""

    def __init__(self, program: str, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.program = program
        self.folder = folder
        # Podman refuses a longer path than 50 characters here.
        self._state = Path(tempfile.mkdtemp(prefix="hawkwing-"))
        self._words = [program, "--root", str(folder / "storage"), "--runroot", str(self._state)]
        self._settings = folder / "containers.conf"
        self._settings.write_text(_SETTINGS)
        self.environment = {"CONTAINERS_CONF": str(self._settings)}

    def command(self, *words: str) -> list[str]:
        """A command of the program; it has to run in a mount namespace of its own."""
        return ["sh", "-c", _UNIFIED, "sh", *self._words, *words]

    def call(self, *words: str) -> str:
        """What a command prints; it has to succeed."""
        argv = ["unshare", "--mount", "--propagation=slave", "env"]
        argv += [f"{name}={value}" for name, value in self.environment.items()]
        done = subprocess.run(
            [*argv, *self.command(*words)], stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{' '.join(words)}: {done.stdout[-2000:]}{done.stderr[-4000:]}"
        return done.stdout

    def remove(self) -> None:
        """Removes all of it."""
        self.call("rmi", "--all", "--force")
        shutil.rmtree(self.folder)
        shutil.rmtree(self._state)


def build(builder: str, folder: Path) -> Path:
    """The OCI archive of the image that a builder makes. RootError if there is no base image."""
    storage = Storage(builder, folder / "builder")
    archive = folder / "hawkwing.oci.tar"
    try:
        _base(storage, folder / "base")
        options = images.Options(base=BASE)
        program, verb, *words = images.command(builder, options)
        assert program == builder
        storage.call(verb, *_network(), *words)
        if builder == "podman":
            storage.call("save", "--format=oci-archive", "--output", str(archive), options.name)
        else:
            storage.call("push", options.name, f"oci-archive:{archive}:{options.name}")
    finally:
        storage.remove()
    return archive


def _network() -> Sequence[str]:
    """Commands of the Dockerfile use this machine's network, in a chroot: bridges may be missing here."""
    return ("--isolation=chroot", "--network=host")


def _base(storage: Storage, folder: Path) -> None:
    """Imports the root file system, with this machine's settings for pip."""
    chroot = Roots(images.CACHE, {}, fresh=False).unpack(named(images.RELEASE), folder / "root")
    try:
        subprocess.run(
            ["tar", "-c", "--numeric-owner", "-f", folder / "base.tar", "-C", chroot.root, "."], check=True
        )
        settings = [f"ENV {name}={value}" for name, value in chroot.environment.items() if name not in _OWN]
        (folder / "Dockerfile").write_text("\n".join(["FROM scratch", "ADD base.tar /", *settings, ""]))
        words = ["bud"] if storage.program == "buildah" else ["build"]
        storage.call(*words, *_network(), "-f", str(folder / "Dockerfile"), "-t", BASE, str(folder))
    finally:
        shutil.rmtree(folder)
