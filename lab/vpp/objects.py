"""The parts of a router's configuration: each can be added, queried and removed."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Interface, IPv6Network
from typing import Any, Protocol

from lab.vpp.api import Api, VppError, enum

_NO_TABLE = 0
_NO_INTERFACE = 0xFFFFFFFF
# Rings: VPP moves up to 256 packets at once, and loses small ones with fewer frames. Larger frames don't make
# TCP faster, and need more memory. With these it is 20 MB per interface.
_FRAME, _FRAMES = 40 * 1024, 256
#: A packet that fits a frame with the headers of ring and link, and with an SRH that a host adds.
LARGEST_PACKET = 40_500
#: VPP looks for an SRH in the first 256 octets from the IPv6 header on: the longest list that fits.
MOST_SEGMENTS = 13
_V3_FRAME, _V3_FRAMES_PER_BLOCK = 2048, 32


class VppObject(Protocol):
    """One part of an instance's configuration."""

    def add(self, api: Api) -> None:
        """Adds it; VppError if VPP refuses."""

    def query(self, api: Api) -> bool:
        """True if it is configured."""

    def remove(self, api: Api) -> None:
        """Removes it."""


def interface_index(api: Api, name: str) -> int:
    """The number of an interface such as host-vpp2 or loop0; VppError if there is none."""
    if name not in api.interface_numbers:
        found = _find_interface(api, name)
        if found is None:
            raise VppError(f"VPP has no interface {name}")
        api.interface_numbers[name] = int(found.sw_if_index)
    return api.interface_numbers[name]


def _find_interface(api: Api, name: str) -> Any:
    for details in api.dump("sw_interface_dump", name_filter_valid=True, name_filter=name):
        if details.interface_name == name:
            return details
    return None


class _WithName(Protocol):
    @property
    def vpp_name(self) -> str: ...


def set_up(api: Api, interface: _WithName, up: bool) -> None:
    """Sets an interface up or down."""
    flag = enum("vl_api_if_status_flags_t").IF_STATUS_API_FLAG_ADMIN_UP if up else 0
    api.call("sw_interface_set_flags", sw_if_index=interface_index(api, interface.vpp_name), flags=flag)


def set_mtu(api: Api, interface: _WithName, octets: int) -> None:
    """The largest packet that VPP sends through it, in octets with the IPv6 header."""
    index = interface_index(api, interface.vpp_name)
    api.call("sw_interface_set_mtu", sw_if_index=index, mtu=[octets, 0, 0, 0])


def advertise_nothing(api: Api, interface: _WithName) -> None:
    """Disables router advertisements on an interface: all routes of the lab are static."""
    index = interface_index(api, interface.vpp_name)
    api.call("sw_interface_ip6nd_ra_config", sw_if_index=index, suppress=1, is_no=False)


@dataclass(frozen=True)
class HostInterface:
    """An af_packet interface on a device of the namespace, with the device's MAC address."""

    device: str
    hardware_address: str

    @property
    def vpp_name(self) -> str:
        return f"host-{self.device}"

    def add(self, api: Api) -> None:
        """Sends through the device's queueing discipline, so that captures and shapers see its packets.

        Large TCP packets (GSO) pass unsegmented, with checksums that are left to the device.
        """
        flags = enum("vl_api_af_packet_flags_t")
        # Version 3 rings deliver a packet after a millisecond, version 2 rings at once.
        second = getattr(flags, "AF_PACKET_API_FLAG_VERSION_2", None)
        api.call(
            "af_packet_create_v3",
            mode=enum("vl_api_af_packet_mode_t").AF_PACKET_API_MODE_ETHERNET,
            hw_addr=self.hardware_address,
            use_random_hw_addr=False,
            host_if_name=self.device,
            rx_frame_size=_FRAME if second else _V3_FRAME,
            rx_frames_per_block=_FRAMES if second else _V3_FRAMES_PER_BLOCK,
            tx_frame_size=_FRAME,
            tx_frames_per_block=_FRAMES,
            flags=flags.AF_PACKET_API_FLAG_CKSUM_GSO | (second or 0),
            num_rx_queues=1,
            num_tx_queues=1,
        )

    def query(self, api: Api) -> bool:
        """Queries by the device's name."""
        return any(details.host_if_name == self.device for details in api.dump("af_packet_dump"))

    def remove(self, api: Api) -> None:
        """Removes the interface; the device stays."""
        api.call("af_packet_delete", host_if_name=self.device)
        api.interface_numbers.pop(self.vpp_name, None)


