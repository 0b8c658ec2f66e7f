"""IOAM in a Hop-by-Hop option (RFC 9197, RFC 9486): the data of each router on a probe's path. No I/O.

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +---------------+---------------+---------------+---------------+
    |  next header  | header length |     PadN      |       0       |
    +---------------+---------------+---------------+---------------+
    |  type (0x31)  | option length |   reserved    |  0 (pre-all.) |
    +---------------+---------------+---------------+---------------+
    |       namespace ID            |node len | flags | rem. length |
    +---------------+---------------+---------------+---------------+
    |             trace type (0xf00000)             |   reserved    |
    +---------------+---------------+---------------+---------------+
    |  room for the data of the last node .. of the first node      |

The trace type asks each node for 16 bytes: hop limit (1) and node ID (3), ingress (2) and egress interface
(2), seconds (4), and a fraction of them (4).
"""

import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

MOST_NODES = 15
"""An option has at most 255 bytes behind its length."""

MOST_NAMESPACE = 0xFFFF
_PADN, _OPTION, _PREALLOCATED, _TRACE_TYPE = 1, 0x31, 0, 0xF00000
_OVERFLOW = 0x8
_NODE = struct.Struct("!IHHII")
_OPTION_HEAD, _TRACE_HEAD = 2, 8
_NOT_SET_NODE, _NOT_SET_INTERFACE = 0xFFFFFF, 0xFFFF
_MICROSECONDS = 1_000_000


@dataclass(frozen=True)
class Node:
    """The data of a router; None: not set. `at` is its clock, in seconds."""

    hop_limit: int
    node: int | None
    ingress: int | None
    egress: int | None
    at: float | None


@dataclass(frozen=True)
class Trace:
    """The routers in travel order; `overflow`: there were more than fit into the option."""

    namespace: int
    nodes: tuple[Node, ...]
    overflow: bool = False


def option(namespace: int, nodes: int = MOST_NODES) -> bytes:
    """A Hop-by-Hop header with space for a number of nodes; the kernel sets the next header."""
    if not 1 <= nodes <= MOST_NODES or not 0 <= namespace <= MOST_NAMESPACE:
        raise ValueError(f"an option has room for 1 to {MOST_NODES} nodes, a namespace ID has 16 bits")
    words = nodes * _NODE.size // 4
    head = bytes([0, (8 + _TRACE_HEAD + words * 4) // 8 - 1, _PADN, 0])
    head += bytes([_OPTION, 2 + _TRACE_HEAD + words * 4, 0, _PREALLOCATED])
    trace = struct.pack("!HHI", namespace, _NODE.size // 4 << 11 | words, _TRACE_TYPE << 8)
    return head + trace + bytes(words * 4)


def read(header: bytes) -> Trace | None:
    """The data in a returned Hop-by-Hop header; None: no such option, or one with another format."""
    at = 2
    while at + 2 <= len(header):
        if header[at] == 0:  # Pad1 has no length.
            at += 1
            continue
        end = at + 2 + header[at + 1]
        if header[at] == _OPTION and end <= len(header):
            return _trace(header[at + _OPTION_HEAD : end])
        at = end
    return None


def _trace(body: bytes) -> Trace | None:
    if len(body) < 2 + _TRACE_HEAD or body[1] != _PREALLOCATED:
        return None
    namespace, lengths, kind = struct.unpack_from("!HHI", body, 2)
    unused = (lengths & 0x7F) * 4
    data = body[2 + _TRACE_HEAD :]
    used = data[unused:]
    if kind >> 8 != _TRACE_TYPE or lengths >> 11 != _NODE.size // 4 or len(used) % _NODE.size:
        return None
    if unused > len(data):
        return None
    places = range(len(used) - _NODE.size, -1, -_NODE.size)
    nodes = tuple(_node(used, place) for place in places)
    return Trace(namespace, nodes, bool(lengths >> 7 & _OVERFLOW))


def _node(data: bytes, at: int) -> Node:
    first, ingress, egress, seconds, fraction = _NODE.unpack_from(data, at)
    node = first & 0xFFFFFF
    # POSIX time with microseconds, as in Linux; a larger fraction has another format.
    known = seconds != 0xFFFFFFFF and fraction < _MICROSECONDS
    return Node(
        first >> 24,
        None if node == _NOT_SET_NODE else node,
        None if ingress == _NOT_SET_INTERFACE else ingress,
        None if egress == _NOT_SET_INTERFACE else egress,
        seconds + fraction / _MICROSECONDS if known else None,
    )


def ways(nodes: Sequence[Node]) -> list[str]:
    """`there` or `back` for each; empty texts if the return path does not mirror the forward path."""
    known = [node.node for node in nodes]
    if len(known) % 2 == 0 or None in known or known != known[::-1]:
        return [""] * len(known)
    half = len(known) // 2
    return ["there"] * (half + 1) + ["back"] * half


def as_json(trace: Trace) -> dict[str, Any]:
    """For --json: delays in milliseconds, by the clocks of two routers."""
    hops = []
    before: float | None = None
    for node, way in zip(trace.nodes, ways(trace.nodes), strict=True):
        delay = round((node.at - before) * 1000, 3) if node.at is not None and before is not None else None
        hops.append(
            {
                "way": way or None,
                "node": node.node,
                "ingress": node.ingress,
                "egress": node.egress,
                "hop_limit": node.hop_limit,
                "time": node.at,
                "delay_ms": delay,
            }
        )
        before = node.at
    return {"namespace": trace.namespace, "overflow": trace.overflow, "hops": hops}


def lines(trace: Trace) -> list[str]:
    """The hops as a table."""
    told = [f"IOAM namespace {trace.namespace}: {len(trace.nodes)} hops, by the clocks of the routers"]
    if trace.nodes:
        told.append(
            f"  {'way':<6}{'node':>9}{'from':>7}{'to':>7}{'hop limit':>11}  {'time':<17}{'delay':>10}"
        )
    for hop in as_json(trace)["hops"]:
        clock = "-"
        if hop["time"] is not None:
            whole = int(hop["time"])
            microseconds = round((hop["time"] - whole) * _MICROSECONDS) % _MICROSECONDS
            clock = time.strftime("%H:%M:%S", time.localtime(whole)) + f".{microseconds:06d}"
        delay = "-" if hop["delay_ms"] is None else f"{hop['delay_ms']:.3f} ms"
        told.append(
            f"  {hop['way'] or '-':<6}{_or_dash(hop['node']):>9}{_or_dash(hop['ingress']):>7}"
            f"{_or_dash(hop['egress']):>7}{hop['hop_limit']:>11}  {clock:<17}{delay:>10}"
        )
    if trace.overflow:
        told.append(f"  more hops than the {MOST_NODES} that the option has room for")
    return told


def _or_dash(value: int | None) -> str:
    return "-" if value is None else str(value)
