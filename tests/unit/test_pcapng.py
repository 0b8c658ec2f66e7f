"""Live captures: what is written is read by scapy and tcpdump; what tcpdump writes comes in any pieces."""

import io
import subprocess
from pathlib import Path

import pytest
from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.utils import PcapNgReader, RawPcapWriter

from hawkwing import pcapng
from hawkwing.pcapng import Record
from lab.pcap import PcapStream

START = 1_800_000_000_123_456_789
FRAMES = [
    bytes(Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / IPv6(src="fd00::1", dst="fd00::2") / data)
    for data in (UDP() / b"x", UDP() / b"four", UDP() / bytes(1400))
]


def written() -> bytes:
    """Three frames of two interfaces, the last one captured in part."""
    records = [Record(START + number, frame, len(frame)) for number, frame in enumerate(FRAMES)]
    records[2] = Record(START + 2, FRAMES[2][:100], len(FRAMES[2]))
    blocks = [
        pcapng.section(),
        pcapng.interface("a-b@a", "eth0 of a"),
        pcapng.interface("a-b@b", "eth0 of b"),
    ]
    blocks += [pcapng.packet(number % 2, one, outbound=number == 0) for number, one in enumerate(records)]
    return b"".join(blocks)


def test_scapy_reads_it() -> None:
    packets = list(PcapNgReader(io.BytesIO(written())))
    assert [bytes(packet) for packet in packets] == [*FRAMES[:2], FRAMES[2][:100]]
    assert [packet.sniffed_on for packet in packets] == ["a-b@a", "a-b@b", "a-b@a"]
    assert [packet.direction for packet in packets] == [2, 1, 1]
    assert packets[2].wirelen == len(FRAMES[2])
    assert [int(packet.time * 10**9) for packet in packets] == [START, START + 1, START + 2]


def test_tcpdump_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "two.pcapng"
    file.write_bytes(written())
    done = subprocess.run(["tcpdump", "-nnr", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("IP6 fd00::1") == 3 and "truncated" not in done.stderr


@pytest.mark.parametrize("size", [1, 7, 16, 1000, 100_000])
def test_a_stream_in_pieces(tmp_path: Path, size: int) -> None:
    file = tmp_path / "stream.pcap"
    with RawPcapWriter(str(file), linktype=1, nano=True) as writer:
        writer.write_header(None)
        for number, frame in enumerate(FRAMES):
            writer.write_packet(frame, sec=1_800_000_000, usec=number, caplen=len(frame), wirelen=len(frame))
    data, stream = file.read_bytes(), PcapStream()
    assert list(stream.feed(data[:20])) == [] and not stream.begun
    found = [one for at in range(20, len(data), size) for one in stream.feed(data[at : at + size])]
    assert stream.begun
    assert [one.data for one in found] == FRAMES
    assert [one.time for one in found] == [1_800_000_000 * 10**9 + number for number in range(3)]
    assert [one.length for one in found] == [len(frame) for frame in FRAMES]


def test_another_stream_is_refused() -> None:
    with pytest.raises(ValueError, match="not a pcap stream with nanoseconds"):
        list(PcapStream().feed(bytes(24)))
