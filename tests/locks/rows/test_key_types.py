"""Keys by their columns' types: all spellings of one are one row, and no other row is taken."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import (
    create_engine,
    delete,
    insert,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert as upsert
from tests.contract.face import Face, both, result

from unitofwork import ConfigurationError, RowNotFoundError
from unitofwork.policies.locks.order import Resource
from unitofwork.testing.postgres import EmbeddedPostgres

from .key_model import (
    CLASSES,
    DAY,
    IDS,
    KINDS,
    NOON,
    Base,
    ChildOfChar,
    ChildOfPrefixed,
    ChildOfUuid,
    Colour,
    Point,
)

#: The sync face of psycopg sends keys as its async face does.
pytestmark = pytest.mark.parametrize("face", ["asyncpg", "psycopg-sync"], indirect=True)


@pytest.fixture(scope="module", autouse=True)
def rows(lock_tables: EmbeddedPostgres) -> Iterator[None]:
    engine = create_engine(lock_tables.url("psycopg"))
    with engine.begin() as connection:
        Base.metadata.create_all(connection)
        for name, (_, keys, _) in KINDS.items():
            # One by one: psycopg sends a list of objects of some class as it sends the first.
            for key in keys:
                connection.execute(insert(CLASSES[name]).values(key=key))
    yield
    Base.metadata.drop_all(engine)
    engine.dispose()


def held(tx: Any) -> list[Resource]:
    return list(tx.unit.book.held)


@pytest.mark.parametrize("name", KINDS)
async def test_every_call_finds_the_rows(face: Face, name: str) -> None:
    """By keys as loaded objects have them, with both drivers, and in one order."""
    cls, keys = CLASSES[name], KINDS[name][1]
    async with both(face.uow()) as tx:
        rows = await result(tx.lock_many(cls, keys))
        assert [row.key for row in rows] == keys
        assert held(tx) == sorted(held(tx))
        assert await result(tx.lock(cls, keys[1])) is rows[1]
        assert len(held(tx)) == 2
        for row in rows:
            row.n += 1
    async with both(face.uow()) as tx:
        found = await result(tx.lock_across({cls: keys}))
        assert [row.key for row in found[cls]] == keys
    async with both(face.uow()) as tx:
        assert len(await result(tx.lock_where(select(cls)))) == 2
    async with both(face.uow()) as tx:
        assert (await result(tx.execute(update(cls).values(n=5)))).rowcount == 2
        changed = update(cls).where(cls.key == keys[0]).values(n=6)
        assert (await result(tx.execute(changed))).rowcount == 1
        await result(tx.execute(update(cls), [{"key": key, "n": 7} for key in keys]))
        assert len(held(tx)) == 2
    async with both(face.uow()) as tx:
        new = upsert(cls).values([{"key": key, "n": 8} for key in keys])
        await result(tx.execute(new.on_conflict_do_update(index_elements=["key"], set_={"n": 8})))
        assert len(held(tx)) == 2
    async with both(face.uow()) as tx:
        for key in keys:
            (await result(tx.get(cls, key))).n += 1
        await result(tx.flush())
        # Where the driver does not count the rows of several UPDATEs, they may not have been there.
        counts = face.uow.engine.dialect.supports_sane_multi_rowcount
        assert len(held(tx)) == 2 or not counts
        await result(tx.lock_many(cls, keys))
        assert len(held(tx)) == 2


@pytest.mark.parametrize(
    ("name", "spelling"),
    [(name, spelling) for name, (_, _, spellings) in KINDS.items() for spelling in spellings],
)
async def test_all_spellings_are_one_row(face: Face, name: str, spelling: Any) -> None:
    """One entry in the book, of one place in the order, whatever else is asked for beside it."""
    cls, keys = CLASSES[name], KINDS[name][1]
    async with both(face.uow()) as tx:
        rows = await result(tx.lock_many(cls, [spelling, *keys]))
        assert [row.key for row in rows] == [keys[0], *keys]
        once = held(tx)
        assert len(once) == 2
        assert (await result(tx.lock_across({cls: [spelling]})))[cls] == [rows[0]]
        assert held(tx) == once
    async with both(face.uow()) as tx:
        assert await result(tx.lock(cls, spelling)) is await result(tx.get(cls, keys[0]))
        assert held(tx)[0] in once


#: Numbers and texts that the column's type would cut or round to a key that is there.
CUT: list[tuple[str, Any]] = [
    ("numeric", Decimal("1.501")),
    ("decimal", Decimal("2.001")),
    ("numeric_float", 1.5101),
    ("real", 0.50000000001),
    ("real", 0.50000001),
    ("unicode", "abcd"),
    ("decorated_text", "abcd"),
    ("char", "ab  c"),
    ("seconds", NOON + dt.timedelta(microseconds=300)),
    ("native_interval", DAY + dt.timedelta(microseconds=300)),
]


@pytest.mark.parametrize(("name", "key"), CUT)
async def test_no_other_row_is_taken(face: Face, name: str, key: Any) -> None:
    """A key that its column can't hold is not there; the row that it would be cut to is free."""
    cls = CLASSES[name]
    async with both(face.uow()) as tx:
        with pytest.raises(RowNotFoundError):
            await result(tx.lock(cls, key))
        with pytest.raises(RowNotFoundError):
            await result(tx.lock_across({cls: [key]}))
        assert not held(tx)


