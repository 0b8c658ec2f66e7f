"""Agents that are killed and ended twice, interfaces that vanish: at random moments, under traffic.

`python -m tests.chaos` (or `./run test.chaos`): no packet is lost while there is an interface, none is
without an SRH a second after something was taken away, and nothing is left at the end.
"""

import argparse
import random
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hawkwing import ending
from lab.wait import patient, wait_until
from tests.integration.pair import OWN, PORT, SERVICE, Agent, Pair

_MAGIC = b"hawkwing chaos "
_PAUSE = 0.004
_NEXT_HEADER, _ROUTING = 14 + 6, 43
_GRACE = 1.0


class Traffic:
    """Numbered datagrams from the agent's host, and which came out of the link, with an SRH or without."""

    def __init__(self, pair: Pair) -> None:
        self.sent: dict[int, float] = {}
        self.arrived: dict[int, bool] = {}
        self._end = threading.Event()
        self._sender = pair.within(lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
        self._sender.setsockopt(socket.IPPROTO_IPV6, 78, 1)  # IPV6_FREEBIND: the address comes and goes
        self._sender.bind((OWN, 0))
        # Of all interfaces of the namespace: the link is deleted and made anew.
        self._taps = pair.within(
            lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)), pair.far
        )
        self._taps.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self._taps.settimeout(0.2)
        self._threads = [threading.Thread(target=work) for work in (self._send, self._receive)]
        for thread in self._threads:
            thread.start()

    def _send(self) -> None:
        number = 0
        while not self._end.is_set():
            now = time.monotonic()
            try:
                self._sender.sendto(_MAGIC + number.to_bytes(8, "big"), (SERVICE, PORT))
            except OSError:
                # There is no interface, or no route over it yet.
                self._end.wait(_PAUSE)
                continue
            self.sent[number] = now
            number += 1
            self._end.wait(_PAUSE)

    def _receive(self) -> None:
        while not self._end.is_set():
            try:
                frame = self._taps.recv(2048)
            except (TimeoutError, OSError):
                continue
            at = frame.find(_MAGIC)
            if at >= 0:
                number = int.from_bytes(frame[at + len(_MAGIC) : at + len(_MAGIC) + 8], "big")
                self.arrived[number] = frame[_NEXT_HEADER] == _ROUTING

    def close(self) -> None:
        """Once what is under way has arrived."""
        self._end.wait(0.3)
        self._end.set()
        for thread in self._threads:
            thread.join()
        self._sender.close()
        self._taps.close()


