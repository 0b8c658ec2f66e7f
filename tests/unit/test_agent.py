"""What an agent tells of itself: its status has all that the metrics need, and reloads are counted."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

import pytest

from hawkwing import client as client_module
from hawkwing.agent import Agent
from hawkwing.client import Client
from hawkwing.controller.stream import ControllerStream
from hawkwing.dataplane.flows import FlowTable
from hawkwing.dataplane.interfaces import Asked
from hawkwing.dataplane.plane import Count, LearnedPath
from hawkwing.errors import ConfigError, DataplaneError
from hawkwing.metric_families import METRICS, families
from hawkwing.plan import Options, make_plan

SIDS = (IPv6Address("fcbb:bb00:1::2"), IPv6Address("fcbb:bb00:6::2"))
CONFIG = """\
client_ipv6_address: fd00::1
hawkeye: {enabled: true, address: "::1", port: 5001}
services:
  web:
    ipv6_addresses: ["fd00::80"]
    applications: [{port: 80, sid: ["fcbb:bb00:1::2"], intents: [{intent: low-latency}]}]
"""


class Table:
    """A map that takes everything."""

    class info:  # noqa: N801
        max_entries = 4096

    def set(self, key: bytes, value: bytes) -> None: ...
    def delete(self, key: bytes) -> None: ...


class Plane:
    """A data plane without a kernel, which has steered and learned."""

    def __init__(self, role: str) -> None:
        self.role = role
        self.sr_domain = None
        self.csid = self.hmac = self.decap = ()
        self.maps = dict.fromkeys(("policies", "selections", "names", "flows", "free_slots"), Table())
        self.flows: FlowTable | None = None

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None

    def counters(self) -> dict[str, dict[str, Count]]:
        return {"egress": {"STEERED": Count(3, 300)}, "ingress": {}}

    def learned_paths(self) -> list[LearnedPath]:
        return [LearnedPath(1, SIDS, False)]

    def path_count(self, slot: int) -> Count:
        return Count(slot, 100)


class Keeper:
    """One interface, attached."""

    def links(self) -> dict[str, int]:
        return {"lo": 1}

    def report(self) -> list[dict[str, Any]]:
        return [{"interface": "lo", "name": "lo", "attached": True, "warnings": [], "restored": 0}]


@pytest.fixture(params=["client", "server"])
def agent(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Agent:
    """An agent that is attached nowhere, with its configuration in hawk.yaml."""
    monkeypatch.setattr(client_module.handover, "runtime_folder", lambda: tmp_path)
    file = tmp_path / "hawk.yaml"
    file.write_text(CONFIG)
    options = Options(request.param, [Asked("lo", "lo")], file)
    plan = make_plan(options)
    made = Agent(options, plan, None)  # type: ignore[arg-type]
    made._plane, made._keeper = Plane(request.param), Keeper()  # type: ignore[assignment]
    if request.param == "client":
        made._client = Client(made._plane, "lo", made._tasks)
        made._client.begin(plan)
    return made


def test_the_status_has_all_that_the_metrics_need(agent: Agent) -> None:
    async def run() -> dict[str, Any]:
        if agent._client is not None:
            agent._client._stream = ControllerStream(IPv6Address("::1"), 5001, lambda *_: None)
            agent._client._want()
        await agent._tasks.keep("next hops", lambda: asyncio.sleep(0))
        return await agent._status({})

    status = asyncio.run(run())
    found = {family.name for family in families(status)}
    # Figures of paths are those of applications with several.
    figures = {one.family for one in METRICS if one.labels == ("path",)}
    figures -= {"hawkwing_path_packets", "hawkwing_path_bytes"}
    figures |= {"hawkwing_stamp_packets", "hawkwing_decap_installed", "hawkwing_decap_packets"}
    assert found == {one.family for one in METRICS if one.of in ("both", status["role"])} - figures
    if status["role"] == "server":
        assert status["learned_paths"] == {"count": 1, "capacity": 4095}


def test_reloads_are_counted(agent: Agent) -> None:
    file = agent._options.config_file
    assert file is not None

    async def run() -> list[dict[str, int]]:
        counted = [(await agent._status({}))["reloads"]]
        if agent._client is None:
            # A client's needs real tables: tests/dataplane/test_reload.py.
            assert await agent._reload({}) == "configuration reloaded"
            counted.append((await agent._status({}))["reloads"])
        file.write_text("services: 1\n")
        with pytest.raises(ConfigError):
            await agent._reload({})
        await agent._reload_on_signal()
        return [*counted, (await agent._status({}))["reloads"]]

    counted = asyncio.run(run())
    good = int(agent._client is None)
    assert counted[0] == {"good": 0, "refused": 0}
    assert counted[-1] == {"good": good, "refused": 2}


class Knot:
    """Garbage that only a search finds."""

    def __init__(self) -> None:
        self.itself = self


@pytest.mark.parametrize(("objects", "left_out"), [(100, False), (50_000, True)])
def test_few_new_objects_are_searched_for_garbage(objects: int, left_out: bool) -> None:
    """What is left out of the search once stays, also what was a connection to the agent just then."""
    try:
        with client_module.without_collecting():
            connection = Knot()
            kept = [[number] for number in range(objects)]
        seen = weakref.ref(connection)
        del connection
        gc.collect()
        assert (seen() is not None) is left_out
        assert len(kept) == objects
    finally:
        gc.unfreeze()


class Decapsulator:
    """What a server has asked it for."""

    is_used = False

    def __init__(self) -> None:
        self.asked: list[object] = []

    def use(self, asked: object) -> None:
        self.asked.append(asked)


@pytest.mark.parametrize("agent", ["server"], indirect=True)
def test_a_refused_reload_decapsulates_as_before(agent: Agent) -> None:
    file = agent._options.config_file
    assert file is not None
    made = Decapsulator()
    agent._decapsulator = made  # type: ignore[assignment]
    before = agent._plan

    def refused(keys: object) -> None:
        if agent._plan is not before:
            raise DataplaneError("the kernel takes no more HMAC keys")

    agent._plane.set_hmac = refused  # type: ignore[method-assign]
    file.write_text("sr_domain: [fcbb::/16]\ndecap: {ipv6: 'fcbb::d6'}\n")

    async def run() -> None:
        with pytest.raises(DataplaneError, match="no more HMAC keys"):
            await agent._reload({})

    asyncio.run(run())
    assert [one is None for one in made.asked] == [False, True] and agent._plan is before
