"""Commands inside another root file system, with this machine's network.

A command leaves nothing behind: its mounts and processes belong to namespaces that end with it. It also has
its own /run, with its own names of network namespaces: labs with the same name don't conflict.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_CERTIFICATES = Path("usr/local/share/ca-certificates")
_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
_PIP_SETTING = re.compile(r"[^=]*\.(?P<name>[a-z-]+)='(?P<value>.*)'")
# The shell stays as the first process of its namespace, and waits for orphans.
_ENTER = """
set -e
root=$1 folder=$2 outside=$3 inside=$4
shift 4
mount --rbind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/run"
if [ -n "$outside" ]; then
  mkdir -p "$root$inside"
  mount --bind "$outside" "$root$inside"
fi
set +e
chroot "$root" /bin/sh -c 'cd "$0" && exec "$@"' "$folder" "$@"
exit $?
"""


def pip_environment(settings: str) -> dict[str, str]:
    """The network settings in `pip config list`, as variables for another root."""
    found: dict[str, str] = {}
    for line in settings.splitlines():
        match = _PIP_SETTING.fullmatch(line)
        if not match:
            continue
        name, value = match["name"], match["value"]
        if name in ("index-url", "extra-index-url"):
            value = " ".join(url for url in value.split() if not url.startswith("file:"))
        elif name == "cert":
            value = _BUNDLE
        elif name not in ("default-timeout", "proxy", "timeout", "trusted-host"):
            continue
        if value:
            found.setdefault("PIP_" + name.upper().replace("-", "_"), value)
    return found


def environment() -> dict[str, str]:
    """A new user's environment, with this machine's network settings."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    settings = subprocess.run(command, capture_output=True, text=True).stdout
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "DEBIAN_FRONTEND": "noninteractive",
        **{name: os.environ[name] for name in _PROXIES if name in os.environ},
        **pip_environment(settings),
    }


def connect(root: Path) -> None:
    """Copies this machine's resolver settings and additional CA certificates into a new root file system."""
    for name in ("etc/resolv.conf", "etc/hosts"):
        (root / name).unlink(missing_ok=True)
        if Path("/", name).exists():
            shutil.copyfile(Path("/", name), root / name)
    own = Path("/", _CERTIFICATES)
    if own.is_dir():
        shutil.copytree(own, root / _CERTIFICATES, dirs_exist_ok=True)


@dataclass(frozen=True)
class Chroot:
    """An unpacked root file system."""

    root: Path
    environment: Mapping[str, str] = field(default_factory=environment)

    def run(
        self, argv: Sequence[str], log: Path, folder: str = "/", share: tuple[Path, str] | None = None
    ) -> int:
        """The exit status of a command; output to `log`. `share`: a folder outside, and its path inside."""
        outside, inside = (str(share[0]), share[1]) if share else ("", "")
        command = ["unshare", "--mount", "--propagation=private", "--pid", "--fork", "--kill-child"]
        command += ["sh", "-c", _ENTER, "sh", str(self.root), folder, outside, inside, *argv]
        with log.open("wb") as file:
            return subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=dict(self.environment)
            ).returncode
