"""What the server is left with when a unit is cancelled in a long query or a long COMMIT."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import anyio
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from tests.support.hygiene import Hygiene
from tests.support.probe import ServerProbe

from unitofwork import AsyncTransaction, AsyncUnitOfWork, Outcome
from unitofwork.testing.postgres import EmbeddedPostgres

DRIVERS = ("asyncpg", "psycopg")


async def by_anyio(work: Callable[[], Awaitable[None]]) -> None:
    """What Starlette, FastAPI and Litestar do when a client goes away."""
    with anyio.move_on_after(0.3) as scope:
        await work()
    assert scope.cancelled_caught


async def by_cancelling_twice(work: Callable[[], Awaitable[None]]) -> None:
    task = asyncio.ensure_future(work())
    await asyncio.sleep(0.3)
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def by_timeout(work: Callable[[], Awaitable[None]]) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await work()


WAYS = (by_anyio, by_cancelling_twice, by_timeout)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("way", WAYS)
async def test_a_cancelled_query_is_cancelled_on_the_server(
    postgres: EmbeddedPostgres,
    probe: ServerProbe,
    hygiene: Hygiene,
    driver: str,
    way: Callable[[Callable[[], Awaitable[None]]], Awaitable[None]],
) -> None:
    """A query of a minute and the lock of its unit are gone a second after the cancellation."""
    engine = hygiene.watch(create_async_engine(postgres.url(driver)))
    uow = AsyncUnitOfWork(engine)

    async def work() -> None:
        async with uow() as tx:
            await tx.execute(text("SELECT pg_advisory_xact_lock(4711)"))
            await tx.execute(text("SELECT pg_sleep(60)"))

    await way(work)
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    await hygiene.check_async()  # within a second: no session active, no lock held
    async with uow() as tx:
        assert await tx.scalar(text("SELECT pg_try_advisory_xact_lock(4711)"))
    await engine.dispose()


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("way", WAYS)
async def test_a_long_commit_is_waited_for(
    postgres: EmbeddedPostgres,
    hygiene: Hygiene,
    driver: str,
    way: Callable[[Callable[[], Awaitable[None]]], Awaitable[None]],
) -> None:
    """Cancelled during COMMIT, the caller sees the cancellation, and COMMITTED, which is true."""
    engine = hygiene.watch(create_async_engine(postgres.url(driver)))
    uow = AsyncUnitOfWork(engine)
    async with engine.begin() as connection:
        for statement in SLOW_COMMIT:
            await connection.execute(text(statement))
    units: list[AsyncTransaction] = []

    async def work() -> None:
        async with uow() as tx:
            units.append(tx)
            await tx.execute(text("INSERT INTO slow_commit VALUES (1)"))

    await way(work)
    assert units[0].outcome is Outcome.COMMITTED
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    async with uow() as tx:
        assert await tx.scalar(text("SELECT count(*) FROM slow_commit")) == 1
    await hygiene.check_async()
    await engine.dispose()


#: A deferred trigger makes COMMIT itself last a second.
SLOW_COMMIT = (
    "DROP TABLE IF EXISTS slow_commit",
    "CREATE TABLE slow_commit (id int)",
    "CREATE OR REPLACE FUNCTION sleep_a_second() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN PERFORM pg_sleep(1); RETURN NULL; END $$",
    "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON slow_commit DEFERRABLE INITIALLY DEFERRED "
    "FOR EACH ROW EXECUTE FUNCTION sleep_a_second()",
)
