"""Two hosts, and between them a router; they are connected by one link of each kind.

Each kind has a `Line`: a link at either host, addresses and SIDs of its own. The router's ends are read with
scapy, upon the link and below it.
"""

import base64
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

from pyroute2 import WireGuard
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet

from hawkwing.dataplane import tc
from hawkwing.dataplane.claim import runtime_folder
from hawkwing.dataplane.netlink import Netlink
from lab import netns
from lab.linux.kernel import set_offload
from lab.linux.large import forwards_large
from lab.packets import Captured, layers
from lab.process import Process
from lab.wait import patient
from lab.wire import Frame, Tap, is_noise

from ..conftest import HAWKWING
from .kinds import KEYS, Kind

T = TypeVar("T")
#: Steered by an SRH, not steered, and encapsulated.
PORT, OTHER_PORT, ENCAP_PORT = 5000, 5001, 5002
SRH = 8 + 3 * 16
NEAR, FAR, ROUTER = "near", "far", "router"
HOSTS = (NEAR, FAR)
_WIREGUARD_PORT = 51820
_CHUNK = 1 << 16


class UnknownKindError(Exception):
    """The kernel has no links of this kind."""


class Line:
    """The links of one kind, and what is sent over them."""

    def __init__(self, kind: Kind, number: int) -> None:
        self.kind, self.number = kind, number
        #: The service addresses of the hosts, the routers' on the same links, and the SIDs.
        self.near, self.far = f"fcbb:cc00:1:{number:x}::a", f"fcbb:cc00:2:{number:x}::b"
        self.first, self.second = f"fcbb:bb00:1:{number:x}::2", f"fcbb:bb00:2:{number:x}::2"
        #: The same in IPv4, and the SIDs at `far` that remove outer headers, by the inner IP version.
        self.near4, self.far4 = f"198.51.100.{number}", f"203.0.113.{number}"
        self.decap = {6: f"fcbb:cc00:2:{number:x}::d6", 4: f"fcbb:cc00:2:{number:x}::d4"}

    def address(self, host: str, version: int = 6) -> str:
        """Of a host, in IPv6 or IPv4."""
        near, far = (self.near4, self.far4) if version == 4 else (self.near, self.far)
        return near if host == NEAR else far

    def gateway(self, host: str) -> str:
        """The router's address on the link to a host."""
        return f"{self.address(host).rpartition('::')[0]}::1"

    def names(self, node: str, host: str) -> dict[str, str]:
        """Of the interfaces in a node that connect it to a host, or the host to it."""
        prefix = host[0] if node == ROUTER else "v"
        lower = f"{prefix}{self.number}"
        has_upper = self.kind.at_router if node == ROUTER else bool(self.kind.host) or self.kind.at_router
        return {"lower": lower, "second": f"{lower}s", "upper": f"{lower}x" if has_upper else lower}

    def of_host(self, template: str) -> list[str]:
        """The names of a host's interfaces."""
        return template.format(**self.names(NEAR, NEAR)).split()

    def bound(self) -> str:
        """What a host's sockets are bound to, if anything."""
        return "".join(self.of_host(self.kind.bound))

    def __str__(self) -> str:
        return self.kind.name


