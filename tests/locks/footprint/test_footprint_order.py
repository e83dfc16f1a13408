"""A flush is left alone only where its own order of locks is the global one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import event

from unitofwork.policies.locks.book import Strength

from .flushes import Flushes, short
from .model import (
    Album,
    Article,
    Boat,
    City,
    Country,
    Currency,
    Employee,
    Node,
    Pin,
    Port,
    Sailor,
    Tag,
)

Flush = Callable[[Flushes], object]


def one_row(tx: Flushes) -> None:
    tx.get_one(Country, 1).code = "x"
    tx.get_one(City, 11).country_code = None


def one_parent(tx: Flushes) -> None:
    """New rows lock nothing but the parent that they share."""
    tx.add_all([City(id=20, country_id=3), City(id=21, country_id=3)])


def nothing_but_new_rows(tx: Flushes) -> None:
    tx.add_all([Country(id=21, code="z"), Country(id=20, code="y"), Tag(id=9)])


def rows_of_one_class(tx: Flushes) -> None:
    for key in (13, 11, 14, 12):
        tx.get_one(City, key).name = "x"


def by_expressions(tx: Flushes) -> None:
    """Those are sent one by one, in the same order."""
    for key in (3, 1, 2):
        tx.get_one(Country, key).name = Country.name + "x" if key != 1 else "y"


def text_keys(tx: Flushes) -> None:
    """By code point, as Python compares them."""
    tx.add_all([Currency(code=code) for code in ("a", "Z", "é", "_", "B")])
    tx.checked_flush()
    tx.unit.book.inserted.clear()
    for code in ("a", "é", "Z", "USD", "_", "B"):
        tx.get_one(Currency, code).name = "x"


def rows_of_a_class_in_a_circle(tx: Flushes) -> None:
    """The others, which make a circle of references with it, are not in the flush."""
    tx.get_one(Boat, 2).name = "x"
    tx.get_one(Boat, 1).name = "x"
    tx.get_one(Boat, 1).sailor = None


def rows_with_an_association(tx: Flushes) -> None:
    """Association rows come after, also where both ends are of one class."""
    for key in (3, 1, 2):
        tx.get_one(Article, key).name = "x"
    assert tx.get_one(Article, 1).related


@pytest.mark.parametrize(
    "program",
    [
        one_parent,
        nothing_but_new_rows,
        rows_of_one_class,
        by_expressions,
        text_keys,
        rows_of_a_class_in_a_circle,
        rows_with_an_association,
    ],
    ids=lambda program: program.__name__,
)
def test_in_order_by_itself(tx: Flushes, program: Flush) -> None:
    """Such a flush needs no lock query, and sends its UPDATEs in the global order."""
    program(tx)
    found = tx.foresee()
    assert found.in_own_order
    updated: list[Any] = []

    def note(*args: Any) -> None:
        statement, sets = args[2], args[3]
        if statement.startswith("UPDATE"):
            rows = sets if isinstance(sets, list) else [sets]
            updated.extend(next(row[key] for key in row if key.startswith("fp_")) for row in rows)

    event.listen(tx.engine, "before_cursor_execute", note)
    try:
        tx.flush()
    finally:
        event.remove(tx.engine, "before_cursor_execute", note)
    assert updated == [one.key[0] for one in sorted(found.writes)]


def two_classes(tx: Flushes) -> None:
    tx.get_one(Country, 1).name = "x"
    tx.get_one(City, 11).name = "x"


def two_parents(tx: Flushes) -> None:
    tx.add_all([City(id=20, country_id=3), City(id=21, country_id=1)])


def two_key_changes(tx: Flushes) -> None:
    """Their UPDATEs are sorted, but what they set off in other tables comes in between."""
    tx.get_one(Country, 1).code = "x"
    tx.get_one(Country, 2).code = "y"


def two_deletes(tx: Flushes) -> None:
    tx.delete(tx.get_one(Tag, 3))
    tx.delete(tx.get_one(City, 12))


def a_tree(tx: Flushes) -> None:
    for key in (3, 4):
        tx.get_one(Node, key).name = "x"


def a_circle_of_classes(tx: Flushes) -> None:
    """What is new has to be there before the first boat is updated, and not before the second."""
    tx.get_one(Boat, 1).name = "x"
    tx.get_one(Boat, 2).name = "x"
    tx.get_one(Boat, 1).sailor = Sailor(id=9, port=Port(id=9, boat=Boat(id=9)))


def an_inheritance(tx: Flushes) -> None:
    tx.get_one(Employee, 1).salary = 1


def a_row_and_its_new_parent(tx: Flushes) -> None:
    tx.get_one(City, 13).country_id = 2


def a_cascade(tx: Flushes) -> None:
    tx.delete(tx.get_one(Album, 1))


def association_rows(tx: Flushes) -> None:
    tx.get_one(Article, 3).tags = [tx.get_one(Tag, 3), tx.get_one(Tag, 1)]


def a_row_updated_and_then_deleted(tx: Flushes) -> None:
    """The lock of the first statement grows with the second one."""
    tx.delete(tx.get_one(Pin, 1))


@pytest.mark.parametrize(
    "program",
    [
        *(one_row, two_classes, two_parents, two_key_changes, two_deletes, a_tree),
        a_circle_of_classes,
        *(an_inheritance, a_row_and_its_new_parent, a_cascade, association_rows),
        a_row_updated_and_then_deleted,
    ],
    ids=lambda program: program.__name__,
)
def test_out_of_order_or_not_known(tx: Flushes, program: Flush) -> None:
    """Several locks in an order that is SQLAlchemy's own affair are taken before the flush."""
    program(tx)
    assert not tx.foresee().in_own_order


def test_what_is_held_needs_no_query(tx: Flushes) -> None:
    """A flush of rows that are all locked already is in order, whatever its statements are."""
    two_classes(tx)
    tx.checked_flush()
    tx.get_one(Country, 1).name = "y"
    assert tx.foresee().in_own_order
    tx.get_one(City, 13).country_id = 1
    found = tx.foresee()
    missing = [one for one, how in found.wants.items() if not tx.unit.book.covers(one, how)]
    assert [short(one) for one in missing] == [("fp_city", 13)]
    assert found.in_own_order


def test_a_late_lock_is_out_of_order(tx: Flushes) -> None:
    """One lock below what is held is late, and one at it is an upgrade: neither may wait."""
    tx.get_one(Country, 2).name = "y"
    tx.checked_flush()
    tx.get_one(Country, 1).name = "y"
    assert not tx.foresee().in_own_order
    tx.start_anew()
    tables = tx.unit.home.tables
    tx.unit.book.record(tables.row(Country.__table__, (2,)), Strength.KEY_SHARE)
    tx.get_one(Country, 2).name = "y"
    assert tx.foresee().in_own_order
    tx.get_one(Country, 2).code = "y"
    assert not tx.foresee().in_own_order
