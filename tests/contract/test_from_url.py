"""The engine that `from_url` makes: its settings on a real server, and dead connections."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.pool import QueuePool
from tests.support.hygiene import Hygiene
from tests.support.proxy import Proxy

from unitofwork import AsyncUnitOfWork, ConfigurationError, UnitOfWork
from unitofwork.testing.postgres import EmbeddedPostgres

DRIVERS = ("asyncpg", "psycopg")
SETTINGS = {
    "lock_timeout": "4s",
    "idle_in_transaction_session_timeout": "8s",
    "client_connection_check_interval": "500ms",
}


async def show(uow: AsyncUnitOfWork, name: str) -> str:
    async with uow() as tx:
        value: str = (await tx.execute(text(f"SHOW {name}"))).scalar_one()
    return value


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("version", [16, 18])
async def test_session_settings_reach_the_server(
    driver: str, version: int, hygiene: Hygiene, request: pytest.FixtureRequest
) -> None:
    """Each connection has the defaults and a name, on PostgreSQL 16 and 18."""
    server: EmbeddedPostgres = request.getfixturevalue(
        "postgres16" if version == 16 else "postgres"
    )
    uow = AsyncUnitOfWork.from_url(server.url(driver))
    hygiene.watch(uow.engine)
    assert {name: await show(uow, name) for name in SETTINGS} == SETTINGS
    assert ":" in await show(uow, "application_name")
    await uow.engine.dispose()


@pytest.mark.parametrize("driver", DRIVERS)
async def test_session_settings_can_be_changed_and_left_out(
    driver: str, postgres: EmbeddedPostgres, hygiene: Hygiene
) -> None:
    """What is passed wins; None leaves the server's own value; quotes do no harm."""
    changed = {"lock_timeout": 250, "client_connection_check_interval": None}
    uow = AsyncUnitOfWork.from_url(
        postgres.url(driver), session_settings={**changed, "application_name": "it's mine"}
    )
    hygiene.watch(uow.engine)
    assert await show(uow, "lock_timeout") == "250ms"
    assert await show(uow, "client_connection_check_interval") == "0"
    assert await show(uow, "application_name") == "it's mine"
    await uow.engine.dispose()


def test_the_pool_is_one_number(tmp_path: Path) -> None:
    """5 connections without overflow, a wait of 10 s; engine options win."""
    uow = UnitOfWork.from_url(f"sqlite:///{tmp_path / 'a.db'}")
    assert isinstance(uow.engine.pool, QueuePool)
    assert (uow.stats().size, uow.stats().overflow) == (5, 0)
    assert uow.engine.pool.timeout() == 10
    assert UnitOfWork.from_url(f"sqlite:///{tmp_path / 'a.db'}", pool_size=2).stats().size == 2


async def test_a_database_in_memory_is_one_database() -> None:
    """Units take turns on its one connection, so what one has written the next one reads."""
    uow = AsyncUnitOfWork.from_url("sqlite+aiosqlite://")
    async with uow() as tx:
        await tx.execute(text("CREATE TABLE t (id int)"))

    async def insert() -> None:
        async with uow() as tx:
            await tx.execute(text("INSERT INTO t VALUES (1)"))

    await asyncio.gather(*(insert() for _ in range(20)))
    async with uow() as tx:
        assert await tx.scalar(text("SELECT count(*) FROM t")) == 20
    await uow.engine.dispose()


@pytest.mark.parametrize("driver", DRIVERS)
async def test_connections_that_died_while_idle_are_replaced(
    driver: str, postgres: EmbeddedPostgres, proxy: Proxy, hygiene: Hygiene
) -> None:
    """After more than a second idle they are asked first: no unit fails for a dead one."""
    uow = AsyncUnitOfWork.from_url(postgres.url(driver, port=proxy.port))
    hygiene.watch(uow.engine)

    async def one() -> None:
        async with uow() as tx:
            await tx.execute(text("SELECT pg_sleep(0.05)"))

    await asyncio.gather(*(one() for _ in range(3)))
    await asyncio.sleep(1.2)
    proxy.cut()
    await asyncio.gather(*(one() for _ in range(5)))
    assert uow.stats().committed == 8
    await uow.engine.dispose()


async def test_a_connection_used_just_now_is_not_asked(
    postgres: EmbeddedPostgres, proxy: Proxy, hygiene: Hygiene
) -> None:
    """The liveness check costs no round trip while the connection is in use."""
    uow = AsyncUnitOfWork.from_url(postgres.url("psycopg", port=proxy.port))
    hygiene.watch(uow.engine)
    for _ in range(2):
        await show(uow, "server_version")
    counts = []
    for _ in range(3):
        proxy.reset_counts()
        await show(uow, "server_version")
        counts.append(proxy.round_trips)
    # BEGIN travels with the statement; COMMIT is the other one.
    assert max(counts) <= 3
    await uow.engine.dispose()


@pytest.mark.parametrize("url", ["nonsense", "nosuchdb://x/y", 7])
def test_a_url_that_can_not_be_used_is_refused(url: object) -> None:
    """Before any I/O, with what a URL looks like or which driver is needed."""
    with pytest.raises(ConfigurationError):
        AsyncUnitOfWork.from_url(url)  # type: ignore[arg-type]
