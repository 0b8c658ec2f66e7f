"""What is measured of paths, from the counts of a data plane that the tests make up."""

from __future__ import annotations

from ipaddress import IPv6Address
from typing import cast

import pytest
import yaml

from hawkwing.config_models import Application, Config
from hawkwing.dataplane.plane import NO_TRAFFIC, DataPlane, Health, Traffic
from hawkwing.desired import Desired, choosing
from hawkwing.measured import LossWindow, Measured
from hawkwing.sids import SidList

UPPER, LOWER = ((IPv6Address(f"fcbb:bb00:{number}::"),) for number in (1, 2))
SLOTS = {UPPER: 1, LOWER: 2}


def window(*counts: tuple[int, int]) -> float | None:
    """The loss after these numbers of probes, sent and back."""
    made = LossWindow()
    for sent, received in counts:
        made.add(sent, received)
    return made.percent


def test_the_loss_of_probes() -> None:
    assert window() is None
    assert window((100, 100)) is None, "nothing to compare with"
    assert window((100, 90), (119, 109)) is None, "too few"
    assert window((100, 90), (120, 110)) == 0
    assert window((100, 90), (200, 180)) == 10
    assert window((100, 90), (200, 189)) == 0, "one more is under way"
    assert window((100, 90), (200, 191)) == 0, "one less is under way"
    assert window((100, 90), (200, 90)) == 100
    assert window((100, 300), (200, 350)) == 50, "the totals begin anywhere"
    assert window((0, 0), (100, 50), (100, 50)) == 50, "no probe was sent in between"
    assert window((0, 0), (100, 50), (200, 50)) == 75, "no probe has returned in between"


def test_old_losses_are_forgotten() -> None:
    counts = [(100 * number, 100 * number - 50) for number in range(1, 40)]
    assert window((0, 0), *counts[:20]) == pytest.approx(2.5)
    assert window((0, 0), *counts) == 0


def test_a_loss_counts_for_thirty_looks() -> None:
    counts = [(0, 0), *((100 * number, 100 * number - 50) for number in range(1, 32))]
    assert window(*counts[:31]) == pytest.approx(50 / 30)
    assert window(*counts) == 0


@pytest.mark.parametrize("again", [(10, 100), (300, 10)])
def test_counts_that_begin_again(again: tuple[int, int]) -> None:
    assert window((100, 100), (200, 150), again) is None


class Plane:
    """Figures of two paths."""

    def __init__(self) -> None:
        self.told = {1: Health("alive", 50, 0.030, 0.004), 2: Health("alive", 50, 0.010, 0.001)}
        self.carried = {1: NO_TRAFFIC, 2: NO_TRAFFIC}

    def health(self, slot: int, _now: int) -> Health:
        return self.told[slot]

    def traffic(self, slot: int) -> Traffic:
        return self.carried[slot]


class Scene:
    """An application with two paths, and what is chosen for it."""

    def __init__(self, intents: str = "[{intent: low-latency}]", probes: str = "probes: {}") -> None:
        text = f"""
services:
  web:
    ipv6_addresses: ['fd00::1']
    applications:
      - port: 80
        paths: [{{sid: ['{UPPER[0]}'], name: upper}}, {{sid: ['{LOWER[0]}'], name: lower}}]
        intents: {intents}
{probes}
"""
        config = Config.model_validate(yaml.safe_load(text))
        self.desired = Desired.of(config)
        self.application: Application = config.services["web"].applications[0]
        self.plane = Plane()
        self.now = 0.0
        self.sent = {1: 50, 2: 50}
        self.unreachable: set[SidList] = set()
        self.controllers: list[SidList] = []
        self.measured = Measured(cast(DataPlane, self.plane), SLOTS.get, lambda: self.now)

    def look(self) -> bool:
        self.now += 1
        key = choosing(self.application)
        assert key is not None
        return self.measured.look(
            self.desired,
            [(key, sids) for sids in self.controllers],
            self.sent,
            lambda sids: sids not in self.unreachable,
        )

    @property
    def chosen(self) -> list[str]:
        return [one.name for one in self.measured.chosen(self.application)]


def test_latency_is_half_of_the_probes_round_trip() -> None:
    scene = Scene()
    assert scene.chosen == [] and scene.measured.reason(scene.application) == ""
    assert scene.look()
    assert scene.chosen == ["lower"]
    assert scene.measured.reason(scene.application) == "measured latency of 5 ms (upper: 15 ms)"
    assert not scene.look(), "nothing has changed"


