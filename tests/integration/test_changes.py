"""Changes while packets flow: reload, restart, names that move. Not one packet goes plain or missing."""

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Self

import pytest

from lab.network import Lab
from lab.packets import path, segments
from lab.services.dns import zone_text
from lab.wait import wait_until
from lab.wire import Capture, Filter, tcp_port, udp_port

from .conftest import HAWKWING, Agents, Endpoint, filters
from .onwire import R1, R2, R3, R4, R5, R6, B, C, assert_not_steered, assert_steered
from .test_steering import BY_ADDRESS, BY_NAME, http


class Running:
    """Work in threads until it is stopped, or its `with` block ends."""

    def __init__(self, *works: Callable[[], None]) -> None:
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=work) for work in works]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ends it, once what is under way has arrived."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Traffic(Running):
    """Numbered datagrams from host-a to host-b and back, about a thousand a second, until it is stopped."""

    def __init__(self, near: Endpoint, far: Endpoint) -> None:
        self.sent = self.returned = 0
        self._near, self._far = near.socket, far.socket
        self._far.settimeout(0.5)
        super().__init__(self._echo, self._send)

    def _echo(self) -> None:
        while not self._stop.is_set():
            try:
                data, peer = self._far.recvfrom(100)
            except TimeoutError:
                continue
            self._far.sendto(data, peer)

    def _send(self) -> None:
        self._near.settimeout(1.0)
        while not self._stop.is_set():
            self._near.sendto(self.sent.to_bytes(8, "big"), (B, 5000))
            self.sent += 1
            try:
                if self._near.recvfrom(100):
                    self.returned += 1
            except TimeoutError:
                continue
            self._stop.wait(0.001)


def traffic(udp: Callable[..., Endpoint]) -> Traffic:
    """To port 5000 of host-b."""
    return Traffic(udp("host-a"), udp("host-b", 5000))


def ends(lab: Lab) -> Capture:
    links = [lab.topology.link("host-a", "site-a"), lab.topology.link("site-b", "host-b")]
    return Capture(lab.topology, lab.namespace, links)


#: All of them are counted by their bytes, scapy reads some.
DATAGRAMS = udp_port(5000)


def assert_nothing_lost_or_plain(running: Traffic, capture: Capture) -> None:
    captured = capture.count(DATAGRAMS)
    assert running.sent > 50
    assert running.returned == running.sent, "a datagram or its echo was lost"
    assert captured >= 4 * (running.sent - 1)
    plain = capture.frames(replace(DATAGRAMS, steered=False))
    assert not plain, f"{len(plain)} of {captured} packets had no SRH, the first: {plain[0].packet}"


@pytest.fixture
def file(lab: Lab) -> Iterator[Path]:
    """A configuration file that may be rewritten."""
    path = lab.run / "changing.yaml"
    path.write_text(BY_ADDRESS)
    yield path
    path.unlink()


@pytest.mark.parametrize("how", ["signal", "command"])
def test_reload_changes_only_what_changed(
    lab: Lab, agents: Agents, udp: Callable[..., Endpoint], file: Path, how: str
) -> None:
    agents.server("host-b")
    client = agents.run("host-a", "client", "--config", str(file))

    def reload() -> None:
        if how == "signal":
            client.signal(signal.SIGHUP)
        else:
            lab.execute("host-a", [*HAWKWING, "reload"])

    with ends(lab) as capture, traffic(udp) as running:
        wait_until(lambda: running.sent > 20, 5.0, "traffic flows")
        file.write_text(BY_ADDRESS.replace(f"[{R1}, {R3}, {R5}, {R6}]", f"[{R1}, {R2}, {R4}, {R6}]"))
        reload()

        def moved() -> bool:
            return R2 in path(capture.frames(Filter(to=5000))[-1].packet)

        wait_until(moved, 5.0, "the new path is used")
        # A wrong file changes nothing and says what is wrong.
        file.write_text("services: {b: {ipv6_addresses: [1.2.3.4]}}\n")
        if how == "signal":
            client.signal(signal.SIGHUP)
            wait_until(lambda: "1.2.3.4" in client.output(), 5.0, "the fault is told")
            assert "error: configuration not changed" in client.output()
        else:
            result = lab.execute("host-a", [*HAWKWING, "reload"], check=False)
            assert result.returncode == 1 and "1.2.3.4" in result.stderr
        now = running.sent
        wait_until(lambda: running.sent > now + 50, 5.0, "traffic goes on")
        running.stop()
        assert_nothing_lost_or_plain(running, capture)


