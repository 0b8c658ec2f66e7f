"""Runs the image in a host of the lab, by crun: a read-only root, both volumes, and named capabilities."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lab import netns
from lab.network import Lab
from lab.process import Process
from lab.wait import PATIENCE, wait_until

SMALLEST = ("CAP_NET_ADMIN", "CAP_BPF", "CAP_PERFMON")
# crun refuses control groups of both versions, even where it is to make none: it sees one version.
_UNIFIED = 'mount -t cgroup2 none /sys/fs/cgroup; exec crun --cgroup-manager=disabled "$@"'
_CRUN = ["unshare", "--mount", "--propagation=slave", "sh", "-c", _UNIFIED, "crun"]


class Image:
    """An unpacked archive: its configuration, and the root file system of its layers."""

    def __init__(self, archive: Path, folder: Path) -> None:
        layout = folder / "layout"
        with tarfile.open(archive) as file:
            file.extractall(layout)
        index = json.loads((layout / "index.json").read_text())
        manifest = json.loads(self._blob(layout, index["manifests"][0]["digest"]).read_text())
        config = json.loads(self._blob(layout, manifest["config"]["digest"]).read_text())
        self.settings: dict[str, Any] = config["config"]
        self.root = folder / "root"
        self.root.mkdir()
        for layer in manifest["layers"]:
            blob = self._blob(layout, layer["digest"])
            subprocess.run(["tar", "-xzf", blob, "-C", self.root, "--numeric-owner"], check=True)
        shutil.rmtree(layout)

    @staticmethod
    def _blob(layout: Path, digest: str) -> Path:
        return layout / "blobs" / digest.replace(":", "/")


class Container:
    """As `docker run --read-only --network=host --cap-drop=ALL --cap-add=...` makes it."""

    def __init__(self, image: Image, lab: Lab, node: str, folder: Path) -> None:
        self._image = image
        self._lab = lab
        self._node = node
        self._folder = folder
        self._process: Process | None = None
        self.name = f"{lab.name}-{folder.name}"

    def start(
        self, words: Sequence[str], capabilities: Sequence[str] = SMALLEST, share: Path | None = None
    ) -> Process:
        """`words` stand behind the image's name; `share` is the folder /config inside."""
        self._folder.mkdir()
        config = self._config(words, capabilities, share)
        (self._folder / "config.json").write_text(json.dumps(config))
        argv = [*_CRUN, "run", "--bundle", str(self._folder), self.name]
        self._process = Process(self._lab.name, self._lab.run, self.name, argv)
        return self._process

    def execute(self, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Runs a command in the running container."""
        argv = [*_CRUN, "exec", self.name, *words]
        return subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL)

    def signal(self, name: str) -> None:
        """To the container's first process, as `docker kill --signal` and `docker stop` do."""
        subprocess.run([*_CRUN, "kill", self.name, name], check=True)

    def remove(self) -> None:
        """Ends it as `docker stop` does, and removes it."""
        if self._process is not None and self._process.poll() is None:
            self.signal("TERM")
            self._process.wait(PATIENCE)
        subprocess.run([*_CRUN, "delete", "--force", self.name], capture_output=True)
        wait_until(lambda: not Path("/run/crun", self.name).exists(), PATIENCE, "the container to be gone")

    def _config(
        self, words: Sequence[str], capabilities: Sequence[str], share: Path | None
    ) -> dict[str, Any]:
        settings, held = self._image.settings, list(capabilities)
        etc = self._lab.etc(self._node)
        namespaces: list[dict[str, str]] = [{"type": kind} for kind in ("pid", "mount", "ipc", "uts")]
        namespaces.append({"type": "network", "path": str(netns.path(self._lab.namespace(self._node)))})
        bound = {f"/etc/{file.name}": file for file in sorted(etc.iterdir())}
        if share is not None:
            bound["/config"] = share
        mounts = [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "nodev", "ro"]},
            *(
                {"destination": path, "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]}
                for path in settings["Volumes"]
            ),
            *(
                {"destination": inside, "type": "bind", "source": str(outside), "options": ["rbind", "ro"]}
                for inside, outside in bound.items()
            ),
        ]
        # A read-only root has no place for these: they are made before it becomes one.
        for mount in mounts:
            place = self._image.root / str(mount["destination"]).lstrip("/")
            if not place.exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                if Path(str(mount["source"])).is_file():
                    place.touch()
                else:
                    place.mkdir()
        return {
            "ociVersion": "1.0.0",
            "process": {
                "user": {"uid": 0, "gid": 0},
                "args": [*settings["Entrypoint"], *(words or settings["Cmd"])],
                "env": settings["Env"],
                "cwd": "/",
                "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), held),
                "noNewPrivileges": True,
            },
            "root": {"path": str(self._image.root), "readonly": True},
            "hostname": os.uname().nodename,
            "mounts": mounts,
            "linux": {"namespaces": namespaces},
        }
