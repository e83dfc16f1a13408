"""How each async driver ends a query that its task no longer waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

Stop = Callable[[Any], Awaitable[None]]

#: Seconds that the server gets to stop a query, before the socket is just closed.
PATIENCE = 2.0


async def _stop_asyncpg(driver: Any) -> None:
    # asyncpg has sent the cancel request already; close() waits until it has taken effect.
    await driver.close(timeout=PATIENCE)


async def _stop_psycopg(driver: Any) -> None:
    # psycopg cancels by itself, unless it was cancelled once more while doing so.
    if driver.info.transaction_status.name == "ACTIVE":
        await driver.cancel_safe(timeout=PATIENCE)
    await driver.close()


async def _stop_aiosqlite(driver: Any) -> None:
    # The query runs in a thread, which may not even have begun it: interrupt until it has ended.
    # ROLLBACK comes before close, because SQLite keeps a closed connection's locks for as long as
    # a cursor of it is referenced, by a traceback for example.
    rolled_back = asyncio.ensure_future(driver.rollback())
    while not rolled_back.done():
        await driver.interrupt()
        await asyncio.wait((rolled_back,), timeout=0.01)
    rolled_back.exception()
    await driver.close()


#: By the name of the driver, as in `dialect.driver`.
STOPS: dict[str, Stop] = {
    "asyncpg": _stop_asyncpg,
    "psycopg": _stop_psycopg,
    "aiosqlite": _stop_aiosqlite,
}
