"""Resolves domain names to IPv6 addresses and follows their TTLs, each name independently."""

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
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
_AT_ONCE = 64

Learn = Callable[[str, Sequence[IPv6Address], float], None]


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
    """The addresses and their TTL in seconds; OSError or dns.exception.DNSException where that fails."""
    listed = addresses_in_hosts(name, _hosts_text())
    if listed:
        return listed, _LONGEST
    resolver = dns.asyncresolver.Resolver()
    resolver.lifetime = 5.0
    answer = await resolver.resolve(name + ".", dns.rdatatype.AAAA, search=False)
    # The shortest TTL of a CNAME chain applies.
    ttl = min((rrset.ttl for rrset in answer.response.answer), default=_RETRY)
    return [IPv6Address(record.address) for record in answer], float(ttl)


class Follower:
    """Resolves names until closed; logs once when a name fails, and once when it resolves again."""

    def __init__(self, learn: Learn) -> None:
        self._learn = learn
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._failing: dict[str, str] = {}
        self._room = asyncio.Semaphore(_AT_ONCE)

    def follow(self, names: Collection[str]) -> None:
        """Follows these names and no others from now on."""
        for name in set(self._tasks) - set(names):
            self._tasks.pop(name).cancel()
            self._failing.pop(name, None)
        for name in set(names) - set(self._tasks):
            self._tasks[name] = asyncio.get_running_loop().create_task(self._follow(name))

    def resolves(self, name: str) -> bool:
        """Did the last query succeed? While it fails, no address is withdrawn."""
        return name in self._tasks and name not in self._failing

    def why_not(self, name: str) -> str | None:
        """What the last look-up failed with; None if it didn't, or hasn't ended yet."""
        return self._failing.get(name)

    async def close(self) -> None:
        """Stops all queries."""
        tasks = list(self._tasks.values())
        self.follow(())
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, name: str) -> None:
        while True:
            try:
                async with self._room:
                    addresses, ttl = await resolve(name)
            except (dns.exception.DNSException, OSError) as error:
                reason = str(error).split("\n")[0]
                if isinstance(error, dns.resolver.NoAnswer):
                    reason = "no AAAA record"
                if name not in self._failing:
                    log.warning("%s does not resolve (retrying): %s", name, reason)
                self._failing[name] = reason
                await asyncio.sleep(_RETRY)
                continue
            if name in self._failing:
                log.info("%s resolves again", name)
                del self._failing[name]
            pause = min(max(ttl, _SHORTEST), _LONGEST)
            self._learn(name, addresses, pause)
            await asyncio.sleep(pause)
