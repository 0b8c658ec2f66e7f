"""Loss on a link without netem: a BPF program, behind all others, on what leaves an interface.

The program drops a packet without an error for its sender, as netem does, and counts it.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
from contextlib import closing, suppress

from hawkwing.dataplane import bpf, tc
from hawkwing.dataplane.netlink import Netlink, RefusedError

NAME = "loss"
_PLACE = 0xFFFF, 1
"""The last priority, so that agents see and count the packet first; the handle."""
_COUNTER = bpf.MapInfo(2, 0, 4, 8, 1, 0, NAME)
"""An array (BPF_MAP_TYPE_ARRAY) with one number of 8 bytes."""
_KEY = bytes(4)
_UNSPEC, _STOLEN = -1, 4
"""TC_ACT_UNSPEC: go on. TC_ACT_STOLEN: the packet is dropped, and its sender is told that it was sent."""
_RANDOM, _LOOK_UP = 7, 1
"""The helpers bpf_get_prandom_u32 and bpf_map_lookup_elem."""
_INSTRUCTION = struct.Struct("=BBhi")


def program(percent: float, counter: int) -> bytes:
    """The instructions that drop so many percent of all packets; `counter` is the descriptor of the map."""
    most = int(percent / 100 * 2**32)
    text = [
        (0x85, 0x00, 0, _RANDOM),
        (0xA6, 0x00, 2, most - 2**32 if most >= 2**31 else most),  # if w0 < most: skip two
        (0xB7, 0x00, 0, _UNSPEC),
        (0x95, 0x00, 0, 0),
        (0x62, 0x0A, -4, 0),  # the key 0 on the stack
        (0xBF, 0xA2, 0, 0),
        (0x07, 0x02, 0, -4),
        (0x18, 0x11, 0, counter),  # r1 = the map, in two words
        (0x00, 0x00, 0, 0),
        (0x85, 0x00, 0, _LOOK_UP),
        (0x15, 0x00, 2, 0),
        (0xB7, 0x01, 0, 1),
        (0xDB, 0x10, 0, 0),  # lock *(u64 *)r0 += r1
        (0xB7, 0x00, 0, _STOLEN),
        (0x95, 0x00, 0, 0),
    ]
    return b"".join(_INSTRUCTION.pack(*instruction) for instruction in text)


def set_loss(interface: str, percent: float) -> None:
    """Drops so many percent of what leaves an interface of this thread's namespace; 0: none any more."""
    with Netlink() as ip:
        found = tc.link(ip, name=interface)
        if found is None:
            return
        with suppress(RefusedError):
            tc.remove_filter(ip, found.index, tc.EGRESS, _PLACE)
        if percent:
            _put(ip, found.index, percent)
        elif not any(tc.filters(ip, found.index, parent) for parent in tc.PARENTS.values()):
            with suppress(RefusedError):
                tc.remove_clsact(ip, found.index)


def _put(ip: Netlink, index: int, percent: float) -> None:
    try:
        tc.add_clsact(ip, index)
    except RefusedError as error:
        if error.errno != errno.EEXIST:
            raise
    counter = bpf.create_map(_COUNTER)
    try:
        loaded = bpf.load_program(NAME, program(percent, counter))
        try:
            tc.put_filter(ip, index, tc.EGRESS, _PLACE, loaded, NAME)
        finally:
            os.close(loaded)
    finally:
        os.close(counter)


def dropped(ip: Netlink, index: int) -> int | None:
    """How many packets the program on an interface has dropped; None where there is no such program."""
    for one in tc.filters(ip, index, tc.EGRESS):
        if (one.priority, one.handle, one.name) == (*_PLACE, NAME):
            return _counted(one.program)
    return None


def _counted(number: int) -> int | None:
    """None if the program has gone meanwhile."""
    try:
        found = bpf.program_by_id(number)
    except OSError:
        return None
    try:
        (counter,) = bpf.program_info(found).map_ids
        with closing(bpf.Map(bpf.map_by_id(counter))) as numbers:
            raw = numbers.get(_KEY) or bytes(8)
    except OSError:
        return None
    finally:
        os.close(found)
    return int.from_bytes(raw, sys.byteorder)
