"""The graph of lock classes: which pairs close a circle, and that each circle is told once."""

from __future__ import annotations

from itertools import pairwise, permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unitofwork.policies.lock_graph import (
    MOST_ALIKE,
    LockClass,
    LockGraph,
    Step,
    Taken,
    conflict,
)
from unitofwork.policies.locks.book import Strength
from unitofwork.types import Place

KEY, SHARE, WRITE, UPDATE = Strength


def taken(resource: str, strength: Strength = UPDATE, unit: str = "u", line: int = 1) -> Taken:
    return Taken(LockClass(resource, strength), unit, Place("file.py", line, "function"))


def test_the_conflicts_are_those_of_postgresql() -> None:
    """KEY SHARE meets UPDATE only; SHARE meets both writers; writers meet each other."""
    meet = {(one, other) for one in Strength for other in Strength if conflict(one, other)}
    expected = {(KEY, UPDATE), (SHARE, WRITE), (SHARE, UPDATE)}
    expected |= {(WRITE, WRITE), (WRITE, UPDATE), (UPDATE, UPDATE)}
    assert meet == expected | {(other, one) for one, other in expected}


def test_opposite_orders_are_a_circle_with_its_four_places() -> None:
    """It is returned when the second order is seen, and tells who holds and takes what, where."""
    graph = LockGraph()
    assert graph.add(taken("a", unit="one", line=1), taken("b", unit="one", line=2)) is None
    cycle = graph.add(taken("b", unit="two", line=3), taken("a", unit="two", line=4))
    assert cycle is not None
    assert cycle.resources == {"a", "b"}
    places = {t.place.line: (t.unit, t.lock.resource) for step in cycle.steps for t in step}
    assert places == {1: ("one", "a"), 2: ("one", "b"), 3: ("two", "b"), 4: ("two", "a")}


def test_a_circle_is_told_once() -> None:
    """Neither the same pair again nor the same places in units of other names tell it anew."""
    graph = LockGraph()
    graph.add(taken("a"), taken("b"))
    assert graph.add(taken("b"), taken("a")) is not None
    assert graph.add(taken("b"), taken("a")) is None
    assert graph.add(taken("b", unit="other"), taken("a", unit="other")) is None
    assert len(graph.cycles) == 1
    assert len(graph) == 2


def test_each_culprit_is_told() -> None:
    """The same tables elsewhere in the code are something else to put right; up to a bound."""
    graph = LockGraph()
    graph.add(taken("a"), taken("b"))
    for line in range(1, MOST_ALIKE + 1):
        cycle = graph.add(taken("b", line=2 * line), taken("a", line=2 * line + 1))
        assert cycle is not None
        assert {place.line for place in cycle.places} == {1, 2 * line, 2 * line + 1}
    assert not graph.left_out
    assert graph.add(taken("b", line=998), taken("a", line=999)) is None
    assert len(graph.cycles) == MOST_ALIKE
    assert graph.left_out == {"circles of the same tables at more places"}


def test_what_one_transaction_takes_in_between_is_no_circle_more() -> None:
    """Only the shortest way through it is told: the others go when that one does."""
    graph = LockGraph()
    graph.add(taken("a", unit="one", line=1), taken("z", unit="one", line=2))
    held: list[Taken] = []
    for line, name in enumerate("zcdea", 3):
        for earlier in held:
            graph.add(earlier, taken(name, unit="two", line=line))
        held.append(taken(name, unit="two", line=line))
    (cycle,) = graph.cycles
    assert cycle.resources == {"a", "z"}
    # Who holds `c` only, in a third place, is another culprit.
    assert graph.add(taken("c", unit="three", line=11), taken("a", unit="three", line=12))


def test_the_pairs_that_are_kept_are_bounded() -> None:
    """What is beyond is left out, and it says so."""
    graph = LockGraph(2)
    for line in range(5):
        graph.add(taken("a", line=line), taken("b"))
    assert len(graph) == 2
    assert graph.left_out == {"pairs of locks"}


def test_one_order_is_no_circle() -> None:
    """All units that take tables in one order, with leaps, have none."""
    graph = LockGraph()
    for one, other in [("a", "b"), ("b", "c"), ("a", "c"), ("c", "d"), ("a", "d")]:
        assert graph.add(taken(one), taken(other)) is None


def test_locks_that_agree_close_no_circle() -> None:
    """KEY SHARE on a parent does not wait for a plain update of it; for its deletion it does."""
    graph = LockGraph()
    assert graph.add(taken("child", WRITE), taken("parent", KEY)) is None
    assert graph.add(taken("parent", WRITE), taken("child", WRITE)) is None
    assert graph.add(taken("parent", UPDATE), taken("child", WRITE)) is not None


def test_the_rows_of_one_table_are_left_out() -> None:
    """Their order is that of their keys, which a class does not show."""
    graph = LockGraph()
    assert graph.add(taken("a", line=1), taken("a", line=2)) is None
    assert len(graph) == 0


def test_a_whole_table_meets_every_lock_in_it() -> None:
    """LOCK TABLE waits for the weakest row lock."""
    graph = LockGraph()
    whole = Taken(LockClass("a", UPDATE, whole_table=True), "u", Place("f", 1, "f"))
    graph.add(taken("a", KEY), taken("b"))
    assert graph.add(taken("b"), whole) is not None


@pytest.mark.parametrize(("strength", "meets"), [(KEY, False), (SHARE, False), (WRITE, True)])
def test_a_whole_table_in_share_mode_meets_writers(strength: Strength, meets: bool) -> None:
    """CREATE INDEX waits for those who write rows, and not for those who only lock them."""
    graph = LockGraph()
    whole = Taken(LockClass("a", SHARE, whole_table=True), "u", Place("f", 1, "f"))
    graph.add(taken("a", strength), taken("b"))
    assert (graph.add(taken("b"), whole) is not None) is meets


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_three_that_wait_for_each_other_in_a_ring(order: tuple[int, ...]) -> None:
    """The circle is found by the pair that closes it, whichever comes last."""
    pairs = [("a", "b"), ("b", "c"), ("c", "a")]
    graph = LockGraph()
    found = [graph.add(taken(pairs[n][0]), taken(pairs[n][1])) for n in order]
    assert [cycle is not None for cycle in found] == [False, False, True]
    assert found[-1] is not None
    assert found[-1].resources == {"a", "b", "c"}


LOCKS = st.builds(taken, st.sampled_from("abcd"), st.sampled_from(Strength))


@given(st.lists(st.tuples(LOCKS, LOCKS), max_size=12))
def test_a_circle_is_found_exactly_where_there_is_one(pairs: list[tuple[Taken, Taken]]) -> None:
    """Compared with a search for a closed walk through all pairs at once."""
    steps = [Step(one, other) for one, other in pairs if one.lock.resource != other.lock.resource]
    graph = LockGraph()
    for step in steps:
        graph.add(*step)
    reach = {
        (i, j) for i, one in enumerate(steps) for j, other in enumerate(steps) if joins(one, other)
    }
    while True:
        longer = {(i, k) for i, j in reach for via, k in reach if j == via} - reach
        if not longer:
            break
        reach |= longer
    assert bool(graph.cycles) == any(i == j for i, j in reach)
    for cycle in graph.cycles:
        ring = [*cycle.steps, cycle.steps[0]]
        assert all(joins(one, other) for one, other in pairwise(ring))


def joins(one: Step, other: Step) -> bool:
    """Whether what the one takes can have to wait for what the other holds."""
    return one.taken.lock.conflicts(other.held.lock)
