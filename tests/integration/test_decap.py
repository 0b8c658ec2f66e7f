"""`decap` on a server, on the wire: encapsulated packets arrive, from inside the SR domain only."""

import json
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrSegmentRouting
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from hawkwing.dataplane.claim import runtime_folder
from hawkwing.srh_hmac import Key
from lab import netns
from lab.hmac import IF_PRESENT, IGNORED, checking, supported
from lab.network import Lab
from lab.process import Process
from lab.wait import patient, wait_until
from lab.wire import Capture, Filter, Tap

from .conftest import HAWKWING, Agents, Endpoint, checksums_for_vpp, filters, on_vpp, said, sysctl
from .onwire import R1, R2, R4, R6, A, B, C
from .pair import Pair
from .signed import KEY, WRONG
from .test_encap import A4, B4, gateway, ipv4_addresses, route
from .test_hmac import hmac

PORT = 5000
SID6, SID4, NEW6 = "fcbb:cc00:2::d6", "fcbb:cc00:2::d4", "fcbb:cc00:2::e6"
BACK4 = "fcbb:cc00:1::d4"
UPPER = [R1, R2, R4]
DOMAIN = "sr_domain: [fcbb::/16]\n"
BOTH = f"{DOMAIN}decap: {{ipv6: '{SID6}', ipv4: '{SID4}'}}\n"
LAST_LINK = "site-b-host-b"


def to(address: str, sid: str, sids: list[str] | None = None) -> str:
    """A client's configuration: packets to PORT are encapsulated."""
    version = 6 if ":" in address else 4
    listed = ", ".join(f"'{one}'" for one in sids or UPPER)
    return (
        f"services:\n  b:\n    ipv{version}_addresses: ['{address}']\n    mode: encap\n"
        f"    decap_sid: '{sid}'\n    applications: [{{port: {PORT}, sid: [{listed}]}}]\n"
    )


class Server:
    """`hawkwing server` on a host, with a file that tests change."""

    def __init__(self, lab: Lab, agents: Agents, file: Path, host: str = "host-b") -> None:
        self._lab, self._agents, self._file, self._host = lab, agents, file, host
        self.process: Process

    def start(self, text: str = BOTH, *options: str) -> "Server":
        self._file.write_text(text)
        self.process = self._agents.server(self._host, "--config", str(self._file), *options)
        return self

    def reload(self, text: str) -> str:
        self._file.write_text(text)
        done = self._lab.execute(self._host, [*HAWKWING, "reload", "server"], check=False)
        return (done.stdout + done.stderr).strip()

    def status(self) -> dict[str, Any]:
        agents = json.loads(said(self._lab, "status", "--json", host=self._host))
        (found,) = (agent["decap"] for agent in agents if agent["role"] == "server")
        assert isinstance(found, dict)
        return found

    def sids(self) -> dict[str, dict[str, Any]]:
        return {one["sid"]: one for one in self.status()["sids"]}

    def kill(self) -> None:
        self.process.signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def server(lab: Lab, agents: Agents, tmp_path: Path) -> Iterator[Server]:
    """A server on host-b; after the test nothing of it may be left."""
    made = Server(lab, agents, tmp_path / "server.yaml")
    with checksums_for_vpp(lab):
        yield made
    agents.stop()
    left = entries(lab)
    lab.execute("host-b", [*HAWKWING, "detach"], check=False)
    assert not left


def entries(lab: Lab, host: str = "host-b") -> list[str]:
    """The agents' rules and routes, as `ip` shows them."""
    script = "ip -6 rule show; ip -6 route show table all"
    lines = lab.execute(host, ["sh", "-c", script]).stdout.splitlines()
    return [line.strip() for line in lines if " proto 169" in line]


def all_entries(lab: Lab) -> list[str]:
    """Rules and routes of everybody."""
    return sorted(
        lab.execute("host-b", ["sh", "-c", "ip -6 rule; ip -6 route show table all"]).stdout.splitlines()
    )


