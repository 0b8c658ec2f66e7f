"""`hawkwing capture`: what leaves and arrives has its SRH in it; readers understand the output."""

import fcntl
import io
import json
import os
import pty
import resource
import signal
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrSegmentRouting
from scapy.layers.l2 import Ether
from scapy.packet import Packet
from scapy.utils import PcapNgReader

from lab.wait import patient

from .conftest import have_tool
from .pair import FAR_MAC, HAWKWING, NEAR_MAC, OWN, PORT, SERVICE, SID, Pair

IN, OUT = 1, 2
SECTION = bytes.fromhex("0a0d0d0a")


class Capturing:
    """A capture that has begun: the head of its output is read so far."""

    def __init__(self, process: "subprocess.Popen[bytes]", first: bytes) -> None:
        self.process, self.first = process, first

    def end(self, number: int = 0) -> tuple[list[Packet], int, str]:
        """Sends a signal, or waits for the end; its packets, exit status and last words."""
        if number:
            self.process.send_signal(number)
        output, said = self.process.communicate(timeout=patient(30))
        packets = list(PcapNgReader(io.BytesIO(self.first + output))) if self.first else []
        return packets, self.process.returncode, said.decode()


@contextmanager
def capturing(pair: Pair, *options: str) -> Iterator[Capturing]:
    """A capture to standard output that has begun."""
    argv = pair.inside([*HAWKWING, "capture", *options])
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None and process.stderr is not None
            first = os.read(process.stdout.fileno(), 1 << 16)
            assert first[:4] == SECTION, process.stderr.read()
            yield Capturing(process, first)
        finally:
            process.kill()


def arriving() -> Packet:
    """A packet at the end of its path, as the far end sends it."""
    srh = IPv6ExtHdrSegmentRouting(addresses=[OWN, SID], segleft=0, lastentry=1)
    reply = UDP(sport=PORT, dport=PORT) / b"arrived"
    return Ether(src=FAR_MAC, dst=NEAR_MAC) / IPv6(src=SERVICE, dst=OWN) / srh / reply


def deliver(pair: Pair, frame: bytes) -> None:
    """Sends a frame from the far end of the link."""

    def work() -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
            raw.bind(("far0", 0))
            raw.send(frame)

    pair.within(work, pair.far)


def bound(pair: Pair) -> socket.socket:
    def work() -> socket.socket:
        made = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        made.bind((OWN, PORT))
        made.settimeout(patient(5))
        return made

    return pair.within(work)


def test_both_directions_with_their_srh(pair: Pair) -> None:
    """The agent's interface without a name; what has no SRH is not in it."""
    pair.agent().ready()
    frame = bytes(arriving())
    with capturing(pair) as live, bound(pair) as application:
        sent = pair.send()
        deliver(pair, bytes(Ether(src=FAR_MAC, dst=NEAR_MAC) / IPv6(src=SERVICE, dst=OWN) / UDP() / b"plain"))
        deliver(pair, frame)
        assert application.recv(100) == b"arrived", "the agent has removed the SRH"
        packets, status, said = live.end(signal.SIGINT)
    assert (status, said) == (0, "hawkwing: 2 packets captured\n")
    assert [(p.sniffed_on, p.direction) for p in packets] == [("eth0", OUT), ("eth0", IN)]
    assert bytes(packets[0][IPv6]) == bytes(sent)
    assert packets[0][IPv6ExtHdrSegmentRouting].addresses == [SERVICE, SID]
    assert bytes(packets[1]) == frame


def test_it_ends_after_a_number_of_packets(pair: Pair, tmp_path: Path) -> None:
    pair.agent().ready()
    file = tmp_path / "some.pcapng"
    argv = pair.inside([*HAWKWING, "capture", "-i", "eth0", "--count", "2", "--output", str(file)])
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            pair.send()
        assert process.stderr is not None and process.stderr.read() == "hawkwing: 2 packets captured\n"
    assert process.returncode == 0
    assert [IPv6ExtHdrSegmentRouting in p for p in PcapNgReader(str(file))] == [True, True]
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(not have_tool("tshark"), reason="no tshark")
def test_tshark_reads_it(pair: Pair) -> None:
    pair.agent().ready()
    reader = ["tshark", "-r", "-", "-T", "fields", "-e", "ipv6.routing.segleft"]
    with capturing(pair, "--count", "1") as live:
        pair.send()
        output, _said = live.process.communicate(timeout=patient(30))
        done = subprocess.run(reader, input=live.first + output, capture_output=True, check=True)
    assert done.stdout.split() == [b"1"]


