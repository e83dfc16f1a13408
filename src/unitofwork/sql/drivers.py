"""What each driver's connection is asked for: stop a query, is it alive, shut its socket."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sys
import weakref
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import Dialect

log = logging.getLogger("unitofwork.pool")

#: Seconds that the server gets to stop a query, before the socket is just closed.
PATIENCE = 1.0


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


class PsycopgCancel:
    """Cancels a connection's query, also after the driver has closed it."""

    def __init__(self, driver: Any) -> None:
        self.connection = driver.pgconn.cancel_conn()
        self._driver = weakref.ref(driver)
        #: The network did not answer a first request: a second one is not sent.
        self.is_unanswered = False

    def shorten(self) -> None:
        """Have the driver's own cancelling end within `PATIENCE`, not after ten seconds."""
        driver: Any = self._driver()
        if asyncio.iscoroutinefunction(getattr(driver, "_try_cancel", None)):
            driver._try_cancel = self._try

    async def _try(self, **_: float) -> None:
        driver: Any = self._driver()
        try:
            await driver.cancel_safe(timeout=PATIENCE)
        except Exception as error:
            log.info("a query could not be cancelled, its connection is closed: %r", error)
            self.is_unanswered = True
            driver.pgconn.finish()  # else the driver would wait on for the query
        else:
            # The query's own connection may be the dead one, which the driver waits for next.
            asyncio.get_running_loop().call_later(PATIENCE, self._give_up)

    def _give_up(self) -> None:
        driver: Any = self._driver()
        if driver is not None and not driver.closed and _is_active(driver):
            self.is_unanswered = True
            _shut_psycopg(driver)


def cancel_key(dialect: Dialect, driver: Any) -> Any:
    """What it takes to cancel a query of this connection after the driver has closed it."""
    if dialect.driver != "psycopg":
        return None
    from psycopg import capabilities

    # libpq 17 can cancel without blocking the process on a network that does not answer.
    if not capabilities.has_cancel_safe():
        return None
    key = PsycopgCancel(driver)
    if dialect.is_async:
        key.shorten()
    return key


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
    if _is_to_be_cancelled(stuck):
        from psycopg import generators, waiting

        stuck.key.connection.start()
        cancelling = generators.cancel(stuck.key.connection)
        await waiting.wait_conn_async(cancelling, interval=0.1, timeout=PATIENCE)
    await stuck.driver.close()


def _is_to_be_cancelled(stuck: Stuck) -> bool:
    if stuck.key is None or stuck.key.is_unanswered:
        return False
    return stuck.driver.closed or _is_active(stuck.driver)


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
        with contextlib.suppress(
            sys.modules["sqlite3"].OperationalError
        ):  # it says once more: interrupted
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
    if _is_to_be_cancelled(stuck):
        from psycopg import Error, generators, waiting

        stuck.key.connection.start()
        with contextlib.suppress(Error):
            cancelling = generators.cancel(stuck.key.connection)
            waiting.wait_conn(cancelling, interval=0.1, timeout=PATIENCE)
        return
    # Whoever has no connection of it does not pay for its import, which is a slow one.
    sqlite3: Any = sys.modules.get("sqlite3")
    if sqlite3 is not None and isinstance(stuck.driver, sqlite3.Connection):
        stuck.driver.interrupt()
        with contextlib.suppress(sqlite3.Error):
            if stuck.cursor is not None:
                stuck.cursor.close()
            stuck.driver.rollback()


@dataclass(frozen=True, slots=True)
class Line:
    """How to get at the socket of a driver's connection."""

    #: End it under the driver, which then reports a lost connection. Raises nothing.
    shut: Callable[[Any], None]
    #: The address of the other side, as `socket.connect` takes it; None if it can't be told.
    peer: Callable[[Any], Any]


def _asyncpg_peer(driver: Any) -> Any:
    transport = getattr(driver, "_transport", None)  # has no public name
    return None if transport is None else transport.get_extra_info("peername")


def _psycopg_socket(driver: Any) -> socket.socket | None:
    pgconn = driver.pgconn
    try:
        descriptor = pgconn.socket
        copy = socket.socket(fileno=os.dup(descriptor))
        # Closed by its own thread meanwhile, the number may have been another connection's.
        if pgconn.socket == descriptor:
            return copy
        copy.close()
    except (OSError, _psycopg_error()):
        pass
    return None


def _psycopg_error() -> type[Exception]:
    from psycopg import Error

    return Error


def _shut_psycopg(driver: Any) -> None:
    copy = _psycopg_socket(driver)
    if copy is not None:
        with copy, contextlib.suppress(OSError):
            copy.shutdown(socket.SHUT_RDWR)


def _psycopg_peer(driver: Any) -> Any:
    copy = _psycopg_socket(driver)
    if copy is None:
        return None
    with copy, contextlib.suppress(OSError):
        return copy.getpeername() or None
    return None


#: By the name of the driver.
LINES: dict[str, Line] = {
    "asyncpg": Line(shut=lambda driver: driver.terminate(), peer=_asyncpg_peer),
    "psycopg": Line(shut=_shut_psycopg, peer=_psycopg_peer),
}
