"""What bulk statements lock that their own text does not say: it is in the book all the same."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Connection, insert, update
from sqlalchemy.dialects.postgresql import insert as upsert
from tests.pool.pool_face import PoolFace, both, result

from .audit import check_book
from .conftest import face_fixture
from .model import Guest, Node

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
