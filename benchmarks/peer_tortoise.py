"""The benchmark's tables as Tortoise's models; needs `tortoise-orm`."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from tortoise import Tortoise, fields
from tortoise.models import Model

from unitofwork.testing.postgres import EmbeddedPostgres


class TAccount(Model):
    """As `Account`."""

    id = fields.IntField(primary_key=True, generated=False)
    balance = fields.IntField()
    owner = fields.TextField()

    class Meta:
        table = "bench_account"


class TEntry(Model):
    """As `Entry`."""

    id = fields.IntField(primary_key=True)
    account_id = fields.IntField()
    amount = fields.IntField()

    class Meta:
        table = "bench_entry"


@asynccontextmanager
async def opened(server: EmbeddedPostgres, pool_size: int) -> AsyncGenerator[None]:
    """Its pool, on asyncpg."""
    credentials = {
        **{"host": server.host, "port": server.port, "database": "postgres"},
        **{"user": "postgres", "password": "", "minsize": 1, "maxsize": pool_size},
    }
    connection = {"engine": "tortoise.backends.asyncpg", "credentials": credentials}
    await Tortoise.init(
        {
            "connections": {"default": connection},
            "apps": {"bench": {"models": [__name__], "default_connection": "default"}},
        }
    )
    try:
        yield
    finally:
        await Tortoise.close_connections()
