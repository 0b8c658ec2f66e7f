"""Names of nodes for addresses and SIDs."""

from collections.abc import Iterable
from ipaddress import IPv6Address

from hawkwing.csid import LENGTH, Block, unpack
from hawkwing.sids import SidList
from lab.topology import Host, Topology


class Names:
    """`vpp1` for its SID and addresses, `fw@vpp2` for a service's SID; an unknown address is unchanged."""

    def __init__(self, topology: Topology) -> None:
        self._names: dict[IPv6Address, str] = {}
        for node in topology.nodes.values():
            self._names.update({interface.address.ip: node.name for interface in node.interfaces})
            if isinstance(node, Host):
                self._names[node.address] = node.name
            else:
                self._names[node.loopback.ip] = node.name
                self._names.update(dict.fromkeys(node.sids, node.name))
                self._names.update({sid: f"{name}@{node.name}" for name, sid in node.service_sids.items()})
                if node.csid is not None:
                    self._names[node.csid.network_address] = node.name
        csids = [router.csid for router in topology.routers if router.csid is not None]
        self._blocks = [Block(block) for block in dict.fromkeys(csid.supernet(LENGTH) for csid in csids)]

    def __call__(self, address: IPv6Address | str) -> str:
        return self._names.get(IPv6Address(address), str(address))

    def each(self, sids: Iterable[IPv6Address | str]) -> SidList:
        """The SIDs one by one, including those in containers of the topology's blocks."""
        return unpack(map(IPv6Address, sids), self._blocks)

    def path(self, sids: Iterable[IPv6Address | str]) -> str:
        """Such as `vpp1 > vpp2 > vpp6`."""
        return " > ".join(map(self, self.each(sids)))
