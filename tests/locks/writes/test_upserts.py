"""insert() of many rows: sorted by what may conflict; parents, and what exists, in the book."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import (
    Connection,
    String,
    cast,
    create_engine,
    func,
    insert,
    literal,
    select,
    update,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.dialects.mysql import insert as mysql_insert
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session
from tests.pool.pool_face import PoolFace, both, result

from unitofwork import UnorderedWriteError
from unitofwork.core.locks.dml import target_of
from unitofwork.core.locks.sorting import sort_rows

from .audit import check_book
from .conftest import face_fixture
from .model import OWNER, House, Lamp, Owned, Part, Room, Tag, Word, Worker

face = face_fixture("psycopg-sync")
words, rooms = Word.__table__, Room.__table__
SIZES = [{"id": 9, "house_id": 2, "size": 1}, {"id": 20, "house_id": 1, "size": 2}]
SIZES += [{"id": 4, "house_id": 3, "size": 3}]
TEXTS = [{"text": text, "lang": "en", "count": 1} for text in ("sun", "moon", "dust")]


def by_key(rows: Any = None) -> Any:
    statement = upsert(Room) if rows is None else upsert(Room).values(rows)
    return statement.on_conflict_do_update(
        index_elements=[Room.id], set_={"size": statement.excluded.size}
    )


def by_text(rows: Any = None, **target: Any) -> Any:
    statement = upsert(words) if rows is None else upsert(words).values(rows)
    return statement.on_conflict_do_update(
        **(target or {"index_elements": ["text", "lang"]}),
        set_={"count": words.c.count + statement.excluded.count},
    )


def by_label(*labels: str) -> Any:
    statement = upsert(Tag).values([{"id": 5 - n, "label": one} for n, one in enumerate(labels)])
    return statement.on_conflict_do_update(
        index_elements=[func.lower(Tag.label)], set_={"weight": statement.excluded.id}
    )


#: Statement and parameters.
FORMS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "by key": lambda: (by_key(SIZES), None),
    "by key, in sets": lambda: (by_key(), SIZES),
    "by key, one": lambda: (by_key(SIZES[0]), None),
    "by key of two columns": lambda: (
        upsert(Part)
        .values([{"maker": m, "number": n, "stock": 1} for m, n in (("b", 2), ("a", 7), ("B", 1))])
        .on_conflict_do_update(index_elements=["number", "maker"], set_={"stock": 0}),
        None,
    ),
    "to another parent": lambda: (
        (given := upsert(Room).values(SIZES)).on_conflict_do_update(
            constraint="write_room_pkey", set_={"house_id": given.excluded.house_id}
        ),
        None,
    ),
    "by unique columns": lambda: (by_text(TEXTS), None),
    "by unique columns, in sets": lambda: (by_text(), TEXTS),
    "by unique columns, one": lambda: (by_text(TEXTS[0]), None),
    "by unique columns, a new one": lambda: (by_text(TEXTS[2]), None),
    "by the name of a constraint": lambda: (by_text(TEXTS, constraint="write_word_text"), None),
    "that changes nothing": lambda: (
        upsert(Room)
        .values(SIZES)
        .on_conflict_do_update(index_elements=["id"], set_={"size": 0}, where=Room.size > 1000),
        None,
    ),
    "do nothing": lambda: (upsert(Room).values(SIZES).on_conflict_do_nothing(), None),
    "do nothing, one": lambda: (upsert(Room).values(SIZES[0]).on_conflict_do_nothing(), None),
    "do nothing, by text": lambda: (
        upsert(words).values(TEXTS).on_conflict_do_nothing(index_elements=["text", "lang"]),
        None,
    ),
    "insert one": lambda: (insert(Lamp).values(id=70, room_id=7, watts=5), None),
    "insert in core": lambda: (insert(rooms).values([(70, 1, 5), (60, 2, 6)]), None),
    "insert sets": lambda: (insert(Lamp), [{"id": 70, "room_id": 7}, {"id": 60, "room_id": 6}]),
    "insert inherited": lambda: (
        insert(Worker),
        [{"id": n, "pay": n, "name": "n", "kind": "worker"} for n in (70, 60)],
    ),
    "insert without keys": lambda: (insert(Word), [{"text": "up"}, {"text": "down"}]),
    "insert no number": lambda: (
        insert(Tag),
        [{"label": one, "weight": weight} for one, weight in (("x", math.nan), ("y", 2.0))],
    ),
    "insert nothing known": lambda: (
        insert(Word).values(text=select(House.name).where(House.id == 1).scalar_subquery()),
        None,
    ),
}


def content(connection: Any) -> list[list[Any]]:
    # Of words and tags, the database's keys depend on the order of insertion.
    tables: list[Any] = [Room, Lamp, Part, Worker, House]
    whole = [sorted(map(tuple, connection.execute(select(one.__table__)))) for one in tables]
    own = words.c.text, words.c.lang, words.c.count
    tags = select(Tag.label, cast(Tag.weight, String))
    return [*whole, *(sorted(map(tuple, connection.execute(one))) for one in (select(*own), tags))]


@pytest.mark.parametrize("form", FORMS)
async def test_any_form(face: PoolFace, holder: Connection, form: str) -> None:
    """It does what it does in a plain session, and the book has the locks of the server.

    With `strict_locks`, which none of them gives a reason to raise.
    """
    statement, sets = FORMS[form]()
    with Session(holder) as session:
        session.execute(statement, sets)
        expected = content(session)
        session.rollback()
    async with both(face.uow(strict_locks=True)) as tx:
        await result(tx.execute(statement, sets))
        check_book(tx, holder)
    assert content(holder) == expected


@pytest.mark.parametrize("sets", [False, True])
async def test_new_rows_come_in_the_order_of_their_conflict_key(face: PoolFace, sets: bool) -> None:
    """Whichever way round they are given; RETURNING gives them as they were written."""
    texts = ["d", "b", "C", "a"]
    rows = [{"text": text, "lang": "xx", "count": 1} for text in texts]
    statement = by_text(None if sets else rows).returning(words.c.text)
    async with both(face.uow()) as tx:
        found = await result(tx.execute(statement, rows if sets else None))
        assert list(found.scalars()) == ["C", "a", "b", "d"]
    numbered = face.aside("SELECT text FROM write_word WHERE lang = 'xx' ORDER BY id")
    assert [text for (text,) in numbered] == ["C", "a", "b", "d"]


async def test_an_order_that_was_asked_for_is_kept(face: PoolFace) -> None:
    """`sort_by_parameter_order` says which result belongs to which parameters."""
    sets = [{"text": text, "lang": "xx"} for text in ("d", "b")]
    async with both(face.uow()) as tx:
        statement = insert(Word).returning(Word.text, sort_by_parameter_order=True)
        assert list(await result(tx.scalars(statement, sets))) == ["d", "b"]


async def test_objects_that_are_returned(face: PoolFace) -> None:
    """An ORM insert gives its objects."""
    async with both(face.uow()) as tx:
        sets = [{"id": 50, "house_id": 1}, {"id": 40, "house_id": 1}]
        found = list(await result(tx.scalars(insert(Room).returning(Room), sets)))
        assert {room.id for room in found} == {40, 50}
        assert all(room in tx for room in found)


async def test_one_row_costs_nothing_more(face: PoolFace, sent: list[str]) -> None:
    """Neither a plain one with one parent, nor an upsert by key without."""
    async with both(face.uow()) as tx:
        await result(tx.execute(select(House)))
        sent.clear()
        await result(tx.execute(insert(Room).values(id=70, house_id=1)))
        assert len(sent) == 1
        assert {str(one) for one in tx.unit.book.held} == {"write_house 1"}
    parts = [{"maker": "a", "number": number, "stock": 1} for number in (3, 1, 2)]
    async with both(face.uow()) as tx:
        await result(tx.execute(select(House)))
        sent.clear()
        statement = upsert(Part).values(parts)
        await result(
            tx.execute(
                statement.on_conflict_do_update(
                    index_elements=["maker", "number"], set_={"stock": 2}
                )
            )
        )
        assert len(sent) == 1


@pytest.mark.parametrize(
    "statement",
    [
        insert(words).from_select(["text"], select(House.name)),
        by_text([{"text": literal("a").concat("b"), "lang": "en", "count": 1}, TEXTS[0]]),
        by_label("OLD"),
        by_label("b", "OLD", "a"),
        upsert(Tag)
        .values([{"label": "x", "weight": math.nan}, {"label": "y", "weight": 1.0}])
        .on_conflict_do_nothing(index_elements=["weight"]),
    ],
)
async def test_what_has_no_order_is_refused_where_that_is_asked_for(
    face: PoolFace, statement: Any
) -> None:
    """Rows that only the database knows can't be sorted: `strict_locks` says so."""
    async with both(face.uow()) as tx:
        await result(tx.execute(statement))
    with pytest.raises(UnorderedWriteError, match="can't be put in order"):
        async with both(face.uow(strict_locks=True)) as tx:
            await result(tx.execute(statement))


