"""The benchmark's tables as Piccolo's; needs `piccolo[postgres]`."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from piccolo.columns import Integer, Serial, Text
from piccolo.engine.postgres import PostgresEngine
from piccolo.table import Table

from unitofwork.testing.postgres import EmbeddedPostgres


class PAccount(Table, tablename="bench_account"):
    """As `Account`."""

    id = Integer(primary_key=True)
    balance = Integer()
    owner = Text()


class PEntry(Table, tablename="bench_entry"):
    """As `Entry`."""

    id = Serial(primary_key=True)
    account_id = Integer()
    amount = Integer()


@asynccontextmanager
async def opened(server: EmbeddedPostgres, pool_size: int) -> AsyncGenerator[PostgresEngine]:
    """Its pool, on asyncpg."""
    engine = PostgresEngine({"dsn": server.url(None)}, log_queries=False)
    for model in (PAccount, PEntry):
        model._meta.db = engine
    await engine.start_connection_pool(min_size=1, max_size=pool_size)
    try:
        yield engine
    finally:
        await engine.close_connection_pool()
