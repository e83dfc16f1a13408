"""PostgreSQL: settings that end with the transaction, and COMMIT answered by ROLLBACK."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from sqlalchemy import Connection, exc, text

from ..settings import UnitSettings
from .rules import DatabaseRules

_IN_FAILED_TRANSACTION = "25P02"
_PROBE = text("SELECT 1")


class PostgreSQLRules(DatabaseRules):
    unsupported: ClassVar[Mapping[str, str]] = {}

    def begin_options(self, settings: UnitSettings) -> dict[str, Any]:
        options = super().begin_options(settings)
        if settings.read_only is not None:
            options["postgresql_readonly"] = settings.read_only
        if settings.deferrable is not None:
            options["postgresql_deferrable"] = settings.deferrable
        return options

    def begin(
        self, connection: Connection, settings: UnitSettings, remaining: float | None
    ) -> tuple[str, ...]:
        version: tuple[int, ...] = getattr(connection.dialect, "server_version_info", ())
        values = transaction_settings(settings, remaining, version)
        if values:
            # set_config(..., true) is SET LOCAL: gone with the transaction, whatever happens.
            calls = ", ".join(f"set_config('{name}', :{name}, true)" for name in values)
            connection.execute(text(f"SELECT {calls}"), values)
        return ()

    def would_roll_back(self, connection: Connection) -> bool:
        # The tag of COMMIT is not to be had through SQLAlchemy, and asyncpg shows no transaction
        # state; but in an aborted transaction every statement is refused with 25P02.
        try:
            connection.execute(_PROBE)
        except exc.DBAPIError as error:
            if self.sqlstate(error) == _IN_FAILED_TRANSACTION:
                return True
            raise
        return False


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
