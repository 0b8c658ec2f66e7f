"""Takes a snapshot of a lab with everything that the page shows; unreadable values are None."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv6Address, IPv6Network
from typing import Any

from fake_hawkeye.control import Control
from hawkwing import control
from hawkwing.dataplane.claim import runtime_folder
from hawkwing.errors import HawkwingError
from lab import netns
from lab.errors import LabError
from lab.impair import current
from lab.network import Lab
from lab.reroute import remaining_routes
from lab.routing import Route
from lab.topology import Link, Topology
from lab.view.kernel import Kernel, Port, Routes

_COUNTED_EVERY = 2.0
_ANSWER_WITHIN = 2.0


@dataclass(frozen=True)
class Agent:
    """An agent of a node; `status` is None if it was killed or does not answer."""

    node: str
    role: str
    interface: str
    status: Mapping[str, Any] | None

    @property
    def name(self) -> str:
        """Such as `hawkwing client on host-a`."""
        return f"hawkwing {self.role} on {self.node}"


@dataclass(frozen=True)
class Snapshot:
    """A lab at a time of a monotonic clock."""

    at: float
    topology: Topology
    ports: Mapping[str, Mapping[str, Port]] = field(default_factory=dict)
    routes: Mapping[str, Routes] = field(default_factory=dict)
    sids: Mapping[str, Mapping[IPv6Address, int | None]] = field(default_factory=dict)
    interface_packets: Mapping[str, Mapping[str, tuple[int, int]]] = field(default_factory=dict)
    """Packets received and sent by VPP routers, by interface."""
    agents: tuple[Agent, ...] = ()
    arrived: int | None = None
    """Packets whose SRH the agents have removed, read before `agents`; None if an agent does not answer."""
    controller: Mapping[str, Mapping[str, Any]] | None = None
    """The controller's metrics of each link; None without a controller, or if it has no topology."""
    impaired: frozenset[str] = frozenset()

    def port(self, link: str, node: str) -> Port | None:
        """A node's end of a link."""
        return self.ports.get(node, {}).get(self._link(link).interface(node).name)

    def is_up(self, link: str) -> bool | None:
        """Whether it is up at both ends; None if the state of an end is unknown."""
        ends = [self.port(link, node) for node in self._link(link).nodes]
        if any(end is not None and not end.up for end in ends):
            return False
        return None if None in ends else True

    def _link(self, name: str) -> Link:
        return next(one for one in self.topology.links if one.name == name)


