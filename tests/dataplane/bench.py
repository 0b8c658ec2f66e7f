"""Runs the programs of one role on packets and says what became of them.

Everything happens in a thread with a network namespace of its own, which has no name and ends with the
thread: nothing can be left behind. In it are the loopback device and a veth pair with an MTU of 1500. It has
the egress program of the bench whose packets leave by it: what a program sends passes that hook once more.
"""

import ctypes
import os
import socket
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from errno import EBADMSG, EINVAL
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pytest
from pyroute2 import IPRoute
from scapy.layers.l2 import Ether

from hawkwing.dataplane import bpf, tc
from hawkwing.dataplane.encoding import name_key
from hawkwing.dataplane.layout import reasons, structures
from hawkwing.dataplane.loader import Capacities, Loaded, Loading
from hawkwing.dataplane.netlink import Netlink
from hawkwing.dataplane.next_hop import NextHop, pack
from hawkwing.dataplane.plane import DIRECTIONS, DataPlane
from hawkwing.dataplane.ringbuf import RingBuffer
from hawkwing.errors import DataplaneError
from lab.packets import assert_same, path
from tests.dataplane.packets import MAC_HERE, ROUTING, UDP, ipv6, srh, tcp, udp

UNSPEC, SHOT, REDIRECT = -1, 2, 7
MTU = 1500
MAC = ":".join(f"{octet:02x}" for octet in MAC_HERE)
LONGEST = 3700
"""Bytes that every kernel takes in a test run of an skb: a page less its head and tail room."""
T = TypeVar("T")
_NEW_NETWORK = 0x40000000
_TEST_RUN, _LOOKUP_BATCH, _UPDATE_BATCH = 10, 24, 26
_CHECKSUM_COMPLETE = 1 << 2
_CONTEXT = 192
_SOL_PACKET, _PACKET_VNET_HDR, _GSO_TCP6 = 263, 15, 4
_IFINDEX, _GSO_SEGS, _GSO_SIZE = 40, 164, 176


class Outcome(NamedTuple):
    """What became of a packet; `counted` has the counters that rose, and by how much."""

    verdict: int
    packet: bytes
    counted: dict[str, int]


def _with_header(interface: str) -> socket.socket:
    """A packet socket whose frames have the kernel's own notes in front (struct virtio_net_hdr)."""
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    made.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
    made.bind((interface, 0))
    return made


