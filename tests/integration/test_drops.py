"""`hawkwing drops` with a real agent: each packet is counted under its reason."""

import json
import socket
import subprocess
from contextlib import suppress
from typing import Any

from lab.wait import wait_until

from .pair import HAWKWING, OWN, PORT, SERVICE, Pair


def told(pair: Pair) -> dict[tuple[str, str], int]:
    (agent,) = json.loads(pair.hawkwing("drops", "client", "-i", "eth0", "--json"))
    return {(row["direction"], row["reason"]): row["packets"] for row in agent["reasons"]}


def send(pair: Pair, port: int, size: int = 10) -> None:
    def work() -> None:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as plain, suppress(OSError):
            plain.bind((OWN, 0))
            plain.sendto(bytes(size), (SERVICE, port))

    pair.within(work)


def test_each_packet_has_its_reason(pair: Pair) -> None:
    pair.agent().ready()
    for _ in range(3):
        assert pair.steered()
    send(pair, PORT + 1)
    found = told(pair)
    assert (found["egress", "STEERED"], found["egress", "NO_APPLICATION"]) == (3, 1)
    assert "no packet was dropped\n" in pair.hawkwing("drops")


def test_following_has_what_is_new(pair: Pair) -> None:
    """Datagrams that do not fit the MTU with their SRH are split; the next lines have that, with its rate."""
    pair.agent().ready()
    assert pair.steered()
    argv = pair.inside([*HAWKWING, "drops", "--follow", "--json"])
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            first = json.loads(process.stdout.readline())
            assert first["seconds"] is None
            assert [row["packets"] for row in first["reasons"] if row["reason"] == "STEERED"] == [1]
            pair.sh("ip link set eth0 mtu 1280")
            send(pair, PORT, 1200)
            send(pair, PORT, 1200)
            new: list[dict[str, Any]] = []

            def counted() -> bool:
                assert process.stdout is not None
                line = json.loads(process.stdout.readline())
                assert line["seconds"] > 0
                new.extend(row for row in line["reasons"] if row["reason"] == "SPLIT")
                return sum(row["packets"] for row in new) == 2

            wait_until(counted, 10.0, "both datagrams to be counted")
        finally:
            process.terminate()
    assert all(row["packets_per_second"] > 0 and row["kind"] == "ok" for row in new)
