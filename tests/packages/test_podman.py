"""The image under Podman, started by the commands of docs/install.md in hosts of the lab."""

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.network import PROJECT, Lab
from lab.process import Process
from lab.wait import PATIENCE, wait_until
from lab.wire import Capture, tcp_port
from tests.integration.conftest import filters
from tests.integration.onwire import assert_steered
from tests.integration.test_steering import BY_NAME, http
from tests.packages.builders import Storage

pytestmark = pytest.mark.skipif(not shutil.which("podman"), reason="no podman")

SECCOMP = "deploy/seccomp.json"
PRIVILEGED, SERVER, FEW = range(3)


def documented() -> list[list[str]]:
    """The words of the document's `docker run` commands, in its order."""
    text = (PROJECT / "docs/install.md").read_text()
    commands = re.findall(r"^docker run (?:.*\\\n)*.*$", text, re.MULTILINE)
    return [shlex.split(command.replace("\\\n", " ")) for command in commands]


class Podman(Storage):
    """With images and containers of its own, below `folder`."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        super().__init__("podman", folder)
        self._lab = lab
        self.image = ""

    def load(self, archive: Path) -> None:
        """The image of an archive."""
        found = re.search(r"^Loaded image.*?: ([^\s,]+)", self.call("load", "-i", str(archive)), re.MULTILINE)
        assert found
        self.image = found[1]

    def run(self, node: str, words: list[str], config: Path, seccomp: str = SECCOMP) -> Process:
        """A `docker run` of the document, in a host, with these files; the container has the host's name."""
        there = {
            "/path/to/config:": f"{config}:",
            "/run/hawkwing:": f"{self.folder}/run-{node}:",
            f"seccomp={SECCOMP}": f"seccomp={seccomp}",
        }
        (self.folder / f"run-{node}").mkdir(exist_ok=True)
        said = []
        for word in words[2:]:
            for name, ours in there.items():
                word = ours + word.removeprefix(name) if word.startswith(name) else word
            said.append(self.image if re.fullmatch(r"hawkwing:[\d.]+", word) else word)
        argv = self.command("run", "--rm", f"--name={node}", *said)
        return self._lab.start(node, f"podman-{node}", argv, self.environment)


@pytest.fixture(scope="module")
def loaded(lab: Lab, archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    """Podman with the image; nothing of it is left."""
    made = Podman(lab, tmp_path_factory.mktemp("podman"))
    made.load(archive)
    yield made
    made.remove()


@pytest.fixture
def podman(loaded: Podman) -> Iterator[Podman]:
    """Without containers, before and after a test."""
    yield loaded
    loaded.call("rm", "--all", "--force")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A folder with config.yaml."""
    (tmp_path / "config.yaml").write_text(BY_NAME)
    return tmp_path


def test_the_document_has_three_commands() -> None:
    roles = ["client", "server", "client"]
    assert [next(word for word in words if word in roles) for words in documented()] == roles
    assert [("--privileged" in words) for words in documented()] == [True, True, False]


@pytest.mark.parametrize("which", [PRIVILEGED, FEW], ids=["privileged", "few"])
def test_documented_commands_steer(
    lab: Lab, podman: Podman, config: Path, capture: Capture, which: int
) -> None:
    server = podman.run("host-b", documented()[SERVER], config)
    server.wait_for("ready: ")
    client = podman.run("host-a", documented()[which], config)
    client.wait_for("ready: ")
    capture.forget()
    assert http(lab, "http://wb.hawk.net/") == "Hello from host-b\n"
    assert_steered(capture.settled(tcp_port(80)))
    assert podman.call("exec", "host-a", "hawkwing", "status").startswith("hawkwing client on eth0")
    podman.call("kill", "--signal=HUP", "host-a")
    wait_until(lambda: "configuration reloaded" in client.output(), PATIENCE, "a reload")
    for process, node in ((client, "host-a"), (server, "host-b")):
        podman.call("stop", node)
        assert process.wait(PATIENCE) == 0
        assert process.output().splitlines()[-1] == "hawkwing: stopped, filters removed from eth0"
        assert filters(lab, node) == ""


def test_a_profile_without_bpf_is_named(lab: Lab, podman: Podman, config: Path, tmp_path: Path) -> None:
    """As the usual one of Debian 12's Podman."""
    text = (PROJECT / SECCOMP).read_text()
    assert '"bpf"' in text
    (tmp_path / "without.json").write_text(text.replace('"bpf"', '"getpid"'))
    process = podman.run("host-a", documented()[FEW], config, str(tmp_path / "without.json"))
    assert process.wait(PATIENCE) == 1
    sentence = process.output().removeprefix("hawkwing: ").strip()
    assert sentence in " ".join((PROJECT / "docs/install.md").read_text().split())
    assert filters(lab, "host-a") == ""
