"""The check after each test finds every kind of leftover, and nothing where there is none."""

from __future__ import annotations

import asyncio
import gc
import threading
import warnings
from collections.abc import AsyncIterator, Iterator

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool
from tests.support.hygiene import Hygiene
from tests.support.probe import ServerProbe

from unitofwork.testing.postgres import EmbeddedPostgres


@pytest.fixture
def hygienic(probe: ServerProbe, hygiene: Hygiene) -> Iterator[Hygiene]:
    """As the fixture of every test, but in a hurry and not checked at the end."""
    with Hygiene(probe, patience=0.2) as hygienic:
        yield hygienic
    probe.terminate_all()
    # The real one hears what these tests leave behind on purpose.
    hygiene.garbage.clear()


@pytest.fixture
def engine(postgres: EmbeddedPostgres, hygienic: Hygiene) -> Iterator[Engine]:
    engine = hygienic.watch(create_engine(postgres.url("psycopg")))
    yield engine
    engine.dispose()


@pytest.fixture(params=["asyncpg", "psycopg"])
async def async_engine(
    request: pytest.FixtureRequest, postgres: EmbeddedPostgres, hygienic: Hygiene
) -> AsyncIterator[AsyncEngine]:
    engine = hygienic.watch(create_async_engine(postgres.url(request.param)))
    yield engine
    await engine.dispose()


def test_clean(engine: Engine, hygienic: Hygiene) -> None:
    """Connections that were given back, dropped or detached and closed are no leftovers."""
    with engine.begin() as connection:
        connection.execute(text("create temporary table leftover (a int)"))
    with engine.connect() as connection:
        connection.invalidate()
    with engine.connect() as connection:
        connection.detach()
    hygienic.check()


async def test_clean_async(async_engine: AsyncEngine, hygienic: Hygiene) -> None:
    """The same with an async engine, by both ways to check."""
    async with async_engine.begin() as connection:
        await connection.execute(text("select 1"))
    await hygienic.check_async()
    hygienic.check()


def test_connection_that_is_out(engine: Engine, hygienic: Hygiene) -> None:
    """A connection still held is found, in a transaction or not, with its taker."""
    connection = engine.connect()
    with pytest.raises(AssertionError, match="1 checked out") as caught:
        hygienic.check()
    assert "MainThread" in str(caught.value)
    connection.close()
    hygienic.check()


async def test_connection_that_is_out_async(async_engine: AsyncEngine, hygienic: Hygiene) -> None:
    """The same with an async engine; it names the task."""
    task = asyncio.create_task(async_engine.connect().start(), name="the leaking task")
    connection = await task
    with pytest.raises(AssertionError, match="the leaking task"):
        await hygienic.check_async()
    await connection.close()
    await hygienic.check_async()


def test_connection_that_comes_back_late(engine: Engine, hygienic: Hygiene) -> None:
    """What comes to rest within the patience is no leftover."""
    connection = engine.connect()
    timer = threading.Timer(0.05, connection.close)
    timer.start()
    hygienic.patience = 10
    hygienic.check()
    timer.join()


def test_disposed_engine_hides_nothing(engine: Engine, hygienic: Hygiene) -> None:
    """An engine disposed with a connection out counts none; the check does."""
    connection, pool = engine.connect(), engine.pool
    engine.dispose()
    assert pool.checkedout() == 0  # type: ignore[attr-defined]
    with pytest.raises(AssertionError, match="still out"):
        hygienic.check()
    connection.close()
    hygienic.check()
    pool.dispose()


def test_engine_without_a_pool(postgres: EmbeddedPostgres, hygienic: Hygiene) -> None:
    """A NullPool counts nothing; the check does."""
    engine = hygienic.watch(create_engine(postgres.url("psycopg"), poolclass=NullPool))
    connection = engine.connect()
    with pytest.raises(AssertionError, match="still out"):
        hygienic.check()
    connection.close()
    hygienic.check()


def test_left_to_the_garbage_collector(engine: Engine, hygienic: Hygiene) -> None:
    """A sync pool takes such a connection back without a word; the check has seen it."""
    engine.connect()
    with pytest.raises(AssertionError, match="left to the garbage collector"):
        hygienic.check()


async def test_left_to_the_garbage_collector_async(
    async_engine: AsyncEngine, hygienic: Hygiene
) -> None:
    """An async pool drops it with a warning; the check fails even where that went unseen."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        await async_engine.connect()
        gc.collect()
    with pytest.raises(AssertionError, match="garbage collector"):
        await hygienic.check_async()


async def test_garbage_of_an_engine_that_is_not_watched(
    postgres: EmbeddedPostgres, hygienic: Hygiene
) -> None:
    """The pool's own message is heard from any engine."""
    engine = create_async_engine(postgres.url("asyncpg"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        await engine.connect()
        gc.collect()
    with pytest.raises(AssertionError, match="trying to clean up non-checked-in connection"):
        await hygienic.check_async()
    await engine.dispose()


async def test_busy_server(async_engine: AsyncEngine, hygienic: Hygiene) -> None:
    """Locks that a session keeps after its connection was given back are found."""
    async with async_engine.begin() as connection:
        await connection.execute(text("select pg_advisory_lock(9)"))
    with pytest.raises(AssertionError, match="advisory 0:9"):
        await hygienic.check_async()
    with pytest.raises(AssertionError, match="advisory 0:9"):
        hygienic.check()
