"""The server that the demo runs on, and the engines for it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Generator

import asyncpg
from sqlalchemy import exc, make_url, text
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from unitofwork.testing.postgres import EmbeddedPostgres, EmbeddedPostgresError

from .plan import DemoError
from .watch import APPLICATION


def parse(url: str) -> URL:
    """The URL of a PostgreSQL, for asyncpg. Raises `DemoError`, which does not show the URL."""
    advice = "write postgresql://user:password@host/database, the password with %40 for @"
    try:
        parsed = make_url(url)
    except (exc.ArgumentError, ValueError):
        raise DemoError(f"the URL can't be read: {advice}") from None
    if "@" in f"{parsed.host}{parsed.database}":
        # A password with an unquoted @ was cut in two: the rest of it must not be shown.
        raise DemoError(f"the URL can't be read: {advice}")
    if parsed.get_backend_name() not in ("postgresql", "postgres"):
        raise DemoError("the demo needs a PostgreSQL URL: what it counts, it reads there")
    query = dict(parsed.query)
    if "sslmode" in query:  # libpq's name for what asyncpg calls ssl
        query["ssl"] = query.pop("sslmode")
    return parsed.set(drivername="postgresql+asyncpg", query=query)


def place(url: URL) -> str:
    """Where the server is: nothing of the URL that could be secret."""
    return f"{url.host or 'localhost'}:{url.port or 5432}/{url.database or ''}"


@contextlib.contextmanager
def server(url: str | None) -> Generator[URL]:
    """The server named, or an embedded one that ends with the block. Raises `DemoError`."""
    if url is not None:
        yield parse(url)
        return
    embedded = EmbeddedPostgres()
    try:
        embedded.start()
    except EmbeddedPostgresError as error:
        raise DemoError(str(error)) from None
    with embedded:
        yield make_url(embedded.url("asyncpg"))


@contextlib.asynccontextmanager
async def observer_of(url: URL) -> AsyncGenerator[AsyncEngine]:
    """An engine to look on with: autocommit, no pool. Raises `DemoError` if none answers."""
    engine = create_async_engine(
        url, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args={"timeout": 10}
    )
    try:
        try:
            async with engine.connect():
                pass
        except (OSError, exc.DBAPIError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            reason = getattr(error, "orig", None) or error
            raise DemoError(f"can't connect to {place(url)}: {reason}") from None
        yield engine
    finally:
        await engine.dispose()


@contextlib.asynccontextmanager
async def measured_engine(url: URL, size: int, pool_timeout: float) -> AsyncGenerator[AsyncEngine]:
    """The engine that a side works with, all its connections open; the same for both sides."""
    engine = create_async_engine(
        url,
        pool_size=size,
        max_overflow=0,
        pool_timeout=pool_timeout,
        connect_args={"timeout": 10, "server_settings": {"application_name": APPLICATION}},
    )
    try:
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(size):
                await stack.enter_async_context(engine.connect())
        yield engine
    finally:
        await engine.dispose()


async def describe(observer: AsyncEngine) -> str:
    """Version and deadlock_timeout of the server."""
    show = "SELECT current_setting('server_version'), current_setting('deadlock_timeout')"
    async with observer.connect() as connection:
        version, deadlock_timeout = (await connection.execute(text(show))).one()
    return f"PostgreSQL {version.split()[0]}, deadlock_timeout {deadlock_timeout}"