def test_reload_takes_services_away_and_brings_others(
    lab: Lab, agents: Agents, capture: Capture, file: Path
) -> None:
    agents.server("host-b")
    agents.run("host-a", "client", "--config", str(file))
    file.write_text(BY_NAME)
    lab.execute("host-a", [*HAWKWING, "reload"])
    capture.forget()
    http(lab, "http://wb.hawk.net/")
    assert segments(capture.packets(Filter(to=80))[0]) == [B, R6, R4, R2, R1]
    file.write_text(
        f"services: {{c: {{ipv6_addresses: ['{C}'], applications: [{{port: 1, sid: ['{R3}']}}]}}}}\n"
    )
    lab.execute("host-a", [*HAWKWING, "reload"])
    capture.forget()
    http(lab, "http://wb.hawk.net/")
    assert_not_steered(capture.settled(tcp_port(80)))


def test_restart_under_load_with_keep(
    lab: Lab, agents: Agents, udp: Callable[..., Endpoint], file: Path
) -> None:
    """Both agents are stopped and started anew while packets flow; an agent without --keep tidies up last."""
    server = agents.run("host-b", "server", "--keep")
    client = agents.run("host-a", "client", "--config", str(file), "--keep")
    with ends(lab) as capture, traffic(udp) as running:
        wait_until(lambda: running.sent > 20, 5.0, "traffic flows")
        for process, host in ((server, "host-b"), (client, "host-a")):
            assert process.stop() == 0
            assert "filters kept on eth0" in process.output()
            assert "hawkwing:" in filters(lab, host)
        now = running.sent
        wait_until(lambda: running.sent > now + 50, 5.0, "traffic goes on without agents")
        agents.server("host-b")
        agents.run("host-a", "client", "--config", str(file))
        now = running.sent
        wait_until(lambda: running.sent > now + 50, 5.0, "traffic goes on")
        assert "learned flows: 1 of" in lab.execute("host-b", [*HAWKWING, "status"]).stdout
        running.stop()
        assert_nothing_lost_or_plain(running, capture)


def test_killed_client_is_followed_without_a_plain_packet(
    lab: Lab, agents: Agents, capture: Capture, udp: Callable[..., Endpoint]
) -> None:
    """What it had learned of names is not lost, even while the DNS server is silent."""
    agents.server("host-b")
    first = agents.client(BY_NAME)
    http(lab, "http://wb.hawk.net/")
    first.signal(signal.SIGKILL)
    first.wait()
    dns = lab.topology.host("dns").interface
    lab.execute("dns", ["ip", "link", "set", dns.name, "down"])
    try:
        second = agents.client(BY_NAME)
        capture.forget()
        http(lab, f"http://[{B}]/")
        assert_steered(capture.settled(tcp_port(80)))
        assert second.poll() is None
    finally:
        restore = f"ip link set {dns.name} up; "
        restore += "ip -6 addr replace fcbb:cc00:4::f/48 dev eth0 nodad noprefixroute; "
        restore += "ip -6 addr replace 2001:cafe:f::f/64 dev eth0 nodad; "
        restore += "ip -6 route replace default via 2001:cafe:f::1"
        lab.execute("dns", ["sh", "-c", restore])
        wait_until(
            lambda: (
                lab.execute("host-a", ["ping", "-c1", "-W1", "fcbb:cc00:4::f"], check=False).returncode == 0
            ),
            5.0,
            "the DNS server is back",
        )


def test_explain(lab: Lab, agents: Agents) -> None:
    agents.client(
        BY_ADDRESS
        + "  n:\n    domain_name: nowhere.hawk.net\n    applications: [{port: 1, sid: ["
        + R3
        + "]}]\n"
    )

    def explain(*words: str) -> str:
        return lab.execute("host-a", [*HAWKWING, "explain", *words]).stdout.strip()

    way = f"{R1} > {R3} > {R5} > {R6}"
    assert explain(B, "5000") == (
        f"packets to [{B}]:5000 (service b) use {way}: the configured sid; no controller is asked"
    )
    assert explain(f"[{B}]", "5000") == explain(f"[{B}]:5000") == explain(B, "5000")
    assert (
        explain(B, "1")
        == f"packets to [{B}]:1 are sent without an SRH: no application of the service has port 1"
    )
    assert explain(C, "80") == (
        f"packets to [{C}]:80 are sent without an SRH: destination matches no service"
    )
    assert "has not been resolved yet" in explain("nowhere.hawk.net", "1")
    assert lab.execute("host-a", [*HAWKWING, "explain", B, "http"], check=False).returncode == 1
    assert lab.execute("host-c", [*HAWKWING, "explain", B, "1"], check=False).returncode == 1


