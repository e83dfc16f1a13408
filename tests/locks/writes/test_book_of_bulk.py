"""What bulk statements lock that their own text does not say: it is in the book all the same."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Connection, bindparam, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from tests.pool.pool_face import PoolFace, both, result

from .audit import check_book
from .conftest import face_fixture
from .model import Guest, House, Node, Room, Shop, Stall

shops = Shop.__table__
face = face_fixture("psycopg-sync")


def held(tx: Any) -> set[str]:
    return {str(one) for one in tx.unit.book.held}


async def test_a_parent_that_is_checked_at_commit(face: PoolFace, holder: Connection) -> None:
    """A foreign key that is deferred locks nothing before; a lock query does, in order."""
    async with both(face.uow()) as tx:
        await result(tx.execute(insert(Guest).values(id=50, house_id=2)))
        check_book(tx, holder)
        assert held(tx) == {"write_house 2"}


async def test_a_parent_that_is_not_there_yet(face: PoolFace, holder: Connection) -> None:
    """It is nobody's, until somebody inserts it; whoever does has it alone."""
    async with both(face.uow()) as tx:
        sets = [{"id": 50, "house_id": 77}, {"id": 51, "house_id": 2}]
        await result(tx.execute(insert(Guest), sets))
        assert face.probe is not None
        face.probe.execute("INSERT INTO write_house VALUES (77, 'new', NULL)")
        check_book(tx, holder)
        assert held(tx) == {"write_house 2"}


@pytest.mark.parametrize("is_upsert", [False, True])
async def test_a_parent_that_is_among_the_rows(
    face: PoolFace, holder: Connection, is_upsert: bool
) -> None:
    """Left alone it would be locked with its child, before rows that come first."""
    holder.execute(update(Node).where(Node.id == 2).values(size=1))
    sets = [{"id": one, "parent_id": parent} for one, parent in ((1, 3), (2, None), (3, None))]
    new = upsert(Node)
    statement: Any = update(Node)
    if is_upsert:
        statement = new.on_conflict_do_update(
            index_elements=[Node.id], set_={"parent_id": new.excluded.parent_id}
        )

    async def work() -> None:
        async with both(face.uow()) as tx:
            await result(tx.execute(statement, sets))
            check_book(tx, holder)

    running = face.start(work)
    await face.until(lambda: face.probe is not None and face.probe.blocked())
    assert (3,) in face.aside("SELECT id FROM write_node FOR UPDATE SKIP LOCKED")
    holder.rollback()
    await face.join(running)


LISTS: dict[str, tuple[Any, list[dict[str, Any]], set[str]]] = {
    "a part of a foreign key": (
        update(Shop),
        [{"id": 2, "row": 4}, {"id": 1, "row": 3}],
        {"write_area (3, 1)", "write_area (4, 1)"},
    ),
    "the part of a foreign key that is no key": (
        update(Stall),
        [{"row": 1, "number": 1, "place": 2}],
        {"write_area (1, 2)"},
    ),
    "a row twice": (
        update(Room),
        [{"id": 3, "size": 1}, {"id": 4, "house_id": 3}, {"id": 3, "size": 2}],
        {"write_house 2", "write_house 3"},
    ),
    "a row twice, in parts": (
        update(Shop),
        [{"id": 1, "row": 3}, {"id": 1, "place": 2}, {"id": 2, "size": 1}],
        {"write_area (3, 1)", "write_area (3, 2)"},
    ),
    "a row twice, in core": (
        update(shops).where(shops.c.id == bindparam("one")).values(row=bindparam("new")),
        [{"one": 1, "new": 3}, {"one": 1, "new": 4}],
        {"write_area (3, 1)", "write_area (4, 1)"},
    ),
}


@pytest.mark.parametrize("form", LISTS)
async def test_parents_of_rows_in_a_list(face: PoolFace, holder: Connection, form: str) -> None:
    """What stays of a foreign key that is set in part; all of a row that is written twice."""
    statement, sets, parents = LISTS[form]
    async with both(face.uow(strict_locks=True)) as tx:
        await result(tx.execute(statement, sets))
        check_book(tx, holder)
        assert parents == {one for one in held(tx) if one.startswith(("write_area", "write_house"))}


async def test_a_list_that_comes_after_another_write(face: PoolFace, holder: Connection) -> None:
    """All foreign keys of the row are checked, also those that only other sets set."""
    async with both(face.uow(strict_locks=True)) as tx:
        await result(tx.execute(update(Room).where(Room.id == 3).values(size=1)))
        await result(tx.execute(update(Room), [{"id": 3, "size": 2}, {"id": 4, "house_id": 3}]))
        check_book(tx, holder)


async def test_what_is_read_of_a_row_in_a_list(face: PoolFace, holder: Connection) -> None:
    """The part that stays is what the row has when it is locked."""
    holder.execute(update(Shop).where(Shop.id == 1).values(place=4))

    async def work() -> None:
        async with both(face.uow()) as tx:
            await result(tx.execute(update(Shop), [{"id": 1, "row": 3}]))
            assert "write_area (3, 4)" in held(tx)
            check_book(tx, holder)

    running = face.start(work)
    await face.until(lambda: face.probe is not None and face.probe.blocked())
    holder.commit()
    await face.join(running)


async def test_a_list_that_sets_no_foreign_key_costs_nothing_more(
    face: PoolFace, sent: list[str]
) -> None:
    """Though a column of the key belongs to one."""
    async with both(face.uow()) as tx:
        await result(tx.execute(select(House)))
        sent.clear()
        await result(tx.execute(update(Stall), [{"row": 1, "number": 1, "size": 2}]))
        assert len(sent) == 1
        assert held(tx) == {"write_stall (1, 1)"}
