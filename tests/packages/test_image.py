"""The container image in hosts of the lab, SRHs on the wire: read-only, with the fewest capabilities."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab.network import Lab
from lab.wait import PATIENCE, wait_until
from lab.wire import Capture, tcp_port
from tests.integration.conftest import Agents, filters
from tests.integration.onwire import assert_steered
from tests.integration.test_steering import BY_NAME, http
from tests.packages.containers import SMALLEST, Container, Image

#: The words of the README's docker commands, behind the image's name.
CLIENT = ["hawkwing", "client", "-i", "eth0", "--config", "/config/config.yaml"]
SERVER = ["hawkwing", "server", "-i", "eth0"]

pytestmark = pytest.mark.skipif(not shutil.which("crun"), reason="no crun: containers can't be run here")


@pytest.fixture
def container(image: Image, lab: Lab, tmp_path: Path) -> Iterator[Callable[[str], Container]]:
    """`container("host-a")`; removed after the test."""
    made: list[Container] = []

    def make(node: str) -> Container:
        made.append(Container(image, lab, node, tmp_path / f"{tmp_path.name[-20:]}-{len(made)}"))
        return made[-1]

    yield make
    for one in made:
        one.remove()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A folder with config.yaml."""
    folder = tmp_path / "config"
    folder.mkdir()
    (folder / "config.yaml").write_text(BY_NAME)
    return folder


def test_both_roles_steer_and_tell(
    lab: Lab, container: Callable[[str], Container], config: Path, capture: Capture
) -> None:
    """With a read-only root, and without a compiler."""
    server, client = container("host-b"), container("host-a")
    serving = server.start(SERVER)
    serving.wait_for("ready: ")
    running = client.start(CLIENT, share=config)
    running.wait_for("ready: ")
    assert "compiling" not in running.output() + serving.output()
    capture.forget()
    assert http(lab, "http://wb.hawk.net/") == "Hello from host-b\n"
    assert_steered(capture.settled(tcp_port(80)))
    told = client.execute(["hawkwing", "status", "--json"])
    assert (told.returncode, told.stderr) == (0, "")
    assert json.loads(told.stdout)[0]["role"] == "client"
    client.signal("HUP")
    wait_until(lambda: "configuration reloaded" in running.output(), PATIENCE, "a reload")
    for one, process, node in ((client, running, "host-a"), (server, serving, "host-b")):
        one.signal("TERM")
        assert process.wait(PATIENCE) == 0
        assert process.output().splitlines()[-1] == "hawkwing: stopped, filters removed from eth0"
        assert "Traceback" not in process.output()
        assert filters(lab, node) == ""


def test_against_an_agent_without_a_container(
    lab: Lab, container: Callable[[str], Container], config: Path, agents: Agents, capture: Capture
) -> None:
    agents.server("host-b")
    client = container("host-a").start(CLIENT[1:], share=config)
    client.wait_for("ready: ")
    capture.forget()
    assert http(lab, "http://wb.hawk.net/") == "Hello from host-b\n"
    assert_steered(capture.settled(tcp_port(80)))


@pytest.mark.parametrize("role", ["client", "server"])
@pytest.mark.parametrize("missing", SMALLEST)
def test_a_missing_capability_is_named(
    lab: Lab, container: Callable[[str], Container], config: Path, missing: str, role: str
) -> None:
    rest = [name for name in SMALLEST if name != missing]
    process = container("host-a").start(CLIENT if role == "client" else SERVER, rest, config)
    assert process.wait(PATIENCE) == 1
    sentence = f"hawkwing: missing {missing}: run it as root, or give it this capability\n"
    assert process.output() == sentence
    assert filters(lab, "host-a") == ""


def test_status_and_check_need_no_capability(container: Callable[[str], Container], config: Path) -> None:
    process = container("host-a").start(["hawkwing", "status"], ())
    assert process.wait(PATIENCE) == 0
    assert process.output() == "no hawkwing agent is running in this network namespace\n"
    process = container("host-a").start(["check", "/config/config.yaml"], (), config)
    assert process.wait(PATIENCE) == 0
    assert process.output().endswith("valid, 1 service with 1 application\n")


def test_without_words_it_says_how_to_use_it(container: Callable[[str], Container]) -> None:
    process = container("host-a").start([])
    assert process.wait(PATIENCE) == 0
    assert process.output().startswith("usage: hawkwing ")
