"""The three units of work with each peer; what is not installed raises `ModuleNotFoundError`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker

from unitofwork.testing.postgres import EmbeddedPostgres

from .model import Account, Entry, async_engine, next_id
from .works import READ, TEN, WRITE, Works, async_works

#: Opens a pool of this size; closes it at the end.
Peer = Callable[[EmbeddedPostgres, int], AbstractAsyncContextManager[Works]]
SELECT = "SELECT id, balance, owner FROM bench_account WHERE id = {}"
UPDATE = "UPDATE bench_account SET balance = {} WHERE id = {}"
INSERT = "INSERT INTO bench_entry (account_id, amount) VALUES "


def ten_values() -> list[int]:
    """Ten new rows, flat."""
    return [value for _ in range(10) for value in (next_id(), 1)]


def works(read: Any, write: Any, ten: Any) -> Works:
    """Under the names of the works."""
    return {READ: read, WRITE: write, TEN: ten}


def _engine(server: EmbeddedPostgres, pool_size: int) -> AbstractAsyncContextManager[AsyncEngine]:
    return async_engine(server.url("asyncpg"), pool_size=pool_size)


@asynccontextmanager
async def sessionmaker(server: EmbeddedPostgres, pool_size: int) -> AsyncGenerator[Works]:
    """`async_sessionmaker.begin()`."""
    async with _engine(server, pool_size) as engine:
        yield async_works(async_sessionmaker(engine, expire_on_commit=False).begin)


@asynccontextmanager
async def core(server: EmbeddedPostgres, pool_size: int) -> AsyncGenerator[Works]:
    """`engine.begin()`, without the ORM."""
    account, entry = Account.__table__, Entry.__table__

    async with _engine(server, pool_size) as engine:

        async def read() -> None:
            async with engine.begin() as connection:
                found = select(account).where(account.c.id == next_id())
                (await connection.execute(found)).one()

        async def write() -> None:
            async with engine.begin() as connection:
                found = select(account).where(account.c.id == next_id())
                row = (await connection.execute(found)).one()
                changed = update(account).where(account.c.id == row.id)  # type: ignore[arg-type]
                await connection.execute(changed.values(balance=row.balance + 1))

        async def ten() -> None:
            rows = [{"account_id": next_id(), "amount": 1} for _ in range(10)]
            async with engine.begin() as connection:
                await connection.execute(insert(entry).values(rows))  # type: ignore[arg-type]

        yield works(read, write, ten)


@asynccontextmanager
async def asyncpg(server: EmbeddedPostgres, pool_size: int) -> AsyncGenerator[Works]:
    """`asyncpg.Pool`."""
    import asyncpg

    places = ", ".join(f"(${n}, ${n + 1})" for n in range(1, 20, 2))
    async with asyncpg.create_pool(server.url(None), max_size=pool_size, min_size=1) as pool:

        async def read() -> None:
            async with pool.acquire() as connection, connection.transaction():
                await connection.fetchrow(SELECT.format("$1"), next_id())

        async def write() -> None:
            async with pool.acquire() as connection, connection.transaction():
                row = await connection.fetchrow(SELECT.format("$1"), next_id())
                await connection.execute(UPDATE.format("$1", "$2"), row["balance"] + 1, row["id"])

        async def ten() -> None:
            async with pool.acquire() as connection, connection.transaction():
                await connection.execute(INSERT + places, *ten_values())

        yield works(read, write, ten)


@asynccontextmanager
async def psycopg_pool(server: EmbeddedPostgres, pool_size: int) -> AsyncGenerator[Works]:
    """`psycopg_pool.AsyncConnectionPool`."""
    from psycopg_pool import AsyncConnectionPool

    places = ", ".join(["(%s, %s)"] * 10)
    pool = AsyncConnectionPool(
        server.url(None), min_size=1, max_size=pool_size, open=False, name="bench"
    )
    async with pool:

        async def read() -> None:
            async with pool.connection() as connection:
                cursor = await connection.execute(SELECT.format("%s"), (next_id(),))
                await cursor.fetchone()

        async def write() -> None:
            async with pool.connection() as connection:
                cursor = await connection.execute(SELECT.format("%s"), (next_id(),))
                row: Any = await cursor.fetchone()
                await connection.execute(UPDATE.format("%s", "%s"), (row[1] + 1, row[0]))

        async def ten() -> None:
            async with pool.connection() as connection:
                await connection.execute(INSERT + places, ten_values())

        yield works(read, write, ten)


@asynccontextmanager
async def advanced_alchemy(server: EmbeddedPostgres, pool_size: int) -> AsyncGenerator[Works]:
    """`SQLAlchemyAsyncConfig.get_session()`."""
    from advanced_alchemy.config import AsyncSessionConfig, SQLAlchemyAsyncConfig

    async with _engine(server, pool_size) as engine:
        config = SQLAlchemyAsyncConfig(
            engine_instance=engine, session_config=AsyncSessionConfig(expire_on_commit=False)
        )

        @asynccontextmanager
        async def begin() -> AsyncGenerator[Any]:
            async with config.get_session() as session, session.begin():
                yield session

        yield async_works(begin)


@asynccontextmanager
async def context_async_sqlalchemy(
    server: EmbeddedPostgres, pool_size: int
) -> AsyncGenerator[Works]:
    """`atomic_db_session()`, in a context that is begun and ended as its middleware does."""
    from context_async_sqlalchemy import (
        DBConnect,
        atomic_db_session,
        init_db_session_ctx,
        reset_db_session_ctx,
    )

    async with _engine(server, pool_size) as engine:
        connect = DBConnect(
            lambda _: engine,
            lambda engine: async_sessionmaker(engine, expire_on_commit=False),
            host="bench",
        )

        @asynccontextmanager
        async def begin() -> AsyncGenerator[Any]:
            token = init_db_session_ctx(force=True)
            try:
                async with atomic_db_session(connect) as session:
                    yield session
            finally:
                await reset_db_session_ctx(token)

        yield async_works(begin)


@asynccontextmanager
async def oslo_db(server: EmbeddedPostgres, pool_size: int) -> AsyncGenerator[Works]:
    """`asyncio_facade`: `writer.using(context)`; it can't open asyncpg, so psycopg."""
    from oslo_db.sqlalchemy import asyncio_facade

    manager = asyncio_facade.transaction_context()
    manager.configure(
        connection=server.url("psycopg"),
        max_pool_size=pool_size,
        max_overflow=0,
        mysql_sql_mode=None,
    )

    @asyncio_facade.async_transaction_context_provider
    class Context:
        pass

    try:
        yield async_works(lambda: manager.writer.using(Context()))
    finally:
        await manager._factory.dispose_pool_async()  # the public one is for threads


