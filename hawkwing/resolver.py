"""Resolves domain names to IPv6 addresses and follows their TTLs, each name independently.

A negative answer has its own TTL (RFC 2308), and is cached for this time. After a failed look-up the interval
of the next ones grows.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Collection, Sequence
from ipaddress import IPv6Address
from pathlib import Path

import dns.asyncresolver
import dns.exception
import dns.message
import dns.rdatatype
import dns.resolver

from hawkwing.tasks import Supervisor, heed_cancellation

log = logging.getLogger(__name__)
_SHORTEST, _LONGEST = 1.0, 300.0
_RETRY, _LONGEST_RETRY = 2.0, 60.0
_SHORTEST_NEGATIVE = 2.0
_LIFETIME = 5.0
_HOSTS, _RESOLV_CONF, _PORT = Path("/etc/hosts"), "/etc/resolv.conf", 53
_AT_ONCE = 64

Learn = Callable[[str, Sequence[IPv6Address], float], None]


class LookUpError(Exception):
    """A name has no addresses at present; `ttl` is the lifetime of this answer (None: unknown)."""

    def __init__(self, reason: str, ttl: float | None = None) -> None:
        super().__init__(reason)
        self.ttl = ttl


def usable(address: IPv6Address) -> bool:
    """Whether packets to this address can take a path; there are no routers to a link-local one."""
    return not (
        address.is_link_local
        or address.is_loopback
        or address.is_multicast
        or address.is_unspecified
        or address.ipv4_mapped is not None
    )


def addresses_in_hosts(name: str, text: str) -> list[IPv6Address]:
    """The IPv6 addresses of a name in an /etc/hosts text, without zones."""
    found = []
    for line in text.splitlines():
        fields = line.split("#", 1)[0].split()
        if fields and ":" in fields[0] and name in (f.lower().rstrip(".") for f in fields[1:]):
            try:
                address = IPv6Address(fields[0].partition("%")[0])
            except ValueError:
                continue
            if usable(address):
                found.append(address)
    return found


def _hosts_text() -> str:
    try:
        return _HOSTS.read_text(errors="replace")
    except OSError:
        return ""


def negative_ttl(response: dns.message.Message | None) -> float | None:
    """The TTL of a negative answer (RFC 2308, section 5); None if it has none."""
    if response is None:
        return None
    for rrset in response.authority:
        if rrset.rdtype == dns.rdatatype.SOA:
            return float(min([rrset.ttl, *(record.minimum for record in rrset)]))
    return None


async def resolve(name: str) -> tuple[list[IPv6Address], float]:
    """The addresses and their TTL in seconds; LookUpError with the reason if there are none."""
    listed = addresses_in_hosts(name, _hosts_text())
    if listed:
        return listed, _LONGEST
    try:
        resolver = dns.asyncresolver.Resolver(_RESOLV_CONF)
    except (dns.exception.DNSException, OSError, ValueError) as error:
        raise LookUpError(f"/etc/resolv.conf can't be used: {_first_line(error)}") from None
    resolver.lifetime, resolver.port = _LIFETIME, _PORT
    try:
        answer = await resolver.resolve(name + ".", dns.rdatatype.AAAA, search=False)
    except dns.resolver.NXDOMAIN as error:
        raise LookUpError(_first_line(error), negative_ttl(_response_of(error))) from None
    except dns.resolver.NoAnswer as error:
        raise LookUpError("no AAAA record", negative_ttl(error.kwargs.get("response"))) from None
    except (dns.exception.DNSException, OSError, ValueError) as error:
        # ValueError: resolv.conf has an invalid address of a server.
        raise LookUpError(_first_line(error)) from None
    # The shortest TTL of a CNAME chain applies.
    ttl = min((rrset.ttl for rrset in answer.response.answer), default=_RETRY)
    found = [address for record in answer if usable(address := IPv6Address(record.address))]
    if not found:
        raise LookUpError("all its addresses are link-local, loopback or the like", float(ttl))
    return found, float(ttl)


def _response_of(error: dns.resolver.NXDOMAIN) -> dns.message.Message | None:
    responses: Collection[dns.message.Message] = error.kwargs.get("responses", {}).values()
    return next(iter(responses), None)


def _first_line(error: BaseException) -> str:
    return str(error).split("\n")[0] or type(error).__name__


class Follower:
    """Resolves names until closed; logs once when a name fails, and once when it resolves again."""

    def __init__(self, learn: Learn, tasks: Supervisor) -> None:
        self._learn = learn
        self._supervisor = tasks
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._failing: dict[str, str] = {}
        self._room = asyncio.Semaphore(_AT_ONCE)

    def follow(self, names: Collection[str]) -> None:
        """Sets the names to follow."""
        wanted = set(names)
        for name in set(self._tasks) - wanted:
            self._tasks.pop(name).cancel()
            self._failing.pop(name, None)
        for name in wanted - set(self._tasks):
            self._tasks[name] = self._supervisor.keep(
                f"look-ups of {name}", functools.partial(self._follow, name), "look-ups"
            )

    def resolves(self, name: str) -> bool:
        """Whether the last query succeeded; while it fails, no address is withdrawn."""
        return name in self._tasks and name not in self._failing

    def why_not(self, name: str) -> str | None:
        """The error of the last look-up; None if it succeeded, or has not ended yet."""
        return self._failing.get(name)

    async def _follow(self, name: str) -> None:
        retry = _RETRY
        while True:
            try:
                async with self._room:
                    try:
                        addresses, ttl = await resolve(name)
                    finally:
                        heed_cancellation()
            except LookUpError as error:
                if name not in self._failing:
                    log.warning("%s does not resolve (retrying): %s", name, error)
                self._failing[name] = str(error)
                if error.ttl is None:
                    await asyncio.sleep(retry)
                    retry = min(retry * 2, _LONGEST_RETRY)
                else:
                    await asyncio.sleep(min(max(error.ttl, _SHORTEST_NEGATIVE), _LONGEST))
                    retry = _RETRY
                continue
            retry = _RETRY
            if name in self._failing:
                log.info("%s resolves again", name)
                del self._failing[name]
            pause = min(max(ttl, _SHORTEST), _LONGEST)
            self._learn(name, addresses, pause)
            await asyncio.sleep(pause)
