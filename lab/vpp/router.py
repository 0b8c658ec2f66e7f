"""A VPP router: one instance on the node's links; the kernel only passes frames."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path

from pyroute2 import IPRoute

from lab.kinds import Place
from lab.linux.kernel import links, set_sysctl
from lab.process import Process, last_words
from lab.routing import Route
from lab.topology import Interface, Router
from lab.vpp import checksums, objects
from lab.vpp.api import Api, VppError, wait_for_api
from lab.vpp.installation import Installation
from lab.vpp.objects import Address, Gateway, HostInterface, LocalSid, Loopback, Neighbour, StaticRoute
from lab.vpp.startup import API_SOCKET, CLI_SOCKET, startup_text
from lab.wait import PATIENCE, wait_until

_LINK_MTU = 1500
_ENDED_WITHIN = 2.0


class VppRouter:
    """A VPP router; a later command finds the instance by its run directory."""

    largest_packet: int | None = objects.LARGEST_PACKET

    def __init__(self, node: Router, place: Place, installation: Installation) -> None:
        self._node = node
        self._place = place
        self._installation = installation
        self._process: Process | None = None

    @property
    def folder(self) -> Path:
        """The folder with its sockets and start-up configuration."""
        return self._place.run / "vpp" / self._node.name

    def prepare(self) -> None:
        """Starts the instance, which comes up while the links are created."""
        # The kernel must not answer or forward packets for VPP.
        for scope in ("all", "default"):
            set_sysctl(f"net/ipv6/conf/{scope}/disable_ipv6", 1)
        self.folder.mkdir(parents=True)
        configuration = self.folder / "startup.conf"
        text = startup_text(
            self._place.namespace(self._node.name),
            self.folder,
            self._installation.plugins,
            self._installation.present_plugins,
        )
        configuration.write_text(text)
        argv = self._command(self._installation.program, "-c", configuration)
        self._process = self._place.start(self._node.name, self._node.name, argv)

    def _command(self, program: Path, *arguments: str | Path) -> list[str]:
        environment = [f"{name}={value}" for name, value in self._installation.environment.items()]
        return ["env", *environment, *map(str, (program, *arguments))]

    def configure(self, ip: IPRoute, indexes: dict[str, int], routes: Sequence[Route]) -> None:
        """Configures everything through the binary API."""
        wait_for_api(self.folder / API_SOCKET, lambda: self._ended("did not start"), PATIENCE)
        self._release_core()
        with checksums.loaded() as program:
            for interface in self._node.interfaces:
                checksums.attach(indexes[interface.name], program)
        try:
            with self._api() as api:
                self._configure(api, routes)
        except VppError as error:
            if error.__cause__ is None:
                raise  # an answer
            # Its connection closes a moment before the process has ended.
            with suppress(TimeoutError):
                wait_until(lambda: self._ended(""), _ENDED_WITHIN, "the end of VPP")
            why = self._ended("ended while it was configured")
            if why is None:
                raise
            raise VppError(why) from error

    def _release_core(self) -> None:
        """VPP binds itself to one core, and would wait for it while others are idle."""
        if self._process is not None:
            with suppress(ProcessLookupError):  # its end is told by what follows
                os.sched_setaffinity(self._process.pid, os.sched_getaffinity(0))

    def _configure(self, api: Api, routes: Sequence[Route]) -> None:
        loopback = Loopback()
        loopback.add(api)
        Address(loopback, self._node.loopback).add(api)
        objects.set_up(api, loopback, True)
        for interface in self._node.interfaces:
            port = _port(interface)
            port.add(api)
            objects.set_mtu(api, port, _LINK_MTU)
            objects.set_up(api, port, True)
            Address(port, interface.address).add(api)
            objects.advertise_nothing(api, port)
            Neighbour(port, interface.peer_address.ip, interface.peer_hardware_address).add(api)
        for sid in self._node.sids:
            LocalSid(sid).add(api)
        if self._node.csid is not None:
            LocalSid(self._node.csid.network_address, compressed=True).add(api)
        for route in routes:
            self._route(route).add(api)

    def _ended(self, what: str) -> str | None:
        """A sentence with its last words, if it has ended: its log is removed with the lab."""
        if self._process is None:
            return None
        status = self._process.poll()
        if status is None:
            return None
        return f"VPP on {self._node.name} {what} (status {status}): {last_words(self._process.output())}"

    @contextmanager
    def _api(self) -> Iterator[Api]:
        with Api(self.folder / API_SOCKET, self._installation.api) as api:
            yield api

    def _route(self, route: Route) -> StaticRoute:
        ports = {interface.name: _port(interface) for interface in self._node.interfaces}
        gateways = (Gateway(ports[h.interface], h.address) for h in route.next_hops if h.address is not None)
        return StaticRoute(route.prefix, frozenset(gateways))

    def settle(self, routes: Sequence[Route], ours: Collection[IPv6Network], failed: Collection[str]) -> bool:
        """Changes only the routes that differ; SIDs do not depend on links."""
        with self._api() as api:
            wanted = [self._route(route) for route in routes]
            present = objects.present_routes(api, set(ours))
            different = [route for route in wanted if present.get(route.prefix) != route.next_hops(api)]
            for route in different:
                route.add(api)
            stale = present.keys() - {route.prefix for route in wanted}
            for prefix in stale:
                StaticRoute(prefix, frozenset()).remove(api)
            return bool(different or stale)

    def set_link(self, interface: Interface, up: bool) -> None:
        """Sets the device and VPP's interface up or down; addresses and neighbours stay."""
        with IPRoute() as ip:
            ip.link("set", index=links(ip)[interface.name], state="up" if up else "down")
        with self._api() as api:
            objects.set_up(api, _port(interface), up)

    def set_mtu(self, interface: Interface, octets: int) -> None:
        """Sets the MTU of the device and of VPP's interface."""
        with IPRoute() as ip:
            ip.link("set", index=links(ip)[interface.name], mtu=octets)
        with self._api() as api:
            objects.set_mtu(api, _port(interface), octets)

    def sid_packets(self) -> dict[IPv6Address, int]:
        """VPP's packet counter of each SID."""
        with self._api() as api:
            return objects.sid_packets(api)

    def description(self) -> str:
        """VPP, with the version of the running instance."""
        with self._api() as api:
            return f"VPP {api.call('show_version').version.removeprefix('v')}"

    def console(self) -> list[str] | None:
        """VPP's CLI on the instance's socket."""
        return self._command(self._installation.console, "-s", self.folder / CLI_SOCKET)

    def execute(self, command: str) -> tuple[int, str] | None:
        """Runs a command in VPP's CLI; the status is 1 only if VPP refuses the command."""
        with self._api() as api:
            answer = api.ask("cli_inband", cmd=command)
            refused = answer.retval != 0
            return int(refused), answer.reply or (f"{command}: refused by VPP\n" if refused else "")


def _port(interface: Interface) -> HostInterface:
    return HostInterface(interface.name, interface.hardware_address)
