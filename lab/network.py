"""A lab: a topology built under a name, with all of its files in one run directory."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

from hawkwing.dataplane.claim import runtime_folder
from lab import netns
from lab.build import build
from lab.kinds import NodeKind, RouterKind
from lab.linux.host import LinuxHost
from lab.linux.router import LinuxRouter
from lab.probe import unreachable
from lab.process import Process, command_inside, marked_environment, members, stop
from lab.services.dns import zone_text
from lab.topology import Host, Router, Topology, load_topology
from lab.vpp.installation import PREFIX_VARIABLE, VppMissingError
from lab.vpp.installation import find as find_vpp
from lab.vpp.startup import shared_memory
from lab.wait import patient

PROJECT = Path(__file__).resolve().parent.parent
DEFAULT_TOPOLOGY = Path(__file__).with_name("hawk.yaml")
RUNS = Path(os.environ.get("HAWKWING_LABS", "/run/hawkwing-lab"))
RouterName = Literal["linux", "vpp"]
T = TypeVar("T")


class LabError(Exception):
    """An error that the user can correct, in one sentence."""


class Lab:
    """Starts, stops and uses a lab. All state is in the kernel and in the run directory."""

    def __init__(
        self,
        name: str = "hawk",
        topology_file: Path = DEFAULT_TOPOLOGY,
        routers: RouterName | None = None,
        vpp_prefix: str | None = None,
    ) -> None:
        """`routers` overrides the kind of all routers in the topology; a lab that is up keeps its kind."""
        if not name.replace("-", "").isalnum() or len(name) > 32:
            raise LabError(f"{name!r} is not a valid name: use letters, digits and hyphens, at most 32")
        self.name = name
        self.run = RUNS / name
        self._record = self.run / "lab.json"
        kept = self.run / "topology.yaml"
        self.topology_file = kept if kept.exists() and topology_file == DEFAULT_TOPOLOGY else topology_file
        self._asked = routers, vpp_prefix
        built = self._recorded()
        self._routers: RouterName | None = built.get("routers") if built else routers
        self._vpp_prefix: str | None = built.get("vpp_prefix") if built else vpp_prefix
        self._topology: Topology | None = None
        self._kinds: dict[str, NodeKind] = {}

    @property
    def topology(self) -> Topology:
        """The topology; its file is read on first use."""
        if self._topology is None:
            self._topology = self._load()
        return self._topology

    def _load(self) -> Topology:
        topology = load_topology(self.topology_file)
        return topology.with_routers(self._routers) if self._routers else topology

    # --- kinds of nodes

    @property
    def kinds(self) -> Mapping[str, NodeKind]:
        """The kind of every node; LabError where a router needs VPP and there is none."""
        if not self._kinds:
            self._kinds = {name: self._kind_of(node) for name, node in self.topology.nodes.items()}
        return self._kinds

    def _kind_of(self, node: Host | Router) -> NodeKind:
        if isinstance(node, Host):
            return LinuxHost(node)
        if node.router == "linux":
            return LinuxRouter(node)
        try:
            installation = find_vpp(self._vpp_prefix)
        except VppMissingError as error:
            raise LabError(str(error)) from error
        # The library for VPP's API is needed only with VPP.
        from lab.vpp.router import VppRouter

        return VppRouter(node, self, installation)

    def kind(self, node: str) -> NodeKind:
        """The kind of one node; LabError where there is no such node."""
        self.namespace(node)
        return self.kinds[node]

    def router_kind(self, node: str) -> RouterKind:
        """The kind of a router."""
        kind = self.kind(node)
        if isinstance(kind, LinuxHost):
            raise LabError(f"{node} is a host, not a router")
        return cast(RouterKind, kind)

    def inside(self, node: str, work: Callable[[], T]) -> T:
        """The result of `work`, run by a thread in the node's network namespace."""
        return netns.run_inside(self.namespace(node), work)

    def sid_packets(self) -> dict[str, dict[IPv6Address, int]]:
        """The number of packets processed by each SID of each router."""
        return {
            router.name: self.inside(router.name, self.router_kind(router.name).sid_packets)
            for router in self.topology.routers
        }

    def set_mtu(self, node: str, peer: str, octets: int) -> None:
        """Sets the MTU of a node's end of the link to `peer`."""
        interface = self.topology.nodes[node].interface_to(peer)
        self.inside(node, lambda: self.kinds[node].set_mtu(interface, octets))

    def namespace(self, node: str) -> str:
        """The name of a node's network namespace."""
        if node not in self.topology.nodes:
            known = ", ".join(self.topology.nodes)
            raise LabError(f"lab {self.name} has no node {node!r}, it has {known}")
        return f"{self.name}-{node}"

    # --- up and down

    def up(self) -> bool:
        """Builds the lab and starts its services; False if it was up. A broken lab is rebuilt."""
        with self._locked():
            if self.is_up():
                self._require_asked_routers()
                return False
            self._routers, self._vpp_prefix = self._asked
            wanted = self._load()
            self._down()
            self._topology = wanted
            self._kinds.clear()
            _ = self.kinds  # a missing VPP is reported here, before anything is created
            self._claim()
            try:
                self._build()
            except BaseException:
                self._down()
                raise
        return True

    def down(self) -> None:
        """Removes everything that this lab created, and nothing else."""
        with self._locked():
            self._down()

    def is_up(self) -> bool:
        """True if it was built completely, all namespaces exist and all services are running."""
        record = self._recorded()
        alive = set(members(self.name))
        return (
            bool(record.get("ready"))
            and all(netns.exists(name) for name in record["namespaces"])
            and all(self._pid(service) in alive for service in record["services"])
        )

    def _require_asked_routers(self) -> None:
        asked, built = self._asked[0], {router.router for router in self.topology.routers}
        if asked and built != {asked}:
            raise LabError(
                f"lab {self.name} is already up, with routers of kind {' and '.join(sorted(built))}: "
                "remove it first with './run lab.down'"
            )

    def _recorded(self) -> dict[str, Any]:
        try:
            record = json.loads(self._record.read_text())
        except (OSError, ValueError):
            return {}
        return record if isinstance(record, dict) else {}

    def remains(self) -> list[str]:
        """Leftovers of this lab on the machine; empty after `down`."""
        found = [f"process {pid}" for pid in members(self.name)]
        found += [f"namespace {name}" for name in self._recorded_namespaces() if netns.path(name).exists()]
        found += [f"file {file}" for name in self._recorded_namespaces() for file in shared_memory(name)]
        if self.run.exists():
            found.append(f"directory {self.run}")
        return found

    def _recorded_namespaces(self) -> list[str]:
        return list(self._recorded().get("namespaces", []))

    def _claim(self) -> None:
        """Records what will be created, so that `down` can clean up after a killed `up`."""
        namespaces = [self.namespace(node) for node in self.topology.nodes]
        taken = [name for name in namespaces if netns.path(name).exists()]
        if taken:
            raise LabError(
                f"network namespace {taken[0]} exists and does not belong to this lab, use another --name"
            )
        for folder in ("logs", "pids", "captures", "etc"):
            (self.run / folder).mkdir(parents=True, exist_ok=True)
        (self.run / "topology.yaml").write_text(self.topology_file.read_text())
        self._write_record(namespaces, ready=False)

    def _write_record(self, namespaces: Sequence[str], ready: bool) -> None:
        services = [node.name for node in self.topology.hosts if node.dns or node.web or node.hawkeye]
        services += [node.name for node in self.topology.routers if node.router == "vpp"]
        record = {
            "namespaces": namespaces,
            "services": services,
            "ready": ready,
            "routers": self._routers,
            "vpp_prefix": self._vpp_prefix or os.environ.get(PREFIX_VARIABLE),
        }
        self._record.write_text(json.dumps(record, indent=1))

    def _build(self) -> None:
        for host in self.topology.hosts:
            self._write_etc(host)
        build(self.topology, self.namespace, self.kinds)
        started = [process for host in self.topology.hosts for process in self._start_services(host)]
        missing = unreachable(self.topology, self.namespace, timeout=patient(5.0))
        if missing:
            pairs = ", ".join(f"{a} to {b}" for a, b in missing[:4])
            raise LabError(f"the lab was built, but these hosts do not reach each other: {pairs}")
        for process in started:
            process.wait_for("listening on")
        self._write_record(self._recorded_namespaces(), ready=True)

    def _write_etc(self, host: Host) -> None:
        folder = self.etc(host.name)
        folder.mkdir(parents=True, exist_ok=True)
        if host.resolver:
            server = self.topology.host(host.resolver).address
            (folder / "resolv.conf").write_text(f"nameserver {server}\noptions timeout:1 attempts:3\n")
        (folder / "hosts").write_text("127.0.0.1 localhost\n::1 localhost ip6-localhost\n")

    def etc(self, node: str) -> Path:
        """The folder with the node's own /etc files."""
        return self.run / "etc" / node

    def _start_services(self, host: Host) -> Iterator[Process]:
        python = [sys.executable, "-m"]
        address = str(host.address)
        if host.dns:
            zone = self.run / "zone"
            zone.write_text(zone_text(self.topology))
            argv = ["lab.services.dns", "--zone", str(zone), "--origin", host.dns.zone.origin]
            yield self.start(
                host.name, host.name, [*python, *argv, "--address", address, "--port", str(host.dns.port)]
            )
        if host.web:
            argv = ["lab.services.web", "--port", str(host.web.port), "--text", host.web.text]
            yield self.start(host.name, host.name, [*python, *argv, "--address", address])
        if host.hawkeye:
            yield self.start_hawkeye()

    @property
    def hawkeye(self) -> Host:
        """The host of the controller."""
        found = next((host for host in self.topology.hosts if host.hawkeye), None)
        if found is None:
            raise LabError(
                f"topology {self.topology.name} has no host with a controller (hawkeye: {{port: ...}})"
            )
        return found

    @property
    def control_socket(self) -> Path:
        """The control socket of the mock controller."""
        return self.run / "hawkeye.sock"

    @property
    def requests_file(self) -> Path:
        """The file with all requests that the mock controller got."""
        return self.run / "hawkeye-requests.jsonl"

    def start_hawkeye(
        self, table: Path | None = None, computing: bool = True, options: Sequence[str] = ()
    ) -> Process:
        """Starts the mock controller on its host; paths that are not in its table are computed."""
        host = self.hawkeye
        assert host.hawkeye is not None
        if table is None:
            table = self.run / "hawkeye.yaml"
            if not table.exists():
                table.write_text("[]\n")
        argv = ["--address", str(host.address), "--port", str(host.hawkeye.port), "--table", str(table)]
        if computing:
            argv += ["--topology", str(self.run / "topology.yaml")]
        argv += ["--record", str(self.requests_file), "--control", str(self.control_socket)]
        return self.start(host.name, host.name, [sys.executable, "-m", "fake_hawkeye", *argv, *options])

    def _down(self) -> None:
        stop(members(self.name))
        for name in self._recorded_namespaces():
            if netns.exists(name):
                # Files of killed agents; the number of the namespace may be used again.
                shutil.rmtree(runtime_folder(netns.path(name)), ignore_errors=True)
            netns.remove(name)
            for file in shared_memory(name):
                file.unlink(missing_ok=True)
        with suppress(OSError):
            runtime_folder().parent.rmdir()
        # No process uses the namespaces any more, so the kernel removes what is in them.
        shutil.rmtree(self.run, ignore_errors=True)
        if self.run.parent.exists() and not any(self.run.parent.iterdir()):
            self.run.parent.rmdir()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        if os.geteuid() != 0:
            raise LabError("the lab needs root privileges (CAP_SYS_ADMIN, CAP_NET_ADMIN, CAP_BPF): use sudo")
        RUNS.mkdir(parents=True, exist_ok=True)
        with Path(f"/run/lock-hawkwing-lab-{self.name}").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                Path(file.name).unlink(missing_ok=True)

    # --- use

    def require_up(self) -> None:
        """LabError if the lab is not up."""
        if not self._record.exists():
            raise LabError(f"lab {self.name} is not up, start it with './run lab.up'")

    def command(self, node: str, argv: Sequence[str]) -> list[str]:
        """The command line that runs `argv` in a node."""
        return command_inside(self.namespace(node), self.etc(node), argv)

    def start(
        self, node: str, name: str, argv: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> Process:
        """Starts a process in the background of a node; its log is logs/NAME.log."""
        return Process(self.name, self.run, name, self.command(node, argv), environment, cwd=PROJECT)

    def execute(
        self, node: str, argv: Sequence[str], timeout: float = 30.0
    ) -> "subprocess.CompletedProcess[str]":
        """Runs a command in a node and returns its status and output."""
        return subprocess.run(
            self.command(node, argv),
            env=marked_environment(self.name),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=patient(timeout),
            check=False,
        )

    def foreground(self, node: str, argv: Sequence[str], cwd: Path | None = None) -> int:
        """Runs a command in a node on this terminal; returns its exit status."""
        process = subprocess.Popen(self.command(node, argv), env=marked_environment(self.name), cwd=cwd)
        while True:
            try:
                status = process.wait()
                return status if status >= 0 else 128 - status
            except KeyboardInterrupt:
                # The command got it too, and decides when it ends.
                continue

    def _pid(self, name: str) -> int:
        try:
            return int((self.run / "pids" / name).read_text())
        except (OSError, ValueError):
            return -1

    def processes(self) -> dict[str, int]:
        """Name and PID of all background processes."""
        folder = self.run / "pids"
        alive = set(members(self.name))
        names = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
        return {name: self._pid(name) for name in names if self._pid(name) in alive}
