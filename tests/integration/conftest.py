"""A real network, real agents in its hosts, and captures on its links."""

import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from ipaddress import IPv6Address
from pathlib import Path

import pytest

from lab.doctor import missing_features
from lab.linux.kernel import set_sysctl
from lab.network import DEFAULT_TOPOLOGY, Lab
from lab.process import Process
from lab.record import RouterName
from lab.vpp.installation import VppMissingError
from lab.vpp.installation import find as find_vpp
from lab.wait import patient
from lab.wire import Capture
from tests.labs import running

from .pair import Pair

HAWKWING = [sys.executable, "-m", "hawkwing"]
MOST_SHOWN = 500
"""Packets that are shown of a failed test's captures."""


def said(lab: Lab, *command: str, host: str = "host-a") -> str:
    """What `hawkwing` prints on a host."""
    return lab.execute(host, [*HAWKWING, *command]).stdout


@pytest.fixture(scope="session", autouse=True)
def able_machine() -> None:
    """Skips, with the reason, where the kernel or the rights for a lab are missing."""
    missing = missing_features(quick=True)
    if missing:
        pytest.skip("; ".join(missing))


@pytest.fixture(scope="session")
def new_lab(request: pytest.FixtureRequest) -> Callable[..., Lab]:
    """`new_lab("name")` is a lab not yet up, of the routers asked for; skips where there are none."""
    asked: RouterName = request.config.getoption("--routers")
    prefix: str | None = request.config.getoption("--vpp-prefix")

    def make(name: str, routers: RouterName | None = None, topology: Path = DEFAULT_TOPOLOGY) -> Lab:
        if "vpp" in (asked, routers):
            require_vpp(prefix)
        return Lab(f"{name}-{os.getpid()}", topology, routers or asked, prefix)

    return make


def require_vpp(prefix: str | None) -> None:
    """Skips, with the reason, where VPP is missing."""
    try:
        find_vpp(prefix)
    except VppMissingError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def lab(new_lab: Callable[..., Lab]) -> Iterator[Lab]:
    """The development network under a name of its own; after the session nothing of it may be left.

    def test_x(lab): lab.execute("host-a", ["ping", "-c1", "fcbb:cc00:2::a"])
    """
    with running(new_lab("test")) as lab:
        yield lab


class Agents:
    """Starts agents in hosts, stops them in reverse; each must end with status 0 and leave nothing."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self._lab = lab
        self._folder = folder
        self._running: list[tuple[str, Process]] = []

    def client(self, config: str, host: str = "host-a", *options: str) -> Process:
        """`hawkwing client -i eth0` with a configuration text, once it is ready."""
        file = self._folder / f"{host}-{len(self._running)}.yaml"
        file.write_text(config)
        return self.run(host, "client", "--config", str(file), *options)

    def server(self, host: str = "host-b", *options: str) -> Process:
        """`hawkwing server -i eth0`, once it is ready."""
        return self.run(host, "server", *options)

    def run(self, host: str, role: str, *options: str) -> Process:
        """Any agent; both roles at once are started one after the other."""
        name = f"{role}-{host}-{len(self._running)}"
        process = self._lab.start(host, name, [*HAWKWING, role, "-i", "eth0", *options])
        self._running.append((host, process))
        process.wait_for("ready: ")
        return process

    def stop(self) -> None:
        """All of them, whatever one of them does; what is wrong then, the test after this one has not."""
        wrong = [told for _host, process in reversed(self._running) if (told := self._stop(process))]
        for host in sorted({host for host, _process in self._running}):
            left = filters(self._lab, host)
            if left:
                wrong.append(f"{host}: filters are left: {left}")
                self._lab.execute(host, [*HAWKWING, "detach"], check=False)
        self._running.clear()
        assert not wrong, "\n".join(wrong)

    @staticmethod
    def _stop(process: Process) -> str:
        """What was wrong, if anything was."""
        if process.poll() is None:
            try:
                status = process.stop()
            except RuntimeError as error:
                return str(error)
            if status != 0:
                return f"{process.name} ended with status {status}: {process.output()}"
        return process.output() if "Traceback" in process.output() else ""


def filters(lab: Lab, host: str) -> str:
    """What tc shows of filters and clsact on a host's link."""
    script = "set -e; for way in ingress egress; do tc filter show dev eth0 $way; done; "
    script += "tc qdisc show dev eth0 | { grep clsact || true; }"
    return lab.execute(host, ["sh", "-c", script]).stdout.strip()


