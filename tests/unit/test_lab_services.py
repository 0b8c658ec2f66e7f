import contextlib
import hashlib
import http.client
import random
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import pytest

from lab.services.dns import Responder, ZoneError, load_zone, zone_text
from lab.services.web import pattern
from lab.topology import load_topology
from lab.wait import PATIENCE, patient, wait_until

ROOT = Path(__file__).parents[2]
HAWK = ROOT / "lab" / "hawk.yaml"

ZONE = """
$TTL 60
@ SOA ns hostmaster 1 3600 600 86400 30
@ NS ns
ns AAAA fcbb:cc00:4::f
wb 5 AAAA fcbb:cc00:2::a
wb TXT "text"
www CNAME wb
deep CNAME www
away CNAME elsewhere.example.
broken CNAME missing
loop-a CNAME loop-b
loop-b CNAME loop-a
a.b.c AAAA ::1
""" + "".join(f"many AAAA fcbb::{number:x}\n" for number in range(1, 101))


@pytest.fixture
def zone_file(tmp_path: Path) -> Path:
    """A zone file for hawk.net with a little of everything."""
    path = tmp_path / "hawk.net.zone"
    path.write_text(ZONE)
    return path


@pytest.fixture
def responder(zone_file: Path) -> Responder:
    """The answering part of the DNS server, with the zone file's zone."""
    return Responder(load_zone(zone_file, "hawk.net"))


def ask(responder: Responder, name: str, kind: str = "AAAA", limit: int | None = None) -> dns.message.Message:
    return exchange(responder, dns.message.make_query(name, kind), limit)


def exchange(
    responder: Responder, query: dns.message.Message, limit: int | None = None
) -> dns.message.Message:
    wire = responder.respond(query.to_wire(), limit)
    assert wire is not None
    response = dns.message.from_wire(wire)
    assert response.id == query.id
    return response


def answers(response: dns.message.Message) -> list[str]:
    return [line for rrset in response.answer for line in rrset.to_text().splitlines()]