@dataclass(frozen=True)
class Loopback:
    """A loopback interface, for the router's own address."""

    number: int = 0

    @property
    def vpp_name(self) -> str:
        return f"loop{self.number}"

    def add(self, api: Api) -> None:
        """VPP chooses the MAC address."""
        api.call("create_loopback_instance", is_specified=True, user_instance=self.number)

    def query(self, api: Api) -> bool:
        """Queries by name."""
        return _find_interface(api, self.vpp_name) is not None

    def remove(self, api: Api) -> None:
        """Removes the interface and its addresses."""
        api.call("delete_loopback", sw_if_index=interface_index(api, self.vpp_name))
        api.interface_numbers.pop(self.vpp_name, None)


@dataclass(frozen=True)
class Address:
    """An address on an interface."""

    interface: HostInterface | Loopback
    address: IPv6Interface

    def add(self, api: Api) -> None:
        """Adds the address, which also enables IPv6 on the interface."""
        self._change(api, True)

    def query(self, api: Api) -> bool:
        """Queries the interface's addresses."""
        index = interface_index(api, self.interface.vpp_name)
        found = api.dump("ip_address_dump", sw_if_index=index, is_ipv6=True)
        return any(IPv6Interface(str(details.prefix)) == self.address for details in found)

    def remove(self, api: Api) -> None:
        """Removes this address only."""
        self._change(api, False)

    def _change(self, api: Api, is_add: bool) -> None:
        index = interface_index(api, self.interface.vpp_name)
        prefix = str(self.address)
        api.call("sw_interface_add_del_address", sw_if_index=index, is_add=is_add, prefix=prefix)


@dataclass(frozen=True)
class Neighbour:
    """A static neighbour, so that the first packet does not wait for neighbour discovery."""

    interface: HostInterface
    address: IPv6Address
    hardware_address: str

    def add(self, api: Api) -> None:
        """Adds a static entry."""
        self._change(api, True)

    def query(self, api: Api) -> bool:
        """Queries the interface's neighbours for this MAC address."""
        index = interface_index(api, self.interface.vpp_name)
        family = enum("vl_api_address_family_t").ADDRESS_IP6
        found = (details.neighbor for details in api.dump("ip_neighbor_dump", sw_if_index=index, af=family))
        return any(
            str(entry.ip_address) == str(self.address)
            and str(entry.mac_address).lower() == self.hardware_address
            for entry in found
        )

    def remove(self, api: Api) -> None:
        """Removes the static entry."""
        self._change(api, False)

    def _change(self, api: Api, is_add: bool) -> None:
        neighbour = {
            "sw_if_index": interface_index(api, self.interface.vpp_name),
            "flags": enum("vl_api_ip_neighbor_flags_t").IP_API_NEIGHBOR_FLAG_STATIC,
            "mac_address": self.hardware_address,
            "ip_address": str(self.address),
        }
        api.call("ip_neighbor_add_del", is_add=is_add, neighbor=neighbour)


@dataclass(frozen=True)
class Gateway:
    """One next hop of a route."""

    interface: HostInterface
    address: IPv6Address


