"""The HMAC TLV of an SRH, in plain Python from RFC 8754, section 2.1.2."""

import hmac
import struct
from random import Random

from tests.dataplane import plain as p

TLV = 40
FLAG = 0x08
MOST_SEGMENTS = 16
_IPV6_HEADER, _ETHERNET = 40, 14


def code(secret: bytes, source: bytes, number: int, srh: bytes) -> bytes:
    """The HMAC of a packet from `source` with this SRH, of which only the fixed part and segments count."""
    segments = srh[8 : 8 + 16 * (srh[4] + 1)]
    return hmac.digest(secret, source + srh[4:6] + struct.pack("!I", number) + segments, "sha256")


def signed(srh: bytes, secret: bytes, source: bytes, number: int) -> bytes:
    """The SRH with its flag and the TLV behind all it has."""
    srh = srh[:1] + bytes([srh[1] + TLV // 8]) + srh[2:5] + bytes([srh[5] | FLAG]) + srh[6:]
    return srh + struct.pack("!BBHI", 5, 38, 0, number) + code(secret, source, number, srh)


def judge(keys: dict[int, bytes], source: bytes, srh: bytes, count: int) -> str:
    """Why the SRH, with `count` segments, isn't signed with one of the keys; empty if it is."""
    kind, size, number = struct.unpack_from("!BBxxI", srh, max(len(srh) - TLV, 0))
    fits = count <= MOST_SEGMENTS and len(srh) >= 8 + 16 * count + TLV
    if not srh[5] & FLAG or not fits or (kind, size) != (5, 38) or number not in keys:
        return "HMAC_MISSING"
    return "" if srh[-32:] == code(keys[number], source, number, srh) else "HMAC_WRONG"


def sign_frame(frame: bytes, keys: dict[int, bytes], random: Random) -> bytes:
    """A frame whose SRH has room for it is signed by one of the keys; now and then a bit of it is wrong."""
    packet = frame[_ETHERNET:]
    place, at = 6, _IPV6_HEADER
    if len(packet) > 48 and packet[6] == p.HOP_BY_HOP and packet[40] == p.ROUTING:
        place, at = _IPV6_HEADER, _IPV6_HEADER + 8 * (packet[41] + 1)
    if len(packet) < at + 24 or frame[12:14] != b"\x86\xdd" or packet[place] != p.ROUTING:
        return frame
    end = at + 8 * (packet[at + 1] + 1)
    (length,) = struct.unpack_from("!H", packet, 4)
    if end > len(packet) or packet[at + 1] + TLV // 8 > 255 or length + TLV > 65535:
        return frame
    number = random.choice(sorted(keys))
    srh = bytearray(signed(packet[at:end], keys[number], packet[8:24], number))
    if random.random() < 0.1:
        srh[random.randrange(len(srh))] ^= 1 << random.randrange(8)
    head = packet[:4] + struct.pack("!H", length + TLV if length else 0) + packet[6:at]
    return frame[:_ETHERNET] + head + bytes(srh) + packet[end:]