def test_tcpdump_reads_it(pair: Pair) -> None:
    pair.agent().ready()
    with capturing(pair, "--count", "1") as live:
        pair.send()
        output, _said = live.process.communicate(timeout=patient(30))
        argv = ["tcpdump", "-nr", "-"]
        done = subprocess.run(argv, input=live.first + output, capture_output=True, check=True)
    assert f"{OWN} > {SID}: RT6".encode() in done.stdout


def test_a_vlan_tag_is_in_the_frame(pair: Pair) -> None:
    inner = arriving()
    tagged = bytes(inner)[:12] + bytes.fromhex("81000007") + bytes(inner)[12:]
    with capturing(pair, "-i", "eth0", "--count", "1") as live:
        deliver(pair, tagged)
        packets, status, _said = live.end()
    assert (status, [bytes(p) for p in packets]) == (0, [tagged])


def test_an_interface_without_ethernet_header(pair: Pair) -> None:
    """A tun interface: packets begin with their IP header."""

    def tun() -> int:
        made = os.open("/dev/net/tun", os.O_RDWR)
        # TUNSETIFF with IFF_TUN and IFF_NO_PI.
        fcntl.ioctl(made, 0x400454CA, struct.pack("16sH22x", b"tun0", 0x1001))
        return made

    try:
        device = pair.within(tun)
    except OSError as error:
        pytest.skip(f"no tun interface: {error}")
    try:
        pair.sh("ip link set tun0 up")
        packet = bytes(arriving()[IPv6])
        with capturing(pair, "-i", "tun0", "--count", "1") as live:
            os.write(device, packet)
            packets, status, _said = live.end()
    finally:
        os.close(device)
    assert (status, [bytes(p) for p in packets]) == (0, [packet])
    assert isinstance(packets[0], IPv6)


def test_it_ends_with_its_reader(pair: Pair) -> None:
    with capturing(pair, "-i", "eth0") as live:
        assert live.process.stdout is not None
        live.process.stdout.close()
        assert live.process.wait(patient(10)) == 128 + signal.SIGPIPE
        assert live.process.stderr is not None and live.process.stderr.read() == b""


def test_it_ends_with_its_interface(pair: Pair) -> None:
    with capturing(pair, "-i", "eth0") as live:
        pair.sh("ip link set eth0 down; ip link set eth0 up")
        deliver(pair, bytes(arriving()))
        pair.sh("ip link del eth0")
        packets, status, said = live.end()
    assert (status, said) == (0, "hawkwing: eth0 is gone\nhawkwing: 1 packet captured\n")
    assert len(packets) == 1


def test_a_file_that_is_full_has_whole_packets(pair: Pair, tmp_path: Path) -> None:
    file, most = tmp_path / "small.pcapng", 500
    argv = pair.inside([*HAWKWING, "capture", "-i", "eth0", "--output", str(file)])
    small: Callable[[], None] = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))  # noqa: E731
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, preexec_fn=small) as process:
        while process.poll() is None:
            deliver(pair, bytes(arriving()))
        assert process.stderr is not None
        said = process.stderr.read()
    packets = list(PcapNgReader(str(file)))
    assert len(packets) > 0 and file.stat().st_size <= most
    assert said == f"hawkwing: can't write {file}: File too large; it has the first {len(packets)} packets\n"
    assert process.returncode == 1


def refused(pair: Pair, *options: str, prefix: tuple[str, ...] = ()) -> str:
    argv = pair.inside([*prefix, *HAWKWING, "capture", *options])
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    return line


def test_what_is_missing_is_said(pair: Pair) -> None:
    assert refused(pair) == (
        "hawkwing: no hawkwing agent is running in this network namespace: name an interface with -i"
    )
    assert refused(pair, "-i", "eth7") == "hawkwing: there is no interface 'eth7' here"
    without = ("setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw")
    assert refused(pair, "-i", "eth0", prefix=without) == (
        "hawkwing: missing CAP_NET_RAW: run it as root, or give it this capability"
    )
    assert refused(pair, "-i", "eth0", "--output", "/nowhere/file") == (
        "hawkwing: /nowhere/file: No such file or directory"
    )
    ours, theirs = pty.openpty()
    argv = pair.inside([*HAWKWING, "capture", "-i", "eth0"])
    done = subprocess.run(argv, stdout=theirs, stderr=subprocess.PIPE, text=True, check=False)
    os.close(ours)
    os.close(theirs)
    assert done.returncode == 1 and "capture writes pcapng for another program" in done.stderr


def test_xdp_is_named(pair: Pair) -> None:
    """XDP removes SRHs before a packet socket sees them."""
    pair.agent("client", "--ingress-hook", "xdp-generic").ready()
    with capturing(pair, "--count", "1") as live:
        pair.send()
        _packets, _status, said = live.end()
    assert "removes SRHs in XDP, before they can be captured" in said
    assert json.loads(pair.hawkwing("status", "--json"))[0]["ingress_hook"] == "xdp-generic"
