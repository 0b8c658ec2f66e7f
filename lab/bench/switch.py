"""Switches between the variants on both hosts within milliseconds, so that turns can be short and many.

HawkWing's agents fill the tables and end: running agents would put their filters back. Their programs, which
keep the tables, are attached and detached with the clsact, and the wired floor's in the same way.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial

from scapy.layers.inet import UDP

from lab.bench.floor import WIRED, Floor
from lab.bench.programs import attached
from lab.bench.traffic import DATAGRAM_PORT, Traffic
from lab.bench.ways import HAWKWING, KERNEL, UNSTEERED, agents, kernel_seg6, sids
from lab.filters import PARENTS, put_on, take_off
from lab.network import Lab
from lab.packets import Captured, path
from lab.wire import Capture, udp_port

WAYS = (UNSTEERED, KERNEL, WIRED, HAWKWING)
_HOSTS = {"host-a": "host-b", "host-b": "host-a"}
Programs = Mapping[str, Mapping[str, int]]
"""File descriptors by host and direction."""
Ways = Mapping[str, Callable[[], AbstractContextManager[None]]]
"""What each variant sets up while it is measured."""


@contextmanager
def with_programs(lab: Lab, programs: Programs) -> Iterator[None]:
    """Attaches these programs to the hosts' interfaces."""
    for host, theirs in programs.items():
        lab.inside(host, partial(put_on, theirs))
    try:
        yield
    finally:
        for host in programs:
            lab.inside(host, take_off)


@contextmanager
def switching(ways: Ways) -> Iterator[Callable[[str], None]]:
    """Gives a function that ends the present variant and begins another one, by name."""
    with ExitStack() as current:

        def to(name: str) -> None:
            current.close()
            current.enter_context(ways[name]())

        yield to


@contextmanager
def switchable(lab: Lab) -> Iterator[Callable[[str], None]]:
    """Gives a function that switches to a variant by name. At first the lab is unsteered."""
    with ExitStack() as stack:
        floors = {here: Floor(lab, here, there) for here, there in _HOSTS.items()}
        for one in floors.values():
            stack.callback(one.close)
        with agents(lab):
            ours = {host: {way: attached(lab, host, way) for way in PARENTS} for host in _HOSTS}
        for programs in ours.values():
            for fd in programs.values():
                stack.callback(os.close, fd)
        wired = {host: {way: one.programs[f"wired_{way}"] for way in PARENTS} for host, one in floors.items()}
        ways: Ways = {
            UNSTEERED: nullcontext,
            KERNEL: lambda: kernel_seg6(lab),
            WIRED: lambda: with_programs(lab, wired),
            HAWKWING: lambda: with_programs(lab, ours),
        }
        yield stack.enter_context(switching(ways))


def check(lab: Lab, traffic: Traffic, to: Callable[[str], None]) -> list[str]:
    """Sends a datagram there and back with each variant and checks links and headers; returns the links."""
    crossed: dict[str, list[str]] = {}
    for name in WAYS:
        to(name)
        with Capture(lab.topology, lab.namespace) as capture:
            traffic.ask_once()
            packets = capture.packets(udp_port(DATAGRAM_PORT))
        crossed[name] = [packet.link for packet in packets]
        wrong = [str(packet) for packet in packets if not _as_expected(lab, packet, name)]
        if wrong:
            raise RuntimeError(f"{name} does not steer as expected: {wrong[0]}")
    links = crossed[UNSTEERED]
    for name, others in crossed.items():
        if others != links:
            raise RuntimeError(
                f"{name} crosses {', '.join(others) or 'nothing'}, unsteered {', '.join(links)}"
            )
    return links[: len(links) // 2]


def _as_expected(lab: Lab, packet: Captured, name: str) -> bool:
    listed = [str(sid) for sid in sids(lab)]
    if packet[UDP].dport != DATAGRAM_PORT:
        listed.reverse()
    return path(packet) == ([] if name == UNSTEERED else listed)
