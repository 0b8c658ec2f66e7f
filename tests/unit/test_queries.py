"""What a client asks the controller: queries that come and go, and paths that are kept for a while."""

from __future__ import annotations

from ipaddress import IPv6Address

import pytest

from hawkwing.config import Application
from hawkwing.intents import Intent, IntentType, PathQuery
from hawkwing.queries import FORMER_ANSWERS, Binding, Queries
from hawkwing.selections import Candidate
from hawkwing.sids import Returning, back_of

SOURCE, THERE = IPv6Address("fd00::1"), IPv6Address("fd00::2")
PATH, OTHER = (IPv6Address("fcbb:bb00:1::2"),), (IPv6Address("fcbb:bb00:2::2"),)
INTENTS = (Intent(IntentType.SFC, functions=("fw",)), Intent(IntentType.LOW_LATENCY, max_value=20))


def query(number: int = 2) -> PathQuery:
    """For a path to some destination."""
    return PathQuery(SOURCE, IPv6Address(f"fd00::{number:x}"), INTENTS)


def binding(asked: PathQuery | None, port: int = 80, sid: tuple[IPv6Address, ...] = ()) -> Binding:
    """An application of the service web."""
    address = asked.destination if asked is not None else THERE
    return Binding("web", Application(port=port, sid=sid, intents=INTENTS), address, asked)


class Asked(Queries):
    """With a clock that stands still."""

    def __init__(self) -> None:
        self.time = 1000.0
        super().__init__(lambda: self.time)


@pytest.fixture
def queries() -> Asked:
    return Asked()


def test_a_binding_without_a_query_asks_nothing(queries: Asked) -> None:
    one = binding(None)
    queries.add(one)
    queries.remove(one)
    assert list(queries) == [] and queries.changes() == ([], [])


def test_bindings_share_a_query_and_its_path(queries: Asked) -> None:
    first, second = binding(query()), binding(query(), 81)
    queries.add(first)
    assert query() in queries and query(3) not in queries
    assert queries.answer(query(), PATH) == [first]
    queries.add(second)
    assert second.controller_path == PATH and queries.bindings(query()) == [first, second]
    assert list(queries) == [query()] and queries.changes() == ([query()], [])
    first.controller_path = PATH
    assert queries.answer(query(), PATH) == [], "nothing is new"
    assert queries.answer(query(), OTHER) == [first, second]
    assert list(queries.answers()) == [(query(), OTHER)]
    queries.remove(first)
    assert query() in queries and queries.changes() == ([], [])
    queries.remove(second)
    assert query() not in queries and queries.changes() == ([], [query()])
    assert queries.bindings(query()) == [] and list(queries.answers()) == []


def test_an_answer_that_nobody_waits_for_is_none(queries: Asked) -> None:
    assert queries.answer(query(), PATH) == []
    queries.add(binding(query()))
    assert list(queries.answers()) == []


@pytest.mark.parametrize(("later", "kept"), [(FORMER_ANSWERS - 1, True), (FORMER_ANSWERS, False)])
def test_a_path_is_kept_for_a_while(queries: Asked, later: float, kept: bool) -> None:
    one = binding(query())
    queries.add(one)
    queries.answer(query(), PATH)
    queries.remove(one)
    queries.time += later
    again = binding(query())
    queries.add(again)
    assert again.controller_path == (PATH if kept else ())
    assert queries.former == {}


def test_a_path_that_never_came_is_not_kept(queries: Asked) -> None:
    one = binding(query())
    queries.add(one)
    queries.remove(one)
    assert queries.former == {}


def keep_two(queries: Asked, seconds: float) -> None:
    """Paths of the queries 2 and 3 are no longer needed, and so much time passes after each."""
    for number in (2, 3):
        one = binding(query(number))
        queries.add(one)
        queries.answer(query(number), PATH)
        queries.remove(one)
        queries.time += seconds


def test_each_path_that_is_kept_makes_those_that_are_too_old_go(queries: Asked) -> None:
    keep_two(queries, FORMER_ANSWERS)
    assert list(queries.former) == [query(3)]


def test_those_that_are_too_old_go_the_oldest_first(queries: Asked) -> None:
    keep_two(queries, FORMER_ANSWERS / 2)
    queries.forget_former()
    assert list(queries.former) == [query(3)]
    queries.time += FORMER_ANSWERS / 2
    queries.forget_former()
    assert queries.former == {}


def test_changes_are_told_once_and_so_many_at_a_time(queries: Asked) -> None:
    bindings = [binding(query(number)) for number in range(2, 7)]
    for one in bindings:
        queries.add(one)
    wanted = [query(number) for number in range(2, 7)]
    assert queries.changes(2) == (wanted[:2], [])
    queries.remove(bindings[0])
    # The last one was never told: it is no change.
    queries.remove(bindings[4])
    assert queries.changes(2) == (wanted[2:4], [])
    assert queries.changes(1) == ([], wanted[:1])
    assert queries.changes(1) == queries.changes() == ([], [])


def test_gone_and_back_is_no_change(queries: Asked) -> None:
    one = binding(query())
    queries.add(one)
    assert queries.changes() == ([query()], [])
    queries.remove(one)
    queries.add(one)
    assert queries.changes() == ([], [])


def test_a_query_is_told_as_an_operator_knows_it(queries: Asked) -> None:
    words = "sfc(fw), low-latency(max 20)"
    assert queries.name(query()) == str(query()) == f"fd00::1 -> fd00::2 ({words})"
    queries.add(binding(query()))
    assert queries.name(query()) == f"web port 80 at fd00::2 ({words})"
    for port in (81, 82):
        queries.add(binding(query(), port))
    assert queries.name(query()) == f"web port 80 at fd00::2 and 2 more ({words})"