class TestAnswers:
    def test_address(self, responder: Responder) -> None:
        response = ask(responder, "wb.hawk.net")
        assert answers(response) == ["wb.hawk.net. 5 IN AAAA fcbb:cc00:2::a"]
        assert response.rcode() == dns.rcode.NOERROR
        assert response.flags & dns.flags.AA
        assert not response.flags & dns.flags.RA

    def test_aliases_bring_their_targets(self, responder: Responder) -> None:
        assert answers(ask(responder, "deep.hawk.net")) == [
            "deep.hawk.net. 60 IN CNAME www.hawk.net.",
            "www.hawk.net. 60 IN CNAME wb.hawk.net.",
            "wb.hawk.net. 5 IN AAAA fcbb:cc00:2::a",
        ]

    def test_alias_itself(self, responder: Responder) -> None:
        assert answers(ask(responder, "www.hawk.net", "CNAME")) == ["www.hawk.net. 60 IN CNAME wb.hawk.net."]

    def test_alias_out_of_the_zone(self, responder: Responder) -> None:
        response = ask(responder, "away.hawk.net")
        assert answers(response) == ["away.hawk.net. 60 IN CNAME elsewhere.example."]
        assert response.rcode() == dns.rcode.NOERROR

    def test_alias_of_nothing(self, responder: Responder) -> None:
        response = ask(responder, "broken.hawk.net")
        assert answers(response) == ["broken.hawk.net. 60 IN CNAME missing.hawk.net."]
        assert response.rcode() == dns.rcode.NXDOMAIN

    def test_alias_loop(self, responder: Responder) -> None:
        response = ask(responder, "loop-a.hawk.net")
        assert response.rcode() == dns.rcode.SERVFAIL
        assert not response.answer

    @pytest.mark.parametrize("name", ["missing.hawk.net", "x.wb.hawk.net"])
    def test_no_such_name(self, responder: Responder, name: str) -> None:
        response = ask(responder, name)
        assert response.rcode() == dns.rcode.NXDOMAIN
        assert response.authority[0].rdtype == dns.rdatatype.SOA
        assert response.authority[0].ttl == 30

    @pytest.mark.parametrize(
        ("name", "kind"), [("wb.hawk.net", "A"), ("www.hawk.net", "A"), ("b.c.hawk.net", "AAAA")]
    )
    def test_no_such_records(self, responder: Responder, name: str, kind: str) -> None:
        response = ask(responder, name, kind)
        assert response.rcode() == dns.rcode.NOERROR
        assert not [rrset for rrset in response.answer if rrset.rdtype != dns.rdatatype.CNAME]
        assert response.authority[0].rdtype == dns.rdatatype.SOA

    def test_any(self, responder: Responder) -> None:
        assert {rrset.rdtype.name for rrset in ask(responder, "wb.hawk.net", "ANY").answer} == {"AAAA", "TXT"}

    def test_case_is_ignored_and_kept(self, responder: Responder) -> None:
        query = dns.message.make_query("wB.HawK.nEt", "AAAA")
        wire = responder.respond(query.to_wire())
        assert wire is not None
        response = dns.message.from_wire(wire)
        assert response.question[0].name.to_text() == "wB.HawK.nEt."
        assert answers(response) == ["wB.HawK.nEt. 5 IN AAAA fcbb:cc00:2::a"]

    @pytest.mark.parametrize("name", ["example.org", "net", ".", "nothawk.net"])
    def test_out_of_zone(self, responder: Responder, name: str) -> None:
        response = ask(responder, name)
        assert response.rcode() == dns.rcode.REFUSED
        assert not response.answer
        assert not response.flags & dns.flags.AA

    def test_other_class(self, responder: Responder) -> None:
        assert (
            exchange(responder, dns.message.make_query("wb.hawk.net", "TXT", "CH")).rcode()
            == dns.rcode.REFUSED
        )

    @pytest.mark.parametrize("opcode", [1, 2, 4, 6, 15])
    def test_other_opcodes(self, responder: Responder, opcode: int) -> None:
        wire = bytearray(dns.message.make_query("wb.hawk.net", "AAAA").to_wire())
        wire[2] = (wire[2] & 0x87) | opcode << 3
        response = responder.respond(bytes(wire))
        assert response is not None
        assert response[:2] == wire[:2]
        assert response[2] >> 3 & 15 == opcode
        assert response[3] & 15 == dns.rcode.NOTIMP

    def test_update(self, responder: Responder) -> None:
        import dns.update

        update = dns.update.UpdateMessage("hawk.net")
        update.add("x", 60, "AAAA", "::1")
        wire = responder.respond(update.to_wire())
        assert wire is not None
        assert wire[3] & 15 == dns.rcode.NOTIMP

    def test_garbage_with_a_header(self, responder: Responder) -> None:
        wire = responder.respond(b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\xff\xff")
        assert wire == b"\x12\x34\x81\x01" + bytes(8)

    def test_two_questions(self, responder: Responder) -> None:
        query = dns.message.make_query("wb.hawk.net", "AAAA")
        query.find_rrset(
            query.question, dns.name.from_text("wc.hawk.net"), query.question[0].rdclass, 28, create=True
        )
        assert exchange(responder, query).rcode() == dns.rcode.FORMERR

    def test_what_gets_no_answer(self, responder: Responder) -> None:
        query = dns.message.make_query("wb.hawk.net", "AAAA")
        assert responder.respond(b"") is None
        assert responder.respond(b"\x00" * 11) is None
        assert responder.respond(dns.message.make_response(query).to_wire()) is None
        assert responder.respond(b"\x12\x34\x81\x00\x00\x01\x00\x00\x00\x00\x00\x00\xff\xff") is None

    def test_nothing_upsets_it(self, responder: Responder) -> None:
        chance = random.Random(8754)
        good = dns.message.make_query("deep.hawk.net", "AAAA", use_edns=0).to_wire()
        for _ in range(3000):
            wire = bytearray(good if chance.random() < 0.8 else chance.randbytes(chance.randrange(80)))
            for _ in range(chance.randrange(1, 5)):
                if wire:
                    wire[chance.randrange(len(wire))] = chance.randrange(256)
            response = responder.respond(bytes(wire[: chance.randrange(10, 90)]), 512)
            assert response is None or (response[:2] == wire[:2] and response[2] & 0x80)


class TestSizes:
    def test_udp_without_edns(self, responder: Responder) -> None:
        response = ask(responder, "many.hawk.net", limit=512)
        assert response.flags & dns.flags.TC
        assert not response.answer

    @pytest.mark.parametrize(
        ("payload", "count", "fits"), [(1232, 100, False), (600, 1, True), (100, 1, True)]
    )
    def test_udp_with_edns(self, responder: Responder, payload: int, count: int, fits: bool) -> None:
        name = "many.hawk.net" if count == 100 else "wb.hawk.net"
        query = dns.message.make_query(name, "AAAA", use_edns=0, payload=payload)
        wire = responder.respond(query.to_wire(), 512)
        assert wire is not None
        assert len(wire) <= max(payload, 512)
        response = dns.message.from_wire(wire)
        assert response.edns == 0
        assert bool(response.flags & dns.flags.TC) is not fits
        assert (len(answers(response)) == count) is fits

    def test_edns_makes_room(self, zone_file: Path) -> None:
        zone_file.write_text(ZONE + "".join(f"some AAAA fcbb::{number:x}\n" for number in range(1, 31)))
        responder = Responder(load_zone(zone_file, "hawk.net"))
        plain = ask(responder, "some.hawk.net", limit=512)
        roomy = exchange(
            responder, dns.message.make_query("some.hawk.net", "AAAA", use_edns=0, payload=1232), 512
        )
        assert plain.flags & dns.flags.TC
        assert not roomy.flags & dns.flags.TC
        assert len(answers(roomy)) == 30

    def test_tcp_is_whole_whatever_edns_says(self, responder: Responder) -> None:
        query = dns.message.make_query("many.hawk.net", "AAAA", use_edns=0, payload=512)
        assert len(answers(exchange(responder, query))) == 100

    def test_other_edns_version(self, responder: Responder) -> None:
        query = dns.message.make_query("wb.hawk.net", "AAAA", use_edns=1)
        response = exchange(responder, query, 512)
        assert response.rcode() == dns.rcode.BADVERS
        assert response.edns == 0
        assert not response.answer


class TestZoneFiles:
    def test_the_topologys_zone(self, tmp_path: Path) -> None:
        path = tmp_path / "zone"
        path.write_text(zone_text(load_topology(HAWK)))
        responder = Responder(load_zone(path, "hawk.net"))
        assert answers(ask(responder, "wb.hawk.net")) == ["wb.hawk.net. 60 IN AAAA fcbb:cc00:2::a"]
        assert answers(ask(responder, "wc.hawk.net")) == ["wc.hawk.net. 60 IN AAAA fcbb:cc00:3::a"]
        assert answers(ask(responder, "ns.hawk.net")) == ["ns.hawk.net. 60 IN AAAA fcbb:cc00:4::f"]
        assert answers(ask(responder, "www.hawk.net")) == [
            "www.hawk.net. 60 IN CNAME wb.hawk.net.",
            "wb.hawk.net. 60 IN AAAA fcbb:cc00:2::a",
        ]

    def test_no_such_server(self) -> None:
        with pytest.raises(ValueError, match="has 0 hosts with a dns service"):
            zone_text(load_topology(HAWK), "host-a")

    @pytest.mark.parametrize("text", ["", "@ NS ns\n", "nonsense here\n", ZONE + "wb AAAA 10.0.0.1\n"])
    def test_refused(self, zone_file: Path, text: str) -> None:
        zone_file.write_text(text)
        with pytest.raises(ZoneError, match=r"hawk\.net\.zone: .") as caught:
            load_zone(zone_file, "hawk.net")
        assert "\n" not in str(caught.value)


class Running(NamedTuple):
    process: subprocess.Popen[str]
    port: int
    errors: Path

    def wait_for_error(self, text: str) -> None:
        wait_until(lambda: text in self.errors.read_text(), PATIENCE, f"{text!r} on stderr")


Start = Callable[..., Running]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a service on ::1 and a free port and waits until it listens: ``start("web", "--text", "x")``."""
    with contextlib.ExitStack() as cleanup:

        def begin(service: str, *arguments: str) -> Running:
            errors = tmp_path / f"{service}.stderr"
            process = cleanup.enter_context(
                subprocess.Popen(
                    [
                        sys.executable,
                        "-m",
                        f"lab.services.{service}",
                        "--address",
                        "::1",
                        "--port",
                        "0",
                        *arguments,
                    ],
                    stdout=subprocess.PIPE,
                    stderr=cleanup.enter_context(errors.open("w")),
                    text=True,
                    cwd=ROOT,
                )
            )
            cleanup.callback(process.kill)
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("listening on [::1]:"), errors.read_text()
            return Running(process, int(line.rpartition(":")[2]), errors)

        yield begin


def run(service: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"lab.services.{service}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE, check=False)


def assert_ends_at_once(running: Running) -> None:
    begun = time.monotonic()
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(timeout=PATIENCE) == 0
    assert time.monotonic() - begun < patient(10), "it waited for somebody"
    assert "Traceback" not in running.errors.read_text()


class TestDnsProgram:
    @pytest.fixture
    def server(self, start: Start, zone_file: Path) -> Running:
        """The DNS server, serving the zone file."""
        return start("dns", "--zone", str(zone_file), "--origin", "hawk.net")

    def test_udp_and_tcp(self, server: Running) -> None:
        query = dns.message.make_query("www.hawk.net", "AAAA")
        over_udp = dns.query.udp(query, "::1", port=server.port, timeout=PATIENCE)
        over_tcp = dns.query.tcp(query, "::1", port=server.port, timeout=PATIENCE)
        assert answers(over_udp) == answers(over_tcp)
        assert len(answers(over_udp)) == 2

    def test_truncated_over_udp_whole_over_tcp(self, server: Running) -> None:
        query = dns.message.make_query("many.hawk.net", "AAAA")
        response, used_tcp = dns.query.udp_with_fallback(query, "::1", port=server.port, timeout=PATIENCE)
        assert used_tcp
        assert len(answers(response)) == 100

    def test_many_messages_on_one_connection(self, server: Running) -> None:
        queries = [dns.message.make_query(f"{name}.hawk.net", "AAAA") for name in ("wb", "www", "missing")]
        wires = [query.to_wire() for query in queries]
        with socket.create_connection(("::1", server.port), timeout=PATIENCE) as connection:
            connection.sendall(b"".join(struct.pack("!H", len(wire)) + wire for wire in wires))
            stream = connection.makefile("rb")
            for query in queries:
                (length,) = struct.unpack("!H", stream.read(2))
                assert dns.message.from_wire(stream.read(length)).id == query.id

    def test_garbage_does_not_end_it(self, server: Running) -> None:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client:
            for wire in (b"", b"\x00", b"\xff" * 40):
                client.sendto(wire, ("::1", server.port))
        with socket.create_connection(("::1", server.port), timeout=PATIENCE) as connection:
            connection.sendall(b"\xff\xff half a message")
        query = dns.message.make_query("wb.hawk.net", "AAAA")
        assert answers(dns.query.udp(query, "::1", port=server.port, timeout=PATIENCE))

    def test_reload(self, server: Running, zone_file: Path) -> None:
        query = dns.message.make_query("wb.hawk.net", "AAAA")
        zone_file.write_text(ZONE.replace("fcbb:cc00:2::a", "fcbb:cc00:9::9"))
        server.process.send_signal(signal.SIGHUP)
        server.wait_for_error("zone reloaded")
        response = dns.query.udp(query, "::1", port=server.port, timeout=PATIENCE)
        assert answers(response) == ["wb.hawk.net. 5 IN AAAA fcbb:cc00:9::9"]
        zone_file.write_text("nonsense here\n")
        server.process.send_signal(signal.SIGHUP)
        server.wait_for_error("keeping the old zone: ")
        response = dns.query.udp(query, "::1", port=server.port, timeout=PATIENCE)
        assert answers(response) == ["wb.hawk.net. 5 IN AAAA fcbb:cc00:9::9"]

    def test_ends_at_once_with_a_connection_open(self, server: Running) -> None:
        with socket.create_connection(("::1", server.port), timeout=PATIENCE):
            assert_ends_at_once(server)

    def test_port_in_use(self, server: Running, zone_file: Path) -> None:
        port = str(server.port)
        result = run(
            "dns", "--zone", str(zone_file), "--origin", "hawk.net", "--address", "::1", "--port", port
        )
        assert result.returncode == 1
        assert result.stderr == f"Can't listen on [::1]:{port}: Address already in use.\n"
        assert result.stdout == ""

    def test_bad_zone_and_bad_addresses(self, tmp_path: Path, zone_file: Path) -> None:
        common = ("--origin", "hawk.net", "--port", "0")
        result = run("dns", "--zone", str(tmp_path / "none"), "--address", "::1", *common)
        assert result.returncode == 1
        assert (
            result.stderr
            == f"Can't serve the zone: {tmp_path}/none: cannot be read: No such file or directory\n"
        )
        for address in ("2001:db8::1", "127.0.0.1"):
            result = run("dns", "--zone", str(zone_file), "--address", address, *common)
            assert result.returncode == 1
            assert result.stderr.startswith(f"Can't listen on [{address}]:0: ")
            assert len(result.stderr.splitlines()) == 1


class TestWebProgram:
    @pytest.fixture
    def server(self, start: Start) -> Running:
        """The web server."""
        return start("web", "--text", "Hello from host-b")

    @pytest.fixture
    def client(self, server: Running) -> Iterator[http.client.HTTPConnection]:
        """A connection to the web server."""
        with contextlib.closing(
            http.client.HTTPConnection("::1", server.port, timeout=PATIENCE)
        ) as connection:
            yield connection

    def test_text(self, client: http.client.HTTPConnection) -> None:
        client.request("GET", "/")
        response = client.getresponse()
        assert (response.status, response.version) == (200, 11)
        assert response.read() == b"Hello from host-b"

    @pytest.mark.parametrize("length", [0, 1, 65535, 65536, 65537, 3_000_000])
    def test_bytes(self, client: http.client.HTTPConnection, length: int) -> None:
        client.request("GET", f"/bytes/{length}")
        response = client.getresponse()
        assert response.getheader("Content-Length") == str(length)
        assert response.read() == b"".join(pattern(length))

    @pytest.mark.parametrize("path", ["/bytes/", "/bytes/-1", "/bytes/x", "/bytes/9999999999999", "/other"])
    def test_not_found_keeps_the_connection(self, client: http.client.HTTPConnection, path: str) -> None:
        client.request("GET", path)
        response = client.getresponse()
        assert response.status == 404
        response.read()
        client.request("HEAD", "/bytes/5")
        response = client.getresponse()
        assert response.getheader("Content-Length") == "5"
        assert response.read() == b""

    @pytest.mark.parametrize("method", ["PUT", "POST"])
    @pytest.mark.parametrize("chunked", [False, True])
    def test_bodies(self, client: http.client.HTTPConnection, method: str, chunked: bool) -> None:
        for length in (0, 10, 200_000):
            body = b"".join(pattern(length))
            client.request(method, "/", body=pattern(length) if chunked else body, encode_chunked=chunked)
            response = client.getresponse()
            assert response.status == 200
            assert response.read().decode() == f"{hashlib.sha256(body).hexdigest()} {length}\n"

    @pytest.mark.parametrize(
        "headers",
        [
            "Content-Length: x\r\n\r\n",
            "Content-Length: -1\r\n\r\n",
            "Content-Length: 10\r\n\r\nfive!",
            "Transfer-Encoding: gzip\r\n\r\n",
            "Transfer-Encoding: chunked\r\n\r\nzz\r\n",
            "Transfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n",
        ],
    )
    def test_faulty_bodies(self, server: Running, headers: str) -> None:
        with socket.create_connection(("::1", server.port), timeout=PATIENCE) as connection:
            connection.sendall(f"PUT / HTTP/1.1\r\nHost: x\r\n{headers}".encode())
            connection.shutdown(socket.SHUT_WR)
            answer = connection.makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 400 ")

    def test_access_log(self, server: Running, client: http.client.HTTPConnection) -> None:
        client.request("GET", "/bytes/3")
        client.getresponse().read()
        server.wait_for_error('::1 "GET /bytes/3 HTTP/1.1" 200')

    def test_a_client_that_leaves(self, server: Running, client: http.client.HTTPConnection) -> None:
        with socket.create_connection(("::1", server.port), timeout=PATIENCE) as connection:
            connection.sendall(b"GET /bytes/100000000 HTTP/1.1\r\nHost: x\r\n\r\n")
            connection.recv(1000)
        server.wait_for_error("connection lost")
        client.request("GET", "/")
        assert client.getresponse().status == 200
        assert "Traceback" not in server.errors.read_text()

    def test_ends_at_once_with_a_transfer_under_way(self, server: Running) -> None:
        with socket.create_connection(("::1", server.port), timeout=PATIENCE) as connection:
            connection.sendall(b"GET /bytes/100000000 HTTP/1.1\r\nHost: x\r\n\r\n")
            connection.recv(1000)
            assert_ends_at_once(server)

    def test_port_in_use(self, server: Running) -> None:
        result = run("web", "--address", "::1", "--port", str(server.port))
        assert result.returncode == 1
        assert result.stderr == f"Can't listen on [::1]:{server.port}: Address already in use.\n"
        assert result.stdout == ""

    @pytest.mark.parametrize(
        ("address", "port"), [("2001:db8::1", "0"), ("127.0.0.1", "0"), ("::1", "99999")]
    )
    def test_bad_addresses(self, address: str, port: str) -> None:
        result = run("web", "--address", address, "--port", port)
        assert result.returncode == 1
        assert result.stderr.startswith(f"Can't listen on [{address}]:{port}: ")
        assert len(result.stderr.splitlines()) == 1
