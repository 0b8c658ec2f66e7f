"""A host: its service address beside the link's, and a default route."""

from __future__ import annotations

from ipaddress import IPv6Interface

from lab.linux.kernel import KernelNode
from lab.topology import Host, Interface


class LinuxHost(KernelNode):
    """Hosts are always the kernel's: the agent under test runs in them."""

    def __init__(self, node: Host) -> None:
        super().__init__(node)
        self._host = node

    def own_addresses(self, interface: Interface) -> list[IPv6Interface]:
        """The service address sits on the link, where source address selection finds it."""
        return [interface.address, self._host.service_address]