def test_where_a_path_comes_from() -> None:
    one = binding(query())
    one.configured = (Candidate(PATH, weight=2), Candidate(OTHER))
    assert (one.origin, one.path, one.shares) == ("backup", PATH, ((PATH, 2), (OTHER, 1)))
    one.controller_path = OTHER
    assert (one.origin, one.path, one.shares) == ("controller", OTHER, ((OTHER, 1),))
    assert (binding(query()).origin, binding(query()).path) == ("none", ())


# --- ways back

BACK, LESS = (IPv6Address("fcbb:bb00:3::2"), IPv6Address("fcbb:bb00:4::2")), (IPv6Address("fcbb:bb00:5::2"),)
RETURNING = (Intent(IntentType.HIGH_BANDWIDTH),)
QUERY_BACK = PathQuery(THERE, SOURCE, RETURNING)


def both(port: int = 80, back: tuple[IPv6Address, ...] = (), there: PathQuery | None = None) -> Binding:
    """An application that asks for both ways; `back` is its return_sid."""
    asked = there or query()
    application = Application(port=port, intents=asked.intents, return_intents=RETURNING, return_sid=back)
    return Binding("web", application, THERE, asked, QUERY_BACK)


def given(queries: Asked, asked: PathQuery, sids: tuple[IPv6Address, ...]) -> list[Binding]:
    """The bindings that have another path by this answer; they take it."""
    changed = queries.answer(asked, sids)
    for one in changed:
        one.controller_path = queries.path_for(one)
    return changed


def test_both_ways_are_asked_for_and_the_answers_come_in_any_order(queries: Asked) -> None:
    one = both()
    queries.add(one)
    assert list(queries) == [query(), QUERY_BACK] and queries.changes() == ([query(), QUERY_BACK], [])
    # The way back alone is of no use.
    assert given(queries, QUERY_BACK, BACK) == [] and one.controller_path == ()
    assert given(queries, query(), PATH) == [one] and one.controller_path == Returning(PATH, BACK)
    assert given(queries, QUERY_BACK, BACK) == [] == given(queries, query(), PATH)
    assert given(queries, QUERY_BACK, LESS) == [one] and one.controller_path == Returning(PATH, LESS)
    assert given(queries, query(), OTHER) == [one] and one.controller_path == Returning(OTHER, LESS)


def test_without_the_controllers_way_back_return_sid_is_told(queries: Asked) -> None:
    one, other = both(80, LESS), both(81)
    for added in (one, other):
        queries.add(added)
    assert given(queries, query(), PATH) == [one, other]
    assert one.controller_path == Returning(PATH, LESS)
    assert other.controller_path == PATH and back_of(other.controller_path) == ()
    assert given(queries, QUERY_BACK, BACK) == [one, other]
    assert one.controller_path == other.controller_path == Returning(PATH, BACK)
    # What is the same with return_sid is nothing new for one of them.
    assert given(queries, QUERY_BACK, LESS) == [one, other]


def test_a_way_back_that_is_return_sid_already_changes_nothing(queries: Asked) -> None:
    one, other = both(80, BACK), both(81)
    for added in (one, other):
        queries.add(added)
    given(queries, query(), PATH)
    assert given(queries, QUERY_BACK, BACK) == [other]


def test_applications_share_a_way_back_with_other_ways_there(queries: Asked) -> None:
    fast = PathQuery(SOURCE, THERE, (Intent(IntentType.LOW_LATENCY),))
    one, other, alone = both(80), both(81, there=fast), binding(query(), 82)
    for added in (one, other, alone):
        queries.add(added)
    assert list(queries) == [query(), QUERY_BACK, fast]
    assert queries.bindings(QUERY_BACK) == [one, other]
    given(queries, query(), PATH)
    given(queries, fast, OTHER)
    assert given(queries, QUERY_BACK, BACK) == [one, other]
    found = [added.controller_path for added in (one, other, alone)]
    assert found == [Returning(PATH, BACK), Returning(OTHER, BACK), PATH]
    queries.changes()
    queries.remove(one)
    assert query() in queries and QUERY_BACK in queries and queries.changes() == ([], [])
    queries.remove(other)
    assert QUERY_BACK not in queries and queries.changes() == ([], [fast, QUERY_BACK])
    assert alone.controller_path == PATH


def test_both_ways_are_kept_for_a_while(queries: Asked) -> None:
    one = both()
    queries.add(one)
    given(queries, query(), PATH)
    given(queries, QUERY_BACK, BACK)
    queries.remove(one)
    assert list(queries) == [] and queries.former.keys() == {query(), QUERY_BACK}
    queries.time += FORMER_ANSWERS - 1
    again = both()
    queries.add(again)
    assert again.controller_path == Returning(PATH, BACK)


def test_a_destination_on_this_host_may_ask_for_the_same_there_and_back(queries: Asked) -> None:
    """One file on all hosts: the service's own host is its own client."""
    one = both()
    assert one.query is not None
    one.back_query = one.query
    queries.add(one)
    assert list(queries) == [one.query] and queries.bindings(one.query) == [one]
    given(queries, one.query, PATH)
    queries.remove(one)
    assert list(queries) == []


def test_a_query_for_a_way_back_is_told_as_such(queries: Asked) -> None:
    one = both()
    queries.add(one)
    assert one.query is not None and one.back_query is not None
    assert not queries.is_way_back(one.query) and queries.is_way_back(one.back_query)
    assert "way back" not in queries.name(one.query)
    assert queries.name(one.back_query).startswith(f"way back of web port 80 from {one.back_query.source} (")
    # Another application needs the same path for its way there.
    other = both(81, there=one.back_query)
    queries.add(other)
    assert not queries.is_way_back(one.back_query)
