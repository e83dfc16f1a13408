"""Ending what does not end by itself: an interrupted query, a server that does not answer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, event

from ..policies import end_limits
from ..sql.drivers import PATIENCE, STOPS, Stop, Stuck, stop_in_thread
from ..sql.limits import Limit
from ..types import Outcome
from . import current
from .cancellation import run_to_end

if TYPE_CHECKING:
    from .unit import Unit

#: Where a connection's `info` keeps its cancel key.
CANCEL_KEY = "unitofwork_cancel_key"
log = logging.getLogger("unitofwork.unit")


def stop_query(connection: Connection, cursor: Any, error: BaseException | None = None) -> None:
    """End the running query of `connection` on the server, then its session.

    SQLAlchemy closes a connection whose statement was cancelled, but in a second await that an
    anyio scope or a second `cancel()` cuts off, which leaves the server running the query with
    its row locks held (FACTS: 30 orphans of 30). So it is done here first, where no further
    cancellation reaches it. The cancellation itself is already on its way to the caller.
    """
    if connection.closed or connection.invalidated:
        return
    driver = connection.connection.driver_connection
    stuck = Stuck(driver, connection.info.get(CANCEL_KEY), cursor, error)
    if not connection.dialect.is_async:
        stop_in_thread(stuck)
        return
    stop = STOPS.get(connection.dialect.driver)
    if stop is not None:
        adapted: Any = connection.connection.dbapi_connection
        adapted.run_async(lambda _: _stopped(stop, stuck))


async def _stopped(stop: Stop, stuck: Stuck) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        await run_to_end(_bounded(stop, stuck))


async def _bounded(stop: Stop, stuck: Stuck) -> None:
    try:
        async with asyncio.timeout(2 * PATIENCE):
            await stop(stuck)
    except Exception as error:
        log.info("a cancelled query could not be stopped in order: %r", error)


def end_limit(unit: Unit, *, rolls_back: bool) -> Limit:
    """For the end of a transaction: past it, the connection is lost."""
    dialect = unit.home.engine.dialect
    remaining = unit.remaining()
    if rolls_back:
        return Limit(end_limits.for_rollback(remaining), dialect, lambda: _driver_of(unit))
    silence = end_limits.SILENCE
    return Limit(
        end_limits.for_commit(remaining), dialect, lambda: _driver_of(unit), silence=silence
    )


def statement_limit(unit: Unit) -> Limit:
    """For a statement of a sync unit that is under way at the deadline.

    The server ends it then by its own `statement_timeout`, if it hears and is heard.
    """

    def find() -> Any:
        return _driver_of(unit) if unit.busy_elsewhere() is not None else None

    seconds = end_limits.for_statement(unit.remaining())
    return Limit(seconds, unit.home.engine.dialect, find)


def _driver_of(unit: Unit) -> Any:
    connection = unit.connection
    with contextlib.suppress(Exception):  # its own thread may be closing it
        if connection is not None and not connection.closed and not connection.invalidated:
            return connection.connection.driver_connection
    return None


#: The argument of a driver's `connect` that limits it, the least it takes, and its type.
_CONNECT_LIMITS: dict[str, tuple[str, float, type]] = {
    "psycopg": ("connect_timeout", 2, int),
    "asyncpg": ("timeout", 0.001, float),
}


def limit_connecting(engine: Engine) -> None:
    """Have connecting for a unit end when its patience or its time does, unless told otherwise."""
    name, least, kind = _CONNECT_LIMITS.get(engine.dialect.driver, ("", 0, float))
    if not name:
        return

    limited: set[int] = set()

    @event.listens_for(engine, "do_connect")
    def connecting(dialect: Any, record: Any, cargs: Any, cparams: dict[str, Any]) -> None:
        # The arguments are the same dict each time, which other listeners may change as well.
        if name in cparams and not limited:
            return
        cparams.pop(name, None)
        unit = next((unit for unit in current.ancestors() if unit.home.engine is engine), None)
        if unit is None:
            return
        remaining = math.inf if (left := unit.remaining()) is None else left
        if unit.outcome is Outcome.UNKNOWN:  # asking what became of it, whatever time is left
            remaining = end_limits.SETTLING
        limited.add(1)
        cparams[name] = kind(max(least, math.ceil(min(remaining, unit.patience()))))
