"""Creates the maps and loads the programs of a role from bytecode.

Usually this is the bytecode that the project ships, and no compiler is needed. If the C sources differ from
it, BCC compiles them once (compiler.py), and the result is cached.
"""

from __future__ import annotations

import ctypes
import logging
import os
import struct
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import NamedTuple

from hawkwing.dataplane import bpf, bytecode, refusal
from hawkwing.dataplane.bytecode import Bytecode
from hawkwing.dataplane.compiler import Compiling
from hawkwing.dataplane.layout import limits, structures
from hawkwing.errors import DataplaneError
from hawkwing.room import Room

log = logging.getLogger("hawkwing")
_CACHES = frozenset(
    {
        "cached_flows",
        "connections",
        "flow_changes",
        "hmac_keys",
        "programs",
        "ready_probes",
        "scratches",
        "signatures",
        "tellings",
        "unsent_probes",
        "verified",
    }
)
"""Maps that are always created again: a version may change their layout and meaning."""


_U32 = struct.Struct("=I")
_PER_ENTRY, _PER_BUCKET = 64, 16
"""Bytes of a hash map's entry besides key and value, and of a bucket."""
_MOST_PATHS = 1 << 18
_MOST_SERVICES, _MOST_ROUTES, _MOST_NAMES = 1 << 20, 1 << 21, 1 << 17
_MOST_SELECTIONS = 1 << 16
SIGNED = 4096
"""Codes that are kept if there are HMAC keys at the start."""
_ADDRESSES_OF_A_NAME = 4
"""The minimum capacity, on average; with a large file at most 64 per name."""


