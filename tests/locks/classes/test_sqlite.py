"""Class 27: SQLite has one writer; who has read and then wants to write may find it too late."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, event, exc, select
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from tests.contract.face import Face, both, result

from unitofwork import AsyncUnitOfWork, UnitOfWork

from .model import Row


@pytest.mark.parametrize("driver", ["aiosqlite", "pysqlite"])
async def test_27_read_then_write(driver: str, hygiene: Any, tmp_path: Path) -> None:
    """Two that have read can't both write, at once and whatever busy_timeout; a unit begins as
    a writer, so it waits, and what it has read still holds when it writes."""
    face = Face(driver, f"sqlite+{driver}:///{tmp_path / 'class.db'}", hygiene)
    setup = create_engine(f"sqlite:///{tmp_path / 'class.db'}")
    Row.__table__.create(setup)
    with Session(setup) as session, session.begin():
        session.add(Row(id=1, v=0, grp=0))
    setup.dispose()
    make: Any = create_async_engine if face.is_async else create_engine
    engine = hygiene.watch(make(face.url))
    begin_by_hand(engine.sync_engine if face.is_async else engine)
    have_read: list[int] = []

    async def naive() -> None:
        kind: Any = AsyncSession if face.is_async else Session
        async with both(kind(engine)) as session:
            row = await result(session.get_one(Row, 1))
            have_read.append(row.v)
            await face.until(lambda: len(have_read) == 2)
            row.v += 1
            await result(session.commit())

    ended = await ended_of(face, [naive] * 2)
    assert [type(error) for error in ended if error is not None] == [exc.OperationalError]
    await result(engine.dispose())

    of_units: Any = AsyncUnitOfWork if face.is_async else UnitOfWork
    engine = hygiene.watch(make(face.url))
    uow = of_units(engine)
    attempts: list[int] = []

    async def ours() -> None:
        async def attempt(tx: Any) -> None:
            attempts.append(tx.attempt)
            row = (await result(tx.scalars(select(Row)))).one()
            await face.pause(0.01)
            row.v += 1

        await result(uow.run(face.function(attempt)))

    assert await ended_of(face, [ours] * 20) == [None] * 20
    assert attempts == [1] * 20
    async with both(uow(read_only=True)) as tx:
        assert (await result(tx.get_one(Row, 1))).v == 21
    await result(engine.dispose())


def begin_by_hand(engine: Any) -> None:
    """As SQLAlchemy's documentation has it, so that a transaction begins with what it reads."""

    @event.listens_for(engine, "connect")
    def leave_it_alone(connection: Any, _record: Any) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN")


async def ended_of(face: Face, works: list[Any]) -> list[Any]:
    children = [face.start(work) for work in works]
    ended = []
    for child in children:
        try:
            ended.append(await face.join(child))
        except Exception as error:
            ended.append(error)
    return ended
