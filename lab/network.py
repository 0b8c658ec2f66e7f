"""A lab: a topology built under a name, with all of its files in one run directory."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from ipaddress import IPv6Address
from pathlib import Path
from typing import TypeVar, cast

from hawkwing import ending
from hawkwing.dataplane.claim import runtime_folder
from hawkwing.locks import Lock, holder_of
from lab import netns
from lab.build import build
from lab.commands import on_terminal, run_checked
from lab.errors import LabError as LabError
from lab.impairments import Metrics, load_impairments
from lab.kinds import NodeKind, RouterKind
from lab.linux.host import LinuxHost
from lab.linux.router import LinuxRouter
from lab.probe import unreachable
from lab.process import Process, command_inside, marked_environment, members, stop
from lab.record import Record, RouterName, read_record, write_whole
from lab.services.dns import zone_text
from lab.topology import Host, Router, Topology, TopologyError, load_topology
from lab.vpp.installation import PREFIX_VARIABLE, VppMissingError
from lab.vpp.installation import find as find_vpp
from lab.vpp.startup import shared_memory
from lab.wait import patient

PROJECT = Path(__file__).resolve().parent.parent
DEFAULT_TOPOLOGY = Path(__file__).with_name("hawk.yaml")
RUNS = Path(os.environ.get("HAWKWING_LABS", "/run/hawkwing-lab"))
T = TypeVar("T")
_TOPOLOGY = "topology.yaml"
_MARK = "hawkwing lab "


_REACHED_WITHIN = 30.0
_ROUNDS = 3


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
        if not _is_name(name):
            raise LabError(f"{name!r} is not a valid name: use letters, digits and hyphens, at most 32")
        self.name = name
        self.run = RUNS / name
        self._asked_file = topology_file
        self._asked = routers, vpp_prefix
        # Processes started here, which initially don't have the lab's mark.
        self._started: list[Process] = []
        self.impaired: list[str] = []
        """The impairments that `up` has set, one sentence each."""
        self._look()

    def _look(self) -> None:
        """Prefers the topology and routers of an existing lab to the requested ones."""
        kept, built = self.run / _TOPOLOGY, read_record(self.run)
        self.topology_file = self._asked_file
        if self._asked_file == DEFAULT_TOPOLOGY and kept.exists():
            self.topology_file = kept
        self._routers, self._vpp_prefix = (built.routers, built.vpp_prefix) if built else self._asked
        self._topology: Topology | None = None
        self._kinds: dict[str, NodeKind] = {}

    @property
    def topology(self) -> Topology:
        """The topology; its file is read on first use."""
        if self._topology is None:
            self._topology = _with_routers(load_topology(self.topology_file), self._routers)
        return self._topology

    # --- kinds of nodes

    @property
    def kinds(self) -> Mapping[str, NodeKind]:
        """The kind of every node; LabError if a router needs VPP, and VPP is not installed."""
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
        """The kind of one node; LabError if there is no such node."""
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

    def up(self, impair: Path | None = None) -> bool:
        """Builds the lab and starts its services; False if it was up. A broken lab is rebuilt.

        `impair` is a file with impairments of its links, see `lab.impairments`.
        """
        with self._locked():
            if self.is_up():
                self._look()
                self._require_asked_routers()
                if impair is not None:
                    raise LabError(
                        f"lab {self.name} is already up: use './run lab.impair' for single links, "
                        "or remove it first with './run lab.down'"
                    )
                return False
            text, topology = self._wanted()
            impairments = self._wanted_impairments(impair, topology)
            routers, prefix = self._asked
            try:
                self._down()
                self._topology, self._routers, self._vpp_prefix = topology, routers, prefix
                _ = self.kinds  # a missing VPP is reported here, before anything is created
                self._claim(text, impairments)
                self._build(impairments)
            except BaseException:
                self._down()
                raise
        return True

    def _wanted(self) -> tuple[str, Topology]:
        """The topology to build, and its text: that of a broken lab, unless another one is requested."""
        routers = self._asked[0]
        kept = self.run / _TOPOLOGY
        if self._asked_file == DEFAULT_TOPOLOGY and kept.exists():
            with suppress(OSError, TopologyError):
                return kept.read_text(), _with_routers(load_topology(kept), routers)
        topology = _with_routers(load_topology(self._asked_file), routers)
        return self._asked_file.read_text(), topology

    def _wanted_impairments(self, asked: Path | None, topology: Topology) -> dict[str, Metrics]:
        """The requested impairments, or those that a broken lab with this topology had from its start."""
        record = read_record(self.run)
        found: dict[str, Metrics] = {}
        if asked is not None:
            found = load_impairments(asked, topology)
        elif record and self._asked_file == DEFAULT_TOPOLOGY:
            found = record.impairments
        return {link.name: found[link.name] for link in topology.links if link.name in found}

    def down(self) -> None:
        """Removes everything that this lab created, and nothing else."""
        with self._locked():
            self._down()

    def is_up(self) -> bool:
        """True if it was built completely, all namespaces exist and all services are running."""
        record = read_record(self.run)
        if record is None or not record.ready:
            return False
        alive = set(members(self.name))
        return all(map(netns.exists, record.namespaces)) and all(
            self._pid(service) in alive for service in record.services
        )

    def state(self) -> str:
        """One of: up, broken (`up` repairs it), starting or ending, down."""
        if self.is_up():
            return "up"
        if _is_locked(self.name):
            return "starting or ending"
        return "broken" if self.remains() else "down"

    def _require_asked_routers(self) -> None:
        asked, built = self._asked[0], {router.router for router in self.topology.routers}
        if asked and built != {asked}:
            raise LabError(
                f"lab {self.name} is already up, with routers of kind {' and '.join(sorted(built))}: "
                "remove it first with './run lab.down'"
            )

    def remains(self) -> list[str]:
        """Leftovers of this lab on the machine; empty after `down`."""
        found = [f"process {pid}" for pid in members(self.name)]
        found += [f"namespace {name}" for name in self._namespaces()]
        found += [f"file {file}" for name in self._names() for file in self._files_of(name)]
        if self.run.exists():
            found.append(f"directory {self.run}")
        return found

    def _namespaces(self) -> list[str]:
        """The existing namespaces with the lab's mark."""
        return netns.marked(self._mark, f"{self.name}-")

    @property
    def _mark(self) -> str:
        return f"{_MARK}{self.name}"

    def _names(self) -> list[str]:
        """All names that its namespaces have or may have had."""
        record = read_record(self.run)
        names = [*(record.namespaces if record else ()), *self._namespaces()]
        with suppress(OSError, TopologyError):
            names += [self.namespace(node) for node in self.topology.nodes]
        return list(dict.fromkeys(names))

    @staticmethod
    def _files_of(name: str) -> list[Path]:
        """Files of a namespace that a killed `up` or a killed VPP leaves."""
        dead = [netns.path(name)] if netns.path(name).exists() and not netns.exists(name) else []
        return [*dead, *shared_memory(name)]

    def _claim(self, text: str, impairments: dict[str, Metrics]) -> None:
        """Records what will be created, so that `down` can clean up after a killed `up`."""
        namespaces = [self.namespace(node) for node in self.topology.nodes]
        taken = [name for name in namespaces if netns.exists(name)]
        if taken:
            raise LabError(
                f"network namespace {taken[0]} exists and does not belong to this lab, use another --name"
            )
        for folder in ("logs", "pids", "captures", "etc"):
            (self.run / folder).mkdir(parents=True, exist_ok=True)
        self.topology_file = self.run / _TOPOLOGY
        write_whole(self.topology_file, text)
        services = [node.name for node in self.topology.hosts if node.dns or node.web or node.hawkeye]
        services += [node.name for node in self.topology.routers if node.router == "vpp"]
        prefix = self._vpp_prefix or os.environ.get(PREFIX_VARIABLE)
        self._record = Record(namespaces, services, False, self._routers, prefix, impairments)
        self._record.write(self.run)

    def _build(self, impairments: dict[str, Metrics]) -> None:
        for node in self.topology.nodes.values():
            self._write_etc(node)
        build(self.topology, self.namespace, self.kinds, self._mark)
        ending.check()
        started = [process for host in self.topology.hosts for process in self._start_services(host)]
        missing = unreachable(self.topology, self.namespace, timeout=patient(_REACHED_WITHIN))
        if missing:
            pairs = ", ".join(f"{a} to {b}" for a, b in missing[:4])
            raise LabError(f"the lab was built, but these hosts do not reach each other: {pairs}")
        for process in started:
            process.wait_for("listening on")
        # It imports this module.
        from lab.impair import begin

        self.impaired = begin(self, impairments) if impairments else []
        ending.check()
        replace(self._record, ready=True).write(self.run)

    def _write_etc(self, node: Host | Router) -> None:
        folder = self.etc(node.name)
        folder.mkdir(parents=True, exist_ok=True)
        if isinstance(node, Host) and node.resolver:
            server = self.topology.host(node.resolver).address
            (folder / "resolv.conf").write_text(f"nameserver {server}\noptions timeout:1 attempts:3\n")
        known = "".join(f"{address_of(other)} {name}\n" for name, other in self.topology.nodes.items())
        (folder / "hosts").write_text(f"127.0.0.1 localhost\n::1 localhost ip6-localhost\n{known}")

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
        """The file with all requests to the mock controller."""
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
        with ending.shielded():
            stop([process.pid for process in self._started if process.poll() is None])
            self._started.clear()
            for _ in range(_ROUNDS):
                # A stopped process may have started another one before.
                if pids := members(self.name):
                    stop(pids)
            names, present = self._names(), self._namespaces()
            for name in present:
                # Files of killed agents; the namespace's number can be reused.
                shutil.rmtree(runtime_folder(netns.path(name)), ignore_errors=True)
                netns.remove(name)
            for file in [file for name in names for file in self._files_of(name)]:
                file.unlink(missing_ok=True)
            with suppress(OSError):
                runtime_folder().parent.rmdir()
            # The namespaces have no processes now, so the kernel frees their content.
            shutil.rmtree(self.run, ignore_errors=True)
            with suppress(OSError):
                self.run.parent.rmdir()
            self._look()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        if os.geteuid() != 0:
            raise LabError("the lab needs root privileges (CAP_SYS_ADMIN, CAP_NET_ADMIN, CAP_BPF): use sudo")
        lock = Lock(_lock(self.name))
        try:
            yield
        finally:
            lock.release()

    # --- use

    def require_up(self) -> None:
        """LabError if the lab is not up; one that was up and lost a part can still be used."""
        record = read_record(self.run)
        if record is not None and record.ready:
            return
        if self.run.exists():
            raise LabError(
                f"lab {self.name} is not up: it is being started, or its start was interrupted; "
                "repair it with './run lab.up'"
            )
        raise LabError(f"lab {self.name} is not up, start it with './run lab.up'")

    def command(self, node: str, argv: Sequence[str]) -> list[str]:
        """The command line that runs `argv` in a node."""
        return command_inside(self.namespace(node), self.etc(node), argv)

    def start(
        self, node: str, name: str, argv: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> Process:
        """Starts a process in the background of a node; its log is logs/NAME.log."""
        with ending.shielded():
            process = Process(self.name, self.run, name, self.command(node, argv), environment, cwd=PROJECT)
            self._started.append(process)
        return process

    def execute(
        self, node: str, argv: Sequence[str], timeout: float = 30.0, check: bool = True
    ) -> "subprocess.CompletedProcess[str]":
        """Runs a command in a node and returns its status and output.

        Raises CommandError with the command's output if it fails or takes longer. With `check` off, the
        caller checks the exit status.
        """
        command = self.command(node, argv)
        return run_checked(argv, node, command, marked_environment(self.name), patient(timeout), check)

    def foreground(self, node: str, argv: Sequence[str], cwd: Path | None = None) -> int:
        """Runs a command in a node on this terminal; returns its exit status. It ends with this process."""
        return on_terminal(self.command(node, argv), marked_environment(self.name), cwd)

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


def _is_name(text: str) -> bool:
    return re.fullmatch("[A-Za-z0-9-]{1,32}", text) is not None and text.strip("-") != ""


def _lock(name: str) -> Path:
    return Path(f"/run/lock-hawkwing-lab-{name}")


def _is_locked(name: str) -> bool:
    if not _lock(name).exists():
        return holder_of(_lock(name)) is not None
    try:
        Lock(_lock(name), wait=False).release()
    except BlockingIOError:
        return True
    return False


def lab_names() -> list[str]:
    """The names of all labs of this machine, which have a run directory or marked namespaces."""
    folders = (
        [folder.name for folder in RUNS.iterdir() if folder.is_dir() and _is_name(folder.name)]
        if RUNS.exists()
        else []
    )
    marks = [netns.mark_of(name) for name in netns.names()]
    return sorted({*folders, *(mark.removeprefix(_MARK) for mark in marks if mark.startswith(_MARK))})


def address_of(node: Host | Router) -> IPv6Address:
    """The address in the nodes' /etc/hosts: a host's service address, a router's loopback."""
    return node.address if isinstance(node, Host) else node.loopback.ip


def _with_routers(topology: Topology, routers: RouterName | None) -> Topology:
    return topology.with_routers(routers) if routers else topology
