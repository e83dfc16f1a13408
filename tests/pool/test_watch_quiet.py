"""The watch keeps quiet about units that do nothing but database work, however much of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import select, text
from tests.support.probe import ServerProbe

from .model import Account
from .pool_face import LONG, PoolFace, both, one, result, sleep_in_database
from .watching import Reports, watched

UNITS = 10_000 if LONG else 2000
#: Shorter than the default, but not than what a busy machine may take between two statements.
HOLD_WARNING = 0.5


@pytest.fixture
def reports() -> Iterator[Reports]:
    with Reports() as reports:
        yield reports


@pytest.mark.timeout(900)
async def test_thousands_of_database_units(face: PoolFace, rows: None, reports: Reports) -> None:
    """10,000 units that read and write, 50 at a time over 5 connections: not one report."""
    uow = watched(face, pool_size=5, hold_warning=HOLD_WARNING)
    left = iter(range(UNITS))

    async def worker() -> None:
        for number in left:
            async with both(uow()) as tx:
                account = await result(tx.get(Account, 1 + number % 3))
                if number % 10 == 0:
                    account.note = str(number)
                    await result(tx.flush())

    async with both(uow.lifespan()):
        assert await face.all([worker] * 50) == [None] * 50
    assert uow.stats().committed == UNITS
    assert reports.said == []


async def test_a_long_query(face: PoolFace, reports: Reports) -> None:
    """A statement is work, however long it takes; so is a wait for a connection."""
    uow = watched(face, pool_size=1, hold_warning=0.1)

    async def work() -> None:
        async with both(uow()) as tx:
            await sleep_in_database(tx, 0.4)

    async with both(uow.lifespan()):
        await face.all([work] * 3)
    assert reports.said == []


async def test_a_wait_for_a_row(
    face: PoolFace, rows: None, reports: Reports, probe: ServerProbe
) -> None:
    """So is a wait for another transaction's lock, in a statement, a flush, or at the end."""
    uow = watched(face, hold_warning=0.1)
    held = threading.Event()
    done = threading.Event()

    def hold_row() -> None:
        import psycopg

        with psycopg.connect(probe.dsn) as connection:
            connection.execute("UPDATE pool_account SET note = 'x' WHERE id = 1")
            held.set()
            done.wait(0.5)

    async def flush_at_the_end() -> None:
        async with both(uow()) as tx:
            account = await result(tx.get(Account, 1))
            account.note = "mine"

    async def lock() -> None:
        async with both(uow()) as tx:
            await result(tx.scalars(select(Account).where(Account.id == 1).with_for_update()))

    holder = threading.Thread(target=hold_row)
    holder.start()
    assert held.wait(10)
    async with both(uow.lifespan()):
        assert await face.all([flush_at_the_end, lock]) == [None, None]
    holder.join()
    assert reports.said == []


async def test_a_slow_commit(face: PoolFace, rows: None, reports: Reports) -> None:
    """COMMIT may take its time as well: a deferred trigger runs in it."""
    uow = watched(face, hold_warning=0.1)
    async with both(uow.engine.begin()) as connection:
        for statement in (
            "CREATE OR REPLACE FUNCTION pool_nap() RETURNS trigger LANGUAGE plpgsql AS "
            "'BEGIN PERFORM pg_sleep(0.4); RETURN NULL; END'",
            "DROP TRIGGER IF EXISTS nap ON pool_entry",
            "CREATE CONSTRAINT TRIGGER nap AFTER UPDATE ON pool_entry DEFERRABLE INITIALLY "
            "DEFERRED FOR EACH ROW EXECUTE FUNCTION pool_nap()",
        ):
            await result(connection.execute(text(statement)))
    try:
        async with both(uow.lifespan()):
            async with both(uow()) as tx:
                await result(tx.execute(text("UPDATE pool_entry SET id = id WHERE id = 11")))
        assert reports.said == []
    finally:
        async with both(uow.engine.begin()) as connection:
            await result(connection.execute(text("DROP FUNCTION pool_nap() CASCADE")))


async def test_a_large_result(face: PoolFace, reports: Reports) -> None:
    """Rows that are fetched in portions from the server: the time goes to the database."""
    uow = watched(face, hold_warning=HOLD_WARNING)
    query = text("SELECT n FROM generate_series(1, 200000) n")
    async with both(uow.lifespan()):
        async with both(uow()) as tx:
            if face.is_async:
                count = 0
                async for _ in await tx.stream(query):
                    count += 1
            else:
                count = len(tx.execute(query).all())
            assert count == 200_000
    assert reports.said == []


async def test_without_a_lifespan_nobody_watches(face: PoolFace, reports: Reports) -> None:
    """No thread, no reports: the watch belongs to the lifespan, and ends with it."""
    uow = watched(face, hold_warning=0.05)
    async with both(uow()) as tx:
        await one(tx)
        await face.pause(0.3)
    async with both(uow.lifespan()):
        assert "unitofwork-watch" in [thread.name for thread in threading.enumerate()]
    assert "unitofwork-watch" not in [thread.name for thread in threading.enumerate()]
    assert reports.said == []


async def test_many_waits_do_not_slow_the_loop(async_face: PoolFace, reports: Reports) -> None:
    """A loop that is watched while 100 tasks wait elsewhere goes on turning."""
    uow = watched(async_face, pool_size=100, hold_warning=0.1)
    turns = 0

    async def hold(gong: Any) -> None:
        async with uow() as tx:
            await one(tx)
            await gong.wait()

    async with uow.lifespan():
        gong = asyncio.Event()
        tasks = [asyncio.create_task(hold(gong)) for _ in range(60)]
        await async_face.until(lambda: len(reports.held) == 60)
        for _ in range(20):
            await asyncio.sleep(0.005)
            turns += 1
        gong.set()
        await asyncio.gather(*tasks)
    assert turns == 20
    assert len(reports.held) == len(reports.back) == 60
