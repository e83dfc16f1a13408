"""What the validator learns of PgBouncer: from its console, and from how it behaves."""

from __future__ import annotations

import pytest
from sqlalchemy import create_engine, make_url
from sqlalchemy.ext.asyncio import create_async_engine
from tests.support.pgbouncer import PgBouncer
from tests.support.proxy import Proxy

from unitofwork.policies.sizing import PoolerFacts
from unitofwork.sql.facts_pooler import console_facts, mode_by_behaviour, stands_between
from unitofwork.testing.postgres import EmbeddedPostgres

SETTINGS = {
    "pool_mode": "transaction",
    "default_pool_size": 7,
    "max_client_conn": 50,
    "max_db_connections": 9,
    "query_wait_timeout": 11,
}


def test_the_console(postgres: EmbeddedPostgres) -> None:
    """Its settings, and who else is connected."""
    with PgBouncer(postgres.port, SETTINGS) as pooler:
        facts = console_facts(make_url(pooler.url()))
    assert facts is not None
    assert facts.version[0] == 1
    assert facts == PoolerFacts(
        version=facts.version,
        mode="transaction",
        default_pool_size=7,
        max_client_conn=50,
        clients_of_others=0,
        max_db_connections=9,
        max_prepared_statements=0 if facts.version < (1, 21) else 200,
        query_wait_timeout=11.0,
    )


def test_a_database_may_have_its_own_mode_and_size(postgres: EmbeddedPostgres) -> None:
    """They count for who connects to it."""
    own = {"postgres": "pool_mode=session pool_size=3"}
    with PgBouncer(postgres.port, SETTINGS, databases=own) as pooler:
        facts = console_facts(make_url(pooler.url()))
    assert facts is not None
    assert (facts.mode, facts.default_pool_size) == ("session", 3)


def test_who_is_not_let_in_learns_nothing(postgres: EmbeddedPostgres) -> None:
    """And a server that is no pooler has no console."""
    with PgBouncer(postgres.port, {"stats_users": "somebody"}) as pooler:
        assert console_facts(make_url(pooler.url())) is None
    assert console_facts(make_url(postgres.url())) is None


@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_the_mode_shows(mode: str, postgres: EmbeddedPostgres) -> None:
    """By who is given which server connection."""
    with PgBouncer(postgres.port, {"pool_mode": mode}) as pooler:
        engine = create_engine(pooler.url("psycopg"), connect_args={"prepare_threshold": None})
        with engine.connect() as connection:
            assert stands_between(connection)
            assert mode_by_behaviour(connection) == mode
        engine.dispose()


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_recognised_by_each_driver(
    driver: str, postgres: EmbeddedPostgres, proxy: Proxy
) -> None:
    """A pooler is; the server itself, or a proxy that only passes bytes on, is not one."""

    async def found(url: str) -> bool:
        engine = create_async_engine(url)
        async with engine.connect() as connection:
            answer = await connection.run_sync(stands_between)
        await engine.dispose()
        return answer

    with PgBouncer(postgres.port, {"pool_mode": "session"}) as pooler:
        assert await found(pooler.url(driver))
    assert not await found(postgres.url(driver))
    assert not await found(postgres.url(driver, port=proxy.port))
