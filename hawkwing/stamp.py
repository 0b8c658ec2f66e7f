"""Packets of the Simple Two-Way Active Measurement Protocol (RFC 8762), unauthenticated mode. No I/O.

    sender:     number time error SSID zeros                                    TLVs
    reflector:  number time error SSID received number time error hop-limit ... TLVs

Both are in network byte order and equally long. TLVs are those of RFC 8972.
"""

from __future__ import annotations

import struct
import time

PORT = 862
LENGTH = 44
"""Of a packet without TLVs, in bytes."""
_SENDER = struct.Struct("!IQHH28x")
_REFLECTOR = struct.Struct("!IQHHQIQHxxBxxx")
_NUMBER_AND_TIME = struct.Struct("!IQ")
_TLV = struct.Struct("!BBH")
_UNRECOGNIZED, _MALFORMED = 0x80, 0x40
EXTRA_PADDING = 1
VALUE_AT = LENGTH + _TLV.size
"""Offset of the value of the first TLV, in bytes."""
_ERROR_ESTIMATE = 0x1F01
"""Clock not synchronized, NTP timestamps, error at most half a second."""
_SECONDS_TO_1970 = 2_208_988_800
_NANO = 1_000_000_000


def timestamp(nanoseconds: int) -> int:
    """An NTP timestamp (seconds since 1900, 32 binary places) of nanoseconds since 1970."""
    seconds, rest = divmod(nanoseconds, _NANO)
    return ((seconds + _SECONDS_TO_1970) % 2**32) << 32 | (rest << 32) // _NANO


def padding(value: bytes) -> bytes:
    """An Extra Padding TLV (RFC 8972, section 4.1), which a reflector copies."""
    return _TLV.pack(_UNRECOGNIZED, EXTRA_PADDING, len(value)) + value


def request(number: int, nanoseconds: int, session: int, tlvs: bytes = b"") -> bytes:
    """A Session-Sender's packet; `nanoseconds` since 1970, `session` is the SSID (RFC 8972, section 3)."""
    return _SENDER.pack(number % 2**32, timestamp(nanoseconds), _ERROR_ESTIMATE, session) + tlvs


def renew(packet: bytearray, number: int, nanoseconds: int) -> None:
    """Gives a Session-Sender's packet another number and time."""
    _NUMBER_AND_TIME.pack_into(packet, 0, number % 2**32, timestamp(nanoseconds))


def without_number(packet: bytes) -> bytes:
    """The packet with zeros for number and time."""
    return bytes(_NUMBER_AND_TIME.size) + packet[_NUMBER_AND_TIME.size :]


def reflected(packet: bytes, received: int, hop_limit: int, now: int | None = None) -> bytes | None:
    """A Session-Reflector's answer (stateless mode); None if the packet is too short.

    `received` and `now` are nanoseconds since 1970.
    """
    if len(packet) < LENGTH:
        return None
    number, sent, error, session = _SENDER.unpack_from(packet)
    answer = _REFLECTOR.pack(
        number,
        timestamp(time.time_ns() if now is None else now),
        _ERROR_ESTIMATE,
        session,
        timestamp(received),
        number,
        sent,
        error,
        hop_limit,
    )
    return answer + _answered(packet[LENGTH:])


def _answered(tlvs: bytes) -> bytes:
    """The TLVs with the flags that a reflector sets (RFC 8972, section 4)."""
    found = bytearray(tlvs)
    at = 0
    while at < len(found):
        if at + _TLV.size > len(found):
            found[at] |= _MALFORMED
            break
        flags, kind, length = _TLV.unpack_from(found, at)
        if at + _TLV.size + length > len(found):
            found[at] = flags | _MALFORMED
            break
        found[at] = flags & ~_UNRECOGNIZED if kind == EXTRA_PADDING else flags | _UNRECOGNIZED
        at += _TLV.size + length
    return bytes(found)
