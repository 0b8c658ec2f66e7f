"""Names and their answers, over real DNS on the loopback interface."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

import dns.message
import dns.zone
import pytest

from hawkwing import resolver
from hawkwing.resolver import Follower, LookUpError, addresses_in_hosts, resolve
from hawkwing.tasks import Supervisor
from lab.services.dns import Responder
from lab.wait import patient

ZONE = """$ORIGIN example.
$TTL {ttl}
@ SOA ns.example. hostmaster.example. 1 3600 600 86400 {minimum}
@ NS ns.example.
web AAAA 2001:db8::1
web AAAA 2001:db8::2
short 7 AAAA 2001:db8::3
alias 3 CNAME web
v4 A 192.0.2.1
local AAAA fe80::1
mixed AAAA fe80::1
mixed AAAA 2001:db8::4
"""


class Server(asyncio.DatagramProtocol):
    """The lab's DNS server without its process; counts what it is asked, and may be silent about SOA."""

    def __init__(self, ttl: int, minimum: int, soa: bool) -> None:
        text = ZONE.format(ttl=ttl, minimum=minimum)
        self.responder = Responder(dns.zone.from_text(text, origin="example.", relativize=False))
        self.asked: Counter[str] = Counter()
        self._soa = soa
        self.then: Callable[[], object] = lambda: None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, address: Any) -> None:
        self.asked[str(dns.message.from_wire(data).question[0].name)] += 1
        wire = self.responder.respond(data, 1232)
        assert wire is not None
        if not self._soa:
            response = dns.message.from_wire(wire)
            response.authority.clear()
            wire = response.to_wire()
        self._transport.sendto(wire, address)
        self.then()


@pytest.fixture
def with_dns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., contextlib.AbstractAsyncContextManager[Server]]:
    """`async with with_dns() as server`: the resolver asks this server, and /etc/hosts is empty."""

    @asynccontextmanager
    async def serve(ttl: int = 300, minimum: int = 300, soa: bool = True) -> AsyncIterator[Server]:
        loop = asyncio.get_running_loop()
        transport, server = await loop.create_datagram_endpoint(
            lambda: Server(ttl, minimum, soa), ("127.0.0.1", 0), family=socket.AF_INET
        )
        monkeypatch.setattr(resolver, "_PORT", transport.get_extra_info("sockname")[1])
        configured(tmp_path, monkeypatch, "nameserver 127.0.0.1\n")
        try:
            yield server
        finally:
            transport.close()

    return serve


def configured(folder: Path, monkeypatch: pytest.MonkeyPatch, resolv_conf: str) -> Path:
    file = folder / "resolv.conf"
    file.write_text(resolv_conf)
    monkeypatch.setattr(resolver, "_RESOLV_CONF", str(file))
    monkeypatch.setattr(resolver, "_HOSTS", folder / "hosts")
    return file


