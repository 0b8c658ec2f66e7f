"""Has the data plane send many probes at once (bpf/send_probes.h)."""

from __future__ import annotations

import ctypes
import struct

from hawkwing.dataplane.bpf import Map, Runner
from hawkwing.dataplane.layout import limits, structures
from hawkwing.ready_probe import ReadyProbe

_U32, _U64 = struct.Struct("=I"), struct.Struct("=Q")
_FIRST = _U32.pack(0)
_REQUEST = struct.Struct("=5I8s")
_ETHERNET = 14
_IPV6 = b"\x86\xdd"


class ProbeSender:
    """The probes that the data plane can send without asking the kernel for their next hops."""

    def __init__(self, program: int, table: Map, unsent: Map) -> None:
        self._table, self._unsent = table, unsent
        most = limits()["HW_MAX_READY_PROBE"] - 2
        self._runner = Runner(program, most)
        # The kernel takes the packet for IPv6 then, and so do other programs on the interfaces.
        struct.pack_into("2s", self._runner.packet, _ETHERNET - 2, _IPV6)
        self._at_once = limits()["HW_PROBES_AT_ONCE"]
        self.most = table.info.max_entries
        self.longest = most

    def put(
        self, index: int, probe: ReadyProbe, link: int, first: int, time_at: int, number_at: int = 0
    ) -> None:
        """Sets a probe; `first` is the round with the number 0, both offsets are those of its content."""
        ready = structures()["ready_probe"]()
        ready.link, ready.length, ready.first = link, len(probe.content) - 2, first % 2**32
        ready.sum, ready.checksum_at = probe.total, probe.checksum_at
        ready.time_at, ready.number_at = time_at, number_at
        ctypes.memmove(ctypes.addressof(ready) + type(ready).bytes.offset, probe.content, len(probe.content))
        self._table.set(_U32.pack(index), bytes(ready))

    def send(self, count: int, number: int, ntp: int, every: int, turn: int) -> list[int]:
        """Sends the first `count` probes of a round; returns the indexes of those that were not sent.

        Those whose index modulo `every` is `turn` are left out. `ntp` is a timestamp as in STAMP.
        """
        missing: list[int] = []
        time, runner = ntp.to_bytes(8, "big"), self._runner
        for index in range(0, count, self._at_once):
            some = min(count - index, self._at_once)
            _REQUEST.pack_into(runner.packet, _ETHERNET, index, some, number % 2**32, every, turn, time)
            try:
                if not runner.run():
                    continue
                (bits,) = _U64.unpack(self._unsent.get(_FIRST) or b"")
            except OSError:
                bits = -1
            missing += [index + bit for bit in range(some) if bits >> bit & 1]
        return missing
