"""What the server sees of the demo: held connections and deadlocks."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

#: The name of the sessions that are measured; the process id tells two demos apart.
APPLICATION = f"unitofwork-demo:{os.getpid()}"
PERIOD = 0.05

_HELD = text(
    "SELECT count(*) FROM pg_stat_activity WHERE application_name = :application"
    " AND state = 'idle in transaction'"
    " AND clock_timestamp() - state_change > make_interval(secs => :longer_than)"
)
_SESSIONS = text("SELECT count(*) FROM pg_stat_activity WHERE application_name = :application")
_DEADLOCKS = text("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")


class HeldConnections:
    """The most connections that were seen idle in a transaction at once."""

    def __init__(self, longer_than: float) -> None:
        self.most = 0
        self._values = {"application": APPLICATION, "longer_than": longer_than}
        self._stop = asyncio.Event()

    async def sample(self, connection: AsyncConnection) -> None:
        """Look every 50 ms until stopped."""
        while not self._stop.is_set():
            self.most = max(self.most, await connection.scalar(_HELD, self._values) or 0)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), PERIOD)

    def stop(self) -> None:
        self._stop.set()


@contextlib.asynccontextmanager
async def held_connections(
    observer: AsyncEngine, longer_than: float
) -> AsyncGenerator[HeldConnections]:
    """Count while the block runs, on a connection that is not one of those counted.

    A connection counts that has been idle in its transaction for `longer_than` seconds.
    """
    held = HeldConnections(longer_than)
    async with observer.connect() as connection:
        sampling = asyncio.create_task(held.sample(connection))
        try:
            yield held
        finally:
            held.stop()
            await sampling


async def deadlocks(observer: AsyncEngine) -> int:
    """Deadlocks of this database so far; call it when the measured sessions are being closed.

    A session reports its statistics late, but always before it is gone from the list.
    """
    async with observer.connect() as connection, asyncio.timeout(30):
        while True:
            if not await connection.scalar(_SESSIONS, {"application": APPLICATION}):
                return await connection.scalar(_DEADLOCKS) or 0
            await asyncio.sleep(PERIOD)
