"""The benches: one loaded data plane per role and session, emptied and filled alike for every test."""

import os
from collections.abc import Iterator

import pytest

from hawkwing.dataplane.loader import Capacities, Loading
from tests.dataplane.bench import Bench, Namespace, results
from tests.dataplane.scene import HOST_A, HOST_B, Host, fill_client, fill_flows, fill_server


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The test of what the others have covered comes last."""
    items.sort(key=lambda item: item.path.name == "test_reasons.py")


@pytest.fixture(scope="session")
def namespace() -> Iterator[Namespace]:
    """A nameless network namespace with a veth, for all test runs; see `Namespace`."""
    if os.geteuid() != 0:
        pytest.skip("needs root: loading BPF programs")
    try:
        found = Namespace()
    except OSError as error:
        pytest.skip(f"needs network namespaces: {error}")
    yield found
    found.close()


@pytest.fixture(scope="session")
def loaders(namespace: Namespace) -> Iterator[dict[str, Loading]]:
    """Loaders of both roles, and of a server with hardly any room, all at work at once."""
    small = Capacities(policies=4, services=4, routes=4, names=4, flows=16)
    found = {"client": Loading("client", Capacities()), "server": Loading("server", Capacities())}
    found["small"] = Loading("server", small)
    yield found
    for loader in found.values():
        loader.abandon()


@pytest.fixture(scope="session")
def benches(loaders: dict[str, Loading], namespace: Namespace) -> dict[str, Bench]:
    """The loaded benches by name: client, server, small."""
    loaded = results(loaders)
    roles = {"client": "client", "server": "server", "small": "server"}
    return {name: Bench(roles[name], loaded[name], namespace) for name in loaded}


@pytest.fixture
def client(benches: dict[str, Bench]) -> Host:
    """Host A as a client of host B, see `scene.fill_client`.

    Example: `client.bench.expect("egress", packet, "STEERED", out=steered(packet, SIDS[:2]))`.
    """
    fill_client(benches["client"])
    return Host(benches["client"], HOST_A, HOST_B)


@pytest.fixture
def server(benches: dict[str, Bench]) -> Host:
    """Host B as a server with host A as its client; nothing is learned yet and everyone is believed."""
    fill_server(benches["server"])
    return Host(benches["server"], HOST_B, HOST_A)


@pytest.fixture
def small_server(benches: dict[str, Bench]) -> Host:
    """As `server`, with room for three paths."""
    fill_server(benches["small"])
    return Host(benches["small"], HOST_B, HOST_A)


@pytest.fixture(params=["client", "server"])
def host(request: pytest.FixtureRequest) -> Host:
    """Either role: what both do alike. The server has flows like the client's routes."""
    found: Host = request.getfixturevalue(request.param)
    if request.param == "server":
        fill_flows(found.bench)
    return found
