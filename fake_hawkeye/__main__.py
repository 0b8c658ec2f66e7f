"""`python -m fake_hawkeye`: listens until SIGTERM or SIGINT. Exit status 1 on failure, 2 on wrong usage."""

import argparse
import asyncio
import contextlib
import os
import signal
import sys
from ipaddress import AddressValueError, IPv6Address
from pathlib import Path

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # gRPC would write its own lines on stderr

import grpc

from fake_hawkeye.graph import Network
from fake_hawkeye.listener import Listener
from fake_hawkeye.operations import Operations, control_socket
from fake_hawkeye.paths import Table, TableError, load_table
from fake_hawkeye.rules import Computed
from fake_hawkeye.rules_101 import Computed101, Sessions101
from fake_hawkeye.service import HawkEye
from fake_hawkeye.sessions import Recalculated, Sessions, Updates
from fake_hawkeye.shared import SharedHawkEye
from lab.topology import TopologyError, load_topology


def main() -> int:
    """Runs the controller; the exit status."""
    arguments = _arguments()
    try:
        asyncio.run(_serve(arguments))
    except OSError as error:
        sentence = str(error) if error.filename is None else f"{error.filename}: {error.strerror}"
        sys.stderr.write(f"fake_hawkeye: {sentence}\n")
        return 1
    except (TableError, TopologyError, RuntimeError) as error:
        sys.stderr.write(f"fake_hawkeye: {error}\n")
        return 1
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m fake_hawkeye", description="A mock of the HawkEye controller."
    )
    parser.add_argument(
        "--address", type=_address, default=IPv6Address("::1"), help="IPv6 address (%(default)s)"
    )
    parser.add_argument("--port", type=_port, default=5001, help="TCP port, 0 for any free one (%(default)s)")
    parser.add_argument("--topology", type=Path, help="YAML file with the topology to compute paths in")
    parser.add_argument("--table", type=Path, help="YAML file with paths, used before computed ones")
    parser.add_argument(
        "--like",
        choices=["1.0.1"],
        help="behave like this release of HawkEye: answers reach other clients, some queries crash it",
    )
    parser.add_argument(
        "--batch",
        type=_seconds,
        default=1.0,
        help="seconds to collect changes before a recalculation (%(default)s)",
    )
    parser.add_argument("--record", type=Path, help="file for all requests, one JSON object per line")
    parser.add_argument("--control", type=Path, help="path of the Unix socket for commands")
    parser.add_argument("--tls-certificate", type=Path, help="PEM file with the certificate; enables TLS")
    parser.add_argument("--tls-key", type=Path, help="PEM file with the certificate's key")
    parser.add_argument(
        "--tls-ca", type=Path, help="PEM file with the authority of client certificates; enables mutual TLS"
    )
    arguments = parser.parse_args()
    if (arguments.tls_certificate is None) is not (arguments.tls_key is None):
        parser.error("--tls-certificate and --tls-key require each other")
    if arguments.topology is None and arguments.table is None:
        parser.error("--topology or --table is required")
    return arguments


def _address(text: str) -> IPv6Address:
    try:
        return IPv6Address(text)
    except AddressValueError:
        raise argparse.ArgumentTypeError(f"{text} is not an IPv6 address") from None


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text} is not a port, use 0 to 65535")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds, use 0 to 3600")
    return seconds


def _credentials(arguments: argparse.Namespace) -> grpc.ServerCredentials | None:
    if arguments.tls_certificate is None:
        return None
    pair = (arguments.tls_key.read_bytes(), arguments.tls_certificate.read_bytes())
    authority = arguments.tls_ca.read_bytes() if arguments.tls_ca else None
    return grpc.ssl_server_credentials([pair], authority, require_client_auth=authority is not None)


async def _serve(arguments: argparse.Namespace) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    table = load_table(arguments.table) if arguments.table else Table()
    network = Network(load_topology(arguments.topology)) if arguments.topology else None
    sessions: Recalculated | None = None
    if network:
        like_101 = arguments.like is not None
        sessions = (
            Sessions101(table, Computed101(network)) if like_101 else Sessions(table, Computed(network))
        )
    async with contextlib.AsyncExitStack() as stack:
        record = (
            stack.enter_context(arguments.record.open("a", encoding="utf-8")) if arguments.record else None
        )
        hawkeye = (SharedHawkEye if arguments.like else HawkEye)(sessions or table, record)
        updates = Updates(sessions, hawkeye.tell, arguments.batch) if sessions else None
        listener = Listener(hawkeye, arguments.address, arguments.port, _credentials(arguments))
        stack.push_async_callback(listener.close)
        await listener.open()
        if arguments.control:
            operations = Operations(hawkeye, table, listener, network, updates)
            await stack.enter_async_context(control_socket(arguments.control, operations))
        print(f"listening on [{arguments.address}]:{listener.port}", flush=True)
        await stop.wait()


if __name__ == "__main__":
    sys.exit(main())
