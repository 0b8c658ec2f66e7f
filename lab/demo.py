"""The demo: the same request over several paths, captured on every link."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from ipaddress import IPv6Address
from pathlib import Path
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from scapy.layers.inet import TCP
from scapy.layers.inet6 import IPv6

from lab.impair import heal, impair
from lab.names import Names
from lab.network import Lab
from lab.packets import Captured, segments, segments_left
from lab.process import Process
from lab.record import RouterName
from lab.wait import PATIENCE, patient, wait_until
from lab.wire import Capture, tcp_port

if TYPE_CHECKING:
    from lab.view.server import Place

NAME = "demo"
_URL = "http://wb.hawk.net/"
_PORT = 80
_FILE = """\
{controller}sr_domain:
  - fcbb::/16
services:
  web:
    domain_name: wb.hawk.net
    applications:
      - port: 80
        {paths}
{intents}"""
_CONTROLLER = "hawkeye: {{enabled: true, address: {address}, port: {port}}}\n"
_LOW_LATENCY = "        intents: [{intent: low-latency}]\n"
_THROUGH_FIREWALL = "        intents: [{intent: sfc, functions: [fw]}]\n"
_CHOSEN = ("vpp1", "vpp3", "vpp5", "vpp6")
_OTHER = ("vpp1", "vpp2", "vpp4", "vpp6")
_PROBES = "probes: {interval: 20}\n"
_FAST_LINK = "vpp2-vpp4"
_SLOW = 80000
_COMPILING = "compiling"
_PATH_WITHIN = 60.0
_TO_LOOK = 8.0


def run(
    keep: bool,
    routers: RouterName | None = None,
    vpp_prefix: str | None = None,
    name: str = NAME,
    place: Place | None = None,
    picture: Path | None = None,
) -> int:
    """Runs the demo in its own lab, which is removed first if it exists; returns the exit status.

    With a `place` the demo is shown on a page there, with pauses, and the page is served until Ctrl-C. With
    `picture` it ends without waiting: a picture is taken after the path has changed.
    """
    console = Console(highlight=False)
    lab = Lab(name, routers=routers, vpp_prefix=vpp_prefix)
    # Before anything is built: fails if the port is in use or the browser is missing.
    page = _Page(lab, console, place, picture) if place is not None else None
    made_of = " made of VPP" if routers == "vpp" else ""
    console.print(f"[bold]Building the network[/]: 5 hosts and 9 SRv6 routers{made_of} in network namespaces")
    finished = False
    try:
        lab.down()
        lab.up()
        with ExitStack() as stack:
            capture = stack.enter_context(Capture(lab.topology, lab.namespace))
            if page is not None:
                stack.enter_context(page)
            _Show(lab, console, capture, page).run()
            finished = True
            if page is not None:
                page.stay()
    finally:
        if not (keep and finished):
            lab.down()
            left = lab.remains()
            if finished or left:
                leftovers = f"left over: {', '.join(left)}" if left else "nothing left over"
                console.print(f"Lab removed, {leftovers}")
    if keep:
        _explain(lab, console)
    return 0


class _Page:
    """The lab's page. The demo waits until a user has opened it; for a picture it opens a browser."""

    def __init__(self, lab: Lab, console: Console, place: Place, picture: Path | None) -> None:
        from lab.view.browser import Browser, require
        from lab.view.server import Server

        if picture is not None:
            require()
        self._lab, self._console, self._file = lab, console, picture
        self._server = Server(lab.name, place)
        self._browser = Browser() if picture is not None else None
        self._open = ExitStack()

    def __enter__(self) -> _Page:
        url = self._server.url
        self._open.enter_context(self._server)
        if self._browser is not None:
            self._opened = self._open.enter_context(self._browser).open(url, calm=True)
            return self
        self._console.print(f"Open [bold]{url}[/]: the demo starts as soon as the page is open in a browser")
        wait_until(lambda: self._server.readers, PATIENCE, "a browser to open the page")
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def show(self, requests: Sequence[Captured], replies: Sequence[Captured]) -> None:
        """Shows a request and its reply."""
        from lab.view.follow import followed

        self._server.view.show(followed(self._lab, f"host-a: GET {_URL}", "", requests, replies))

    def tell(self, title: str) -> None:
        """Shows the title of a scene, and pauses."""
        self._server.view.tell("packet", title)
        if self._browser is None:
            # A pause for the viewer: nothing has to happen meanwhile.
            threading.Event().wait(_TO_LOOK)

    def photograph(self, title: str) -> None:
        """Takes the picture, once the page shows this title."""
        if self._file is not None:
            self._opened.locator("#log li", has_text=title).first.wait_for()
            self._opened.screenshot(path=str(self._file))

    def stay(self) -> None:
        """Serves the page until Ctrl-C; for a picture, returns at once."""
        if self._file is not None:
            self._console.print(str(self._file))
            return
        self._server.view.tell("agent", "The demo has ended: change links, and send requests yourself")
        self._console.print("The page is served until Ctrl-C")
        signal.pause()


