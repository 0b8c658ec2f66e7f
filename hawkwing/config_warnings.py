"""The warnings of `hawkwing check`: valid values that don't do what they seem to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv6Address, IPv6Network
from itertools import pairwise
from typing import Any

from hawkwing.config_models import Config
from hawkwing.desired import choosing
from hawkwing.intents import IntentType, hawkeye_faults, hawkeye_refusals
from hawkwing.sids import SidList, back_of
from hawkwing.yaml_lines import Place

_BY_PROBES = (IntentType.LOW_JITTER, IntentType.LOW_PACKET_LOSS)
Warnings = Iterator[tuple[Place, str]]


def warnings_for(config: Config, written: Mapping[str, Any]) -> list[tuple[Place, str]]:
    """A sentence for each warning, with its place; `written` is the content of the file."""
    return [
        *_controller(config, written),
        *_sr_domain(config),
        *_given_twice(config, written),
        *_intents(config),
    ]


def _controller(config: Config, written: Mapping[str, Any]) -> Warnings:
    hawkeye = written.get("hawkeye") or {}
    if hawkeye.get("enabled") is None and hawkeye.get("address") is not None:
        yield ("hawkeye", "address"), "is set, but enabled is not: no controller is used"


def _sr_domain(config: Config) -> Warnings:
    domain = config.sr_domain
    for index, prefix in enumerate(domain):
        for other in domain[:index] + domain[index + 1 :]:
            if prefix.subnet_of(other) and (prefix != other or other in domain[:index]):
                yield ("sr_domain", index), f"{prefix} is in {other} already"
                break
    from hawkwing.dataplane.plane import DEFAULT_SR_DOMAIN  # only `check` needs it

    services = config.services.values()
    applications = [application for service in services for application in service.applications]
    lists = [candidate.sids for one in applications for candidate in one.candidates]
    # Replies come over these, and over the reverse lists until a server uses them.
    lists += [*map(back_of, lists), *(one.return_sid for one in applications)]
    sids = (sid for listed in lists for sid in listed)
    addresses = (address for service in services for address in service.ipv6_addresses)
    if not domain:
        default = " or ".join(str(prefix) for prefix in DEFAULT_SR_DOMAIN)
        for sid in _outside(sids, DEFAULT_SR_DOMAIN)[:1]:
            yield (
                ("sr_domain",),
                f"is not set, and the SID {sid} is not in {default}: set it to accept replies",
            )
        return
    for outside, what, lost in (
        (_outside(sids, domain), "SID", "replies over"),
        (_outside(addresses, domain), "address", "replies from"),
    ):
        if outside:
            more = f" and {len(outside) - 1} more" if len(outside) > 1 else ""
            it = "them" if more else "it"
            yield (
                ("sr_domain",),
                f"does not contain the {what} {outside[0]}{more}: {lost} {it} are not accepted",
            )


def _outside(addresses: Iterator[IPv6Address], domain: Sequence[IPv6Network]) -> list[IPv6Address]:
    return [
        address for address in dict.fromkeys(addresses) if not any(address in prefix for prefix in domain)
    ]


def _given_twice(config: Config, written: Mapping[str, Any]) -> Warnings:
    for name, service in config.services.items():
        listed = written["services"][name].get("ipv6_addresses") or ()
        if len(listed) > len(service.ipv6_addresses):
            seen: set[IPv6Address] = set()
            for index, text in enumerate(listed):
                address = IPv6Address(text)
                if address in seen:
                    yield ("services", name, "ipv6_addresses", index), f"{address} is given twice"
                seen.add(address)
        for number, application in enumerate(service.applications):
            place: Place = ("services", name, "applications", number)
            lists: dict[Place, SidList] = {("sid",): application.sid, ("return_sid",): application.return_sid}
            for order, path in enumerate(application.paths):
                lists["paths", order, "sid"] = path.sid
                lists["paths", order, "return_sid"] = path.return_sid
            for key, sids in lists.items():
                for index, (before, sid) in enumerate(pairwise(sids), 1):
                    if sid == before:
                        yield (*place, *key, index), f"{sid} is given twice in a row"


def _intents(config: Config) -> Warnings:
    refused: list[tuple[Place, str]] = []
    for name, service in config.services.items():
        for index, application in enumerate(service.applications):
            place: Place = ("services", name, "applications", index)
            if not application.intents:
                continue
            if not application.candidates and not config.hawkeye.enabled:
                yield (
                    place,
                    "has intents but neither sid nor paths, and hawkeye is not enabled: its packets "
                    "are not steered",
                )
            compared = choosing(application) is not None
            if compared and config.probes is None:
                for intent in application.intents:
                    if intent.type in _BY_PROBES:
                        yield place, f"has {intent.type.value}, which only probes can measure: set probes"
            if application.return_intents and not config.hawkeye.enabled:
                yield (*place, "return_intents"), "are for a controller, and hawkeye is not enabled"
            if config.hawkeye.enabled or not compared:
                refused += [(place, text) for text in hawkeye_refusals(application.intents)]
            if config.hawkeye.enabled:
                refused += [(place, text) for text in hawkeye_faults(application.intents)]
                back = application.return_intents
                for text in [*hawkeye_refusals(back), *hawkeye_faults(back)] if back else ():
                    refused.append(((*place, "return_intents"), text))
        refused += list(_behind_one_router(config, name))
    if refused and not config.hawkeye.enabled:
        yield ("hawkeye",), "is not enabled: HawkEye's limits matter only once it is"
    yield from refused


def _behind_one_router(config: Config, name: str) -> Warnings:
    source, service = config.client_ipv6_address, config.services[name]
    asked = any(application.intents for application in service.applications)
    if source is None or not asked or not config.hawkeye.enabled:
        return
    network = IPv6Network((int(source) >> 64 << 64, 64))
    for index, address in enumerate(service.ipv6_addresses):
        if address in network:
            yield (
                ("services", name, "ipv6_addresses", index),
                f"is in {network}, as client_ipv6_address: "
                "HawkEye 1.0.1 crashes on a path from a router to itself",
            )
