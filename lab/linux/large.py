"""Tests if this kernel forwards large TCP packets (GSO) with an SRH. Some kernels drop them.

Linux 6.12.117, 7.2 and 7.3, and some Ubuntu kernels, look for the TCP header of a forwarded packet at its
SRH, and drop the packet as malformed (SKB_BAD_GSO). The test forwards one. It uses only the standard library,
because `lab.doctor` imports it.
"""

from __future__ import annotations

import ctypes
import functools
import os
import socket
import struct
import subprocess
import threading
import time
from ipaddress import IPv6Address
from pathlib import Path

from lab.wait import patient

_CLONE_NEWNET = 0x40000000
_SOL_PACKET, _PACKET_VNET_HDR = 263, 15
_ETH_P_IPV6 = 0x86DD
_NEEDS_CHECKSUM, _GSO_TCPV6, _SEGMENT = 1, 4, 1000
_LARGE, _SMALL = 4000, 10
_SOURCE, _DESTINATION = IPv6Address("fd00:1::1"), IPv6Address("fd00:2::1")
_HARDWARE = [f"02:00:00:00:00:0{number}" for number in range(4)]
_NETWORK = "".join(
    f"link add large{one} type veth peer name large{one + 1}\n"
    f"link set large{one} address {_HARDWARE[one]} up\n"
    f"link set large{one + 1} address {_HARDWARE[one + 1]} up\n"
    for one in (0, 2)
)
_NETWORK += f"route add {_DESTINATION}/128 dev large2\n"
_NETWORK += f"neigh add {_DESTINATION} lladdr {_HARDWARE[3]} dev large2 nud permanent\n"
_PATIENCE = 10.0
_TYPES = Path("/sys/kernel/btf/vmlinux")
_lock = threading.Lock()


class UntriedError(Exception):
    """The test was not possible."""


def forwards_large() -> bool:
    """True also if the test is not possible: few kernels have the fault."""
    with _lock:
        return _forwards_large()


@functools.cache
def _forwards_large() -> bool:
    if not _may_drop():
        return True
    outcome = [True]

    def inside() -> None:
        # The namespace ends with this thread.
        if ctypes.CDLL(None).unshare(_CLONE_NEWNET) == 0:
            try:
                build()
                outcome[0] = ask()
            except (OSError, UntriedError):
                return

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    return outcome[0]


def _may_drop() -> bool:
    """Whether the kernel has this drop reason; a fast search for its name in the types (BTF)."""
    try:
        with _TYPES.open("rb") as file:
            _head, length, *_types, offset, size = struct.unpack("=4sIIIII", file.read(24))
            file.seek(length + offset)
            return b"SKB_BAD_GSO" in file.read(size)
    except (OSError, struct.error):
        return True


def build() -> None:
    """Two links in the calling thread's network namespace, which it forwards between."""
    for scope in ("all", "default"):
        Path(f"/proc/sys/net/ipv6/conf/{scope}/forwarding").write_text("1")
    done = subprocess.run(["ip", "-6", "-batch", "-"], input=_NETWORK, capture_output=True, text=True)
    if done.returncode:
        raise UntriedError(done.stderr.strip().splitlines()[-1])


def ask() -> bool:
    """Whether a large packet arrives, followed by a small one; UntriedError if the small one is lost, too."""
    with _packet_socket("large0", 0) as sender, _packet_socket("large3", _ETH_P_IPV6) as receiver:
        sender.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
        receiver.settimeout(0.1)
        # Packets sent by one CPU arrive in order.
        os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
        sender.send(_frame(_LARGE))
        end = time.monotonic() + patient(_PATIENCE)
        while time.monotonic() < end:
            sender.send(_frame(_SMALL))
            try:
                while True:
                    length = len(receiver.recv(65536))
                    if length > _LARGE:
                        return True
                    if length == len(_frame(_SMALL)) - _OFFLOAD.size:
                        return False
            except TimeoutError:
                continue
    raise UntriedError("no packet came through")


_OFFLOAD = struct.Struct("=BBHHHH")


def _packet_socket(interface: str, protocol: int) -> socket.socket:
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    opened.bind((interface, protocol))
    return opened


def _frame(size: int) -> bytes:
    """TCP with an SRH and one more hop; a large packet as before segmentation by a device."""
    srh = struct.pack("!BBBBBBH16s", 6, 2, 4, 0, 0, 0, 0, _DESTINATION.packed)
    tcp = struct.pack("!HHIIBBHHH", 1000, 2000, 1, 1, 5 << 4, 0x10, 1000, 0, 0)
    payload = srh + tcp + bytes(size)
    header = struct.pack("!IHBB16s16s", 6 << 28, len(payload), 43, 2, _SOURCE.packed, _DESTINATION.packed)
    ethernet = bytes.fromhex((_HARDWARE[1] + _HARDWARE[0]).replace(":", "")) + struct.pack("!H", _ETH_P_IPV6)
    start = len(ethernet) + len(header) + len(srh)
    kind, segment = (_GSO_TCPV6, _SEGMENT) if size > _SEGMENT else (0, 0)
    offload = _OFFLOAD.pack(_NEEDS_CHECKSUM, kind, start + len(tcp), segment, start, 16)
    return offload + ethernet + header + payload
