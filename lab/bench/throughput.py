"""Throughput of each variant: TCP with and without segmentation offload, and small datagrams."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial

from lab.bench.figures import Series
from lab.bench.floor import WIRED
from lab.bench.machine import undisturbed
from lab.bench.streams import Streams
from lab.bench.switch import WAYS
from lab.bench.traffic import Traffic
from lab.bench.ways import HAWKWING
from lab.linux.large import forwards_large
from lab.network import Lab

_MEGABYTES, _MEGABYTES_CUT, _UDP_MEGABYTES = 64, 8, 2
"""The amount of a turn: some tens of milliseconds of TCP, a quarter of a second of UDP."""
_WARM_UP = 16
"""The amount that connections send before the measurement."""


@dataclass(frozen=True)
class Rounds:
    """The number of rounds of each part."""

    tcp: int
    cut: int
    udp: int


def _order(ways: Sequence[str], number: int) -> Sequence[str]:
    """The order of the variants, rotated with each round."""
    first = number % len(ways)
    return [*ways[first:], *ways[:first]]


@contextmanager
def _cut_by_the_sender(lab: Lab) -> Iterator[None]:
    """Disables segmentation offload at host-a, so that every packet has wire size."""

    def offload(tso: str, gso: str) -> None:
        lab.execute("host-a", ["ethtool", "-K", "eth0", "tso", tso, "gso", gso])

    offload("off", "off")
    try:
        yield
    finally:
        offload("on" if forwards_large() else "off", "on")


def measure(
    lab: Lab,
    traffic: Traffic,
    to: Callable[[str], None],
    counts: Sequence[int],
    rounds: Rounds,
    ways: Sequence[str] = WAYS,
) -> list[Series]:
    """Series for each number of streams, without offload, and for datagrams."""
    plural = {count: f"{count} stream{'s' if count > 1 else ''}" for count in counts}
    tcp = {count: Series(f"TCP, {plural[count]}", "Gbit/s") for count in counts}
    last = counts[-1]
    cut = Series(f"TCP, {plural[last]}, segmented by the sender", "Gbit/s")
    arrived = Series("UDP 64 B, received", "1000/s")
    read = Series("UDP 64 B, read by the receiver", "1000/s")
    with closing(Streams(lab)) as streams:

        def turn(way: str, count: int, megabytes: int) -> float:
            # New connections for each turn: a connection that once saw reordering as loss stays slow.
            # The wired floor does not clamp the MSS, so its connections are opened with HawkWing.
            to(HAWKWING if way == WIRED else way)
            with streams.connected(count) as opened:
                if way == WIRED:
                    to(WIRED)
                streams.send(opened, _WARM_UP)
                return undisturbed(partial(streams.send, opened, megabytes))

        def turns(series: Series, count: int, times: int, megabytes: int) -> None:
            for number in range(times):
                for way in _order(ways, number):
                    series.add(way, turn(way, count, megabytes))

        for count in counts:
            turns(tcp[count], count, rounds.tcp, _MEGABYTES)
        with _cut_by_the_sender(lab):
            turns(cut, last, rounds.cut, _MEGABYTES_CUT)
    for number in range(rounds.udp):
        for way in _order(ways, number):
            to(way)
            rates = traffic.udp(megabytes=_UDP_MEGABYTES)
            arrived.add(way, rates.arrived / 1000)
            read.add(way, rates.read / 1000)
    return [*tcp.values(), cut, arrived, read]
