"""Statements whose rows can't be told by a query first: they run once, as they are, or not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import (
    Connection,
    Integer,
    delete,
    func,
    insert,
    literal_column,
    select,
    tablesample,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session
from tests.pool.pool_face import PoolFace, both, result

from unitofwork import UnorderedWriteError

from .model import Base, House, Lamp, Part, Room, Word, notes

rooms, lamps = Room.__table__, Lamp.__table__


def gone() -> Any:
    return delete(lamps).where(lamps.c.id < 4).returning(lamps.c.room_id).cte("gone")


def added(house: int = 9) -> Any:
    new = insert(Room).values(id=50, house_id=1, size=house).returning(Room.size)
    return new.cte("added")


def locked() -> Any:
    return select(House.id).where(House.id == 2).with_for_update().scalar_subquery()


def of_text(statement: str) -> Any:
    return text(statement).columns(id=Integer).cte("given")


#: They write or lock more than the rows that they name.
INSIDE: dict[str, Callable[[], Any]] = {
    "a delete in WHERE": lambda: (
        update(Room).where(Room.id.in_(select(gone().c.room_id))).values(size=Room.size + 1)
    ),
    "a delete in FROM": lambda: (
        update(Room).where(Room.id == (left := gone()).c.room_id).values(size=left.c.room_id)
    ),
    "an insert in WHERE": lambda: (
        update(Room).where(Room.id.in_(select(added().c.size))).values(size=0)
    ),
    "an insert in SET": lambda: (
        update(Room).where(Room.id == 3).values(size=select(added().c.size).scalar_subquery())
    ),
    "an update in EXISTS": lambda: delete(Lamp).where(
        select(update(House).values(name="n").returning(House.id).cte()).exists()
    ),
    "a delete under another name": lambda: delete(Room).where(
        Room.id == gone().alias("other").c.room_id
    ),
    "an update beside it": lambda: (
        update(Room).where(Room.id == 3).values(size=7).add_cte(update(Lamp).values(watts=1).cte())
    ),
    "a delete beside an insert": lambda: (
        insert(rooms).values(id=70, house_id=1, size=1).add_cte(delete(Lamp).cte())
    ),
    "an insert in an insert": lambda: insert(Part).values(
        [{"maker": "m", "number": select(added().c.size).scalar_subquery()}]
    ),
    "a lock in SET": lambda: update(Room).where(Room.id == 3).values(size=locked()),
    "a lock in WHERE, with keys": lambda: (
        update(Room).where(Room.id.in_([3, 4]), Room.house_id == locked()).values(size=7)
    ),
    "a lock in VALUES": lambda: insert(Room).values(id=70, house_id=1, size=locked()),
    "a lock in RETURNING": lambda: (
        update(Room).where(Room.id == 3).values(size=7).returning(Room.id, locked())
    ),
    "a lock on conflict": lambda: (
        upsert(Room)
        .values(id=3, house_id=1)
        .on_conflict_do_update(index_elements=["id"], set_={"size": locked()})
    ),
    "a delete by text": lambda: (
        update(Room)
        .where(Room.id == of_text("DELETE FROM write_lamp WHERE id < 4 RETURNING id").c.id)
        .values(size=7)
    ),
    "a lock by text": lambda: (
        update(Room)
        .where(text("house_id IN (SELECT id FROM write_house FOR UPDATE)"))
        .values(size=7)
    ),
    "a parent that only the database knows": lambda: insert(Room).values(
        id=70, house_id=select(House.id).where(House.code == "y").scalar_subquery()
    ),
    "a parent on conflict that only the database knows": lambda: (
        upsert(Room)
        .values(id=3, house_id=1, size=1)
        .on_conflict_do_update(
            index_elements=["id"], set_={"house_id": select(func.max(House.id)).scalar_subquery()}
        )
    ),
    "no primary key": lambda: update(notes).where(notes.c.text == "a").values(text="c"),
    "no primary key, deleted": lambda: delete(notes).where(notes.c.word_id == 1),
}


def count(answer: Any) -> int:
    # Of an INSERT the drivers tell different things.
    rows = getattr(answer, "rowcount", None)
    return len(answer.all()) if rows is None else max(rows, 1)


def content(connection: Any) -> dict[str, list[Any]]:
    tables = Base.metadata.sorted_tables
    return {
        table.name: sorted(map(tuple, connection.execute(select(table)).all()), key=repr)
        for table in tables
    }


@pytest.mark.parametrize("form", INSIDE)
async def test_it_does_what_it_does_in_a_plain_session(
    face: PoolFace, holder: Connection, form: str
) -> None:
    """Once; and with `strict_locks` it is refused before anything is sent."""
    with Session(holder) as session:
        expected = count(session.execute(INSIDE[form]())), content(session)
        session.rollback()
    before = content(holder)
    holder.rollback()
    with pytest.raises(UnorderedWriteError):
        async with both(face.uow(strict_locks=True)) as tx:
            await result(tx.execute(INSIDE[form]()))
    assert content(holder) == before
    holder.rollback()
    async with both(face.uow()) as tx:
        changed = count(await result(tx.execute(INSIDE[form]())))
    assert (changed, content(holder)) == expected


some = select(Room.id).order_by(func.random()).limit(3)
CHANGING: dict[str, Callable[[], Any]] = {
    "a function": lambda: update(Room).where(func.random() < 0.5).values(size=7),
    "one of a sequence": lambda: delete(Lamp).where(
        Lamp.id < func.nextval("write_word_id_seq") * 0 + 5
    ),
    "in a subquery": lambda: update(Room).where(Room.id.in_(some)).values(size=7),
    "in FROM": lambda: update(Room).where(Room.id == some.subquery().c.id).values(size=7),
    "in a text": lambda: update(Room).where(text("random() < 0.5")).values(size=7),
    "in a column of text": lambda: delete(Lamp).where(literal_column("random()") < 0.5),
    "a sample": lambda: delete(Lamp).where(
        Lamp.room_id.in_(select(tablesample(rooms, func.bernoulli(50)).c.id))
    ),
    "in a foreign key": lambda: (
        update(Room).where(Room.size > 30).values(house_id=1 + func.floor(func.random() * 3))
    ),
}


@pytest.mark.parametrize("form", CHANGING)
async def test_what_changes_from_call_to_call_is_called_once(
    face: PoolFace, sent: list[str], form: str
) -> None:
    """Read first and then changed, only rows that were chosen both times would be."""
    async with both(face.uow()) as tx:
        await result(tx.execute(select(House.id)))
        sent.clear()
        await result(tx.execute(CHANGING[form]()))
        assert [one for one in sent if "set_config" not in one] == sent[-1:]
    with pytest.raises(UnorderedWriteError):
        async with both(face.uow(strict_locks=True)) as tx:
            await result(tx.execute(CHANGING[form]()))


@pytest.mark.parametrize(
    "statement",
    [
        update(Room).where(Room.id == 3, func.random() < 2).values(size=7),
        update(Room).where(Room.size < 30).values(size=func.floor(func.random() * 9)),
        update(Word).where(func.lower(Word.text) == "sun", func.now() >= func.current_date()),
    ],
)
async def test_what_is_called_once_anyway_has_its_order(face: PoolFace, statement: Any) -> None:
    """By the keys in WHERE, or where it only computes a value; and other functions."""
    if not statement._values:
        statement = statement.values(count=5)
    async with both(face.uow(strict_locks=True)) as tx:
        await result(tx.execute(statement))
        assert tx.unit.book


async def test_inserts_without_a_primary_key(face: PoolFace) -> None:
    """Their parents are locked in order; the rows are told from others by nothing."""
    async with both(face.uow(strict_locks=True)) as tx:
        rows = [{"word_id": word, "text": "n"} for word in (2, None, 1)]
        await result(tx.execute(insert(notes), rows))
        assert {str(one) for one in tx.unit.book.held} == {"write_word 1", "write_word 2"}
        assert not tx.unit.book.inserted