def arrives(one: socket.socket, other: socket.socket, address: tuple[str, int]) -> bool:
    """Does a datagram get to the other end within a second?"""
    other.settimeout(patient(1))
    one.sendto(b"hello", address)
    try:
        return other.recv(100) == b"hello"
    except TimeoutError:
        return False


def test_ipv6(
    lab: Lab, agents: Agents, server: Server, capture: Capture, udp: Callable[..., Endpoint]
) -> None:
    server.start()
    agents.client(to(B, SID6))
    here, there = udp("host-a").socket, udp("host-b", PORT).socket
    capture.forget()
    here.sendto(b"hello", (B, PORT))
    data, address = there.recvfrom(100)
    assert (data, address[0]) == (b"hello", A)
    there.sendto(b"answer", address)
    assert here.recv(100) == b"answer"
    (packet,) = [
        one for one in capture.settled(Filter(link=LAST_LINK)) if UDP in one and one[UDP].dport == PORT
    ]
    outer, srh, inner = packet[IPv6], packet[IPv6ExtHdrSegmentRouting], packet[IPv6:2]
    assert (outer.src, outer.dst, srh.addresses, srh.segleft) == (A, SID6, [SID6, R4, R2], 0)
    assert (inner.src, inner.dst) == (A, B)
    _stream(lab, socket.AF_INET6, B)
    assert server.sids()[SID6]["packets"] > 10


def _stream(lab: Lab, family: int, address: str) -> None:
    """A mebibyte over TCP, with segmentation offload."""
    with ExitStack() as stack:
        listening, connecting = (
            stack.enter_context(lab.inside(host, partial(socket.socket, family, socket.SOCK_STREAM)))
            for host in ("host-b", "host-a")
        )
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((address, PORT))
        listening.listen()
        connecting.settimeout(patient(20))
        connecting.connect((address, PORT))
        accepted = stack.enter_context(listening.accept()[0])
        accepted.settimeout(patient(20))
        sent, got = bytes(range(256)) * 256, b""
        for _ in range(16):
            connecting.sendall(sent)
            got = b""
            while len(got) < len(sent):
                got += accepted.recv(len(sent) - len(got))
            assert got == sent


@contextmanager
def ipv4(lab: Lab) -> Iterator[None]:
    """IPv4 addresses at both hosts, and routes that only let packets out: the routers know no IPv4."""
    with ipv4_addresses(lab), ExitStack() as stack:
        for host, own, other in (("host-a", A4, B4), ("host-b", B4, A4)):
            via = ("via", "inet6", gateway(lab, host))
            stack.enter_context(route(lab, host, "-4", f"{other}/32", *via, "dev", "eth0", "src", own))
        yield


def test_ipv4_with_hawkwing_at_both_ends(
    lab: Lab, agents: Agents, server: Server, capture: Capture, tmp_path: Path
) -> None:
    """Encapsulated there and back: both hosts have a client and a server, and no SRv6 route of the lab."""
    with ipv4(lab):
        server.start()
        Server(lab, agents, tmp_path / "a.yaml", "host-a").start(f"{DOMAIN}decap: {{ipv4: '{BACK4}'}}\n")
        agents.client(to(B4, SID4))
        back = to(A4, BACK4, [R6, R4]).replace(f"port: {PORT}", f"port: {PORT + 1}")
        agents.client(back, "host-b")
        with ExitStack() as stack:
            here, there = (
                stack.enter_context(
                    lab.inside(host, partial(socket.socket, socket.AF_INET, socket.SOCK_DGRAM))
                )
                for host in ("host-a", "host-b")
            )
            for one, address in ((here, (A4, PORT + 1)), (there, (B4, PORT))):
                one.settimeout(patient(5))
                one.bind(address)
            capture.forget()
            here.sendto(b"hello", (B4, PORT))
            data, address = there.recvfrom(100)
            there.sendto(b"answer", address)
            assert (data, here.recv(100)) == (b"hello", b"answer")
        seen = [one for one in capture.settled(Filter(link=LAST_LINK)) if UDP in one and IP in one]
        assert [(one[IPv6].dst, one[IP].dst) for one in seen] == [(SID4, B4), (R6, A4)]
        assert server.sids()[SID4]["packets"] == 1


