"""A root file system by debootstrap, where mmdebstrap can't be had."""

import shutil
from pathlib import Path

import pytest

from lab.distributions.catalogue import named
from lab.distributions.roots import RootError, Roots


@pytest.mark.skipif(not shutil.which("debootstrap"), reason="no debootstrap")
def test_debootstrap_makes_one_that_installs_packages(distribution: str, tmp_path: Path) -> None:
    try:
        chroot = Roots(tmp_path, {}, fresh=False, maker="debootstrap").unpack(
            named(distribution), tmp_path / "root"
        )
    except RootError as error:
        pytest.skip(f"no root file system here: {error}")
    script = "set -e; apt-get -q update; apt-get -q -y --no-install-recommends install python3; python3 -V"
    log = tmp_path / "log"
    assert chroot.run(["sh", "-c", script], log) == 0, log.read_text()
    assert log.read_text().splitlines()[-1].startswith("Python 3.")
    sources = (chroot.root / "etc/apt/sources.list").read_text()
    assert [line.split()[2] for line in sources.splitlines()] == list(named(distribution).suites)
    assert not (tmp_path / f"{distribution}.new").exists()
    shutil.rmtree(chroot.root)
