"""The lab's DNS server: authoritative for one zone file, over UDP and TCP on IPv6.

SIGHUP reloads the zone file; if it is wrong, the old zone stays.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import socket
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import dns.zone

if TYPE_CHECKING:
    from lab.topology import Topology

MOST_ALIASES = 16
UDP_DEFAULT = 512
UDP_MOST = 1232
TCP_MOST = 65535
TCP_IDLE = 30.0


class ZoneError(ValueError):
    """The zone file can't be served."""


def zone_text(topology: Topology, server: str | None = None) -> str:
    """The zone file for host `server`; by default for the only host with a dns service."""
    servers = [host for host in topology.hosts if host.dns is not None and server in (None, host.name)]
    if len(servers) != 1 or servers[0].dns is None:
        raise ValueError(f"topology {topology.name} has {len(servers)} hosts with a dns service, not one")
    zone, address = servers[0].dns.zone, servers[0].address
    lines = [
        f"$ORIGIN {zone.origin}.",
        f"$TTL {zone.ttl}",
        f"@ SOA {zone.name_server}. hostmaster.{zone.origin}. 1 3600 600 86400 {zone.ttl}",
        f"@ NS {zone.name_server}.",
        f"{zone.name_server}. AAAA {address}",
    ]
    lines += [f"{name}. AAAA {topology.host(host).address}" for name, host in zone.addresses.items()]
    lines += [f"{alias}. CNAME {target}." for alias, target in zone.aliases.items()]
    return "\n".join(lines) + "\n"


def load_zone(path: Path, origin: str) -> dns.zone.Zone:
    try:
        return dns.zone.from_text(path.read_text(encoding="utf-8"), origin=origin, relativize=False)
    except OSError as error:
        raise ZoneError(f"{path}: cannot be read: {error.strerror}") from error
    except (dns.exception.DNSException, ValueError) as error:
        raise ZoneError(f"{path}: {' '.join(str(error).split()) or type(error).__name__}") from error


class Responder:
    """Answers queries from the zone; has no sockets."""

    def __init__(self, zone: dns.zone.Zone) -> None:
        self.zone = zone

    def respond(self, wire: bytes, limit: int | None = None) -> bytes | None:
        """The answer to a message, or None if it must not be answered.

        Over UDP the answer has at most `limit` bytes, or as many as the query's EDNS allows; None means TCP.
        """
        try:
            query = dns.message.from_wire(wire)
        except (dns.exception.DNSException, ValueError):
            return _format_error(wire)
        if query.flags & dns.flags.QR:
            return None
        response = dns.message.make_response(query, our_payload=UDP_MOST)
        if query.opcode() != dns.opcode.QUERY:
            response.set_rcode(dns.rcode.NOTIMP)
        elif query.edns > 0:
            response.set_rcode(dns.rcode.BADVERS)
        elif len(query.question) != 1:
            response.set_rcode(dns.rcode.FORMERR)
        else:
            self._answer(query.question[0], response)
        if limit is not None and query.edns >= 0:
            limit = min(max(query.payload, UDP_DEFAULT), UDP_MOST)
        return _to_wire(response, TCP_MOST if limit is None else limit)

    def _answer(self, question: dns.rrset.RRset, response: dns.message.Message) -> None:
        origin = self.zone.origin
        if question.rdclass != self.zone.rdclass or origin is None or not question.name.is_subdomain(origin):
            response.set_rcode(dns.rcode.REFUSED)
            return
        response.flags |= dns.flags.AA
        name = question.name
        for _ in range(MOST_ALIASES):
            if (found := self._records(name, question.rdtype)) is not None:
                response.answer += found
                return
            alias = self.zone.get_rrset(name, dns.rdatatype.CNAME)
            if alias is None:
                break
            response.answer.append(_owned_by(alias, name))
            name = alias[0].target
            if not name.is_subdomain(origin):
                return
        else:
            response.set_rcode(dns.rcode.SERVFAIL)
            response.answer.clear()
            return
        if not self._exists(name):
            response.set_rcode(dns.rcode.NXDOMAIN)
        response.authority.append(self._negative_soa(origin))

    def _records(self, name: dns.name.Name, kind: dns.rdatatype.RdataType) -> list[dns.rrset.RRset] | None:
        if kind == dns.rdatatype.ANY:
            node = self.zone.get_node(name)
            records = [dns.rrset.from_rdata_list(name, data.ttl, data) for data in node or ()]
            return records or None
        rrset = self.zone.get_rrset(name, kind)
        return None if rrset is None else [_owned_by(rrset, name)]

    def _exists(self, name: dns.name.Name) -> bool:
        """True if the name, or a name below it, has records."""
        return any(isinstance(known, dns.name.Name) and known.is_subdomain(name) for known in self.zone.nodes)

    def _negative_soa(self, origin: dns.name.Name) -> dns.rrset.RRset:
        soa = self.zone.find_rrset(origin, dns.rdatatype.SOA)
        return dns.rrset.from_rdata(origin, min(soa.ttl, soa[0].minimum), soa[0])


