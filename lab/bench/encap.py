"""Encapsulation (H.Encaps.Red): HawkWing's beside the kernel's, from host-a to host-b; replies have none.

Host-b removes the outer header with the kernel's End.DT6 in both cases.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from ipaddress import IPv6Address

from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrSegmentRouting

from lab.bench.programs import attached
from lab.bench.switch import Ways, switching, with_programs
from lab.bench.traffic import DATAGRAM_PORT, Traffic
from lab.bench.ways import UNSTEERED, agent, configuration, sids
from lab.filters import PARENTS
from lab.linux.kernel import set_sysctl
from lab.network import Lab
from lab.wire import Capture, Filter

KERNEL_ENCAP, HAWKWING_ENCAP = "kernel encap.red", "HawkWing encap"
WAYS = (UNSTEERED, KERNEL_ENCAP, HAWKWING_ENCAP)
_HERE, _THERE = "host-a", "host-b"
_LAST = 0xD6


def _decap_sid(lab: Lab) -> IPv6Address:
    """A SID in the network of host-b."""
    return IPv6Address(int(lab.topology.host(_THERE).address) & ~0xFFFF | _LAST)


def _route(lab: Lab, command: str, node: str, *words: str) -> None:
    lab.execute(node, ["ip", "-6", "route", command, *words])


@contextmanager
def _decapsulating(lab: Lab) -> Iterator[None]:
    decap = ("encap", "seg6local", "action", "End.DT6", "table", "local", "dev", "eth0")
    words = (f"{_decap_sid(lab)}/128", *decap)
    _route(lab, "add", _THERE, *words)
    try:
        yield
    finally:
        _route(lab, "del", _THERE, *words)


@contextmanager
def _kernel(lab: Lab) -> Iterator[None]:
    gateway = lab.topology.host(_HERE).interface.peer_address.ip
    segments = ",".join(map(str, [*sids(lab), _decap_sid(lab)]))
    destination = f"{lab.topology.host(_THERE).address}/128"
    words = (destination, "encap", "seg6", "mode", "encap.red", "segs", segments)
    lab.inside(_HERE, partial(set_sysctl, "net/ipv6/conf/eth0/seg6_enabled", 1))
    _route(lab, "add", _HERE, *words, "via", str(gateway), "dev", "eth0")
    try:
        yield
    finally:
        _route(lab, "del", _HERE, *words, "via", str(gateway), "dev", "eth0")
        lab.inside(_HERE, partial(set_sysctl, "net/ipv6/conf/eth0/seg6_enabled", 0))


def _programs(lab: Lab) -> dict[str, int]:
    """The programs of a client that encapsulates; the caller closes them."""
    text = configuration(lab).replace(
        "    applications:\n", f'    mode: encap\n    decap_sid: "{_decap_sid(lab)}"\n    applications:\n'
    )
    started = agent(lab, "client", _HERE, text=text)
    try:
        started.wait_for("ready: ")
        return {way: attached(lab, _HERE, way) for way in PARENTS}
    finally:
        started.stop()


@contextmanager
def switchable(lab: Lab, traffic: Traffic) -> Iterator[Callable[[str], None]]:
    """Gives a function that switches to a variant by name, after a look at a packet of each."""
    with ExitStack() as stack:
        stack.enter_context(_decapsulating(lab))
        programs = _programs(lab)
        for fd in programs.values():
            stack.callback(os.close, fd)
        ways: Ways = {
            UNSTEERED: nullcontext,
            KERNEL_ENCAP: lambda: _kernel(lab),
            HAWKWING_ENCAP: lambda: with_programs(lab, {_HERE: programs}),
        }
        to = stack.enter_context(switching(ways))
        for name in WAYS:
            to(name)
            _check(lab, traffic, name)
        yield to


def _check(lab: Lab, traffic: Traffic, name: str) -> None:
    first, *others = [*sids(lab), _decap_sid(lab)]
    with Capture(lab.topology, lab.namespace) as capture:
        traffic.ask_once()
        seen = [one for one in capture.packets(Filter(link="host-a-site-a")) if UDP in one]
    (packet,) = [one for one in seen if one[UDP].dport == DATAGRAM_PORT]
    listed = packet[IPv6ExtHdrSegmentRouting].addresses if IPv6ExtHdrSegmentRouting in packet else []
    wanted = [] if name == UNSTEERED else [str(sid) for sid in reversed(others)]
    if listed != wanted or (wanted and packet[IPv6].dst != str(first)):
        raise RuntimeError(f"{name} does not encapsulate as expected: {packet}")
