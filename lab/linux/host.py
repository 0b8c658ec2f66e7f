"""A host: service address, link address and a default route."""

from __future__ import annotations

from ipaddress import IPv6Interface

from lab.linux.kernel import KernelNode
from lab.topology import Host, Interface


class LinuxHost(KernelNode):
    """A host in a network namespace, where agents run."""

    def __init__(self, node: Host) -> None:
        super().__init__(node)
        self._host = node

    def own_addresses(self, interface: Interface) -> list[IPv6Interface]:
        """The link's and the service address, both on the link for source address selection."""
        return [interface.address, self._host.service_address]
