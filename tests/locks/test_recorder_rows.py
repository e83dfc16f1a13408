"""How the recorder tells by values whether rows are the same."""

from __future__ import annotations

from typing import Any

import pytest

from unitofwork.core.recorded_rows import MANY_ROWS, MANY_VALUES, Rows, RowsSeen
from unitofwork.policies.lock_graph import LockClass
from unitofwork.policies.locks.book import Strength
from unitofwork.sql.lock_requests import Inserted, Key, Literal, LockRequest, Parameter


def request(*keys: Key, by: tuple[str, ...] = ("id",), more: bool = False) -> LockRequest:
    lock = LockClass("a", Strength.UPDATE)
    return LockRequest(lock, keys=keys, by=by if keys else (), more=more)


BY_ID = request((Parameter("id"),))
UNNAMED = request()


def compared(*requests: tuple[LockRequest, Any]) -> list[Rows]:
    seen = RowsSeen()
    return [seen.compare(one, parameters) for one, parameters in requests]


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        (1, Rows.SAME),
        (2, Rows.OTHER),
        ([1], Rows.SAME),
        ([1, 2], Rows.OTHER),
        (None, Rows.NONE),
        ([], Rows.NONE),
        ([None, None], Rows.NONE),
        ([1, None], Rows.SAME),
        ("1", Rows.MAYBE),
        ({}, Rows.MAYBE),
    ],
)
def test_a_second_row(second: object, expected: Rows) -> None:
    """NULL is no row; a value of another type, or that can't be compared, may be the same one."""
    assert compared((BY_ID, {"id": 1}), (BY_ID, {"id": second})) == [Rows.FIRST, expected]


def test_a_list_is_looked_at_as_far_as_is_cheap() -> None:
    """Beyond, its rows may be any; but one that was not locked before is seen in what is."""
    many = list(range(10 * MANY_VALUES))
    assert compared(
        (BY_ID, {"id": 1}), (BY_ID, {"id": many}), (BY_ID, {"id": many[-1]}), (BY_ID, {"id": -1})
    ) == [Rows.FIRST, Rows.OTHER, Rows.MAYBE, Rows.MAYBE]
    sets = [{"id": each} for each in many]
    assert compared((BY_ID, sets), (BY_ID, sets)) == [Rows.FIRST, Rows.MAYBE]
    in_text = request(*[(Literal(each),) for each in range(MANY_VALUES)], more=True)
    assert compared((in_text, ()), (BY_ID, {"id": 99})) == [Rows.FIRST, Rows.MAYBE]


def test_a_list_of_parameters() -> None:
    """As IN has one for each value; in whatever order, and several sets of them."""
    both = request((Parameter(0),), (Parameter(1),))
    assert compared((both, (1, 2)), (both, (2, 1)), (both, (1, 3)), (both, (3, None))) == [
        Rows.FIRST,
        Rows.SAME,
        Rows.OTHER,
        Rows.SAME,
    ]
    assert compared((both, (1, 2)), (both, [(2, 1), (1, 1)]), (both, [(1, 2), (3, 4)])) == [
        Rows.FIRST,
        Rows.SAME,
        Rows.OTHER,
    ]
    assert compared((both, (1, 2)), (both, (1, {})), (both, (1, 2)))[1:] == [Rows.MAYBE, Rows.SAME]
    assert compared((both, (1, 2)), (both, (1,)), (both, (None, None)))[1:] == [
        Rows.UNKNOWN,
        Rows.NONE,
    ]
    seen = RowsSeen()
    seen.insert(Inserted("a", BY_ID), {"id": 7})
    assert [seen.compare(both, values) for values in ((1, 7), (7, 7), (1, 7))] == [
        Rows.FIRST,
        Rows.OWN,
        Rows.SAME,
    ]


def test_so_many_rows_are_kept() -> None:
    """A transaction that locks row after row stays small."""
    requests = [(BY_ID, {"id": each}) for each in range(2 * MANY_ROWS)]
    assert compared(*requests)[-1] is Rows.MAYBE
    seen = RowsSeen()
    for one, parameters in requests:
        seen.compare(one, parameters)
    kept, _, _, _ = seen.mark()["a"]
    assert kept == MANY_ROWS


def test_rows_that_nothing_names_may_be_any() -> None:
    """Locked by a query first, then written one by one, they are no new rows."""
    assert compared((UNNAMED, ()), (BY_ID, {"id": 3}), (UNNAMED, ())) == [
        Rows.FIRST,
        Rows.MAYBE,
        Rows.UNKNOWN,
    ]


def test_other_columns_can_not_be_compared() -> None:
    """Of a key of two columns the values belong together."""
    pair = request((Parameter(0), Parameter(1)), by=("x", "y"))
    lists = request((Parameter(0),), (Parameter(1),), by=())
    half = request((Parameter(0),), by=("x",))
    assert compared((pair, (1, 2)), (pair, (1, 2)), (pair, (2, 1)), (pair, (1, None))) == [
        Rows.FIRST,
        Rows.SAME,
        Rows.OTHER,
        Rows.NONE,
    ]
    assert compared((pair, (1, 2)), (half, (3,)), (pair, (5, 6)))[1:] == [Rows.MAYBE, Rows.MAYBE]
    assert compared((lists, ([1], [2])), (pair, (3, 4))) == [Rows.FIRST, Rows.MAYBE]
    assert compared((lists, ([], []))) == [Rows.NONE]


def test_rows_of_ones_own() -> None:
    """Named, only those are its own; else all that it does in that table may be with them."""
    seen = RowsSeen()
    seen.insert(Inserted("a", BY_ID), {"id": 7})
    assert seen.compare(BY_ID, {"id": 7}) is Rows.OWN
    assert seen.compare(UNNAMED, ()) is Rows.OWN
    assert seen.compare(BY_ID, {"id": 8}) is Rows.FIRST
    seen.insert(Inserted("a"), {})
    assert seen.compare(BY_ID, {"id": 9}) is Rows.OWN


def test_a_savepoint_takes_back_what_was_seen_since() -> None:
    """Rows that were locked, and those that were made."""
    seen = RowsSeen()
    seen.compare(BY_ID, {"id": 1})
    mark = seen.mark()
    seen.compare(BY_ID, {"id": 2})
    seen.compare(UNNAMED, ())
    seen.insert(Inserted("a"), {})
    seen.insert(Inserted("b"), {})
    seen.back_to(mark)
    assert seen.mark() == mark
    assert seen.compare(BY_ID, {"id": 1}) is Rows.SAME
    assert seen.compare(BY_ID, {"id": 2}) is Rows.OTHER
