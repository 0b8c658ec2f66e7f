"""Links, their clsact and its filters: read and changed by netlink."""

import errno
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from hawkwing.dataplane import netlink
from hawkwing.dataplane.netlink import Netlink, RefusedError, attributes, number_of, text_of

INGRESS, EGRESS = 0xFFFFFFF2, 0xFFFFFFF3
"""The two places of a clsact, as parents of filters."""
PARENTS = {"ingress": INGRESS, "egress": EGRESS}
ETH_P_ALL = 0x0003

_CLSACT, _CLSACT_HANDLE = 0xFFFFFFF1, 0xFFFF0000
_KIND, _OPTIONS, _CHAIN, _INGRESS_BLOCK, _EGRESS_BLOCK = 1, 2, 11, 13, 14
_BPF_FD, _BPF_NAME, _BPF_FLAGS, _BPF_ID, _BPF_DIRECT_ACTION = 6, 7, 8, 11, 1
_ADDRESS, _IFNAME, _STATS, _XDP, _PROP_LIST, _ALT_NAME = 1, 3, 23, 43, 52, 53
_XDP_FD, _XDP_FLAGS, _XDP_ID, _XDP_GENERIC_ID, _XDP_EXPECTED = 1, 3, 4, 6, 8
XDP_NEW, XDP_GENERIC, XDP_DRIVER, XDP_REPLACE = 1, 2, 4, 16
_LOWER, _MASTER, _LINK_INFO, _LINK_NAMESPACE, _INFO_KIND, _INFO_DATA = 5, 10, 18, 37, 1, 2
_GRE, _GRE_REMOTE = ("gre", "ip6gre"), 7
_LONGEST_NAME, _LONGEST_ALT_NAME = 15, 127
_UP = 0x1
_IFINFO = struct.Struct("=BxHiII")
_TCMSG = struct.Struct("=BxxxiIII")
_GONE = (errno.ENODEV, errno.ENOENT, errno.EINVAL, errno.ERANGE)


@dataclass(frozen=True)
class Link:
    """An interface; `type` is ARPHRD_*, `xdp` the id of its XDP program (0: none)."""

    index: int
    name: str
    type: int
    other_names: tuple[str, ...] = ()
    xdp: int = 0
    xdp_generic: bool = False
    received: int = 0
    sent: int = 0
    #: The interface below it, and the bridge, bond or VRF that it belongs to, if any.
    lower: int = 0
    master: int = 0
    #: As in `ip link add ... type KIND`, empty for hardware; and whether a GRE tunnel has one other end.
    kind: str = ""
    has_remote: bool = True
    link_layer: bytes = b""
    up: bool = False


class Qdisc(NamedTuple):
    """The queueing discipline: clsact or `ingress`. A block is shared with other interfaces."""

    kind: str
    blocks: tuple[int, ...] = ()


class Filter(NamedTuple):
    """A filter; `name` and `program` (its id) of a BPF program, `options` as reported by the kernel."""

    kind: str
    priority: int
    handle: int
    protocol: int
    chain: int = 0
    name: str = ""
    program: int = 0
    options: bytes = b""


def link(ip: Netlink, index: int = 0, name: str = "") -> Link | None:
    """An interface by index or by one of its names; None if it does not exist."""
    if name and len(name.encode()) > _LONGEST_ALT_NAME:
        return None
    wanted = b""
    if name:
        kind = _IFNAME if len(name.encode()) <= _LONGEST_NAME else _ALT_NAME
        wanted = netlink.attribute(kind, name)
    try:
        answer = ip.ask(netlink.GETLINK, _IFINFO.pack(0, 0, index, 0, 0) + wanted)
    except RefusedError as error:
        if error.errno in _GONE:
            return None
        raise
    return read_link(answer[0]) if answer else None


def links(ip: Netlink) -> list[Link]:
    """All interfaces of the namespace."""
    return [read_link(message) for message in ip.dump(netlink.GETLINK, _IFINFO.pack(0, 0, 0, 0, 0))]


def family_and_index(message: bytes) -> tuple[int, int]:
    """The interface index in a message about a link, a queueing discipline or a filter."""
    family, index = struct.unpack_from("=Bxxxi", message)
    return family, index


def read_link(message: bytes) -> Link:
    """A link in a message."""
    _family, kind, index, flags, _change = _IFINFO.unpack_from(message)
    found = attributes(message[_IFINFO.size :])
    properties = found.get(_PROP_LIST, b"")
    others = tuple(text_of(value) for kind, value in netlink.each_attribute(properties) if kind == _ALT_NAME)
    xdp = attributes(found.get(_XDP, b""))
    received, sent = struct.unpack_from("=QQ", found[_STATS]) if _STATS in found else (0, 0)
    info = attributes(found.get(_LINK_INFO, b""))
    made_as = text_of(info.get(_INFO_KIND, b""))
    return Link(
        index,
        text_of(found.get(_IFNAME, b"")),
        kind,
        others,
        number_of(xdp.get(_XDP_ID, b"")),
        _XDP_GENERIC_ID in xdp,
        received,
        sent,
        _lower(found, made_as),
        number_of(found.get(_MASTER, b"")),
        made_as,
        made_as not in _GRE or any(attributes(info.get(_INFO_DATA, b"")).get(_GRE_REMOTE, b"")),
        found.get(_ADDRESS, b""),
        bool(flags & _UP),
    )


