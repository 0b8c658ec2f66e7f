"""The host's addresses: what the kernel tells of them, and which one requests name as their source."""

from __future__ import annotations

import asyncio
import ctypes
import os
import subprocess
from collections.abc import Callable
from ipaddress import IPv6Address
from pathlib import Path
from typing import TypeVar

import pytest

from hawkwing import addresses
from hawkwing.addresses import (
    HostAddress,
    Sources,
    mapped_ipv4,
    parse_table,
    preferred_address,
    source_to,
)
from hawkwing.errors import DataplaneError
from lab import netns
from lab.wait import patient

T = TypeVar("T")

TABLE = """\
fe800000000000000000000000000001 02 40 20 80     eth0
20010db8000000000000000000000001 02 40 00 20     eth0
20010db8000000000000000000000003 02 40 00 80     eth0
20010db8000000000000000000000002 02 40 00 80     eth0
20010db800000000000000000000000a 02 40 00 c0     eth0
20010db8000000000000000000000000 02 40 00 88     eth0
20010db7000000000000000000000009 02 40 00 01     eth0
20010db8000100000000000000000001 03 40 00 20     eth1
20010db8000200000000000000000001 04 40 00 20     eth3
20010db8000200000000000000000002 04 40 00 01     eth3
20010db8000300000000000000000001 05 40 00 48     eth4
00000000000000000000000000000001 01 80 10 80       lo
"""


def test_the_kernels_table() -> None:
    found = parse_table(TABLE)
    assert found[0] == HostAddress(IPv6Address("fe80::1"), "eth0", False, 0x80)
    assert found[1] == HostAddress(IPv6Address("2001:db8::1"), "eth0", True, 0x20)
    assert len(found) == 12


@pytest.mark.parametrize(
    ("interface", "address"),
    [
        # Neither deprecated, tentative, a duplicate nor temporary; and the same one each time.
        ("eth0", "2001:db8::2"),
        # Better than nothing.
        ("eth1", "2001:db8:1::1"),
        # Temporary ones are better than deprecated ones.
        ("eth3", "2001:db8:2::2"),
        ("eth4", None),
        ("lo", None),
        ("eth2", None),
    ],
)
def test_the_usual_source(interface: str, address: str | None) -> None:
    wanted = IPv6Address(address) if address is not None else None
    assert preferred_address(parse_table(TABLE), interface) == wanted
    assert preferred_address(reversed(parse_table(TABLE)), interface) == wanted


def test_ipv4_addresses() -> None:
    text = "Main:\n  |-- 192.0.2.0\n     /24 link UNICAST\n        |-- 192.0.2.1\n           /32 host LOCAL\n"
    assert mapped_ipv4(text) == {IPv6Address("::ffff:192.0.2.1")}


def test_the_loopback_address_is_no_source() -> None:
    assert source_to(IPv6Address("::1")) is None


def test_the_source_is_the_kernels_choice() -> None:
    """By the longest common prefix (RFC 6724, rule 8), never a deprecated one (rule 3)."""
    if os.geteuid() != 0:
        pytest.skip("needs root: network namespaces")
    commands = """
    link add w0 type veth peer name w1
    link set w0 up
    link set w1 up
    -6 addr add 2001:db8:a::1/64 dev w0 nodad
    -6 addr add fcbb:cc00:1::a/48 dev w0 nodad
    -6 addr add fcbb:cc00:1::b/48 dev w0 nodad preferred_lft 0
    -6 route add default via 2001:db8:a::2
    """

    def work() -> list[str | None]:
        assert ctypes.CDLL(None).unshare(0x40000000) == 0  # CLONE_NEWNET
        for command in filter(None, map(str.strip, commands.splitlines())):
            subprocess.run(["ip", *command.split()], check=True)

        def source(text: str) -> str | None:
            found = source_to(IPv6Address(text))
            return str(found) if found is not None else None

        found = [source("fcbb:cc00:2::a"), source("2001:db8:b::1"), source("fcbb:cc00:1::b")]
        subprocess.run(["ip", "-6", "addr", "del", "fcbb:cc00:1::a/48", "dev", "w0"], check=True)
        found.append(source("fcbb:cc00:2::a"))
        subprocess.run(["ip", "-6", "route", "del", "default"], check=True)
        return [*found, source("2001:db8:b::1")]

    assert netns.in_thread(work) == [
        "fcbb:cc00:1::a",
        "2001:db8:a::1",
        "fcbb:cc00:1::b",  # to itself
        "2001:db8:a::1",  # the other one is deprecated
        None,
    ]


