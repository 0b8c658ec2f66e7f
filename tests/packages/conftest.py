"""A lab for what is built, and the image; skipped, with the reason, where they can't be had."""

import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from lab.distributions.roots import RootError
from lab.doctor import missing_features
from lab.network import Lab, LabError
from lab.packages import image as images
from lab.wire import Capture
from tests.integration.conftest import Agents
from tests.packages.containers import Image


@pytest.fixture(scope="session", autouse=True)
def able_machine() -> None:
    """A lab, and root file systems."""
    missing = missing_features(quick=True)
    if missing:
        pytest.skip("; ".join(missing))
    if not shutil.which("mmdebstrap"):
        pytest.skip("no mmdebstrap: root file systems can't be made here")


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """The development network; nothing of it may be left."""
    lab = Lab(f"packages-{os.getpid()}")
    lab.up()
    try:
        yield lab
    finally:
        lab.down()
        assert lab.remains() == []


@pytest.fixture
def agents(lab: Lab, tmp_path: Path) -> Iterator[Agents]:
    """Agents of this checkout."""
    started = Agents(lab, tmp_path)
    yield started
    started.stop()


@pytest.fixture
def capture(lab: Lab) -> Iterator[Capture]:
    """Captures on all links."""
    with closing(Capture(lab.topology, lab.namespace)) as taps:
        yield taps


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """Our own archive of this state, unpacked."""
    folder = tmp_path_factory.mktemp("image")
    options = images.Options(output=folder / "hawkwing.oci.tar")
    try:
        images.build(options)
    except (RootError, LabError) as error:
        pytest.skip(f"the image can't be built here: {error}")
    return Image(options.output, folder)