class Chaos:
    """One agent after the other on one interface, and what is done to both."""

    def __init__(self, pair: Pair, dice: random.Random) -> None:
        self._pair = pair
        self._dice = dice
        self.agent = self._start()
        #: Times between which packets may be without an SRH, and those between which they may be lost.
        self.plain: list[tuple[float, float]] = []
        self.lost: list[tuple[float, float]] = []
        self.faults: list[str] = []

    def _start(self) -> Agent:
        return self._pair.agent().ready()

    def actions(self) -> list[Callable[[], None]]:
        """Everything that may happen."""
        return [self.kill, self.signal_twice, self.kill_early, self.delete_clsact, self.delete_filter,
                self.delete_link, self.move_away_and_back, self.rename]  # fmt: skip

    def kill(self) -> None:
        """Its filters go on steering, and the next agent takes them over: not one packet is plain."""
        self.agent.signal(signal.SIGKILL)
        self.agent.wait()
        self.agent = self._start()

    def kill_early(self) -> None:
        """One that starts beside nobody: killed half-way."""
        self.agent.signal(signal.SIGKILL)
        self.agent.wait()
        early = self._pair.agent()
        time.sleep(self._dice.uniform(0, 0.4))
        early.signal(signal.SIGKILL)
        early.wait()
        self.agent = self._start()

    def signal_twice(self) -> None:
        """The second one comes while it stops; then there is nothing left of it, not even the clsact."""
        begun = time.monotonic()
        self.agent.signal(self._dice.choice([signal.SIGINT, signal.SIGTERM]))
        time.sleep(self._dice.uniform(0, 0.4))
        if self.agent.process.poll() is None:
            self.agent.signal(self._dice.choice([signal.SIGINT, signal.SIGTERM, signal.SIGHUP]))
        if self.agent.wait() != 0 or "Traceback" in self.agent.output():
            self.faults.append(f"ended with an error: {self.agent.output()[-500:]}")
        if self._pair.filters():
            self.faults.append(f"left over: {self._pair.filters()}")
        self.agent = self._start()
        self.plain.append((begun, time.monotonic()))
        self.lost.append((begun, time.monotonic()))

    def _spoil(self, script: str) -> float:
        begun = time.monotonic()
        self._pair.sh(script)
        self.plain.append((begun, time.monotonic() + patient(_GRACE)))
        return begun

    def _until_attached(self, begun: float) -> None:
        """Packets may be lost until then: the agent makes a clsact."""
        for spans in (self.plain, self.lost):
            spans.append((begun, time.monotonic() + patient(_GRACE)))

    def delete_clsact(self) -> None:
        """With all filters on it. The kernel drops packets while a clsact comes or goes."""
        self._until_attached(self._spoil("tc qdisc del dev eth0 clsact"))

    def delete_filter(self) -> None:
        """In one direction."""
        self._spoil(f"tc filter del dev eth0 {self._dice.choice(['egress', 'ingress'])}")

    def delete_link(self) -> None:
        """And make it anew."""
        begun = self._spoil("ip link del eth0")
        self._pair.link()
        self._until_attached(begun)

    def move_away_and_back(self) -> None:
        """Through another namespace."""
        begun = self._spoil(f"ip link set eth0 netns {self._pair.aside}")
        self._pair.sh(f"ip link set eth0 netns {self._pair.near}", self._pair.aside)
        self._pair.up()
        self._until_attached(begun)

    def rename(self) -> None:
        """There and back."""
        begun = time.monotonic()
        down = self._pair.rename("eth0", "lan0")
        time.sleep(self._dice.uniform(0, 0.2))
        if self._pair.rename("lan0", "eth0") or down:
            self.lost.append((begun, time.monotonic()))

    def settle(self) -> None:
        """Until both filters are there, for a second at most."""
        try:
            wait_until(lambda: self._pair.filters().count("hawkwing:client") == 2, _GRACE, "the filters")
        except TimeoutError:
            self.faults.append(f"not attached again: {self._pair.filters()}\n{self.agent.output()[-500:]}")
            raise


def _outside(moments: list[float], spans: list[tuple[float, float]]) -> int:
    return sum(not any(begin - 0.05 <= moment <= end for begin, end in spans) for moment in moments)


def run(count: int, seed: int, folder: Path) -> list[str]:
    """What went wrong; prints what was done."""
    dice = random.Random(seed)
    pair = Pair(folder)
    try:
        pair.link()
        chaos = Chaos(pair, dice)
        traffic = Traffic(pair)
        done: dict[str, int] = {}
        try:
            for _ in range(count):
                time.sleep(dice.uniform(0, 0.3))
                action = dice.choice(chaos.actions())
                action()
                chaos.settle()
                done[action.__name__] = done.get(action.__name__, 0) + 1
        except TimeoutError:
            pass
        finally:
            traffic.close()
        if chaos.agent.stop() != 0 or "Traceback" in chaos.agent.output():
            chaos.faults.append(f"ended with an error: {chaos.agent.output()[-500:]}")
        if pair.filters() or pair.run_folder().exists():
            chaos.faults.append(f"left over at the end: {pair.filters()} {list(pair.run_folder().glob('*'))}")
        lost = [at for number, at in traffic.sent.items() if number not in traffic.arrived]
        plain = [traffic.sent[number] for number, steered in traffic.arrived.items() if not steered]
        for what, moments, spans in (("lost", lost, chaos.lost), ("without an SRH", plain, chaos.plain)):
            wrong = _outside(moments, spans)
            print(f"{len(moments)} of {len(traffic.sent)} datagrams {what}, {wrong} of them without a reason")
            if wrong:
                chaos.faults.append(f"{wrong} datagrams {what}")
        print(", ".join(f"{name} {number}" for name, number in sorted(done.items())))
        return chaos.faults
    finally:
        pair.close()


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 1 if something went wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--count", type=int, default=100, help="how much happens (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="the same seed, the same order")
    arguments = parser.parse_args(argv)
    ending.tidily("hawkwing chaos", once=True)
    with tempfile.TemporaryDirectory() as folder:
        faults = run(arguments.count, arguments.seed, Path(folder))
    for fault in faults:
        print(fault, file=sys.stderr)
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
