"""Class 27: SQLite has one writer; who has read and then wants to write may find it too late."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, event, exc, select, text
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


@pytest.mark.parametrize("driver", ["aiosqlite", "pysqlite"])
async def test_27_attached_files_in_opposite_orders(
    driver: str, hygiene: Any, tmp_path: Path
) -> None:
    """A true circle, which lasts as long as busy_timeout; of two units one is run again.

    Attached in one order by all, the files make no circle.
    """
    face = Face(driver, f"sqlite+{driver}:///{tmp_path / 'a.db'}", hygiene)
    files = [str(tmp_path / "a.db"), str(tmp_path / "b.db")]
    for file in files:
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("CREATE TABLE coin (n INTEGER)")
            connection.execute("INSERT INTO coin VALUES (0)")
            connection.commit()

    def engine_of(main: str, other: str, by_hand: bool) -> Any:
        make: Any = create_async_engine if face.is_async else create_engine
        engine = hygiene.watch(make(f"sqlite+{driver}:///{main}"))
        sync = engine.sync_engine if face.is_async else engine
        if by_hand:
            begin_by_hand(sync, "BEGIN IMMEDIATE")

        @event.listens_for(sync, "connect")
        def attach(connection: Any, _record: Any) -> None:
            cursor = connection.cursor()
            cursor.execute("PRAGMA busy_timeout = 1000")
            cursor.execute(f"ATTACH '{other}' AS other")
            cursor.close()

        return engine

    async def race(works: list[Any]) -> list[Any]:
        """The first has its own file and has waited for the other for long when the second comes.

        SQLite looks again after 1, 2, 5 ms and so on, up to 100: mostly the second one gets it.
        """
        with closing(sqlite3.connect(files[1], isolation_level=None)) as holder:
            holder.execute("BEGIN IMMEDIATE")
            first = face.start(works[0])
            await face.pause(0.6)
            second = face.start(works[1])
            holder.execute("ROLLBACK")
        ended = []
        for child in (first, second):
            try:
                ended.append(await face.join(child))
            except Exception as error:
                ended.append(error)
        return ended

    engines = [engine_of(*files, by_hand=True), engine_of(*files[::-1], by_hand=True)]

    def naive(engine: Any) -> Any:
        async def work() -> None:
            async with both(engine.begin()) as connection:
                await result(connection.execute(text("UPDATE main.coin SET n = n + 1")))
                await result(connection.execute(text("UPDATE other.coin SET n = n + 1")))

        return work

    for _ in range(20):
        ended = await race([naive(engine) for engine in engines])
        if ended != [None, None]:
            break
    assert exc.OperationalError in map(type, ended)
    for engine in engines:
        await result(engine.dispose())

    before, races = coins(files), 0
    for opposite in (True, False):
        orders = [files, files[::-1] if opposite else files]
        engines = [engine_of(*order, by_hand=False) for order in orders]
        attempts: list[int] = []

        def ours(engine: Any, attempts: list[int] = attempts) -> Any:
            uow = (AsyncUnitOfWork if face.is_async else UnitOfWork)(engine)

            async def attempt(tx: Any) -> None:
                attempts.append(tx.attempt)
                await result(tx.execute(text("UPDATE main.coin SET n = n + 1")))
                await result(tx.execute(text("UPDATE other.coin SET n = n + 1")))

            async def work() -> None:
                await result(uow.run(face.function(attempt)))

            return work

        for _ in range(20 if opposite else 1):
            assert await race([ours(engine) for engine in engines]) == [None, None]
            races += 1
            if max(attempts) > 1:
                break
        assert (max(attempts) > 1) is opposite
        for engine in engines:
            await result(engine.dispose())
    assert coins(files) == [n + 2 * races for n in before]


def coins(files: list[str]) -> list[int]:
    found = []
    for file in files:
        with closing(sqlite3.connect(file)) as connection:
            found += [n for (n,) in connection.execute("SELECT n FROM coin")]
    return found


def begin_by_hand(engine: Any, how: str = "BEGIN") -> None:
    """As SQLAlchemy's documentation has it, so that a transaction begins with what it reads."""

    @event.listens_for(engine, "connect")
    def leave_it_alone(connection: Any, _record: Any) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql(how)


async def ended_of(face: Face, works: list[Any]) -> list[Any]:
    children = [face.start(work) for work in works]
    ended = []
    for child in children:
        try:
            ended.append(await face.join(child))
        except Exception as error:
            ended.append(error)
    return ended
