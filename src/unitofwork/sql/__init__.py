"""What differs between databases and drivers, one small module each."""

from __future__ import annotations

from sqlalchemy.engine import Dialect

from .postgresql import PostgreSQLRules
from .rules import DatabaseRules, Restore
from .sqlite import SQLiteRules

__all__ = ["DatabaseRules", "Restore", "rules_for"]


def rules_for(dialect: Dialect) -> DatabaseRules:
    """The rules of the database that `dialect` speaks to."""
    kinds: dict[str, type[DatabaseRules]] = {"postgresql": PostgreSQLRules, "sqlite": SQLiteRules}
    return kinds.get(dialect.name, DatabaseRules)(dialect)