class _Show:
    """The scenes of the demo; all shown packets are captured ones."""

    def __init__(self, lab: Lab, console: Console, capture: Capture, page: _Page | None) -> None:
        self._page = page
        self._lab = lab
        self._console = console
        self._capture = capture
        self._names = Names(lab.topology)
        # In the run directory, where it remains with --keep.
        self._config = lab.run / "client.yaml"
        self._server_config = lab.run / "server.yaml"

    def run(self) -> None:
        self._configure(intents="", controller="")
        self._server_config.write_text("sr_domain: [fcbb::/16]\n")
        self._console.print("[bold]Starting[/] hawkwing server on host-b and hawkwing client on host-a")
        client = self._start_agents()

        requests, _replies = self._fetch()
        self._tell(f"1. GET {_URL} over the configured segment list {' > '.join(_CHOSEN)}", requests)

        self._configure(intents=_LOW_LATENCY)
        self._reload()
        client.wait_for("path from the controller", limit=_PATH_WITHIN)
        requests, replies = self._fetch()
        self._tell(
            "2. Configuration reloaded with the intent low-latency: the path computed by the controller",
            requests,
        )
        self._tell("3. The reply: the server learned the segment list and reversed it", replies)

        done = impair(self._lab, _FAST_LINK, latency=_SLOW)
        self._console.print(f"\n[bold]{_FAST_LINK} gets {_SLOW // 1000} ms of latency[/]: " + done[-1])
        before = _links(requests)
        wait_until(lambda: _links(self._fetch(quietly=True)[0]) != before, _PATH_WITHIN, "the path to change")
        requests, _replies = self._fetch()
        pushed = "4. The same request after the controller pushed a better path"
        self._tell(pushed, requests)
        if self._page is not None:
            self._page.photograph(pushed)
        heal(self._lab)

        self._configure(intents=_THROUGH_FIREWALL)
        self._reload()
        wait_until(self._chained, _PATH_WITHIN, "the path through the firewall")
        seen_before = self._seen_by_firewalls()
        requests, _replies = self._fetch()
        self._tell("5. Configuration reloaded with a service chain through the firewall", requests)
        for name, count in self._seen_by_firewalls().items():
            more = count - seen_before[name]
            self._console.print(f"{name} counted {more} packets, with replies")
        self._leave_a_dead_path()

    def _leave_a_dead_path(self) -> None:
        """Two paths with probes, and a router on the preferred one that drops packets silently."""
        router = _OTHER[2]
        if self._lab.topology.router(router).router != "linux":
            return
        self._configure(intents=_PROBES, controller="", several=True)
        self._reload()
        wait_until(
            lambda: self._sids(router) <= self._sids_sent(), _PATH_WITHIN, "the preferred path to be in use"
        )
        drop = ["blackhole", f"{self._lab.topology.router(router).sid}/128", "metric", "1"]
        self._lab.execute(router, ["ip", "-6", "route", "add", *drop])
        try:
            self._console.print(f"\n[bold]{router} drops all packets[/], without an ICMPv6 error")
            wait_until(
                lambda: not self._sids(router) & self._sids_sent(), _PATH_WITHIN, "another path to be used"
            )
            requests, _replies = self._fetch()
            self._tell("6. Two candidate paths with probes: the other one is in use", requests)
            asked = ["hawkwing", "paths", "wb.hawk.net", "80"]
            told = self._lab.execute("host-a", [sys.executable, "-m", *asked])
            self._console.print(f"host-a$ {' '.join(asked)}\n{told.stdout.strip()}", markup=False)
        finally:
            self._lab.execute(router, ["ip", "-6", "route", "del", *drop])

    def _sids(self, *routers: str) -> set[str]:
        return {str(self._lab.topology.router(name).sid) for name in routers}

    def _sids_sent(self) -> set[str]:
        """The SIDs of a request's first packet; the request may have no answer."""
        requests, _replies = _fetch(self._lab, self._capture, None, check=False)
        return set(segments(requests[0])) if requests else set()

    def _configure(self, intents: str, controller: str | None = None, several: bool = False) -> None:
        host = self._lab.hawkeye
        assert host.hawkeye is not None
        if controller is None:
            controller = _CONTROLLER.format(address=host.address, port=host.hawkeye.port)
        chosen, other = (
            ", ".join(str(self._lab.topology.router(name).sid) for name in names)
            for names in (_CHOSEN, _OTHER)
        )
        paths = f"sid: [{chosen}]"
        if several:
            paths = (
                f"paths: [{{name: lower, sid: [{chosen}]}}, {{name: upper, sid: [{other}], preference: 200}}]"
            )
        self._config.write_text(_FILE.format(controller=controller, paths=paths, intents=intents))

    def _start_agents(self) -> Process:
        hawkwing = [sys.executable, "-m", "hawkwing"]
        agents = []
        for host, role, config in (
            ("host-b", "server", self._server_config),
            ("host-a", "client", self._config),
        ):
            agents.append(
                self._lab.start(host, role, [*hawkwing, role, "-i", "eth0", "--config", str(config)])
            )
        for agent in agents:
            agent.wait_for("ready: ", self._hear)
        return agents[-1]

    def _hear(self, line: str) -> None:
        """Prints that the data plane is compiled, which takes long on the first start."""
        if _COMPILING in line:
            self._console.print(line)

    def _reload(self) -> None:
        self._lab.execute("host-a", [sys.executable, "-m", "hawkwing", "reload"])

    def _chained(self) -> bool:
        requests, _replies = self._fetch(quietly=True)
        firewalls = {str(sid) for sid in self._firewalls()}
        return any(firewalls & set(segments(packet)) for packet in requests)

    def _firewalls(self) -> dict[IPv6Address, str]:
        routers = self._lab.topology.routers
        return {router.service_sids["fw"]: router.name for router in routers if "fw" in router.service_sids}

    def _seen_by_firewalls(self) -> dict[str, int]:
        counted = self._lab.sid_packets()
        return {self._names(sid): counted[router][sid] for sid, router in self._firewalls().items()}

    def _tell(self, title: str, packets: Sequence[Captured]) -> None:
        self._console.print(_table(title, packets, self._names))
        if self._page is not None:
            self._page.tell(title)

    def _fetch(self, quietly: bool = False) -> tuple[list[Captured], list[Captured]]:
        requests, replies = _fetch(self._lab, self._capture, None if quietly else self._console)
        if self._page is not None and not quietly:
            self._page.show(requests, replies)
        return requests, replies