def test_without_decap(lab: Lab, agents: Agents, server: Server, udp: Callable[..., Endpoint]) -> None:
    """The control."""
    server.start(DOMAIN)
    agents.client(to(B, SID6))
    assert entries(lab) == []
    assert not arrives(udp("host-a").socket, udp("host-b", PORT).socket, (B, PORT))
    (status,) = json.loads(said(lab, "status", "--json", host="host-b"))
    assert "decap" not in status


def test_sources_outside_the_sr_domain(
    lab: Lab, agents: Agents, server: Server, udp: Callable[..., Endpoint]
) -> None:
    """Nothing but the prefixes changes, by reload."""
    inside, outside = "fcbb:cc00:1::/48, fcbb:cc00:2::/48", "fcbb:cc00:2::/48"
    server.start(BOTH.replace("fcbb::/16", outside))
    agents.client(to(B, SID6))
    here, there = udp("host-a").socket, udp("host-b", PORT).socket
    assert not arrives(here, there, (B, PORT))
    assert server.sids()[SID6]["packets"] == 0
    assert server.reload(BOTH.replace("fcbb::/16", inside)) == "configuration reloaded"
    assert arrives(here, there, (B, PORT))
    assert server.reload(BOTH.replace("fcbb::/16", outside)) == "configuration reloaded"
    assert not arrives(here, there, (B, PORT))
    assert sum(one.startswith("490:") for one in entries(lab)) == 2, "one rule per SID"


def test_signed_srhs(
    lab: Lab, agents: Agents, server: Server, udp: Callable[..., Endpoint], tmp_path: Path
) -> None:
    """The kernel checks their HMAC: without the key it drops the packets, and counts them."""
    if on_vpp(lab) or not supported():
        pytest.skip("the kernel has no HMACs, or the routers are VPP's")
    with checking(lab, ["vpp1", "vpp2", "vpp4"], policy=IGNORED):
        server.start()
        agents.client(to(B, SID6) + hmac(tmp_path / "keys", KEY))
        here, there = udp("host-a").socket, udp("host-b", PORT).socket
        assert not arrives(here, there, (B, PORT))
        assert (server.sids()[SID6]["packets"], server.sids()[SID6]["errors"]) == (0, 1)
        with checking(lab, ["host-b"], KEY, policy=IF_PRESENT):
            assert arrives(here, there, (B, PORT))
        assert (server.sids()[SID6]["packets"], server.sids()[SID6]["errors"]) == (1, 1)


@pytest.mark.parametrize("other", [WRONG, None], ids=["wrong secret", "unsigned"])
def test_the_server_verifies(
    lab: Lab,
    agents: Agents,
    server: Server,
    udp: Callable[..., Endpoint],
    tmp_path: Path,
    other: Key | None,
) -> None:
    """The kernel, which has no key, ignores HMACs."""
    if on_vpp(lab) or not supported():
        pytest.skip("the kernel has no HMACs, or the routers are VPP's")
    with checking(lab, ["vpp1", "vpp2", "vpp4", "host-b"], policy=IGNORED):
        server.start(BOTH + hmac(tmp_path / "of-server", KEY))
        client = agents.client(to(B, SID6) + hmac(tmp_path / "keys", KEY))
        here, there = udp("host-a").socket, udp("host-b", PORT).socket
        assert arrives(here, there, (B, PORT))
        assert "seg6_require_hmac to -1" not in server.process.output()
        client.stop()
        agents.client(to(B, SID6) + (hmac(tmp_path / "others", other) if other is not None else ""))
        assert not arrives(here, there, (B, PORT))
        told_by = json.loads(said(lab, "status", "--json", host="host-b"))[0]["counters"]["ingress"]
        assert told_by["DECAP_UNSIGNED"]["packets"] == 1
        assert (server.sids()[SID6]["packets"], server.sids()[SID6]["errors"]) == (1, 0)


def test_a_kernel_that_checks_hmacs_is_told_of(
    lab: Lab, agents: Agents, server: Server, tmp_path: Path
) -> None:
    server.start(BOTH + hmac(tmp_path / "of-server", KEY))
    server.process.wait_for(
        "eth0: the kernel drops signed packets to the SIDs of decap unless it has the key"
    )


