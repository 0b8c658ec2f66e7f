"""The image without a builder: what the Dockerfile says, and the archive, byte by byte the same each time."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import tarfile
from pathlib import Path

import pytest

from hawkwing import __version__
from lab.packages import dockerfile, image, oci

PROJECT = Path(__file__).parents[2]
SECONDS = 1_700_000_000


def members(archive: Path) -> dict[str, bytes]:
    with tarfile.open(archive) as file:
        return {entry.name: file.extractfile(entry).read() for entry in file}  # type: ignore[union-attr]


def tree(folder: Path) -> Path:
    (folder / "usr/bin").mkdir(parents=True)
    (folder / "usr/bin/program").write_text("#!/bin/sh\n")
    (folder / "usr/bin/program").chmod(0o755)
    (folder / "usr/bin/link").symlink_to("program")
    (folder / "usr/share/doc").mkdir(parents=True)
    (folder / "usr/share/doc/text").write_text("left out")
    return folder


def test_an_archive_holds_what_its_digests_say(tmp_path: Path) -> None:
    layer = oci.Layer(tree(tmp_path / "root"), lambda path: path.startswith("usr/share/doc"))
    digest = oci.write(tmp_path / "a.tar", [layer], {"Entrypoint": ["x"]}, "amd64", "some:1.2", SECONDS)
    files = members(tmp_path / "a.tar")
    for name, text in files.items():
        if name.startswith("blobs/sha256/"):
            assert hashlib.sha256(text).hexdigest() == name.rpartition("/")[2]
    (entry,) = json.loads(files["index.json"])["manifests"]
    assert entry["digest"] == digest
    assert entry["annotations"]["org.opencontainers.image.ref.name"] == "1.2"
    manifest = json.loads(files["blobs/" + digest.replace(":", "/")])
    config = json.loads(files["blobs/" + manifest["config"]["digest"].replace(":", "/")])
    assert (config["os"], config["architecture"]) == ("linux", "amd64")
    assert config["config"]["Entrypoint"] == ["x"]
    (told,) = manifest["layers"]
    packed = files["blobs/" + told["digest"].replace(":", "/")]
    assert len(packed) == told["size"]
    raw = gzip.decompress(packed)
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(raw).hexdigest()}"]
    (tmp_path / "layer.tar").write_bytes(raw)
    with tarfile.open(tmp_path / "layer.tar") as file:
        names = file.getnames()
        assert "usr/bin/program" in names and "usr/share/doc/text" not in names
        assert file.getmember("usr/bin/link").linkname == "program"
        assert file.getmember("usr/bin/program").mode == 0o755
        assert all(entry.mtime <= SECONDS for entry in file)


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    digests = set()
    for number in range(2):
        folder = tree(tmp_path / f"root{number}")
        os.utime(folder / "usr/bin/program", (SECONDS + 5 + number, SECONDS + 5 + number))
        digests.add(
            oci.write(tmp_path / f"{number}.tar", [oci.Layer(folder)], {}, "amd64", "some:1", SECONDS)
        )
    assert len(digests) == 1
    assert (tmp_path / "0.tar").read_bytes() == (tmp_path / "1.tar").read_bytes()


def test_what_belongs_to_one_machine_or_one_moment_is_left_out() -> None:
    for name in (
        "var/cache/ldconfig/aux-cache",
        "var/log/dpkg.log",
        "etc/machine-id",
        "run/lock",
        "etc/hosts",
    ):
        assert image._left_out(name), name
    for name in ("run", "usr/bin/python3", "etc/passwd", "var/cache"):
        assert not image._left_out(name), name


def test_the_dockerfile_is_read() -> None:
    said = dockerfile.read(dockerfile.FILE.read_text())
    assert said.arguments["PACKAGES"] == "python3"
    settings = said.settings("1.2.3")
    assert settings["Entrypoint"] == ["hawkwing"]
    assert set(settings["Volumes"]) == {"/run/hawkwing", "/var/cache/hawkwing"}
    assert settings["Labels"]["org.opencontainers.image.version"] == "1.2.3"
    assert settings["Labels"]["org.opencontainers.image.licenses"] == "MIT AND GPL-2.0-only"


def test_builders_get_what_the_environment_is_made_of() -> None:
    """What .dockerignore lets through is what `packaging/environment` and the wheel need."""
    lines = (PROJECT / ".dockerignore").read_text().splitlines()
    let_in = {line.removeprefix("!") for line in lines if line.startswith("!")}
    assert lines[0] == "*"
    pyproject = (PROJECT / "pyproject.toml").read_text()
    for name in (*re.findall(r'"(bpf|hawkwing)"', pyproject), "README.md", "LICENSE", "constraints.txt"):
        assert name in let_in
    assert all((PROJECT / name).exists() for name in let_in)


@pytest.mark.parametrize(
    ("builders", "chosen"),
    [
        ({}, "own"),
        ({"docker": "exit 0"}, "docker"),
        ({"docker": '[ "$1" != info ]'}, "own"),
        ({"docker": '[ "$1" != info ]', "podman": "exit 0"}, "podman"),
        ({"buildah": '[ "$1" = pull ]'}, "buildah"),
        ({"buildah": "exit 1"}, "own"),
    ],
    ids=["none", "docker", "no daemon", "podman", "buildah", "no registry"],
)
def test_the_first_builder_that_works_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, builders: dict[str, str], chosen: str
) -> None:
    for name, script in builders.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert image.usable_builder() == chosen


def test_how_builders_are_called() -> None:
    options = image.Options(name="x:1", base="debian:12-slim", bcc=True)
    words = image.command("buildah", options)
    assert " ".join(words[:2]) == "buildah bud"
    assert words[2:6] == ["--build-arg", "BASE=debian:12-slim", "--build-arg", "BCC=yes"]
    assert words[6:8] == ["--label", f"org.opencontainers.image.version={__version__}"]
    assert words[-2:] == ["x:1", str(PROJECT)]
    assert " ".join(image.command("docker", image.Options(name="x:1"))[:3]) == "docker build --label"
