"""Programs and model agree on packets of every kind; `python -m tests.dataplane.fuzz` runs more of them."""

import pytest

from hawkwing.dataplane.layout import reasons
from tests.dataplane.bench import Bench, Namespace, with_xdp
from tests.dataplane.fuzz import CAPACITIES, run

CASES, PARTS = 10_000, 4
RARE = {
    "TOO_BIG_SILENT",
    "TOO_BIG_PLAIN",
    "NAME_LOST",
    "NO_ROOM",
    "NOT_STRIPPED",
    "FLOWS_FULL",
    "FLOW_REPLACED",
    "PROBE",
    "NOT_SIGNED",
    "DECAP_FOREIGN",
    "DECAP_UNSIGNED",
    "WAY_BACK_USED",
}
"""Reasons that no packet alone brings about; other tests do."""
OVER_IPV4 = {
    "egress": "LOST_FRAGMENT MSS_CLAMPED NEXT_HOP NOT_FROM_HOST NO_APPLICATION NO_PATH STEERED TOO_BIG",
    "ingress": "ERROR_RESTORED MSS_CLAMPED NAME_LEARNED NOT_IPV6",
}


@pytest.fixture(scope="session")
def fuzzed(namespace: Namespace) -> dict[str, Bench]:
    """Both roles with their XDP programs and little room for paths."""
    return with_xdp(CAPACITIES, namespace)


@pytest.mark.parametrize("seed", range(PARTS))
def test_programs_and_model_agree(fuzzed: dict[str, Bench], seed: int) -> None:
    report = run(fuzzed, seed, CASES // PARTS)
    assert not report.faults, report.faults[0]
    assert report.cases == CASES // PARTS


def test_the_same_seed_gives_the_same_cases(fuzzed: dict[str, Bench]) -> None:
    first, second, other = (run(fuzzed, seed, 500).outcomes for seed in (9, 9, 10))
    assert first == second != other


def test_nearly_every_reason_is_met(fuzzed: dict[str, Bench]) -> None:
    report = run(fuzzed, 0, 16_000)
    met = {reason for _role, _direction, reason in report.outcomes}
    assert met >= {reason.name for reason in reasons()} - RARE
    assert report.ipv4.keys() >= {(way, name) for way, names in OVER_IPV4.items() for name in names.split()}
