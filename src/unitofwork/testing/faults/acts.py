"""What each fault does to a real connection, on PostgreSQL and on SQLite."""

from __future__ import annotations

import contextlib
import inspect
import sqlite3
from typing import Any, Protocol

from sqlalchemy import Connection, Engine, exc
from sqlalchemy.util import await_only

from unitofwork import ConfigurationError

from .points import Fault

_KILL = "SELECT pg_terminate_backend(pg_backend_pid())"
_RAISE = "RAISE EXCEPTION 'injected fault: {name}' USING ERRCODE = '{state}'"
_ABORT = f"DO $fault$ BEGIN {_RAISE}; END $fault$"
# A deferred trigger fires at COMMIT; the refused COMMIT then undoes all of this, too.
_ABORT_AT_COMMIT = f"""
CREATE TEMPORARY TABLE unitofwork_fault (id int) ON COMMIT DROP;
CREATE FUNCTION pg_temp.unitofwork_fault() RETURNS trigger LANGUAGE plpgsql
    AS $fault$ BEGIN {_RAISE}; END $fault$;
CREATE CONSTRAINT TRIGGER fault AFTER INSERT ON pg_temp.unitofwork_fault
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION pg_temp.unitofwork_fault();
INSERT INTO pg_temp.unitofwork_fault VALUES (1)
"""
_STATES = {"deadlock": "40P01", "serialization": "40001"}


class Acts(Protocol):
    """How the faults are done on one kind of database.

    Attributes:
        faults: those that can be.
    """

    faults: tuple[Fault, ...]

    def at_statement(
        self, fault: Fault, connection: Connection, cursor: Any, statement: str
    ) -> bool:
        """Right before a statement is sent: raise in its place, or let it find what is left.

        False where this statement can't meet the fault.
        """

    def at_commit(self, fault: Fault, connection: Connection) -> bool:
        """Right before COMMIT is sent; False where this transaction can't meet the fault."""


class PostgreSQLActs:
    """The server itself aborts, commits and ends the connection."""

    faults: tuple[Fault, ...] = (
        *("deadlock", "serialization", "connection_lost"),
        *("commit_lost_before", "commit_lost_after"),
    )

    def at_statement(
        self, fault: Fault, connection: Connection, cursor: Any, statement: str
    ) -> bool:
        if fault == "connection_lost":
            _cut(connection)
        elif _takes_no_lock(statement):
            return False
        else:
            cursor.execute(_ABORT.format(name=fault, state=_STATES[fault]))
        return True

    def at_commit(self, fault: Fault, connection: Connection) -> bool:
        if fault in _STATES:
            if connection.exec_driver_sql("SHOW transaction_read_only").scalar_one() == "on":
                return False
            _send(connection, _ABORT_AT_COMMIT.format(name=fault, state=_STATES[fault]))
            return True
        if fault == "commit_lost_after":
            # If the server refuses this COMMIT, it has still ended the transaction, by rolling
            # back, and the refusal is what gets lost.
            with contextlib.suppress(Exception):
                _send(connection, "COMMIT")
        _cut(connection)
        return True


class SQLiteActs:
    """The connection is really closed; SQLITE_BUSY is raised in the driver's name.

    For a real one another connection would have to hold the lock that the transaction has.
    """

    faults: tuple[Fault, ...] = ("busy", "connection_lost")

    def at_statement(
        self, fault: Fault, connection: Connection, cursor: Any, statement: str
    ) -> bool:
        if fault == "connection_lost":
            driver: Any = connection.connection.driver_connection
            _result(driver.close())
        elif _takes_no_lock(statement):
            return False
        else:
            raise _busy()
        return True

    def at_commit(self, fault: Fault, connection: Connection) -> bool:
        raise exc.OperationalError("COMMIT", None, _busy())


def acts_for(engine: Engine) -> Acts:
    """How faults are done on the database of this engine. Raises `ConfigurationError`."""
    if engine.dialect.name == "postgresql":
        return PostgreSQLActs()
    if engine.dialect.name == "sqlite":
        acts = SQLiteActs()
        if engine.url.database in (None, "", ":memory:"):
            acts.faults = ("busy",)  # the database itself would go with its connection
        return acts
    raise ConfigurationError(
        f"There are no faults to inject on {engine.dialect.name}.", "use PostgreSQL or SQLite."
    )


def _takes_no_lock(statement: str) -> bool:
    return statement.lstrip().upper().startswith("ROLLBACK")


def _cut(connection: Connection) -> None:
    with contextlib.suppress(Exception):
        _send(connection, _KILL)


def _send(connection: Connection, statement: str) -> None:
    # The driver's own connection: what SQLAlchemy's adapter sees of an error or of a COMMIT here
    # would change what it does afterwards.
    driver: Any = connection.connection.driver_connection
    _result(driver.execute(statement))


def _result(value: Any) -> None:
    if inspect.isawaitable(value):
        await_only(value)


def _busy() -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("database is locked (injected fault)")
    error.sqlite_errorcode = sqlite3.SQLITE_BUSY
    error.sqlite_errorname = "SQLITE_BUSY"
    return error
