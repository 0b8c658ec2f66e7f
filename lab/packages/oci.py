"""An OCI image as one archive: layers, configuration and manifest, by the image specification 1.1.

The same files and the same time give the same bytes.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_INDEX = "application/vnd.oci.image.index.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_LEVEL = 6


@dataclass(frozen=True)
class Layer:
    """A folder as a layer of the image; `leave_out` excludes files by path, such as `usr/bin`."""

    folder: Path
    leave_out: Callable[[str], bool] = field(default=lambda _path: False)

    def paths(self) -> Iterator[tuple[str, Path]]:
        """Names in the archive and files, folders before their content."""
        for path in sorted(self.folder.rglob("*")):
            name = str(path.relative_to(self.folder))
            if not self.leave_out(name):
                yield name, path


def layer_bytes(layer: Layer, seconds: int) -> tuple[bytes, str]:
    """The compressed archive, and the digest of its content; no file is newer than `seconds`."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, path in layer.paths():
            entry = archive.gettarinfo(path, name)
            if entry is None:  # a socket
                continue
            entry.uname = entry.gname = ""
            entry.mtime = min(int(entry.mtime), seconds)
            if entry.isreg():
                with path.open("rb") as file:
                    archive.addfile(entry, file)
            else:
                archive.addfile(entry)
    text = raw.getvalue()
    return gzip.compress(text, _LEVEL, mtime=0), _digest(text)


def write(
    file: Path,
    layers: Sequence[Layer],
    settings: Mapping[str, Any],
    architecture: str,
    name: str,
    seconds: int,
) -> str:
    """Writes the archive atomically; returns the image's digest. `name` is REPOSITORY:TAG."""
    created = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    blobs: dict[str, bytes] = {}

    def blob(media: str, text: bytes) -> dict[str, Any]:
        blobs[_digest(text)] = text
        return {"mediaType": media, "digest": _digest(text), "size": len(text)}

    packed = [layer_bytes(layer, seconds) for layer in layers]
    config = {
        "created": created,
        "architecture": architecture,
        "os": "linux",
        "config": dict(settings),
        "rootfs": {"type": "layers", "diff_ids": [digest for _text, digest in packed]},
        "history": [{"created": created, "created_by": "hawkwing ./run image"} for _ in packed],
    }
    manifest = blob(
        _MANIFEST,
        _json(
            {
                "schemaVersion": 2,
                "mediaType": _MANIFEST,
                "config": blob(_CONFIG, _json(config)),
                "layers": [blob(_LAYER, text) for text, _digest_of in packed],
            }
        ),
    )
    tag = name.rpartition(":")[2]
    names = {"org.opencontainers.image.ref.name": tag, "io.containerd.image.name": name}
    index = {"schemaVersion": 2, "mediaType": _INDEX, "manifests": [{**manifest, "annotations": names}]}
    files = {
        "oci-layout": _json({"imageLayoutVersion": "1.0.0"}),
        "index.json": _json(index),
        **{f"blobs/{digest.replace(':', '/')}": text for digest, text in sorted(blobs.items())},
    }
    unfinished = file.with_name(file.name + ".new")
    try:
        with tarfile.open(unfinished, "w", format=tarfile.PAX_FORMAT) as archive:
            for path, text in files.items():
                entry = tarfile.TarInfo(path)
                entry.size, entry.mtime, entry.mode = len(text), seconds, 0o644
                archive.addfile(entry, io.BytesIO(text))
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)
    return str(manifest["digest"])


def _digest(text: bytes) -> str:
    return f"sha256:{hashlib.sha256(text).hexdigest()}"


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()
