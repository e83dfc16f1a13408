"""PostgreSQL: settings that end with the transaction, and COMMIT answered by ROLLBACK."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from sqlalchemy import Connection, exc, select, text

from ..settings import UnitSettings
from .rules import DatabaseRules, Restore
from .sqlstates import IN_FAILED_TRANSACTION
from .symptoms import sqlstate_in
from .transaction_ids import ASSIGNED, fate, known_as

_PROBE = text("SELECT 1")
_TRANSACTION_ID = select(known_as(ASSIGNED))
_READ_WRITE = text("SET TRANSACTION READ WRITE")


class PostgreSQLRules(DatabaseRules):
    unsupported: ClassVar[Mapping[str, str]] = {}
    locks_rows = True

    def begin_options(self, settings: UnitSettings) -> dict[str, Any]:
        options = super().begin_options(settings)
        if settings.read_only:
            options["postgresql_readonly"] = True
        if settings.deferrable:
            options["postgresql_deferrable"] = True
        return options

    def begin(
        self, connection: Connection, settings: UnitSettings, remaining: float | None
    ) -> Restore | None:
        version: tuple[int, ...] = getattr(connection.dialect, "server_version_info", ())
        if settings.read_only is False:  # SQLAlchemy and asyncpg can only ask for READ ONLY
            connection.execute(_READ_WRITE)
        values = transaction_settings(settings, remaining, version)
        if values:
            # set_config(..., true) is SET LOCAL: gone with the transaction, whatever happens.
            calls = ", ".join(f"set_config('{name}', :{name}, true)" for name in values)
            connection.execute(text(f"SELECT {calls}"), values)
        uses_attributes = settings.read_only and self.dialect.driver == "psycopg"
        return _server_default if uses_attributes else None

    def hold_names(
        self,
        connection: Connection,
        keys: list[int],
        settings: UnitSettings,
        remaining: float | None,
    ) -> None:
        # Not in the transaction: its first statement takes the snapshot before it waits. The
        # driver sends BEGIN with the first statement that is not in autocommit.
        dbapi_connection: Any = connection.connection.dbapi_connection
        dialect: Any = self.dialect
        isolation = self.isolation(connection, settings)
        dialect.set_isolation_level(dbapi_connection, "AUTOCOMMIT")
        try:
            with _limited(connection, transaction_settings(settings, remaining, ())):
                for key in keys:
                    connection.exec_driver_sql(f"SELECT pg_advisory_lock({key:d})")
        finally:
            if not (connection.closed or connection.invalidated):
                dialect.set_isolation_level(dbapi_connection, isolation)

    def drop_names(self, dbapi_connection: Any) -> None:
        cursor = dbapi_connection.cursor()
        cursor.execute("SELECT pg_advisory_unlock_all()")
        cursor.close()
        dbapi_connection.rollback()

    def limit_statements(
        self, connection: Connection, settings: UnitSettings, remaining: float | None
    ) -> None:
        limit = transaction_settings(settings, remaining, ()).get("statement_timeout", "DEFAULT")
        connection.exec_driver_sql(f"SET LOCAL statement_timeout TO {limit}")

    def would_roll_back(self, connection: Connection) -> bool:
        # The tag of COMMIT is not to be had through SQLAlchemy, and asyncpg shows no transaction
        # state; but in an aborted transaction every statement is refused with 25P02.
        try:
            connection.execute(_PROBE)
        except exc.DBAPIError as error:
            if sqlstate_in(error) == IN_FAILED_TRANSACTION:
                return True
            raise
        return False

    def has_written(self, connection: Connection) -> bool:
        # Writes and row locks take a transaction id, reads don't: PostgreSQL 13 and later,
        # https://www.postgresql.org/docs/current/functions-info.html
        return self.transaction_id(connection) is not None

    def transaction_id(self, connection: Connection) -> str | None:
        found: str | None = connection.scalar(_TRANSACTION_ID)
        return found

    def fate_of_transaction(self, connection: Connection, transaction_id: str) -> str | None:
        return fate(connection, transaction_id)


@contextlib.contextmanager
def _limited(connection: Connection, values: Mapping[str, str]) -> Iterator[None]:
    """Have settings hold for the session, outside of any transaction."""
    if not values:
        yield
        return
    asked = ", ".join(f"current_setting('{name}')" for name in values)
    before = connection.exec_driver_sql(f"SELECT {asked}").one()
    _set(connection, values)
    try:
        yield
    finally:
        if not (connection.closed or connection.invalidated):
            _set(connection, dict(zip(values, before, strict=True)))


def _set(connection: Connection, values: Mapping[str, str]) -> None:
    calls = ", ".join(f"set_config('{name}', :{name}, false)" for name in values)
    connection.execute(text(f"SELECT {calls}"), values)


def _server_default(psycopg_connection: Any) -> None:
    # SQLAlchemy puts these back to False, which psycopg sends as READ WRITE from then on, also
    # where the role or the database is read-only by default.
    psycopg_connection.set_read_only(None)
    psycopg_connection.set_deferrable(None)


def transaction_settings(
    settings: UnitSettings, remaining: float | None, version: tuple[int, ...]
) -> dict[str, str]:
    """Server settings for one transaction, in milliseconds as the server reads them."""
    values = {}
    if settings.lock_timeout is not None:
        values["lock_timeout"] = _milliseconds(settings.lock_timeout)
    limits = [seconds for seconds in (settings.statement_timeout, remaining) if seconds is not None]
    if limits:
        values["statement_timeout"] = _milliseconds(min(limits))
    if remaining is not None and version >= (17,):
        # It ends the session, where the unit's own timeout and statement_timeout only end the
        # work: so it comes last, for a client that hangs or has lost its network.
        # https://www.postgresql.org/docs/17/runtime-config-client.html
        values["transaction_timeout"] = _milliseconds(remaining + 1)
    return values


def _milliseconds(seconds: float) -> str:
    return str(max(1, round(seconds * 1000)))
