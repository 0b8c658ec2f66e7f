"""What is said of ways back: whether replies use them, by path in metrics and rates; and probes over them."""

from collections import Counter
from ipaddress import IPv6Address, IPv6Network
from types import SimpleNamespace
from typing import Any

import pytest

from hawkwing.config_models import Application
from hawkwing.csid import Block
from hawkwing.errors import HawkwingError
from hawkwing.explain import why
from hawkwing.intents import Intent, IntentType, PathQuery
from hawkwing.probing import lists
from hawkwing.probing.chosen import from_answers, list_of
from hawkwing.probing.measure import key_of
from hawkwing.queries import Binding
from hawkwing.sids import Returning, back_of
from hawkwing.watch import packets_by_path
from hawkwing.ways_back import Use
from tests.unit.test_metrics import CLIENT, samples

UNUSED = "11 packets have told the way back, but no reply has used it"
HERE, THERE = IPv6Address("fcbb:cc00:1::a"), IPv6Address("fcbb:cc00:2::a")
SIDS, BACK, OTHER = (
    (IPv6Address(f"fcbb:bb00:{n}::2"), IPv6Address(f"fcbb:bb00:{n + 1}::2")) for n in (1, 3, 5)
)


@pytest.mark.parametrize(
    ("use", "sent", "problem", "state"),
    [
        (Use(0, 0), 10, "", "no packet has told it yet"),
        (Use(0, 0), 11, "no packet has told the way back: with it they are larger than the MTU", ""),
        (Use(10, 0, 5.0), 100, "", "no reply has used it yet"),
        (Use(11, 0, 5.0), 100, f"{UNUSED}: the server has no agent", ""),
        (Use(11, 1, 5.0, 5.1), 100, "", "replies use it"),
        (Use(11, 1, 15.0, 5.0), 100, "", "replies use it"),
        (Use(11, 1, 15.1, 5.0), 100, f"{UNUSED} since: the server has no agent", ""),
        (Use(5, 1, 15.1, 5.0), 100, "", "replies use it"),
    ],
)
def test_sentences(use: Use, sent: int, problem: str, state: str) -> None:
    found = use.problem(sent)
    assert found.startswith(problem) and bool(found) is bool(problem)
    assert use.state(sent) == (state or found)


# --- the controller's


def binding(path: tuple[IPv6Address, ...], back: tuple[IPv6Address, ...] = ()) -> Binding:
    """An application with the controller's path, that asks for a way back, too; `back` is its return_sid."""
    intents, returning = (Intent(IntentType.LOW_LATENCY),), (Intent(IntentType.HIGH_BANDWIDTH),)
    application = Application(port=80, intents=intents, return_intents=returning, return_sid=back)
    queries = PathQuery(HERE, THERE, intents), PathQuery(THERE, HERE, returning)
    return Binding("web", application, THERE, *queries, controller_path=path)


def stream(answered: bool, empty: bool = False) -> Any:
    question = SimpleNamespace(answered=answered, empty=empty, held_until=0.0)
    return SimpleNamespace(
        state="connected", now=lambda: 1.0, questions=SimpleNamespace(get=lambda _query: question)
    )


def test_why_the_controllers_way_back_is_not_in_use() -> None:
    path = "the controller's path for low-latency"
    asked = "the controller was asked for a way back for high-bandwidth"
    assert why(binding(Returning(SIDS, BACK)), stream(True)) == path
    assert why(binding(Returning(SIDS, BACK), OTHER), stream(True)) == path
    reverse = f"{path}; replies use the reverse list: {asked}"
    assert why(binding(SIDS), stream(False)) == f"{reverse}, it has not answered yet"
    assert why(binding(SIDS), stream(True, empty=True)) == f"{reverse}, it returned no path"
    configured = f"{path}; replies use the configured return_sid: {asked}"
    assert (
        why(binding(Returning(SIDS, BACK), BACK), stream(False)) == f"{configured}, it has not answered yet"
    )


