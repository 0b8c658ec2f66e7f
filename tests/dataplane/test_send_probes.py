"""The agent's probes as the program sends them, many at once."""

import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv6Address

import pytest
from scapy.contrib.stamp import STAMPSessionSenderTestUnauthenticated
from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrSegmentRouting
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from hawkwing import stamp
from hawkwing.dataplane.probe_sender import ProbeSender
from hawkwing.probing import lists
from hawkwing.ready_probe import ready_probe
from hawkwing.sids import ready_srh
from tests.dataplane.bench import Bench
from tests.dataplane.scene import HOST_A, HOST_B, SIDS, Host

NEXT_HOP, OWN = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")
MAX = 100
KEY, SLOT = 0x1122334455667788, 7


class Sending:
    """Probes are put into the table, sent by the bench's port, and read at its other end."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.sender: ProbeSender = bench.plane.probe_sender()
        self.link = bench.namespace.port

    def loopback(self, index: int, link: int | None = None) -> None:
        own = (HOST_A, 4000 + index)
        payload = struct.pack("=QQII", KEY, 0, SLOT, 0)
        probe = ready_probe((NEXT_HOP, OWN), own, own, lists.probe_srh(SIDS[: 1 + index % 3]), payload)
        self.sender.put(index, probe, self.link if link is None else link, 0, probe.payload_at + 8)

    def send(self, count: int, number: int = 0, every: int = 0, turn: int = 0, ntp: int = 0) -> list[int]:
        return self.bench.namespace.do(lambda: self.sender.send(count, number, ntp, every, turn))

    def seen(self, count: int) -> list[Packet]:
        return [Ether(frame) for frame in self.bench.namespace.do(lambda: self.bench.namespace.sent(count))]


@pytest.fixture
def sending(client: Host) -> Iterator[Sending]:
    made = Sending(client.bench)
    yield made
    for index in range(MAX + 1):
        made.loopback(index, link=0)


@contextmanager
def between() -> Iterator[list[int]]:
    times = [time.monotonic_ns()]
    yield times
    times.append(time.monotonic_ns())


def test_each_probe_is_the_packet_that_a_socket_sends(sending: Sending) -> None:
    for index in range(MAX):
        sending.loopback(index)
    with between() as times:
        assert sending.send(MAX) == []
    seen = sending.seen(MAX)
    assert [packet[UDP].sport for packet in seen] == [4000 + index for index in range(MAX)]
    for index, packet in enumerate(seen):
        key, when, slot, zero = struct.unpack("=QQII", bytes(packet[Raw]))
        assert (key, slot, zero) == (KEY, SLOT, 0)
        assert times[0] <= when <= times[1]
        there_and_back = [str(sid) for sid in lists.there_and_back(SIDS[: 1 + index % 3])]
        expected = (
            Ether(dst="02:00:00:00:00:01", src="02:00:00:00:00:02")
            / IPv6(src=str(HOST_A), dst=there_and_back[0], hlim=64)
            / IPv6ExtHdrSegmentRouting(
                addresses=[str(HOST_A), *reversed(there_and_back)],
                segleft=len(there_and_back),
                lastentry=len(there_and_back),
            )
            / UDP(sport=4000 + index, dport=4000 + index)
            / Raw(struct.pack("=QQII", KEY, when, SLOT, 0))
        )
        assert bytes(packet) == bytes(expected), "with its checksum"


def test_those_without_an_interface_are_told(sending: Sending) -> None:
    for index in range(MAX):
        sending.loopback(index, link=0 if index in (3, 64, 99) else None)
    # Nor is there an interface with this number.
    sending.loopback(70, link=12345)
    assert sending.send(MAX) == [3, 64, 70, 99]
    assert len(sending.seen(MAX - 4)) == MAX - 4


def test_those_whose_turn_it_is_are_left_out(sending: Sending) -> None:
    for index in range(10):
        sending.loopback(index)
    assert sending.send(10, every=4, turn=1) == []
    assert [packet[UDP].sport - 4000 for packet in sending.seen(7)] == [0, 2, 3, 4, 6, 7, 8]


def test_a_stamp_packet_has_its_number_and_time(sending: Sending) -> None:
    payload = stamp.request(0, 0, 77, stamp.padding(struct.pack("=QQII", KEY, 0, SLOT, 0)))
    probe = ready_probe(
        (NEXT_HOP, OWN), (HOST_A, 4000), (HOST_B, 862), ready_srh(SIDS), stamp.without_number(payload)
    )
    when_at = probe.payload_at + stamp.VALUE_AT + 8
    sending.sender.put(0, probe, sending.link, 2**32 - 2, when_at, probe.payload_at)
    ntp = stamp.timestamp(time.time_ns())
    assert sending.send(1, number=3, ntp=ntp) == []
    (packet,) = sending.seen(1)
    request = STAMPSessionSenderTestUnauthenticated(bytes(packet[UDP].payload))
    # The numbers wrap.
    assert request.seq == 5 and request.ssid == 77
    assert bytes(packet[UDP].payload)[4:12] == ntp.to_bytes(8, "big")
    sent = packet[UDP].chksum
    del packet[UDP].chksum
    assert Ether(bytes(packet))[UDP].chksum == sent


def test_the_longest_probe(sending: Sending) -> None:
    sids = [IPv6Address(f"fcbb:bb00:{number}::2") for number in range(1, 16)]
    own = (HOST_A, 4000)
    probe = ready_probe((NEXT_HOP, OWN), own, own, lists.probe_srh(sids), bytes(24))
    assert len(probe.content) <= sending.sender.longest
    sending.sender.put(0, probe, sending.link, 0, probe.payload_at + 8)
    assert sending.send(1) == []
    (packet,) = sending.seen(1)
    assert packet[IPv6ExtHdrSegmentRouting].segleft == 29
