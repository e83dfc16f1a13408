"""How each driver ends a query that its task or thread no longer waits for."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import Dialect

#: Seconds that the server gets to stop a query, before the socket is just closed.
PATIENCE = 2.0


@dataclass(frozen=True, slots=True)
class Stuck:
    """A connection of a driver whose statement nobody waits for any more."""

    driver: Any
    #: From `cancel_key`, when it was opened.
    key: Any
    #: SQLAlchemy's cursor that the statement runs on, where it is known.
    cursor: Any
    #: What interrupted it.
    error: BaseException | None = None


def cancel_key(dialect: Dialect, driver: Any) -> Any:
    """What it takes to cancel a query of this connection after the driver has closed it."""
    if dialect.driver != "psycopg":
        return None
    from psycopg import capabilities

    # libpq 17 can cancel without blocking the process on a network that does not answer.
    return driver.pgconn.cancel_conn() if capabilities.has_cancel_safe() else None


def found_closed(dialect: Dialect, driver: Any) -> bool:
    """Whether the connection is dead, as far as can be seen without a round trip."""
    if dialect.driver == "asyncpg":
        return bool(driver.is_closed())
    if dialect.driver != "psycopg":
        return False
    try:
        # The server's last words are read first, and only behind them the end of the stream.
        for _ in range(0 if driver.closed else 2):
            driver.pgconn.consume_input()
    except dialect.loaded_dbapi.Error:
        return True
    return bool(driver.closed)


async def _stop_asyncpg(stuck: Stuck) -> None:
    # asyncpg has sent the cancel request already; close() waits until it has taken effect.
    await stuck.driver.close(timeout=PATIENCE)


async def _stop_psycopg(stuck: Stuck) -> None:
    # psycopg cancels by itself; but cancelled once more while doing so, as an anyio scope does, it
    # closes the socket at once, and the server goes on with the query and its locks.
    if stuck.key is not None and (stuck.driver.closed or _is_active(stuck.driver)):
        from psycopg import generators, waiting

        stuck.key.start()
        await waiting.wait_conn_async(generators.cancel(stuck.key), interval=0.1, timeout=PATIENCE)
    await stuck.driver.close()


def _is_active(psycopg_connection: Any) -> bool:
    return bool(psycopg_connection.info.transaction_status.name == "ACTIVE")


async def _stop_aiosqlite(stuck: Stuck) -> None:
    # The query runs in a thread, which may not even have begun it: interrupt until the thread gets
    # to something harmless behind it; the ROLLBACK must not be interrupted.
    driver = stuck.driver
    query_over = asyncio.ensure_future(driver.cursor())
    while not query_over.done():
        await driver.interrupt()
        await asyncio.wait((query_over,), timeout=0.01)
    # SQLite keeps a closed connection's locks while a statement of it is unfinished; this one's
    # rows will not be fetched, and a traceback may hold its cursor for long.
    half_read = _aiosqlite_cursor(stuck)
    if half_read is not None:
        with contextlib.suppress(sqlite3.OperationalError):  # it says once more: interrupted
            await half_read.close()
    await driver.rollback()
    await driver.close()


def _aiosqlite_cursor(stuck: Stuck) -> Any:
    """The driver's own cursor: SQLAlchemy 2.1 keeps it in its cursor, 2.0 in a local variable."""
    found = getattr(stuck.cursor, "_cursor", None)
    step = None if stuck.error is None else stuck.error.__traceback__
    while found is None and step is not None:
        found = step.tb_frame.f_locals.get("_cursor")
        step = step.tb_next
    return found


Stop = Callable[[Stuck], Awaitable[None]]
#: By the name of the async driver, as in `dialect.driver`.
STOPS: dict[str, Stop] = {
    "asyncpg": _stop_asyncpg,
    "psycopg": _stop_psycopg,
    "aiosqlite": _stop_aiosqlite,
}


def stop_in_thread(stuck: Stuck) -> None:
    """The same for a sync driver whose thread was interrupted, twice at worst."""
    if stuck.key is not None:
        if stuck.driver.closed or _is_active(stuck.driver):
            from psycopg import Error, generators, waiting

            stuck.key.start()
            with contextlib.suppress(Error):
                waiting.wait_conn(generators.cancel(stuck.key), interval=0.1, timeout=PATIENCE)
    elif isinstance(stuck.driver, sqlite3.Connection):
        stuck.driver.interrupt()
        with contextlib.suppress(sqlite3.Error):
            if stuck.cursor is not None:
                stuck.cursor.close()
            stuck.driver.rollback()
