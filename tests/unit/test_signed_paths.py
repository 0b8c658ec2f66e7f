"""Paths with and without `hmac`: which of the controller's fit, what a reload changes, and what is told."""

from __future__ import annotations

import asyncio
import logging
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hawkwing import explain
from hawkwing.client import Client
from hawkwing.config import Application, Config, Hawkeye, Service
from hawkwing.config_models import CandidatePath, CsidBlock, HmacKey
from hawkwing.controller.stream import ControllerStream
from hawkwing.intents import Intent, IntentType, PathQuery
from hawkwing.selections import Contents
from hawkwing.sids import Encapsulated, SidList
from hawkwing.steering import Steering
from hawkwing.tasks import Supervisor
from tests.unit.test_asking import Plane

SOURCE, THERE, SID, DECAP = (IPv6Address(f"fd00::{n}") for n in range(1, 5))
LATENCY = (Intent(IntentType.LOW_LATENCY),)
QUERY = PathQuery(SOURCE, THERE, LATENCY)
KEYS = tuple(HmacKey(key_id=number, secret_file=Path(f"hmac-{number}")) for number in (7, 8))
PLAIN = Application(port=80, sid=(SID,), intents=LATENCY)
ENCAP = Application(port=81, mode="encap", decap_sid=DECAP, intents=LATENCY)
CSID = CsidBlock(block=IPv6Network("fcbb:bb00::/32"))


def listed(count: int) -> SidList:
    return tuple(IPv6Address(f"fcbb:bb00:{number}::") for number in range(1, count + 1))


def config(*applications: Application, signed: bool = True, **more: Any) -> Config:
    return Config(
        hawkeye=Hawkeye(enabled=True, address=THERE, port=5001),
        services={"web": Service(ipv6_addresses=(THERE,), applications=applications)},
        hmac=KEYS if signed else (),
        **more,
    )


def steering(*applications: Application, signed: bool = True, **more: Any) -> Steering:
    made = Steering(Plane())  # type: ignore[arg-type]
    made.apply(config(*applications, signed=signed, **more), SOURCE)
    return made


def path(made: Steering, port: int = 80) -> SidList:
    binding = made.binding(THERE, port)
    assert binding is not None
    return binding.controller_path


@pytest.mark.parametrize(
    ("application", "signed", "most", "how"),
    [
        (PLAIN, True, 12, " with hmac"),
        (PLAIN, False, 15, ""),
        (ENCAP, True, 12, " with hmac"),
        (ENCAP, False, 14, " with mode: encap"),
    ],
)
def test_paths_of_the_controller_that_fit(
    application: Application, signed: bool, most: int, how: str
) -> None:
    made, port = steering(application, signed=signed), application.port
    fitting = listed(most - (application is ENCAP))
    assert made.refusal(QUERY, fitting) == ""
    made.set_controller_path(QUERY, fitting)
    assert path(made, port) == application.as_sent(fitting)
    longer = listed(len(fitting) + 1)
    assert made.refusal(QUERY, longer) == f"the path has {most + 1} SIDs, at most {most} are possible{how}"
    made.set_controller_path(QUERY, longer)
    assert path(made, port) == application.as_sent(fitting), "the one before stays"
    assert list(made.answers()) == [(QUERY, fitting)]


def test_what_counts_is_the_packed_list() -> None:
    made = steering(PLAIN, csid=(CSID,))
    made.set_controller_path(QUERY, listed(15))
    assert path(made) == listed(15)
    assert made.refusal(QUERY, (SID,) * 15) == "the path has 15 SIDs, at most 12 are possible with hmac"


def test_a_path_that_only_some_applications_can_use() -> None:
    made = steering(PLAIN, ENCAP)
    assert made.refusal(QUERY, listed(12)) == "" != made.refusal(QUERY, listed(13))
    made.set_controller_path(QUERY, listed(1))
    made.set_controller_path(QUERY, listed(12))
    assert path(made) == listed(12) and path(made, 81) == Encapsulated((*listed(1), DECAP))
    other = PathQuery(SOURCE, SID, LATENCY)
    assert made.refusal(other, listed(13)) == "", "nobody asks for it"


