"""Rows that only the schema tells of, or a query: children, and parents by default."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
from sqlalchemy import Column, ForeignKey, Integer, MetaData, Table, text

from unitofwork.core.locks.footprint import closure
from unitofwork.core.locks.lookups import Effect, Found, lookups_of
from unitofwork.core.locks.schema import links_to

from .flushes import Flushes
from .model import Book, City, Globe, Seat, Shelf


def children_that_lose_one_column(tx: Flushes) -> None:
    """`SET NULL` of a list of columns: a unique one beside them stays as it is."""
    tx.delete(tx.get_one(Seat, ("B", 1)))


def children_of_another_metadata(tx: Flushes) -> None:
    """Other children get another parent, which their foreign key names by `SET DEFAULT`."""
    tx.delete(tx.get_one(Shelf, 2))


def children_that_get_a_default_by_name(tx: Flushes) -> None:
    tx.get_one(Shelf, 2).name = "x"
    tx.get_one(Shelf, 3).name = "y"


def defaults(tx: Flushes) -> None:
    """A new row that is given no parent gets the one that the schema names."""
    tx.add_all([Book(id=9), Globe(id=9, shelf_name=None)])


@pytest.mark.parametrize(
    "program",
    [
        *(children_that_lose_one_column, children_of_another_metadata),
        *(children_that_get_a_default_by_name, defaults),
    ],
    ids=lambda program: program.__name__,
)
def test_the_footprint_is_what_the_server_shows(
    tx: Flushes, program: Callable[[Flushes], object]
) -> None:
    """The database writes more than the flush itself sends."""
    program(tx)
    tx.checked_flush()


def test_what_children_refer_to_is_read_under_the_lock(tx: Flushes) -> None:
    """A unique value that another transaction has changed since it was loaded."""
    shelf = tx.get_one(Shelf, 2)
    with tx.engine.begin() as other:
        other.execute(text("ALTER TABLE fp_globe DISABLE TRIGGER ALL"))
        other.execute(text("UPDATE fp_shelf SET name = 'elsewhere' WHERE id = 2"))
        other.execute(text("UPDATE fp_globe SET shelf_name = 'elsewhere' WHERE id = 1"))
        other.execute(text("ALTER TABLE fp_globe ENABLE TRIGGER ALL"))
    try:
        tx.delete(shelf)
        tx.checked_flush()
    finally:
        tx.rollback()
        with tx.engine.begin() as other:
            other.execute(text("UPDATE fp_globe SET shelf_name = 'third' WHERE id = 1"))
            other.execute(text("UPDATE fp_shelf SET name = 'second' WHERE id = 2"))
            other.execute(text("UPDATE fp_globe SET shelf_name = 'second' WHERE id = 1"))


def test_any_number_of_values_is_looked_up(tx: Flushes) -> None:
    """A driver takes some 10,000 parameters for a query: more are asked for one after the other."""
    table: Any = City.__table__
    keys = [(key,) for key in range(70_000)]
    lookups = lookups_of(table, (table.c.country_id,), keys, Effect.REFERRED, {})
    asked = []

    def ask(statement: Any) -> Any:
        asked.append(statement)
        return tx.execute(statement).all()

    (level,) = closure(cast(Any, tx), Found(lookups=list(lookups)), ask)
    assert {one.key for one in level.wants} == {(11,), (12,), (14,)}
    assert len(asked) == 8


def test_foreign_keys_of_models_that_come_late() -> None:
    """Also of those with a MetaData of their own."""
    shop = Table("late_shop", MetaData(), Column("id", Integer, primary_key=True))
    assert links_to(shop) == ()
    till = Table("late_till", MetaData(), Column("shop_id", ForeignKey(shop.c.id)))
    assert [link.child for link in links_to(shop)] == [till]
