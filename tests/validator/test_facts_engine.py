"""What the validator learns from the engine: pool, driver, and where it leads."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import create_engine, event, make_url
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool, StaticPool

from unitofwork import UnitOfWork
from unitofwork.policies.sizing import EngineFacts, ServerFacts
from unitofwork.sql.facts_engine import engine_facts, server_of
from unitofwork.sql.facts_sqlite import sqlite_facts
from unitofwork.testing.postgres import EmbeddedPostgres

UNIQUE = {"prepared_statement_name_func": lambda: f"__asyncpg_{uuid4()}__"}
NO_CACHES = {"statement_cache_size": 0, "prepared_statement_cache_size": 0}


async def connected(url: str, **options: Any) -> EngineFacts:
    """The facts of an async engine, through a connection."""
    engine = create_async_engine(url, **options)
    async with engine.connect() as connection:
        facts = await connection.run_sync(lambda sync: engine_facts(engine.sync_engine, sync))
    await engine.dispose()
    return facts


def test_the_pool() -> None:
    """As it was made, without a connection."""
    engine = create_engine(
        "postgresql+psycopg://app:secret@db/shop",
        pool_size=7,
        max_overflow=3,
        pool_timeout=8,
        pool_recycle=900,
        pool_pre_ping=True,
        pool_use_lifo=True,
        isolation_level="REPEATABLE_READ",
        execution_options={"postgresql_readonly": True},
        echo=True,
    )
    facts = engine_facts(engine)
    assert (facts.pool_class, facts.pool_size, facts.max_overflow) == ("QueuePool", 7, 3)
    assert (facts.pool_timeout, facts.pool_recycle) == (8, 900)
    assert (facts.pre_ping, facts.checks_idle, facts.lifo) == (True, False, True)
    assert (facts.isolation, facts.read_only, facts.echo) == ("REPEATABLE READ", True, True)
    assert (facts.server, facts.database) == ("db:5432", "shop")
    assert facts.capacity == 10
    assert facts.prepared_statements is None, "unknown without a connection"
    assert "secret" not in str(facts)


def test_pools_without_a_size() -> None:
    """They have no limit, or one connection."""
    url = "postgresql+psycopg://db/shop"
    assert engine_facts(create_engine(url, poolclass=NullPool)).capacity is None
    assert engine_facts(create_engine(url, poolclass=StaticPool)).capacity == 1
    assert engine_facts(create_engine(url, pool_size=0)).capacity is None
    assert engine_facts(create_engine(url, max_overflow=-1)).capacity is None


def test_who_looks_at_idle_connections() -> None:
    """`from_url` does; the ledger does not; of the user's own listener nothing is known."""
    url = "postgresql+psycopg://db/shop"
    engine = create_engine(url)
    uow = UnitOfWork(engine)
    assert engine_facts(uow.engine).checks_idle is False
    event.listen(engine, "checkout", lambda *arguments: None)
    assert engine_facts(engine).checks_idle is None
    assert engine_facts(UnitOfWork.from_url(url).engine).checks_idle is True


@pytest.mark.parametrize(
    ("driver", "arguments", "kept", "unique"),
    [
        ("asyncpg", {}, 100, False),
        ("asyncpg", {"prepared_statement_cache_size": 0}, 100, False),  # asyncpg's own is left
        ("asyncpg", {**NO_CACHES, **UNIQUE}, 0, True),
        ("psycopg", {}, 100, None),
        ("psycopg", {"prepare_threshold": None}, 0, None),
    ],
)
async def test_prepared_statements(
    driver: str,
    arguments: dict[str, Any],
    kept: int,
    unique: bool | None,
    postgres: EmbeddedPostgres,
) -> None:
    """How many the driver keeps over transactions, and whether their names are its own."""
    facts = await connected(postgres.url(driver), connect_args=arguments)
    assert (facts.prepared_statements, facts.unique_statement_names) == (kept, unique)
    assert facts.is_async


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("postgresql+asyncpg://u:p@db:6432/shop", "db:6432"),
        ("postgresql+asyncpg://u:p@/shop?host=/run/pg&port=5433", "/run/pg:5433"),
        ("postgresql+asyncpg://u:p@/shop?host=a:1&host=b:2", "a:1,b:2:5432"),
        ("mysql+pymysql://u:p@db/shop", "db:3306"),
        ("sqlite:///a.db", "a.db"),
        ("sqlite://", ":memory:"),
    ],
)
def test_where_it_leads(url: str, server: str) -> None:
    """Without user and password."""
    assert server_of(make_url(url)) == server


def test_sqlite(tmp_path: Path) -> None:
    """Journal mode and busy timeout of a file; a database in memory has no other users."""

    def facts(url: str, **options: Any) -> ServerFacts:
        engine = create_engine(url, **options)
        with engine.connect() as connection:
            found = sqlite_facts(connection)
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")
        engine.dispose()
        return found

    url = f"sqlite:///{tmp_path / 'a.db'}"
    first, second = facts(url), facts(url, connect_args={"timeout": 1.5})
    assert first.sqlite is not None
    assert second.sqlite is not None
    assert (first.sqlite.journal_mode, first.sqlite.busy_timeout) == ("delete", 5.0)
    assert (second.sqlite.journal_mode, second.sqlite.busy_timeout) == ("wal", 1.5)
    memory = facts("sqlite://").sqlite
    assert memory is not None
    assert (first.sqlite.in_memory, memory.in_memory) == (False, True)