def sysctl(lab: Lab, host: str, name: str, value: int) -> None:
    """`sysctl(lab, "host-a", "net/ipv6/auto_flowlabels", 0)`; not every machine has the program."""
    lab.inside(host, lambda: set_sysctl(name, value))


@pytest.fixture
def agents(lab: Lab, tmp_path: Path) -> Iterator[Agents]:
    """Agents for one test."""
    started = Agents(lab, tmp_path)
    yield started
    started.stop()


@pytest.fixture
def capture(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Capture]:
    """Captures on all links from before the test's first packet; kept as text where the test fails."""
    with closing(Capture(lab.topology, lab.namespace)) as taps:
        yield taps
        report = getattr(request.node, "report_of_call", None)
        if report is not None and report.failed:
            frames = taps.frames()
            packets = [str(frame.packet) for frame in frames[:MOST_SHOWN]]
            packets += [f"and {len(frames) - MOST_SHOWN} more"] if len(frames) > MOST_SHOWN else []
            report.sections.append(("captured", "\n".join(packets) or "nothing"))
            for log in sorted((lab.run / "logs").glob("*host*")):
                report.sections.append((log.name, log.read_text()[-3000:]))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.when == "call":
        item.report_of_call = report  # type: ignore[attr-defined]


class Endpoint:
    """A UDP or TCP socket inside a host."""

    def __init__(self, lab: Lab, host: str, kind: socket.SocketKind, port: int = 0) -> None:
        address = str(lab.topology.host(host).address)

        def make() -> socket.socket:
            made = socket.socket(socket.AF_INET6, kind)
            if port:
                # Where the kernel chooses the port, it would give one to two sockets.
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.settimeout(patient(5))
            made.bind((address, port))
            return made

        self.socket = lab.inside(host, make)
        self.address = IPv6Address(address)
        self.port: int = self.socket.getsockname()[1]


@pytest.fixture
def udp(lab: Lab) -> Iterator[Callable[..., Endpoint]]:
    """`udp("host-b", 5000)` makes a bound UDP socket inside a host; closed after the test."""
    made: list[Endpoint] = []

    def make(host: str, port: int = 0) -> Endpoint:
        made.append(Endpoint(lab, host, socket.SOCK_DGRAM, port))
        return made[-1]

    yield make
    for endpoint in made:
        endpoint.socket.close()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    """A host with eth0, and the other end of its link; nothing is left of an agent that has ended."""
    made = Pair(tmp_path)
    try:
        made.link()
        yield made
    finally:
        made.close()


def have_tool(name: str) -> bool:
    """Is the program installed?"""
    return shutil.which(name) is not None


def on_vpp(lab: Lab) -> bool:
    """Are any of the lab's routers VPP's?"""
    return any(router.router == "vpp" for router in lab.topology.routers)


@contextmanager
def checksums_for_vpp(lab: Lab) -> Iterator[None]:
    """VPP misplaces a checksum that is left to the device behind an outer header or two extension headers.

    Linux routers need nothing.
    """
    with ExitStack() as stack:
        for host in ("host-a", "host-b") if on_vpp(lab) else ():
            lab.execute(host, ["ethtool", "-K", "eth0", "tx", "off"])
            stack.callback(lab.execute, host, ["ethtool", "-K", "eth0", "tx", "on"])
        yield


@pytest.fixture(scope="module")
def way_back_on_vpp(lab: Lab) -> Iterator[None]:
    """What tells a way back is a second extension header."""
    with checksums_for_vpp(lab):
        yield
