"""A root file system, booted in a node of the lab, with systemd as first process and the node's network.

It has its own processes, mounts and control groups; the kernel's settings in /proc/sys are read-only.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from lab.network import Lab
from lab.process import Process
from lab.wait import PATIENCE, patient, wait_until

# The group is created before the namespace, of which it becomes the root. cgroup2 is mounted separately,
# because it is in another folder if both versions of control groups are in use.
_BOOT = """
set -e
root=$1 groups=$2 name=$3 etc=$4
mount -t cgroup2 none "$groups"
mkdir -p "$groups/$name"
echo $$ >"$groups/$name/cgroup.procs"
umount "$groups"
exec unshare --mount --propagation=private --pid --fork --kill-child --uts --ipc --cgroup sh -ec '
root=$1 etc=$2
mount --rbind "$root" "$root"
mount -t proc proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
mkdir "$root/dev/shm" "$root/dev/pts"
mount -t devpts -o newinstance,ptmxmode=666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
for device in null zero full random urandom tty; do
  : >"$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
for file in "$etc"/*; do
  rm -f "$root/etc/${file##*/}"
  cp "$file" "$root/etc/${file##*/}"
done
cd "$root"
pivot_root . .
umount -l .
exec env -i container=lab PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd \\
  --show-status=0 --unit=multi-user.target
' sh "$root" "$etc"
"""
_UP = ("running", "degraded")


class Machine:
    """A booted machine; `stop` ends everything in it."""

    def __init__(self, lab: Lab, node: str, root: Path) -> None:
        self._name = f"hawkwing-{lab.name}-{node}"
        self._groups = root.with_name(root.name + ".groups")
        self._groups.mkdir(exist_ok=True)
        argv = ["sh", "-c", _BOOT, "sh", str(root), str(self._groups), self._name, str(lab.etc(node))]
        self._process: Process = lab.start(node, self._name, argv)
        try:
            self._first = wait_until(self._find_first, PATIENCE, "the machine's first process", pause=0.05)
            wait_until(self._is_up, PATIENCE, "systemd to have started", pause=0.1)
        except BaseException:
            self.stop()
            raise

    def _find_first(self) -> int | None:
        if self._process.poll() is not None:
            raise RuntimeError(f"the machine did not start: {self._process.output()}")
        with suppress(OSError, ValueError):
            below = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
            name = Path(f"/proc/{below[0]}/comm").read_text().strip() if below else ""
            return int(below[0]) if name == "systemd" else None
        return None

    def _is_up(self) -> bool:
        return self.run("systemctl", "is-system-running").stdout.strip() in _UP

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """Runs a command inside as root; status and output."""
        path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        enter = ["nsenter", "--target", str(self._first), *("-m", "-p", "-n", "-C", "-r", "-w")]
        command = [*enter, "env", "-i", path, "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive", *argv]
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=patient(PATIENCE)
        )

    def succeed(self, *argv: str) -> str:
        """The output of a command; RuntimeError if it fails."""
        done = self.run(*argv)
        if done.returncode:
            raise RuntimeError(f"{' '.join(argv)}: status {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.succeed("systemctl", "show", "--value", f"--property={name}", unit).strip()

    def journal(self, unit: str) -> str:
        """The log of a unit."""
        return self.succeed("journalctl", "--no-pager", "--output=cat", f"--unit={unit}")

    def stop(self) -> None:
        """Kills its first process, which ends all others."""
        self._process.signal(9)
        self._process.wait(PATIENCE)
        _remove_groups(self._groups, self._name)


def _remove_groups(mount: Path, name: str) -> None:
    """Removes its control groups, including those that systemd has created."""
    subprocess.run(["mount", "-t", "cgroup2", "none", mount], check=True)
    try:

        def gone() -> bool:
            for folder, _names, _files in os.walk(mount / name, topdown=False):
                with suppress(OSError):
                    Path(folder).rmdir()
            return not (mount / name).exists()

        wait_until(gone, PATIENCE, "the machine's control groups to be gone", pause=0.05)
    finally:
        subprocess.run(["umount", mount], check=True)
        mount.rmdir()


def install(root: Path, packages: Sequence[str], log: Path) -> None:
    """Installs Debian packages, before the boot."""
    from lab.distributions.chroot import Chroot
    from lab.distributions.roots import RootError, last_error

    script = 'apt-get -q update && apt-get -q -y --no-install-recommends install "$@"'
    if Chroot(root).run(["sh", "-c", script, "sh", *packages], log):
        raise RootError(f"{' '.join(packages)} can't be installed: {last_error(log)}")
