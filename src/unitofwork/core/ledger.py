"""The ledger: every connection that is out, by pool events, units' and others' alike."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from ..types import Holder
from .holders import HOLD, Hold
from .reports import came_back
from .trace import Trace, trace_wanted


class Ledger:
    """Keeps a `Hold` for each connection from its checkout to its checkin."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        #: By the pool's record of the connection.
        self.holds: dict[ConnectionPoolEntry, Hold] = {}
        self._trace = Trace(engine) if trace_wanted() else None
        event.listen(engine, "checkout", self._checked_out)
        event.listen(engine, "checkin", self._checked_in)
        event.listen(engine, "detach", self._gone)
        event.listen(engine, "handle_error", self._statement_failed)

    def hold_of(self, connection: Connection) -> Hold | None:
        """That of a connection in use."""
        hold: Hold | None = connection.info.get(HOLD)
        return hold

    def count(self) -> int:
        """How many connections of the engine's present pool are out."""
        pool = self._engine.pool
        if isinstance(pool, QueuePool):
            return pool.checkedout()
        return sum(hold.pool is pool for hold in self.holds.values())

    def holders(self) -> list[Holder]:
        """Who holds a connection now, the longest first."""
        now = time.monotonic()
        holds = sorted(self.holds.copy().values(), key=lambda hold: hold.since)
        return [hold.seen(now) for hold in holds]

    # --- listeners; they run in the thread or greenlet that holds the connection

    def _checked_out(self, dbapi: Any, record: ConnectionPoolEntry, proxy: Any) -> None:
        hold = Hold.by_caller(self._engine.pool)
        record.info[HOLD] = self.holds[record] = hold
        if self._trace is not None:
            self._trace.checked_out(hold, len(self.holds))

    def _checked_in(self, dbapi: Any, record: ConnectionPoolEntry) -> None:
        hold = self._gone(dbapi, record)
        if hold is not None and hold.pool is not self._engine.pool and dbapi is not None:
            # engine.dispose() has made a new pool meanwhile; nobody would close this one.
            record.close()

    def _gone(self, dbapi: Any, record: ConnectionPoolEntry) -> Hold | None:
        hold = self.holds.pop(record, None)
        if hold is not None and hold.reported:
            came_back(hold)
        if hold is not None and self._trace is not None:
            self._trace.checked_in(hold, len(self.holds), time.monotonic() - hold.since)
        record.info.pop(HOLD, None)
        return hold

    def _statement_failed(self, context: ExceptionContext) -> None:
        connection = context.connection
        if connection is not None and not connection.closed and not connection.invalidated:
            hold = self.hold_of(connection)
            if hold is not None:
                hold.statement_ends()