class Network:
    """Namespaces `near`, `router` and `far`; `lines` by kind, `missing` says why one is not there."""

    def __init__(self, kinds: Sequence[Kind], stack: ExitStack, folder: Path) -> None:
        self._folder = folder
        self._agents: list[tuple[str, Process]] = []
        self._below = False
        self.lines: dict[str, Line] = {}
        self.missing: dict[str, str] = {}
        for part in ("logs", "pids"):
            (folder / part).mkdir(exist_ok=True)
        for node in (*HOSTS, ROUTER):
            netns.create(self.name(node))
            stack.callback(self._remove, node)
            self.sh(node, "ip link set lo up", *_sysctls("accept_dad 0", "accept_ra 0", scopes=["default"]))
            self.sh(node, *_sysctls("rp_filter 0", scopes=["all", "default"], family="ipv4"))
        self.sh(ROUTER, *_sysctls("forwarding 1", "seg6_enabled 1", scopes=["all", "default"]))
        self.sh(ROUTER, *_sysctls("forwarding 1", scopes=["all", "default"], family="ipv4"))
        for number, kind in enumerate(kinds, 1):
            line = Line(kind, number)
            try:
                for host in HOSTS:
                    self._connect(line, host)
            except UnknownKindError as error:
                self.missing[kind.name] = str(error)
                continue
            self.lines[kind.name] = line

    # --- the network

    def name(self, node: str) -> str:
        """Of a namespace."""
        return f"hw-links{os.getpid()}-{node}"

    def _run(self, node: str, *commands: str) -> "subprocess.CompletedProcess[str]":
        argv = ["nsenter", f"--net={netns.path(self.name(node))}", "sh", "-ec", "\n".join(commands)]
        return subprocess.run(argv, capture_output=True, text=True)

    def sh(self, node: str, *commands: str) -> str:
        """What commands of a shell print in a node."""
        done = self._run(node, *commands)
        assert done.returncode == 0, (commands, done.stdout, done.stderr)
        return done.stdout

    def inside(self, node: str, work: Callable[[], T]) -> T:
        """The result of a function, run in a node."""
        return netns.run_inside(self.name(node), work)

    def mtu(self, line: Line) -> int:
        """Of the interface that packets of the hosts leave by."""
        (name,) = line.of_host(line.kind.above)
        return int(self.sh(NEAR, f"ip link show dev {name}").split(" mtu ")[1].split()[0])

    def forget_path_mtu(self) -> None:
        """The stacks know nothing of any path."""
        for host in HOSTS:
            self.sh(host, "ip -6 route flush cache")

    def _connect(self, line: Line, host: str) -> None:
        kind = line.kind
        ends = {node: line.names(node, host) for node in (host, ROUTER)}
        there, here = ends[ROUTER], ends[host]
        veths = ("lower", "second") if kind.two else ("lower",)
        peer = f"netns {self.name(host)}"
        self._make(
            ROUTER, kind, *(f"link add {there[one]} type veth peer name {here[one]} {peer}" for one in veths)
        )
        for node, names in ends.items():
            addresses = _addresses(line.number, HOSTS.index(host), node == ROUTER)
            made = kind.both or (kind.host if node == host else ())
            words = {"number": 2 * line.number + HOSTS.index(host), **names, **addresses}
            commands = [f"link set {names[one]} up" for one in veths]
            if kind.both:
                commands += ["addr add {here}/64 dev {lower} nodad", "addr add {here4}/24 dev {lower}"]
            commands += made
            self._make(node, kind, *(command.format(**words) for command in commands))
            if kind.name == "wireguard":
                self._settle_wireguard(node, host, names["upper"], addresses["there"])
            up = [f"link set {name} up" for name in sorted({names["lower"], names["upper"]})]
            routes = self._routes(line, host) if node == host else self._router_routes(line, host)
            self._make(node, kind, *up, *routes)
            if not forwards_large():
                # As the lab does, on kernels that drop large packets with an SRH when they forward them.
                self.inside(node, partial(_cut_large, node, names.values()))

    def _make(self, node: str, kind: Kind, *commands: str) -> None:
        argv = ["nsenter", f"--net={netns.path(self.name(node))}", "ip", "-batch", "-"]
        text = "".join(f"{command}\n" for command in commands)
        done = subprocess.run(argv, capture_output=True, text=True, input=text)
        if "Unknown device type" in done.stderr or "not supported" in done.stderr:
            raise UnknownKindError(f"this kernel has no links of the kind {kind.name}")
        assert done.returncode == 0, (text, done.stderr)

    def _settle_wireguard(self, node: str, host: str, name: str, there: str) -> None:
        me, other = ("router", "host") if node == ROUTER else ("host", "router")
        # The router has one for each host.
        of_router = _WIREGUARD_PORT + HOSTS.index(host)
        port, port_there = (of_router, _WIREGUARD_PORT) if node == ROUTER else (_WIREGUARD_PORT, of_router)
        peer = {
            "public_key": _key(KEYS[other][1]),
            "endpoint_addr": there,
            "endpoint_port": port_there,
            "allowed_ips": ["::/0"],
        }

        def settle() -> None:
            with WireGuard() as wireguard:
                wireguard.set(name, private_key=_key(KEYS[me][0]), listen_port=port, peer=peer)

        self.inside(node, settle)

    @staticmethod
    def _routes(line: Line, host: str) -> Iterator[str]:
        """And the addresses of a host."""
        (device,) = line.of_host(line.kind.above)
        yield f"addr add {line.address(host)}/64 dev {device} nodad"
        other, way = FAR if host == NEAR else NEAR, f"{line.gateway(host)} dev {device} {line.kind.table}"
        for address in (line.address(other), line.first, line.second):
            yield f"route add {address}/128 via {way}"
        yield f"addr add {line.address(host, 4)}/32 dev {device}"
        yield f"route add {line.address(other, 4)} via inet6 {way}"
        if host == FAR:
            inner = {6: f"End.DT6 {line.kind.table or 'table local'}", 4: f"End.DX4 nh4 {line.far4}"}
            for version, action in inner.items():
                sid = f"{line.decap[version]}/128"
                yield f"route add {sid} encap seg6local action {action} dev {device} {line.kind.table}"

    @staticmethod
    def _router_routes(line: Line, host: str) -> Iterator[str]:
        device = line.names(ROUTER, host)["upper"]
        yield f"addr add {line.gateway(host)}/64 dev {device} nodad"
        yield f"route add {line.address(host, 4)} via inet6 {line.address(host)} dev {device}"
        if host == NEAR:
            for sid in (line.first, line.second):
                yield f"route add {sid}/128 encap seg6local action End dev {device}"
            return
        for sid in line.decap.values():
            yield f"route add {sid}/128 via {line.far} dev {device}"

    def reaches_router(self, line: Line, host: str) -> bool:
        """Does it answer?"""
        bound = f"-I {line.bound()}" if line.kind.bound else ""
        return self._run(host, f"ping -c1 -W1 {bound} {line.gateway(host)}").returncode == 0

    def _remove(self, node: str) -> None:
        shutil.rmtree(runtime_folder(netns.path(self.name(node))), ignore_errors=True)
        netns.remove(self.name(node))

    # --- agents

    def start(self, below: bool) -> None:
        """The server's agent on `far` and the client's on `near`, on the interfaces of all kinds.

        Those that are there already stay, if they are in the same places.
        """
        if self._agents and self._below == below:
            return
        self.stop()
        self._below = below
        lines = [line for line in self.lines.values() if not below or line.kind.below]
        file = self._folder / "config.yaml"
        file.write_text(_config(lines))
        places = [
            name for line in lines for name in line.of_host(line.kind.below if below else line.kind.above)
        ]
        options = [word for name in places for word in ("-i", name)]
        for host, role in ((FAR, ["server"]), (NEAR, ["client", "--config", str(file)])):
            argv = ["nsenter", f"--net={netns.path(self.name(host))}", *HAWKWING, *role, *options]
            self._agents.append((host, Process("links", self._folder, f"{host}-{len(self._agents)}", argv)))
        for _host, process in self._agents:
            process.wait_for("ready: ")

    def stop(self) -> None:
        """Ends the agents; nothing of them may be left."""
        for host, process in self._agents:
            if process.poll() is None:
                assert process.stop(20.0) == 0, process.output()
            assert "Traceback" not in process.output(), process.output()
            assert self.filters(host) == []
        self._agents.clear()

    def kill(self) -> None:
        """Ends what still runs."""
        for _host, process in self._agents:
            if process.poll() is None:
                process.stop(20.0)

    def filters(self, host: str) -> list[str]:
        """What is there of filters and clsact on all of a host's interfaces."""

        def look() -> list[str]:
            with Netlink() as ip:
                found = []
                for link in tc.links(ip):
                    filters = [one for way in tc.PARENTS.values() for one in tc.filters(ip, link.index, way)]
                    if filters or tc.qdisc(ip, link.index):
                        found.append(f"{link.name}: {filters}, {tc.qdisc(ip, link.index)}")
                return found

        return self.inside(host, look)

    # --- packets

    @contextmanager
    def taps(
        self, line: Line, upper: bool = True, every: bool = False
    ) -> Iterator[Callable[[], list[Frame]]]:
        """What the router's ends send and get, since the last call: `link` is the host's name.

        Upon the link IPv6 only, or `every` packet; below it all of them.
        """
        which = "upper" if upper else "lower"
        opened = [
            Tap(line.names(ROUTER, host)[which], self.name(ROUTER), host, (ROUTER, host), 4096)
            for host in HOSTS
        ]

        def read() -> list[Frame]:
            whole = every or not upper
            found = [frame for tap in opened for frame in tap.frames(every=whole)]
            return sorted(
                (frame for frame in found if whole or not is_noise(frame)), key=lambda frame: frame.time
            )

        try:
            yield read
        finally:
            for tap in opened:
                tap.close()

    def open(
        self, line: Line, host: str, kind: socket.SocketKind, port: int = 0, version: int = 6
    ) -> socket.socket:
        """A bound socket in a host, of IPv6 or IPv4."""

        def make() -> socket.socket:
            made = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, kind)
            if line.kind.bound:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, line.bound().encode())
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.settimeout(patient(3))
            made.bind((line.address(host, version), port))
            return made

        return self.inside(host, make)

    def send(self, line: Line, size: int, port: int, version: int) -> None:
        """One datagram to `far`, where nobody waits for it."""
        there = line.address(FAR, version)
        with self.open(line, NEAR, socket.SOCK_DGRAM, 0, version) as near:
            near.sendto(bytes(size), (there, port))

    def echo(self, line: Line, sizes: Sequence[int], port: int = PORT, version: int = 6) -> list[int]:
        """Datagrams of these sizes to `far` and back; the sizes that were lost or arrived changed."""
        lost = []
        kind = socket.SOCK_DGRAM
        there = line.address(FAR, version)
        with ExitStack() as stack:
            near = stack.enter_context(self.open(line, NEAR, kind, 0, version))
            far = stack.enter_context(self.open(line, FAR, kind, port, version))
            for size in sizes:
                data = bytes(number % 251 for number in range(size))
                try:
                    near.sendto(data, (there, port))
                    got, peer = far.recvfrom(1 << 17)
                    far.sendto(got, peer)
                    if near.recv(1 << 17) != data:
                        lost.append(size)
                except TimeoutError:
                    lost.append(size)
        return lost

    def stream(self, line: Line, sizes: Sequence[int], port: int = PORT, version: int = 6) -> None:
        """A connection to `far`, and so many bytes there and back at a time."""
        kind = socket.SOCK_STREAM
        with ExitStack() as stack:
            listening = stack.enter_context(self.open(line, FAR, kind, port, version))
            near = stack.enter_context(self.open(line, NEAR, kind, 0, version))
            listening.listen()
            near.connect((line.address(FAR, version), port))
            far, _peer = listening.accept()
            with far:
                for one in (far, near):
                    one.settimeout(patient(10))
                for size in sizes:
                    data = (bytes(range(251)) * (size // 251 + 1))[:size]
                    _carry(near, far, data)
                    _carry(far, near, data)


def _carry(one: socket.socket, other: socket.socket, data: bytes) -> None:
    """All of it from one end to the other."""
    writer = threading.Thread(target=one.sendall, args=(data,))
    writer.start()
    got = bytearray()
    while len(got) < len(data):
        part = other.recv(_CHUNK)
        assert part, f"closed after {len(got)} of {len(data)} bytes"
        got += part
    writer.join()
    assert got == data, f"{len(data)} bytes arrived changed"


def shape(packet: Packet, last: type[Packet]) -> list[type[Packet]]:
    """The types of a packet's layers, up to the last one of this type."""
    types = [type(layer) for layer in layers(packet)]
    return types[: len(types) - types[::-1].index(last)] if last in types else types


def inner(packet: Captured) -> IPv6:
    """The IPv6 header of a host's own packet, whatever is around it."""
    return [layer for layer in layers(packet) if isinstance(layer, IPv6)][-1]


def _config(lines: Sequence[Line]) -> str:
    services = ""
    for line in lines:
        sids = f"sid: ['{line.first}', '{line.second}']"
        addresses = {6: f"ipv6_addresses: ['{line.far}']", 4: f"ipv4_addresses: ['{line.far4}']"}
        for version, address in addresses.items():
            encap = f"{{port: {ENCAP_PORT}, {sids}, mode: encap, decap_sid: '{line.decap[version]}'}}"
            inserted = f"{{port: {PORT}, {sids}}}, " if version == 6 else ""
            services += (
                f"  {line.kind.name}-{version}:\n    {address}\n    applications: [{inserted}{encap}]\n"
            )
    return f"services:\n{services}"


def _addresses(line: int, host: int, router: bool) -> dict[str, str]:
    """Of the two ends of a veth."""
    own, other = (1, 2) if router else (2, 1)
    return {
        "here": f"fd00:{line:x}:{host}::{own}",
        "there": f"fd00:{line:x}:{host}::{other}",
        "here4": f"10.{line}.{host}.{own}",
        "there4": f"10.{line}.{host}.{other}",
    }


def _cut_large(node: str, names: Iterable[str]) -> None:
    for name in dict.fromkeys(names):
        # Some have the setting of what they are upon, and some of these are not there.
        with suppress(RuntimeError):
            set_offload(name, "gro" if node == ROUTER else "tso", "off")


def _key(text: str) -> str:
    return base64.b64encode(bytes.fromhex(text)).decode()


def _sysctls(*lines: str, scopes: Sequence[str], family: str = "ipv6") -> Iterator[str]:
    for scope in scopes:
        for line in lines:
            name, value = line.split()
            yield f"echo {value} > /proc/sys/net/{family}/conf/{scope}/{name}"