def send(lab: Lab, sid: str, inner: Packet) -> None:
    """A packet from host-a in an outer header, as any host of the domain can send it."""
    neighbour = ["ip", "-6", "neigh", "show", gateway(lab, "host-a"), "dev", "eth0"]
    words = lab.execute("host-a", neighbour).stdout.split()
    router = words[words.index("lladdr") + 1]
    with lab.inside("host-a", partial(socket.socket, socket.AF_PACKET, socket.SOCK_RAW)) as raw:
        raw.bind(("eth0", 0))
        raw.send(bytes(Ether(dst=router) / IPv6(src=A, dst=sid) / inner))


def test_only_this_host_gets_inner_packets(lab: Lab, server: Server, udp: Callable[..., Endpoint]) -> None:
    """Also on a host that forwards: nothing for other hosts, for ::1, or in a second outer header."""
    server.start()
    lab.execute("host-a", ["ping", "-c1", B])
    there = udp("host-b", PORT).socket
    with ipv4(lab), ExitStack() as stack:
        for name in ("net/ipv6/conf/all/forwarding", "net/ipv4/conf/all/forwarding"):
            sysctl(lab, "host-b", name, 1)
            stack.callback(sysctl, lab, "host-b", name, 0)
        loopback = stack.enter_context(
            lab.inside("host-b", partial(socket.socket, socket.AF_INET6, socket.SOCK_DGRAM))
        )
        loopback.bind(("::1", PORT))
        loopback.settimeout(patient(1))
        data = UDP(sport=9, dport=PORT) / b"hello"
        tap = Tap("eth0", lab.namespace("host-b"), LAST_LINK, ("host-b", "site-b"))
        stack.callback(tap.close)
        own = stack.enter_context(
            lab.inside("host-b", partial(socket.socket, socket.AF_INET, socket.SOCK_DGRAM))
        )
        own.bind(("127.0.0.1", PORT))
        own.settimeout(patient(1))
        for sid, inner in (
            (SID4, IP(src=A4, dst="127.0.0.1") / data),
            (SID6, IPv6(src=A, dst=C) / data),
            (SID4, IP(src=A4, dst=A4) / data),
            (SID6, IPv6(src=A, dst="::1") / data),
            (SID6, IPv6(src="2001:db8::1", dst=SID6) / IPv6(src=A, dst=B) / data),
        ):
            send(lab, sid, inner)
        there.settimeout(patient(1))
        for one in (there, loopback, own):
            with pytest.raises(TimeoutError):
                one.recv(100)
        there.settimeout(patient(5))
        send(lab, SID6, IPv6(src=A, dst=B) / data)
        assert there.recv(100) == b"hello", "the control"
        left = [Ether(one.data) for one in tap.frames(every=True) if one.sender == "host-b"]
        assert not [one for one in left if isinstance(one.payload.payload, UDP)], "forwarded"


def test_reload_changes_what_differs(
    lab: Lab, agents: Agents, server: Server, udp: Callable[..., Endpoint]
) -> None:
    """The counters of the kernel show which routes have stayed."""
    with ipv4(lab):
        server.start(f"{DOMAIN}decap: {{ipv6: '{SID6}'}}\n")
        agents.client(to(B, SID6))
        here, there = udp("host-a").socket, udp("host-b", PORT).socket
        assert arrives(here, there, (B, PORT))
        server.reload(BOTH)
        assert {sid: one["installed"] for sid, one in server.sids().items()} == {SID6: True, SID4: True}
        assert server.sids()[SID6]["packets"] == 1
        with_both = sorted(entries(lab))
        server.reload(BOTH.replace(SID4, "fcbb:cc00:2::e4"))
        assert sorted(one.replace("::e4", "::d4") for one in entries(lab)) == with_both
        assert server.sids()[SID6]["packets"] == 1
        assert server.reload(BOTH.replace(SID6, B)).endswith(
            f"server.yaml:2: decap.ipv6: {B} is an address of this host, use a SID that no interface has"
        )
        server.reload(BOTH.replace(SID6, NEW6))
        assert set(server.sids()) == {NEW6, SID4}
        assert not arrives(here, there, (B, PORT))
        server.reload(DOMAIN)
        assert entries(lab) == []
        server.reload(BOTH)
        assert arrives(here, there, (B, PORT))
        assert server.process.output().count(f"decapsulates IPv6 packets to {SID6} (End.DT6)") == 2