def test_a_reload_takes_leave_of_paths_that_are_too_long(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    more = Application(port=82, intents=LATENCY)
    made = steering(PLAIN, more, signed=False)
    made.set_controller_path(QUERY, listed(13))
    caplog.clear()
    made.apply(config(PLAIN, more), SOURCE)
    assert path(made) == path(made, 82) == ()
    why = "the controller's path is not used: the path has 13 SIDs, at most 12 are possible with hmac"
    assert caplog.messages == [
        f"web port 80 at {THERE}: {why}; paths in use now: {SID}",
        f"web port 82 at {THERE}: {why}; paths in use now: none",
    ]
    # Another application with the same request does not get it either.
    made.apply(config(PLAIN, Application(port=83, intents=LATENCY)), SOURCE)
    assert path(made, 83) == ()
    caplog.clear()
    made.apply(config(PLAIN, signed=False), SOURCE)
    assert path(made) == listed(13)
    assert len(caplog.messages) == 1 and "path from the controller: fcbb:bb00:1::, " in caplog.messages[0]


def test_other_blocks_make_a_path_too_long() -> None:
    made = steering(PLAIN, csid=(CSID,))
    made.set_controller_path(QUERY, listed(13))
    made.apply(config(PLAIN), SOURCE)
    assert path(made) == ()
    made.apply(config(PLAIN, csid=(CSID,)), SOURCE)
    assert path(made) == listed(13)


class Writing(Plane):
    """Keeps the selections."""

    def __init__(self) -> None:
        super().__init__()
        self.longest: list[int] = []

    def set_selection(self, _number: int, contents: Contents) -> None:
        self.longest.append(contents.longest)


def test_selections_follow_a_reload() -> None:
    several = Application(port=80, paths=tuple(CandidatePath(sid=listed(count)) for count in (1, 2)))
    plane = Writing()
    made = Steering(plane)  # type: ignore[arg-type]
    made.apply(config(several), SOURCE)
    for signed in (True, False, False, True):
        made.apply(config(several, signed=signed), SOURCE)
    assert plane.longest == [96, 56, 96]


def test_explain_tells_of_the_key() -> None:
    made = steering(PLAIN, ENCAP)
    begin = f"packets to [{THERE}]:80 (service web) use {SID}"
    stream: Any = SimpleNamespace(state="connecting")
    told = "the configured sid, as backup for low-latency; the controller was asked, it is not connected"
    assert explain.sentence(made, stream, str(THERE), 80) == f"{begin}, signed with key_id 7: {told}"
    without = explain.sentence(made, stream, str(THERE), 81)
    assert "are sent without an SRH: the controller was asked" in without
    made.set_controller_path(QUERY, (SID,))
    assert f"use {SID} > {DECAP}, encapsulated, signed with key_id 7: the controller's path" in (
        explain.sentence(made, stream, str(THERE), 81)
    )
    made.apply(config(PLAIN, signed=False), SOURCE)
    assert "signed" not in explain.sentence(made, stream, str(THERE), 80)


def test_explain_of_a_server() -> None:
    reply = "a server sends each reply on the reverse path of its request, or on the way back that it tells"
    assert explain.of_a_server(None) == f"{reply}; see hawkwing status"
    assert explain.of_a_server(7) == f"{reply}, signed with key_id 7; see hawkwing status"


def test_the_stream_asks_whether_a_path_can_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    class Stream(ControllerStream):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            made.append(options["refusal"])

        async def run(self) -> None:
            pass

    monkeypatch.setattr("hawkwing.controller.stream.ControllerStream", Stream)
    agent = Client(Plane(), "eth0", Supervisor())  # type: ignore[arg-type]
    agent._plan = SimpleNamespace(config=config(PLAIN), pem=None)  # type: ignore[assignment]
    asyncio.run(agent._start_stream())
    assert made == [agent.steering.refusal]
