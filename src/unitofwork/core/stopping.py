"""Ending a query on the server when its task was cancelled or its thread interrupted."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

from sqlalchemy import Connection

from ..sql.drivers import PATIENCE, STOPS, Stop
from .cancellation import run_to_end

log = logging.getLogger("unitofwork.unit")


def stop_query(connection: Connection) -> None:
    """End the running query of `connection` on the server, then its session.

    SQLAlchemy closes a connection whose statement was cancelled, but in a second await that an
    anyio scope or a second `cancel()` cuts off, which leaves the server running the query with
    its row locks held (FACTS: 30 orphans of 30). So it is done here first, where no further
    cancellation reaches it. The cancellation itself is already on its way to the caller.
    """
    stop = STOPS.get(connection.dialect.driver) if connection.dialect.is_async else None
    if stop is None or connection.closed or connection.invalidated:
        return
    adapted: Any = connection.connection.dbapi_connection

    async def stopped(driver_connection: Any) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await run_to_end(_bounded(stop, driver_connection))

    adapted.run_async(stopped)


async def _bounded(stop: Stop, driver_connection: Any) -> None:
    try:
        async with asyncio.timeout(2 * PATIENCE):
            await stop(driver_connection)
    except Exception as error:
        log.info("a cancelled query could not be stopped in order: %r", error)