@dataclass(frozen=True)
class Capacities:
    """Entries the maps have room for."""

    policies: int = 4096
    services: int = 16384
    routes: int = 65536
    names: int = 16384
    flows: int = 65536
    selections: int = 64
    local_addresses: int = 4096
    #: Pairs of addresses and segment lists whose HMACs are kept; their memory is taken at the start.
    signed: int = 128
    #: Flows of a client that tell another way back; one for which there is no room tells it more often.
    flows_that_tell: int = 8192

    def with_room_for(self, needs: Room, local_addresses: int = 0, has_keys: bool = False) -> Capacities:
        """Twice these needs, for later reloads; `has_keys`: there are HMACs."""
        per_name = needs.applications // max(needs.addresses + needs.names, 1) + 1
        learned = needs.names * _ADDRESSES_OF_A_NAME
        return replace(
            self,
            policies=_enough(self.policies, needs.lists * 2 + needs.queries + 1, _MOST_PATHS),
            services=_enough(self.services, needs.addresses * 2 + learned, _MOST_SERVICES),
            routes=_enough(self.routes, (needs.applications * 2 + learned * per_name) * 2, _MOST_ROUTES),
            names=_enough(self.names, needs.names * 2, _MOST_NAMES),
            selections=_enough(self.selections, needs.selections * 2, _MOST_SELECTIONS),
            local_addresses=_enough(self.local_addresses, local_addresses * 2, 1 << 20),
            signed=SIGNED if has_keys else self.signed,
        )

    @property
    def buckets(self) -> int:
        """Buckets of the flow table: with `flows` entries three of four ways are in use."""
        ways = limits()["HW_WAYS"]
        return -(-self.flows * 4 // (3 * ways))

    @property
    def flow_bytes(self) -> int:
        """The size of the flow table in bytes."""
        return self.buckets * ctypes.sizeof(structures()["flow_bucket"])

    def entries(self) -> dict[str, int]:
        """The number of entries by map; the other maps' sizes are in the C sources."""
        per_path = dict.fromkeys(("policies", "path_tallies", "paths", "free_slots"), self.policies)
        return per_path | {
            "local_addresses": self.local_addresses,
            "services": self.services,
            "routes": self.routes,
            "names": self.names,
            "selections": self.selections,
            "health": self.policies,
            "traffic": self.policies,
            "flows": self.buckets,
            "signatures": self.signed,
            "verified": self.signed,
            "ways_back": self.policies,
            "tellings": self.flows_that_tell,
            "told_flows": self.buckets,
        }


def _enough(usual: int, needed: int, most: int) -> int:
    """The default, or the next power of two, which a hash map uses for its buckets anyway."""
    return usual if needed <= usual else min(1 << (needed - 1).bit_length(), most)


def memory_for(needs: Room) -> int:
    """The bytes of kernel memory for a client's tables when they hold these needs.

    A path is in an array, with a counter per CPU; entries of the other tables are allocated one by one.
    """
    made = Capacities().with_room_for(needs)
    form, tally = structures(), ctypes.sizeof(structures()["tally"])
    filled = sum(
        count * (_PER_ENTRY + sum(ctypes.sizeof(form[one]) for one in parts))
        for count, parts in (
            (needs.addresses, ("address", "service")),
            (needs.applications * 2, ("route_key",)),
            (needs.names, ("name_key",)),
        )
    )
    buckets = (made.services + made.routes + made.names) * _PER_BUCKET
    paths = made.policies * (ctypes.sizeof(form["policy"]) + bpf.possible_cpus() * tally)
    return paths + made.selections * ctypes.sizeof(form["selection"]) + buckets + filled


class Loaded(NamedTuple):
    """File descriptors by name; the caller closes them. `inherited` maps were in use before."""

    programs: dict[str, int]
    maps: dict[str, int]
    inherited: frozenset[str] = frozenset()
    #: Loads another program of the role, with the same maps; DataplaneError with the reason if it fails.
    more: Callable[[str], int] | None = None

    def close(self) -> None:
        """Closes all descriptors; programs and maps are freed unless they are in use elsewhere."""
        for fd in [*self.programs.values(), *self.maps.values()]:
            os.close(fd)


def sized(code: Bytecode, capacities: Capacities) -> list[bpf.MapInfo]:
    """The definitions of the maps."""
    entries = capacities.entries()
    return [entry._replace(max_entries=entries.get(entry.name, entry.max_entries)) for entry in code.maps]


def fitting(maps: Iterable[bpf.MapInfo], inherited: Mapping[str, int]) -> dict[str, int]:
    """The inherited maps, if all maps that the programs need are among them, with the same layout."""
    wanted = {entry.name: entry._replace(id=0, name="") for entry in maps if entry.name not in _CACHES}
    kernel_names = {name[:15]: name for name in wanted}
    found = {kernel_names[name]: fd for name, fd in inherited.items() if name in kernel_names}
    same = all(bpf.map_info(fd)._replace(id=0, name="") == wanted[name] for name, fd in found.items())
    return found if same and set(found) == set(wanted) else {}


def load(
    role: str,
    code: Bytecode,
    names: Iterable[str],
    capacities: Capacities,
    existing: Mapping[str, int] = MappingProxyType({}),
) -> Loaded:
    """Creates missing maps and loads the named programs; DataplaneError with the reason if it fails."""
    made: list[int] = []
    maps: dict[str, int] = dict(existing)
    programs: dict[str, int] = {}
    wanted = sized(code, capacities)
    try:
        for entry in wanted:
            if entry.name not in maps:
                try:
                    maps[entry.name] = bpf.create_map(entry)
                except OSError as error:
                    raise DataplaneError(refusal.of_maps(entry.name, error)) from error
                made.append(maps[entry.name])
        numbers = {index: maps[entry.name] for index, entry in enumerate(wanted)}
        for name in names:
            text = bytecode.with_maps(code.programs[name], numbers)
            try:
                programs[name] = _load_program(name, text)
            except OSError as error:
                raise DataplaneError(refusal.of_program(role, name, text, error)) from error
            made.append(programs[name])
    except BaseException:
        for fd in made:
            os.close(fd)
        raise
    made_maps = {entry.name: maps[entry.name] for entry in wanted}

    def more(name: str) -> int:
        return load(role, code, [name], capacities, made_maps).programs[name]

    return Loaded(programs, made_maps, frozenset(existing), more)


def connect(programs: Mapping[str, int], table: bpf.Map) -> None:
    """Lets these programs call one another; OSError if the kernel refuses it."""
    for index, name in enumerate(bytecode.CALLED):
        if name in programs:
            table.set(_U32.pack(index), _U32.pack(programs[name]))


def _load_program(name: str, text: bytes) -> int:
    try:
        return bpf.load_program(name, text, bpf.kind_of(name))
    except OSError:
        modest = bytecode.without_kernel_reads(text)
        if modest == text:
            raise
        try:
            loaded = bpf.load_program(name, modest, bpf.kind_of(name))
        except OSError:
            # That was not the reason.
            pass
        else:
            log.info(
                "programs can't read this kernel's memory (lockdown): datagrams of sockets that forbid "
                "fragments are split like others"
            )
            return loaded
        raise


class Loading:
    """A running loader; `result` waits for it. It runs while the agent reads its files."""

    def __init__(self, role: str, capacities: Capacities, raw_links: bool = False, xdp: bool = False) -> None:
        self._role, self._capacities = role, capacities
        self._names = bytecode.wanted(role, raw_links, xdp)
        self._code = bytecode.shipped(role) or bytecode.cached(role)
        self._compiling: Compiling | None = None
        self._early: Loaded | DataplaneError | None = None
        self._thread = threading.Thread(target=self._load_early)
        if self._code is None:
            log.info("compiling the data plane, once")
            self._compiling = Compiling(role)
        else:
            # The kernel's verification takes time and does not need the interpreter.
            self._thread.start()

    @property
    def capacities(self) -> Capacities:
        """The initial parameters."""
        return self._capacities

    def _load_early(self) -> None:
        try:
            self._early = self._load({})
        except DataplaneError as error:
            self._early = error

    def _load(self, existing: Mapping[str, int]) -> Loaded:
        assert self._code is not None
        return load(self._role, self._code, self._names, self._capacities, existing)

    def result(
        self, inherited: Mapping[str, int] = MappingProxyType({}), capacities: Capacities | None = None
    ) -> Loaded:
        """Programs and maps, or DataplaneError with the reason.

        The programs use the `inherited` maps if all of them have the right layout, otherwise none. With other
        `capacities` than the initial ones, it loads again.
        """
        if self._compiling is not None:
            self._code = self._compiling.result()
            bytecode.keep(self._role, self._code)
        assert self._code is not None
        if self._thread.ident is not None:
            self._thread.join()
        early, self._early = self._early, None
        if isinstance(early, Loaded) and capacities not in (None, self._capacities):
            early.close()
            early = None
        self._capacities = capacities or self._capacities
        existing = fitting(sized(self._code, self._capacities), inherited)
        if inherited and not existing:
            log.warning("the previous agent's tables have a different layout: flows are learned again")
        if isinstance(early, DataplaneError):
            raise early
        if early is not None and existing:
            early.close()
            early = None
        loaded = early if early is not None else self._load(existing)
        for name, fd in inherited.items():
            if name not in loaded.inherited:
                os.close(fd)
        return loaded

    def abandon(self) -> None:
        """Ends the loader; its result was taken, or is no longer needed."""
        if self._compiling is not None:
            self._compiling.abandon()
        if self._thread.ident is not None:
            self._thread.join()
        if isinstance(self._early, Loaded):
            self._early.close()
        self._early = None