async def test_a_real_number_by_its_name(face: Face) -> None:
    """0.1 is not a number of `real`, but what the nearest one is called."""
    cls = CLASSES["real"]
    async with both(face.uow()) as tx:
        tx.add(cls(key=0.1))
        await result(tx.flush())
        (row,) = await result(tx.lock_where(select(cls).where(cls.key > 0, cls.key < 0.2)))
        assert row.key == pytest.approx(0.1)
        assert await result(tx.lock(cls, 0.1)) is row
        tx.set_rollback_only()


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("integer", "ten"),
        ("integer", 1.5),
        ("integer", Colour.RED),
        ("numeric", "one"),
        ("float", []),
        ("uuid", "abc"),
        ("enum", "GREEN"),
        ("unicode", b"abc"),
        ("bytes", 3),
        ("prefixed", "x"),
        ("value_object", 3),
    ],
)
async def test_what_cannot_be_a_key(face: Face, name: str, key: Any) -> None:
    """It is refused before any I/O, by class, column and value."""
    async with both(face.uow()) as tx:
        with pytest.raises(ConfigurationError) as caught:
            await result(tx.lock(CLASSES[name], key))
        assert f"{key!r} can't be the 'key' of {name}" in str(caught.value)
        assert tx.unit.connection is None


async def test_value_objects_are_sorted_by_what_is_stored(face: Face) -> None:
    """Not by where in memory they happen to be."""
    cls = CLASSES["value_object"]
    new = [cls(key=Point(number)) for number in range(10, 30)]
    async with both(face.uow()) as tx:
        tx.add_all(new)
    asked = [Point(number) for number in (25, 11, 17, 29, 2, 10)]
    async with both(face.uow()) as tx:
        await result(tx.lock_many(cls, asked))
        assert [one.key[0].number for one in sorted(held(tx))] == [2, 10, 11, 17, 25, 29]
    async with both(face.uow()) as tx:
        await result(tx.execute(delete(cls).where(cls.key.in_([one.key for one in new]))))


async def test_rows_are_inserted_in_the_order_of_locks(face: Face, statements: list[str]) -> None:
    """A statement's rows are sorted by the same form of their keys as locks are."""
    cls = CLASSES["value_object"]
    keys = [Point(number) for number in (91, 70, 85, 77)]
    async with both(face.uow()) as tx:
        new = insert(cls).values([{"key": key} for key in keys]).returning(cls.key)
        assert [one.number for one in await result(tx.scalars(new))] == [70, 77, 85, 91]
        tx.set_rollback_only()


async def test_a_parent_that_python_spells_otherwise(face: Face) -> None:
    """The child's value is taken to the parent's type; the row that is locked is the parent's."""
    prefixed, by_uuid = CLASSES["prefixed"], CLASSES["uuid"]
    async with both(face.uow()) as tx:
        row = tx.unit.home.tables.row
        ten, nine = (row(prefixed.__table__, (key,)) for key in ("u_10", "u_9"))
        tx.add(ChildOfPrefixed(id=1, parent=10))
        await result(tx.flush())
        assert held(tx) == [ten]
        await result(tx.execute(insert(ChildOfPrefixed).values(id=2, parent=9)))
        assert set(held(tx)) == {ten, nine}
        tx.add(ChildOfUuid(id=1, parent=str(IDS[0]).upper()))
        await result(tx.flush())
        assert row(by_uuid.__table__, (IDS[0],)) in held(tx)
        tx.set_rollback_only()


async def test_a_parent_whose_stored_spelling_is_another(face: Face) -> None:
    """A child that has 'ab' locks the parent 'ab  ', and the book has that."""
    async with both(face.uow()) as tx:
        tx.add(ChildOfChar(id=1, parent="ab"))
        await result(tx.flush())
        assert [one.key for one in held(tx)] == [("ab  ",)]
        tx.set_rollback_only()


async def test_children_of_a_parent_that_python_spells_otherwise(face: Face) -> None:
    """The rows that ON DELETE CASCADE reaches are found by the value in their own type."""
    prefixed = CLASSES["prefixed"]
    async with both(face.uow()) as tx:
        tx.add(prefixed(key="u_77"))
        await result(tx.flush())
        tx.add(ChildOfPrefixed(id=7, parent=77))
    async with both(face.uow()) as tx:
        await result(tx.delete(await result(tx.get(prefixed, "u_77"))))
        await result(tx.flush())
        row = tx.unit.home.tables.row
        rows = {row(prefixed.__table__, ("u_77",)), row(ChildOfPrefixed.__table__, (7,))}
        assert set(held(tx)) == rows
