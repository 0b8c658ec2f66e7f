"""Why no probe came back, if there is no error: known causes on this host, otherwise possible causes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from typing import Any

from hawkwing import control
from hawkwing.dataplane.plane import DEFAULT_SR_DOMAIN
from hawkwing.errors import HawkwingError
from hawkwing.probing.chosen import Chosen
from hawkwing.sids import back_of

_CONF = Path("/proc/sys/net/ipv6/conf")
MAY_BE = (
    "no answer: a router of the list is down, has no such SID or no route, or a firewall drops the probes; "
    "or a router drops them because their source is the receiver's own address (uRPF)"
)


def reasons(chosen: Chosen) -> list[str]:
    """Sentences; only the certain ones, if there are any."""
    return known(chosen) or [MAY_BE]


def known(chosen: Chosen) -> list[str]:
    """Sentences that are certain."""
    try:
        answers = control.answers({"ask": "summary"}, ("client", "server"))
        agents = [answer for _path, answer in answers if answer is not None]
    except HawkwingError:
        # Not root: the agents' SR domains are unknown.
        return []
    return certain(chosen, agents, kernel_accepts())


def certain(chosen: Chosen, agents: Sequence[Mapping[str, Any]], kernel: bool) -> list[str]:
    """Reasons on this host why returning probes do not reach their socket."""
    if kernel:
        return []
    if not agents:
        return [
            "no answer: this host drops packets with an SRH: no agent runs here, and seg6_enabled is 0 "
            "(net.ipv6.conf.all and the interface)"
        ]
    refusals = [refusal(chosen, agent["sr_domain"]) for agent in agents]
    if all(refusals):
        told = dict.fromkeys(f"{why} ({agent['role']})" for why, agent in zip(refusals, agents, strict=True))
        return [f"no answer: an agent on this host doesn't accept the probes: {why}" for why in told]
    return []


def refusal(chosen: Chosen, sr_domain: Sequence[str]) -> str | None:
    """The address outside an agent's SR domain (empty: the default, which applies to SIDs only)."""
    prefixes = [IPv6Network(prefix) for prefix in sr_domain] or list(DEFAULT_SR_DOMAIN)
    needed: list[IPv6Address] = [*([chosen.source] if sr_domain else []), *chosen.sids, *back_of(chosen.sids)]
    for address in needed:
        if not any(address in prefix for prefix in prefixes):
            return f"{address} is outside its SR domain"
    return None


def kernel_accepts(conf: Path = _CONF) -> bool:
    """Whether the kernel accepts an SRH on any interface (seg6_enabled)."""
    try:
        everywhere = (conf / "all" / "seg6_enabled").read_text().strip() == "1"
        found = [file.read_text().strip() for file in conf.glob("*/seg6_enabled") if _is_link(file)]
    except OSError:
        return False
    return everywhere and "1" in found


def _is_link(file: Path) -> bool:
    return file.parent.name not in ("all", "default", "lo")
