"""How status and explain tell where an agent is attached: while it isn't, neither says that all is well."""

from typing import Any

import pytest

from hawkwing.explain import where_attached
from hawkwing.status import lines, trust_sentence

GOOD: dict[str, Any] = {
    "interface": "eth0",
    "name": "eth0",
    "renamed": False,
    "index": 3,
    "attached": True,
    "problem": "",
    "warnings": [],
    "restored": 0,
}
GONE = GOOD | {"attached": False, "index": None, "problem": "eth0 is gone"}
WARNED = GOOD | {"warnings": ["eth0 egress: a u32 filter at priority 7 runs before HawkWing's, ..."]}
ANSWER = "packets to [fcbb::1]:80 (service web) use fcbb::2: the configured sid; no controller is asked"


def status(*attachments: dict[str, Any]) -> list[str]:
    told = {
        "role": "client",
        "pid": 1,
        "interfaces": ["eth0"],
        "started": 0.0,
        "ingress_hook": "tc",
        "trusted": trust_sentence(None),
        "counters": {},
        "attachments": attachments,
    }
    return list(lines(told))[2:]


@pytest.mark.parametrize(
    ("one", "told"),
    [
        (GOOD, []),
        (GONE, ["  not attached: eth0 is gone"]),
        (GOOD | {"renamed": True, "name": "lan0"}, ["  eth0 has been renamed to lan0"]),
        (
            GOOD | {"restored": 1},
            ["  eth0: filters were removed by another program once, and attached again"],
        ),
        (
            GOOD | {"restored": 3},
            ["  eth0: filters were removed by another program 3 times, and attached again"],
        ),
        (GOOD | {"problem": "another XDP program"}, ["  warning: another XDP program"]),
        (WARNED, [f"  warning: {WARNED['warnings'][0]}"]),
    ],
)
def test_status(one: dict[str, Any], told: list[str]) -> None:
    assert status(one) == told


def test_explain_where_all_is_well() -> None:
    assert where_attached(ANSWER, [GOOD, GOOD]) == ANSWER


def test_explain_where_nothing_is_attached() -> None:
    assert where_attached(f"{ANSWER}\n{ANSWER}", [GONE]).splitlines() == [
        "not attached: eth0 is gone; packets are sent without an SRH",
        f"once attached, {ANSWER}",
        f"once attached, {ANSWER}",
    ]


def test_explain_where_one_of_two_is_attached() -> None:
    assert where_attached(ANSWER, [GOOD, GONE]).splitlines() == [
        "not attached: eth0 is gone; packets are sent without an SRH on this interface",
        ANSWER,
    ]


def test_explain_where_others_come_first() -> None:
    assert where_attached(ANSWER, [WARNED]).splitlines() == [f"warning: {WARNED['warnings'][0]}", ANSWER]
