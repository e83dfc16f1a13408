"""Facts of a PostgreSQL server: two round trips, nothing that needs a superuser."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from ..policies.sizing import ServerFacts
from .facts_engine import isolation_asked, version_of

#: Milliseconds that the server spends on the answer at most.
PATIENCE = 2000

_TIMES = {
    "lock_timeout": "lock_timeout",
    "statement_timeout": "statement_timeout",
    "idle_in_transaction_timeout": "idle_in_transaction_session_timeout",
    "transaction_timeout": "transaction_timeout",
    "idle_timeout": "idle_session_timeout",
    "deadlock_timeout": "deadlock_timeout",
    "client_check_interval": "client_connection_check_interval",
    "keepalives_idle": "tcp_keepalives_idle",
    "keepalives_interval": "tcp_keepalives_interval",
}
_COUNTS = (
    "max_connections",
    "superuser_reserved_connections",
    "reserved_connections",
    "tcp_keepalives_count",
)
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
#: Set per session by drivers for themselves, or carried over by poolers.
_HARMLESS = frozenset(
    (
        *("application_name", "client_encoding", "DateStyle", "TimeZone", "jit"),
        *("standard_conforming_strings", "extra_float_digits"),
        *("transaction_isolation", "transaction_read_only", "transaction_deferrable"),
    )
)

# The old value, and from the next statement on a limit of our own; the row is read before.
_LIMIT = text(
    "SELECT setting, unit, source, set_config('statement_timeout', :patience, true) "
    "FROM pg_catalog.pg_settings WHERE name = 'statement_timeout'"
)
_NAMES = ", ".join(f"'{name}'" for name in (*_TIMES.values(), *_COUNTS))
# What the name of a connection says beyond a process id. A name that says nothing of the
# application (none at all, or our own command's) leaves the role to stand for it.
_STEM = "regexp_replace({name}, '[:][0-9]+$', '')"
_MINE = _STEM.format(name="current_setting('application_name')")
_THEIRS = _STEM.format(name="coalesce(application_name, '')")
_PARTS = {
    "settings": (
        "SELECT json_object_agg(name, json_build_array(setting, unit, source)) "
        f"FROM pg_catalog.pg_settings WHERE name IN ({_NAMES}) OR source IN ('session', 'client')"
    ),
    "session": (
        "SELECT json_build_object("
        "'recovery', pg_catalog.pg_is_in_recovery(), "
        "'superuser', current_setting('is_superuser') = 'on', "
        "'read_only', current_setting('transaction_read_only') = 'on', "
        "'isolation', current_setting('transaction_isolation'), "
        "'may_use_reserved', (SELECT pg_has_role(session_user, oid, 'USAGE') "
        "FROM pg_catalog.pg_roles WHERE rolname = 'pg_use_reserved_connections'))"
    ),
    "role_limit": (
        "SELECT to_json(rolconnlimit) FROM pg_catalog.pg_roles WHERE rolname = session_user"
    ),
    "database_limit": (
        "SELECT to_json(datconnlimit) FROM pg_catalog.pg_database "
        "WHERE datname = current_database()"
    ),
    # Of other roles a role sees no backend_type; what has a user and a database is a client.
    "others": (
        "SELECT json_build_array(count(*) FILTER (WHERE own), count(*) FILTER (WHERE NOT own), "
        "count(*) FILTER (WHERE NOT own AND usename = session_user), "
        "count(*) FILTER (WHERE NOT own AND datname = current_database())) "
        "FROM (SELECT usename, datname, usename = session_user "
        f"AND {_MINE} IN ('', 'unitofwork', {_THEIRS}) AS own "
        "FROM pg_catalog.pg_stat_activity WHERE usesysid IS NOT NULL AND datid IS NOT NULL "
        "AND coalesce(backend_type, 'client backend') = 'client backend') AS clients"
    ),
}
_SINCE_14 = {
    "transaction_time": (
        "SELECT to_json((active_time + idle_in_transaction_time) / 1000 "
        "/ (xact_commit + xact_rollback)) FROM pg_catalog.pg_stat_database "
        "WHERE datname = current_database() AND xact_commit + xact_rollback >= 100"
    ),
}


def postgresql_facts(connection: Connection) -> ServerFacts:
    """Read them; leaves the transaction to be rolled back."""
    version = version_of(connection.dialect)
    statement_timeout = _limit(connection)
    parts = {**_PARTS, **(_SINCE_14 if version >= (14,) else {})}
    found, unreadable = _read(connection, parts)
    settings: dict[str, list[Any]] = found.get("settings") or {}
    if statement_timeout is not None:
        settings["statement_timeout"] = statement_timeout
    session: dict[str, Any] = found.get("session") or {}
    own, others, of_role, of_database = found.get("others") or (None,) * 4
    times: dict[str, Any] = {fact: _seconds(settings.get(name)) for fact, name in _TIMES.items()}
    isolation, superuser = session.get("isolation"), session.get("superuser")
    return ServerFacts(
        product="PostgreSQL",
        version=version,
        max_connections=_count(settings, "max_connections"),
        reserved=_reserved(settings, superuser, session.get("may_use_reserved")),
        own=own,
        others=others,
        # Superusers are not bound by these two.
        role_limit=-1 if superuser else found.get("role_limit"),
        role_others=of_role,
        database_limit=-1 if superuser else found.get("database_limit"),
        database_others=of_database,
        keepalives_count=_count(settings, "tcp_keepalives_count"),
        isolation=None if isolation is None else isolation.upper(),
        read_only=session.get("read_only"),
        in_recovery=session.get("recovery"),
        session_settings=_per_session(settings),
        transaction_time=found.get("transaction_time"),
        unreadable=unreadable,
        **times,
    )


def _limit(connection: Connection) -> list[Any] | None:
    """Have the server end what takes too long; what its limit was, None if it may not be read."""
    try:
        with _apart(connection):
            return list(connection.execute(_LIMIT, {"patience": str(PATIENCE)}).one()[:3])
    except DBAPIError:
        if connection.invalidated:
            raise
        return None


def _read(connection: Connection, parts: dict[str, str]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """All parts in one statement; where one of them is forbidden, each in one of its own."""
    try:
        with _apart(connection):
            row = connection.execute(_select(parts)).mappings().one()
            return {name: _parsed(row[name]) for name in parts}, ()
    except DBAPIError:
        if connection.invalidated:
            raise
    found, unreadable = {}, []
    for name in parts:
        try:
            with _apart(connection):
                found[name] = _parsed(connection.execute(_select({name: parts[name]})).scalar())
        except DBAPIError:
            if connection.invalidated:
                raise
            unreadable.append(name)
    return found, tuple(unreadable)


def _select(parts: dict[str, str]) -> Any:
    columns = ", ".join(f"CAST(({query}) AS text) AS {name}" for name, query in parts.items())
    return text(f"SELECT {columns}")


def _apart(connection: Connection) -> contextlib.AbstractContextManager[Any]:
    if isolation_asked(connection.engine) == "AUTOCOMMIT":
        return contextlib.nullcontext()
    return connection.begin_nested()


def _parsed(answer: str | None) -> Any:
    return None if answer is None else json.loads(answer)


def _seconds(setting: list[Any] | None) -> float | None:
    if setting is None:
        return None
    return float(setting[0]) * _UNITS[setting[1]]


def _count(settings: dict[str, list[Any]], name: str) -> int | None:
    return int(settings[name][0]) if name in settings else None


def _reserved(
    settings: dict[str, list[Any]], superuser: bool | None, may_use: bool | None
) -> int | None:
    """Connections that are kept for others than this role."""
    for_superusers = _count(settings, "superuser_reserved_connections")
    if for_superusers is None or superuser is None:
        return None
    if superuser:
        return 0
    for_privileged = _count(settings, "reserved_connections") or 0  # PostgreSQL 16 and later
    return for_superusers if may_use else for_superusers + for_privileged


def _per_session(settings: dict[str, list[Any]]) -> frozenset[str]:
    return frozenset(
        name
        for name, (_, _, source) in settings.items()
        if source in ("session", "client") and name not in _HARMLESS
    )
