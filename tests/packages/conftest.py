"""A lab for what is built, and the image; skipped, with the reason, where they can't be had."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.distributions.catalogue import named
from lab.distributions.roots import RootError, Roots
from lab.doctor import missing_features
from lab.network import Lab
from lab.packages import debian, machine
from lab.packages import image as images
from lab.packages.machine import Machine
from tests.integration.conftest import agents, capture, udp
from tests.labs import running
from tests.packages import builders
from tests.packages.containers import Image

__all__ = ["agents", "capture", "udp"]

DISTRIBUTIONS = "HAWKWING_TEST_DISTRIBUTIONS"
IMAGE = "HAWKWING_TEST_IMAGE"
GIVEN = "given"


@pytest.fixture(scope="session", autouse=True)
def able_machine() -> None:
    """One that can run a lab."""
    missing = missing_features(quick=True)
    if missing:
        pytest.skip("; ".join(missing))


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """The development network; nothing of it may be left."""
    with running(Lab(f"packages-{os.getpid()}")) as lab:
        yield lab


@pytest.fixture(scope="session")
def archive(builder: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image of this state as an OCI archive, by each builder; or the one in HAWKWING_TEST_IMAGE."""
    if builder == GIVEN:
        return Path(os.environ[IMAGE])
    if builder != images.OWN and not shutil.which(builder):
        pytest.skip(f"no {builder}")
    folder = tmp_path_factory.mktemp("archive")
    try:
        if builder != images.OWN:
            return builders.build(builder, folder)
        options = images.Options(output=folder / "hawkwing.oci.tar")
        images.build(options)
    except RootError as error:
        pytest.skip(f"the image can't be built here: {error}")
    return options.output


@pytest.fixture(scope="session")
def image(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The archive, unpacked."""
    return Image(archive, tmp_path_factory.mktemp("image"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests of the package run for each distribution, tests of the image for each builder."""
    if "distribution" in metafunc.fixturenames:
        names = os.environ.get(DISTRIBUTIONS, ",".join(debian.USUAL)).split(",")
        metafunc.parametrize("distribution", [name.strip() for name in names], scope="session")
    if "builder" in metafunc.fixturenames:
        names = [GIVEN] if IMAGE in os.environ else [images.OWN, *builders.NAMES]
        metafunc.parametrize("builder", names, scope="session")


def in_folder(variable: str, distribution: str) -> Path | None:
    """The distribution's package in the folder that a variable names; None where it is not set."""
    folder = os.environ.get(variable)
    if not folder:
        return None
    word = debian.version_for(named(distribution)).partition("+")[2]
    (found,) = Path(folder).glob(f"hawkwing_*+{word}[_+]*.deb")
    return found


@pytest.fixture(scope="session")
def package(distribution: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Debian package of this state, lintian's findings included; or one from HAWKWING_TEST_PACKAGES."""
    if built := in_folder("HAWKWING_TEST_PACKAGES", distribution):
        return built
    folder = tmp_path_factory.mktemp("packages")
    try:
        return debian.build(named(distribution), debian.Options(output=folder))
    except RootError as error:
        pytest.skip(f"the package can't be built here: {error}")


@pytest.fixture(scope="session")
def former(distribution: str, package: Path) -> Path:
    """What is upgraded: the package itself, or one from HAWKWING_TEST_FORMER, of an earlier state."""
    return in_folder("HAWKWING_TEST_FORMER", distribution) or package


@pytest.fixture(scope="session")
def root(distribution: str, package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A bare root file system with systemd and what the package depends on, and the package beside it."""
    folder = tmp_path_factory.mktemp(distribution)
    command = ["dpkg-deb", "--field", str(package), "Depends"]
    depends = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    python = next(word for word in depends.split(", ") if word.startswith("python")).split()[0]
    try:
        Roots(images.CACHE, {}, fresh=False).unpack(named(distribution), folder / "root")
        needed = ["systemd", "systemd-sysv", "dbus", "iproute2", "libstdc++6", python.strip()]
        machine.install(folder / "root", needed, folder / "log")
    except RootError as error:
        pytest.skip(f"no root file system here: {error}")
    shutil.copyfile(package, folder / "root" / "hawkwing.deb")
    yield folder / "root"
    shutil.rmtree(folder / "root")


@pytest.fixture
def booted(lab: Lab, root: Path) -> Iterator[Machine]:
    """The root file system, booted in host-a; what a test has installed is purged, with its filters."""
    made = Machine(lab, "host-a", root)
    try:
        yield made
        made.run("dpkg", "--purge", "hawkwing")
    finally:
        made.stop()