# --- counters


def bound(port: int, sent: int, back: tuple[IPv6Address, ...]) -> dict[str, Any]:
    told = {"return_sids": [str(sid) for sid in back]} if back else {}
    where = {"service": "web", "address": str(THERE), "port": port, "origin": "backup"}
    return where | told | {"sids": [str(sid) for sid in SIDS], "path_sent": {"packets": sent, "bytes": 9}}


def test_paths_that_differ_in_their_way_back_have_counters_of_their_own() -> None:
    bindings = [bound(80, 1000, ()), bound(81, 5, BACK), bound(82, 7, OTHER)]
    there, back, other = (" > ".join(map(str, sids)) for sids in (SIDS, BACK, OTHER))
    keys = there, f"{there}, back over {back}", f"{there}, back over {other}"
    assert packets_by_path({"bindings": bindings}) == Counter(dict(zip(keys, (1000, 5, 7), strict=True)))
    exported = samples(CLIENT | {"bindings": bindings})
    found = {
        labels: value for (name, labels), value in exported.items() if name.endswith("path_packets_total")
    }
    assert found == {(("path", key),): value for key, value in zip(keys, (1000, 5, 7), strict=True)}


# --- probes


def test_probes_return_over_it() -> None:
    assert lists.there_and_back(SIDS) == (*SIDS, SIDS[0])
    assert lists.there_and_back(Returning(SIDS, BACK)) == (*SIDS, *BACK)
    assert [lists.there_and_back(one) for one in lists.growing(Returning(SIDS, BACK))] == [
        SIDS[:1],
        (*SIDS, SIDS[0]),
    ]


def test_containers_of_both_ways_are_unpacked_and_packed() -> None:
    block = Block(IPv6Network("fcbb:bb00::/32"), 0xE000)
    one_way = IPv6Address("fcbb:bb00:1:e001::")
    with pytest.raises(HawkwingError, match="names a link in one direction"):
        lists.single((one_way,), [block])
    packed = Returning((one_way,), (IPv6Address("fcbb:bb00:3:4::"),))
    found = lists.single(packed, [block])
    assert found == Returning(
        map(IPv6Address, ("fcbb:bb00:1::", "fcbb:bb00:e001::")),
        map(IPv6Address, ("fcbb:bb00:3::", "fcbb:bb00:4::")),
    )
    assert lists.travelled(found, [block]) == (IPv6Address("fcbb:bb00:1:e001:3:4::"),)


def answer(*ways: tuple[IPv6Address, ...]) -> dict[str, Any]:
    """What a client says of a destination; each port has one of these ways back."""
    bindings = [bound(80 + number, 1, back) | {"why": "."} for number, back in enumerate(ways)]
    return {"pid": 1, "bindings": bindings, "problems": [], "notes": [], "csid": []}


def test_the_list_and_its_way_back_are_taken_from_the_answer() -> None:
    chosen = from_answers([answer(BACK)], HERE)
    assert chosen.sids == Returning(SIDS, BACK) and chosen.shown_back == f"back over {BACK[0]} > {BACK[1]}"
    assert chosen.as_json()["return_sids"] == [str(sid) for sid in BACK]
    plain = from_answers([answer(())], HERE)
    assert plain.sids == SIDS and back_of(plain.sids) == () and plain.shown_back == "back"
    assert "return_sids" not in plain.as_json()


def test_candidates_with_another_way_back_are_probed_by_themselves() -> None:
    asked = answer(BACK, OTHER, BACK)
    assert len(from_answers([asked], HERE).notes) == 1 and not from_answers([answer(BACK, BACK)], HERE).notes
    one, other, same = asked["bindings"]
    assert list_of(one) == Returning(SIDS, BACK)
    assert key_of(asked, one, one) == key_of(asked, same, same) != key_of(asked, other, other)
