"""The loaded data plane of one role: its maps with names and types, its counters."""

import errno
import logging
import mmap
import os
import secrets
import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from ipaddress import IPv6Address, IPv6Network
from typing import Any, Literal, NamedTuple

from hawkwing.csid import Block
from hawkwing.dataplane.bpf import Map, program_info
from hawkwing.dataplane.btf import SocketFields
from hawkwing.dataplane.bytecode import AUTHENTICATE, SEND_PROBES, SWEEP, UNATTACHED
from hawkwing.dataplane.encoding import hmac_key, policy_bytes, route_key, service_value, way_back
from hawkwing.dataplane.flows import FlowTable, Sweeper, clear_tally
from hawkwing.dataplane.layout import limits, reasons, structures
from hawkwing.dataplane.loader import Loaded, connect
from hawkwing.dataplane.next_hop import NextHop, PolicyNextHops
from hawkwing.dataplane.probe_sender import ProbeSender
from hawkwing.errors import DataplaneError
from hawkwing.selections import Contents
from hawkwing.sids import Encapsulated, back_of, sids_in_srh
from hawkwing.srh_hmac import Key
from hawkwing.ways_back import Use

log = logging.getLogger("hawkwing")
DIRECTIONS = ("egress", "ingress")
_PROBER = struct.Struct("=4Q")
_FAR_FUTURE = (1 << 63) - 1
_U32, _U64 = struct.Struct("=I"), struct.Struct("=Q")
_NOBODY = IPv6Address(0)
_PACKET = 0.0005
"""Seconds; longer than a program works on a packet."""
_MTU_TICKS = 16
"""Eight minutes: RFC 8201 asks for at least five."""
DEFAULT_SR_DOMAIN = (IPv6Network("fc00::/7"), IPv6Network("5f00::/16"))
"""Default prefixes of trusted SIDs: unique local addresses (RFC 4193), SRv6 SIDs (RFC 9602)."""


class Count(NamedTuple):
    """Packets and bytes; the length is that of the packet when our program received it."""

    packets: int
    bytes: int


HealthState = Literal["unknown", "alive", "dead"]


class Health(NamedTuple):
    """The state of a path from its probes: probes received, round trip and jitter in seconds."""

    state: HealthState
    received: int
    round_trip: float | None
    jitter: float | None = None


class Traffic(NamedTuple):
    """Figures of the host's TCP connections on a path: seconds, bytes/s, bytes and segments."""

    round_trip: float | None
    rate: float | None
    acknowledged: int
    retransmitted: int


NO_TRAFFIC = Traffic(None, None, 0, 0)


UNKNOWN = Health("unknown", 0, None)


class LearnedPath(NamedTuple):
    """A reverse path and its slot in the policy table."""

    slot: int
    sids: tuple[IPv6Address, ...]
    told: bool
    """A client has told it."""


def require_hmac_links_fit(count: int) -> None:
    """DataplaneError if more interfaces require an HMAC than the data plane supports."""
    most = limits()["HW_MAX_HMAC_LINKS"]
    if count > most:
        raise DataplaneError(
            f"seg6_require_hmac is set on {count} of the interfaces, at most {most} are possible: "
            "use fewer interfaces, or set it to 0 on some"
        )


