"""Keys and values of the data plane's maps as bytes, as in bpf/types.h."""

import ctypes
import secrets
import struct
from collections.abc import Sequence
from ipaddress import IPv6Address

from hawkwing.dataplane.layout import limits, structures
from hawkwing.dataplane.next_hop import NextHop, pack
from hawkwing.sids import IPV6_HEADER, Encapsulated, back_of, ready_outer, ready_srh, wire_order
from hawkwing.srh_hmac import Key, signed, with_tlv

_ROUTE = struct.Struct("=IHBx")
_SERVICE = struct.Struct("=II")
BY_AGENT = 1


def way_back(back: Sequence[IPv6Address]) -> bytes:
    """`struct way_back` for a list in travel order; ValueError if it is empty or has too many SIDs."""
    made, limit = structures()["way_back"](), limits()
    if not 1 <= len(back) <= limit["HW_MAX_WAY_BACK"]:
        raise ValueError(f"a way back has 1 to {limit['HW_MAX_WAY_BACK']} SIDs, not {len(back)}")
    listed = b"".join(sid.packed for sid in wire_order(back))
    magic = limit["HW_WAY_BACK_MAGIC"] | len(back)
    option = limit["HW_WAY_BACK_OPTION"]
    header = struct.pack("!BBBBI", 0, len(listed) // 8, option, 4 + len(listed), magic) + listed
    made.length = len(header)
    ctypes.memmove(ctypes.addressof(made) + type(made).header.offset, header, len(header))
    return bytes(made)


def hmac_key(key: Key) -> bytes:
    """`struct hmac_key`."""
    return key.secret.ljust(ctypes.sizeof(structures()["hmac_key"]), b"\0")


def policy_bytes(
    sids: Sequence[IPv6Address],
    next_hop: NextHop | None = None,
    source: IPv6Address | None = None,
    key: Key | None = None,
) -> bytes:
    """`struct policy` for a segment list and the next hop of its first SID; an empty list clears the slot.

    `source` is that of the outer header, for encapsulation: without one the slot is empty. `key` signs SRHs.
    """
    policy = structures()["policy"]()
    if isinstance(sids, Encapsulated):
        policy.encapsulates = 1
        srh = b""
        if source is not None:
            srh = ready_outer(sids, source, with_srh=key is not None)
            if key is not None:
                srh = srh[: IPV6_HEADER.size] + signed(source, srh[IPV6_HEADER.size :], key)
    else:
        srh = ready_srh(sids) if sids else b""
        if srh and key is not None:
            srh = with_tlv(srh, key.number)
            policy.key_number = key.number
            policy.signed_as = secrets.randbits(64) | 1
    if len(srh) > ctypes.sizeof(policy) - type(policy).srh.offset:
        raise ValueError(f"an SRH of {len(srh)} bytes is too long")
    if srh:
        policy.srh_length = len(srh)
        policy.tells = bool(back_of(sids))
        policy.first_segment[:] = sids[0].packed
        policy.next_hop = pack(next_hop)
        ctypes.memmove(ctypes.addressof(policy) + type(policy).srh.offset, srh, len(srh))
    return bytes(policy)


def route_key(group: int, port: int, protocol: int) -> bytes:
    """`struct route_key`; converts `port` to network byte order."""
    return _ROUTE.pack(group, int.from_bytes(port.to_bytes(2, "big"), "little"), protocol)


def service_value(group: int, origin: int = BY_AGENT) -> bytes:
    """`struct service`."""
    return _SERVICE.pack(group, origin)


def name_key(name: str) -> bytes:
    """`struct name_key`: a domain name as in a DNS question (RFC 1035, section 3.1), in lower case."""
    labels = [label.encode("ascii") for label in name.rstrip(".").lower().split(".")]
    wire = b"".join(bytes([len(label)]) + label for label in labels)
    return wire.ljust(ctypes.sizeof(structures()["name_key"]), b"\0")
