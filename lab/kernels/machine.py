"""Runs a command on a kernel emulated by QEMU, with this machine's files."""

from __future__ import annotations

import shlex
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from lab.kernels import initramfs
from lab.kernels.archive import Kernel, KernelError

PLACE = "/run/hawkwing-kernels"  # the guest's path of the job folder
_QEMU = "qemu-system-x86_64"
_MEMORY = 3072
_SILENCE = 900.0  # without output for this number of seconds, the guest hangs
_START = """\
exec >/dev/console 2>&1
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TERM=dumb
mount -t tmpfs -o mode=1777 tmp /tmp
mkdir -p /dev/pts /dev/shm /run/lock
mount -t devpts pts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
ip link set lo up
ulimit -n 65536
show() {
  mkdir -p "$2"
  mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,ro,cache=loose "$1" "$2"
}
for port in /sys/class/virtio-ports/*; do
  if [ "$(cat "$port/name")" = output ]; then output=/dev/${port##*/}; fi
done
"""


def run(kernel: Kernel, command: str, folder: Path, shown: Sequence[Path], job: Path, log: Path) -> int:
    """The exit status of a shell command in `folder`; its output is in `log`.

    The guest sees all files of this machine, and can write only to the folder `job`. `shown` are folders that
    it also sees if they are in /tmp or /run. KernelError if the command did not finish.
    """
    job.mkdir(parents=True, exist_ok=True)
    status = job / "status"
    status.unlink(missing_ok=True)
    (job / "command").write_text(command)
    (job / "start").write_text(_start(folder, shown))
    (job / "initramfs").write_bytes(initramfs.build(kernel))
    console = log.with_suffix(".console")
    for file in (log, console):
        file.write_bytes(b"")
    process = subprocess.Popen(
        [_QEMU, *_arguments(kernel, shown, job, log, console)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        _attend(process, (log, console))
        said = process.communicate()[1]
    finally:
        process.kill()
        process.wait()
    if not status.exists():
        why = _why(process.returncode, said, console)
        raise KernelError(f"kernel {kernel.release} did not finish: {why}; log: {console}")
    return int(status.read_text())


def _start(folder: Path, shown: Sequence[Path]) -> str:
    """The guest's script: mounts, command, shutdown."""
    lines = [f"show shown{number} {shlex.quote(str(path))}" for number, path in enumerate(shown)]
    lines += [
        f"cd {shlex.quote(str(folder))}",
        f'sh {PLACE}/command </dev/null >"$output" 2>&1',
        f"echo $? >{PLACE}/status",
        "sync",
        "echo o >/proc/sysrq-trigger",
        "sleep 60",
    ]
    return _START + "".join(f"{line}\n" for line in lines)


def _arguments(kernel: Kernel, shown: Sequence[Path], job: Path, log: Path, console: Path) -> list[str]:
    folders = [("root", Path("/")), ("modules", kernel.modules)]
    folders += [(f"shown{number}", path) for number, path in enumerate(shown)]
    found = ["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", str(_MEMORY)]
    found += ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
    found += ["-kernel", str(kernel.image), "-initrd", str(job / "initramfs")]
    found += ["-append", "console=ttyS0 panic=-1 mitigations=off random.trust_cpu=on"]
    found += ["-device", "virtio-rng-pci", "-device", "virtio-serial-pci"]
    found += ["-chardev", f"file,id=console,path={_value(console)}", "-serial", "chardev:console"]
    found += ["-chardev", f"file,id=output,path={_value(log)}"]
    found += ["-device", "virtserialport,chardev=output,name=output"]
    for tag, path in folders:
        found += ["-virtfs", f"{_share(tag, path)},readonly=on"]
    return [*found, "-virtfs", _share("job", job)]


def _share(tag: str, path: Path) -> str:
    return f"local,path={_value(path)},mount_tag={tag},security_model=none,multidevs=remap"


def _value(path: Path) -> str:
    """Doubles the commas of a value for QEMU's lists."""
    return str(path.resolve()).replace(",", ",,")


def _attend(process: subprocess.Popen[str], files: Sequence[Path]) -> None:
    """Waits for its end; kills it if its files have stopped growing."""
    size, since = -1, time.monotonic()
    while process.poll() is None:
        try:
            process.wait(2.0)
        except subprocess.TimeoutExpired:
            now = sum(file.stat().st_size for file in files)
            if now != size:
                size, since = now, time.monotonic()
            elif time.monotonic() - since > _SILENCE:
                process.terminate()


def _why(status: int, said: str, console: Path) -> str:
    """QEMU's message, or the guest's last output."""
    if status == -signal.SIGKILL:
        return "QEMU was killed, probably because of too little memory"
    lines = said.strip().splitlines() or console.read_text(errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else "no output"
