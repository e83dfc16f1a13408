"""A server that crashes or restarts while COMMIT is under way: what it says later about the id."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from tests.support.proxy import Proxy

from unitofwork import AsyncUnitOfWork, CommitUnknownError, Outcome
from unitofwork.sql.transaction_ids import judged
from unitofwork.testing.postgres import EmbeddedPostgres

INSERT = text("INSERT INTO t VALUES (1)")
OTHERS = "INSERT INTO t SELECT 100"


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPostgres]:
    """One that may be killed; it writes WAL at COMMIT only."""
    with EmbeddedPostgres(18, {"wal_writer_delay": "10s"}) as server:
        with psycopg.connect(server.url(None)) as connection:
            connection.execute("CREATE TABLE t (i int)")
        yield server


@pytest.fixture
def proxy(server: EmbeddedPostgres) -> Iterator[Proxy]:
    with Proxy(server.host, server.port) as proxy:
        yield proxy


@pytest.fixture(params=["asyncpg", "psycopg"])
async def uow(
    request: pytest.FixtureRequest, server: EmbeddedPostgres, proxy: Proxy
) -> AsyncIterator[AsyncUnitOfWork]:
    engine = create_async_engine(server.url(request.param, port=proxy.port), pool_size=1)
    with psycopg.connect(server.url(None), autocommit=True) as connection:
        connection.execute("TRUNCATE t")
        connection.execute("CHECKPOINT")
    yield AsyncUnitOfWork(engine)
    await engine.dispose()


def execute(server: EmbeddedPostgres, sql: str) -> list[tuple[int]]:
    with psycopg.connect(server.url(None), autocommit=True) as connection:
        cursor = connection.execute(sql)
        return cursor.fetchall() if cursor.description else []


async def lose_commit(uow: AsyncUnitOfWork, proxy: Proxy, then: Callable[[], None]) -> Outcome:
    """A unit whose COMMIT is lost in the network; `then` happens before it is known to be lost."""

    def meanwhile() -> None:
        assert rule.happened.wait(10)
        then()
        proxy.cut()

    rule = proxy.when(b"COMMIT", action="blackhole")
    accident = asyncio.create_task(asyncio.to_thread(meanwhile))
    try:
        async with uow(confirm_commit=True) as tx:
            await tx.execute(INSERT)
    finally:
        await accident
    return tx.outcome


async def test_an_id_that_was_given_again(
    uow: AsyncUnitOfWork, server: EmbeddedPostgres, proxy: Proxy
) -> None:
    """After a crash another transaction has the id and commits: unknown, never committed."""

    def crash() -> None:
        server.kill()
        server.start()
        for _ in range(5):
            execute(server, OTHERS)

    with pytest.raises(CommitUnknownError):
        await lose_commit(uow, proxy, crash)
    assert set(execute(server, "SELECT i FROM t")) == {(100,)}


async def test_an_id_that_died_with_the_server(
    uow: AsyncUnitOfWork, server: EmbeddedPostgres, proxy: Proxy
) -> None:
    """After a crash the id was not given to anyone: the transaction is gone, and may be retried."""

    def crash() -> None:
        server.kill()
        server.start()

    with pytest.raises(DBAPIError) as caught:
        await lose_commit(uow, proxy, crash)
    assert caught.value.connection_invalidated
    assert execute(server, "SELECT i FROM t") == []


async def test_an_orderly_restart(
    uow: AsyncUnitOfWork, server: EmbeddedPostgres, proxy: Proxy
) -> None:
    """The server is away when it is asked at first; then it knows the id, and says: committed."""

    def restart() -> None:
        proxy.refuse()  # new connections, so that it can't be asked at once
        deadline = time.monotonic() + 10
        while not execute(server, "SELECT i FROM t"):
            assert time.monotonic() < deadline
        server.restart()
        time.sleep(0.3)
        proxy.refuse(False)

    async with uow(confirm_commit=True) as tx:
        await tx.execute(INSERT)
        rule = proxy.when(b"COMMIT", action="cut_after")
        restarting = asyncio.create_task(asyncio.to_thread(restart))
    await restarting
    assert rule.fired == 1
    assert tx.outcome is Outcome.COMMITTED
    assert execute(server, "SELECT i FROM t") == [(1,)]


@pytest.mark.parametrize(
    ("status", "same_life", "is_standby", "found"),
    [
        ("committed", True, False, "committed"),
        ("aborted", True, False, "aborted"),
        ("in progress", True, False, "in progress"),
        (None, True, False, None),
        ("committed", False, False, None),
        ("aborted", False, False, "aborted"),
        ("committed", True, True, "in progress"),
        ("aborted", False, True, "in progress"),
    ],
)
def test_what_a_status_says(
    status: str | None, same_life: bool, is_standby: bool, found: str | None
) -> None:
    """A commit is ours only in the same life of the server; a standby can't say yet."""
    assert judged(status, same_life=same_life, is_standby=is_standby) == found