def test_a_stop_leaves_nothing(lab: Lab, server: Server) -> None:
    before = all_entries(lab)
    server.start()
    assert entries(lab) != []
    assert server.process.stop() == 0
    assert all_entries(lab) == before


@pytest.mark.parametrize("killed", [False, True], ids=["kept", "killed"])
def test_the_next_server_takes_over(
    lab: Lab, agents: Agents, server: Server, udp: Callable[..., Endpoint], killed: bool
) -> None:
    """Flows go on in between and afterwards, over the same routes."""
    server.start(BOTH, "--keep")
    agents.client(to(B, SID6))
    here, there = udp("host-a").socket, udp("host-b", PORT).socket
    with_server = entries(lab)
    if killed:
        server.kill()
    else:
        assert server.process.stop() == 0
    assert entries(lab) == with_server
    assert arrives(here, there, (B, PORT))
    server.start()
    assert entries(lab) == with_server
    assert server.sids()[SID6]["packets"] == 1, "the route was not replaced"
    server.kill()
    server.start(DOMAIN)
    assert entries(lab) == [], "the next one has no decap"


def test_detach(lab: Lab, server: Server) -> None:
    before = all_entries(lab)
    server.start()
    server.kill()
    assert entries(lab) != []
    told = lab.execute("host-b", [*HAWKWING, "detach", "client"]).stdout
    assert told == "no filters of stopped agents\n" and entries(lab) != []
    told = lab.execute("host-b", [*HAWKWING, "detach", "server", "-i", "eth0"]).stdout
    assert told == "removed the filters of the server on eth0\nremoved the SIDs of the server on eth0\n"
    assert (all_entries(lab), filters(lab, "host-b")) == (before, "")
    assert not runtime_folder(netns.path(lab.namespace("host-b"))).exists()


def test_detach_without_a_record(lab: Lab, server: Server) -> None:
    """Somebody has cleaned up /run; those of a running server stay."""
    server.start()
    server.kill()
    folder = runtime_folder(netns.path(lab.namespace("host-b")))
    (folder / "server-eth0.decap").unlink()
    (folder / "server-eth0.programs").unlink()
    told = lab.execute("host-b", [*HAWKWING, "detach"]).stdout
    assert "removed the SIDs of a killed server\n" in told
    assert entries(lab) == []
    server.start()
    with_server = entries(lab)
    for path in folder.glob("*decap*"):
        path.unlink()
    lab.execute("host-b", [*HAWKWING, "detach"])
    assert entries(lab) == with_server != []
    assert "decapsulation were missing" not in server.process.output()


