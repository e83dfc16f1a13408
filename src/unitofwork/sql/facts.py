"""Facts of a server, whichever it is, and of a pooler before it."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection
from sqlalchemy.engine import URL

from ..policies.sizing import PoolerFacts, ServerFacts
from .facts_mysql import mysql_facts
from .facts_pooler import console_facts, mode_by_behaviour, stands_between
from .facts_postgresql import postgresql_facts
from .facts_sqlite import sqlite_facts
from .symptoms import sqlstate_in

_READERS: dict[str, Callable[[Connection], ServerFacts]] = {
    "postgresql": postgresql_facts,
    "mysql": mysql_facts,
    "mariadb": mysql_facts,
    "sqlite": sqlite_facts,
}
#: Calls a function that blocks, without stopping an event loop.
InThread = Callable[[Callable[[], PoolerFacts | None]], PoolerFacts | None]
#: A prepared statement that is there already, or is missing.
_MIXED_UP = ("42P05", "26000")
#: Class 28, and a database that does not exist or may not be used.
_DENIED = ("3D000", "42501")
#: PgBouncer has one SQLSTATE for everything, and messages in English only.
_DENIED_BY_PGBOUNCER = ("authentication failed", "no such database", "no such user")


def server_facts(connection: Connection) -> ServerFacts | None:
    """What this role may read; None for a database of which nothing is known."""
    reader = _READERS.get(connection.dialect.name)
    return None if reader is None else reader(connection)


def pooler_facts(connection: Connection, in_thread: InThread) -> PoolerFacts | None:
    """The pooler that the connection goes through; None where there is none."""
    if connection.dialect.name != "postgresql" or not stands_between(connection):
        return None
    found = pooler_behind(connection.engine.url, in_thread)
    if found is not None:
        return found
    mode = mode_by_behaviour(connection)
    return PoolerFacts(name="a pooler", mode=mode, known_from="behaviour")


def pooler_behind(url: URL, in_thread: InThread) -> PoolerFacts | None:
    """The PgBouncer whose admin console answers at `url`; None where none does."""
    if url.get_backend_name() != "postgresql":
        return None
    return in_thread(lambda: console_facts(url))


def is_mixed_up(error: BaseException) -> bool:
    """Whether the error is that of prepared statements on a connection of somebody else's."""
    return sqlstate_in(error) in _MIXED_UP


def is_denied(error: BaseException) -> bool:
    """Whether the server answered, and will refuse again."""
    state = sqlstate_in(error) or ""
    if state == "08P01":
        return any(words in str(error) for words in _DENIED_BY_PGBOUNCER)
    return state.startswith("28") or state in _DENIED
