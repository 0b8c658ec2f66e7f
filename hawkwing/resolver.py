"""Domain names to IPv6 addresses, again and again as their TTLs say; each name on its own."""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from ipaddress import IPv6Address
from pathlib import Path

import dns.asyncresolver
import dns.exception
import dns.rdatatype
import dns.resolver

log = logging.getLogger(__name__)
_SHORTEST, _LONGEST = 1.0, 300.0
_RETRY = 2.0
_HOSTS = Path("/etc/hosts")

Found = Callable[[str, IPv6Address], Awaitable[None] | None]


def addresses_in_hosts(name: str, text: str) -> list[IPv6Address]:
    """The IPv6 addresses that an /etc/hosts text gives a name."""
    found = []
    for line in text.splitlines():
        fields = line.split("#", 1)[0].split()
        if len(fields) > 1 and ":" in fields[0] and name in (f.lower().rstrip(".") for f in fields[1:]):
            try:
                address = IPv6Address(fields[0])
            except ValueError:
                continue
            found.append(address)
    return found


def _hosts_text() -> str:
    try:
        return _HOSTS.read_text(errors="replace")
    except OSError:
        return ""


async def resolve(name: str) -> tuple[list[IPv6Address], float]:
    """The addresses and the seconds they are good for; OSError or dns.exception.DNSException if it fails."""
    listed = addresses_in_hosts(name, _hosts_text())
    if listed:
        return listed, _LONGEST
    resolver = dns.asyncresolver.Resolver()
    resolver.lifetime = 5.0
    answer = await resolver.resolve(name + ".", dns.rdatatype.AAAA, search=False)
    ttl = answer.rrset.ttl if answer.rrset is not None else _RETRY
    return [IPv6Address(record.address) for record in answer], float(ttl)


async def follow(name: str, found: Callable[[str, IPv6Address], None]) -> None:
    """Resolves one name for ever; says once when it fails, and once when it is back."""
    failing = False
    while True:
        try:
            addresses, ttl = await resolve(name)
        except (dns.exception.DNSException, OSError, socket.gaierror) as error:
            if not failing:
                reason = (
                    "no AAAA record"
                    if isinstance(error, dns.resolver.NoAnswer)
                    else str(error).split("\n")[0]
                )
                log.warning("%s does not resolve: %s; trying again", name, reason)
            failing = True
            await asyncio.sleep(_RETRY)
            continue
        if failing:
            log.info("%s resolves again", name)
        failing = False
        for address in addresses:
            found(name, address)
        await asyncio.sleep(min(max(ttl, _SHORTEST), _LONGEST))
