"""STAMP packets, as scapy reads and writes them, and a reflector on this machine."""

import asyncio
import os
import socket
import struct
import time
from contextlib import closing
from ipaddress import IPv6Network

import pytest
from scapy.contrib.stamp import (
    STAMPSessionReflectorTestUnauthenticated,
    STAMPSessionSenderTestUnauthenticated,
    STAMPTestTLV,
)

from hawkwing import stamp
from hawkwing.errors import HawkwingError
from hawkwing.reflector import Reflector

WHEN = 1_700_000_000_250_000_000
LAST = stamp.request(0xFFFFFFFF, 0, 1)
NTP = (1_700_000_000 + 2_208_988_800) << 32 | 1 << 30


def test_times_are_those_of_ntp() -> None:
    assert stamp.timestamp(WHEN) == NTP
    assert stamp.timestamp(0) == 2_208_988_800 << 32
    # The era of 32-bit seconds ends in 2036.
    assert stamp.timestamp((2**32 - 2_208_988_800) * 10**9) == 0


def test_scapy_reads_a_request() -> None:
    data = stamp.request(7, WHEN, 0x1234, stamp.padding(b"probe"))
    found = STAMPSessionSenderTestUnauthenticated(data)
    assert (found.seq, found.ssid, found.err_estimate.Z) == (7, 0x1234, 0)
    assert found.getfieldval("ts") == NTP
    (tlv,) = found.tlv_objects
    assert (tlv.type, tlv.len, tlv.value, int(tlv.flags)) == (1, 5, b"probe", 0x80)


def test_scapy_reads_an_answer() -> None:
    request = stamp.request(7, WHEN, 0x1234, stamp.padding(b"probe"))
    answer = stamp.reflected(request, WHEN + 1_000_000_000, 61, WHEN + 1_500_000_000)
    assert answer is not None and len(answer) == len(request), "symmetrical (RFC 8762, section 4.3)"
    found = STAMPSessionReflectorTestUnauthenticated(answer)
    assert (found.seq, found.ssid, found.seq_sender, found.ttl_sender) == (7, 0x1234, 7, 61)
    times = [found.getfieldval(name) for name in ("ts", "ts_rx", "ts_sender")]
    assert times == [NTP + (3 << 31), NTP + (1 << 32), NTP]
    (tlv,) = found.tlv_objects
    assert (tlv.type, tlv.value, int(tlv.flags)) == (1, b"probe", 0)


def test_what_scapy_sends_is_answered() -> None:
    request = bytes(STAMPSessionSenderTestUnauthenticated(seq=3, ssid=9, tlv_objects=[]))
    answer = stamp.reflected(request, WHEN, 64)
    assert answer is not None
    assert STAMPSessionReflectorTestUnauthenticated(answer).seq_sender == 3


@pytest.mark.parametrize(
    ("tlvs", "flags"),
    [
        (bytes(STAMPTestTLV(flags=0x80, type=1, len=2, value=b"ab")), [0]),
        (bytes(STAMPTestTLV(flags=0x80, type=200, len=2, value=b"ab")), [0x80]),
        (b"\x80\xc8\0\0\x80\x01\0\0", [0x80, 0]),
        (b"\x80\x01\0\x09ab", [0x80 | 0x40]),
        (b"\x80\x01", [0x80 | 0x40]),
    ],
)
def test_flags_of_tlvs(tlvs: bytes, flags: list[int]) -> None:
    answer = stamp.reflected(stamp.request(1, WHEN, 1, tlvs), WHEN, 64)
    assert answer is not None
    told, at = answer[stamp.LENGTH :], 0
    assert len(told) == len(tlvs)
    for flag in flags:
        assert told[at] == flag
        at += 4 + int.from_bytes(told[at + 2 : at + 4], "big")


def test_a_short_packet_has_no_answer() -> None:
    assert stamp.reflected(bytes(stamp.LENGTH - 1), WHEN, 64) is None
    assert stamp.reflected(bytes(stamp.LENGTH), WHEN, 64) is not None


