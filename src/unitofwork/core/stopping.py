"""Ending a query on the server when its task was cancelled or its thread interrupted."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

from sqlalchemy import Connection

from ..sql.drivers import PATIENCE, STOPS, Stop, Stuck, stop_in_thread
from .cancellation import run_to_end

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
