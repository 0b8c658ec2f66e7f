"""The way back over a list with containers (RFC 9800), in plain Python: what a server's program does."""

from collections.abc import Sequence
from ipaddress import IPv6Address

from hawkwing.csid import Block, block_of
from hawkwing.sids import SidList


def back(sids: Sequence[IPv6Address], blocks: Sequence[Block]) -> SidList | None:
    """The way back over a list with containers: entries and C-SIDs in reverse order.

    None where a C-SID names one direction only.
    """
    reverse: list[IPv6Address] = []
    for sid in reversed(sids):
        block = block_of(sid, blocks)
        if block is None:
            reverse.append(sid)
            continue
        csids = block.csids(sid)
        if any(csid >= block.local for csid in csids):
            return None
        reverse.append(block.container(csids[::-1]))
    return tuple(reverse)