class DataPlane:
    """Programs and maps of one role; a Keeper attaches the programs to interfaces."""

    def __init__(
        self,
        role: str,
        loaded: Loaded,
        sr_domain: Sequence[IPv6Network] | None = None,
        csid: Sequence[Block] = (),
        hmac: Sequence[Key] = (),
    ) -> None:
        """The programs of a previous agent use an inherited map of settings: its first content has all of it.

        DataplaneError if the kernel refuses what keys need.
        """
        self.role = role
        self.sr_domain: tuple[IPv6Network, ...] | None = None
        self._socket_fields: SocketFields | None = None
        self.csid = tuple(csid)
        self.stamp_port = 0
        self.ipv4_services = False
        self._ticks = 0
        self.programs = loaded.programs
        self._load_more = loaded.more
        #: The keys of HMACs; the first one signs.
        self.hmac: tuple[Key, ...] = ()
        self.is_key_new = self._are_codes_old = False
        self._old_keys: set[int] = set()
        self.maps = {name: Map(fd) for name, fd in loaded.maps.items()}
        before = structures()["settings"].from_buffer_copy(self.maps["settings"].get(_U32.pack(0)) or b"")
        inherited = "settings" in loaded.inherited
        # The agent finds out what of these has changed.
        self.hmac_links = tuple(index for index in before.hmac_links if index)
        self.decap = tuple(sid for one in before.decap if (sid := IPv6Address(bytes(one.bytes))) != _NOBODY)
        self._xdp, self._shared = bool(before.xdp), bool(before.shared)
        keys = list(before.flow_keys)
        self.flow_keys = keys if inherited else [secrets.randbits(64) for _ in keys]
        self._epoch: int = before.epoch if inherited else 0
        self._generation: int = before.generation
        self._held: bool | None = None
        self._prober: memoryview | None = None
        self.local_left_out = 0
        self._local = {IPv6Address(key) for key in self.maps["local_addresses"].each_key()}
        if hmac:
            self._load_authenticate()
            self._write_keys(hmac)
        self.set_sr_domain(sr_domain)
        #: Called when a path is written, with its first segment and whether it encapsulates.
        self.next_hop_of: Callable[[IPv6Address, bool], NextHop | None] = lambda _segment, _encapsulated: None
        #: The source of outer headers to a first segment.
        self.outer_source: Callable[[IPv6Address], IPv6Address | None] = lambda _segment: None
        self.next_hops = PolicyNextHops(self.maps["policies"])
        self.flows: FlowTable | None = None
        if role == "server":
            self.flows = FlowTable(self.maps["flows"])
            free = self.maps["free_slots"]
            self.sweeper = Sweeper(
                self.flows, self.maps["paths"], self.programs[SWEEP], self.maps["path_tallies"]
            )
            if inherited:
                self.sweeper.adopt(self.next_hops.learned_slots())
                if self.hmac and not before.hmac_key:
                    self._forget_flows()
            else:
                for slot in reversed(range(1, free.info.max_entries)):
                    free.push(_U32.pack(slot))

    def set_sr_domain(self, domain: Sequence[IPv6Network] | None) -> None:
        """The prefixes for source and segments of a trusted SRH.

        None: DEFAULT_SR_DOMAIN for its SIDs, any source.
        """
        prefixes = DEFAULT_SR_DOMAIN if domain is None else domain
        most = limits()["HW_MAX_PREFIXES"]
        if len(prefixes) > most:
            raise DataplaneError(f"an SR domain has at most {most} prefixes here, not {len(prefixes)}")
        # A new epoch: known flows are checked again.
        self._epoch = (self._epoch + 1) % 256
        settings = structures()["settings"]()
        settings.flow_keys[:] = self.flow_keys
        settings.prefixes = len(prefixes)
        settings.sids_only = domain is None
        settings.hmac_links[: len(self.hmac_links)] = self.hmac_links
        settings.epoch = self._epoch
        settings.buckets = self.maps["flows"].info.max_entries if "flows" in self.maps else 0
        settings.fair_flows = max(settings.buckets // 8, 16)
        settings.fair_paths = max(self.maps["policies"].info.max_entries // 16, 16)
        settings.xdp = self._xdp
        settings.shared = self._shared
        self._write_socket_fields(settings)
        self._write_csid(settings)
        settings.stamp_port = socket.htons(self.stamp_port)
        settings.ipv4_services = self.ipv4_services
        settings.hmac_key = self.hmac[0].number if self.hmac else 0
        for place, sid in zip(settings.decap, self.decap, strict=False):
            place.bytes[:] = sid.packed
        for entry in settings.sr_domain:
            # Matches no address: it has bits outside the mask.
            entry.network[:] = (2**64 - 1, 2**64 - 1)
        for entry, prefix in zip(settings.sr_domain, prefixes, strict=False):
            entry.mask[:] = struct.unpack("=2Q", prefix.netmask.packed)
            entry.network[:] = struct.unpack("=2Q", prefix.network_address.packed)
        self._settings = settings
        self._name_own_addresses()
        self.forget()
        self.sr_domain = None if domain is None else tuple(domain)

    def set_xdp(self, used: bool) -> None:
        """Whether the XDP program runs before the tc program on ingress."""
        self._xdp = used
        self.set_sr_domain(self.sr_domain)

    def set_shared(self, shared: bool) -> None:
        """Whether interfaces with their own link-layer addresses use ours, such as macvlan."""
        if shared != self._shared:
            self._shared = shared
            self.set_sr_domain(self.sr_domain)

    def set_socket_fields(self, fields: SocketFields | None) -> None:
        """Where the kernel stores the sockets' fragmentation settings; None: all datagrams may be split."""
        self._socket_fields = fields
        self.set_sr_domain(self.sr_domain)

    def _write_socket_fields(self, settings: Any) -> None:
        found = self._socket_fields
        if found is None:
            return
        settings.pinet6_at = found.pinet6
        settings.dontfrag_in_socket = found.dontfrag_in_socket
        for place, field in ((settings.pmtudisc, found.pmtudisc), (settings.dontfrag, found.dontfrag)):
            if field is not None:
                place.at, place.shift, place.mask = field.at, field.shift, field.mask

    def set_csid(self, blocks: Sequence[Block]) -> None:
        """The blocks of compressed SIDs, whose containers a server reverses."""
        if len(blocks) > limits()["HW_MAX_CSID_BLOCKS"]:
            raise DataplaneError(f"there are at most {limits()['HW_MAX_CSID_BLOCKS']} blocks of C-SIDs")
        if tuple(blocks) != self.csid:
            self.csid = tuple(blocks)
            self.set_sr_domain(self.sr_domain)

    def set_stamp_port(self, port: int) -> None:
        """The UDP port of STAMP reflectors whose answers to probes a client takes; 0: none."""
        if port != self.stamp_port:
            self.stamp_port = port
            self.set_sr_domain(self.sr_domain)

    def _write_csid(self, settings: Any) -> None:
        settings.csid_blocks = len(self.csid)
        for entry in settings.csid:
            entry.network = 2**64 - 1
        for entry, block in zip(settings.csid, self.csid, strict=False):
            entry.mask = int(block.prefix.netmask) >> 64
            entry.network = int(block.prefix.network_address) >> 64
            entry.bits, entry.local = block.prefix.prefixlen, block.local

    def set_hmac_links(self, indexes: Sequence[int]) -> None:
        """Interfaces whose SRHs the kernel handles, because they require an HMAC."""
        require_hmac_links_fit(len(indexes))
        if tuple(indexes) != self.hmac_links:
            self.hmac_links = tuple(indexes)
            self.set_sr_domain(self.sr_domain)

    def set_decap(self, sids: Iterable[IPv6Address]) -> None:
        """The SIDs at which the kernel removes outer headers: packets to them are checked before."""
        wanted = tuple(sorted(sids))
        if wanted != self.decap:
            self.decap = wanted
            self.set_sr_domain(self.sr_domain)

    def set_hmac(self, keys: Sequence[Key]) -> None:
        """The keys of HMACs; the first one signs, all of them verify. Without keys SRHs have no HMAC.

        If another key signs then, `is_key_new` is true until all paths have been written once more.
        """
        before = self.hmac
        if tuple(keys) == before:
            return
        if keys and AUTHENTICATE not in self.programs:
            self._load_authenticate()
        self._write_keys(keys)
        self._old_keys |= {key.number for key in before}
        self._forget_codes()
        self.set_sr_domain(self.sr_domain)
        self._are_codes_old = True
        self.is_key_new |= self.role == "client" and keys[:1] != before[:1]
        if self.role == "server" and not before:
            # They were learned from whoever sent them.
            self._forget_flows()
        if not self.is_key_new:
            self.remove_old_keys()

    def remove_old_keys(self) -> None:
        """Removes keys that are no longer configured, once no path is signed with them."""
        self.is_key_new = False
        for gone in self._old_keys - {key.number for key in self.hmac}:
            self.maps["hmac_keys"].delete(_U32.pack(gone))
        self._old_keys.clear()

    def _write_keys(self, keys: Sequence[Key]) -> None:
        try:
            for key in keys:
                self.maps["hmac_keys"].set(_U32.pack(key.number), hmac_key(key))
        except OSError as error:
            raise DataplaneError(f"the kernel takes no more HMAC keys: {error.strerror}") from None
        self.hmac = tuple(keys)

    def _forget_flows(self) -> None:
        self.sweeper.forget_all()
        self.forget()

    def _forget_codes(self) -> None:
        """Has all HMACs computed again."""
        for name in ("signatures", "verified"):
            for entry in list(self.maps[name].each_key()):
                self.maps[name].delete(entry)

    def _load_authenticate(self) -> None:
        assert self._load_more is not None
        made = self._load_more(AUTHENTICATE)
        try:
            connect({**self.programs, AUTHENTICATE: made}, self.maps["programs"])
        except OSError as error:
            os.close(made)
            raise DataplaneError(
                f"the kernel does not let the programs call one another: {error.strerror}"
            ) from None
        self.programs[AUTHENTICATE] = made

    def hold(self) -> None:
        """Keeps the programs' caches valid until `release`, for many changes in a row."""
        self._held = self._held or False

    def release(self) -> None:
        """Invalidates the caches, if something has changed since `hold`."""
        held, self._held = self._held, None
        if held:
            self.forget()

    def forget(self) -> None:
        """Invalidates the programs' caches of routes and flows."""
        if self._held is not None:
            self._held = True
            return
        self._generation += 1
        self._settings.generation = self._generation
        self.maps["settings"].set(_U32.pack(0), bytes(self._settings))
        if self.role == "server":
            # The data plane increments it, too: a large step is a change even if one of its increments is
            # lost.
            changes = self.maps["flow_changes"]
            (before,) = _U64.unpack(changes.get(_U32.pack(0)) or bytes(8))
            changes.set(_U32.pack(0), _U64.pack(before + (1 << 32)))

    def tick(self) -> None:
        """Every half minute: ages flows, and clears the routers' MTUs after eight minutes."""
        self.set_sr_domain(self.sr_domain)
        if self._are_codes_old:
            # Once more: when the key changed, a program may just have been computing with the old one.
            self._are_codes_old = False
            self._forget_codes()
        # Not by the epoch, which other changes increment, too: it could skip the multiples.
        self._ticks += 1
        if self._ticks % _MTU_TICKS == 0:
            self.next_hops.forget_path_mtus()

    def sweeping(self) -> Iterator[int]:
        """After each tick, in turns: removes idle flows and unused learned paths."""
        return iter(()) if self.flows is None else self.sweeper.sweeping()

    def set_local_addresses(self, addresses: Iterable[IPv6Address]) -> None:
        """The host's own addresses, IPv4 ones mapped: only packets from and to them are changed."""
        wanted = set(addresses)
        gone, table = self._local - wanted, self.maps["local_addresses"]
        for address in gone:
            table.delete(address.packed)
        left_out = 0
        for address in wanted - self._local:
            try:
                table.set(address.packed, _U32.pack(1))
            except OSError as error:
                if error.errno != errno.E2BIG:
                    raise
                left_out += 1
                wanted.discard(address)
        if left_out and left_out != self.local_left_out:
            log.warning(
                "this host has %d more addresses than the %d that the table can hold: their packets are not "
                "changed; a restart creates a larger one",
                left_out,
                table.info.max_entries,
            )
        self.local_left_out = left_out
        self._local = wanted
        if gone:
            # Known flows to these addresses are checked again.
            self.set_sr_domain(self.sr_domain)
        else:
            self._name_own_addresses()
            self.forget()

    def _name_own_addresses(self) -> None:
        """Some of them are in the settings, those with most packets first."""
        own = self._settings.own
        usual = (address for address in self._local if address.ipv4_mapped is None)
        named = sorted(usual, key=lambda address: (address.is_link_local, address))[: len(own)]
        self._settings.own_addresses = len(named)
        for entry, address in zip(own, named, strict=False):
            entry.bytes[:] = address.packed

    def set_policy(self, slot: int, sids: Sequence[IPv6Address]) -> None:
        """Writes a path into a slot that no route uses, or clears it."""
        policy = self._policy(sids)
        if sids:
            clear_tally(self.maps["path_tallies"], slot)
            if "health" in self.maps:
                self.set_probed(slot, True)
                self.maps["traffic"].set(_U32.pack(slot), bytes(structures()["path_traffic"]()))
        self._write_way_back(slot, sids)
        self.maps["policies"].set(_U32.pack(slot), policy)

    def _write_way_back(self, slot: int, sids: Sequence[IPv6Address]) -> None:
        if "ways_back" in self.maps:
            key, back = _U32.pack(slot), back_of(sids)
            if back:
                self.maps["ways_back"].set(key, way_back(back))
            else:
                self.maps["ways_back"].delete(key)

    def sign_policy(self, slot: int, sids: Sequence[IPv6Address]) -> None:
        """Writes a path that is in use once more, because another key signs.

        If its SRH gets another length, packets are sent without one for a moment.
        """
        key, made = _U32.pack(slot), self._policy(sids)
        length = made[: _U32.size]
        if self.next_hops.length(slot) == length:
            self.maps["policies"].set(key, made)
            return
        self.next_hops.set_length(slot, bytes(_U32.size))
        # Programs that have read its length are at their end then.
        time.sleep(_PACKET)
        self.maps["policies"].set(key, bytes(_U32.size) + made[_U32.size :])
        self.next_hops.set_length(slot, length)

    def renew_source(self, slot: int, sids: Sequence[IPv6Address]) -> None:
        """Writes a path that encapsulates once more, because the host's addresses have changed."""
        key, value = _U32.pack(slot), self._policy(sids)
        if value != self.maps["policies"].get(key):
            self.maps["policies"].set(key, value)

    def _policy(self, sids: Sequence[IPv6Address]) -> bytes:
        encapsulates = isinstance(sids, Encapsulated)
        next_hop = self.next_hop_of(sids[0], encapsulates) if sids else None
        key = self.hmac[0] if self.hmac else None
        return policy_bytes(sids, next_hop, self.outer_source(sids[0]) if encapsulates else None, key)

    def set_ipv4_services(self, wanted: bool) -> None:
        """Whether there are services with IPv4 addresses."""
        if wanted != self.ipv4_services:
            self.ipv4_services = wanted
            self.set_sr_domain(self.sr_domain)

    def set_probed(self, slot: int, probed: bool) -> None:
        """Clears the probe results of a path; a path that can't be probed never counts as dead."""
        health = structures()["path_health"]()
        health.seen = 0 if probed else _FAR_FUTURE
        self.maps["health"].set(_U32.pack(slot), bytes(health))

    def set_prober(self, key: int, beat: int, since: int, silence: int) -> None:
        """Announces the next probes to the programs; times in nanoseconds."""
        if self._prober is None:
            memory = mmap.mmap(self.maps["probers"].fd, _PROBER.size)
            self._prober = memoryview(memory).cast("Q")
        # One word at a time, which is less work than a system call: packets are in between.
        self._prober[0], self._prober[2], self._prober[1], self._prober[3] = key, since, beat, silence

    def probe_sender(self) -> ProbeSender:
        """Sends the agent's probes by the program for this."""
        return ProbeSender(self.programs[SEND_PROBES], self.maps["ready_probes"], self.maps["unsent_probes"])

    def health(self, slot: int, now: int) -> Health:
        """The probe results of a path; `now` in nanoseconds of CLOCK_MONOTONIC."""
        told = structures()["path_health"].from_buffer_copy(self.maps["health"].get(_U32.pack(slot)) or b"")
        _key, beat, since, silence = _PROBER.unpack(self.maps["probers"].get(_U32.pack(0)) or b"")
        state: HealthState = "unknown"
        if silence and now - beat <= silence and told.seen != _FAR_FUTURE:
            last = max(told.seen, since + told.round_trip)
            silent = now - last > silence
            state = "dead" if silent or told.needed else "alive" if told.received else "unknown"
        if not told.received:
            return Health(state, 0, None)
        jitter = told.jitter / 1e9 if told.received > 1 else None
        return Health(state, told.received, told.round_trip / 1e9, jitter)

    def traffic(self, slot: int) -> Traffic:
        """Figures of TCP connections on the path in a slot."""
        told = structures()["path_traffic"].from_buffer_copy(self.maps["traffic"].get(_U32.pack(slot)) or b"")
        return Traffic(
            told.round_trip / 1e9 if told.samples else None,
            float(told.rate) if told.rate else None,
            told.acknowledged,
            told.retransmitted,
        )

    def add_service(self, address: IPv6Address, group: int) -> None:
        """Adds an address as destination, or updates it."""
        self.maps["services"].set(address.packed, service_value(group))
        self.forget()

    def remove_service(self, address: IPv6Address) -> None:
        """Removes an address."""
        self.maps["services"].delete(address.packed)
        self.forget()

    def set_route(self, group: int, port: int, protocols: Iterable[int], slot: int) -> None:
        """Sets the path (slot) of a group's packets to a port, atomically."""
        for protocol in protocols:
            self.maps["routes"].set(route_key(group, port, protocol), _U32.pack(slot))
        self.forget()

    def set_selection(self, number: int, contents: Contents) -> None:
        """Writes several paths into a selection that no route uses."""
        selection = structures()["selection"]()
        selection.longest = contents.longest
        selection.active = contents.active
        selection.count = len(contents.candidates)
        selection.candidates[: len(contents.candidates)] = contents.candidates
        selection.slots[:] = contents.buckets
        self.maps["selections"].set(_U32.pack(number), bytes(selection))

    def select_route(self, group: int, port: int, protocols: Iterable[int], selection: int) -> None:
        """Like `set_route`, with one of the paths of a selection for each flow."""
        self.set_route(group, port, protocols, limits()["HW_SELECTION"] | selection)

    def remove_route(self, group: int, port: int, protocols: Iterable[int]) -> None:
        """Removes the path of a group's packets to a port."""
        for protocol in protocols:
            self.maps["routes"].delete(route_key(group, port, protocol))
        self.forget()

    def program_ids(self) -> list[int]:
        """The programs for interfaces; the others end with their agent."""
        return [program_info(fd).id for name, fd in self.programs.items() if name not in UNATTACHED]

    def seen(self) -> tuple[int, int]:
        """Packets that the programs have received, on egress and ingress; some count more than once."""
        counts = self.counters()
        egress, ingress = (sum(count.packets for count in counts[way].values()) for way in DIRECTIONS)
        return egress, ingress

    def counters(self) -> dict[str, dict[str, Count]]:
        """Packets per direction and reason; reasons without packets are omitted."""
        result: dict[str, dict[str, Count]] = {}
        names = reasons()
        for number, direction in enumerate(DIRECTIONS):
            counts = {}
            for reason in names:
                count = self._tally("tallies", number * len(names) + reason.number)
                if count.packets:
                    counts[reason.name] = count
            result[direction] = counts
        return result

    def way_back_use(self, slot: int | None) -> Use:
        """What has become of the way back of the path in this slot; times of CLOCK_MONOTONIC."""
        raw = self.maps["ways_back"].get(_U32.pack(slot)) if slot else None
        if raw is None:
            return Use(0, 0)
        found = structures()["way_back"].from_buffer_copy(raw)
        return Use(found.told, found.used, found.last_told / 1e9, found.last_used / 1e9)

    def learned_paths(self) -> Iterator[LearnedPath]:
        """The reverse paths that a server has learned, each once."""
        paths, policies = self.maps["paths"], self.maps["policies"]
        for key in paths.each_key():
            slot = paths.get(key)
            raw = policies.get(slot) if slot is not None else None
            if slot is not None and raw is not None:
                policy = structures()["policy"].from_buffer_copy(raw)
                srh = bytes(policy.srh)
                told = srh[6:8] == limits()["HW_WAY_BACK_TAG"].to_bytes(2, "big")
                yield LearnedPath(_U32.unpack(slot)[0], sids_in_srh(srh), told)

    def path_count(self, slot: int) -> Count:
        """The packets sent over the path in this slot."""
        return self._tally("path_tallies", slot)

    def _tally(self, table: str, index: int) -> Count:
        values = [struct.unpack("=QQ", v) for v in self.maps[table].values_per_cpu(_U32.pack(index))]
        return Count(sum(v[0] for v in values), sum(v[1] for v in values))
