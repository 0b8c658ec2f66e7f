"""Ten minutes of traffic, reloads, pushed paths, and changing addresses and routes: memory stays flat.

`python -m tests.soak --minutes 10` (or `./run test.soak`) runs both agents and the mock controller in a lab.
Memory of the agents and of their BPF maps, file descriptors, threads and tasks are measured every few
seconds. After a warm-up they may not rise by more than the bounds.
"""

import argparse
import os
import random
import signal
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from fake_hawkeye.control import Control
from hawkwing import control, ending
from hawkwing.dataplane.claim import runtime_folder
from hawkwing.errors import HawkwingError
from lab import netns
from lab.controller import restart
from lab.network import Lab
from lab.process import Process
from tests.labs import running

HAWKWING = [sys.executable, "-m", "hawkwing"]
HOSTS = {"client": "host-a", "server": "host-b"}
SERVICE, PORT = "fcbb:cc00:2::a", 5000
UPPER, LOWER = (1, 2, 4, 6), (1, 3, 5, 6)
_ACTIONS_A_SECOND, _DATAGRAMS_A_SECOND = 4.0, 200.0
_DATAGRAMS_A_FLOW = 20
_MOST_SERVICES = 60
_SAMPLE = 5.0


class Sample(NamedTuple):
    """Of one agent, at one moment; memory in KiB."""

    memory: int
    maps: int
    descriptors: int
    threads: int
    tasks: int


#: By how much the typical value of the last part may exceed that of the first after the warm-up.
BOUNDS = Sample(memory=1024, maps=64, descriptors=1, threads=1, tasks=1)