@dataclass(frozen=True)
class StaticRoute:
    """A route with all of its equal-cost next hops."""

    prefix: IPv6Network
    gateways: frozenset[Gateway]

    def add(self, api: Api) -> None:
        """Adds the route, or replaces its next hops."""
        self._change(api, True)

    def query(self, api: Api) -> bool:
        """True if the route has exactly these next hops."""
        return present_routes(api, {self.prefix}).get(self.prefix) == self.next_hops(api)

    def next_hops(self, api: Api) -> set[tuple[int, IPv6Address]]:
        """Interface number and address of each next hop, as in `present_routes`."""
        return {(interface_index(api, hop.interface.vpp_name), hop.address) for hop in self.gateways}

    def remove(self, api: Api) -> None:
        """Removes the route with all next hops."""
        self._change(api, False)

    def _change(self, api: Api, is_add: bool) -> None:
        gateways = sorted(self.gateways, key=lambda gateway: gateway.address) if is_add else []
        paths = [self._path(api, gateway) for gateway in gateways]
        route = {"table_id": _NO_TABLE, "prefix": str(self.prefix), "n_paths": len(paths), "paths": paths}
        api.call("ip_route_add_del", is_add=is_add, is_multipath=False, route=route)

    def _path(self, api: Api, gateway: Gateway) -> dict[str, Any]:
        return {
            "sw_if_index": interface_index(api, gateway.interface.vpp_name),
            "table_id": _NO_TABLE,
            "rpf_id": _NO_INTERFACE,
            "weight": 1,
            "preference": 0,
            "type": enum("vl_api_fib_path_type_t").FIB_API_PATH_TYPE_NORMAL,
            "flags": enum("vl_api_fib_path_flags_t").FIB_API_PATH_FLAG_NONE,
            "proto": enum("vl_api_fib_path_nh_proto_t").FIB_API_PATH_NH_PROTO_IP6,
            "nh": {"address": {"ip6": gateway.address}},
            "n_labels": 0,
            "label_stack": [{}] * 16,
        }


def present_routes(
    api: Api, prefixes: Collection[IPv6Network]
) -> dict[IPv6Network, set[tuple[int, IPv6Address]]]:
    """Interface numbers and addresses of the next hops, for the prefixes that have a route."""
    found: dict[IPv6Network, set[tuple[int, IPv6Address]]] = {}
    for details in api.dump("ip_route_dump", table={"table_id": _NO_TABLE, "is_ip6": True}):
        prefix = IPv6Network(str(details.route.prefix))
        if prefix in prefixes:
            hops = ((path.sw_if_index, IPv6Address(path.nh.address.ip6)) for path in details.route.paths)
            found[prefix] = set(hops)
    return found


@dataclass(frozen=True)
class LocalSid:
    """A SID with behaviour End (RFC 8986, 4.1), without penultimate segment pop.

    `compressed`: with NEXT-C-SID (RFC 9800), VPP's uN, for a locator of 48 bits with a C-SID of 16.
    """

    sid: IPv6Address
    compressed: bool = False

    def add(self, api: Api) -> None:
        """Adds it to the default table."""
        self._change(api, False)

    def query(self, api: Api) -> bool:
        """Queries the instance's SIDs for this behaviour."""
        return any(
            IPv6Address(str(details.addr)) == self.sid
            and details.behavior == self._behavior
            and not details.end_psp
            for details in api.dump("sr_localsids_dump")
        )

    @property
    def _behavior(self) -> int:
        known = enum("vl_api_sr_behavior_t")
        return int(known.SR_BEHAVIOR_API_END_UN if self.compressed else known.SR_BEHAVIOR_API_END)

    def remove(self, api: Api) -> None:
        """Removes it and its counters."""
        self._change(api, True)

    def _change(self, api: Api, is_del: bool) -> None:
        api.call(
            "sr_localsid_add_del",
            is_del=is_del,
            localsid=self.sid,
            end_psp=False,
            behavior=self._behavior,
            sw_if_index=_NO_INTERFACE,
            vlan_index=0,
            fib_table=_NO_TABLE,
            nh_addr="::",
        )


def sid_packets(api: Api) -> dict[IPv6Address, int]:
    """The number of packets processed by each SID since it was added."""
    return {
        IPv6Address(str(details.addr)): int(details.good_traffic_pkt_count)
        for details in api.dump("sr_localsids_with_packet_stats_dump")
    }
