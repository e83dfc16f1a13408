"""What all units of one engine share: listeners, running units, the process and loop."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Any, ClassVar, Self
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import Dialect, ExceptionContext
from sqlalchemy.pool import ConnectionPoolEntry, NullPool, Pool

from ..errors import ConfigurationError
from ..settings import UnitSettings
from ..sql import DatabaseRules, rules_for
from ..sql.drivers import cancel_key
from .stopping import CANCEL_KEY, stop_query
from .unit import Unit

_RESTORE = "unitofwork_restore"


class Home:
    """One per engine, however many `UnitOfWork` objects use it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.rules: DatabaseRules = rules_for(engine.dialect)
        self.running: set[Unit] = set()
        self._by_connection: dict[Connection, Unit] = {}
        self._engines: dict[tuple[Any, ...], Engine] = {}
        #: Pool, process and event loop in which the pool's connections were made.
        self._born: tuple[Pool, int, asyncio.AbstractEventLoop | None] | None = None
        event.listen(engine, "handle_error", self._on_error)
        event.listen(engine, "connect", self._on_connect)
        event.listen(engine, "checkin", self._on_checkin)

    # Copies of an engine made by `execution_options` share its dialect.
    _homes: ClassVar[WeakKeyDictionary[Dialect, Home]] = WeakKeyDictionary()
    _making = threading.Lock()

    @classmethod
    def of(cls, engine: Engine) -> Self | Home:
        """The home of `engine`; copies made by `execution_options` share it with their origin."""
        with cls._making:
            home = cls._homes.get(engine.dialect)
            if home is None:
                home = cls._homes[engine.dialect] = cls(engine)
            return home

    def engine_for(self, settings: UnitSettings) -> Engine:
        """The engine, or a copy on the same pool whose BEGIN carries the unit's characteristics."""
        options = self.rules.begin_options(settings)
        if not options:
            return self.engine
        key = tuple(options.items())
        if key not in self._engines:
            self._engines[key] = self.engine.execution_options(**options)
        return self._engines[key]

    def adopt(self, unit: Unit, connection: Connection) -> None:
        """The unit's transaction has just got its connection: make the settings hold on it."""
        unit.connection = connection
        self._by_connection[connection] = unit
        restore = self.rules.begin(connection, unit.settings, unit.remaining())
        if restore:
            connection.info[_RESTORE] = restore

    def remember(self, unit: Unit) -> None:
        """The unit has begun."""
        self.running.add(unit)

    def forget(self, unit: Unit) -> None:
        """The unit has ended."""
        self.running.discard(unit)
        if unit.connection is not None:
            self._by_connection.pop(unit.connection, None)

    def check_process_and_loop(self) -> None:
        """Refuse connections that were opened by the parent process or for another event loop.

        Raises `ConfigurationError`. Two processes on one socket mix up each other's answers; a
        connection of another loop hangs or fails in the middle of a statement.
        """
        born = self._born
        if born is None or born[0] is not self.engine.pool:
            return
        if born[1] != os.getpid():
            raise ConfigurationError(
                f"The engine was used in process {born[1]} before it was forked; its pool holds "
                f"the parent's connections, and this process ({os.getpid()}) must not use them.",
                "call engine.dispose(close=False) first thing in the child (gunicorn: post_fork; "
                "Celery: worker_process_init), or create the engine after the fork.",
            )
        if born[2] is not None and born[2] is not asyncio.get_running_loop():
            raise ConfigurationError(
                "The engine's pool holds connections of another event loop; they can't be used "
                "in this one.",
                "await engine.dispose() before the first loop ends (each asyncio.run() makes a "
                "new loop), or create one engine per loop.",
            )

    # --- listeners

    def _on_connect(self, dbapi_connection: Any, record: ConnectionPoolEntry) -> None:
        key = cancel_key(self.engine.dialect, record.driver_connection)
        if key is not None:
            record.info[CANCEL_KEY] = key
        if not isinstance(self.engine.pool, NullPool):
            loop = asyncio._get_running_loop() if self.engine.dialect.is_async else None
            self._born = (self.engine.pool, os.getpid(), loop)

    def _on_checkin(self, dbapi_connection: Any, record: ConnectionPoolEntry) -> None:
        restore = record.info.pop(_RESTORE, None)
        if restore and dbapi_connection is not None:
            cursor = dbapi_connection.cursor()
            for statement in restore:
                cursor.execute(statement)
            cursor.close()

    def _on_error(self, context: ExceptionContext) -> None:
        connection = context.connection
        if connection is None:
            return
        error = context.original_exception
        unit = self._by_connection.get(connection)
        if unit is not None:
            unit.statement_failed(context.sqlalchemy_exception or error, context.statement)
        if context.is_disconnect and not isinstance(error, Exception):
            # Cancelled or interrupted in the middle: SQLAlchemy drops the connection next.
            stop_query(connection, getattr(context.execution_context, "cursor", None))
