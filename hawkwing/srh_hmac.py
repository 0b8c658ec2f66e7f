"""The HMAC TLV of an SRH (RFC 8754, section 2.1.2): HMAC-SHA256, with the layout that Linux uses.

It is the last TLV: type 5, length 38, two bytes of zero, the key's number (4 bytes), the HMAC (32 bytes). The
HMAC covers the packet's source, the SRH's last entry and flags, the key's number, and all segments as they
are on the wire.
"""

from __future__ import annotations

import hmac
import struct
from dataclasses import dataclass, field
from ipaddress import IPv6Address

FLAG = 0x08
"""Of an SRH with this TLV; Linux requires it."""
LENGTH = 40
"""Bytes of the TLV."""
MAX_SECRET = 64
"""Bytes of a secret, as in Linux."""
MAX_SIGNED = 12
"""SIDs of a list in an SRH with an HMAC: VPP takes at most 256 bytes of SRH."""
_TYPE, _BEHIND_HEADER = 5, 38
_HEADER = struct.Struct("!BBHI")
_LENGTH_AT, _LAST_ENTRY_AT, _FLAGS_AT, _SEGMENTS_AT = 1, 4, 5, 8


@dataclass(frozen=True)
class Key:
    """A shared secret and its number."""

    number: int
    secret: bytes = field(repr=False)


def with_tlv(srh: bytes, number: int) -> bytes:
    """The SRH with its flag and a TLV whose HMAC is zero."""
    made = bytearray(srh)
    made[_LENGTH_AT] += LENGTH // 8
    made[_FLAGS_AT] |= FLAG
    return bytes(made) + _HEADER.pack(_TYPE, _BEHIND_HEADER, 0, number) + bytes(LENGTH - _HEADER.size)


def digest(source: IPv6Address, srh: bytes, key: Key) -> bytes:
    """The HMAC of a packet from this source with this SRH, whose flag is set, with a TLV or without."""
    end = _SEGMENTS_AT + 16 * (srh[_LAST_ENTRY_AT] + 1)
    covered = source.packed + struct.pack("!BBI", srh[_LAST_ENTRY_AT], srh[_FLAGS_AT], key.number)
    return hmac.digest(key.secret, covered + srh[_SEGMENTS_AT:end], "sha256")


def signed_to(source: IPv6Address, end: IPv6Address, srh: bytes, key: Key) -> bytes:
    """The same of an SRH whose segment[0], which is to be `end`, is blank."""
    made = signed(source, srh[:_SEGMENTS_AT] + end.packed + srh[_SEGMENTS_AT + 16 :], key)
    return made[:_SEGMENTS_AT] + srh[_SEGMENTS_AT : _SEGMENTS_AT + 16] + made[_SEGMENTS_AT + 16 :]


def signed(source: IPv6Address, srh: bytes, key: Key) -> bytes:
    """The SRH of a packet from this source with its HMAC TLV."""
    blank = with_tlv(srh, key.number)
    made = digest(source, blank, key)
    return blank[: -len(made)] + made