@asynccontextmanager
async def tortoise(server: EmbeddedPostgres, pool_size: int) -> AsyncGenerator[Works]:
    """`in_transaction()`."""
    from tortoise.transactions import in_transaction

    from .peer_tortoise import TAccount, TEntry, opened

    async with opened(server, pool_size):

        async def read() -> None:
            async with in_transaction() as connection:
                await TAccount.get(id=next_id(), using_db=connection)

        async def write() -> None:
            async with in_transaction() as connection:
                account = await TAccount.get(id=next_id(), using_db=connection)
                account.balance += 1
                await account.save(using_db=connection, update_fields=["balance"])

        async def ten() -> None:
            async with in_transaction() as connection:
                entries = [TEntry(account_id=next_id(), amount=1) for _ in range(10)]
                await TEntry.bulk_create(entries, using_db=connection)

        yield works(read, write, ten)


@asynccontextmanager
async def piccolo(server: EmbeddedPostgres, pool_size: int) -> AsyncGenerator[Works]:
    """`engine.transaction()`."""
    from .peer_piccolo import PAccount, PEntry, opened

    async with opened(server, pool_size) as engine:

        async def read() -> None:
            async with engine.transaction():
                await PAccount.objects().get(PAccount.id == next_id())

        async def write() -> None:
            async with engine.transaction():
                account = await PAccount.objects().get(PAccount.id == next_id())
                account.balance += 1
                await account.save([PAccount.balance])

        async def ten() -> None:
            async with engine.transaction():
                entries = (PEntry(account_id=next_id(), amount=1) for _ in range(10))
                await PEntry.insert(*entries)

        yield works(read, write, ten)


PEERS: dict[str, Peer] = {
    "sessionmaker.begin()": sessionmaker,
    "engine.begin()": core,
    "asyncpg": asyncpg,
    "psycopg_pool": psycopg_pool,
    "advanced-alchemy": advanced_alchemy,
    "context-async-sqlalchemy": context_async_sqlalchemy,
    "oslo.db, on psycopg": oslo_db,
    "Tortoise": tortoise,
    "Piccolo": piccolo,
}