def test_names_with_several_addresses_and_aliases(lab: Lab, agents: Agents, capture: Capture) -> None:
    """A CNAME to two addresses: both are steered; one that leaves the zone is withdrawn after its time."""
    zone = lab.run / "zone"
    before = zone_text(lab.topology)
    more = before + f"\nmulti 1 IN CNAME many\nmany 1 IN AAAA {B}\nmany 1 IN AAAA {C}\n"
    server = lab.processes()["dns"]

    def publish(text: str) -> None:
        zone.write_text(text)
        os.kill(server, signal.SIGHUP)

    publish(more)
    try:
        agents.client(
            "services:\n  m:\n    domain_name: multi.hawk.net\n"
            f"    applications: [{{port: 80, sid: ['{R3}']}}]\n"
        )

        def known() -> bool:
            answer = lab.execute("host-a", [*HAWKWING, "explain", "multi.hawk.net", "80"]).stdout
            return answer.count(f" use {R3}: ") == 2

        wait_until(known, 5.0, "both addresses are known")
        for address in (B, C):
            assert f" use {R3}: " in lab.execute("host-a", [*HAWKWING, "explain", address, "80"]).stdout
    finally:
        publish(before)


def test_name_that_does_not_resolve_yet_holds_up_nobody(lab: Lab, agents: Agents, capture: Capture) -> None:
    text = (
        BY_NAME
        + f"  later:\n    domain_name: later.hawk.net\n    applications: [{{port: 80, sid: ['{R3}']}}]\n"
    )
    client = agents.client(text)
    agents.server("host-b")
    http(lab, "http://wb.hawk.net/")
    assert_steered(capture.settled(tcp_port(80)))
    wait_until(lambda: "later.hawk.net does not resolve" in client.output(), 5.0, "it says so")
    assert client.output().count("later.hawk.net does not resolve") == 1
    shown = lab.execute("host-a", [*HAWKWING, "status"]).stdout
    (line,) = [line for line in shown.splitlines() if "later.hawk.net" in line]
    assert line.startswith("  later later.hawk.net: not resolved yet (The DNS query name does not exist")
    assert "wb.hawk.net: not resolved" not in shown
    told = json.loads(lab.execute("host-a", [*HAWKWING, "status", "--json"]).stdout)[0]["unresolved"]
    assert [(one["service"], one["name"]) for one in told] == [("later", "later.hawk.net")]


def test_warnings_of_the_check_are_in_the_agents_log(lab: Lab, agents: Agents, tmp_path: Path) -> None:
    """Said at the start, and again for what was reloaded."""
    warned = (
        f"services: {{w: {{ipv6_addresses: ['{B}'], applications: [{{port: PORT, intents: [INTENT]}}]}}}}"
    )
    warned = warned.replace("INTENT", "{intent: low-latency}")
    file = tmp_path / "warned.yaml"
    file.write_text(warned.replace("PORT", "80"))
    client = agents.run("host-a", "client", "--config", str(file))
    warning = (
        f"hawkwing: warning: {file}:1: services.w.applications[0]: has intents but neither sid nor paths"
    )
    assert client.output().count(warning) == 1
    file.write_text(warned.replace("PORT", "81"))
    lab.execute("host-a", [*HAWKWING, "reload"])
    assert client.output().count(warning) == 2


def test_address_that_changes_moves_the_steering(lab: Lab, agents: Agents, capture: Capture) -> None:
    """The zone gives the name another address: the next request goes there, steered from its first packet."""
    zone = lab.run / "zone"
    before = zone_text(lab.topology)
    server = lab.processes()["dns"]

    def publish(address: str) -> None:
        zone.write_text(before + f"\nmoving 1 IN AAAA {address}\n")
        os.kill(server, signal.SIGHUP)

    publish(B)
    try:
        agents.client(
            "services:\n  m:\n    domain_name: moving.hawk.net\n"
            f"    applications: [{{port: 8080, sid: ['{R3}']}}]\n"
        )
        agents.server("host-c")
        publish(C)

        def moved() -> bool:
            return http(lab, "http://moving.hawk.net:8080/") == "Hello from host-c\n"

        capture.forget()
        wait_until(
            lambda: lab.execute(
                "host-a", ["getent", "ahostsv6", "moving.hawk.net"], check=False
            ).stdout.startswith(C),
            5.0,
            "the zone is read again",
        )
        assert moved()
        packets = capture.settled(Filter(to=8080))
        assert_steered(packets)
        assert segments(packets[0]) == [C, R3]
    finally:
        zone.write_text(before)
        os.kill(server, signal.SIGHUP)
