"""What the core asks of a database; a database of which nothing is known gets these answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from sqlalchemy import Connection
from sqlalchemy.engine import Dialect

from ..errors import ConfigurationError
from ..settings import UnitSettings
from .drivers import found_closed

Restore = Callable[[Any], None]


class DatabaseRules:
    """How units are begun and judged on one kind of database."""

    #: Options of a unit that can't be made to hold here, each with the reason.
    unsupported: ClassVar[Mapping[str, str]] = {
        "read_only": "this database has no support for it in unitofwork",
        "deferrable": "this database has no support for it in unitofwork",
        "lock_timeout": "this database has no support for it in unitofwork",
        "statement_timeout": "this database has no support for it in unitofwork",
        "confirm_commit": "this database can't say afterwards what became of a transaction",
    }

    #: Whether single rows can be locked, with a query of `row_locks`.
    locks_rows: ClassVar[bool] = False
    #: Whether a unit that may write has the database to itself, so that there is nothing to lock.
    one_writer: ClassVar[bool] = False

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect

    def check(self, settings: UnitSettings) -> None:
        """Raise `ConfigurationError` for an option that would silently not hold."""
        for option, reason in self.unsupported.items():
            value = getattr(settings, option)
            if value:
                raise ConfigurationError(
                    f"{option}={value!r} can't be kept on {self.dialect.name}: {reason}.",
                    f"leave {option} out for units of this engine.",
                )

    def begin_options(self, settings: UnitSettings) -> dict[str, Any]:
        """Execution options by which SQLAlchemy gives BEGIN its characteristics, at no cost."""
        return {} if settings.isolation is None else {"isolation_level": settings.isolation}

    def begin(
        self, connection: Connection, settings: UnitSettings, remaining: float | None
    ) -> Restore | None:
        """Make the settings hold on the new transaction, of which `remaining` s are left.

        Returns what undoes them on the DBAPI connection when it goes back to its pool.
        """
        return None

    def isolation(self, connection: Connection, settings: UnitSettings) -> str:
        """The isolation level that a transaction on this connection has; asks nobody."""
        found: str | None = (
            settings.isolation
            or connection.get_execution_options().get("isolation_level")
            # Of create_engine(isolation_level=...), which has no public name.
            or getattr(self.dialect, "_on_connect_isolation_level", None)
            or connection.default_isolation_level
        )
        return found or ""

    def hold_names(
        self,
        connection: Connection,
        keys: list[int],
        settings: UnitSettings,
        remaining: float | None,
    ) -> None:
        """Take named locks for the session, before the transaction has its snapshot. Waits.

        As long as the settings allow a transaction of which `remaining` s are left.
        """

    def drop_names(self, dbapi_connection: Any) -> None:
        """Give them back."""

    def limit_statements(
        self, connection: Connection, settings: UnitSettings, remaining: float | None
    ) -> None:
        """Set how long a statement may take from now on, in a transaction that has begun."""

    def would_roll_back(self, connection: Connection) -> bool:
        """Whether the server could only answer COMMIT by rolling back. Asks it."""
        return False

    def transaction_id(self, connection: Connection) -> str | None:
        """By what `fate_of_transaction` knows the transaction; None if it has written nothing."""
        return None

    def fate_of_transaction(self, connection: Connection, transaction_id: str) -> str | None:
        """What became of it: "committed", "aborted", "in progress"; None if that is forgotten."""
        return None

    def has_written(self, connection: Connection) -> bool:
        """Whether the server knows of writes or row locks of the transaction. May ask it."""
        return False

    def is_closed(self, connection: Connection) -> bool:
        """Whether the connection is known to be dead already, so that COMMIT can't reach it."""
        if connection.closed or connection.invalidated:
            return True
        return found_closed(self.dialect, connection.connection.driver_connection)
