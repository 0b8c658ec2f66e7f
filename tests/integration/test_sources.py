"""The source in requests to the controller follows the host's addresses."""

import json
import signal

from lab.network import Lab
from lab.wait import wait_until

from .conftest import HAWKWING, Agents

TEXT = """
hawkeye: {enabled: true, address: "::1", port: 1}
services:
  near:
    ipv6_addresses: ["2001:cafe:c::9"]
    applications: [{port: 80, intents: [{intent: low-latency}]}]
  far:
    ipv6_addresses: ["fcbb:cc00:2::a"]
    applications: [{port: 80, sid: ["fcbb:bb00:1::2"], intents: [{intent: low-latency}]}]
"""


def ip(lab: Lab, *words: str) -> None:
    lab.execute("host-c", ["ip", "-6", *words])


def sources(lab: Lab) -> dict[str, str | None]:
    """By service, what the requests say."""
    told = json.loads(lab.execute("host-c", [*HAWKWING, "status", "--json"]).stdout)
    return {one["service"]: one["source"] for one in told[0]["bindings"]}


def test_the_source_is_the_kernels_and_follows_the_addresses(lab: Lab, agents: Agents) -> None:
    agents.client(TEXT, "host-c")
    usual = {"near": "2001:cafe:c::c", "far": "fcbb:cc00:3::a"}
    assert sources(lab) == usual
    try:
        # Nearer to the destination: the kernel prefers it (RFC 6724, rule 8).
        ip(lab, "addr", "add", "fcbb:cc00:2::c/128", "dev", "eth0", "nodad")
        wait_until(lambda: sources(lab)["far"] == "fcbb:cc00:2::c", 5.0, "the new address is used")
        assert sources(lab)["near"] == usual["near"]
        ip(lab, "addr", "change", "fcbb:cc00:2::c/128", "dev", "eth0", "preferred_lft", "0")
        wait_until(lambda: sources(lab) == usual, 5.0, "the deprecated address is avoided")
    finally:
        ip(lab, "addr", "del", "fcbb:cc00:2::c/128", "dev", "eth0")
    assert sources(lab) == usual


def test_the_source_follows_the_routes(lab: Lab, agents: Agents) -> None:
    agents.client(TEXT, "host-c")
    assert sources(lab)["far"] == "fcbb:cc00:3::a"
    route = ["fcbb:cc00:2::a/128", "via", "2001:cafe:c::1"]
    ip(lab, "route", "add", *route, "src", "2001:cafe:c::c")
    try:
        wait_until(lambda: sources(lab)["far"] == "2001:cafe:c::c", 5.0, "the route's source is used")
    finally:
        ip(lab, "route", "del", *route)
    wait_until(lambda: sources(lab)["far"] == "fcbb:cc00:3::a", 5.0, "the usual source is used again")
    rule = ["to", "fcbb:cc00:2::a", "priority", "100", "lookup", "77"]
    ip(lab, "route", "add", "table", "77", "default", "via", "2001:cafe:c::1", "src", "2001:cafe:c::c")
    ip(lab, "rule", "add", *rule)
    try:
        wait_until(lambda: sources(lab)["far"] == "2001:cafe:c::c", 5.0, "the rule's table is used")
    finally:
        ip(lab, "rule", "del", *rule)
        ip(lab, "route", "flush", "table", "77")


def test_a_host_without_a_global_address_has_its_backup_and_asks_later(lab: Lab, agents: Agents) -> None:
    config = lab.run / "no-address.yaml"
    config.write_text(TEXT)
    make = "ip link add bare type veth peer name bare2 && ip link set bare up && ip link set bare2 up"
    script = f"ip link set lo up; {make}; exec {' '.join(HAWKWING)} client -i bare --config {config}"
    process = lab.start("host-c", "no-address", ["unshare", "-n", "sh", "-c", script])
    enter = ["nsenter", "-n", "-t", str(process.pid)]

    def told() -> dict[str, tuple[str, str | None]]:
        said = lab.execute("host-c", [*enter, *HAWKWING, "status", "--json"]).stdout
        return {one["service"]: (one["origin"], one["source"]) for one in json.loads(said)[0]["bindings"]}

    def explain() -> str:
        return lab.execute("host-c", [*enter, *HAWKWING, "explain", "fcbb:cc00:2::a", "80"]).stdout

    try:
        process.wait_for("ready: ")
        assert "warning: bare has no global IPv6 address yet: the controller is asked" in process.output()
        assert told() == {"near": ("none", None), "far": ("backup", None)}
        assert "as backup for low-latency; the interface has no global IPv6 address yet" in explain()
        lab.execute("host-c", [*enter, "ip", "-6", "addr", "add", "2001:db8::7/64", "dev", "bare", "nodad"])
        wait_until(lambda: told()["far"] == ("backup", "2001:db8::7"), 5.0, "the new address is used")
    finally:
        process.signal(signal.SIGTERM)
        assert process.wait() == 0, process.output()
    assert "Traceback" not in process.output()
