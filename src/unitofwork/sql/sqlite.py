"""SQLite: BEGIN IMMEDIATE for units that may write, pragmas that are put back afterwards."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, ClassVar

from sqlalchemy import Connection

from ..errors import ConfigurationError
from ..settings import UnitSettings
from .rules import DatabaseRules, Restore


class SQLiteRules(DatabaseRules):
    one_writer = True
    unsupported: ClassVar[Mapping[str, str]] = {
        "deferrable": "SQLite has no deferrable transactions",
        "confirm_commit": "its COMMIT is a call in this process, whose answer can't be lost",
        "statement_timeout": "SQLite has no limit for one statement; timeout= bounds the unit",
    }

    def check(self, settings: UnitSettings) -> None:
        super().check(settings)
        if settings.isolation not in (None, "SERIALIZABLE"):
            raise ConfigurationError(
                f"isolation={settings.isolation!r} can't be kept on SQLite.",
                "its transactions are always SERIALIZABLE: leave isolation out.",
            )

    def begin_options(self, settings: UnitSettings) -> dict[str, str]:
        return {}  # SERIALIZABLE is what it always gives

    def begin(
        self, connection: Connection, settings: UnitSettings, remaining: float | None
    ) -> Restore | None:
        restore = []
        if settings.lock_timeout is not None:
            before = connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one()
            wait = max(1, round(settings.lock_timeout * 1000))
            connection.exec_driver_sql(f"PRAGMA busy_timeout = {wait}")
            restore.append(f"PRAGMA busy_timeout = {before}")
        if settings.read_only:
            connection.exec_driver_sql("PRAGMA query_only = ON")
            restore.append("PRAGMA query_only = OFF")
        if not _in_transaction(connection):
            # A deferred transaction that reads and then writes fails at once with SQLITE_BUSY
            # when another one wrote meanwhile; IMMEDIATE takes the write lock at the start and
            # waits for it (LOCKS.md class 27).
            begin = "BEGIN" if settings.read_only else "BEGIN IMMEDIATE"
            connection.exec_driver_sql(begin)
        return functools.partial(_execute, restore) if restore else None

    def would_roll_back(self, connection: Connection) -> bool:
        # Some errors (disk full, I/O, out of memory) end the transaction by themselves:
        # https://www.sqlite.org/lang_transaction.html#response_to_errors_within_a_transaction
        return not _in_transaction(connection)


def _execute(statements: list[str], dbapi_connection: Any) -> None:
    cursor = dbapi_connection.cursor()
    for statement in statements:
        cursor.execute(statement)
    cursor.close()


def _in_transaction(connection: Connection) -> bool:
    driver = connection.connection.driver_connection
    return bool(getattr(driver, "in_transaction", False))
