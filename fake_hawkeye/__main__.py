"""`python -m fake_hawkeye`: listens until SIGTERM or SIGINT. Exit status 1 on failure, 2 on wrong usage."""

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import sys
from ipaddress import AddressValueError, IPv6Address
from pathlib import Path

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # gRPC would write its own lines on stderr

from fake_hawkeye.operations import Operations, control_socket
from fake_hawkeye.paths import TableError, load_table
from fake_hawkeye.service import HawkEye, start


def main() -> int:
    """Runs the controller; the exit status."""
    arguments = _arguments()
    try:
        asyncio.run(_serve(arguments))
    except OSError as error:
        sentence = str(error) if error.filename is None else f"{error.filename}: {error.strerror}"
        sys.stderr.write(f"fake_hawkeye: {sentence}\n")
        return 1
    except (TableError, RuntimeError) as error:
        sys.stderr.write(f"fake_hawkeye: {error}\n")
        return 1
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m fake_hawkeye", description="A stand-in for the HawkEye controller."
    )
    parser.add_argument(
        "--address", type=_address, default=IPv6Address("::1"), help="IPv6 address (%(default)s)"
    )
    parser.add_argument("--port", type=_port, default=5001, help="TCP port, 0 for any free one (%(default)s)")
    parser.add_argument("--table", type=Path, required=True, help="YAML file with the paths")
    parser.add_argument("--record", type=Path, help="file to append each request to, one JSON object a line")
    parser.add_argument("--control", type=Path, help="path of a unix socket that takes commands")
    return parser.parse_args()


def _address(text: str) -> IPv6Address:
    try:
        return IPv6Address(text)
    except AddressValueError:
        raise argparse.ArgumentTypeError(f"{text} is not an IPv6 address") from None


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text} is not a port, use 0 to 65535")
    return int(text)


async def _serve(arguments: argparse.Namespace) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    table = load_table(arguments.table)
    async with contextlib.AsyncExitStack() as stack:
        record = (
            stack.enter_context(arguments.record.open("a", encoding="utf-8")) if arguments.record else None
        )
        hawkeye = HawkEye(table, record)
        _check_free(arguments.address, arguments.port)
        if arguments.control:
            await stack.enter_async_context(control_socket(arguments.control, Operations(hawkeye, table)))
        server, port = await start(hawkeye, arguments.address, arguments.port)
        stack.push_async_callback(server.stop, None)
        print(f"listening on [{arguments.address}]:{port}", flush=True)
        await stop.wait()


def _check_free(address: IPv6Address, port: int) -> None:
    """OSError with a sentence when the port can't be had; gRPC itself would not say why."""
    with socket.socket(socket.AF_INET6) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((str(address), port))
            probe.listen()
        except OSError as error:
            raise OSError(f"cannot listen on [{address}]:{port}: {error.strerror}") from None


if __name__ == "__main__":
    sys.exit(main())
