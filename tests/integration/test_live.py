"""`lab.capture --live`: programs read a link's two ends from it; it ends with its reader, or by Ctrl-C."""

import io
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from ipaddress import IPv6Address
from pathlib import Path

import pytest
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, IPv6
from scapy.packet import Packet
from scapy.utils import PcapNgReader

from lab.network import Lab
from lab.process import members
from lab.wait import PATIENCE, wait_until

from .conftest import have_tool
from .test_lab import PROJECT

LINK, NEAR, FAR = "vpp1-vpp2", "vpp1-vpp2@vpp1", "vpp1-vpp2@vpp2"
BEHIND = "2001:db8:12::2"
#: To it, or from it to another address.
ECHO = re.compile(re.escape(IPv6Address(BEHIND).packed) + rb"(?:\x80|.{16}\x81)\x00", re.DOTALL)
READERS = {
    "tcpdump": ["tcpdump", "-nn", "-l", "-r", "-", "-c", "4"],
    "tshark": ["tshark", "-r", "-", "-c", "4", "-Y", "icmpv6.type == 128 or icmpv6.type == 129"],
}


def command(lab: Lab, *words: str) -> list[str]:
    return [sys.executable, "-m", "lab", "lab.capture", *words, "--live", "--name", lab.name]


def tcpdumps(lab: Lab) -> list[int]:
    """Those of live captures."""
    found = []
    for pid in members(lab.name):
        with suppress(FileNotFoundError, ProcessLookupError):
            argv = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if argv[0] == b"tcpdump" and b"-" in argv:
                found.append(pid)
    return found


class Following:
    """A live capture that has begun: its output, which announces the ends, is read so far."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdout is not None and process.stderr is not None
        self.process, self.output, self.errors = process, process.stdout, process.stderr
        self._first = os.read(self.output.fileno(), 1 << 16)
        assert self._first[:4] == bytes.fromhex("0a0d0d0a"), "pcapng, and nothing before it"

    def until_echoes(self, count: int) -> None:
        """Reads on until so many frames of a ping are there: what arrives at the end may be missing."""
        while len(ECHO.findall(self._first)) < count:
            piece = os.read(self.output.fileno(), 1 << 16)
            assert piece, "it has ended"
            self._first += piece

    def end(self, number: int) -> tuple[list[Packet], int, str]:
        """Sends a signal, or none if it is 0; its packets, exit status and last words."""
        self.process.send_signal(number)
        output, said = self.process.communicate(timeout=PATIENCE)
        return list(PcapNgReader(io.BytesIO(self._first + output))), self.process.returncode, said.decode()


@contextmanager
def following(lab: Lab, *words: str) -> Iterator[Following]:
    """A live capture that has begun."""
    with subprocess.Popen(
        command(lab, *words), cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            yield Following(process)
        finally:
            process.kill()


def ping(lab: Lab) -> None:
    lab.execute("host-a", ["ping", "-c1", "-W2", BEHIND])


def test_both_ends_in_order_of_time(lab: Lab) -> None:
    with following(lab, LINK) as live:
        ping(lab)
        live.until_echoes(4)
        packets, status, said = live.end(signal.SIGINT)
    assert (status, said) == (130, "hawkwing lab: interrupted\n")
    assert tcpdumps(lab) == []
    assert packets == sorted(packets, key=lambda packet: packet.time)
    echo = [p for p in packets if ICMPv6EchoRequest in p or ICMPv6EchoReply in p]
    out, into = 2, 1
    assert [(type(p[IPv6].payload), p.sniffed_on, p.direction) for p in echo] == [
        (ICMPv6EchoRequest, NEAR, out),
        (ICMPv6EchoRequest, FAR, into),
        (ICMPv6EchoReply, FAR, out),
        (ICMPv6EchoReply, NEAR, into),
    ]
    assert {(p[IPv6].src, p[IPv6].dst) for p in echo[:2]} == {(lab_address(lab), BEHIND)}
    assert len({bytes(p) for p in echo[:2]}) == 1


def lab_address(lab: Lab) -> str:
    """Whose address a ping from host-a has."""
    found = lab.execute("host-a", ["ip", "-6", "-o", "route", "get", BEHIND]).stdout
    return found.split(" src ")[1].split()[0]


def test_all_links_without_a_name(lab: Lab) -> None:
    with following(lab) as live:
        ping(lab)
        live.until_echoes(12)
        packets, status, said = live.end(signal.SIGTERM)
    assert (status, said) == (143, "hawkwing lab: ended by SIGTERM\n")
    request = [p.sniffed_on for p in packets if ICMPv6EchoRequest in p]
    crossed = [
        ("host-a-site-a", "host-a", "site-a"),
        ("site-a-vpp1", "site-a", "vpp1"),
        (LINK, "vpp1", "vpp2"),
    ]
    assert request == [f"{link}@{node}" for link, *nodes in crossed for node in nodes]


@pytest.mark.parametrize("reader", READERS)
def test_readers_of_a_pipe(lab: Lab, reader: str) -> None:
    """They see packets while these flow; when they have enough and leave, the capture ends quietly."""
    if not have_tool(reader):
        pytest.skip(f"{reader} is not installed")
    live = subprocess.Popen(command(lab, LINK), cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert live.stdout is not None and live.stderr is not None
    with subprocess.Popen(READERS[reader], stdin=live.stdout, stdout=subprocess.PIPE, text=True) as program:
        live.stdout.close()

        def has_enough() -> bool:
            lab.execute("host-a", ["ping", "-c1", "-W2", BEHIND], check=False)
            return program.poll() is not None

        try:
            wait_until(lambda: len(tcpdumps(lab)) == 2, 60.0, "both ends are captured")
            wait_until(has_enough, 30.0, f"{reader} to read four packets")
        finally:
            # It would wait for more for ever.
            program.kill()
        assert program.stdout is not None
        assert "echo request" in program.stdout.read().replace("Echo (ping)", "echo")
    assert live.wait(30) == 128 + signal.SIGPIPE
    assert live.stderr.read() == b""
    live.stderr.close()
    assert tcpdumps(lab) == []


def test_a_reader_that_leaves_is_noticed_without_a_packet(lab: Lab) -> None:
    with following(lab, "vpp6-site-c") as live:
        live.output.close()
        assert live.process.wait(30) == 128 + signal.SIGPIPE
        assert live.errors.read() == b""
    assert tcpdumps(lab) == []


def test_a_terminal_gets_a_sentence(lab: Lab) -> None:
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            command(lab, LINK),
            cwd=PROJECT,
            stdout=theirs,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE,
        )
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == 1
    assert done.stderr.startswith("hawkwing lab: --live writes pcapng for another program: add ")
    assert len(done.stderr.splitlines()) == 1


def test_wrong_uses_are_told(lab: Lab) -> None:
    for words, told in ((("vpp1-vpp9",), "has no link 'vpp1-vpp9'"), ((LINK, "--stop"), "--live ends with")):
        done = subprocess.run(
            command(lab, *words), cwd=PROJECT, capture_output=True, text=True, timeout=PATIENCE
        )
        assert done.returncode == 1 and told in done.stderr and done.stdout == ""
        assert len(done.stderr.splitlines()) == 1


def test_the_lab_goes_away(new_lab: Callable[..., Lab]) -> None:
    other = new_lab("live")
    other.up()
    try:
        with following(other, LINK) as live:
            other.down()
            _packets, status, said = live.end(0)
        assert status == 1
        assert said.startswith("hawkwing lab: the capture on vpp1-vpp2@vpp")
    finally:
        other.down()
        assert other.remains() == []