def measure(pid: int, tasks: int) -> Sample:
    """As the kernel tells it."""
    process = Path("/proc", str(pid))
    status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    descriptors = maps = 0
    for info in (process / "fdinfo").iterdir():
        descriptors += 1
        # A connection may be closed meanwhile.
        with suppress(OSError):
            told = dict(line.split(":", 1) for line in info.read_text().splitlines() if ":" in line)
            if "map_type" in told:
                maps += int(told["memlock"])
    return Sample(int(status["VmRSS"].split()[0]), maps // 1024, descriptors, int(status["Threads"]), tasks)


def rises(samples: Sequence[Sample]) -> Sample:
    """From the first third to the last one, of the medians."""
    third = max(1, len(samples) // 3)
    first, last = zip(*samples[:third], strict=True), zip(*samples[-third:], strict=True)
    pairs = zip(first, last, strict=True)
    return Sample(*(int(statistics.median(after) - statistics.median(before)) for before, after in pairs))


def faults(role: str, samples: Sequence[Sample]) -> list[str]:
    """A sentence for each bound that was exceeded."""
    return [
        f"{role}: {name} rose by {rise}, at most {bound} are allowed"
        for name, rise, bound in zip(Sample._fields, rises(samples), BOUNDS, strict=True)
        if rise > bound
    ]


def sids(path: Sequence[int]) -> list[str]:
    """Of the core routers with these numbers."""
    return [f"fcbb:bb00:{number}::2" for number in path]


class Traffic:
    """Datagrams from ever new ports of the client's host, which come back from the server's."""

    def __init__(self, lab: Lab) -> None:
        self.sent = self.back = 0
        self._lab = lab
        self._end = threading.Event()
        self._echo = self._socket("server")
        self._echo.bind((SERVICE, PORT))
        self._threads = [threading.Thread(target=work) for work in (self._send, self._answer)]
        for thread in self._threads:
            thread.start()

    def _socket(self, role: str) -> socket.socket:
        def make() -> socket.socket:
            made = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
            made.settimeout(0.2)
            return made

        return self._lab.inside(HOSTS[role], make)

    def _send(self) -> None:
        while not self._end.is_set():
            with self._socket("client") as sender:
                for _ in range(_DATAGRAMS_A_FLOW):
                    # Routes and addresses come and go.
                    with suppress(OSError):
                        sender.sendto(b"hawkwing soak", (SERVICE, PORT))
                        self.sent += 1
                    self._end.wait(1 / _DATAGRAMS_A_SECOND)
                sender.setblocking(False)
                with suppress(OSError):
                    while sender.recv(64):
                        self.back += 1

    def _answer(self) -> None:
        while not self._end.is_set():
            with suppress(OSError):
                content, sender = self._echo.recvfrom(2048)
                self._echo.sendto(content, sender)

    def close(self) -> None:
        """Ends it."""
        self._end.set()
        for thread in self._threads:
            thread.join()
        self._echo.close()


@dataclass
class Agent:
    """A running agent, and what was measured of it."""

    process: Process
    socket: Path
    samples: list[Sample]

    def ask(self, what: str) -> Any:
        """Over its control socket."""
        return control.ask(self.socket, {"ask": what})


class Soak:
    """Both agents, and what is done to them."""

    def __init__(self, lab: Lab, dice: random.Random, folder: Path) -> None:
        self._lab = lab
        self._dice = dice
        self._config = folder / "client.yaml"
        self.done: dict[str, int] = {}
        self.agents: dict[str, Agent] = {}
        self._write_config()
        self._start("server")
        self._start("client", "--config", str(self._config))

    def _start(self, role: str, *options: str) -> None:
        host = HOSTS[role]
        process = self._lab.start(host, role, [*HAWKWING, role, "-i", "eth0", *options])
        process.wait_for("ready: ")
        path = runtime_folder(netns.path(self._lab.namespace(host))) / f"{role}-eth0.sock"
        self.agents[role] = Agent(process, path, [])

    def _ip(self, role: str, *words: str) -> None:
        # It may be there already, or gone.
        self._lab.execute(HOSTS[role], ["ip", "-6", *words], check=False)

    def _write_config(self) -> None:
        """With ever other services; two stay, by name and by address, with intents."""
        entry = "{{port: {port}, sid: [{sids}], intents: [{{intent: {intent}}}]}}"
        lines = ["hawkeye: {enabled: true, address: 'fcbb:cc00:5::f', port: 5001}", "services:"]
        for name, target, port in (
            ("web", "domain_name: wb.hawk.net", 80),
            ("echo", f"ipv6_addresses: ['{SERVICE}']", PORT),
        ):
            path = ", ".join(sids(self._dice.choice((UPPER, LOWER))))
            one = entry.format(port=port, sids=path, intent="low-latency")
            lines.append(f"  {name}: {{{target}, applications: [{one}]}}")
        for number in self._dice.sample(range(1, 1000), self._dice.randrange(_MOST_SERVICES)):
            path = ", ".join(sids(self._dice.sample(range(1, 7), 3)))
            intent = self._dice.choice(("low-jitter", "high-bandwidth"))
            one = entry.format(port=self._dice.randrange(1, 9999), sids=path, intent=intent)
            target = f"ipv6_addresses: ['fcbb:cc00:3::{number:x}']"
            lines.append(f"  more{number}: {{{target}, applications: [{one}]}}")
        self._config.write_text("\n".join(lines) + "\n")

    # --- what is done

    def reload(self) -> None:
        """Another configuration, and once in a while a wrong one."""
        self._write_config()
        if self._dice.random() < 0.2:
            self._config.write_text(self._config.read_text() + "nonsense: [\n")
        with suppress(HawkwingError):
            self.agents["client"].ask("reload")

    def reload_server(self) -> None:
        """With nothing new."""
        self.agents["server"].process.signal(signal.SIGHUP)

    def push(self) -> None:
        """Another path from the controller."""
        with Control(self._lab.control_socket) as hawkeye:
            way = sids(self._dice.choice((UPPER, LOWER)))
            hawkeye.set_path(SERVICE, [{"intent": "low-latency"}], way)

    def end_streams(self) -> None:
        """The agent connects again, and asks everything again."""
        with Control(self._lab.control_socket) as hawkeye:
            hawkeye.end_streams()

    def change_addresses(self) -> None:
        """One comes or goes, on either host."""
        role = self._dice.choice(list(HOSTS))
        change = self._dice.choice((["replace", "nodad"], ["del"]))
        self._ip(role, "addr", change[0], f"{self._address(role)}/128", "dev", "eth0", *change[1:])

    def _address(self, role: str) -> str:
        return f"fcbb:cc00:{1 if role == 'client' else 2}::10{self._dice.randrange(8)}"

    def change_routes(self) -> None:
        """A route to the service with one of these as its source comes or goes."""
        way = [f"{SERVICE}/128", "via", "2001:cafe:a::1", "metric", "7"]
        if self._dice.random() < 0.5:
            self._ip("client", "route", "del", *way)
        else:
            self._ip("client", "route", "replace", *way, "src", self._address("client"))

    def resolve(self) -> None:
        """A name, which the data plane reads the answer of."""
        self._lab.execute(HOSTS["client"], ["getent", "ahostsv6", "wb.hawk.net"], check=False)

    def look(self) -> None:
        """As an operator does."""
        for agent in self.agents.values():
            agent.ask("status")

    def act(self) -> None:
        """One of these."""
        actions: list[Callable[[], None]] = [self.reload, self.reload_server, self.push, self.end_streams,
            self.change_addresses, self.change_routes, self.resolve, self.look]  # fmt: skip
        (action,) = self._dice.choices(actions, weights=[4, 1, 4, 1, 4, 2, 2, 2])
        action()
        self.done[action.__name__] = self.done.get(action.__name__, 0) + 1

    def sample(self) -> None:
        """Measures both."""
        for agent in self.agents.values():
            tasks = agent.ask("status")["tasks"]
            agent.samples.append(measure(agent.process.pid, tasks))

    def stop(self) -> list[str]:
        """Ends both; what went wrong."""
        wrong = []
        for role, agent in self.agents.items():
            if agent.process.stop() != 0 or "Traceback" in agent.process.output():
                wrong.append(f"{role}: ended with an error: {agent.process.output()[-500:]}")
        return wrong


def run(minutes: float, seed: int, folder: Path) -> list[str]:
    """What went wrong; prints what was done, and what was measured."""
    with running(Lab(f"soak-{os.getpid()}")) as lab:
        restart(lab, None, computing=False)
        soak = Soak(lab, random.Random(seed), folder)
        traffic = Traffic(lab)
        begun = time.monotonic()
        seconds = minutes * 60
        warm, due = begun + min(120.0, seconds / 4), begun
        try:
            while (now := time.monotonic()) < begun + seconds:
                soak.act()
                if now >= max(warm, due):
                    due = now + _SAMPLE
                    soak.sample()
                time.sleep(1 / _ACTIONS_A_SECOND)
        finally:
            traffic.close()
        wrong = soak.stop()
    print(f"{traffic.sent} datagrams, {traffic.back} came back; ", end="")
    print(", ".join(f"{name} {number}" for name, number in sorted(soak.done.items())))
    if traffic.back < traffic.sent / 2:
        wrong.append("most of the datagrams did not come back")
    for role, agent in soak.agents.items():
        for name, values, rise in zip(
            Sample._fields, zip(*agent.samples, strict=True), rises(agent.samples), strict=True
        ):
            shown = " ".join(f"{value:,}" for value in values[:: max(1, len(values) // 8)])
            print(f"{role} {name}: {shown}; rise {rise:,}")
        wrong += faults(role, agent.samples)
    return wrong


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 1 if something went wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10, help="how long (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="the same seed, the same order")
    arguments = parser.parse_args(argv)
    ending.tidily("hawkwing soak", once=True)
    with tempfile.TemporaryDirectory() as folder:
        wrong = run(arguments.minutes, arguments.seed, Path(folder))
    for one in wrong:
        print(one, file=sys.stderr)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
