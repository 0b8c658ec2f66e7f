"""A packet socket with a ring, which copies frames when they pass.

An ordinary packet socket only keeps a reference: on a virtual link the next router rewrites the destination
in place, and would change the captured frame.
"""

import ctypes
import mmap
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

from hawkwing.packet_filter import Program

ETH_P_ALL, ETH_P_IPV6, ETH_P_8021Q = 0x0003, 0x86DD, 0x8100
SIZE, FRAMES = 2048, 2048
"""Bytes per frame in the ring, with header, and the number of frames."""
_SOL_PACKET, _PACKET_RX_RING, _PACKET_STATISTICS, _PACKET_VERSION = 263, 5, 6, 10
_SO_ATTACH_FILTER = 26
_TPACKET_V2 = 1
_TP_STATUS_USER, _TP_STATUS_CSUM_NOT_READY = 1, 1 << 3
_TP_STATUS_VLAN_VALID, _TP_STATUS_VLAN_TPID_VALID = 1 << 4, 1 << 6
_BLOCK = 65536
_FRAME_HEADER = struct.Struct("=IIIHHIIHH")
_ADDRESS = struct.Struct("=2xHiHB")
_ADDRESS_AT = 32
_OUTGOING = 4
_BILLION = 10**9


class Captured(NamedTuple):
    """A frame: time in nanoseconds, and length on the link; `data` may be truncated.

    `unfinished`: its checksum is not computed yet. `bare`: it has no link-layer header.
    """

    data: bytes
    time: int
    length: int
    protocol: int
    outgoing: bool
    unfinished: bool
    bare: bool


class PacketRing:
    """The frames of an interface of this thread's network namespace, from its creation on."""

    def __init__(
        self,
        interface: str,
        size: int = SIZE,
        frames: int = FRAMES,
        program: Program | None = None,
        ethernet: bool = True,
    ) -> None:
        """Only frames that `program` accepts; without `ethernet`, packets from their IP header on."""
        self._size, self._frames = size, frames
        kind = socket.SOCK_RAW if ethernet else socket.SOCK_DGRAM
        # Without a protocol nothing arrives before the filter is there.
        self._socket = socket.socket(socket.AF_PACKET, kind | socket.SOCK_NONBLOCK, 0)
        try:
            if program is not None:
                attach(self._socket, program)
            self._socket.setsockopt(_SOL_PACKET, _PACKET_VERSION, _TPACKET_V2)
            ring = struct.pack("=IIII", _BLOCK, size * frames // _BLOCK, size, frames)
            self._socket.setsockopt(_SOL_PACKET, _PACKET_RX_RING, ring)
            self._socket.bind((interface, ETH_P_ALL))
            self._ring = mmap.mmap(self._socket.fileno(), size * frames)
        except BaseException:
            self._socket.close()
            raise
        self._next = 0

    def fileno(self) -> int:
        """The descriptor to wait for frames (select)."""
        return self._socket.fileno()

    def read(self) -> Iterator[Captured]:
        """The frames since the last call, with VLAN tags as on the wire."""
        while True:
            at = self._next * self._size
            header = _FRAME_HEADER.unpack_from(self._ring, at)
            status, length, kept, mac, net, seconds, nanoseconds, tag, tag_type = header
            if not status & _TP_STATUS_USER:
                return
            protocol, _index, _type, kind = _ADDRESS.unpack_from(self._ring, at + _ADDRESS_AT)
            data = self._ring[at + mac : at + mac + kept]
            struct.pack_into("=I", self._ring, at, 0)
            self._next = (self._next + 1) % self._frames
            if status & _TP_STATUS_VLAN_VALID and mac != net and len(data) >= 12:
                # The kernel stores a tag outside the frame; on the wire it is inside.
                known = status & _TP_STATUS_VLAN_TPID_VALID
                data = data[:12] + struct.pack("!HH", tag_type if known else ETH_P_8021Q, tag) + data[12:]
                length += 4
            yield Captured(
                data,
                seconds * _BILLION + nanoseconds,
                length,
                socket.ntohs(protocol),
                kind == _OUTGOING,
                bool(status & _TP_STATUS_CSUM_NOT_READY),
                mac == net,
            )

    def lost(self) -> int:
        """The number of frames since the last call that did not fit into the ring."""
        _seen, lost = struct.unpack("=II", self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
        return int(lost)

    def clear_error(self) -> None:
        """Clears a pending error of the socket, such as that of an interface that was set down."""
        self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)

    def close(self) -> None:
        """Stops the capture."""
        self._ring.close()
        self._socket.close()


def attach(to: socket.socket, program: Program) -> None:
    """Attaches a filter to a socket (struct sock_fprog)."""
    code = ctypes.create_string_buffer(program, len(program))
    to.setsockopt(
        socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(program) // 8, ctypes.addressof(code))
    )