def _lower(found: Mapping[int, bytes], kind: str) -> int:
    """The index of the lower link; 0 if it is in another namespace, or is the other end of a veth."""
    if _LINK_NAMESPACE in found or kind == "veth":
        return 0
    return number_of(found.get(_LOWER, b""))


def set_xdp(ip: Netlink, index: int, program: int, flags: int, instead_of: int | None = None) -> None:
    """Sets the XDP program of an interface (-1: none); `instead_of` is the expected current one."""
    values: dict[int, bytes | int | str] = {_XDP_FD: program, _XDP_FLAGS: flags}
    if instead_of is not None:
        values = {_XDP_FD: program, _XDP_FLAGS: flags | XDP_REPLACE, _XDP_EXPECTED: instead_of}
    ip.ask(netlink.SETLINK, _IFINFO.pack(0, 0, index, 0, 0) + netlink.nested(_XDP, values))


def qdisc(ip: Netlink, index: int) -> Qdisc | None:
    """The clsact or ingress queueing discipline of an interface."""
    # All are listed, because the kernel notifies all listeners of a request for a single one.
    for message in ip.dump(netlink.GETQDISC, _TCMSG.pack(0, index, 0, 0, 0)):
        _family, owner, _handle, parent, _info = _TCMSG.unpack_from(message)
        if owner == index and parent == _CLSACT:
            found = attributes(message[_TCMSG.size :])
            blocks = (number_of(found[kind]) for kind in (_INGRESS_BLOCK, _EGRESS_BLOCK) if kind in found)
            return Qdisc(text_of(found.get(_KIND, b"")), tuple(blocks))
    return None


def is_clsact(message: bytes) -> bool:
    """Whether a message is about a queueing discipline at the place of a clsact."""
    return bool(_TCMSG.unpack_from(message)[3] == _CLSACT)


def add_clsact(ip: Netlink, index: int) -> None:
    """Creates a clsact; RefusedError with EEXIST if something is in its place."""
    body = _TCMSG.pack(0, index, _CLSACT_HANDLE, _CLSACT, 0) + netlink.attribute(_KIND, "clsact")
    ip.ask(netlink.NEWQDISC, body, netlink.CREATE | netlink.EXCLUSIVE)


def remove_clsact(ip: Netlink, index: int) -> None:
    """Deletes the clsact with all its filters."""
    body = _TCMSG.pack(0, index, _CLSACT_HANDLE, _CLSACT, 0) + netlink.attribute(_KIND, "clsact")
    ip.ask(netlink.DELQDISC, body)


def filters(ip: Netlink, index: int, parent: int) -> list[Filter]:
    """The filters in one direction, in order of execution; none without a clsact."""
    try:
        answer = ip.dump(netlink.GETTFILTER, _TCMSG.pack(0, index, 0, parent, 0))
    except RefusedError as error:
        if error.errno in _GONE:
            return []
        raise
    # The kernel reports each priority once more, without a handle.
    found = [one for one in map(read_filter, answer) if one.handle]
    return sorted(found, key=lambda one: (one.chain, one.priority))


def read_filter(message: bytes) -> Filter:
    """A filter in a message."""
    _family, _index, handle, _parent, info = _TCMSG.unpack_from(message)
    found = attributes(message[_TCMSG.size :])
    kind, options = text_of(found.get(_KIND, b"")), found.get(_OPTIONS, b"")
    of_bpf = attributes(options) if kind == "bpf" else {}
    return Filter(
        kind,
        info >> 16,
        handle,
        _swapped(info & 0xFFFF),
        number_of(found.get(_CHAIN, b"")),
        text_of(of_bpf.get(_BPF_NAME, b"")),
        number_of(of_bpf.get(_BPF_ID, b"")),
        options,
    )


def put_filter(ip: Netlink, index: int, parent: int, place: tuple[int, int], program: int, name: str) -> None:
    """Adds a BPF program at a priority and handle; RefusedError (EEXIST) if they are in use."""
    _put(ip, index, parent, place, program, name, netlink.EXCLUSIVE)


def replace_filter(
    ip: Netlink, index: int, parent: int, place: tuple[int, int], program: int, name: str
) -> None:
    """Replaces a BPF program atomically."""
    _put(ip, index, parent, place, program, name, netlink.REPLACE)


def _put(
    ip: Netlink, index: int, parent: int, place: tuple[int, int], program: int, name: str, flag: int
) -> None:
    options: dict[int, bytes | int | str] = {
        _BPF_FD: program,
        _BPF_NAME: name,
        _BPF_FLAGS: _BPF_DIRECT_ACTION,
    }
    body = _place(index, parent, place) + netlink.nested(_OPTIONS, options)
    ip.ask(netlink.NEWTFILTER, body, netlink.CREATE | flag)


def remove_filter(ip: Netlink, index: int, parent: int, place: tuple[int, int]) -> None:
    """Deletes a BPF program that was added for all protocols."""
    ip.ask(netlink.DELTFILTER, _place(index, parent, place))


def _place(index: int, parent: int, place: tuple[int, int]) -> bytes:
    priority, handle = place
    info = priority << 16 | _swapped(ETH_P_ALL)
    return _TCMSG.pack(0, index, handle, parent, info) + netlink.attribute(_KIND, "bpf")


def _swapped(number: int) -> int:
    """Converts between network and host byte order."""
    return int(struct.unpack("=H", struct.pack("!H", number))[0])
