"""Every reason has its test; this file's tests come last and look back at the others."""

import os
from pathlib import Path

import pytest

from hawkwing.dataplane.layout import reasons
from lab.wait import wait_until
from tests.dataplane.bench import Bench, Namespace

CLIENT, SERVER, BOTH = ("client",), ("server",), ("client", "server")
EGRESS = {
    BOTH: [
        *(
            "STEERED",
            "SPLIT",
            "NEXT_HOP",
            "MSS_CLAMPED",
            "NOT_IPV6",
            "NO_PATH",
            "HAS_ROUTING_HEADER",
            "EXTENSION_CHAIN",
        ),
        *("LOST_FRAGMENT", "TRUNCATED", "TOO_BIG_PLAIN", "TOO_BIG", "TOO_BIG_SILENT", "NO_ROOM"),
        "NOT_SIGNED",
    ],
    CLIENT: ["NO_SERVICE", "NOT_FROM_HOST", "NO_APPLICATION", "WAY_BACK_TOLD"],
    SERVER: ["NO_FLOW"],
}
INGRESS = {
    BOTH: [
        *("STRIPPED", "ERROR_RESTORED", "MSS_CLAMPED", "NOT_IPV6", "EXTENSION_CHAIN", "NO_ROUTING_HEADER"),
        *("ROUTING_TYPE", "SEGMENTS_LEFT", "SRH_MALFORMED", "NOT_LOCAL", "UNTRUSTED", "TRUNCATED"),
        *("NOT_STRIPPED", "OTHER_HOST", "ENCAPSULATED", "HMAC_REQUIRED", "PROBE"),
        *("HMAC_MISSING", "HMAC_WRONG"),
    ],
    CLIENT: ["NAME_LEARNED", "NAME_LOST", "WAY_BACK_USED"],
    SERVER: [
        *(
            "LEARNED",
            "NOTHING_TO_LEARN",
            "LIST_TOO_LONG",
            "ONE_WAY_SID",
            "PATHS_FULL",
            "FLOWS_FULL",
            "FLOW_REPLACED",
            "DECAP_FOREIGN",
            "DECAP_UNSIGNED",
        ),
        *("FLOW_ENDED", "WAY_BACK_TOLD", "WAY_BACK_REFUSED"),
    ],
}
NOT_PROVOKED: dict[str, str] = {}
"""Reasons that no test run can bring about, each with the why."""
EXPECTED = {
    (role, direction, reason)
    for direction, table in (("egress", EGRESS), ("ingress", INGRESS))
    for roles, names in table.items()
    for role in roles
    for reason in names
}


def whole_folder(request: pytest.FixtureRequest) -> bool:
    """True where every test of this folder was selected."""
    there = {path.name for path in Path(__file__).parent.glob("test_*.py")}
    chosen = {item.path.name for item in request.session.items if item.path.parent == Path(__file__).parent}
    option = request.config.option
    picked = any("::" in argument for argument in request.config.args)
    return there == chosen and not (option.keyword or option.markexpr or picked or option.lf)


def test_every_reason_has_its_place() -> None:
    placed = {reason for _role, _direction, reason in EXPECTED} | set(NOT_PROVOKED)
    assert placed == {reason.name for reason in reasons()}


def test_every_reason_was_met(benches: dict[str, Bench], request: pytest.FixtureRequest) -> None:
    if not whole_folder(request):
        pytest.skip("only some of the tests were selected")
    observed = set().union(*(bench.observed for bench in benches.values()))
    assert not EXPECTED - observed


def test_every_packet_has_one_outcome(benches: dict[str, Bench]) -> None:
    """Reasons of kind `also` happen on the way; of the others each packet has exactly one."""
    final = {reason.name for reason in reasons() if reason.kind != "info"}
    wrong = {
        (bench.role, *counted): packet
        for bench in benches.values()
        for counted, packet in bench.outcomes.items()
        if len(final.intersection(counted)) != 1
    }
    assert not wrong


def namespaces() -> set[int]:
    """Network namespaces that some thread is in."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*/task/[0-9]*/ns/net"):
        try:
            found.add(entry.stat().st_ino)
        except OSError:
            continue
    return found


def test_the_namespace_is_nobodys_but_ours(namespace: Namespace) -> None:
    ours = Path("/proc/self/ns/net").stat().st_ino
    inside = namespace.do(lambda: Path("/proc/thread-self/ns/net").stat().st_ino)
    assert inside != ours
    assert inside in namespaces()
    names = Path("/run/netns")
    assert not names.is_dir() or inside not in {path.stat().st_ino for path in names.iterdir()}


def test_a_namespace_ends_with_its_thread() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: network namespaces")
    second = Namespace()
    inside = second.do(lambda: Path("/proc/thread-self/ns/net").stat().st_ino)
    second.close()
    wait_until(lambda: inside not in namespaces(), 2, "the namespace is still there")
