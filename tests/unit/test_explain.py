"""`hawkwing explain` in all its forms, without a kernel."""

from __future__ import annotations

from ipaddress import IPv6Address
from types import SimpleNamespace
from typing import Any

import pytest

from hawkwing.cli import main
from hawkwing.client import Client
from hawkwing.config import Application, Config, Hawkeye, Service
from hawkwing.errors import HawkwingError
from hawkwing.explain import sentence
from hawkwing.intents import Intent, IntentType
from hawkwing.steering import Steering
from tests.unit.test_asking import Plane

SOURCE, THERE, OTHER, SID = (IPv6Address(f"fd00::{n}") for n in range(1, 5))
LATENCY = (Intent(IntentType.LOW_LATENCY, max_value=20),)
APPS = (
    Application(port=80, sid=(SID, SID), intents=LATENCY),
    Application(port=81, intents=LATENCY),
    Application(port=82, sid=(SID,)),
)
WITHOUT, USES = "are sent without an SRH:", f"use {SID} > {SID}:"


def steering(enabled: bool = True, source: IPv6Address | None = SOURCE) -> Steering:
    made = Steering(Plane())  # type: ignore[arg-type]
    services = {
        "web": Service(ipv6_addresses=(THERE,), applications=APPS),
        "named": Service(domain_name="a.example", applications=APPS[2:]),
    }
    hawkeye = Hawkeye(enabled=enabled, address=OTHER, port=1)
    made.apply(Config(hawkeye=hawkeye, services=services), source)
    return made


def stream(state: str) -> Any:
    """In this state, with an answer without a path to everything."""
    answer = SimpleNamespace(answered=True, empty=True)
    return SimpleNamespace(state=state, questions=SimpleNamespace(get=lambda _query: answer))


@pytest.mark.parametrize(
    ("port", "state", "told"),
    [
        (
            80,
            "connected",
            f"{USES} the configured sid, as backup for low-latency(max 20); "
            "the controller was asked, it returned no path",
        ),
        (
            80,
            "connecting",
            f"{USES} the configured sid, as backup for low-latency(max 20); "
            "the controller was asked, it is not connected",
        ),
        (
            81,
            "connected",
            f"{WITHOUT} the controller was asked for low-latency(max 20), but it returned no path, "
            "and no sid is configured as backup",
        ),
        (82, "connected", f"use {SID}: the configured sid; no controller is asked"),
    ],
)
def test_with_a_controller(port: int, state: str, told: str) -> None:
    found = sentence(steering(), stream(state), str(THERE), port)
    assert found == f"packets to [{THERE}]:{port} (service web) {told}"


def test_the_controllers_path() -> None:
    made = steering()
    (query,) = {query for query in made.queries() if query.intents == LATENCY}
    made.set_controller_path(query, (OTHER,))
    assert sentence(made, stream("connected"), str(THERE), 81) == (
        f"packets to [{THERE}]:81 (service web) use {OTHER}: the controller's path for low-latency(max 20)"
    )


@pytest.mark.parametrize(
    ("port", "told"),
    [
        (80, f"{USES} the configured sid; no controller is asked"),
        (81, f"{WITHOUT} no controller is asked for low-latency(max 20), and no sid is configured"),
    ],
)
def test_without_a_controller(port: int, told: str) -> None:
    found = sentence(steering(enabled=False), None, str(THERE), port)
    assert found == f"packets to [{THERE}]:{port} (service web) {told}"


@pytest.mark.parametrize(
    ("port", "told"),
    [
        (
            80,
            f"{USES} the configured sid, as backup for low-latency(max 20); "
            "the interface has no global IPv6 address yet",
        ),
        (
            81,
            f"{WITHOUT} the controller can't be asked for low-latency(max 20), "
            "the interface has no global IPv6 address yet, and no sid is configured as backup",
        ),
    ],
)
def test_without_a_source_address(port: int, told: str) -> None:
    found = sentence(steering(source=None), stream("connected"), str(THERE), port)
    assert found == f"packets to [{THERE}]:{port} (service web) {told}"


@pytest.mark.parametrize(
    ("destination", "port", "told"),
    [
        (THERE, 1, f"packets to [{THERE}]:1 {WITHOUT} no application of the service has port 1"),
        (OTHER, 80, f"packets to [{OTHER}]:80 {WITHOUT} destination matches no service"),
        ("b.example", 80, f"packets to b.example {WITHOUT} no service has this name"),
        ("A.example.", 82, "a.example is configured, but has not been resolved yet"),
    ],
)
def test_destinations(destination: object, port: int, told: str) -> None:
    assert sentence(steering(), None, str(destination), port) == told


def test_each_address_of_a_name() -> None:
    made = steering()
    made.learn("a.example", [OTHER, SID], 60.0)
    found = sentence(made, None, "a.example", 82).splitlines()
    assert [line.split(" (")[0] for line in found] == [f"packets to [{OTHER}]:82", f"packets to [{SID}]:82"]


@pytest.mark.parametrize("request_", [{}, {"destination": 1, "port": 80}, {"destination": "a", "port": "²"}])
def test_a_request_that_nobody_should_send(request_: dict[str, Any]) -> None:
    with pytest.raises(HawkwingError, match="a destination and a port are needed"):
        Client.explain(SimpleNamespace(), request_)  # type: ignore[arg-type]


@pytest.mark.parametrize("words", [["x", "²"], ["x", "٣"], ["x:²"], ["[fd00::1]:²"], ["x", "8 0"]])
def test_digits_that_are_none(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", *words]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("hawkwing: ") and line.endswith(" is not a port, use 0 to 65535")
