"""An agent's plan: its options and its file, read and checked before any change.

A start, `hawkwing reload` and SIGHUP make the same plan. An error is one sentence (or one per line of the
file), and nothing is changed.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv6Network
from pathlib import Path

from hawkwing.addresses import host_addresses
from hawkwing.config import Config, Reading, read_config
from hawkwing.config_labels import container_faults
from hawkwing.config_models import CsidBlock, csid_faults, decap_faults
from hawkwing.dataplane.interfaces import Asked, requiring_hmac
from hawkwing.dataplane.plane import require_hmac_links_fit
from hawkwing.desired import Desired, excess, needs_of, too_long_to_sign
from hawkwing.errors import ConfigError, HawkwingError
from hawkwing.hmac_keys import read_keys
from hawkwing.labels import NO_LABELS, Labels
from hawkwing.pem import Contents, folder_of, read_contents
from hawkwing.room import Room
from hawkwing.sids import MAX_PREFIXES, SidList
from hawkwing.srh_hmac import Key
from hawkwing.status_model import Hook, Role

_RESTART = "the running agent has room for {most:,}: restart it to get larger tables"


@dataclass(frozen=True)
class Options:
    """The options of the command line, without the configuration file."""

    role: Role
    asked: Sequence[Asked]
    config_file: Path | None
    hook: Hook = "tc"
    sr_domain: tuple[IPv6Network, ...] = ()
    csid: tuple[IPv6Network, ...] = ()
    keep: bool = False
    wait: bool = False
    #: Addresses and port of `--metrics`.
    metrics: tuple[tuple[str, ...], int] | None = None

    @property
    def interfaces(self) -> list[str]:
        """The names of the interfaces at the start."""
        return [one.name for one in self.asked]


@dataclass(frozen=True)
class Plan:
    """A configuration that can be applied, and values derived from it."""

    config: Config
    desired: Desired
    needs: Room
    labels: Labels = NO_LABELS
    #: Lines `FILE:LINE: warning: ...`.
    warnings: Sequence[str] = ()
    #: Content of the files for TLS with the controller.
    pem: Contents | None = None
    #: The keys of `hmac`: the first one signs, all of them verify.
    hmac: tuple[Key, ...] = ()
    _reading: Reading | None = None

    @classmethod
    def of(cls, config: Config, reading: Reading | None = None) -> Plan:
        """Builds the plan from the file only; takes long for a large configuration."""
        tls = config.hawkeye.tls if config.hawkeye.enabled else None
        desired = Desired.of(config)
        return cls(
            config,
            desired,
            needs_of(config),
            Labels(config.labels, desired.blocks),
            reading.warnings() if reading is not None else (),
            read_contents(tls) if tls is not None else None,
            read_keys(config.hmac),
            reading,
        )

    def fitting(self, room: Room, learned: Room, used: Collection[SidList]) -> Plan:
        """The plan for a running agent; ConfigError if its tables are too small.

        `room` is the size of its tables, `learned` the space for addresses learned from names, and `used` has
        the lists in use: during a change both old and new lists exist.
        """
        leaving = len(set(used) - self.desired.lists())
        left = Room(
            addresses=room.addresses - learned.addresses,
            names=room.names,
            applications=room.applications - learned.applications,
            lists=room.lists - leaving,
            selections=room.selections,
        )
        found = excess(self.config, Room(*(max(number, 0) for number in left)), _RESTART)
        if found and self._reading is not None:
            raise ConfigError(self._reading.lines(found))
        # The file's text and the places in it are no longer needed.
        return replace(self, _reading=None)


def make_plan(options: Options) -> Plan:
    """Reads the file and checks all limits; HawkwingError with the problem."""
    if len(options.sr_domain) > MAX_PREFIXES:
        given = f"--sr-domain is given {len(options.sr_domain)} times"
        raise HawkwingError(f"{given}, at most {MAX_PREFIXES} prefixes are possible")
    require_hmac_links_fit(len(requiring_hmac(options.interfaces)))
    if options.config_file is None:
        return Plan.of(_with_options(Config(), options))
    client = options.role == "client"
    reading = read_config(options.config_file, os.environ, require_services=client)
    if client:
        config = _with_options(reading.config, options)
        # The command line may have other blocks, in whose containers fewer SIDs fit.
        if options.csid and (found := too_long_to_sign(config)):
            raise ConfigError(reading.lines(found))
        return Plan.of(config, reading)
    # A server needs no services or controller, and no warnings about them.
    config = Config(
        sr_domain=reading.config.sr_domain,
        csid=reading.config.csid,
        hmac=reading.config.hmac,
        stamp_port=reading.config.stamp_port,
        decap=reading.config.decap,
    )
    _require_no_own_sids(config, reading)
    plan = Plan.of(_with_options(config.model_copy(update={"labels": reading.config.labels}), options))
    return replace(plan, warnings=tuple(reading.key_warnings()))


def _require_no_own_sids(config: Config, reading: Reading) -> None:
    """Packets to an own address would be delivered to this host as they are."""
    if config.decap is None:
        return
    own = {one.address for one in host_addresses()}
    found = [
        (("decap", key), f"{sid} is an address of this host, use a SID that no interface has")
        for key, sid in (("ipv6", config.decap.ipv6), ("ipv4", config.decap.ipv4))
        if sid in own
    ]
    if found:
        raise ConfigError(reading.lines(found))


def _with_options(config: Config, options: Options) -> Config:
    changes: dict[str, object] = {}
    if config.hawkeye.tls is not None and options.config_file is not None:
        tls = config.hawkeye.tls.beside(folder_of(options.config_file))
        changes["hawkeye"] = config.hawkeye.model_copy(update={"tls": tls})
    if config.hmac and options.config_file is not None:
        changes["hmac"] = tuple(key.beside(folder_of(options.config_file)) for key in config.hmac)
    if options.sr_domain:
        changes["sr_domain"] = options.sr_domain
    if options.csid:
        changes["csid"] = tuple(CsidBlock(block=prefix) for prefix in options.csid)
    merged = config.model_copy(update=changes) if changes else config
    for _index, fault in csid_faults([one.block for one in merged.csid], merged.sr_domain):
        raise HawkwingError(f"csid: {fault}")
    if merged.decap is not None:
        for key, fault in decap_faults(dict(merged.decap), merged.sr_domain):
            raise HawkwingError(f"{'.'.join(map(str, ('decap', *key)))}: {fault}")
    if options.csid:
        # The file may have other blocks, which are checked separately.
        for fault in container_faults(merged.labels, options.csid):
            raise HawkwingError(f"labels: {fault}")
    return merged