def test_another_number_and_time() -> None:
    packet = bytearray(stamp.request(1, 0, 5, stamp.padding(b"x")))
    stamp.renew(packet, 2**32 + 8, WHEN)
    assert bytes(packet) == stamp.request(8, WHEN, 5, stamp.padding(b"x"))


def test_a_packet_without_number_and_time() -> None:
    packets = [stamp.request(number, WHEN * number, 5, stamp.padding(b"x")) for number in (1, 2)]
    one, other = map(stamp.without_number, packets)
    assert one == other and (one[:12], one[12:]) == (bytes(12), packets[0][12:])


# --- a reflector


def free_port() -> int:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as found:
        found.bind(("::1", 0))
        return int(found.getsockname()[1])


async def has_seen(reflector: Reflector, packets: int) -> None:
    """Until it has answered or refused so many; who waits sets the limit."""
    while reflector.answered + reflector.refused < packets:  # noqa: ASYNC110
        await asyncio.sleep(0.001)


def asked(domain: list[IPv6Network] | None, *packets: bytes) -> tuple[list[bytes], Reflector]:
    """The answers to packets from ::1, and to a last one that is always answered."""

    async def scene() -> tuple[list[bytes], Reflector]:
        allowed = [domain]
        reflector = Reflector(free_port(), lambda: allowed[0])
        running = asyncio.create_task(reflector.run())
        answers: list[bytes] = []
        loop = asyncio.get_running_loop()
        with closing(reflector), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as made:
            made.setblocking(False)
            made.connect(("::1", reflector.port))
            for packet in packets:
                made.send(packet)
            await has_seen(reflector, len(packets))
            counted = reflector.status()
            allowed[0] = None
            made.send(LAST)
            while (answer := await loop.sock_recv(made, 9000))[:4] != LAST[:4]:
                answers.append(answer)
            assert reflector.answered == counted["answered"] + 1
            reflector.answered -= 1
            running.cancel()
        return answers, reflector

    return asyncio.run(asyncio.wait_for(scene(), 30))


def test_a_reflector_answers() -> None:
    before = time.time_ns()
    (answer,), reflector = asked(None, stamp.request(5, before, 77, stamp.padding(b"mine")))
    found = STAMPSessionReflectorTestUnauthenticated(answer)
    assert (found.seq, found.ssid, found.ttl_sender) == (5, 77, 64)
    received, sent = struct.unpack_from("!Q", answer, 16)[0], struct.unpack_from("!Q", answer, 4)[0]
    assert stamp.timestamp(before) <= received <= sent <= stamp.timestamp(time.time_ns())
    assert answer[stamp.VALUE_AT :] == b"mine"
    assert reflector.status() == {"port": reflector.port, "answered": 1, "refused": 0}


def test_a_reflector_answers_its_domain_only() -> None:
    request = stamp.request(5, WHEN, 77)
    assert len(asked([IPv6Network("::/64")], request)[0]) == 1
    answers, reflector = asked([IPv6Network("fc00::/7")], request)
    assert answers == [] and reflector.refused == 1


def test_a_reflector_refuses_what_is_no_request() -> None:
    answers, reflector = asked(None, b"", bytes(stamp.LENGTH - 1))
    assert answers == [] and reflector.refused == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="a port below 1024 needs root privileges")
def test_reflectors_do_not_answer_each_other() -> None:
    """Nor a sender at the standard port, whoever that is."""

    async def scene() -> None:
        reflector = Reflector(free_port(), lambda: None)
        running = asyncio.create_task(reflector.run())
        with closing(reflector):
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as made:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                made.bind(("::1", stamp.PORT))
                made.sendto(LAST, ("::1", reflector.port))
            await has_seen(reflector, 1)
            assert (reflector.answered, reflector.refused) == (0, 1)
        running.cancel()

    asyncio.run(asyncio.wait_for(scene(), 30))


def test_a_port_that_is_in_use() -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as taken:
        taken.bind(("::", 0))
        port = taken.getsockname()[1]
        with pytest.raises(HawkwingError, match=f"stamp_port {port} can't be used: Address already in use"):
            Reflector(port, lambda: None)
