"""Compressed SIDs (RFC 9800, NEXT-C-SID): several SIDs of a block in one address, a container.

A container has the block's prefix, then C-SIDs of 16 bits in travel order, then zeros. An address is a
container only inside a configured block: fcbb:bb00:1:2:: is a container of two C-SIDs of fcbb:bb00::/32, or
one SID of another network.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network

from hawkwing.sids import Returning, SidList, alike

LENGTH = 16
"""Bits of a C-SID."""
MAX_BLOCKS = 4
BLOCK_LENGTHS = (16, 32, 48)
"""Bits of a block's prefix."""
FIRST_LOCAL = 0xE000
"""C-SIDs from this one on are local to a router, unless another number is configured."""
_WORDS = 8


@dataclass(frozen=True)
class Block:
    """A block of C-SIDs; those from `local` on name a link of one router, and so one direction."""

    prefix: IPv6Network
    local: int = FIRST_LOCAL

    @property
    def room(self) -> int:
        """Number of C-SIDs that fit into a container."""
        return _WORDS - self.prefix.prefixlen // LENGTH

    def csids(self, address: IPv6Address) -> tuple[int, ...]:
        """The C-SIDs of a container in travel order; none if the address is not a container of this block."""
        if address not in self.prefix:
            return ()
        packed = address.packed
        words = [int.from_bytes(packed[at : at + 2], "big") for at in range(0, 16, 2)][_WORDS - self.room :]
        while words and not words[-1]:
            words.pop()
        return tuple(words) if all(words) else ()

    def container(self, csids: Sequence[int]) -> IPv6Address:
        """The address with these C-SIDs; ValueError if they don't fit, or one is 0."""
        if not 1 <= len(csids) <= self.room or not all(0 < csid < 1 << LENGTH for csid in csids):
            raise ValueError(f"a container of {self.prefix} has 1 to {self.room} C-SIDs from 1 to 65535")
        value = 0
        for csid in csids:
            value = value << LENGTH | csid
        return IPv6Address(int(self.prefix.network_address) | value << LENGTH * (self.room - len(csids)))


def block_of(address: IPv6Address, blocks: Iterable[Block]) -> Block | None:
    """The block that this address is a container of."""
    return next((block for block in blocks if block.csids(address)), None)


def pack(sids: SidList, blocks: Sequence[Block]) -> SidList:
    """The list with neighbouring SIDs of one block in containers; other SIDs stay as they are."""
    if not blocks:
        return alike(sids, sids)
    packed: list[IPv6Address] = []
    open_block: Block | None = None
    carried: list[int] = []
    for sid in sids:
        block = block_of(sid, blocks)
        csids = block.csids(sid) if block is not None else ()
        if block is not None and block == open_block and len(carried) + len(csids) <= block.room:
            carried += csids
            packed[-1] = block.container(carried)
        else:
            open_block, carried = block, list(csids)
            packed.append(sid)
    made = alike(sids, packed)
    return Returning(made, pack(made.back, blocks)) if isinstance(made, Returning) else made


def unpack(sids: Iterable[IPv6Address], blocks: Sequence[Block]) -> SidList:
    """Single SIDs: each C-SID follows its block in a separate address."""
    found: list[IPv6Address] = []
    for sid in sids:
        block = block_of(sid, blocks)
        found += [sid] if block is None else [block.container([csid]) for csid in block.csids(sid)]
    return tuple(found)
