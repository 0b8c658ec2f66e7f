"""What gets through each way: TCP with and without segmentation offload, and small datagrams."""

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
from lab.network import Lab

_MEGABYTES, _MEGABYTES_CUT, _UDP_MEGABYTES = 64, 8, 2
"""A turn's: some tens of milliseconds of TCP, a quarter of a second of UDP."""
_WARM_UP = 16
"""What a turn's connections send before it counts."""


@dataclass(frozen=True)
class Rounds:
    """How often all ways take a turn."""

    tcp: int
    cut: int
    udp: int


def _order(number: int) -> Sequence[str]:
    """Each way comes first, second and so on in turn."""
    first = number % len(WAYS)
    return WAYS[first:] + WAYS[:first]


@contextmanager
def _cut_by_the_sender(lab: Lab) -> Iterator[None]:
    """No segmentation offload at host-a: every packet is one of the wire."""

    def offload(state: str) -> None:
        lab.execute("host-a", ["ethtool", "-K", "eth0", "tso", state, "gso", state])

    offload("off")
    try:
        yield
    finally:
        offload("on")


def measure(
    lab: Lab, traffic: Traffic, to: Callable[[str], None], counts: Sequence[int], rounds: Rounds
) -> list[Series]:
    """A series for each count of streams, one without offload, and the datagrams'."""
    plural = {count: f"{count} stream{'s' if count > 1 else ''}" for count in counts}
    tcp = {count: Series(f"TCP, {plural[count]}", "Gbit/s") for count in counts}
    last = counts[-1]
    cut = Series(f"TCP, {plural[last]}, cut by the sender", "Gbit/s")
    arrived = Series("UDP 64 B, arrived", "1000/s")
    read = Series("UDP 64 B, read by the receiver", "1000/s")
    with closing(Streams(lab)) as streams:

        def turn(way: str, count: int, megabytes: int) -> float:
            # Connections of its own: what one has once taken for loss slows it for as long as it lives.
            # The wired floor clamps no MSS, so its connections are made on HawkWing's way.
            to(HAWKWING if way == WIRED else way)
            with streams.connected(count) as opened:
                if way == WIRED:
                    to(WIRED)
                streams.send(opened, _WARM_UP)
                return undisturbed(partial(streams.send, opened, megabytes))

        def turns(series: Series, count: int, times: int, megabytes: int) -> None:
            for number in range(times):
                for way in _order(number):
                    series.add(way, turn(way, count, megabytes))

        for count in counts:
            turns(tcp[count], count, rounds.tcp, _MEGABYTES)
        with _cut_by_the_sender(lab):
            turns(cut, last, rounds.cut, _MEGABYTES_CUT)
    for number in range(rounds.udp):
        for way in _order(number):
            to(way)
            rates = traffic.udp(megabytes=_UDP_MEGABYTES)
            arrived.add(way, rates.arrived / 1000)
            read.add(way, rates.read / 1000)
    return [*tcp.values(), cut, arrived, read]