def test_a_kernel_without_ipv6_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "_TABLE", tmp_path / "none")
    with pytest.raises(
        DataplaneError, match=r"^this kernel has no IPv6 \(CONFIG_IPV6\), or IPv6 is disabled$"
    ):
        addresses.all_addresses()


def test_all_addresses_are_of_both_families(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "table").write_text(TABLE)
    (tmp_path / "trie").write_text("|-- 192.0.2.1\n   /32 host LOCAL\n")
    monkeypatch.setattr(addresses, "_TABLE", tmp_path / "table")
    monkeypatch.setattr(addresses, "_IPV4_ROUTES", tmp_path / "trie")
    found = addresses.all_addresses()
    assert len(found) == 13 and IPv6Address("::ffff:192.0.2.1") in found
    monkeypatch.setattr(addresses, "_IPV4_ROUTES", tmp_path / "none")
    assert len(addresses.all_addresses()) == 12


def inside(work: Callable[[], T]) -> T:
    """In a namespace of its own, which ends with it, with a link w0."""
    if os.geteuid() != 0:
        pytest.skip("needs root: network namespaces")

    def body() -> T:
        assert ctypes.CDLL(None).unshare(0x40000000) == 0  # CLONE_NEWNET
        for words in ("link add w0 type veth peer name w1", "link set w0 up", "link set w1 up"):
            subprocess.run(["ip", *words.split()], check=True)
        return work()

    return netns.in_thread(body)


def ip(words: str) -> None:
    subprocess.run(["ip", *words.split()], check=True)


def test_the_source_of_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's choice; without a route the interface's own; none where it has no global one."""
    monkeypatch.setattr(addresses, "_TABLE", Path("/proc/thread-self/net/if_inet6"))
    there = IPv6Address("2001:db8:b::1")

    def work() -> list[IPv6Address | None]:
        sources = Sources(lambda: "w0")
        found = [sources.of(there)]
        ip("-6 addr add 2001:db8:a::1/64 dev w0 nodad")
        found += [sources.usual(), sources.of(there)]
        ip("-6 addr add 2001:db8:0::1/64 dev w0 nodad")
        ip("-6 route add default via 2001:db8:a::2")
        return [*found, sources.usual(), sources.of(there), Sources(lambda: "w1").usual()]

    own, least = IPv6Address("2001:db8:a::1"), IPv6Address("2001:db8:0::1")
    assert inside(work) == [None, own, own, least, own, None]


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_changes_of_addresses_are_heard_of_until_it_is_enough() -> None:
    def work() -> list[int]:
        heard: list[int] = []

        async def listen() -> None:
            told = asyncio.Event()
            before = descriptors()
            stop = addresses.watch(told.set)
            assert descriptors() > before
            for number, words in enumerate(
                (
                    "-6 addr add fd00::1/64 dev w0 nodad",
                    "-4 addr add 192.0.2.1/24 dev w0",
                    "-6 addr del fd00::1/64 dev w0",
                    "-4 addr del 192.0.2.1/24 dev w0",
                )
            ):
                # What the kernel itself adds, to a link that has come up.
                await asyncio.sleep(0.2)
                told.clear()
                ip(words)
                async with asyncio.timeout(patient(10)):
                    await told.wait()
                heard.append(number)
            stop()
            assert descriptors() == before
            await asyncio.sleep(0.1)
            told.clear()
            ip("-4 addr add 192.0.2.2/24 dev w0")
            await asyncio.sleep(0.2)
            assert not told.is_set()

        asyncio.run(listen())
        return heard

    assert inside(work) == [0, 1, 2, 3]
