"""The exported file, run: each container's network namespace with its commands, and the agents beside hosts.

containerlab itself is not needed: what it would do is done here, line by line of the file.
"""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml
from scapy.layers.inet6 import IPv6, IPv6ExtHdrSegmentRouting
from scapy.utils import PcapNgReader

from lab import export, netns
from lab.linux.kernel import set_sysctl
from lab.network import DEFAULT_TOPOLOGY
from lab.topology import load_topology
from lab.wait import PATIENCE, patient, wait_until

from .pair import HAWKWING

CONFIG = Path(export.__file__).with_name("client.yaml")
SIDS = [f"fcbb:bb00:{number}::2" for number in (1, 3, 5, 6)]
CLIENT, SERVER = "fcbb:cc00:1::a", "fcbb:cc00:2::a"


class Containers:
    """The namespaces of an exported file, and the programs beside them."""

    def __init__(self, file: Path, stack: ExitStack) -> None:
        self._topology: dict[str, Any] = yaml.safe_load(file.read_text())["topology"]
        self._folder, self._stack = file.parent, stack
        nodes = self._topology["nodes"]
        self._own = {name: one for name, one in nodes.items() if one["network-mode"] == "none"}
        for name, one in self._own.items():
            netns.create(self.namespace(name))
            stack.callback(netns.remove, self.namespace(name))
            self.sysctls(name, one["sysctls"])
            self.sh(name, "ip", "link", "set", "lo", "up")
        for link in self._topology["links"]:
            (here, near), (there, far) = (end.split(":") for end in link["endpoints"])
            peer = ["peer", "name", far, "netns", self.namespace(there)]
            self.sh(here, "ip", "link", "add", near, "mtu", str(link["mtu"]), "type", "veth", *peer)
            self.sh(here, "ip", "link", "set", near, "up")
            self.sh(there, "ip", "link", "set", far, "mtu", str(link["mtu"]), "up")
        for name, one in self._own.items():
            for command in one["exec"]:
                # C-SIDs need Linux 6.1.
                self.sh(name, *shlex.split(command), check="next-csid" not in command)
        beside = {name: one for name, one in nodes.items() if name not in self._own}
        self.logs = {name: self.start(name, one) for name, one in beside.items()}

    def namespace(self, node: str) -> str:
        return f"export-{os.getpid()}-{node}"

    def sysctls(self, node: str, values: dict[str, int]) -> None:
        def work() -> None:
            for name, value in values.items():
                set_sysctl(name.replace(".", "/"), value)

        netns.run_inside(self.namespace(node), work)

    def inside(self, node: str, *argv: str) -> list[str]:
        return ["nsenter", f"--net={netns.path(self.namespace(node))}", *argv]

    def sh(self, node: str, *argv: str, check: bool = True) -> str:
        done = subprocess.run(self.inside(node, *argv), capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, (node, argv, done.stderr)
        return done.stdout

    def start(self, name: str, one: dict[str, Any]) -> Path:
        """A container that shares a host's namespace; its image's program is the one of this tree."""
        program = [sys.executable] if one.get("entrypoint") == "python3" else HAWKWING
        words = one["cmd"].split()
        for bind in one.get("binds", ()):
            here, there, _mode = bind.split(":")
            words = [str(self._folder / here) if word == there else word for word in words]
        log = self._folder / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                self.inside(one["network-mode"].removeprefix("container:"), *program, *words),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        self._stack.callback(process.wait, patient(20))
        self._stack.callback(process.terminate)
        return log


@pytest.fixture(scope="module")
def containers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containers]:
    """The development network, as containerlab would deploy it; agents are ready."""
    file = tmp_path_factory.mktemp("export") / "hawk.clab.yml"
    topology = load_topology(DEFAULT_TOPOLOGY)
    export.export(topology, file, CONFIG, export.ROUTER_IMAGE, export.AGENT_IMAGE)
    with ExitStack() as stack:
        made = Containers(file, stack)
        for name in ("host-a-client", "host-b-server", "host-c-server"):
            wait_until(lambda name=name: "ready" in made.logs[name].read_text(), PATIENCE, f"{name} is ready")
        yield made


def test_the_agents_steer_and_reply(containers: Containers, tmp_path: Path) -> None:
    """A request of host-a takes the SIDs of its configuration, the reply the reverse path."""
    fetch = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"http://[{SERVER}]:80/"]

    def answers() -> bool:
        done = subprocess.run(
            containers.inside("host-a", *fetch), capture_output=True, text=True, check=False
        )
        return done.stdout == "200"

    wait_until(answers, PATIENCE, "the web server to answer")
    file = tmp_path / "vpp3.pcapng"
    argv = [*HAWKWING, "capture", "-i", "vpp5", "--count", "6", "--output", str(file)]
    with subprocess.Popen(containers.inside("vpp3", *argv), stderr=subprocess.DEVNULL) as capture:
        wait_until(lambda: file.exists() and file.stat().st_size > 0, PATIENCE, "the capture to begin")
        wait_until(lambda: answers() and capture.poll() is not None, PATIENCE, "six packets via vpp3")
    lists = {
        (tuple(packet[IPv6ExtHdrSegmentRouting].addresses), packet[IPv6].src)
        for packet in PcapNgReader(str(file))
    }
    assert lists == {((SERVER, *reversed(SIDS)), CLIENT), ((CLIENT, *SIDS), SERVER)}
    (told,) = json.loads(containers.sh("host-a", *HAWKWING, "status", "--json"))
    assert {binding["origin"] for binding in told["bindings"]} == {"backup"}
    assert "vpp1 > vpp3 > vpp5 > vpp6" in containers.sh("host-a", *HAWKWING, "status")


def test_each_host_reaches_each_other(containers: Containers) -> None:
    topology = load_topology(DEFAULT_TOPOLOGY)
    for host in topology.hosts[1:]:
        containers.sh("host-a", "ping", "-6", "-c", "1", "-W", "5", str(host.address))