def _links(packets: Sequence[Captured]) -> list[str]:
    return [packet.link for packet in packets]


def _fetch(
    lab: Lab, capture: Capture, console: Console | None, check: bool = True
) -> tuple[list[Captured], list[Captured]]:
    """The first packet of a request and of its reply on every link."""
    capture.forget()
    result = lab.execute("host-a", ["curl", "-sS", "-m", f"{patient(5):g}", _URL], check=check)
    if console is not None:
        console.print(f"\nhost-a$ curl {_URL}\n[green]{result.stdout.strip()}[/]")
    packets = capture.packets(tcp_port(_PORT))
    requests = [packet for packet in packets if packet[TCP].dport == _PORT]
    return _once_a_link(requests), _once_a_link(packet for packet in packets if packet[TCP].sport == _PORT)


def _once_a_link(packets: Iterable[Captured]) -> list[Captured]:
    first: dict[str, Captured] = {}
    for packet in packets:
        first.setdefault(packet.link, packet)
    return list(first.values())


def _table(title: str, packets: Sequence[Captured], names: Names) -> Table:
    table = Table(
        title=title, title_style="bold", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    for column in ("captured on", "outer destination", "SL", "segment list on the wire"):
        table.add_column(column, no_wrap=column != "segment list on the wire")
    for packet in packets:
        left, listed = "-", "no SRH"
        if segments(packet):
            left = str(segments_left(packet))
            marked = [
                f"[bold]{names(s)}[/]" if i == segments_left(packet) else names(s)
                for i, s in enumerate(segments(packet))
            ]
            listed = " ".join(marked)
        destination = f"{packet[IPv6].dst} {names(packet[IPv6].dst)}"
        table.add_row(packet.link, destination, left, listed)
    return table


def _explain(lab: Lab, console: Console) -> None:
    console.print(
        f"""
The lab is still up, with agents and controller. Try:
  ./run lab.status --name {lab.name}
  ./run lab.exec host-a "curl -s {_URL}" --name {lab.name}
  ./run lab.exec vpp5 "tcpdump -nvi vpp3 -c 5" --name {lab.name}
  ./run lab.capture --name {lab.name}        (--stop stops it; files in {lab.run}/captures)
  ./run lab.impair vpp1-vpp2 --latency 50000 --name {lab.name}
  less {lab.run}/logs/client.log
  ./run lab.down --name {lab.name}"""
    )