DAMAGE = {
    "rule": f"ip -6 rule del to {SID6} from fcbb::/16",
    "all rules": "ip -6 rule flush proto 169",
    "route": f"ip -6 route del {SID6} table 169000",
    "own address": f"ip -6 route del local {B} table 169001",
    "tables": "ip -6 route flush table 169000; ip -6 route flush table 169001",
    "replaced": f"ip -6 route replace blackhole {SID6} table 169000 proto 169",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_it_is_restored(
    lab: Lab, agents: Agents, server: Server, udp: Callable[..., Endpoint], damage: str
) -> None:
    server.start()
    agents.client(to(B, SID6))
    here, there = udp("host-a").socket, udp("host-b", PORT).socket
    with_server = sorted(entries(lab))
    lab.execute("host-b", ["sh", "-c", DAMAGE[damage]])
    wait_until(lambda: sorted(entries(lab)) == with_server, 5, "restored rules and routes")
    assert arrives(here, there, (B, PORT))
    wait_until(lambda: server.status()["restored"] >= 1, 5, "the count")
    assert "decapsulation were missing, and are set again" in server.process.output()


def test_an_interface_that_goes_down(pair: Pair) -> None:
    """Its routes go with it, and come back; so do those of an interface with the same name."""
    pair.config.write_text(f"{DOMAIN}decap: {{ipv6: '{SID6}'}}\n")
    pair.agent("server", "--config", str(pair.config)).ready()

    def problem() -> str:
        (status,) = json.loads(pair.hawkwing("status", "--json"))
        return str(status["decap"]["sids"][0]["problem"])

    assert problem() == ""
    pair.sh("ip link set eth0 down")
    wait_until(lambda: problem() != "", 5, "a problem")
    pair.sh("ip link set eth0 up")
    wait_until(lambda: problem() == "", 5, "its routes")
    pair.sh("ip link del eth0")
    wait_until(lambda: problem() == "no interface that is up has an IPv6 address", 5, "the problem")
    pair.link()
    wait_until(lambda: problem() == "", 5, "its routes again")


TAKEN = "a routing rule of another program takes its packets from fcbb::/16"
OBSTACLES = {
    "dropped": (f"ip -6 rule %s to {SID6} prio 5 blackhole", TAKEN),
    "another table": (f"ip -6 rule %s to {SID6} prio 5 lookup main", TAKEN),
    "address": (f"ip -6 addr %s {SID6}/128 dev lo", "it is an address of this host"),
}


@pytest.mark.parametrize("obstacle", OBSTACLES)
def test_status_tells_what_is_in_the_way(lab: Lab, server: Server, obstacle: str) -> None:
    command, sentence = OBSTACLES[obstacle]
    server.start()
    assert server.sids()[SID6]["installed"]
    lab.execute("host-b", ["sh", "-c", command % "add"])
    try:
        assert server.sids()[SID6]["problem"] == sentence
        line = f"  not decapsulated: IPv6 packets to {SID6} (End.DT6): {sentence}\n"
        assert line in said(lab, "status", host="host-b")
        wait_until(lambda: sentence in server.process.output(), 5, "a line in the log")
    finally:
        lab.execute("host-b", ["sh", "-c", command % "del"])
    wait_until(lambda: server.sids()[SID6]["installed"], 5, "no obstacle")
    sentence = f"decapsulates IPv6 packets to {SID6} "
    wait_until(lambda: server.process.output().count(sentence) == 2, 5, "a line in the log")


def test_every_source_and_an_interface_that_is_down(lab: Lab, server: Server) -> None:
    """`::/0` is for labs; addresses without a route do not count."""
    link = "ip link add down0 type veth peer name down1; ip -6 addr add fcbb:cc00:2::9/128 dev down0 nodad"
    lab.execute("host-b", ["sh", "-c", link])
    try:
        server.start(BOTH.replace("fcbb::/16", "'::/0'"))
        assert server.sids()[SID6]["problem"] == ""
        lab.execute("host-b", ["ip", "link", "set", "down0", "up"])
        wait_until(lambda: any("local fcbb:cc00:2::9" in one for one in entries(lab)), 5, "its route")
        assert server.sids()[SID6]["problem"] == ""
    finally:
        lab.execute("host-b", ["ip", "link", "del", "down0"])


def test_ipv4_without_an_ipv4_address(lab: Lab, server: Server) -> None:
    server.start()
    told_so = server.sids()[SID4]
    assert (told_so["installed"], told_so["problem"]) == (False, "this host has no IPv4 address")
    with ipv4(lab):
        wait_until(lambda: server.sids()[SID4]["installed"], 5, "its route")
    wait_until(lambda: not server.sids()[SID4]["installed"], 5, "the problem again")


def test_tables_of_others_are_left_alone(lab: Lab, server: Server) -> None:
    with route(lab, "host-b", "-6", "blackhole", "2001:db8::/32", "table", "169000"):
        server.start()
        assert server.status()["table"] == 169002
        server.kill()
        server.start()
        assert server.status()["table"] == 169002
        assert server.process.stop() == 0
        shown = lab.execute("host-b", ["ip", "-6", "route", "show", "table", "169000"]).stdout
        assert shown.startswith("blackhole 2001:db8::/32")
