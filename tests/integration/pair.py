"""A host with an agent on one link, and the link's other end, where each packet is read with scapy.

It is made and taken away in milliseconds: for tests that delete, move and rename the interface.
"""

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from scapy.layers.inet6 import IPv6, IPv6ExtHdrSegmentRouting
from scapy.layers.l2 import Ether

from hawkwing.dataplane import tc
from hawkwing.dataplane.claim import runtime_folder
from hawkwing.dataplane.netlink import Netlink
from lab import netns
from lab.wait import PATIENCE, patient, wait_until

HAWKWING = [sys.executable, "-m", "hawkwing"]
OWN, SERVICE, SID, PORT = "fcbb:cc00:1::a", "fcbb:cc00:2::a", "fcbb:bb00:1::2", 5000
CONFIG = (
    f"services: {{b: {{ipv6_addresses: ['{SERVICE}'], applications: [{{port: {PORT}, sid: ['{SID}']}}]}}}}\n"
)
NEAR_MAC, FAR_MAC = "02:00:00:00:00:0a", "02:00:00:00:00:0b"
T = TypeVar("T")


class Agent:
    """A running `hawkwing`, with its log."""

    def __init__(self, pair: "Pair", argv: list[str], log: Path) -> None:
        self._pair, self.log = pair, log
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                pair.inside(argv),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env={**os.environ, "PYTHONFAULTHANDLER": "1"},
                start_new_session=True,
            )

    def output(self) -> str:
        """What it has said."""
        return self.log.read_text()

    def ready(self) -> "Agent":
        """Once it has started."""
        self.says("ready: ")
        return self

    def says(self, text: str, limit: float = PATIENCE) -> None:
        """Waits for a text in its log."""

        def said() -> bool:
            ended = self.process.poll() is not None
            assert text in self.output() or not ended, self.output()
            return text in self.output()

        wait_until(said, limit, f"the agent to say {text!r}")

    def signal(self, number: int) -> None:
        """Sends it a signal."""
        self.process.send_signal(number)

    def stop(self) -> int:
        """Ends it with SIGTERM; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        """Its exit status; where it goes on it is killed, and shows where it was."""
        try:
            return self.process.wait(patient(20))
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)
            self.process.wait(patient(20))
            raise AssertionError(f"it did not end: {self.output()}") from None


class Pair:
    """Namespaces `near` (the agent's, with eth0), `far` (with far0) and `aside` for what is moved away."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.near, self.far, self.aside = (f"pair-{os.getpid()}-{what}" for what in ("near", "far", "aside"))
        self._agents: list[Agent] = []
        self._numbers = itertools.count()
        for name in (self.near, self.far, self.aside):
            netns.create(name)
        self.sh("ip link set lo up; ip -6 addr add fcbb:cc00:1::a/128 dev lo nodad")
        self.config = folder / "pair.yaml"
        self.config.write_text(CONFIG)

    # --- the network

    def inside(self, argv: list[str], where: str = "") -> list[str]:
        """The command line that runs `argv` in a namespace."""
        return ["nsenter", f"--net={netns.path(where or self.near)}", *argv]

    def sh(self, script: str, where: str = "", check: bool = True) -> str:
        """What a shell script prints in a namespace."""
        argv = self.inside(["sh", "-ec", script], where)
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, (script, done.stdout, done.stderr)
        return done.stdout

    def within(self, work: Callable[[], T], where: str = "") -> T:
        """The result of a function, run in a namespace."""
        return netns.run_inside(where or self.near, work)

    def link(self, name: str = "eth0", index: int = 0, address: str = OWN) -> None:
        """Makes the link, and all that is needed to send over it."""
        number = f"index {index}" if index else ""
        self.sh(
            f"ip link add {name} {number} address {NEAR_MAC} type veth "
            f"peer name far0 address {FAR_MAC} netns {self.far}"
        )
        self.up(name, address)

    def up(self, name: str = "eth0", address: str = OWN) -> None:
        """As after it was moved: addresses, routes and neighbours are gone then."""
        self.sh("ip link set far0 up", self.far)
        self.sh(f"ip link set {name} up")
        if address:
            self.sh(f"ip -6 addr replace {address}/128 dev {name} nodad")
        self.sh(
            f"ip -6 neigh replace fe80::b lladdr {FAR_MAC} dev {name} nud permanent; "
            f"ip -6 route replace default via fe80::b dev {name} onlink"
        )
        # Before the kernel has seen the carrier it drops what is sent.
        wait_until(lambda: "state UP" in self.sh(f"ip link show dev {name}"), 5.0, "the link is up")

    def rename(self, old: str, new: str) -> bool:
        """Gives the interface another name; True where it had to be down meanwhile (before Linux 6.2)."""
        try:
            self.sh(f"ip link set {old} name {new}")
        except AssertionError:
            self.sh(f"ip link set {old} down; ip link set {old} name {new}")
            self.up(new)
            return True
        return False

    def index(self, name: str = "eth0") -> int:
        """The interface's index."""

        def get() -> tc.Link | None:
            with Netlink() as ip:
                return tc.link(ip, name=name)

        found = self.within(get)
        assert found is not None, f"no {name}"
        return found.index

    def filters(self, name: str = "eth0") -> str:
        """What tc shows of filters and clsact on an interface."""
        script = f"for way in ingress egress; do tc filter show dev {name} $way; done; "
        return self.sh(f"{script} tc qdisc show dev {name} | {{ grep -E 'clsact|ingress' || true; }}").strip()

    def put(
        self, program: int, parent: int, priority: int, name: str = "somebody", dev: str = "eth0"
    ) -> None:
        """Somebody's BPF filter (a file descriptor), with handle 1."""
        index = self.index(dev)

        def work() -> None:
            with Netlink() as ip:
                tc.put_filter(ip, index, parent, (priority, 1), program, name)

        self.within(work)

    # --- packets

    def send(self, source: str = OWN) -> IPv6:
        """Sends a datagram to the service, and returns it as the other end of the link gets it.

        Without a source the kernel takes one: the link-local address where there is no other.
        """
        data = f"datagram {next(self._numbers)} {time.monotonic()}".encode()

        def capture() -> socket.socket:
            made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            made.bind(("far0", 0))
            made.settimeout(patient(2))
            return made

        def send() -> None:
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as plain:
                plain.bind((source, 0))
                plain.sendto(data, (SERVICE, PORT))

        with self.within(capture, self.far) as taps:
            self.within(send)
            while True:
                frame = taps.recv(65536)
                if data in frame:
                    return Ether(frame)[IPv6]

    def steered(self, source: str = OWN) -> bool:
        """Does a datagram have its SRH, with the right segments?"""
        packet = self.send(source)
        if IPv6ExtHdrSegmentRouting not in packet:
            assert packet.dst == SERVICE
            return False
        srh = packet[IPv6ExtHdrSegmentRouting]
        assert (srh.addresses, srh.segleft, packet.dst) == ([SERVICE, SID], 1, SID)
        return True

    # --- agents

    def agent(self, role: str = "client", *options: str) -> Agent:
        """Starts one on eth0, if no interface is among the options."""
        interface = [] if "-i" in options else ["-i", "eth0"]
        config = ["--config", str(self.config)] if role == "client" and "--config" not in options else []
        log = self.folder / f"agent-{next(self._numbers)}.log"
        self._agents.append(Agent(self, [*HAWKWING, role, *interface, *config, *options], log))
        return self._agents[-1]

    def refused(self, *options: str, role: str = "client") -> str:
        """What an agent says that does not start."""
        agent = self.agent(role, *options)
        assert agent.wait() == 1, agent.output()
        (line,) = agent.output().splitlines()
        return line

    def hawkwing(self, *arguments: str) -> str:
        """What a command prints."""
        argv = self.inside([*HAWKWING, *arguments])
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout

    def attachments(self) -> list[dict[str, Any]]:
        """Of the one agent that runs."""
        (told,) = json.loads(self.hawkwing("status", "--json"))
        found: list[dict[str, Any]] = told["attachments"]
        return found

    def run_folder(self) -> Path:
        """Where the agents keep their files."""
        return runtime_folder(netns.path(self.near))

    def close(self) -> None:
        """Ends what still runs, and removes all."""
        for agent in self._agents:
            if agent.process.poll() is None:
                agent.process.send_signal(signal.SIGCONT)
                agent.process.kill()
                agent.process.wait()
        for path in sorted(self.run_folder().glob("*")):
            path.unlink()
        if self.run_folder().exists():
            self.run_folder().rmdir()
        for name in (self.near, self.far, self.aside):
            netns.remove(name)