class Namespace:
    """A thread inside a network namespace of its own; `port` is a veth with `sniffer` at its other end."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        self.port = 0
        self._on_port = 0
        self.do(self._enter)

    def do(self, work: Callable[[], T]) -> T:
        """The result of `work`, done in there."""
        return self._thread.submit(work).result()

    def close(self) -> None:
        """Ends the thread, and with it the namespace."""
        self.sniffer.close()
        self._thread.shutdown()

    def _enter(self) -> None:
        if ctypes.CDLL(None, use_errno=True).unshare(_NEW_NETWORK):
            code = ctypes.get_errno()
            raise OSError(code, f"no network namespace: {os.strerror(code)}")
        # On one processor: each has its own memory, and tests ask for what the last run left there.
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        quiet = Path("/proc/sys/net/ipv6/conf/default/disable_ipv6")
        if quiet.exists():
            quiet.write_text("1")
        with IPRoute() as ip:
            # Frames are addressed to this host, whatever interface they are said to come by.
            ip.link("set", index=1, address=MAC, state="up")
            ip.link(
                "add", kind="veth", ifname="port", address=MAC, mtu=MTU, peer={"ifname": "wire", "mtu": MTU}
            )
            self.port = ip.link_lookup(ifname="port")[0]
            for name in ("wire", "port"):
                ip.link("set", index=ip.link_lookup(ifname=name)[0], state="up")
        with Netlink() as netlink:
            tc.add_clsact(netlink, self.port)
        self.sniffer = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.sniffer.bind(("wire", 0))
        self.sniffer.settimeout(1)

    def bundle(self, frame: bytes, headers: int, gso_size: int) -> tuple[int, bytes] | None:
        """Sends TCP data that the device is to cut, as the stack does: gso_size and frame as they leave.

        `headers` are all in front of the data. None: nothing has left.
        """
        header = struct.pack("=BBHHHH", 1, _GSO_TCP6, headers, gso_size, headers - 20, 16)
        with _with_header("wire") as taps, _with_header("port") as sender:
            sender.send(header + frame)
            taps.settimeout(0.2)
            try:
                got = taps.recv(1 << 17)
            except TimeoutError:
                return None
            finally:
                self._drop_seen()
            return int(struct.unpack_from("=H", got, 4)[0]), got[10:]

    def _drop_seen(self) -> None:
        self.sniffer.setblocking(False)
        with suppress(BlockingIOError):
            while self.sniffer.recv(1 << 17):
                pass
        self.sniffer.settimeout(1)

    def put_on_port(self, program: int) -> None:
        """This program (a file descriptor), and no other, sees what leaves by the port; in the own thread."""
        if program != self._on_port:
            with Netlink() as netlink:
                tc.replace_filter(netlink, self.port, tc.EGRESS, (1, 1), program, "bench")
            self._on_port = program

    def sent(self, count: int) -> list[bytes]:
        """The next `count` frames that left through the port; fails where there are fewer, or more."""
        frames = [self.sniffer.recv(65536) for _ in range(count)]
        self.sniffer.setblocking(False)
        try:
            frames.append(self.sniffer.recv(65536))
        except BlockingIOError:
            return frames
        finally:
            self.sniffer.settimeout(1)
        raise AssertionError(f"more than {count} frames were sent; the next: {frames[-1].hex()}")


def results(loaders: Mapping[str, Loading]) -> dict[str, Loaded]:
    """What was loaded; skips, with the reason, where BCC or headers are missing."""
    try:
        return {name: loader.result() for name, loader in loaders.items()}
    except DataplaneError as error:
        if "missing" in str(error):
            pytest.skip(str(error))
        raise


def with_xdp(
    capacities: Capacities, namespace: Namespace, roles: Sequence[str] = ("client", "server")
) -> "dict[str, Bench]":
    """The roles with their XDP programs."""
    loaders = {role: Loading(role, capacities, xdp=True) for role in roles}
    try:
        return {role: Bench(role, loaded, namespace) for role, loaded in results(loaders).items()}
    finally:
        for loader in loaders.values():
            loader.abandon()


class Bench:
    """One role's data plane, loaded once; `reset` empties what a test has put into its tables."""

    def __init__(self, role: str, loaded: Loaded, namespace: Namespace) -> None:
        self.role = role
        self.plane = DataPlane(role, loaded)
        self.namespace = namespace
        self.observed: set[tuple[str, str, str]] = set()
        self.outcomes: dict[tuple[str, ...], str] = {}
        self.ring = RingBuffer(self.plane.maps["learned_names"]) if role == "client" else None
        self._names = [reason.name for reason in reasons()]
        self._batch = self._prepare_batch()
        self._zero = {
            name: self._zeroing(name)
            for name in ("flows", "sources", "told_flows", "last_told")
            if name in self.plane.maps
        }
        self.complete = self._knows_checksum_complete()

    def _prepare_batch(self) -> tuple[Any, ...]:
        tallies = self.plane.maps["tallies"]
        entries = tallies.info.max_entries
        width = 2 * bpf.possible_cpus()
        keys, values = (ctypes.c_uint32 * entries)(), (ctypes.c_uint64 * (entries * width))()
        out = ctypes.create_string_buffer(8)
        addresses = (0, ctypes.addressof(out), ctypes.addressof(keys), ctypes.addressof(values))
        request = struct.pack("=QQQQIIQQ", *addresses, entries, tallies.fd, 0, 0)
        return request, values, width, (keys, out)

    def tallies(self) -> list[int]:
        """Packets per direction and reason, in one system call."""
        request, values, width, _kept = self._batch
        with suppress(FileNotFoundError):
            bpf._bpf(_LOOKUP_BATCH, ctypes.create_string_buffer(request, len(request)))
        return [sum(values[at : at + width : 2]) for at in range(0, len(values), width)]

    def counted(self, before: list[int], direction: str) -> dict[str, int]:
        """The counters that have risen since; those of the other direction carry its name."""
        result = {}
        for index, (old, new) in enumerate(zip(before, self.tallies(), strict=True)):
            if old != new:
                way, reason = DIRECTIONS[index // len(self._names)], self._names[index % len(self._names)]
                result[reason if way == direction else f"{way} {reason}"] = new - old
        return result

    def run_here(
        self, direction: str, packet: bytes, ifindex: int = 0, gso_size: int = 0, complete: bool = False
    ) -> tuple[int, bytes]:
        """Verdict and packet out; for the namespace's own thread. With `complete` the skb carries a sum
        over the whole packet, as from a network card, and the kernel checks that it still holds."""
        context = bytearray(_CONTEXT)
        struct.pack_into("=I", context, _IFINDEX, ifindex)
        struct.pack_into("=I", context, _GSO_SIZE, gso_size)
        struct.pack_into("=I", context, _GSO_SEGS, 3 if gso_size else 0)
        data = ctypes.create_string_buffer(packet, len(packet))
        out = ctypes.create_string_buffer(len(packet) + 1024)
        given = ctypes.create_string_buffer(bytes(context), _CONTEXT)
        fd = self.plane.programs[f"{direction}_ethernet"]
        if ifindex and ifindex == self.namespace.port:
            self.namespace.put_on_port(self.plane.programs["egress_ethernet"])
        request = struct.pack(
            "=IIIIQQIIIIQQIII4x",
            *(fd, 0, len(packet), len(out), ctypes.addressof(data), ctypes.addressof(out), 1, 0),
            *(_CONTEXT, 0, ctypes.addressof(given), 0, _CHECKSUM_COMPLETE if complete else 0, 0, 0),
        )
        attributes = ctypes.create_string_buffer(request, len(request))
        try:
            bpf._bpf(_TEST_RUN, attributes)
        except OSError as error:
            if error.errno == EBADMSG:
                raise AssertionError(
                    "the sum over the whole packet (CHECKSUM_COMPLETE) was spoiled"
                ) from error
            raise
        verdict, _in, size = struct.unpack_from("=iII", attributes, 4)
        return verdict, out.raw[:size]

    def _knows_checksum_complete(self) -> bool:
        packet = bytes(12) + b"\x86\xdd" + bytes(60)
        try:
            self.namespace.do(lambda: self.run_here("ingress", packet, complete=True))
        except OSError as error:
            if error.errno != EINVAL:
                raise
            return False
        return True

    def run_xdp(self, packet: bytes) -> tuple[int, bytes]:
        """Verdict and packet out of the XDP program, on the same processor as all other runs."""
        program = self.plane.programs["ingress_xdp"]
        return self.namespace.do(lambda: bpf.test_run(program, packet))[:2]

    def run(
        self,
        direction: str,
        packet: bytes,
        *,
        on_port: bool = False,
        gso_size: int = 0,
        complete: bool = True,
    ) -> Outcome:
        """Runs one packet. Arriving ones carry a sum over the whole packet where the kernel can do that.

        Not with `complete` false: for packets of which the kernel forgets the sum.
        """
        complete = complete and direction == "ingress" and self.complete
        port = self.namespace.port if on_port else 0
        before = self.tallies()
        verdict, out = self.namespace.do(lambda: self.run_here(direction, packet, port, gso_size, complete))
        counted = self.counted(before, direction)
        self.outcomes.setdefault((direction, *sorted(counted)), packet.hex())
        return Outcome(verdict, out, counted)

    def send_bundle(
        self, frame: bytes, headers: int, gso_size: int
    ) -> tuple[dict[str, int], tuple[int, bytes] | None]:
        """What was counted of a bundle of TCP segments that leaves by the port, and how it leaves."""
        before = self.tallies()

        def send() -> tuple[int, bytes] | None:
            self.namespace.put_on_port(self.plane.programs["egress_ethernet"])
            return self.namespace.bundle(frame, headers, gso_size)

        left = self.namespace.do(send)
        return self.counted(before, "egress"), left

    def expect(
        self,
        direction: str,
        packet: bytes,
        *counted: str,
        out: bytes | None = None,
        verdict: int = UNSPEC,
        on_port: bool = False,
        gso_size: int = 0,
    ) -> None:
        """Runs a packet: `counted` are the counters that rise, each as often as it is named, and no other;
        `out` is the packet that comes out, by default the one that went in."""
        wanted = {reason: counted.count(reason) for reason in counted}
        got = self.run(direction, packet, on_port=on_port, gso_size=gso_size)
        self.observed |= {(self.role, direction, reason) for reason in counted}
        expected = packet if out is None else out
        assert got.counted == wanted, f"{direction}: {got.counted}, not {wanted}; packet {packet.hex()}"
        assert got.verdict == verdict
        assert_same(got.packet, expected)

    def tick(self) -> None:
        """Half a minute passes."""
        self.plane.tick()
        for _ in self.plane.sweeping():
            pass

    def reset(self, sr_domain: Sequence[str] = ()) -> None:
        """Empties every table but the counters."""
        maps = self.plane.maps
        self.plane.set_local_addresses(())
        self.plane.set_hmac(())
        self.plane.set_decap(())
        self.plane.set_sr_domain([IPv6Network(prefix) for prefix in sr_domain or ["::/0"]])
        if "paths" in maps:
            for key in list(maps["paths"].each_key()):
                self.plane.sweeper.give_back(int.from_bytes(maps["paths"].get(key) or b"", "little"))
        for name in self._zero:
            self.empty(name)
        for table in (
            "tellings",
            "ways_back",
            "fragments",
            "services",
            "routes",
            "names",
            "questions",
            "paths",
        ):
            if table in maps:
                for key in list(maps[table].each_key()):
                    maps[table].delete(key)
        if self.ring:
            list(self.ring.records())

    def empty(self, name: str) -> None:
        """Sets all of an array such as `flows` to zero, which the data plane isn't told."""
        request, _memory = self._zero[name]
        bpf._bpf(_UPDATE_BATCH, ctypes.create_string_buffer(request, len(request)))

    def set_told(self, when: Callable[[int], int]) -> None:
        """Other times, in 2^20 ns, for when a server's flows have told their ways back; 0: never."""
        for name in ("told_flows", "last_told"):
            table = self.plane.maps[name]
            for key in list(table.each_key()):
                entry = table.get(key) or b""
                form = f"={len(entry) // 4}I"
                table.set(key, struct.pack(form, *map(when, struct.unpack(form, entry))))

    def _zeroing(self, array: str) -> tuple[bytes, object]:
        """A request that sets all elements of an array to zero, and the memory it points at."""
        table = self.plane.maps[array]
        count = table.info.max_entries
        keys = (ctypes.c_uint32 * count)(*range(count))
        values = ctypes.create_string_buffer(count * table.info.value_size)
        addresses = (0, 0, ctypes.addressof(keys), ctypes.addressof(values))
        return struct.pack("=QQQQIIQQ", *addresses, count, table.fd, 0, 0), (keys, values)

    def entries(self, table: str) -> int:
        """How many there are in a hash table."""
        return sum(1 for _ in self.plane.maps[table].each_key())

    def remembered(self, table: str, structure: str) -> list[Any]:
        """All elements of a per-CPU array, of all CPUs."""
        kind, memory = structures()[structure], self.plane.maps[table]
        places = (struct.pack("=I", at) for at in range(memory.info.max_entries))
        return [kind.from_buffer_copy(raw) for place in places for raw in memory.values_per_cpu(place)]

    def flows(self) -> int:
        """How many flows the server knows."""
        assert self.plane.flows is not None
        return len(self.plane.flows)

    def local(self, *addresses: IPv6Address) -> None:
        """The host's own addresses."""
        self.plane.set_local_addresses(addresses)

    def route(self, group: int, protocol: int, port: int, slot: int, sids: Sequence[IPv6Address]) -> None:
        """A path for a group's port; the slot is empty where there are no SIDs."""
        self.plane.set_policy(slot, sids)
        self.plane.set_route(group, port, [protocol], slot)

    def set_next_hop(self, slot: int, next_hop: NextHop | None) -> None:
        """Of the path in a slot; None: the kernel's choice for the destination is right."""
        self.plane.next_hops.write(slot, pack(next_hop))

    def learn(
        self,
        remote: IPv6Address,
        local: IPv6Address,
        protocol: int,
        remote_port: int,
        local_port: int,
        sids: Sequence[IPv6Address],
    ) -> None:
        """Has the server learn that its packets to this flow go over `sids`: one arrives the other way."""
        build = udp if protocol == UDP else tcp
        path = [*reversed(sids), local]
        inner = build(remote, local, remote_port, local_port)
        result = self.run("ingress", ipv6(remote, local, ROUTING, srh(protocol, path, inner, left=0)))
        assert result.counted == {"STRIPPED": 1, "LEARNED": 1}, result.counted

    def slot(self, sids: Sequence[IPv6Address]) -> int:
        """Where the server keeps a path it has learned."""
        return next(path.slot for path in self.plane.learned_paths() if path.sids == tuple(sids))

    def name(self, text: str, group: int) -> None:
        """A name whose addresses are to be learned."""
        self.plane.maps["names"].set(name_key(text), struct.pack("=I", group))

    def service(self, address: IPv6Address) -> tuple[int, int] | None:
        """Group and origin of an address."""
        value = self.plane.maps["services"].get(address.packed)
        return None if value is None else (struct.unpack("=II", value)[0], struct.unpack("=II", value)[1])

    def announced(self) -> list[tuple[IPv6Address, int, int]]:
        """Address, group and TTL of what the agent has been told since the last call."""
        assert self.ring
        kind = structures()["learned_name"]
        entries: Iterable[Any] = [kind.from_buffer_copy(entry) for entry in self.ring.records()]
        return [(IPv6Address(bytes(e.address)), e.group, e.ttl) for e in entries]

    def way_back(
        self, remote: IPv6Address, local: IPv6Address, protocol: int, remote_port: int, local_port: int
    ) -> list[IPv6Address] | None:
        """The SIDs that a packet of this flow leaves with, in the order of travel."""
        build = udp if protocol == UDP else tcp
        packet = ipv6(local, remote, protocol, build(local, remote, local_port, remote_port))
        result = self.run("egress", packet)
        if "STEERED" not in result.counted:
            return None
        return [IPv6Address(sid) for sid in path(Ether(result.packet))]
