"""Facts of a pooler: recognised by its behaviour, then asked at PgBouncer's admin console."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from ..policies.sizing import PoolerFacts
from ..policies.sizing.facts import PoolMode

#: Seconds for the console to be reached, and milliseconds for an answer.
CONNECT_TIMEOUT = 2
#: How often to look whether two clients are given the same server connection.
LOOKS = 3

_PID = text("SELECT pg_backend_pid()")


def stands_between(connection: Connection) -> bool:
    """Whether the process that answers is another one than the driver was told at connect.

    PgBouncer gives each client a process id and key of its own, which it translates.
    """
    told = _told_pid(connection)
    return told is not None and told != connection.execute(_PID).scalar()


def _told_pid(connection: Connection) -> int | None:
    driver: Any = connection.connection.driver_connection
    match connection.dialect.driver:
        case "asyncpg":
            pid: int | None = driver.get_server_pid()
        case "psycopg" | "psycopg_async" | "psycopg2":
            pid = driver.info.backend_pid
        case _:
            pid = None
    return pid


def mode_by_behaviour(connection: Connection) -> PoolMode | None:
    """Session or transaction mode: whether a second client gets what the first one had just now.

    In session mode it can't, for the first one is still connected. Opens one connection beside the
    pool. None where the driver's prepared statements got in the way.
    """
    pool = connection.engine.pool.recreate()
    beside = Connection(connection.engine, connection=pool.connect())
    try:
        seen: set[Any] = set()
        for _ in range(LOOKS):
            connection.rollback()
            first = connection.execute(_PID).scalar()
            connection.rollback()
            if beside.execute(_PID).scalar() == first:
                return "transaction"
            beside.rollback()
            seen.add(first)
        return "session" if len(seen) == 1 else "transaction"
    except DBAPIError:
        return None
    finally:
        beside.close()
        pool.dispose()


def console_facts(url: URL) -> PoolerFacts | None:
    """What PgBouncer's admin console tells this user; None where it isn't let in.

    Blocks, for `CONNECT_TIMEOUT` and the answers at most: call it in a thread of its own. The
    console speaks the simple protocol only, which psycopg uses for it and asyncpg does not.
    """
    try:
        psycopg: Any = importlib.import_module("psycopg")
    except ImportError:
        return None
    try:
        with psycopg.connect(
            host=url.host,
            port=url.port,
            user=url.username,
            password=url.password,
            dbname="pgbouncer",
            connect_timeout=CONNECT_TIMEOUT,
            autocommit=True,
        ) as console:
            config = {row["key"]: row["value"] for row in _show(console, "CONFIG")}
            databases = {row["name"]: row for row in _show(console, "DATABASES")}
            clients = list(_show(console, "CLIENTS"))
            version = str(console.execute("SHOW VERSION").fetchone()[0])
    except psycopg.Error:
        return None
    return _facts(url, config, databases.get(url.database or "", {}), clients, version)


def _show(console: Any, what: str) -> list[dict[str, Any]]:
    cursor = console.execute(f"SHOW {what}")
    names = [column.name for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _facts(
    url: URL,
    config: Mapping[str, str],
    database: Mapping[str, Any],
    clients: list[dict[str, Any]],
    version: str,
) -> PoolerFacts:
    # A database may have its own mode and size.
    mode: Any = database.get("pool_mode") or config.get("pool_mode")
    size = _integer(database.get("pool_size")) or _integer(config.get("default_pool_size"))
    most = _integer(database.get("max_connections")) or _integer(config.get("max_db_connections"))
    wait = _integer(config.get("query_wait_timeout"))
    # The console's own connections are no users of the pools.
    strangers = [c for c in clients if c["user"] != url.username and c["database"] != "pgbouncer"]
    numbers = re.findall(r"\d+", version)
    return PoolerFacts(
        version=tuple(map(int, numbers[:3])),
        mode=mode if mode in ("session", "transaction", "statement") else None,
        default_pool_size=size,
        max_client_conn=_integer(config.get("max_client_conn")),
        clients_of_others=len(strangers),
        max_db_connections=most,
        # A version that does not know the setting carries no prepared statements over.
        max_prepared_statements=_integer(config.get("max_prepared_statements", "0")),
        query_wait_timeout=None if wait is None else float(wait),
    )


def _integer(value: Any) -> int | None:
    return int(value) if value is not None and str(value).isdecimal() else None