def run(work: Coroutine[Any, Any, None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(patient(20)):
            await work

    asyncio.run(limited())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.01)


def test_answers_and_their_ttls(with_dns: Any) -> None:
    async def work() -> None:
        async with with_dns():
            found, ttl = await resolve("web.example")
            assert (set(map(str, found)), ttl) == ({"2001:db8::1", "2001:db8::2"}, 300.0)
            assert await resolve("short.example") == ([IPv6Address("2001:db8::3")], 7.0)
            # The shortest of a chain.
            assert (await resolve("alias.example"))[1] == 3.0
            assert await resolve("mixed.example") == ([IPv6Address("2001:db8::4")], 300.0)

    run(work())


@pytest.mark.parametrize(
    ("name", "soa", "ttl", "reason"),
    [
        ("v4.example", True, 120.0, "no AAAA record"),
        ("v4.example", False, None, "no AAAA record"),
        ("none.example", True, 120.0, "The DNS query name does not exist: none.example."),
        ("local.example", True, 300.0, "all its addresses are link-local, loopback or the like"),
        ("elsewhere.test", True, None, "All nameservers failed to answer"),
    ],
)
def test_no_address_is_an_answer_with_a_ttl(
    with_dns: Any, name: str, soa: bool, ttl: float | None, reason: str
) -> None:
    """RFC 2308, section 5: the lesser of the SOA record's own TTL and its last number."""

    async def work() -> None:
        async with with_dns(minimum=120, soa=soa):
            with pytest.raises(LookUpError, match=reason) as caught:
                await resolve(name)
            assert caught.value.ttl == ttl

    run(work())


@pytest.mark.parametrize(("ttl", "minimum"), [(60, 120), (120, 60)])
def test_the_lesser_number_of_the_soa_record_holds(with_dns: Any, ttl: int, minimum: int) -> None:
    async def work() -> None:
        async with with_dns(ttl=ttl, minimum=minimum):
            with pytest.raises(LookUpError) as caught:
                await resolve("v4.example")
            assert caught.value.ttl == 60.0

    run(work())


def test_a_name_without_aaaa_is_not_asked_for_again_before_its_time(
    with_dns: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(resolver, "_RETRY", 0.02)
    learned: list[str] = []

    async def work() -> None:
        tasks = Supervisor()
        follower = Follower(lambda name, _found, _ttl: learned.append(name), tasks)
        async with with_dns() as server:
            follower.follow(["v4.example", "none.example", "web.example"])
            await until(lambda: len(server.asked) == 3 and bool(learned))
            await asyncio.sleep(0.5)
            assert server.asked == {"v4.example.": 1, "none.example.": 1, "web.example.": 1}
            assert follower.why_not("v4.example") == "no AAAA record"
            assert follower.resolves("web.example") and not follower.resolves("v4.example")
        await tasks.close()

    run(work())
    assert learned == ["web.example"]
    assert sum("v4.example does not resolve (retrying): no AAAA record" in m for m in caplog.messages) == 1


def test_without_a_negative_ttl_it_is_asked_ever_more_slowly(
    with_dns: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolver, "_RETRY", 0.02)

    async def work() -> None:
        tasks = Supervisor()
        async with with_dns(soa=False) as server:
            Follower(lambda *_: None, tasks).follow(["v4.example"])
            await asyncio.sleep(1.0)
            # After 20, 40, 80, 160, 320, 640 ms: not some fifty times.
            assert 2 <= server.asked["v4.example."] <= 7
        await tasks.close()

    run(work())


def test_a_wrong_resolv_conf_is_told_and_a_mended_one_is_used(
    with_dns: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """`nameserver localhost` once ended a name's following for good, without a word."""
    monkeypatch.setattr(resolver, "_RETRY", 0.05)
    learned: list[str] = []

    async def work() -> None:
        tasks = Supervisor()
        async with with_dns():
            file = configured(tmp_path, monkeypatch, "nameserver localhost\n")
            follower = Follower(lambda name, _found, _ttl: learned.append(name), tasks)
            follower.follow(["web.example"])
            await until(lambda: follower.why_not("web.example") is not None)
            assert str(follower.why_not("web.example")).startswith("/etc/resolv.conf can't be used: ")
            assert "localhost" in str(follower.why_not("web.example"))
            file.write_text("nameserver 127.0.0.1\n")
            await until(lambda: bool(learned))
            assert follower.resolves("web.example")
        await tasks.close()
        assert not tasks.troubles

    run(work())
    assert [m for m in caplog.messages if "does not resolve" in m] and learned == ["web.example"]


def test_what_learning_fails_with_does_not_end_the_following(
    with_dns: Any, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[str] = []

    def learn(name: str, *_: object) -> None:
        calls.append(name)
        if len(calls) == 1:
            raise OSError(7, "Argument list too long")

    async def work() -> None:
        tasks = Supervisor(first_pause=0.02)
        async with with_dns():
            Follower(learn, tasks).follow(["web.example"])
            await until(lambda: len(calls) > 1)
        assert list(tasks.troubles) == ["look-ups of web.example"]
        await tasks.close()

    run(work())
    assert "look-ups of web.example: OSError: [Errno 7] Argument list too long" in caplog.messages


def test_a_ttl_is_cut_at_both_ends(with_dns: Any) -> None:
    """A zone's mistake of 83 hours is not waited for, nor is a name asked for all the time."""
    learned: dict[int, float] = {}

    async def follow(ttl: int) -> None:
        tasks = Supervisor()
        follower = Follower(lambda _name, _found, pause: learned.update({ttl: pause}), tasks)
        async with with_dns(ttl) as server:
            follower.follow(["web.example"])
            await until(lambda: ttl in learned)
            await asyncio.sleep(0.2)
            assert server.asked == {"web.example.": 1}
        await tasks.close()

    async def work() -> None:
        for ttl in (0, 20, 300, 301, 300_000):
            await follow(ttl)

    run(work())
    assert learned == {0: 1.0, 20: 20.0, 300: 300.0, 301: 300.0, 300_000: 300.0}


def test_names_come_and_go(with_dns: Any) -> None:
    async def work() -> None:
        tasks = Supervisor()
        learned: list[str] = []
        follower = Follower(lambda name, _found, _ttl: learned.append(name), tasks)
        async with with_dns():
            follower.follow(["web.example"])
            follower.follow(["short.example"])
            await until(lambda: bool(learned))
            assert follower.resolves("short.example") and not follower.resolves("web.example")
        await tasks.close()

    run(work())


def test_the_end_may_come_together_with_an_answer(with_dns: Any) -> None:
    """Libraries take the answer then, and forget that they were cancelled (asyncio.wait_for, Python 3.11)."""

    async def work() -> None:
        tasks = Supervisor()
        learned: list[str] = []
        follower = Follower(lambda name, _found, _ttl: learned.append(name), tasks)
        async with with_dns() as server:
            # A timer's turn comes after the answer's, in the same round of the event loop.
            server.then = lambda: asyncio.get_running_loop().call_later(0, follower.follow, ["other.example"])
            follower.follow(["web.example"])
            await until(lambda: server.asked["other.example."] > 0)
            await asyncio.sleep(0.05)
            assert learned == []
            await tasks.close()

    run(work())


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("2001:db8::1 web.example", ["2001:db8::1"]),
        ("2001:db8::1%eth0 web.example", ["2001:db8::1"]),
        ("fe80::1%eth0 web.example", []),
        ("fe80::1 web.example", []),
        ("::1 web.example", []),
        ("::ffff:192.0.2.1 web.example", []),
        ("2001:db8::1 other WEB.example. # comment", ["2001:db8::1"]),
        ("# 2001:db8::1 web.example", []),
        ("192.0.2.1 web.example", []),
        ("2001:db8::x web.example", []),
        ("2001:db8::1%", []),
        ("2001:db8::1 other # web.example", []),
        ("2001:db8::x web.example\n2001:db8::1 web.example", ["2001:db8::1"]),
        ("2001:db8::1 a web.example b\n2001:db8::2 web.example", ["2001:db8::1", "2001:db8::2"]),
        ("", []),
    ],
)
def test_hosts(line: str, found: list[str]) -> None:
    text = f"127.0.0.1 localhost\n{line}\n"
    assert list(map(str, addresses_in_hosts("web.example", text))) == found


def test_hosts_with_bytes_that_are_no_text_are_read(with_dns: Any, tmp_path: Path) -> None:
    async def work() -> None:
        async with with_dns():
            (tmp_path / "hosts").write_bytes(b"# b\xfccher\n2001:db8::9 web.example\n")
            assert (await resolve("web.example"))[0] == [IPv6Address("2001:db8::9")]

    run(work())


def test_hosts_come_before_dns(with_dns: Any, tmp_path: Path) -> None:
    async def work() -> None:
        async with with_dns() as server:
            (tmp_path / "hosts").write_text("2001:db8::9%lo web.example\n")
            assert await resolve("web.example") == ([IPv6Address("2001:db8::9")], 300.0)
            assert not server.asked

    run(work())


# --- the pauses between two look-ups, without DNS and without waiting

Outcome = LookUpError | float
FAILED = LookUpError("timeout")
FOUND = [IPv6Address("2001:db8::1")]


def pauses(
    monkeypatch: pytest.MonkeyPatch, outcomes: list[Outcome]
) -> tuple[list[float], list[float], list[bool]]:
    """After each of these (an error, or the TTL of an answer): the pause, what is learned, if it resolves."""
    left = iter(outcomes)
    waited: list[float] = []
    learned: list[float] = []
    resolving: list[bool] = []
    real = asyncio.sleep

    async def look_up(name: str) -> tuple[list[IPv6Address], float]:
        match next(left, None):
            case LookUpError() as error:
                raise error
            case None:
                raise asyncio.CancelledError
            case ttl:
                return FOUND, ttl

    async def work() -> None:
        follower = Follower(lambda _name, _found, seconds: learned.append(seconds), Supervisor())

        async def sleep(seconds: float) -> None:
            waited.append(seconds)
            resolving.append(follower.resolves("web.example"))
            await real(0)

        monkeypatch.setattr(resolver, "resolve", look_up)
        monkeypatch.setattr(asyncio, "sleep", sleep)
        follower.follow(["web.example"])
        await asyncio.wait(follower._tasks.values())
        monkeypatch.undo()

    run(work())
    return waited, learned, resolving


def test_each_failure_doubles_the_pause_up_to_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    waited, learned, resolving = pauses(monkeypatch, [FAILED] * 8)
    assert waited == [2, 4, 8, 16, 32, 60, 60, 60]
    assert learned == [] and not any(resolving)


@pytest.mark.parametrize("between", [LookUpError("no AAAA record", 100.0), 100.0])
def test_after_an_answer_the_pauses_begin_again(monkeypatch: pytest.MonkeyPatch, between: Outcome) -> None:
    waited, _, _ = pauses(monkeypatch, [FAILED, FAILED, FAILED, between, FAILED, FAILED])
    assert waited == [2, 4, 8, 100, 2, 4]


def test_an_answer_holds_for_its_ttl_but_not_for_less_than_a_second_or_more_than_five_minutes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waited, learned, resolving = pauses(monkeypatch, [0.0, 1.5, 299.0, 86400.0])
    assert waited == learned == [1, 1.5, 299, 300]
    assert all(resolving)


def test_a_negative_answer_holds_for_its_ttl_but_not_for_less_than_two_seconds_or_more_than_five_minutes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = [LookUpError("no AAAA record", ttl) for ttl in (0.0, 3.0, 299.0, 86400.0)]
    waited, learned, resolving = pauses(monkeypatch, [*answers, 7.0])
    assert waited == [2, 3, 299, 300, 7]
    assert learned == [7] and resolving == [False, False, False, False, True]


def test_no_more_than_64_names_are_looked_up_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    async def look_up(name: str) -> tuple[list[IPv6Address], float]:
        asked.append(name)
        await asyncio.Event().wait()
        raise AssertionError

    async def work() -> None:
        tasks = Supervisor()
        monkeypatch.setattr(resolver, "resolve", look_up)
        Follower(lambda *_: None, tasks).follow([f"n{number}.example" for number in range(70)])
        await until(lambda: len(asked) >= 64)
        for _ in range(10):
            await asyncio.sleep(0)
        assert len(asked) == 64
        await tasks.close()

    run(work())


def test_a_name_that_is_not_followed_any_more_fails_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    async def look_up(name: str) -> tuple[list[IPv6Address], float]:
        raise FAILED

    async def work() -> None:
        tasks = Supervisor()
        follower = Follower(lambda *_: None, tasks)
        monkeypatch.setattr(resolver, "resolve", look_up)
        follower.follow(["web.example"])
        assert follower.resolves("web.example") and follower.why_not("web.example") is None
        await until(lambda: follower.why_not("web.example") == "timeout")
        assert not follower.resolves("web.example")
        assert tasks.restarts == {"look-ups": 0}
        follower.follow([])
        assert follower.why_not("web.example") is None and not follower.resolves("web.example")
        await tasks.close()

    run(work())
