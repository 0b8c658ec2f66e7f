"""The commands `paths`, `ping` and `trace` on the command line."""

from __future__ import annotations

import argparse
import json
import re
import signal
from collections.abc import Callable
from ipaddress import IPv6Address, IPv6Network
from typing import TYPE_CHECKING

from hawkwing.errors import HawkwingError

if TYPE_CHECKING:
    from hawkwing.probing.chosen import Chosen
    from hawkwing.sids import SidList

DESTINATION = "address or configured name; also [ADDRESS]:PORT or NAME:PORT"
_ROUNDS = 3
_MEASURED = 5
_SIZE = 56
_LEAST_SECONDS, _MOST_SECONDS = 0.001, 3600.0
_MOST_COUNT = 1 << 31
COMMANDS = ("paths", "ping", "trace")


def add_commands(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], block: Callable[[str], IPv6Network]
) -> None:
    """Adds them to the parser; `block` reads a block of compressed SIDs."""
    paths = commands.add_parser("paths", help="show the paths of a destination, which one is in use, and why")
    paths.add_argument("destination", metavar="DEST", help=DESTINATION)
    paths.add_argument("port", metavar="PORT", nargs="?", help="destination port (default: all)")
    paths.add_argument(
        "--measure",
        type=_probes,
        nargs="?",
        const=_MEASURED,
        metavar="N",
        help="also measure round trips and loss of each path, with N probes along it and back "
        f"(default: {_MEASURED})",
    )
    paths.add_argument(
        "--size",
        type=_size,
        metavar="BYTES",
        help=f"with --measure: payload of a probe (default: {_SIZE})",
    )
    ping = commands.add_parser("ping", help="measure round trips and loss along a path and back")
    trace = commands.add_parser("trace", help="measure round trips and loss to each segment of a path")
    for command in (ping, trace):
        command.add_argument("destination", metavar="DEST", nargs="?", help=DESTINATION)
        command.add_argument("port", metavar="PORT", nargs="?", help="destination port")
        command.add_argument(
            "--sid",
            type=_sids,
            metavar="LIST",
            help="segment list instead of a destination: SIDs in travel order, separated by commas",
        )
        command.add_argument(
            "--csid",
            action="append",
            type=block,
            default=[],
            metavar="BLOCK",
            help="with --sid: block of compressed SIDs (RFC 9800), such as fcbb:bb00::/32; may be repeated",
        )
    ping.add_argument(
        "-c", "--count", type=_count, metavar="N", help="stop after N probes (default: at Ctrl-C)"
    )
    trace.add_argument(
        "-c",
        "--count",
        type=_count,
        default=_ROUNDS,
        metavar="N",
        help="probes for each segment (default: %(default)s)",
    )
    for command, of in ((ping, "between two probes"), (trace, "for one probe to each segment")):
        command.add_argument(
            "-i",
            "--interval",
            type=_seconds,
            default=1.0,
            metavar="SECONDS",
            help=f"time {of} (default: 1)",
        )
        command.add_argument(
            "-W",
            "--wait",
            type=_seconds,
            default=1.0,
            metavar="SECONDS",
            help="time to wait for a probe (default: 1)",
        )
        command.add_argument(
            "--source",
            type=_address,
            metavar="ADDRESS",
            help="source address (default: selected by the kernel)",
        )
        command.add_argument(
            "--size",
            type=_size,
            default=_SIZE,
            metavar="BYTES",
            help="payload of a probe (default: %(default)s)",
        )
    trace.add_argument(
        "--ioam",
        action="store_true",
        help="also show each hop, from the routers' IOAM data; needs CAP_NET_RAW",
    )
    trace.add_argument(
        "--ioam-namespace",
        type=_namespace,
        default=0,
        metavar="N",
        help="IOAM namespace of the routers (default: %(default)s)",
    )
    for command in (paths, ping, trace):
        command.add_argument("--json", action="store_true", help="print as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Runs a command; the exit status. Ctrl-C ends probing commands with the results so far."""
    if arguments.command == "paths" and arguments.measure is None:
        return _paths(arguments)
    restore = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return _paths(arguments) if arguments.command == "paths" else _probe(arguments)
    except KeyboardInterrupt:
        return 130
    finally:
        signal.signal(signal.SIGINT, restore)


def _paths(arguments: argparse.Namespace) -> int:
    from hawkwing import paths
    from hawkwing.target import read_destination

    probes = None
    if arguments.measure is not None:
        probes = arguments.measure, arguments.size or _SIZE
    elif arguments.size is not None:
        raise HawkwingError("--size needs --measure")
    found = paths.look(*read_destination(words(arguments)), probes)
    print(json.dumps(found, indent=1) if arguments.json else "\n".join(paths.lines(found)))
    return 0


def _probe(arguments: argparse.Namespace) -> int:
    from hawkwing.probing.run import Pace

    chosen = _chosen(arguments)
    pace = Pace(arguments.count, arguments.interval, arguments.wait)
    if arguments.command == "ping":
        from hawkwing.probing.ping import ping

        return ping(chosen, pace, arguments.size, arguments.json)
    from hawkwing.probing.trace import trace

    namespace = arguments.ioam_namespace if arguments.ioam else None
    return trace(chosen, pace, arguments.size, namespace, arguments.json)


def _chosen(arguments: argparse.Namespace) -> Chosen:
    from hawkwing.probing import chosen

    if (arguments.sid is None) is (arguments.destination is None):
        if arguments.sid is not None:
            raise HawkwingError("give a destination or --sid, not both")
        example = f"hawkwing {arguments.command} wb.hawk.net 80"
        raise HawkwingError(f"give a destination and a port, or a list with --sid, for example: {example}")
    if arguments.sid is not None:
        return chosen.by_list(arguments.sid, arguments.source, arguments.csid)
    if arguments.csid:
        raise HawkwingError("--csid needs --sid: with a destination the blocks of its client are used")
    from hawkwing.target import read_target

    return chosen.by_destination(*read_target(words(arguments), arguments.command), arguments.source)


def words(arguments: argparse.Namespace) -> list[str]:
    """Destination and port as given."""
    return [arguments.destination, *([arguments.port] if arguments.port is not None else [])]


def _sids(text: str) -> SidList:
    from hawkwing.config_values import read_sid
    from hawkwing.sids import MAX_SIDS

    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise argparse.ArgumentTypeError(f"{text!r} has an empty SID: write A,B,C")
    if len(parts) > MAX_SIDS:
        raise argparse.ArgumentTypeError(f"a segment list has at most {MAX_SIDS} SIDs, not {len(parts)}")
    try:
        return tuple(read_sid(part) for part in parts)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _address(text: str) -> IPv6Address:
    try:
        return IPv6Address(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is not an IPv6 address") from None


def _seconds(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,9})?|\.[0-9]{1,9}", text) or not (
        _LEAST_SECONDS <= float(text) <= _MOST_SECONDS
    ):
        raise argparse.ArgumentTypeError(
            f"{text} is not a valid time, use {_LEAST_SECONDS:g} to {_MOST_SECONDS:g} seconds"
        )
    return float(text)


def _count(text: str) -> int:
    return _number(text, "number of probes", 1, _MOST_COUNT)


def _probes(text: str) -> int:
    if not re.fullmatch("[0-9]+", text):
        raise argparse.ArgumentTypeError(
            f"{text} is not a number of probes: write DEST before --measure, or --measure=N"
        )
    return _count(text)


def _size(text: str) -> int:
    from hawkwing.probing.lists import LEAST_SIZE, MOST_SIZE

    return _number(text, "size", LEAST_SIZE, MOST_SIZE)


def _namespace(text: str) -> int:
    return _number(text, "namespace ID", 0, 0xFFFF)


def _number(text: str, what: str, low: int, high: int) -> int:
    if not re.fullmatch("[0-9]{1,10}", text) or not low <= int(text) <= high:
        raise argparse.ArgumentTypeError(f"{text} is not a valid {what}, use {low} to {high}")
    return int(text)