def test_without_probes_it_is_half_of_tcps() -> None:
    scene = Scene(probes="")
    scene.plane.carried = {1: Traffic(0.002, None, 9, 0), 2: Traffic(0.040, None, 9, 0)}
    scene.look()
    assert scene.chosen == ["upper"]
    assert scene.measured.reason(scene.application) == "measured latency of 1 ms (lower: 20 ms)"


def test_jitter_and_rate() -> None:
    scene = Scene("[{intent: low-jitter}]")
    scene.look()
    assert scene.measured.reason(scene.application) == "measured jitter of 1 ms (upper: 4 ms)"
    scene = Scene("[{intent: high-bandwidth}]")
    scene.plane.carried = {1: Traffic(0.1, 5e6, 9, 0), 2: Traffic(0.1, 1e6, 9, 0)}
    scene.look()
    assert scene.measured.reason(scene.application) == "measured delivery rate of 40 Mbit/s (lower: 8 Mbit/s)"


def test_loss() -> None:
    scene = Scene("[{intent: low-packet-loss}]")
    for _ in range(4):
        scene.look()
        scene.sent = {1: scene.sent[1] + 100, 2: scene.sent[2] + 100}
        for slot, received in ((1, 100), (2, 80)):
            before = scene.plane.told[slot]
            scene.plane.told[slot] = before._replace(received=before.received + received)
    scene.look()
    assert scene.chosen == ["upper"]
    assert scene.measured.loss(LOWER) == 20
    assert scene.measured.reason(scene.application) == "measured loss of 0 % (lower: 20 %)"


def test_a_dead_path_and_one_without_a_route_are_not_chosen() -> None:
    scene = Scene()
    scene.plane.told[2] = Health("dead", 50, 0.010, 0.001)
    scene.look()
    assert scene.chosen == ["upper"]
    scene = Scene()
    scene.unreachable.add(LOWER)
    scene.look()
    assert scene.chosen == ["upper"]


def test_a_silent_controllers_path_is_held_against_the_limit() -> None:
    scene = Scene("[{intent: low-latency, max_value: 8000}]")
    for _ in range(3):
        scene.look()
    assert not scene.measured.is_left(scene.application, UPPER), "the controller is there"
    assert scene.measured.why_left(scene.application, UPPER) == "its latency of 15 ms exceeds 8 ms"
    scene.controllers = [UPPER, LOWER]
    assert scene.look()
    assert scene.measured.is_left(scene.application, UPPER)
    assert not scene.measured.is_left(scene.application, LOWER)
    scene.controllers = []
    assert scene.look(), "the controller is back"
    assert not scene.measured.is_left(scene.application, UPPER)


def test_applications_that_have_gone_are_forgotten() -> None:
    scene = Scene()
    scene.look()
    scene.desired = Desired()
    assert scene.look()
    assert scene.chosen == []
    assert not scene.look()


def test_an_application_that_comes_back_is_measured_anew() -> None:
    scene = Scene("[{intent: low-latency, max_value: 8000}]")
    for _ in range(3):
        scene.look()
    assert scene.measured.why_left(scene.application, UPPER)
    there, scene.desired = scene.desired, Desired()
    scene.look()
    scene.desired = there
    scene.look()
    assert scene.measured.why_left(scene.application, UPPER) == ""


def test_a_silent_controllers_path_within_the_limit_changes_nothing() -> None:
    scene = Scene("[{intent: low-latency, max_value: 8000}]")
    scene.look()
    scene.controllers = [LOWER]
    assert not scene.look()
    # Its application is not configured any more.
    scene.desired = Desired()
    assert scene.look()
    assert not scene.look()


def test_nothing_is_known_of_a_path_that_is_not_in_use() -> None:
    scene = Scene()
    scene.measured = Measured(cast(DataPlane, scene.plane), {UPPER: 1}.get, lambda: scene.now)
    scene.look()
    assert scene.chosen == ["upper"]
    assert scene.measured.reason(scene.application) == "measured latency of 15 ms (lower: not known)"


def test_what_is_compared() -> None:
    assert len(Scene().desired.choices) == 1
    assert not Scene("[{intent: flex-algo, flex_algo_number: 128}]").desired.choices
    assert not Scene("[]").desired.choices
