"""A host: service address, link address and a default route."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv6Interface

from pyroute2 import IPRoute

from lab.linux.kernel import KernelNode, set_offload
from lab.linux.large import forwards_large
from lab.routing import Route
from lab.topology import Host, Interface


class LinuxHost(KernelNode):
    """A host in a network namespace, where agents run."""

    def __init__(self, node: Host) -> None:
        super().__init__(node)
        self._host = node

    def configure(self, ip: IPRoute, indexes: dict[str, int], routes: Sequence[Route]) -> None:
        """If the kernel's routers drop large packets, segments a host's packets before they leave."""
        if not forwards_large():
            for interface in self.node.interfaces:
                set_offload(interface.name, "tso", "off")
        super().configure(ip, indexes, routes)

    def own_addresses(self, interface: Interface) -> list[IPv6Interface]:
        """The link's and the service address, both on the link for source address selection."""
        return [interface.address, self._host.service_address]
