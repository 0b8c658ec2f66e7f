"""VPP's traces as its console prints them, and the frames of a capture that belong to each."""

from scapy.layers.inet import TCP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrSegmentRouting
from scapy.layers.l2 import Ether

from lab.trace import Trace, matched, traces
from lab.wire import Filter, Frame

SECONDS, NANOSECONDS = 0x6926F000, 0x0BEBC200
ARRIVED = SECONDS + NANOSECONDS / 1e9
PRINTED = f"""\
------------------- Start of thread 0 vpp_main -------------------
Packet 1

00:00:05:100001: af-packet-input
  af_packet: hw_if_index 2 rx-queue 0 next-index 4
    tpacket2_hdr:
      status 0x20000001 len 134 snaplen 134 mac 94 net 108
      sec 0x{SECONDS:x} nsec 0x{NANOSECONDS:x} vlan 0
    vnet-hdr:
      flags 0x01 gso_type 0x00 hdr_len 0
      gso_size 0 csum_start 94 csum_offset 16
00:00:05:100005: ethernet-input
  IP6: 02:00:00:00:00:01 -> 02:00:00:00:00:02
00:00:05:100010: host-vpp5-output
  host-vpp5
00:00:05:100012: host-vpp5-tx
  af_packet: hw_if_index 3 tx-queue 0

Packet 2

00:00:05:200001: af-packet-input
  af_packet: hw_if_index 2 rx-queue 0 next-index 4
    tpacket2_hdr:
      status 0x20000001 len 54 snaplen 54 mac 94 net 108
      sec 0x{SECONDS:x} nsec 0x{NANOSECONDS + 900_000:x} vlan 0
00:00:05:200004: ip6-drop
  fib:0 adj:1 flow:0x00000000
00:00:05:200005: drop
  ip6-input: no forwarding route

Packet 3

00:00:05:300001: ip6-icmp-error
  from no device

------------------- Start of thread 1 vpp_wk_0 -------------------
No packets in trace buffer
"""
DEVICES = {"vpp1": "vpp1-vpp3", "vpp5": "vpp3-vpp5"}


def frame(packet: IPv6, link: str, sender: str, after: float) -> Frame:
    """So many seconds after the first packet came."""
    data = bytes(Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / packet)
    return Frame(data, ARRIVED + after, link, sender, len(data))


def steered(destination: str, left: int, port: int = 80) -> IPv6:
    """A request on its way over two SIDs."""
    header = IPv6ExtHdrSegmentRouting(addresses=["fd00::b", "fd00:5::2", "fd00:3::2"], segleft=left, len=6)
    return IPv6(src="fd00::a", dst=destination) / header / TCP(sport=4000, dport=port)


def test_each_packet_with_its_way_time_and_length() -> None:
    first, second = traces(PRINTED)
    assert first.nodes == ("af-packet-input", "ethernet-input", "host-vpp5-output", "host-vpp5-tx")
    assert (first.time, first.length) == (SECONDS * 10**9 + NANOSECONDS, 134)
    assert first.sent_on == "vpp5"
    assert first.text.startswith("00:00:05:100001: af-packet-input\n") and first.text.endswith("tx-queue 0")
    assert second.nodes[-1] == "drop" and second.sent_on is None
    assert second.text.endswith("no forwarding route")
    assert traces("No packets in trace buffer\n") == []


def test_frames_of_a_packet_that_is_passed_on() -> None:
    came = frame(steered("fd00:3::2", 2), "vpp1-vpp3", "vpp1", 0.000_020)
    other = frame(steered("fd00:3::2", 2, 81), "vpp1-vpp3", "vpp1", 0.002)
    left = frame(steered("fd00:5::2", 1), "vpp3-vpp5", "vpp3", 0.000_300)
    other_left = frame(steered("fd00:5::2", 1, 81), "vpp3-vpp5", "vpp3", 0.000_100)
    earlier = frame(steered("fd00:5::2", 1), "vpp3-vpp5", "vpp3", -0.000_100)
    elsewhere = frame(steered("fd00:5::2", 1), "vpp1-vpp3", "vpp3", 0.000_200)
    trace = Trace("text", ("af-packet-input", "host-vpp5-tx"), int(ARRIVED * 1e9), came.length)
    frames = [earlier, other, came, elsewhere, other_left, left]
    (found,) = matched(frames, [trace], "vpp3", DEVICES, Filter(port=80))
    assert (found.came, found.left) == (came, left)
    assert matched(frames, [trace], "vpp3", DEVICES, Filter(port=81)) == []


def test_frames_of_a_packet_that_is_dropped_or_not_captured() -> None:
    came = frame(steered("fd00:3::2", 2), "vpp1-vpp3", "vpp1", 0.0)
    left = frame(steered("fd00:5::2", 1), "vpp3-vpp5", "vpp3", 0.0001)
    dropped = Trace("text", ("af-packet-input", "drop"), int(ARRIVED * 1e9), came.length)
    (found,) = matched([came, left], [dropped], "vpp3", DEVICES, Filter())
    assert (found.came, found.left) == (came, None)
    for late, more in ((10**8, 0), (0, 1)):
        unseen = Trace("text", dropped.nodes, dropped.time + late, dropped.length + more)
        assert matched([came, left], [unseen], "vpp3", DEVICES, Filter()) == []


def test_equal_packets_one_after_the_other() -> None:
    came = [frame(steered("fd00:3::2", 2), "vpp1-vpp3", "vpp1", at) for at in (0.0, 0.001)]
    left = [frame(steered("fd00:5::2", 1), "vpp3-vpp5", "vpp3", at) for at in (0.0005, 0.0015)]
    nodes = ("af-packet-input", "host-vpp5-tx")
    found = [Trace("text", nodes, int(one.time * 1e9) + 5_000, one.length) for one in came]
    passed = matched([*came, *left], found, "vpp3", DEVICES, Filter())
    assert [(one.came, one.left) for one in passed] == list(zip(came, left, strict=True))
