"""Real agents tell all keys of the schema, and no others."""

import json
from typing import Any

from hawkwing.status_model import Client, Server
from tests.schemas import assert_known_status

from .pair import CONFIG, Pair

MORE = """\
hawkeye: {enabled: true, address: "::1", port: 5001}
"""
SERVICES = """\
  named: {domain_name: nowhere.invalid, applications: [{port: 80, intents: [{intent: low-latency}]}]}
  asked: {ipv6_addresses: ["fcbb:cc00:2::b"], applications: [{port: 80, intents: [{intent: low-latency}]}]}
"""


def status(pair: Pair) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = json.loads(pair.hawkwing("status", "--json"))
    assert_known_status(told)
    return told


def test_a_client_without_a_controller(pair: Pair) -> None:
    pair.agent().ready()
    assert pair.steered()
    (told,) = status(pair)
    assert Client.__required_keys__ <= told.keys() and "controller" not in told


def test_a_client_with_a_controller_that_is_not_there(pair: Pair) -> None:
    """Also a name that can't be resolved, and requests without an answer."""
    pair.config.write_text(
        MORE + CONFIG.replace("services: {b: ", "services:\n  b: ").replace("}}\n", "}\n") + SERVICES
    )
    pair.agent().ready()
    (told,) = status(pair)
    assert told["controller"]["unanswered"] and told["unresolved"]
    assert {binding["origin"] for binding in told["bindings"]} == {"backup", "none"}


def test_a_server_and_a_client(pair: Pair) -> None:
    pair.agent("server").ready()
    pair.agent("client").ready()
    assert pair.steered()
    told = {agent["role"]: agent for agent in status(pair)}
    assert Server.__required_keys__ <= told["server"].keys()
    assert told["server"]["flows"]["capacity"] > 0


def test_a_server_that_decapsulates(pair: Pair) -> None:
    pair.config.write_text("sr_domain: [fcbb::/16]\ndecap: {ipv6: 'fcbb::d6', ipv4: 'fcbb::d4'}\n")
    pair.agent("server", "--config", str(pair.config)).ready()
    (told,) = status(pair)
    assert [one["installed"] for one in told["decap"]["sids"]] == [True, False]


def test_an_agent_whose_interface_is_gone(pair: Pair) -> None:
    pair.agent().ready()
    pair.sh("ip link del eth0")
    (told,) = status(pair)
    assert told["attachments"][0]["interface"] == "eth0"