class Reader:
    """Reads a lab repeatedly; LabError while it is not up."""

    def __init__(self, name: str) -> None:
        self.lab = Lab(name)
        self._kernels: dict[str, Kernel] = {}
        self._counted = -_COUNTED_EVERY
        self._vpp: dict[str, tuple[dict[IPv6Address, int | None], dict[str, tuple[int, int]]]] = {}

    def close(self) -> None:
        """Releases the lab's namespaces."""
        for kernel in self._kernels.values():
            kernel.close()
        self._kernels.clear()

    def read(self) -> Snapshot:
        """The lab now."""
        self._find()
        lab, topology = self.lab, self.lab.topology
        ports: dict[str, dict[str, Port]] = {}
        routes: dict[str, Routes] = {}
        at = time.monotonic()
        for node, kernel in self._kernels.items():
            with suppress(OSError):
                ports[node], routes[node] = kernel.read()
        try:
            failed, impaired = current(lab)
        except (OSError, ValueError):
            failed, impaired = [], {}
        self._ask_vpp(at)
        sids: dict[str, Mapping[IPv6Address, int | None]] = {
            node: found.sids for node, found in routes.items()
        }
        wanted = remaining_routes(topology, failed) if self._vpp else {}
        for node, (counted, _packets) in self._vpp.items():
            routes[node] = Routes(as_set(topology, wanted, node), dict.fromkeys(topology.router(node).sids))
            sids[node] = counted
        arrived = packets_of(tuple(agents_of(lab)), "ingress", "STRIPPED")
        return Snapshot(
            at,
            topology,
            ports,
            routes,
            sids,
            {node: packets for node, (_sids, packets) in self._vpp.items()},
            tuple(agents_of(lab)),
            arrived,
            _network_of(lab),
            frozenset(impaired),
        )

    def _find(self) -> None:
        """Opens the namespaces of the current lab."""
        if self._kernels and all(kernel.is_current() for kernel in self._kernels.values()):
            return
        self.close()
        self._vpp.clear()
        self.lab = Lab(self.lab.name)
        self.lab.require_up()
        for node in self.lab.topology.nodes:
            try:
                self._kernels[node] = Kernel(self.lab.namespace(node))
            except OSError:
                self.close()
                raise LabError(f"lab {self.lab.name} lost {node}: repair it with './run lab.up'") from None

    def _ask_vpp(self, now: float) -> None:
        """Reads VPP's own counters, less often: its CLI takes longer than the kernel."""
        if now - self._counted < _COUNTED_EVERY:
            return
        self._counted = now
        for router in self.lab.topology.routers:
            if router.router != "vpp":
                continue
            counted: dict[IPv6Address, int | None] = dict.fromkeys(router.sids)
            packets: dict[str, tuple[int, int]] = {}
            with suppress(OSError, LabError, RuntimeError):
                kind = self.lab.router_kind(router.name)
                counted |= self.lab.inside(router.name, kind.sid_packets)
                answer = kind.execute("show interface")
                if answer is not None and answer[0] == 0:
                    packets = packets_of_vpp(answer[1])
            self._vpp[router.name] = counted, packets


def packets_of_vpp(text: str) -> dict[str, tuple[int, int]]:
    """Packets received and sent by VPP's host interfaces, by their devices, from its `show interface`."""
    found: dict[str, tuple[int, int]] = {}
    name = None
    for line in text.splitlines():
        if line and not line[0].isspace():
            first = line.split()[0]
            name = first.removeprefix("host-") if first.startswith("host-") else None
            if name is not None:
                found[name] = 0, 0
        if name is not None and line.split()[-3:-1] in (["rx", "packets"], ["tx", "packets"]):
            received, sent = found[name]
            count = int(line.split()[-1])
            found[name] = (count, sent) if " rx packets" in line else (received, count)
    return found


def agents_of(lab: Lab) -> Iterator[Agent]:
    """All agents in a lab's nodes."""
    for node in lab.topology.nodes:
        with suppress(OSError):
            folder = runtime_folder(netns.path(lab.namespace(node)))
            for path in sorted(folder.glob("*.sock")):
                role, _, interface = path.stem.partition("-")
                status = None
                with suppress(OSError, HawkwingError):
                    status = control.ask(path, {"ask": "status"})
                yield Agent(node, role, interface, status)


def packets_of(agents: Iterable[Agent], direction: str, reason: str) -> int | None:
    """The sum of a counter over all agents; None if an agent does not answer."""
    total = 0
    for agent in agents:
        if agent.status is None:
            return None
        total += agent.status["counters"][direction].get(reason, {}).get("packets", 0)
    return total


def _network_of(lab: Lab) -> Mapping[str, Mapping[str, Any]] | None:
    with suppress(OSError, ValueError), Control(lab.control_socket, _ANSWER_WITHIN) as asked:
        links: Mapping[str, Mapping[str, Any]] = asked.network()["links"]
        return links
    return None


def as_set(
    topology: Topology, wanted: Mapping[str, Sequence[Route]], node: str
) -> tuple[tuple[IPv6Network, tuple[str, ...]], ...]:
    """A VPP node's routes as set by the lab, longest prefix first: the kernel below it has none."""
    own = [(one.link.prefix, (one.name,)) for one in topology.nodes[node].interfaces]
    others = [(route.prefix, tuple(hop.interface for hop in route.next_hops)) for route in wanted[node]]
    return tuple(sorted([*own, *others], key=lambda one: -one[0].prefixlen))
