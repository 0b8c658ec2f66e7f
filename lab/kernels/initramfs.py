"""The initramfs of the guest: it mounts this machine's files read-only as root file system.

The guest's writes stay in its memory.
"""

from __future__ import annotations

import gzip
import lzma
import subprocess
from collections.abc import Iterator
from pathlib import Path

from lab.kernels.archive import Kernel, KernelError

BUSYBOX = Path("/bin/busybox")
_MODULES = ("virtio_pci", "virtio_console", "9pnet_virtio", "9p", "overlay")
_FOLDERS = ("bin", "dev", "proc", "sys", "modules", "lower", "upper", "root")
_DIRECTORY, _PROGRAM, _FILE = 0o040755, 0o100755, 0o100644
_INIT = """\
#!/bin/busybox sh
b=/bin/busybox
fail() { echo "hawkwing: $*"; $b poweroff -f; }
$b mount -t devtmpfs dev /dev && $b mount -t proc proc /proc && $b mount -t sysfs sys /sys || fail no /dev
for module in /modules/*; do $b insmod $module || fail no ${module##*/}; done
options=trans=virtio,version=9p2000.L,msize=512000
read_only=$options,ro,cache=loose
$b mount -t 9p -o $read_only root /lower || fail no root
$b mount -t tmpfs upper /upper && $b mkdir /upper/files /upper/work
layers=lowerdir=/lower,upperdir=/upper/files,workdir=/upper/work
$b mount -t overlay -o $layers overlay /root || fail no overlay
$b mkdir -p /root/lib/modules
$b mount -t 9p -o $read_only modules /root/lib/modules || fail no modules
$b mount -t tmpfs run /root/run && $b mkdir /root/run/hawkwing-kernels
$b mount -t 9p -o $options,cache=none job /root/run/hawkwing-kernels || fail no job
for folder in dev proc sys; do $b mount --move /$folder /root/$folder; done
exec $b switch_root /root /bin/sh /run/hawkwing-kernels/start
"""


def build(kernel: Kernel) -> bytes:
    """An archive that the kernel unpacks into its first root."""
    entries = [(name, _DIRECTORY, b"") for name in _FOLDERS]
    entries += [("init", _PROGRAM, _INIT.encode()), ("bin/busybox", _PROGRAM, BUSYBOX.read_bytes())]
    for number, module in enumerate(_needed(kernel)):
        name = module.name.partition(".ko")[0]
        entries.append((f"modules/{number:02}-{name}.ko", _FILE, _unpacked(module)))
    return cpio(entries)


def cpio(entries: list[tuple[str, int, bytes]]) -> bytes:
    """An archive in cpio's format newc, of (name, mode, content)."""
    found = bytearray()
    for inode, (name, mode, content) in enumerate([*entries, ("TRAILER!!!", 0, b"")], 1):
        path = name.encode() + b"\0"
        fields = (inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(path), 0)
        found += b"070701" + b"".join(b"%08X" % field for field in fields)
        for part in (path, content):
            found += part
            found += bytes(-len(found) % 4)
    return bytes(found)


def _needed(kernel: Kernel) -> Iterator[Path]:
    """The modules to load, each after its dependencies; built-in features need none."""
    seen = set()
    for name in _MODULES:
        command = ["modprobe", "--dirname", str(kernel.folder), "--set-version", kernel.release]
        done = subprocess.run([*command, "--show-depends", name], capture_output=True, text=True)
        for line in done.stdout.splitlines():
            what, _, path = line.strip().partition(" ")
            if what == "insmod" and path not in seen:
                seen.add(path)
                yield Path(path.strip())


def _unpacked(module: Path) -> bytes:
    if module.suffix == ".zst":
        done = subprocess.run(["zstd", "-qdc", str(module)], capture_output=True)
        if done.returncode:
            raise KernelError(f"can't unpack {module}: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout
    unpack = {".xz": lzma.decompress, ".gz": gzip.decompress}.get(module.suffix, bytes)
    return unpack(module.read_bytes())
