"""Facts of a SQLite database: journal mode and busy timeout."""

from __future__ import annotations

from sqlalchemy import Connection

from ..policies.sizing import ServerFacts, SQLiteFacts
from .facts_engine import version_of


def sqlite_facts(connection: Connection) -> ServerFacts:
    """Read them from the file's connection."""
    file = connection.exec_driver_sql("PRAGMA database_list").all()[0][2]
    journal = str(connection.exec_driver_sql("PRAGMA journal_mode").scalar_one())
    busy = connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one()
    return ServerFacts(
        product="SQLite",
        version=version_of(connection.dialect),
        sqlite=SQLiteFacts(
            in_memory=not file, journal_mode=journal.lower(), busy_timeout=busy / 1000
        ),
    )