def _owned_by(rrset: dns.rrset.RRset, name: dns.name.Name) -> dns.rrset.RRset:
    """The records with the name as in the query, in the same case."""
    return dns.rrset.from_rdata_list(name, rrset.ttl, list(rrset))


def _to_wire(response: dns.message.Message, limit: int) -> bytes:
    try:
        return response.to_wire(max_size=limit)
    except dns.exception.TooBig:
        response.flags |= dns.flags.TC
        response.answer.clear()
        response.authority.clear()
        response.additional.clear()
        return response.to_wire(max_size=limit)


def _format_error(wire: bytes) -> bytes | None:
    """FORMERR with the query's identifier; no answer to messages without a header, and to answers."""
    if len(wire) < 12 or wire[2] & 0x80:
        return None
    opcode_and_rd = wire[2] & 0x79
    return wire[:2] + struct.pack("!BBHHHH", 0x80 | opcode_and_rd, dns.rcode.FORMERR, 0, 0, 0, 0)


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, responder: Responder) -> None:
        self._responder = responder
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        answer = self._responder.respond(data, UDP_DEFAULT)
        if answer is not None and self._transport is not None:
            self._transport.sendto(answer, addr)


async def _serve_stream(
    responder: Responder, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError, TimeoutError, OSError), contextlib.closing(writer):
        while True:
            async with asyncio.timeout(TCP_IDLE):
                (length,) = struct.unpack("!H", await reader.readexactly(2))
                answer = responder.respond(await reader.readexactly(length))
                if answer is None:
                    return
                writer.write(struct.pack("!H", len(answer)) + answer)
                await writer.drain()


async def serve(zone_file: Path, origin: str, address: str, port: int) -> None:
    """Serves until SIGTERM or SIGINT; ZoneError or OSError if it can't start."""
    responder = Responder(load_zone(zone_file, origin))

    def reload() -> None:
        try:
            responder.zone = load_zone(zone_file, origin)
        except ZoneError as error:
            print(f"keeping the old zone: {error}", file=sys.stderr, flush=True)
        else:
            print("zone reloaded", file=sys.stderr, flush=True)

    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    connections: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = loop.create_task(_serve_stream(responder, reader, writer))
        connections.add(task)
        task.add_done_callback(connections.discard)

    stream, datagrams = _sockets(address, port)
    with stream, datagrams:
        loop.add_signal_handler(signal.SIGHUP, reload)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, done.set)
        server = await asyncio.start_server(connected, sock=stream)
        transport, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(responder), sock=datagrams)
        print(f"listening on [{address}]:{stream.getsockname()[1]}", flush=True)
        await done.wait()
        server.close()
        transport.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)


def _sockets(address: str, port: int) -> tuple[socket.socket, socket.socket]:
    """A TCP and a UDP socket on the same port; with port 0, on a port that is free for both."""
    for attempts_left in reversed(range(16 if port == 0 else 1)):
        with contextlib.ExitStack() as cleanup:
            stream = cleanup.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_STREAM))
            datagrams = cleanup.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            for end in (stream, datagrams):
                end.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                end.setblocking(False)
            try:
                stream.bind((address, port))
                datagrams.bind((address, stream.getsockname()[1]))
            except OSError:
                if attempts_left:
                    continue
                raise
            cleanup.pop_all()
            return stream, datagrams
    raise AssertionError("unreachable")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="lab.services.dns", description="The lab's DNS server.")
    parser.add_argument("--zone", type=Path, required=True, help="zone file")
    parser.add_argument("--origin", required=True, help="the zone's name")
    parser.add_argument("--address", required=True, help="IPv6 address to listen on")
    parser.add_argument("--port", type=int, default=53)
    options = parser.parse_args(arguments)
    try:
        asyncio.run(serve(options.zone, options.origin, options.address, options.port))
    except ZoneError as error:
        print(f"Can't serve the zone: {error}", file=sys.stderr)
        return 1
    except (OSError, OverflowError) as error:
        reason = error.strerror or str(error) if isinstance(error, OSError) else "no such port"
        print(f"Can't listen on [{options.address}]:{options.port}: {reason}.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