@pytest.mark.parametrize("in_core", [False, True])
def test_mysql_rows_are_sorted_too(in_core: bool) -> None:
    """`on_duplicate_key_update` with its rows in the order of their key."""
    rows = [{"id": number, "size": 0, "house_id": 1} for number in (3, 1, 2)]
    statement = mysql_insert(rooms if in_core else Room).values(rows)
    statement = statement.on_duplicate_key_update(size=statement.inserted.size)
    target = target_of(statement)
    assert target is not None
    ordered = sort_rows(statement, None, target).statement.compile(dialect=mysql.dialect())
    keys = [ordered.params[name] for name in ordered.params if name.startswith("id")]
    assert keys == [1, 2, 3]
    assert "ON DUPLICATE KEY UPDATE" in str(ordered)


def test_other_databases_get_the_statement_as_it_is() -> None:
    """SQLite has one writer: nothing is read, locked or sorted there."""
    from sqlalchemy import event

    from unitofwork import UnitOfWork

    engine = create_engine("sqlite://")
    Word.__table__.create(engine)
    sent: list[Any] = []

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        sent.append((statement.split()[0], parameters))

    sets = [{"text": text, "lang": "x", "count": 0} for text in ("b", "a")]
    with UnitOfWork(engine)(strict_locks=True) as tx:
        tx.execute(select(Word))
        event.listen(engine, "before_cursor_execute", note)
        tx.execute(insert(Word), sets)
    assert sent == [("INSERT", [("b", "x", 0), ("a", "x", 0)])]
    engine.dispose()


async def test_a_foreign_key_that_is_left_to_a_default(face: PoolFace) -> None:
    """It is no raw SQL: `strict_locks` lets it pass."""
    async with both(face.uow(strict_locks=True)) as tx:
        await result(tx.execute(insert(Owned), [{"id": 5}, {"id": 4}]))
    found = face.aside("SELECT id, house FROM write_owned WHERE id > 3 ORDER BY id")
    assert found == [(4, OWNER), (5, OWNER)]


async def test_a_key_that_the_column_can_t_hold(face: PoolFace) -> None:
    """No row has it: that is the database's answer, as in a plain session, and no error."""
    async with both(face.uow()) as tx:
        found = await result(tx.execute(update(Room).where(Room.id == 1.5).values(size=1)))
        assert found.rowcount == 0
